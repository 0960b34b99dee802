//! The tables of the documents are made from the code: they list what there is, and no more.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ringpost_router::exit::Reason;
use ringpost_router::operator::control::command::{COMMANDS, Role};
use ringpost_router::settings::keys::{KEYS, Support};

fn operations() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/operations.md")
}

fn keys_table() -> String {
    let mut lines = Vec::new();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let head = [String::new(), format!("### [{section}]"), String::new()];
            lines.extend(head);
            lines.push("| key | default | meaning | now |".to_owned());
            lines.push("|---|---|---|---|".to_owned());
        }
        let default = match key.default {
            "" => "none".to_owned(),
            default => format!("`{default}`"),
        };
        let status = match key.support {
            Support::Works => "works",
            Support::NoEffect(why) => why,
        };
        lines.push(format!("| `{}` | {default} | {} | {status} |", key.name, key.meaning));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn exit_table() -> String {
    let mut lines = vec!["| code | reason |".to_owned(), "|---|---|".to_owned()];
    lines.push("| 0 | Stopped as asked |".to_owned());
    lines.extend(Reason::ALL.iter().map(|reason| format!("| {} | {} |", reason.code(), reason.meaning())));
    lines.push("| 130, 143 | A second SIGINT or SIGTERM |".to_owned());
    format!("\n{}\n", lines.join("\n"))
}

/// Compares what stands between the two marks with the table; writes it there if asked to.
fn check(mark: &str, table: &str) {
    let text = fs::read_to_string(operations()).unwrap();
    let (open, close) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("{open}")) + open.len();
    let end = start + text[start..].find(&close).unwrap_or_else(|| panic!("{close}"));
    if std::env::var_os("RINGPOST_RECORD").is_some() {
        fs::write(operations(), format!("{}{table}{}", &text[..start], &text[end..])).unwrap();
    } else {
        assert_eq!(&text[start..end], table, "write it anew with RINGPOST_RECORD=1, one test at a time");
    }
}

#[test]
fn every_key_of_the_ini_is_documented() {
    check("table of keys", &keys_table());
}

fn commands_table() -> String {
    let mut lines = vec!["| command | role | what it does |".to_owned(), "|---|---|---|".to_owned()];
    lines.extend(COMMANDS.iter().map(|info| {
        let role = match info.role {
            Role::None => "none",
            Role::User => "user",
            Role::Admin => "admin",
        };
        let command = format!("{} {}", info.name, info.arguments.replace('|', "\\|"));
        format!("| `{}` | {role} | {} |", command.trim_end(), info.meaning)
    }));
    format!("\n{}\n", lines.join("\n"))
}

#[test]
fn every_command_of_the_control_port_is_documented() {
    check("table of commands", &commands_table());
}

#[test]
fn every_exit_code_is_documented() {
    check("table of exit codes", &exit_table());
}
