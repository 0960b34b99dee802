//! Reader of ini files that remembers where everything stood, so that a wrong value is reported with its line.
//!
//! Accepted as the reference does: `key = value` and `key: value`, comments on lines of their own that begin with `;`
//! or `#`, white space around sections, keys and values. The first of several equal keys counts. A line that is none of
//! these is an error here, where the reference reads something else, or no further, without a word.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Far above any real file: something else was given.
pub const FILE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Empty above the first section.
    pub section: String,
    pub key: String,
    pub value: String,
    /// From 1.
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ini {
    pub path: PathBuf,
    entries: Vec<Entry>,
}

/// What is wrong in an ini, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct IniError {
    pub path: PathBuf,
    /// From 1; `None` where it is the whole file, or something that is not there.
    pub line: Option<usize>,
    /// Names section and key, the value unless it is secret, and what would be right.
    pub problem: String,
}

impl fmt::Display for IniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.problem),
            None => write!(f, "{}: {}", self.path.display(), self.problem),
        }
    }
}

impl Ini {
    /// Reads the bytes of a file; `path` is for messages only.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, IniError> {
        let error =
            |line, problem: &str| IniError { path: path.to_owned(), line, problem: problem.to_owned() };
        if bytes.len() > FILE_BYTES_MAX {
            return Err(error(None, "longer than 1 MiB: this cannot be an ini"));
        }
        let text = std::str::from_utf8(bytes).map_err(|utf8| {
            let line = 1 + bytes.iter().take(utf8.valid_up_to()).filter(|byte| **byte == b'\n').count();
            error(Some(line), "not UTF-8 text")
        })?;
        let mut section = String::new();
        let mut entries = Vec::new();
        for (index, content) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = index + 1;
            match parse_line(content) {
                Some(Line::Nothing) => {}
                Some(Line::Section(name)) => name.clone_into(&mut section),
                Some(Line::KeyValue(key, value)) => entries.push(Entry {
                    section: section.clone(),
                    key: key.to_owned(),
                    value: value.to_owned(),
                    line,
                }),
                None => return Err(error(Some(line), "neither a [SECTION], a key = value, nor a comment")),
            }
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// All in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry that counts: the first one.
    pub fn entry(&self, section: &str, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.section == section && entry.key == key)
    }

    /// The lines of entries that an earlier equal key makes meaningless, each with the earlier one.
    pub fn repeated(&self) -> impl Iterator<Item = (&Entry, &Entry)> {
        self.entries.iter().filter_map(|entry| {
            let first = self.entry(&entry.section, &entry.key)?;
            (first.line != entry.line).then_some((first, entry))
        })
    }

    /// The value as `parse` reads it; `None` where the key is not set. `allowed` completes "expected ...".
    pub fn value<T>(
        &self,
        section: &str,
        key: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, IniError> {
        let Some(entry) = self.entry(section, key) else { return Ok(None) };
        let problem = || format!("[{section}] {key} = {}: expected {allowed}", shorten(&entry.value));
        parse(&entry.value).map(Some).ok_or_else(|| self.error(Some(entry.line), problem()))
    }

    /// As [`value`](Self::value), for a value that no message may show.
    pub fn secret<T>(
        &self,
        section: &str,
        key: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, IniError> {
        let Some(entry) = self.entry(section, key) else { return Ok(None) };
        let problem = || format!("[{section}] {key}: expected {allowed}");
        parse(&entry.value).map(Some).ok_or_else(|| self.error(Some(entry.line), problem()))
    }

    /// As [`value`](Self::value), for a key without a default.
    pub fn required<T>(
        &self,
        section: &str,
        key: &str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, IniError> {
        let problem = || format!("[{section}] {key} is not set: expected {allowed}");
        self.value(section, key, allowed, parse)?.ok_or_else(|| self.error(None, problem()))
    }

    fn error(&self, line: Option<usize>, problem: String) -> IniError {
        IniError { path: self.path.clone(), line, problem }
    }
}

enum Line<'a> {
    Nothing,
    Section(&'a str),
    KeyValue(&'a str, &'a str),
}

fn parse_line(content: &str) -> Option<Line<'_>> {
    let content = content.trim();
    if content.is_empty() || content.starts_with([';', '#']) {
        return Some(Line::Nothing);
    }
    if let Some(rest) = content.strip_prefix('[') {
        let name = rest.strip_suffix(']')?.trim();
        return (!name.is_empty() && !name.contains(['[', ']'])).then_some(Line::Section(name));
    }
    let (key, value) = content.split_once(['=', ':'])?;
    let (key, value) = (key.trim(), value.trim());
    (!key.is_empty() && !key.contains(['[', ']'])).then_some(Line::KeyValue(key, value))
}

/// One printable line of bounded length: a message must not be ruined by what it quotes.
fn shorten(value: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    let mut shown: String =
        value.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if value.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Ini, IniError> {
        Ini::parse(Path::new("x.ini"), text.as_bytes())
    }

    fn number(text: &str) -> Option<u16> {
        text.parse().ok()
    }

    #[test]
    fn sections_keys_and_comments_keep_their_lines() {
        let ini = parse(
            "top = 0\n\n; c\n[ A ]\r\n  # c = 1\nk=v # not a comment\nurl: https://x:1/a=b\n\n[B]\nk =\n",
        )
        .unwrap();
        let seen: Vec<_> = ini
            .entries()
            .iter()
            .map(|e| (e.section.as_str(), e.key.as_str(), e.value.as_str(), e.line))
            .collect();
        assert_eq!(
            seen,
            [
                ("", "top", "0", 1),
                ("A", "k", "v # not a comment", 6),
                ("A", "url", "https://x:1/a=b", 7),
                ("B", "k", "", 10)
            ]
        );
    }

    #[test]
    fn the_first_of_equal_keys_counts() {
        let ini = parse("[A]\nk = 1\n[B]\nk = 2\n[A]\nk = 3\n").unwrap();
        assert_eq!(ini.value("A", "k", "a number", number), Ok(Some(1)));
        let repeated: Vec<_> = ini.repeated().map(|(first, again)| (first.line, again.line)).collect();
        assert_eq!(repeated, [(2, 6)]);
    }

    #[test]
    fn errors_name_file_line_section_key_value_and_what_is_allowed() {
        let ini = parse("[A]\n\nk = many\n").unwrap();
        let message = |error: IniError| error.to_string();
        assert_eq!(
            message(ini.value("A", "k", "a number", number).unwrap_err()),
            "x.ini:3: [A] k = many: expected a number"
        );
        assert_eq!(
            message(ini.secret("A", "k", "a number", number).unwrap_err()),
            "x.ini:3: [A] k: expected a number"
        );
        assert_eq!(
            message(ini.required("A", "port", "a port", number).unwrap_err()),
            "x.ini: [A] port is not set: expected a port"
        );
        assert_eq!(
            message(parse("[A]\nport 5223\n").unwrap_err()),
            "x.ini:2: neither a [SECTION], a key = value, nor a comment"
        );
    }

    #[test]
    fn broken_lines_are_refused() {
        let message = |result: Result<Ini, IniError>| result.unwrap_err().to_string();
        for text in ["[A", "[]", "[A]]", "word", "= 1", "[A] k = 1", "a[b = 1"] {
            assert_eq!(
                message(parse(text)),
                "x.ini:1: neither a [SECTION], a key = value, nor a comment",
                "{text}"
            );
        }
        let latin = Ini::parse(Path::new("x.ini"), b"a = b\nk = \xe9\n");
        assert_eq!(message(latin), "x.ini:2: not UTF-8 text");
        let long = Ini::parse(Path::new("x.ini"), &vec![b'\n'; FILE_BYTES_MAX + 1]);
        assert_eq!(message(long), "x.ini: longer than 1 MiB: this cannot be an ini");
    }

    #[test]
    fn a_quoted_value_is_short_and_on_one_line() {
        let shown = shorten(&format!("a\u{1b}b{}", "c".repeat(200)));
        assert_eq!(shown.chars().count(), 83);
        assert!(!shown.contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Ini::parse(Path::new("x.ini"), &bytes);
        }

        #[test]
        fn any_lines_are_read_or_refused_at_a_line_that_exists(text in "([\\[\\]a-c =:;#\n\r]{0,200})") {
            match parse(&text) {
                Ok(ini) => for entry in ini.entries() {
                    let line = text.lines().nth(entry.line - 1).unwrap();
                    prop_assert!(line.contains(&entry.key) && line.contains(&entry.value));
                },
                Err(error) => prop_assert!(text.lines().nth(error.line.unwrap() - 1).is_some()),
            }
        }

        #[test]
        fn what_is_written_is_read(key in "[a-z_]{1,12}", value in "[!-~]([ -~]{0,30}[!-~])?", colon: bool) {
            let separator = if colon { ':' } else { '=' };
            let ini = parse(&format!("[S]\n{key}{separator} {value}\n")).unwrap();
            prop_assert_eq!(&ini.entry("S", &key).unwrap().value, &value);
        }
    }
}
