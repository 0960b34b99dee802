//! One core of a router, and the mesh that joins the cores.
//!
//! | module | what it knows |
//! |---|---|
//! | [`service`] | queues, commands and their answers: no I/O and no runtime |
//! | [`proxy`] | layers and sessions of forwarded commands |
//! | [`outbox`] | packing of answers and messages into blocks |
//! | [`arena`] | the 16 KB blocks |
//! | [`aliases`] | where queues live whose IDs another router drew |
//! | [`links`] | where the queues of short links live |
//! | [`mesh`] | bounded lanes between shards |
//! | `executor` | tasks and the ring of one thread |
//! | [`limits`] | every cap, with its default |
//! | [`counters`] | what happened, and how often |
//! | [`runtime`] | executors, sockets, time limits: the only part that knows the executor |

pub mod aliases;
pub mod arena;
pub mod counters;
mod executor;
pub mod limits;
pub mod links;
pub mod mesh;
pub mod outbox;
pub mod proxy;
pub mod runtime;
pub mod service;

pub use runtime::{
    Change, ClientReport, Config, DataConfig, Entry, FatalError, INHERITED_LISTENERS_VARIABLE,
    InactiveClients, InheritedListeners, Listener, ListenerReport, Operator, OperatorError, Recovered,
    Router, StartError, StopMode, TlsOptions, ignore_signals, leave_open,
};
