//! Settings of a connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringpost_protocol::handshake::ServiceCredentials;
use ringpost_protocol::version::VersionRange;

use crate::queue::KeyKind;

/// How to connect, and how much a connection may hold. [`Default`] suits a client of ordinary load.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// SMP versions that may be agreed.
    pub versions: VersionRange,
    /// For TCP, TLS and the SMP handshake together.
    pub connect_timeout: Duration,
    /// From the call of a command to its response.
    pub command_timeout: Duration,
    /// A PING is sent when nothing was received for so long; if it stays without answer for
    /// [`command_timeout`](Self::command_timeout), the connection is closed. None: never.
    pub keep_alive: Option<Duration>,
    /// Commands that wait for the connection's task. More make their callers wait.
    pub queued_commands_max: usize,
    /// Commands that were sent and wait for their response. More stay queued.
    pub in_flight_max: usize,
    /// Events that wait for [`Events::recv`](crate::Events::recv). More make the connection stop reading, unless a
    /// command waits for its response.
    pub events_max: usize,
    /// The same while a command waits for its response, which may come behind events: whoever acknowledges messages
    /// between two events must not wait for ever. A router sends one message for each subscribed queue before it is
    /// acknowledged, so this is best as large as the number of queues subscribed on one connection. Each takes 16 KB.
    pub events_before_response_max: usize,
    /// Keys that [`Client::new_queue`](crate::Client::new_queue) makes for the recipient.
    pub recipient_key: KeyKind,
    /// Send a session key, so that blocks are encrypted inside TLS from version 11 on. Apps always do.
    pub block_encryption: bool,
    /// The service whose connection this is: from version 16 on. A router of a lower version gets a client like others:
    /// see [`Session::service_id`](crate::Session::service_id).
    pub service: Option<Arc<ServiceCredentials>>,
    /// The local address to connect from. None: the system chooses.
    pub local_ip: Option<IpAddr>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            versions: VersionRange::ALL,
            connect_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(30),
            keep_alive: Some(Duration::from_secs(60)),
            queued_commands_max: 256,
            in_flight_max: 4096,
            events_max: 256,
            events_before_response_max: 16_384,
            recipient_key: KeyKind::Ed25519,
            block_encryption: true,
            service: None,
            local_ip: None,
        }
    }
}
