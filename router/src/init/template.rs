//! The ini that `init` writes: every key there is, with its meaning. Keys that nobody set are commented out.

use crate::settings::keys::{
    AUTH, INACTIVE_CLIENTS, INFORMATION, KEYS, Key, PROXY, RINGPOST, STORE_LOG, TRANSPORT, WEB,
};

/// A value that `init` sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub section: &'static str,
    pub key: &'static str,
    pub value: String,
}

/// Sections in the order of the file, with what is said about each.
const SECTIONS: &[(&str, &[&str])] = &[
    (
        INFORMATION,
        &[
            "About this router and who runs it. All of it may stay empty, but the licence",
            "(AGPL-3.0) asks whoever runs a changed router to publish its source.",
        ],
    ),
    (STORE_LOG, &["What is kept, and for how long."]),
    (
        AUTH,
        &[
            "Who may do what. A password to make queues is a part of the address that",
            "the router's own users get: smp://FINGERPRINT:PASSWORD@HOST",
        ],
    ),
    (TRANSPORT, &["Where the router is reached."]),
    (PROXY, &["How messages are passed on to other routers."]),
    (INACTIVE_CLIENTS, &["What happens to clients that stay connected but silent."]),
    (WEB, &["The router's web page."]),
    (RINGPOST, &["What other SMP routers do not have: cores, memory and limits."]),
];

/// The text of an ini with these values.
pub fn ini_text(values: &[Set]) -> String {
    let sections = SECTIONS.iter().map(|(section, words)| section_text(section, words, values));
    sections.collect::<Vec<_>>().join("\n")
}

fn section_text(section: &str, words: &[&str], values: &[Set]) -> String {
    let mut lines = vec![format!("[{section}]")];
    lines.extend(words.iter().map(|word| format!("# {word}")));
    for key in KEYS.iter().filter(|key| key.section == section) {
        lines.push(String::new());
        lines.push(format!("# {}", key.meaning));
        lines.push(key_line(key, values));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn key_line(key: &Key, values: &[Set]) -> String {
    match values.iter().find(|set| (set.section, set.key) == (key.section, key.name)) {
        Some(set) => format!("{} = {}", key.name, set.value),
        None if key.default.is_empty() => format!("# {} =", key.name),
        None => format!("# {} = {}", key.name, key.default),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::*;
    use crate::ini::Ini;

    #[test]
    fn every_section_and_key_is_there_once() {
        let text = ini_text(&[]);
        for key in KEYS {
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.section), "{}", key.section);
        }
        let commented = text.lines().filter(|line| line.starts_with("# ") && line.contains(" =")).count();
        assert_eq!(commented, KEYS.len());
        assert!(text.lines().all(|line| line.len() <= 80 && !line.ends_with(' ')));
    }

    #[test]
    fn what_is_set_is_read_back() {
        let set = |section, key, value: &str| Set { section, key, value: value.to_owned() };
        let values = [set(TRANSPORT, "port", "5223"), set(AUTH, "create_password", "a=b#c;d")];
        let ini = Ini::parse(Path::new("x.ini"), ini_text(&values).as_bytes()).unwrap();
        assert_eq!(ini.entries().len(), values.len());
        for set in &values {
            assert_eq!(ini.entry(set.section, set.key).unwrap().value, set.value);
        }
    }
}
