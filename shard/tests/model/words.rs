//! Refusals, and the words that each version has for them.

use crate::terms::{Command, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Auth,
    Prohibited,
    Syntax,
    NoMsg,
    Quota,
    LargeMsg,
    Service,
    Blocked(&'static str, Option<&'static str>),
}

/// What must stand beside a command, or not.
pub fn credentials(request: &Request) -> Option<&'static str> {
    let (is_signed, has_entity) = (request.signed.is_some(), !request.entity.is_empty());
    match request.command {
        Command::New { .. } if !is_signed => Some("NO_AUTH"),
        Command::New { .. } => has_entity.then_some("HAS_AUTH"),
        Command::Send { .. } => (!has_entity).then_some("NO_ENTITY"),
        Command::LGet if !has_entity => Some("NO_ENTITY"),
        Command::LGet => is_signed.then_some("HAS_AUTH"),
        Command::Ping => (is_signed || has_entity).then_some("HAS_AUTH"),
        _ => (!is_signed || !has_entity).then_some("NO_AUTH"),
    }
}

/// BLOCKED came with version 12, its notice with 18.
pub fn words(refusal: Refusal, version: u16) -> String {
    let word = match refusal {
        Refusal::Auth => "AUTH",
        Refusal::Prohibited => "CMD PROHIBITED",
        Refusal::Syntax => "CMD SYNTAX",
        Refusal::NoMsg => "NO_MSG",
        Refusal::Quota => "QUOTA",
        Refusal::LargeMsg => "LARGE_MSG",
        Refusal::Service => "SERVICE",
        Refusal::Blocked(..) if version < 12 => "AUTH",
        Refusal::Blocked(reason, notice) => {
            return match notice {
                Some(notice) if version >= 18 => format!("BLOCKED reason={reason},notice={notice}"),
                _ => format!("BLOCKED reason={reason}"),
            };
        }
    };
    word.into()
}
