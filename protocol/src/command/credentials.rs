//! Which commands come with an authorization and an entity ID: "SMP commands" and "Command verification".

use super::Command;
use crate::error::{CommandError, ErrorType};

impl Command<'_> {
    /// Whether the transmission has what this command must have, and nothing it must not have.
    ///
    /// This says nothing about whether the authorization is right.
    pub fn check_credentials(&self, has_authorization: bool, entity_id: &[u8]) -> Result<(), ErrorType> {
        let has_entity = !entity_id.is_empty();
        let refusal = match self {
            Self::New(_) => match (has_authorization, has_entity) {
                (false, _) => Some(CommandError::NoAuth),
                (true, true) => Some(CommandError::HasAuth),
                (true, false) => None,
            },
            // Authorized once the queue is secured.
            Self::Send { .. } => (!has_entity).then_some(CommandError::NoEntity),
            Self::LGet | Self::Pfwd { .. } => match (has_authorization, has_entity) {
                (_, false) => Some(CommandError::NoEntity),
                (true, true) => Some(CommandError::HasAuth),
                (false, true) => None,
            },
            Self::Ping | Self::Prxy { .. } | Self::Rfwd(_) => {
                (has_authorization || has_entity).then_some(CommandError::HasAuth)
            }
            Self::Sub
            | Self::Subs(_)
            | Self::Key(_)
            | Self::RKey(_)
            | Self::LSet { .. }
            | Self::LDel
            | Self::NKey(_)
            | Self::NDel
            | Self::Get
            | Self::Ack { .. }
            | Self::Off
            | Self::Del
            | Self::Que
            | Self::SKey(_)
            | Self::LKey(_)
            | Self::NSub
            | Self::NSubs(_) => (!has_authorization || !has_entity).then_some(CommandError::NoAuth),
        };
        refusal.map_or(Ok(()), |error| Err(ErrorType::Cmd(error)))
    }
}
