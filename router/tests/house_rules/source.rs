//! A Rust file split into what the compiler reads and what only people read.

/// The text of one Rust file and the same text without comments and literals.
pub struct Source {
    pub text: String,
    /// `text` with every comment, string and character literal blanked. Line breaks stay: line numbers agree.
    pub code: String,
    /// By line, from 0: inside an item under `#[cfg(test)]`.
    test_lines: Vec<bool>,
    /// Modules declared under `#[cfg(test)]` whose body is another file.
    pub test_modules: Vec<String>,
}

impl Source {
    pub fn new(text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let mut source = Self {
            text: text.to_owned(),
            test_lines: vec![false; code.lines().count() + 1],
            code,
            test_modules: Vec::new(),
        };
        source.find_test_items();
        source
    }

    /// `line` counts from 1.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.get(line - 1).copied().unwrap_or(false)
    }

    /// The lines of code outside of test items, with their numbers from 1.
    pub fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(i, line)| (i + 1, line)).filter(|(n, _)| !self.is_test_line(*n))
    }

    fn find_test_items(&mut self) {
        let code = self.code.clone();
        for (start, _) in code.match_indices("#[cfg(").filter(|(at, _)| is_test_cfg(&code[*at..])) {
            let item = &code[start..];
            let end = item_end(item);
            let first = code[..start].matches('\n').count();
            let lines = item[..end].matches('\n').count();
            for line in &mut self.test_lines[first..=first + lines] {
                *line = true;
            }
            if item[..end].ends_with(';') {
                let words: Vec<&str> = item[..end - 1].split_whitespace().collect();
                if let [.., "mod", name] = words.as_slice() {
                    self.test_modules.push((*name).to_owned());
                }
            }
        }
    }
}

/// `#[cfg(test)]` and `#[cfg(all(test, ...))]`, but not `#[cfg(not(test))]`.
fn is_test_cfg(attribute: &str) -> bool {
    let condition = attribute[..attribute.find(']').unwrap_or(attribute.len())].replace(' ', "");
    condition.starts_with("#[cfg(test)") || condition.starts_with("#[cfg(all(test")
}

/// The offset just past the item that starts here: its closing brace, or its semicolon.
fn item_end(item: &str) -> usize {
    let (mut depth, mut square) = (0_usize, 0_usize);
    for (at, byte) in item.bytes().enumerate() {
        match byte {
            b'[' => square += 1,
            b']' => square = square.saturating_sub(1),
            b'{' => depth += 1,
            b'}' if depth <= 1 => return at + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 && square == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip_end(bytes, at);
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).unwrap()
}

/// The end of the comment or literal that starts at `at`; `at` itself where there is none.
fn skip_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment_len(rest),
        [b'"', ..] => at + string_len(rest),
        [b'r', b'"' | b'#', ..] if !after_word => at + raw_string_len(rest, 1),
        [b'b' | b'c', b'r', b'"' | b'#', ..] if !after_word => at + raw_string_len(rest, 2),
        [b'\'', ..] => at + char_len(rest),
        _ => at,
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                at += 2;
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    rest.len()
}

fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `prefix` is the length of `r` or `br`. Zero for a raw identifier such as `r#type`.
fn raw_string_len(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    let body = &rest[open + 1..];
    let end = body.windows(close.len()).position(|w| w == close).map(|p| p + close.len());
    open + 1 + end.unwrap_or(body.len())
}

/// Zero for a lifetime.
fn char_len(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|b| *b == b'\'');
        return close.map_or(0, |p| p + 4);
    }
    // One character of one to four bytes, then the closing quote.
    (2..=5)
        .find(|close| rest.get(*close) == Some(&b'\'') && is_one_char(&rest[1..*close]))
        .map_or(0, |c| c + 1)
}

fn is_one_char(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.chars().count() == 1)
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = "a(); // x.unwrap()\nlet s = \"y.unwrap() \\\" z\"; /* one /* two */\n three */ b();\n\
                let c = '\"'; let d = '\\''; fn f<'a>(x: &'a str) {} r#\"raw \" text\"# end é '\u{e9}' r#type";
    let code = Source::new(text).code;
    assert_eq!(code.lines().count(), text.lines().count());
    assert!(!code.contains("unwrap") && !code.contains("three") && !code.contains("raw"), "{code}");
    assert!(code.contains("b();") && code.contains("fn f<'a>(x: &'a str)") && code.contains("end"), "{code}");
    assert!(code.contains("r#type"), "{code}");
}

#[test]
fn test_items_are_told_from_the_rest() {
    let source = Source::new(
        "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { x() }\n}\nfn c() {}\n#[cfg(test)]\nmod more;\n#[cfg(not(test))]\nfn d() {}\n",
    );
    let test_lines: Vec<usize> = (1..=10).filter(|n| source.is_test_line(*n)).collect();
    assert_eq!(test_lines, [2, 3, 4, 5, 7, 8]);
    assert_eq!(source.test_modules, ["more"]);
}
