//! SMP over WebSocket (RFC 6455), as browsers speak it: each transport block is one binary message. Bytes in, bytes out.
//!
//! | module | what it knows |
//! |---|---|
//! | [`frame`] | frames of clients, taken apart where they lie; the few frames that a router sends |
//! | [`http`] | the request that begins a session, and its answers |
//! | [`pages`] | what other requests get |

pub mod frame;
pub mod http;
pub mod pages;
