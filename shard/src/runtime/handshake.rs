//! The beginning of a connection: the TLS handshake, then the hello blocks.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use futures_lite::AsyncWrite;
use futures_lite::future::poll_fn;
use rand_core::RngCore;

use super::connection::{Close, Connection};
use super::reader::Receiver;
use super::shard::Shard;

/// Establishes the session of a connection. What was received behind the hello stays in the receiver.
pub async fn run(shard: &Rc<Shard>, connection: &Connection) -> Result<Receiver, Close> {
    let mut receiver = Receiver::default();
    tls(shard, connection, &mut receiver).await?;
    Ok(receiver)
}

async fn tls(shard: &Shard, connection: &Connection, receiver: &mut Receiver) -> Result<(), Close> {
    let mut out = Vec::new();
    loop {
        receiver.read(shard, connection).await?;
        let result = receiver.with_received(|bytes| {
            let result = connection.tls.borrow_mut().handshake(bytes, &mut out);
            let consumed = result.as_ref().map_or(0, |progress| progress.consumed);
            (consumed, result)
        });
        // On an error this is the alert.
        write_all(connection, &out).await?;
        out.clear();
        match result {
            Ok(progress) if progress.done => return Ok(()),
            Ok(_) => {}
            Err(_) => return Err(Close::HandshakeTls),
        }
    }
}

async fn write_all(connection: &Connection, mut bytes: &[u8]) -> Result<(), Close> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| {
            connection.set_writer(cx.waker());
            if let Some(reason) = connection.closed() {
                return Poll::Ready(Err(reason));
            }
            let mut stream = connection.stream.borrow_mut();
            Pin::new(&mut *stream).poll_write(cx, bytes).map_err(|_| connection.closed().unwrap_or(Close::SocketError))
        })
        .await?;
        if written == 0 {
            return Err(Close::SocketError);
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
