//! SMP client library on tokio: one [`Connection`] to a router, its commands ([`Client`]) and its events ([`Events`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ringpost_client::{ClientConfig, Connection, Event, KeyKind, QueueOptions, SenderQueue};
//! use ringpost_protocol::command::MsgFlags;
//!
//! let address = "smp://u2dS9sG8nMNURyZwqASV4yROM28Er0luVTx5X1CsMrU=@smp4.simplex.im".parse()?;
//! let (recipient, mut events) = Connection::connect(&address, ClientConfig::default()).await?;
//! let queue = recipient.new_queue(QueueOptions::default()).await?;
//!
//! // Elsewhere, with the sender's ID of the queue:
//! let (sender, _) = Connection::connect(&address, ClientConfig::default()).await?;
//! let sender_queue = SenderQueue::new(queue.sender_id, KeyKind::X25519.generate()?);
//! sender.secure_by_sender(&sender_queue).await?;
//! sender.send(&sender_queue, MsgFlags { notification: true }, b"hello").await?;
//!
//! if let Some(Event::Message(message)) = events.recv().await {
//!     let msg_id = message.id;
//!     assert_eq!(message.open(&queue)?.body(), Some(&b"hello"[..]));
//!     recipient.ack(&queue, &msg_id).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Every connection is one task, that alone touches the socket. Commands are encoded and authorized by their callers, so
//! that they use as many threads as there are callers; the task collects what is waiting, fills blocks as the reference
//! implementation does, and seals them where they are sent from. All queues between callers, task and receiver of events
//! are bounded.
//!
//! | module | what it knows |
//! |---|---|
//! | `client` | the commands |
//! | `queue` | what each party of a queue keeps |
//! | `event` | what the router sends on its own account |
//! | `connect` | TCP, TLS and SMP handshake |
//! | `driver` | the task of a connection |
//! | `wire` | records and blocks, without I/O |
//! | `in_flight` | which response belongs to which command |
//! | `proxy` | sending through another router |
//! | `request` | a command's transmission |

#![forbid(unsafe_code)]

mod buffer;
mod client;
mod config;
mod connect;
mod driver;
mod error;
mod event;
mod id;
mod in_flight;
mod proxy;
mod queue;
mod request;
mod session;
mod wire;

pub use client::{Client, QueueOptions};
pub use config::ClientConfig;
pub use connect::Connection;
pub use error::{
    ClientError, CommandFault, ConnectError, Disconnect, ProtocolFault, TransportFault, error_text,
};
pub use event::{Event, Events, Message, Received};
pub use id::EntityId;
pub use proxy::RelaySession;
pub use queue::{KeyKind, RecipientQueue, SenderQueue};
pub use request::PendingSend;
pub use session::Session;
