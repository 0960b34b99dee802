//! Forwarding commands of senders to other routers, and executing those that others forward: no I/O, no clock.
//!
//! | file | what it does |
//! |---|---|
//! | `config` | what the operator decides; which host, through which SOCKS proxy |
//! | `layers` | the boxes around a forwarded command and its response |
//! | `pool` | one session a relay, what waits for it, and errors that stand for a while |
//! | `message` | what the shards of clients and of relays say to each other |
//! | `directory` | which shard has the session of an ID |
//! | `stats` | counting in the words of the reference |
//! | `socks` | SOCKS5 as a client |

mod config;
mod directory;
mod layers;
mod message;
mod pool;
pub mod socks;
mod stats;

pub use config::{HostMode, ProxyConfig, SocksAuth, SocksMode, SocksProxy};
pub use directory::RelayDirectory;
pub use layers::{
    CLIENT_BOX_BYTES, CorrId, Forward, Forwarded, PADDED_BYTES, Reply, TooLarge, open_response,
};
pub use message::{Answer, RelayAnswer, RelayKeys, RelayRequest, Requested, Waiter};
pub use pool::{Asked, InFlight, Pool, RelayFailure, proxy_error};
pub use stats::{Outcome, Subject, count};
