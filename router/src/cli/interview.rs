//! Questions on the terminal: what `init` asks without `--yes`, and what `delete` wants to be sure of.

use std::fmt::Display;
use std::io::{BufRead, Read, Write};

use crate::exit::{Fatal, Reason};

/// A longer answer is none.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// Who is asked, line by line.
pub struct Interview<'a> {
    input: &'a mut dyn BufRead,
    out: &'a mut dyn Write,
}

impl std::fmt::Debug for Interview<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interview").finish_non_exhaustive()
    }
}

impl<'a> Interview<'a> {
    pub fn new(input: &'a mut dyn BufRead, out: &'a mut dyn Write) -> Self {
        Self { input, out }
    }

    pub fn say(&mut self, text: &str) {
        // Who does not see the question can still answer it.
        let _ = writeln!(self.out, "{text}");
    }

    /// The answer in one line, without white space around it. The end of the input is an error.
    pub fn ask(&mut self, question: &str) -> Result<String, Fatal> {
        let _ = write!(self.out, "{question} ").and_then(|()| self.out.flush());
        let mut line = Vec::new();
        let limit = ANSWER_BYTES_MAX + 1;
        let read = (&mut *self.input).take(limit).read_until(b'\n', &mut line);
        let length = read.map_err(|error| {
            Fatal::new(Reason::Usage, format!("cannot read the answer from standard input: {error}"))
        })?;
        if length == 0 {
            let _ = writeln!(self.out);
            let fatal = Fatal::new(Reason::Usage, "standard input ended before all questions were answered");
            return Err(fatal.remedy("Run it in a terminal, or give all answers."));
        }
        if u64::try_from(length).unwrap_or(u64::MAX) >= limit {
            return Err(Fatal::new(
                Reason::Usage,
                format!("an answer is longer than {ANSWER_BYTES_MAX} bytes"),
            ));
        }
        Ok(String::from_utf8_lossy(&line).trim().to_owned())
    }

    /// Asks until the answer makes sense; an empty one is `default`.
    pub fn ask_until<T, E: Display>(
        &mut self,
        question: &str,
        default: T,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<T, Fatal> {
        loop {
            let answer = self.ask(question)?;
            if answer.is_empty() {
                return Ok(default);
            }
            match read(&answer) {
                Ok(value) => return Ok(value),
                Err(problem) => self.say(&problem.to_string()),
            }
        }
    }

    pub fn yes_or_no(&mut self, question: &str, default: bool) -> Result<bool, Fatal> {
        let choices = if default { "(Yn):" } else { "(yN):" };
        self.ask_until(&format!("{question} {choices}"), default, |answer| match answer {
            "y" | "Y" => Ok(true),
            "n" | "N" => Ok(false),
            _ => Err("Please answer y or n."),
        })
    }

    /// Whether the answer is a capital Y: nothing else will do.
    pub fn is_sure(&mut self, warning: &str) -> Result<bool, Fatal> {
        self.say(warning);
        Ok(self.ask("Continue (Y/n):")? == "Y")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn interview<T>(input: &str, ask: impl FnOnce(&mut Interview<'_>) -> T) -> (T, String) {
        let mut out = Vec::new();
        let given = ask(&mut Interview::new(&mut input.as_bytes(), &mut out));
        (given, String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_empty_answer_is_the_default() {
        assert!(interview("\n", |i| i.yes_or_no("Really?", true)).0.unwrap());
        assert!(!interview("  \r\n", |i| i.yes_or_no("Really?", false)).0.unwrap());
        assert_eq!(interview("\n", |i| i.yes_or_no("Really?", false)).1, "Really? (yN): ");
    }

    #[test]
    fn it_is_asked_again_until_the_answer_makes_sense() {
        let (answer, out) = interview("maybe\nN\n", |i| i.yes_or_no("Really?", true));
        assert!(!answer.unwrap());
        assert_eq!(out.matches("Really? (Yn):").count(), 2, "{out}");
        assert!(out.contains("Please answer y or n."), "{out}");
    }

    #[test]
    fn only_a_capital_y_is_sure() {
        for (answer, sure) in [("Y\n", true), ("y\n", false), ("\n", false), ("Yes\n", false), ("Y", true)] {
            assert_eq!(interview(answer, |i| i.is_sure("All is lost.")).0.unwrap(), sure, "{answer:?}");
        }
    }

    #[test]
    fn the_end_of_the_input_and_endless_answers_are_errors() {
        for input in ["", "maybe\n", &"y".repeat(5_000)] {
            let error = interview(input, |i| i.yes_or_no("Really?", true)).0.unwrap_err();
            assert_eq!(error.reason, Reason::Usage, "{error}");
        }
    }
}
