//! The command line as an operator meets it: help, `init`, refusals, and the exit code of each failure.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials};
use support::{Home, assert_fails, run_with_input, stderr, stdout};

const INIT: [&str; 5] = ["init", "-y", "--ip", "127.0.0.1", "--no-password"];
/// Far behind the time of any test run, far before certificates end.
const NOW_SECS: i64 = 1_900_000_000;

#[test]
fn help_is_as_recorded_and_fits_80_columns() {
    let home = Home::new();
    let mut text = String::new();
    for arguments in [
        &["--help"][..],
        &["init", "--help"],
        &["cert", "--help"],
        &["start", "--help"],
        &["import", "--help"],
        &["export", "--help"],
        &["check", "--help"],
        &["status", "--help"],
        &["delete", "--help"],
        &["journal", "--help"],
        &["database", "--help"],
    ] {
        let output = home.run(arguments.iter().copied());
        assert!(output.status.success());
        writeln!(text, "$ smp-server {}\n{}", arguments.join(" "), stdout(&output)).unwrap();
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/smp-server-help.txt");
    if std::env::var_os("RINGPOST_RECORD").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(golden).unwrap(), "record anew with RINGPOST_RECORD=1");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_version_is_printed() {
    let home = Home::new();
    for option in ["-v", "--version"] {
        let output = home.run([option]);
        assert_eq!(stdout(&output), format!("smp-server {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn init_makes_an_identity_that_holds_together() {
    let home = Home::new();
    let output = home.run(INIT);
    assert!(output.status.success(), "{}", stderr(&output));

    for secret in ["ca.key", "server.key"] {
        assert_eq!(home.mode(secret), 0o600, "{secret}");
    }
    for public in ["ca.crt", "server.crt", "fingerprint"] {
        assert_eq!(home.mode(public), 0o644, "{public}");
    }
    assert_eq!(home.mode("smp-server.ini"), 0o640);
    assert_eq!(home.files().len(), 6);
    assert!(home.data().is_dir());

    let [ca, server, key] = ["ca.crt", "server.crt", "server.key"].map(|file| home.read(file));
    let credentials = RouterCredentials::from_pem(&ca, &server, &key, NOW_SECS).unwrap();
    let fingerprint = credentials.fingerprint_text();
    assert_eq!(home.read("fingerprint"), format!("{fingerprint}\n"));
    CertificateAuthority::from_pem(&ca, &home.read("ca.key")).unwrap();

    let text = stdout(&output);
    for line in [
        format!("Fingerprint: {fingerprint}"),
        format!("Server address: smp://{fingerprint}@127.0.0.1"),
        home.config("ca.key").display().to_string(),
    ] {
        assert!(text.lines().any(|l| l == line), "expected {line:?} in:\n{text}");
    }
}

#[test]
fn two_routers_have_nothing_in_common() {
    let (one, other) = (Home::new(), Home::new());
    one.run(INIT);
    other.run(INIT);
    for file in ["ca.key", "server.key", "fingerprint", "ca.crt", "server.crt"] {
        assert_ne!(one.read(file), other.read(file), "{file}");
    }
}

#[test]
fn a_second_init_changes_nothing() {
    let home = Home::new();
    home.run(INIT);
    let before = home.files();
    let ini = home.config("smp-server.ini").display().to_string();
    assert_fails(&home.run(INIT), 5, &["already initialized", &ini, "smp-server start"]);
    assert_eq!(home.files(), before);
}

#[test]
fn init_does_not_overwrite_keys_whose_ini_is_gone() {
    let home = Home::new();
    home.run(INIT);
    fs::remove_file(home.config("smp-server.ini")).unwrap();
    let before = home.files();
    assert_fails(&home.run(INIT), 5, &["exists", "Restore the ini"]);
    assert_eq!(home.files(), before);
}

#[test]
fn options_of_init_reach_the_ini_and_the_address() {
    let home = Home::new();
    let output = home.run([
        "init",
        "-y",
        "-l",
        "-s",
        "-n",
        "smp.example.com",
        "--ip",
        "192.0.2.1",
        "--password",
        "secret1",
        "-p",
        "7001,7002",
        "--source-code",
        "https://example.com/src",
        "--operator",
        "Acme Ltd",
        "--operator-country",
        "de",
        "--hosting-type",
        "owned",
        "--listen",
        "127.0.0.1,::1",
        "-a",
        "ED25519",
        "--disable-web",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    let ini = home.read("smp-server.ini");
    for line in [
        "enable = on",
        "log_stats = on",
        "host = smp.example.com",
        "create_password = secret1",
        "port = 7001,7002",
        "source_code = https://example.com/src",
        "operator = Acme Ltd",
        "operator_country = DE",
        "hosting_type = owned",
        "listen = 127.0.0.1,::1",
        "websockets = off",
        "disconnect = on",
        "ttl = 21600",
    ] {
        assert!(ini.lines().any(|l| l == line), "expected {line:?} in:\n{ini}");
    }
    let text = stdout(&output);
    let address = format!("smp://{}:secret1@smp.example.com:7001", home.read("fingerprint").trim());
    assert!(text.contains(&format!("Server address: {address}\n")), "{text}");
    assert!(text.contains("Server source code: https://example.com/src\n"), "{text}");
    assert!(!text.contains("log_stats"), "{text}");
}

#[test]
fn without_a_choice_the_password_is_random_and_the_host_is_left_open() {
    let home = Home::new();
    let output = home.run(["init", "-y"]);
    let ini = home.read("smp-server.ini");
    let password = ini.lines().find_map(|line| line.strip_prefix("create_password = ")).unwrap();
    assert!(password.len() >= 32);
    let address = format!("smp://{}:{password}@<hostnames>\n", home.read("fingerprint").trim());
    assert!(stdout(&output).contains(&address), "{}", stdout(&output));
}

#[test]
fn what_the_reference_has_and_ringpost_does_not_need_is_answered_with_what_to_use() {
    for (arguments, words) in [
        (&["journal", "import"][..], &["has no journal", "smp-server import"][..]),
        (&["journal", "export"], &["smp-server export"]),
        (&["journal", "delete"], &["may be removed"]),
        (&["journal"], &["smp-server import", "smp-server export"]),
        (&["database", "import", "-d", "x"], &["uses no database", "smp-server import"]),
        (&["database", "export", "--table", "queues"], &["smp-server export"]),
        (&["database", "delete"], &["psql"]),
        (&["init", "-y", "-d", "postgresql://x"], &["`smp-server init --database`", "Leave the option out"]),
        (&["init", "-y", "--schema", "x"], &["`smp-server init --schema`"]),
        (&["init", "-y", "--pool-size", "10"], &["`smp-server init --pool-size`"]),
        (&["init", "-y", "--source-code"], &["--source-code needs the URI"]),
    ] {
        let home = Home::new();
        assert_fails(&home.run(arguments.iter().copied()), 2, words);
        assert_eq!(home.files(), [], "{arguments:?}");
    }
}

#[test]
fn more_options_of_init_reach_the_ini() {
    let home = Home::new();
    let output = home.run(
        "init -y --control-port --socks-proxy --own-domains example.com,example.org --web-path /srv/www"
            .split(' '),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let ini = home.read("smp-server.ini");
    for line in [
        "control_port = 5224",
        "socks_proxy = 127.0.0.1:9050",
        "own_server_domains = example.com example.org",
        "static_path = /srv/www",
        "# https =",
    ] {
        assert!(ini.lines().any(|l| l == line), "expected {line:?} in:\n{ini}");
    }
    let password = |key: &str| ini.lines().find_map(|l| l.strip_prefix(key)).unwrap().to_owned();
    let (admin, user) =
        (password("control_port_admin_password = "), password("control_port_user_password = "));
    assert!(admin.len() >= 24 && user.len() >= 24 && admin != user);

    let home = Home::new();
    let output =
        home.run("init -y --control-port 7000 --socks-proxy=user:pw@10.0.0.1:9150 --disable-web".split(' '));
    assert!(output.status.success(), "{}", stderr(&output));
    let ini = home.read("smp-server.ini");
    for line in ["control_port = 7000", "socks_proxy = user:pw@10.0.0.1:9150", "# static_path ="] {
        assert!(ini.lines().any(|l| l == line), "expected {line:?} in:\n{ini}");
    }
}

#[test]
fn browsers_are_served_if_there_is_a_certificate_for_them() {
    for (option, served) in [(None, true), (Some("--disable-web"), false)] {
        let home = Home::new();
        home.write("web.crt", "");
        home.write("web.key", "");
        let output = home.run(["init", "-y"].into_iter().chain(option));
        assert!(output.status.success(), "{}", stderr(&output));
        let ini = home.read("smp-server.ini");
        let certificate = format!("cert = {}", home.config("web.crt").display());
        for line in ["https = 443", certificate.as_str()] {
            assert_eq!(ini.lines().any(|l| l == line), served, "{line} in:\n{ini}");
        }
    }
}

#[test]
fn init_asks_and_enter_takes_the_default() {
    let home = Home::new();
    let ask = |input: &str, more: &[&str]| {
        let mut command = home.smp_server(["init"]);
        command.args(more);
        run_with_input(command, input)
    };
    // The end of the answers, and answers that make no sense: nothing is made.
    for input in ["", "\n\n\n", "\nmaybe\n"] {
        assert_fails(&ask(input, &[]), 2, &["standard input ended"]);
        assert_eq!(home.files(), []);
    }
    let answers =
        "\nmaybe\nn\ny\na@b\nsecret1\n-- --\nsmp.example.com\nftp://x\nhttps://example.com/src\n/srv/www\n";
    let output = ask(answers, &["--operator", "Acme", "--source-code", "https://example.com/old"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}{}", stderr(&output));
    for complaint in ["answer y or n", "none of @ : /", "letters, digits, hyphens", "begins with https://"] {
        assert_eq!(text.matches(complaint).count(), 1, "{complaint}: {text}");
    }
    let ini = home.read("smp-server.ini");
    for line in [
        "enable = off",
        "log_stats = on",
        "create_password = secret1",
        "host = smp.example.com",
        "source_code = https://example.com/src",
        "operator = Acme",
        "static_path = /srv/www",
    ] {
        assert!(ini.lines().any(|l| l == line), "expected {line:?} in:\n{ini}");
    }
    // It is not asked what cannot be done.
    assert_fails(&ask("\n", &[]), 5, &["already initialized"]);

    let home = Home::new();
    let output = run_with_input(home.smp_server(["init"]), &"\n".repeat(7));
    assert!(output.status.success(), "{}", stderr(&output));
    let ini = home.read("smp-server.ini");
    assert!(ini.contains("enable = on\n") && ini.contains("log_stats = off\n"), "{ini}");
    assert!(ini.contains(&format!("static_path = {}\n", home.data().join("www").display())), "{ini}");
    assert!(ini.contains("\ncreate_password = ") && ini.contains("host = <hostnames>\n"), "{ini}");
}

#[test]
fn options_of_the_haskell_runtime_are_passed_over() {
    let home = Home::new();
    let output = home.run(["start", "+RTS", "-N", "-RTS"]);
    assert_fails(&output, 17, &["note: options of the Haskell runtime are passed over: +RTS -N -RTS"]);
}

#[test]
fn wrong_options_are_refused_and_make_nothing() {
    for (arguments, words) in [
        (&["init", "-y", "--ip", "example.com"][..], "--ip example.com: expected an IP address"),
        (&["init", "-y", "-n", "two words"], "--fqdn two words: expected a domain name"),
        (&["init", "-y", "--password", "a@b"], "create_password: expected 1 to 255"),
        (&["init", "-y", "-p", "0"], "port = 0: expected port numbers"),
        (&["init", "-y", "--listen", "here"], "listen = here: expected"),
        (&["init", "-y", "--operator", "Acme"], "--source-code"),
        (&["init", "-y", "--source-code", "x", "--operator", "a\nb"], "control characters"),
        (&["init", "-y", "--source-code", "x", "--server-country", "Germany"], "two letters"),
        (&["init", "-y", "--no-password", "--password", "x"], "cannot be used with"),
        (&["init", "-y", "-n", &"a".repeat(63).as_str().repeat(2)], "expected a domain name"),
        (&["start", "--shards", "0"], "from 1 to 256"),
        (&["start", "--log-level", "loud"], "possible values"),
        (&["start", "--confirm-migrations", "sideways"], "possible values"),
        (&["init", "-y", "--control-port", "0"], "1..=65535"),
        (&["init", "-y", "--control-port", "http"], "invalid digit"),
        (&["init", "-y", "--socks-proxy", "nowhere"], "socks_proxy = nowhere: expected"),
        (&["init", "-y", "--own-domains", "a..b"], "own_server_domains = a..b: expected"),
        (&["cert", "--cn", "two words"], "--cn two words: expected"),
        (&["cert", "-a", "RSA"], "possible values"),
        (&["serve"], "unrecognized subcommand"),
    ] {
        let home = Home::new();
        assert_fails(&home.run(arguments.iter().copied()), 2, &[words]);
        assert_eq!(home.files(), [], "{arguments:?}");
    }
}

#[test]
fn start_without_init_says_so() {
    let home = Home::new();
    let ini = home.config("smp-server.ini").display().to_string();
    for command in ["start", "cert"] {
        assert_fails(&home.run([command]), 17, &["not initialized", &ini, "smp-server init"]);
    }
}

#[test]
fn a_wrong_ini_is_refused_with_file_line_and_what_is_allowed() {
    let home = Home::new();
    home.run(INIT);
    let good = home.read("smp-server.ini");
    for (line, message) in [
        ("port = http", "[TRANSPORT] port = http: expected port numbers"),
        ("port = 5223,70000", "[TRANSPORT] port = 5223,70000: expected port numbers"),
        ("port 5223", "neither a [SECTION], a key = value, nor a comment"),
    ] {
        let number = 1 + good.lines().position(|l| l == "port = 5223,443").unwrap();
        home.write("smp-server.ini", &good.replace("port = 5223,443", line));
        let place = format!("{}:{number}: {message}", home.config("smp-server.ini").display());
        assert_fails(&home.run(["start"]), 3, &[&place]);
    }
    home.write("smp-server.ini", &good.replace("store_messages = memory", "store_messages = journal"));
    assert_fails(&home.run(["start"]), 3, &["[STORE_LOG] store_messages = journal: expected `memory`"]);
    fs::write(home.config("smp-server.ini"), b"[TRANSPORT]\nport = \xff\n").unwrap();
    assert_fails(&home.run(["start"]), 3, &["smp-server.ini:2: not UTF-8 text"]);
}

#[test]
fn each_missing_file_is_named() {
    for file in ["ca.crt", "server.crt", "server.key", "fingerprint"] {
        let home = Home::new();
        home.run(INIT);
        fs::remove_file(home.config(file)).unwrap();
        let path = home.config(file).display().to_string();
        assert_fails(&home.run(["start"]), 17, &["cannot read", &path]);
    }
}

#[test]
fn each_file_that_cannot_be_read_is_named() {
    for file in ["smp-server.ini", "ca.crt", "server.crt", "server.key", "fingerprint"] {
        let home = Home::new();
        home.run(INIT);
        // Root may read everything, but no directory as a file.
        fs::remove_file(home.config(file)).unwrap();
        fs::create_dir(home.config(file)).unwrap();
        let path = home.config(file).display().to_string();
        assert_fails(&home.run(["start"]), 17, &["cannot read", &path]);
    }
}

#[test]
fn files_of_different_identities_are_refused() {
    let (home, other) = (Home::new(), Home::new());
    home.run(INIT);
    other.run(INIT);
    for (file, code, words) in [
        ("fingerprint", 18, &["fingerprint does not match", "Restore ca.crt"][..]),
        ("server.key", 4, &["server key", "does not belong"]),
        ("ca.crt", 4, &["certificate"]),
        ("server.crt", 4, &["certificate"]),
    ] {
        let good = home.read(file);
        home.write(file, &other.read(file));
        assert_fails(&home.run(["start"]), code, words);
        home.write(file, "-----BEGIN NOTHING-----\n");
        assert_fails(&home.run(["start"]), code, &[file]);
        home.write(file, &good);
    }
}

#[test]
fn a_broken_hash_key_is_refused() {
    let home = Home::new();
    home.run(INIT);
    let directory = home.data().join("ringpost");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("id_hash.key");
    fs::write(&path, "0123").unwrap();
    assert_fails(&home.run(["start"]), 13, &[&path.display().to_string(), "16 bytes"]);
}

#[test]
fn a_wrong_log_filter_is_refused() {
    let home = Home::new();
    home.run(INIT);
    let output = home.smp_server(["start"]).env("RINGPOST_LOG", "router=loud").output().unwrap();
    assert_fails(&output, 2, &["RINGPOST_LOG=router=loud"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let home = Home::new();
    let file = home.data();
    fs::write(&file, "not a directory").unwrap();
    let output = home.smp_server(INIT).env("SMP_SERVER_CFG_PATH", file.join("etc")).output().unwrap();
    assert_fails(&output, 10, &[&file.display().to_string()]);
}
