//! One connection to the control port.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ringpost_shard::service::same_password;

use super::super::desk::Desk;
use super::answer::answer;
use super::command::{Command, Role};
use crate::settings::ControlSettings;

/// Who says nothing for so long is disconnected.
const IDLE: Duration = Duration::from_secs(600);
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A password has at most 255 characters, the longest command less.
const LINE_BYTES_MAX: usize = 1_024;
/// Guessing shall take time, and a new connection now and then.
const PAUSE_AFTER_WRONG_PASSWORD: Duration = Duration::from_millis(500);
const WRONG_PASSWORDS_MAX: u32 = 5;

const BANNER: &str = "SMP server control port\n'help' for supported commands\n";

enum Line {
    Text(String),
    NotText,
    TooLong,
    /// The peer has closed.
    End,
}

/// Answers commands until the connection ends.
pub fn run(stream: TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(WRITE_WITHIN))?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut out = BufWriter::new(stream);
    let mut role = Role::None;
    let mut wrong_passwords = 0;
    out.write_all(BANNER.as_bytes())?;
    loop {
        out.flush()?;
        let command = match read_line(&mut lines)? {
            Line::Text(line) => Command::parse(&line),
            Line::NotText => Err("a line must be UTF-8 text".to_owned()),
            Line::TooLong => {
                writeln!(out, "error: a line has at most {LINE_BYTES_MAX} bytes")?;
                return out.flush();
            }
            Line::End => return Ok(()),
        };
        match command {
            Ok(Command::Quit) => return Ok(()),
            Ok(Command::Skip) => {}
            Ok(Command::Auth(password)) => {
                let given = role_of(&password, &desk.settings().control);
                if given == Role::None {
                    tracing::warn!("control port: a wrong password");
                    wrong_passwords += 1;
                    std::thread::sleep(PAUSE_AFTER_WRONG_PASSWORD);
                }
                // As in the reference a connection keeps the first role that it got.
                let is_first = role == Role::None;
                if is_first {
                    role = given;
                }
                let hint = if is_first || given == role { "" } else { ", start new session to change." };
                writeln!(out, "Current role is {}{hint}", role.word())?;
                if wrong_passwords >= WRONG_PASSWORDS_MAX {
                    writeln!(out, "error: too many wrong passwords")?;
                    return out.flush();
                }
            }
            Ok(command) if role < command.role() => {
                tracing::warn!("control port: {} without the role for it", command.name());
                writeln!(out, "AUTH")?;
            }
            Ok(command) => answer(desk, &command, &mut out)?,
            Err(error) => writeln!(out, "error: {error}")?,
        }
    }
}

/// Both passwords are compared, whatever the first one says.
fn role_of(password: &str, control: &ControlSettings) -> Role {
    let is = |wanted: &Option<String>| {
        wanted.as_ref().is_some_and(|wanted| same_password(password.as_bytes(), wanted.as_bytes()))
    };
    let (is_admin, is_user) = (is(&control.admin_password), is(&control.user_password));
    match (is_admin, is_user) {
        (true, _) => Role::Admin,
        (false, true) => Role::User,
        (false, false) => Role::None,
    }
}

fn read_line(lines: &mut impl BufRead) -> io::Result<Line> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells that there is too much.
    let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    lines.take(limit).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(Line::End);
    }
    if bytes.last() != Some(&b'\n') {
        // Or the peer has closed within a line, which is not to be obeyed.
        return Ok(if bytes.len() > LINE_BYTES_MAX { Line::TooLong } else { Line::End });
    }
    bytes.pop();
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    Ok(String::from_utf8(bytes).map_or(Line::NotText, Line::Text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_a_line_break_and_are_bounded() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let text = format!("stats\r\n\n{}\n{long}", &long[1..]);
        let mut lines = text.as_bytes();
        let mut next = || match read_line(&mut lines).unwrap() {
            Line::Text(text) => format!("{} bytes: {:.5}", text.len(), text),
            Line::NotText => "no text".to_owned(),
            Line::TooLong => "too long".to_owned(),
            Line::End => "end".to_owned(),
        };
        assert_eq!(next(), "5 bytes: stats");
        assert_eq!(next(), "0 bytes: ");
        assert_eq!(next(), "1023 bytes: xxxxx");
        // The last one has no end: it is no command.
        assert_eq!(next(), "end");
        assert!(matches!(read_line(&mut &b"\xff\n"[..]).unwrap(), Line::NotText));
        assert!(matches!(read_line(&mut "y".repeat(2_000).as_bytes()).unwrap(), Line::TooLong));
    }

    #[test]
    fn a_password_gives_its_role() {
        let control = |admin: Option<&str>, user: Option<&str>| ControlSettings {
            port: Some(1),
            admin_password: admin.map(str::to_owned),
            user_password: user.map(str::to_owned),
            block_quota: 0,
        };
        let both = control(Some("a1"), Some("u1"));
        assert_eq!(role_of("a1", &both), Role::Admin);
        assert_eq!(role_of("u1", &both), Role::User);
        for wrong in ["", "a", "a11", "u2"] {
            assert_eq!(role_of(wrong, &both), Role::None, "{wrong}");
        }
        assert_eq!(role_of("same", &control(Some("same"), Some("same"))), Role::Admin);
        // Without a password nobody has the role.
        assert_eq!(role_of("", &control(None, None)), Role::None);
    }
}
