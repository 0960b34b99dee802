//! The beginning of a connection: the TLS handshake, then the hello blocks.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_lite::AsyncWrite;
use futures_lite::future::poll_fn;
use ringpost_protocol::crypto::block::BlockCipher;
use ringpost_protocol::handshake::{
    HandshakeFailure, RouterHandshake, RouterHello, RouterSession, offered_versions,
};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::TlsChannel;
use ringpost_protocol::tls::client_hello::{Sni, sni};
use ringpost_protocol::version::VersionRange;
use ringpost_protocol::websocket::http::CHALLENGE_BYTES;

use super::connection::{Close, Connection};
use super::reader::Receiver;
use super::services;
use super::shard::{Scratch, Shard};
use super::tls::Entry;
use super::websocket::{self, seal_block};
use crate::service::{Session, SessionCounts, SessionService};

/// Establishes the session of a connection. What was received behind the hello stays in the receiver.
pub async fn run(shard: &Shard, connection: &Connection, receiver: &mut Receiver) -> Result<(), Close> {
    let is_web = tls(shard, connection, receiver).await?;
    let challenge = if is_web { websocket::upgrade(shard, connection, receiver).await? } else { None };
    let (handshake, rest) =
        poll_fn(|cx| Poll::Ready(say_hello(shard, connection, challenge.as_ref(), cx))).await?;
    write_all(connection, &rest).await?;
    drop(rest);
    let received = receiver.block(shard, connection).await?;
    let block = received.buffer.get(received.at..received.at + BLOCK_BYTES).ok_or(Close::HandshakeParse)?;
    let agreed = handshake.client_hello(block).map_err(reason)?;
    let service = match &agreed.service {
        Some(hello) => Some(services::introduce(shard, connection, hello).await?),
        None => None,
    };
    establish(connection, agreed, service);
    Ok(())
}

/// Writes the router's hello from the shard's memory. What the socket does not take is given back.
fn say_hello(
    shard: &Shard,
    connection: &Connection,
    web_challenge: Option<&[u8; CHALLENGE_BYTES]>,
    cx: &mut Context<'_>,
) -> Result<(RouterHandshake, Vec<u8>), Close> {
    let mut tls = connection.tls.borrow_mut();
    let mut scratch = shard.scratch.borrow_mut();
    let Scratch { small, sealed } = &mut *scratch;
    // Old clients without ALPN know no WebSockets.
    let is_websocket = connection.websocket.get().is_some();
    let offered = if is_websocket { VersionRange::ALL } else { offered_versions(tls.alpn()) };
    let offered = offered.intersect(shard.config.versions).ok_or(Close::HandshakeVersion)?;
    let credentials = &shard.config.credentials;
    let session_key =
        shard.session_keys.borrow_mut().take(&credentials.key, |bytes| shard.fill_secret(bytes));
    let hello = RouterHello {
        offered,
        session_id: tls.session_id().ok_or(Close::HandshakeTls)?,
        credentials,
        session_key,
        web_challenge,
    };
    let handshake = RouterHandshake::start(hello, small).map_err(reason)?;
    let length = seal_block(connection, &mut tls, small, sealed).map_err(|_| Close::HandshakeTls)?;
    let sealed = sealed.get(..length).unwrap_or_default();
    let mut stream = connection.stream.borrow_mut();
    let written = match Pin::new(&mut *stream).poll_write(cx, sealed) {
        Poll::Ready(Ok(written)) => written,
        Poll::Ready(Err(_)) => return Err(connection.closed().unwrap_or(Close::SocketError)),
        Poll::Pending => 0,
    };
    Ok((handshake, sealed.get(written..).unwrap_or_default().to_vec()))
}

fn establish(connection: &Connection, agreed: RouterSession<'_>, service: Option<Box<SessionService>>) {
    if agreed.block_encryption
        && let Some(secret) = &agreed.secret
    {
        let (sealer, opener) = BlockCipher::router(agreed.session_id.as_ref(), secret).split();
        connection.sealer.replace(sealer);
        connection.opener.replace(opener);
    }
    let session = Session {
        conn: connection.conn,
        version: agreed.version,
        session_id: agreed.session_id,
        router_key: agreed.session_private_key,
        forward_key: agreed.secret.as_ref().map(ringpost_protocol::crypto::DhSecret::box_key),
        proxy: agreed.proxy,
        forwarded: false,
        counts: SessionCounts::default(),
        service,
    };
    // Nothing else sets it.
    let _ = connection.session.set(Arc::new(session));
}

fn reason(failure: HandshakeFailure) -> Close {
    match failure {
        HandshakeFailure::Identity => Close::HandshakeIdentity,
        HandshakeFailure::Version => Close::HandshakeVersion,
        _ => Close::HandshakeParse,
    }
}

/// The TLS handshake with a router of which this one is a client.
pub(super) async fn tls_as_client(
    shard: &Shard,
    connection: &Connection,
    receiver: &mut Receiver,
) -> Result<(), Close> {
    let mut first = Vec::new();
    connection.tls.borrow_mut().handshake(&mut [], &mut first).map_err(|_| Close::HandshakeTls)?;
    write_all(connection, &first).await?;
    tls(shard, connection, receiver).await.map(|_| ())
}

/// The TLS handshake. Says whether the client is a web client.
async fn tls(shard: &Shard, connection: &Connection, receiver: &mut Receiver) -> Result<bool, Close> {
    let mut out = Vec::new();
    let mut is_web = match connection.entry {
        Entry::Native => Some(false),
        Entry::Web | Entry::WebSocket => Some(true),
        Entry::Shared => None,
    };
    loop {
        receiver.read(shard, connection).await.map_err(|reason| match reason {
            Close::BadRecord => Close::HandshakeTls,
            other => other,
        })?;
        if is_web.is_none() {
            is_web = match receiver.with_received(|bytes| (0, sni(bytes))) {
                Sni::Incomplete => continue,
                Sni::Unnamed => Some(false),
                Sni::Named => {
                    let web = TlsChannel::server(shard.config.tls.web()).map_err(|_| Close::HandshakeTls)?;
                    connection.tls.replace(web);
                    Some(true)
                }
            };
        }
        let result = receiver.with_received(|bytes| {
            let result = connection.tls.borrow_mut().handshake(bytes, &mut out);
            let consumed = result.as_ref().map_or(0, |progress| progress.consumed);
            (consumed, result)
        });
        // On an error this is the alert.
        write_all(connection, &out).await?;
        out.clear();
        match result {
            Ok(progress) if progress.done => return Ok(is_web == Some(true)),
            Ok(_) => {}
            Err(error) => {
                if shard.config.log_tls_errors && !connection.is_relay {
                    tracing::warn!("a TLS handshake with a client failed: {error}");
                }
                return Err(Close::HandshakeTls);
            }
        }
    }
}

pub(super) async fn write_all(connection: &Connection, mut bytes: &[u8]) -> Result<(), Close> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| {
            connection.set_writer(cx.waker());
            if let Some(reason) = connection.closed() {
                return Poll::Ready(Err(reason));
            }
            let mut stream = connection.stream.borrow_mut();
            Pin::new(&mut *stream)
                .poll_write(cx, bytes)
                .map_err(|_| connection.closed().unwrap_or(Close::SocketError))
        })
        .await?;
        if written == 0 {
            return Err(Close::SocketError);
        }
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
