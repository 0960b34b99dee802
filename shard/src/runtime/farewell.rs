//! The end of a connection that is told why: when the router stops, and over WebSocket and HTTP.

use std::pin::Pin;
use std::time::Duration;

use futures_lite::AsyncRead;
use futures_lite::future::{or, poll_fn};

use super::connection::Connection;
use super::handshake::write_all;
use super::sys;
use crate::executor::sleep;

/// How long the peer has to take the last answers and to close its side.
const LINGER: Duration = Duration::from_secs(1);

/// Tells the peer that nothing more comes, and lets it take what was written. A socket that is closed while commands of
/// the peer are unread would be reset, and the answers that are still on their way would be lost.
pub async fn say(connection: &Connection) {
    let mut last = Vec::new();
    {
        let mut tls = connection.tls.borrow_mut();
        if let Some(socket) = connection.websocket.get() {
            let frame = socket.close_frame(connection);
            last.resize(tls.sealed_bytes(frame.len()), 0);
            if tls.seal(&frame, &mut last).is_err() {
                return;
            }
        }
        if tls.close_notify(&mut last).is_err() {
            return;
        }
    }
    let end = async {
        if write_all(connection, &last).await.is_ok() {
            sys::shutdown_write(&connection.stream.borrow());
            discard(connection).await;
        }
    };
    or(end, sleep(LINGER)).await;
}

/// Reads until the peer closes.
async fn discard(connection: &Connection) {
    loop {
        let read = poll_fn(|cx| {
            // Not in the future, whose size every connection pays for as long as it lasts.
            let mut ignored = [0; 4096];
            let mut stream = connection.stream.borrow_mut();
            Pin::new(&mut *stream).poll_read(cx, &mut ignored)
        });
        if !matches!(read.await, Ok(count) if count > 0) {
            return;
        }
    }
}
