//! The recorded session of the reference's control port, with the recorded state of its router, moved to ours.

use std::fs;

use crate::site::{Control, Site};
use crate::support::free_port;

/// Commands that are answered otherwise, and why: numbers of another process, and texts of our own.
const OTHERWISE: &[&str] =
    &["stats", "stats-rts", "server-info", "sockets", "nonsense", "save", "block AAAA reason=spam"];

fn recorded(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/reference_data");
    fs::read_to_string(format!("{folder}/{name}")).unwrap()
}

fn moved() -> Site {
    let site = Site::new();
    fs::create_dir_all(site.home.data()).unwrap();
    for name in ["smp-server-store.log", "smp-server-messages.log", "smp-server-ntfs.log"] {
        fs::write(site.home.data().join(name), recorded(&format!("log/{name}"))).unwrap();
    }
    let (port, control) = (free_port(), site.control);
    let ini = format!(
        "[STORE_LOG]\nexpire_messages_days = 3650\n[TRANSPORT]\nport = {port}\ncontrol_port = {control}\n\
         [AUTH]\ncontrol_port_admin_password = sWr0P365ime4MqCCqslV0tU7\n\
         control_port_user_password = WFGydrP5O4bAgGkjL9aJhiIp\n[RINGPOST]\nlisten = 127.0.0.1\n"
    );
    site.home.write("smp-server.ini", &ini);
    let import = site.home.run(["import"]);
    assert!(import.status.success(), "{}", crate::support::stderr(&import));
    Site { port, ..site }
}

#[test]
fn the_recorded_session_is_answered_as_recorded() {
    let site = moved();
    let _router = site.start();
    let transcript = recorded("samples/control_port_transcript.txt");
    // The state is that after the session, which has left the queue blocked.
    let mut control = Control::connect(site.control);
    control.ask("auth sWr0P365ime4MqCCqslV0tU7");
    assert!(control.one("unblock K9jSci13Kp-PPQhoOHeEBUnD1qBJInWh").starts_with("ok, queue unblocked"));
    let mut compared = 0;
    for session in transcript.split("--- connect\n").skip(1) {
        let mut control = Control::connect(site.control);
        for step in session.split("\n> ").skip(1) {
            let (command, answer) = step.split_once('\n').unwrap_or((step, ""));
            if command == "quit" {
                control.send("quit\n");
                assert_eq!(control.line(), None);
                continue;
            }
            if command == "help" {
                control.send("help\n");
                let ours = control.line().unwrap();
                // Ours names more.
                for name in answer.trim().trim_start_matches("commands: ").split(", ") {
                    assert!(ours.split([' ', ',']).any(|word| word == name), "{name} in {ours}");
                }
                continue;
            }
            let ours = control.ask(command);
            if OTHERWISE.contains(&command) && ours != ["AUTH"] {
                assert!(!ours.is_empty(), "{command}");
                continue;
            }
            let theirs: Vec<&str> = answer.lines().collect();
            assert_eq!(ours, theirs, "{command}");
            compared += 1;
        }
    }
    assert_eq!(compared, 23, "the number of compared steps");
}

/// Labels and order are what scripts read.
#[test]
fn the_lines_of_stats_are_those_of_the_reference() {
    let site = moved();
    let _router = site.start();
    let transcript = recorded("samples/control_port_transcript.txt");
    let theirs = transcript.split("\n> ").find(|step| step.starts_with("stats\nfromTime")).unwrap();
    let mut control = Control::connect(site.control);
    control.ask("auth WFGydrP5O4bAgGkjL9aJhiIp");
    let ours = control.ask("stats");
    let labels = |lines: &[&str]| -> Vec<String> {
        lines.iter().map(|line| line.split(':').next().unwrap().to_owned()).collect()
    };
    let theirs: Vec<&str> = theirs.lines().skip(1).collect();
    let ours_refs: Vec<&str> = ours.iter().map(String::as_str).collect();
    assert_eq!(labels(&ours_refs), labels(&theirs));
    // What is there was moved; what was counted was not, without log_stats.
    assert!(ours.contains(&"qCount: 8".to_owned()), "{ours:#?}");
    assert!(ours.contains(&"ntfCount: 2".to_owned()), "{ours:#?}");
}
