//! The rules, each a function from one file to what is wrong in it.

use std::fmt;

use crate::source::Source;

/// Longest Rust file, tests included: one screen of the outline, one sitting to read.
pub const FILE_LINES_MAX: usize = 600;

/// How far above an `unsafe` its `SAFETY` comment may begin, in lines: a short impl may share one.
const SAFETY_COMMENT_LINES: usize = 15;
/// How far above an `expect` on something that cannot fail the attribute may stand that gives the reason, in lines.
const EXPECT_REASON_LINES: usize = 15;

#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Relative to the root of the workspace.
    pub path: String,
    /// From 1; 0 for the whole file.
    pub line: usize,
    pub rule: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

fn finding(path: &str, line: usize, rule: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, rule: rule.into() }
}

/// No tab, no space at a line's end, and a line break at the end of the file.
pub fn whitespace(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, content) in text.lines().enumerate() {
        if content.contains('\t') {
            findings.push(finding(path, line + 1, "a tab: use spaces"));
        }
        if content.ends_with([' ', '\r']) {
            findings.push(finding(path, line + 1, "white space at the end of the line"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(finding(path, text.lines().count(), "no line break at the end of the file"));
    }
    findings
}

pub fn file_length(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![finding(path, lines, format!("{lines} lines; a file has at most {FILE_LINES_MAX}: split it"))]
}

/// Calls that end a process, or that were left from a debugging session. Output belongs to binaries and reports.
pub fn banned_calls(path: &str, source: &Source) -> Vec<Finding> {
    let prints =
        path.contains("/src/bin/") || path.ends_with("/src/main.rs") || path.starts_with("loadgen/src/");
    let banned = [
        (".unwrap()", "unwrap outside of tests: return an error"),
        (".expect(", "expect outside of tests: return an error"),
        ("todo!", "todo! is not an implementation"),
        ("unimplemented!", "unimplemented! is not an implementation"),
        ("dbg!", "dbg! left behind"),
        ("println!", "println! outside of a binary: log it, or write to a writer that is passed in"),
        ("print!", "print! outside of a binary: log it, or write to a writer that is passed in"),
        ("eprintln!", "eprintln! outside of a binary: log it, or write to a writer that is passed in"),
        ("eprint!", "eprint! outside of a binary: log it, or write to a writer that is passed in"),
    ];
    let mut findings = Vec::new();
    for (number, line) in source.production_lines() {
        for (call, rule) in banned {
            let allowed = match call {
                ".expect(" => has_reason_to_expect(source, number),
                call => prints && call.contains("print"),
            };
            if has_token(line, call) && !allowed {
                findings.push(finding(path, number, rule));
            }
        }
    }
    findings
}

/// Just above stands `#[allow(clippy::expect_used, reason = "...")]`: why it cannot fail.
fn has_reason_to_expect(source: &Source, number: usize) -> bool {
    let lines: Vec<&str> = source.text.lines().take(number).collect();
    let above = lines.iter().skip(number.saturating_sub(EXPECT_REASON_LINES));
    above.copied().any(|line| line.contains("allow(clippy::expect_used, reason = \""))
}

/// `unsafe` only where the file says that it has some, and each with the reason why it is sound.
pub fn unsafe_is_explained(path: &str, source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for (index, code) in source.code.lines().enumerate() {
        if !has_token(code, "unsafe") {
            continue;
        }
        if !source.code.contains("allow(unsafe_code)") {
            findings.push(finding(path, index + 1, "unsafe in a file without #![allow(unsafe_code)]"));
        }
        let above = &lines[index.saturating_sub(SAFETY_COMMENT_LINES)..=index];
        if !above.iter().any(|line| line.to_ascii_lowercase().contains("safety")) {
            findings.push(finding(path, index + 1, "unsafe without a SAFETY comment just above it"));
        }
    }
    findings
}

/// A name that belongs to some folders only, so that what is behind it can be exchanged.
pub struct ConfinedName {
    pub token: &'static str,
    pub homes: &'static [&'static str],
    pub why: &'static str,
}

pub const CONFINED_NAMES: &[ConfinedName] = &[
    ConfinedName {
        token: "io_uring",
        homes: &["shard/src/executor/"],
        why: "the kernel's rings are used in shard/src/executor only",
    },
    ConfinedName {
        token: "unbuffered",
        homes: &["protocol/src/tls"],
        why: "rustls' unbuffered API is used in protocol/src/tls only",
    },
    ConfinedName {
        token: "UnbufferedServerConnection",
        homes: &["protocol/src/tls"],
        why: "rustls' unbuffered API is used in protocol/src/tls only",
    },
    ConfinedName {
        token: "UnbufferedClientConnection",
        homes: &["protocol/src/tls"],
        why: "rustls' unbuffered API is used in protocol/src/tls only",
    },
];

pub fn confined_names(path: &str, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.code.lines().enumerate() {
        for name in CONFINED_NAMES {
            if has_token(line, name.token) && !name.homes.iter().any(|home| path.starts_with(home)) {
                findings.push(finding(path, index + 1, name.why));
            }
        }
    }
    findings
}

/// Each relative link of a page leads to something: `exists` is asked about the path from the root.
pub fn links_resolve(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (index, line) in text.lines().enumerate() {
        for target in link_targets(line) {
            let target = target.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !exists(&join(folder, target)) {
                findings.push(finding(path, index + 1, format!("a link to {target}, which does not exist")));
            }
        }
    }
    findings
}

/// The targets of the Markdown links in one line.
pub fn link_targets(line: &str) -> Vec<&str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.trim())
        .collect()
}

fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// `token` is in the line and is not a part of a longer word.
fn has_token(line: &str, token: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let word_start = is_word(token.chars().next());
    let word_end = is_word(token.chars().next_back());
    line.match_indices(token).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + token.len()..].chars().next();
        !((word_start && is_word(before)) || (word_end && is_word(after)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|f| f.line).collect()
    }

    #[test]
    fn whitespace_is_checked() {
        assert_eq!(lines(&whitespace("a.rs", "ok\n\tx\ny \nz")), [2, 3, 4]);
        assert!(whitespace("a.rs", "ok\n\nfine\n").is_empty());
        assert!(whitespace("a.rs", "").is_empty());
    }

    #[test]
    fn length_is_checked() {
        assert!(file_length("a.rs", &"x\n".repeat(FILE_LINES_MAX)).is_empty());
        assert_eq!(file_length("a.rs", &"x\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    }

    #[test]
    fn banned_calls_are_found_outside_of_tests_only() {
        let source = Source::new(
            "fn a() { b().unwrap(); }\nfn c() { d.expect(\"x\"); }\nfn e() { println!(); }\n// f.unwrap()\n\
             fn g() { h.unwrap_or(1); reprint!(); }\n#[cfg(test)]\nmod tests { fn i() { j.unwrap(); } }\nfn k() { todo!() }\n",
        );
        assert_eq!(lines(&banned_calls("store/src/lib.rs", &source)), [1, 2, 3, 8]);
        assert_eq!(lines(&banned_calls("router/src/bin/smp-server.rs", &source)), [1, 2, 8]);
    }

    #[test]
    fn an_expect_that_cannot_fail_gives_its_reason() {
        let with = |attribute: &str| Source::new(&format!("{attribute}\nfn a() {{ b().expect(\"c\"); }}\n"));
        let good = with("#[allow(clippy::expect_used, reason = \"b is constant\")]");
        assert!(banned_calls("store/src/lib.rs", &good).is_empty());
        let bare = with("#[allow(clippy::expect_used)]");
        assert_eq!(lines(&banned_calls("store/src/lib.rs", &bare)), [2]);
    }

    #[test]
    fn unsafe_needs_permission_and_reason() {
        let bare = Source::new("fn a() { unsafe { b() } }\n");
        assert_eq!(unsafe_is_explained("x.rs", &bare).len(), 2);
        let good = Source::new(
            "#![allow(unsafe_code)]\n// SAFETY: b has no conditions.\nfn a() { unsafe { b() } }\n",
        );
        assert!(unsafe_is_explained("x.rs", &good).is_empty());
        let far = Source::new(&format!(
            "#![allow(unsafe_code)]\n// SAFETY: elsewhere\n{}unsafe {{}}\n",
            "\n".repeat(SAFETY_COMMENT_LINES)
        ));
        assert_eq!(unsafe_is_explained("x.rs", &far).len(), 1);
        let words = Source::new("#![deny(unsafe_code)]\n// unsafe in words\nlet s = \"unsafe\";\n");
        assert!(unsafe_is_explained("x.rs", &words).is_empty());
    }

    #[test]
    fn confined_names_stay_at_home() {
        let source =
            Source::new("use io_uring::IoUring;\n// io_uring in words\nuse rustls::unbuffered::Status;\n");
        assert_eq!(lines(&confined_names("store/src/lib.rs", &source)), [1, 3]);
        assert_eq!(lines(&confined_names("shard/src/executor/ring.rs", &source)), [3]);
        assert_eq!(lines(&confined_names("protocol/src/tls/session.rs", &source)), [1]);
    }

    #[test]
    fn broken_links_are_found() {
        let text = "[a](docs/a.md) [b](https://example.org)\n[c](../LICENSE#top) [d](gone.md)\n[e](#here)\n";
        let exists = |path: &str| ["docs/a.md", "docs/docs/a.md", "LICENSE"].contains(&path);
        assert_eq!(lines(&links_resolve("docs/x.md", text, exists)), [2]);
    }
}
