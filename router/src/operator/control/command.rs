//! The commands of the control port.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use ringpost_protocol::error::BlockingInfo;
use ringpost_store::QueueId;

/// What a connection may do. It begins with nothing, and gets a role by a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    None,
    User,
    Admin,
}

impl Role {
    /// As the reference says it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "CPRNone",
            Self::User => "CPRUser",
            Self::Admin => "CPRAdmin",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Auth(String),
    Suspend,
    Resume,
    Clients,
    Stats,
    StatsRts,
    Threads,
    Sockets,
    SocketThreads,
    ServerInfo,
    Delete(QueueId),
    Status(QueueId),
    Block(QueueId, BlockingInfo),
    Unblock(QueueId),
    Save,
    /// Our own: everything in one JSON object.
    Report,
    /// Our own: the metrics.
    Metrics,
    Help,
    Quit,
    /// An empty line.
    Skip,
}

/// A command for help and documents.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    pub name: &'static str,
    pub arguments: &'static str,
    /// The least role that may give it.
    pub role: Role,
    pub meaning: &'static str,
}

const fn info(name: &'static str, arguments: &'static str, role: Role, meaning: &'static str) -> Info {
    Info { name, arguments, role, meaning }
}

/// In the order in which `help` lists them.
pub const COMMANDS: &[Info] = &[
    info("auth", "PASSWORD", Role::None, "Get the role of the password, for this connection"),
    info("stats", "", Role::User, "The statistics since the start of the day or of the router"),
    info("stats-rts", "", Role::User, "All counters of the shards, added up (the reference: its runtime)"),
    info("clients", "", Role::Admin, "Connections, one a line, as CSV"),
    info("sockets", "", Role::User, "Connections accepted and closed since the start, by port"),
    info("socket-threads", "", Role::Admin, "Says that connections have no threads here"),
    info("threads", "", Role::Admin, "Threads of the process"),
    info("server-info", "", Role::User, "Clients and subscriptions"),
    info("status", "ID", Role::User, "Whether a queue is active, and when it was used last"),
    info("block", "ID reason=spam|content[,notice={\"ttl\":SECS}]", Role::User, "Block a queue"),
    info("unblock", "ID", Role::User, "Make a blocked queue active"),
    info("delete", "ID", Role::Admin, "Delete a queue with its messages"),
    info("save", "", Role::Admin, "Write the statistics file; queues and messages are always on the disk"),
    info("report", "", Role::User, "Everything in one line of JSON: what `smp-server status` shows"),
    info("metrics", "", Role::User, "The metrics for Prometheus"),
    info("suspend", "", Role::Admin, "Not implemented, as in the reference"),
    info("resume", "", Role::Admin, "Not implemented, as in the reference"),
    info("help", "", Role::None, "The names of the commands"),
    info("quit", "", Role::None, "End the connection"),
];

impl Command {
    /// Reads a line without its end. The error is what to answer.
    pub fn parse(line: &str) -> Result<Self, String> {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim();
        let plain = match name {
            "auth" if !rest.is_empty() => return Ok(Self::Auth(rest.to_owned())),
            "delete" => return Ok(Self::Delete(queue_id(rest)?)),
            "status" => return Ok(Self::Status(queue_id(rest)?)),
            "unblock" => return Ok(Self::Unblock(queue_id(rest)?)),
            "block" => {
                let (id, info) = rest.split_once(' ').unwrap_or((rest, ""));
                let id = queue_id(id)?;
                let info = BlockingInfo::parse(info.trim().as_bytes()).map_err(
                    |_| "expected reason=spam or reason=content, and maybe ,notice={\"ttl\":SECONDS}",
                );
                return Ok(Self::Block(id, info?));
            }
            "suspend" => Self::Suspend,
            "resume" => Self::Resume,
            "clients" => Self::Clients,
            "stats" => Self::Stats,
            "stats-rts" => Self::StatsRts,
            "threads" => Self::Threads,
            "sockets" => Self::Sockets,
            "socket-threads" => Self::SocketThreads,
            "server-info" => Self::ServerInfo,
            "save" => Self::Save,
            "report" => Self::Report,
            "metrics" => Self::Metrics,
            "help" => Self::Help,
            "quit" => Self::Quit,
            "" => Self::Skip,
            "auth" => return Err("expected a password".to_owned()),
            // What was typed is not repeated: it may be a password without its command.
            _ => return Err("unknown command, `help` lists them".to_owned()),
        };
        if rest.is_empty() { Ok(plain) } else { Err(format!("{name} takes no arguments")) }
    }

    /// The least role that may give it.
    pub fn role(&self) -> Role {
        let name = self.name();
        COMMANDS.iter().find(|info| info.name == name).map_or(Role::None, |info| info.role)
    }

    pub const fn name(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Clients => "clients",
            Self::Stats => "stats",
            Self::StatsRts => "stats-rts",
            Self::Threads => "threads",
            Self::Sockets => "sockets",
            Self::SocketThreads => "socket-threads",
            Self::ServerInfo => "server-info",
            Self::Delete(_) => "delete",
            Self::Status(_) => "status",
            Self::Block(..) => "block",
            Self::Unblock(_) => "unblock",
            Self::Save => "save",
            Self::Report => "report",
            Self::Metrics => "metrics",
            Self::Help => "help",
            Self::Quit => "quit",
            Self::Skip => "",
        }
    }
}

/// In base64url, with padding or without. IDs of other lengths than a queue's are none of ours.
fn queue_id(text: &str) -> Result<QueueId, String> {
    if text.is_empty() {
        return Err("expected the ID of a queue, in base64url".to_owned());
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| URL_SAFE.decode(text));
    let bytes = bytes.map_err(|_| "the ID of a queue is written in base64url".to_owned())?;
    // What the reference says of an ID that no queue has.
    bytes.try_into().map_err(|_| "AUTH".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use ringpost_protocol::error::{BlockingReason, ClientNotice};

    use super::*;

    const ID: &str = "K9jSci13Kp-PPQhoOHeEBUnD1qBJInWh";

    #[test]
    fn every_command_of_the_list_is_read() {
        for info in COMMANDS {
            let arguments = match info.name {
                "auth" => " x".to_owned(),
                "status" | "unblock" | "delete" => format!(" {ID}"),
                "block" => format!(" {ID} reason=spam"),
                _ => String::new(),
            };
            let command = Command::parse(&format!("{}{arguments}", info.name)).unwrap();
            assert_eq!((command.name(), command.role()), (info.name, info.role));
        }
        assert_eq!(Command::parse(""), Ok(Command::Skip));
    }

    #[test]
    fn queues_are_blocked_with_a_reason() {
        let id = queue_id(ID).unwrap();
        let info = |reason, notice| BlockingInfo { reason, notice };
        let notice = |ttl_secs| Some(ClientNotice { ttl_secs });
        for (text, expected) in [
            ("reason=spam", info(BlockingReason::Spam, None)),
            ("reason=content,notice={}", info(BlockingReason::Content, notice(None))),
            ("reason=content,notice={\"ttl\": 86400}", info(BlockingReason::Content, notice(Some(86_400)))),
        ] {
            assert_eq!(Command::parse(&format!("block {ID} {text}")), Ok(Command::Block(id, expected)));
        }
        for text in ["", "spam", "reason=other", "reason=spam,", "reason=spam,notice=x"] {
            let error = Command::parse(&format!("block {ID} {text}")).unwrap_err();
            assert!(error.starts_with("expected reason="), "{text}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_not_repeated() {
        for (line, error) in [
            ("nonsense", "unknown command, `help` lists them"),
            ("STATS", "unknown command, `help` lists them"),
            ("auth", "expected a password"),
            ("stats now", "stats takes no arguments"),
            ("status", "expected the ID of a queue, in base64url"),
            ("status ?", "the ID of a queue is written in base64url"),
            ("status AAAA", "AUTH"),
            ("block AAAA reason=spam", "AUTH"),
        ] {
            assert_eq!(Command::parse(line), Err(error.to_owned()), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,60}") {
            let _ = Command::parse(&line);
        }

        #[test]
        fn ids_are_read_with_and_without_padding(id: [u8; 24]) {
            let text = URL_SAFE_NO_PAD.encode(id);
            prop_assert_eq!(queue_id(&text), Ok(id));
        }
    }
}
