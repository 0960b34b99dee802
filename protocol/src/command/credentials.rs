//! Which commands come with an authorization and an entity ID: "SMP commands" and "Command verification".

use super::Command;
use crate::error::{CommandError, ErrorType};
use crate::handshake::ServiceRole;

impl Command<'_> {
    /// The role that a service must have to send this command; none for the one that all may send. Clients that are no
    /// services have no role to be asked for.
    pub fn service_role(&self) -> Option<ServiceRole> {
        match self {
            Self::Ping => None,
            Self::NSub | Self::NSubs(_) => Some(ServiceRole::Notifier),
            Self::Rfwd(_) => Some(ServiceRole::Proxy),
            Self::New(_)
            | Self::Sub
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
            | Self::Send { .. }
            | Self::LKey(_)
            | Self::LGet
            | Self::Prxy { .. }
            | Self::Pfwd { .. } => Some(ServiceRole::Messaging),
        }
    }

    /// Whether a service signs this command beside the queue's key: those that make a queue the service's. In a service
    /// session they must have that signature; no other command may.
    pub fn is_service_signed(&self) -> bool {
        matches!(self, Self::New(_) | Self::Sub | Self::NSub)
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::MsgFlags;
    use crate::keys::AuthPublicKey;

    fn refusals(command: &Command<'_>) -> [Option<CommandError>; 4] {
        // Without both, with an entity, with an authorization, with both.
        [(false, ""), (false, "id"), (true, ""), (true, "id")].map(|(has_authorization, entity_id)| {
            match command.check_credentials(has_authorization, entity_id.as_bytes()) {
                Ok(()) => None,
                Err(ErrorType::Cmd(error)) => Some(error),
                Err(other) => panic!("{other:?}"),
            }
        })
    }

    #[test]
    fn each_command_has_its_credentials() {
        use CommandError::{HasAuth, NoAuth, NoEntity};
        let key = || AuthPublicKey::Ed25519([0; 32]);
        let send = Command::Send { flags: MsgFlags::default(), body: b"" };
        assert_eq!(refusals(&send), [Some(NoEntity), None, Some(NoEntity), None]);
        assert_eq!(refusals(&Command::LGet), [Some(NoEntity), None, Some(NoEntity), Some(HasAuth)]);
        assert_eq!(refusals(&Command::Ping), [None, Some(HasAuth), Some(HasAuth), Some(HasAuth)]);
        assert_eq!(refusals(&Command::Rfwd(b"")), [None, Some(HasAuth), Some(HasAuth), Some(HasAuth)]);
        for command in [
            Command::Sub,
            Command::NSub,
            Command::SKey(key()),
            Command::LKey(key()),
            Command::Que,
            Command::Del,
        ] {
            assert_eq!(refusals(&command), [Some(NoAuth), Some(NoAuth), Some(NoAuth), None], "{command:?}");
        }
    }
}
