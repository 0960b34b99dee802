//! The router at run time: what the tasks of a shard do. The only module that knows the executor.
//!
//! | file | what it does |
//! |---|---|
//! | `start` | checks the machine's limits, starts one executor a shard |
//! | `listen`, `inherited` | listening sockets; those that outlive a program |
//! | `accept`, `handshake`, `farewell` | beginning and end of connections, within the caps |
//! | `reader`, `writer` | blocks from and to sockets |
//! | `relay` | commands that are forwarded, by this router and to it |
//! | `services` | clients that receive for many queues under one certificate |
//! | `shard` | what the tasks of a shard share, and how work moves between shards |
//! | `worker` | the mesh and the queue service |
//! | `state`, `log`, `disk` | loading the state, driving the log, its files |
//! | `operator` | questions and orders of the operator |
//! | `sweep` | time limits and expiry |
//! | `stop`, `ending` | asking for the end, and how a shard comes to it |
//! | `tls` | what is spoken where, TLS configurations |
//! | `websocket` | web clients |
//! | `sys` | calls that need unsafe |

mod accept;
mod address;
mod connection;
mod disk;
mod ending;
mod farewell;
mod handshake;
mod inherited;
mod listen;
mod log;
mod operator;
mod reader;
mod relay;
mod services;
mod shard;
mod signal;
mod start;
mod state;
mod stop;
mod sweep;
mod sys;
mod tls;
mod websocket;
mod worker;
mod writer;

pub use inherited::{
    InheritedListeners, VARIABLE as INHERITED_LISTENERS_VARIABLE, ignore_signals, leave_open,
};
pub use operator::{Change, ClientReport, ListenerReport, Operator, OperatorError};
pub use start::{Config, FatalError, InactiveClients, Router, StartError};
pub use state::{DataConfig, Recovered};
pub use stop::StopMode;
pub use tls::{Entry, Listener, TlsOptions};

use ringpost_protocol::certificate::RouterCredentials;
use ringpost_protocol::version::VersionRange;
use ringpost_protocol::websocket::pages::Pages;

use crate::limits::Limits;
use crate::proxy::{ProxyConfig, RelayDirectory};
use stop::StopState;

/// What all shards know of the router.
pub(crate) struct RouterConfig {
    pub tls: tls::TlsConfigs,
    /// Of each listener.
    pub entries: Vec<Entry>,
    pub credentials: RouterCredentials,
    pub versions: VersionRange,
    pub limits: Limits,
    pub expiry_interval_secs: u64,
    pub expires_on_start: bool,
    pub shards: usize,
    pub proxy: ProxyConfig,
    /// For web clients that want no WebSocket.
    pub pages: Pages,
    pub log_tls_errors: bool,
    pub relays: RelayDirectory,
    /// The user name for SOCKS proxies that keep this router's circuits apart.
    pub socks_user: String,
}

impl RouterConfig {
    /// Blocks of messages that a home shard may have under way to one connection.
    pub fn delivery_credit(&self) -> usize {
        (self.limits.outbox_blocks / self.shards).max(1)
    }
}

impl std::fmt::Debug for RouterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouterConfig")
            .field("versions", &self.versions)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
