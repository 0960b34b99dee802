//! Forwarding commands of senders to other routers, and executing those that others forward: no I/O, no clock.
//!
//! | file | what it does |
//! |---|---|
//! | `layers` | the boxes around a forwarded command and its response |

mod layers;

pub use layers::{CLIENT_BOX_BYTES, CorrId, Forward, Forwarded, PADDED_BYTES, Reply, TooLarge, open_response};
