//! A log that is not as it was written: every command says so, with file and place, and changes nothing.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::sample::{create, id, message};
use crate::site::{MESSAGES, STORE, Site};
use crate::support::stdout;

const BODY: &[u8] = b"a body that stands on the disk as it was sent";

fn site() -> Site {
    let store: String = (0..20).map(create).collect();
    let messages: String = (0..20).map(|n| message(n, n, &[BODY, &n.to_le_bytes()].concat())).collect();
    let site = Site::with(&[(STORE, &store), (MESSAGES, &messages)]);
    site.run(&["import"]);
    site
}

/// The file of the log that has these bytes, and where.
fn place_of(site: &Site, bytes: &[u8]) -> (PathBuf, usize) {
    let find = |path: PathBuf| {
        let content = fs::read(&path).unwrap();
        let place = content.windows(bytes.len()).position(|window| window == bytes)?;
        Some((path, place))
    };
    site.log_files().into_iter().find_map(find).expect("bytes in the log")
}

fn flip(path: &PathBuf, place: usize) {
    let mut content = fs::read(path).unwrap();
    content[place] ^= 4;
    fs::write(path, content).unwrap();
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// `check` finds damage in this file at this offset; nobody else goes on.
fn assert_damaged(site: &Site, path: &std::path::Path, offset: usize, what: &str) -> Value {
    let before = site.files();
    let file = file_name(path);
    let output = site.fails(&["check"], 13, &["the log is damaged in 1 places", "backup"]);
    let line = format!("Damaged: {file} at {offset}: {what}");
    assert!(stdout(&output).lines().any(|l| l == line), "expected {line:?} in:\n{}", stdout(&output));
    let output = site.fails(&["check", "--json"], 13, &["damaged"]);
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(found["damage"][0], serde_json::json!({ "file": file, "offset": offset, "what": what }));
    site.fails(&["export"], 13, &[&file, what]);
    assert_eq!(site.files(), before, "nothing is left behind");
    found
}

#[test]
fn a_changed_body_is_found() {
    let site = site();
    let (path, place) = place_of(&site, BODY);
    flip(&path, place + 10);
    let found = assert_damaged(&site, &path, place, "a body is not what was written");
    assert_eq!(found["log"]["holdings"]["messages"]["all"], 20);
}

#[test]
fn a_changed_image_is_found_and_the_others_are_counted() {
    let site = site();
    let (path, place) = place_of(&site, &id(7, b'r'));
    flip(&path, place);
    let offset = place / 4_096 * 4_096;
    let found = assert_damaged(&site, &path, offset, "a bucket's image is not what was written");
    assert_eq!(found["log"]["holdings"]["queues"]["all"], 19);
    fs::write(site.data(STORE), create(99)).unwrap();
    site.fails(&["import"], 13, &["is damaged", "`smp-server check`"]);
}

#[test]
fn a_changed_root_is_found() {
    let site = site();
    let root =
        site.log_files().into_iter().find(|path| path.extension().is_some_and(|e| e == "root")).unwrap();
    flip(&root, 40);
    let what = "there is data, but no generation whose roots can all be read";
    let found = assert_damaged(&site, &root, 0, what);
    assert_eq!(found["log"], Value::Null);
}

#[test]
fn a_shortened_or_missing_segment_is_found() {
    let site = site();
    let (path, _) = place_of(&site, BODY);
    let bytes = fs::metadata(&path).unwrap().len();
    fs::File::options().write(true).open(&path).unwrap().set_len(bytes - 4_096).unwrap();
    let output = site.fails(&["check"], 13, &["damaged"]);
    let line = format!(
        "Damaged: {} at {}: the segment was cut off: it has {} bytes of {bytes}",
        file_name(&path),
        bytes - 4_096,
        bytes - 4_096
    );
    assert!(stdout(&output).lines().any(|l| l == line), "expected {line:?} in:\n{}", stdout(&output));
    fs::remove_file(&path).unwrap();
    let output = site.fails(&["check"], 13, &["damaged"]);
    assert!(stdout(&output).contains("the file of a bucket's image is missing"), "{}", stdout(&output));
}

#[test]
fn a_changed_header_of_a_segment_is_found() {
    let site = site();
    let (path, _) = place_of(&site, BODY);
    flip(&path, 13);
    assert_damaged(&site, &path, 0, "the segment's header is not what was written");
}

#[test]
fn another_key_is_not_taken_for_the_right_one() {
    let site = site();
    let key = site.data("ringpost/id_hash.key");
    fs::write(&key, [1; 16]).unwrap();
    site.fails(&["check"], 13, &["damaged"]);
    fs::remove_file(&key).unwrap();
    for command in ["check", "export", "import"] {
        site.fails(&[command], 13, &["id_hash.key is missing", "backup"]);
    }
    assert!(!key.exists());
}

#[test]
fn looking_changes_nothing() {
    let site = site();
    let before = site.files();
    site.run(&["check"]);
    site.run(&["check", "--json"]);
    assert_eq!(site.files(), before);
}
