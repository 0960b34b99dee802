//! The control port: the reference's commands and answers, on 127.0.0.1.
//!
//! | file | what it does |
//! |---|---|
//! | `command` | which commands there are, who may give them, how they are read |
//! | `session` | one connection: its lines, its role |
//! | `answer` | what each command does and says |
//! | `words` | queues in the words of the reference |

mod answer;
pub mod command;
mod session;
mod words;

use std::sync::Arc;

use super::desk::Desk;
use super::local;
use crate::exit::Fatal;

/// Who asks for more gets this and is closed.
const BUSY: &[u8] = b"error: too many connections\n";

/// Serves the port until the process ends.
pub fn serve(listener: std::net::TcpListener, desk: Arc<Desk>) -> Result<(), Fatal> {
    let control = desk.settings().control;
    if control.admin_password.is_none() && control.user_password.is_none() {
        tracing::warn!(
            "the control port has no password, so it does nothing: set [AUTH] control_port_admin_password"
        );
    }
    local::serve(listener, "control", BUSY, move |stream| session::run(stream, &desk))
}
