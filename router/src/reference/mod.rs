//! The files in which the reference implementation keeps queues and messages: its store log, messages log and
//! notifications log. Text, one record a line; bytes are base64url with padding, in their order of age.
//!
//! Nothing here knows a file system. What cannot be read is told with a reason ([`BadLine`]).
//!
//! | module | what it knows |
//! |---|---|
//! | [`lines`] | lines of bounded length, with their numbers |
//! | [`store_line`], [`queue`], [`service`] | `smp-server-store.log`: changes of queues, in the order they happened |
//! | [`message_line`] | `smp-server-messages.log`: undelivered messages |
//! | [`notification_line`] | `smp-server-ntfs.log`: notifications kept for later |
//! | [`state`] | what the changes in a store log come to |

pub mod lines;
pub mod message_line;
pub mod notification_line;
pub mod queue;
pub mod service;
pub mod state;
pub mod store_line;

mod words;

pub use lines::{LINE_BYTES_MAX, Line, LineReader};
pub use message_line::{MessageContent, MessageLine};
pub use notification_line::NotificationLine;
pub use queue::{Link, Notifier, QueueRecord, QueueStatus};
pub use service::ServiceRecord;
pub use state::{Applied, QueueState, Refused, State};
pub use store_line::{Change, ServiceParty, StoreLine};

/// Of a queue for one of its parties, of a link, of a service or of a message.
pub type Id = ringpost_store::QueueId;

/// Why a line cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("the line is empty")]
    Empty,
    #[error("the line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Its first word, shortened.
    #[error("a line of unknown kind: {0}")]
    Kind(String),
    #[error("`{0}` is missing, or not where it belongs")]
    Missing(&'static str),
    #[error("`{field}`: {what}")]
    Field { field: &'static str, what: &'static str },
    #[error("an ID of {bytes} bytes (`{field}`), where all IDs have 24")]
    IdLength { field: &'static str, bytes: usize },
    #[error("there is more in the line than belongs to it")]
    Trailing,
}
