//! The tables of `docs/compatibility.md`: every command, response and error that the protocol crate knows has a row, every row
//! names tests, and these tests are there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The words in front of the arrow of a match, as `b"WORD"`.
fn words(line: &str) -> Vec<String> {
    let Some((before, _)) = line.split_once("=>") else { return Vec::new() };
    let mut parts = before.split("b\"").skip(1);
    let word = |part: &str| part.split('"').next().unwrap_or_default().to_owned();
    parts.by_ref().map(word).collect()
}

/// What a codec reads.
fn known(path: &str) -> BTreeSet<String> {
    read(path).lines().flat_map(words).collect()
}

/// What stands in front of the words that a type of error reads.
const ERRORS: [(&str, &str); 6] = [
    ("ErrorType", ""),
    ("CommandError", "CMD "),
    ("ProxyError", "PROXY "),
    ("BrokerError", "PROXY BROKER "),
    ("NetworkError", "PROXY BROKER NETWORK "),
    ("TransportError", "PROXY BROKER TRANSPORT "),
];

/// The errors that are read, each as it stands on the wire without its texts. Those that only lead to others are left out.
fn known_errors() -> BTreeSet<String> {
    let text = read("protocol/src/error/codec.rs");
    let mut errors = BTreeSet::new();
    let mut front = String::new();
    let mut is_nested = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("impl ") {
            let name = name.trim_end_matches(" {");
            let found = ERRORS.iter().find(|(error, _)| *error == name);
            front = found.map_or("-".to_owned(), |(_, front)| (*front).to_owned());
        }
        if front == "-" {
            continue;
        }
        let handshake = "HANDSHAKE ";
        for word in words(line) {
            let at = if is_nested { handshake } else { "" };
            errors.insert(format!("{front}{at}{word}"));
            is_nested |= word == "HANDSHAKE";
        }
        is_nested &= !line.trim().starts_with("})");
    }
    for leading in ["CMD", "PROXY", "PROXY PROTOCOL", "PROXY BROKER", "PROXY BROKER TRANSPORT"] {
        assert!(errors.remove(leading), "{leading} is not read any more");
    }
    errors.insert("PROXY PROTOCOL".to_owned());
    assert!(errors.remove("PROXY BROKER TRANSPORT HANDSHAKE"));
    errors
}

/// The rows of a table, by their first cell: the other cells.
fn table(mark: &str) -> BTreeMap<String, Vec<String>> {
    let text = read("docs/compatibility.md");
    let (open, close) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("no {open}")) + open.len();
    let end = start + text[start..].find(&close).unwrap_or_else(|| panic!("no {close}"));
    let mut rows = BTreeMap::new();
    let lines = text[start..end].lines().filter(|line| line.starts_with('|')).skip(2);
    for line in lines {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        let first = cells.next().unwrap().replace('`', "");
        assert!(rows.insert(first, cells.collect()).is_none(), "twice: {line}");
    }
    assert!(rows.len() > 3, "{mark} has {} rows", rows.len());
    rows
}

/// Whether a file has this test.
fn has_test(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let Ok(text) = fs::read_to_string(root().join(path)) else { return false };
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    // The attribute stands in front of it, behind whatever came before.
    let before = text[..at].rsplit("\n\n").next().unwrap_or_default();
    before.contains("#[test]")
}

fn check(mark: &str, known: &BTreeSet<String>) {
    let tests = table("tests");
    let rows = table(mark);
    let listed: BTreeSet<String> = rows.keys().cloned().collect();
    let missing: Vec<_> = known.difference(&listed).collect();
    assert!(missing.is_empty(), "no row in {mark} for {missing:?}");
    let unknown: Vec<_> = listed.difference(known).collect();
    assert!(unknown.is_empty(), "the protocol crate does not know what {mark} lists: {unknown:?}");
    for (row, cells) in &rows {
        let named: Vec<&str> = cells.last().unwrap().split(", ").map(|name| name.trim_matches('`')).collect();
        assert!(!named.is_empty());
        for name in named {
            let is_there = tests.contains_key(name) || has_test(name);
            assert!(is_there, "{mark}, {row}: there is no test {name:?}");
        }
    }
}

#[test]
fn every_named_test_exists() {
    for (name, cells) in table("tests") {
        for test in cells[0].split(", ") {
            let test = test.trim_matches('`');
            assert!(has_test(test), "{name}: there is no test {test}");
        }
    }
    assert!(!has_test("router/tests/compatibility.rs::no_such_test"));
    assert!(!has_test("router/tests/compatibility.rs::has_test"), "it is no test");
}

#[test]
fn every_command_has_a_row() {
    check("table of commands", &known("protocol/src/command/codec.rs"));
}

#[test]
fn every_response_has_a_row() {
    check("table of responses", &known("protocol/src/response/codec.rs"));
}

#[test]
fn every_error_has_a_row() {
    check("table of errors", &known_errors());
}

#[test]
fn every_group_of_vectors_has_a_row() {
    let folder = root().join("../shared/vectors");
    let groups: BTreeSet<String> = ["smp_encoding", "smp_transmission", "blocks", "delivery", "handshake"]
        .into_iter()
        .flat_map(|file| groups_of(&folder, file))
        .chain(["proxy cases".to_owned(), "smp_session steps".to_owned()])
        .collect();
    check("table of vectors", &groups);
}

/// The lists and objects of a file of vectors that hold cases.
fn groups_of(folder: &Path, file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(format!("{file}.json"))).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let members = all.as_object().unwrap().iter();
    let groups = members.filter(|(_, value)| value.is_array()).map(|(name, _)| format!("{file} {name}"));
    groups.collect()
}
