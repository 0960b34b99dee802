//! Lines of a text, one at a time.

use std::io::{self, BufRead};

use super::BadLine;

/// Longer lines are passed over and reported. The longest that the reference writes, a queue with 255 keys of 69
/// bytes, a link of 15 KB and a notifier, has less than 50 KB.
pub const LINE_BYTES_MAX: usize = 256 << 10;

/// One line, without its line break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// What is too long is not kept.
    pub content: Result<&'a [u8], &'static BadLine>,
    /// False for a last line without a line break: it may have been cut off.
    pub is_ended: bool,
}

/// Reads lines. Holds one of them, at most [`LINE_BYTES_MAX`].
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
}

impl<R: BufRead> LineReader<R> {
    pub fn new(input: R) -> Self {
        Self { input, line: Vec::new(), number: 0 }
    }

    /// The next line; None at the end. What follows the last line break is a line, if there is something.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut is_too_long = false;
        let mut is_ended = false;
        let mut has_begun = false;
        while !is_ended {
            let buffered = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffered => buffered?,
            };
            if buffered.is_empty() {
                break;
            }
            has_begun = true;
            let end = buffered.iter().position(|&byte| byte == b'\n');
            is_ended = end.is_some();
            let part = buffered.get(..end.unwrap_or(buffered.len())).unwrap_or_default();
            is_too_long |= self.line.len() + part.len() > LINE_BYTES_MAX;
            if !is_too_long {
                self.line.extend_from_slice(part);
            }
            let taken = part.len() + usize::from(is_ended);
            self.input.consume(taken);
        }
        if !has_begun {
            return Ok(None);
        }
        self.number += 1;
        let content = if is_too_long { Err(&BadLine::TooLong) } else { Ok(self.line.as_slice()) };
        Ok(Some(Line { number: self.number, content, is_ended }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::BufReader;

    use super::*;

    fn lines(text: &[u8], buffer_bytes: usize) -> Vec<(u64, Option<Vec<u8>>, bool)> {
        let mut reader = LineReader::new(BufReader::with_capacity(buffer_bytes, text));
        let mut found = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            found.push((line.number, line.content.ok().map(<[u8]>::to_vec), line.is_ended));
        }
        found
    }

    #[test]
    fn lines_are_found_whatever_the_buffer() {
        for buffer_bytes in 1..9 {
            let found = lines(b"ab\n\ncde\r\nf", buffer_bytes);
            let content = |text: &[u8]| Some(text.to_vec());
            assert_eq!(
                found,
                [
                    (1, content(b"ab"), true),
                    (2, content(b""), true),
                    (3, content(b"cde\r"), true),
                    (4, content(b"f"), false)
                ]
            );
            assert_eq!(lines(b"", buffer_bytes), []);
            assert_eq!(lines(b"\n", buffer_bytes).len(), 1);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over() {
        let longest = vec![b'x'; LINE_BYTES_MAX];
        let text = [&longest[..], b"\n", &longest, b"x\nnext\n"].concat();
        let found = lines(&text, 1 << 12);
        let lengths: Vec<_> = found.iter().map(|(_, line, _)| line.as_ref().map(Vec::len)).collect();
        assert_eq!(lengths, [Some(LINE_BYTES_MAX), None, Some(4)]);
        assert_eq!(found[2].0, 3);
    }
}
