//! TLS handshakes in pieces, cut short, changed and replaced by garbage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use ringpost_protocol::tls::{Culprit, Opened, TlsError, client_config, server_config};
use rustls::{ClientConfig, ServerConfig};
use support::{End, carry, credentials, established};

fn carry_in_pieces(from: &mut End, to: &mut End, piece: usize) {
    for part in std::mem::take(&mut from.outgoing).chunks(piece) {
        to.incoming.extend_from_slice(part);
        to.step().unwrap();
    }
}

#[test]
fn handshakes_arrive_in_pieces_of_every_size() {
    let credentials = credentials(1, 2);
    let server_config = server_config(&credentials).unwrap();
    let client_config = client_config(credentials.ca_fingerprint).unwrap();
    for piece in (1..40).chain([100, 500, 1000, 5000]) {
        let (mut server, mut client) = (End::server(&server_config), End::client(&client_config));
        client.step().unwrap();
        for _ in 0..2 {
            carry_in_pieces(&mut client, &mut server, piece);
            carry_in_pieces(&mut server, &mut client, piece);
        }
        assert!(server.done && client.done, "pieces of {piece} bytes");
        assert_eq!(server.channel.session_id(), client.channel.session_id());
    }
}

#[test]
fn handshake_messages_spread_over_small_records() {
    let credentials = credentials(1, 2);
    let mut server = ServerConfig::clone(&server_config(&credentials).unwrap());
    let mut client = ClientConfig::clone(&client_config(credentials.ca_fingerprint).unwrap());
    for size in [32, 33, 100, 255] {
        server.max_fragment_size = Some(size);
        client.max_fragment_size = Some(size);
        let (server, client) = established(&Arc::new(server.clone()), &Arc::new(client.clone()));
        assert_eq!(server.channel.session_id(), client.channel.session_id());
    }
}

#[test]
fn data_behind_the_handshake_is_left_for_open() {
    let credentials = credentials(1, 2);
    let (mut server, mut client) = (
        End::server(&server_config(&credentials).unwrap()),
        End::client(&client_config(credentials.ca_fingerprint).unwrap()),
    );
    client.step().unwrap();
    carry(&mut client, &mut server);
    server.step().unwrap();
    assert_eq!(server.channel.open(&mut [0; 8]), Err(TlsError::NotEstablished));
    assert_eq!(server.channel.seal(b"x", &mut [0; 64]), Err(TlsError::NotEstablished));
    carry(&mut server, &mut client);
    client.step().unwrap();
    assert!(client.done);
    client.send(b"right behind");
    carry(&mut client, &mut server);
    server.step().unwrap();
    assert!(server.done);
    assert!(matches!(server.channel.open(&mut server.incoming).unwrap(), Opened::Data { .. }));
    // Handshaking goes on to say that it is done.
    let again = server.channel.handshake(&mut [1, 2, 3], &mut Vec::new()).unwrap();
    assert_eq!((again.consumed, again.done), (0, true));
}

#[test]
fn fewer_bytes_than_before_are_an_error_of_the_caller() {
    let credentials = credentials(1, 2);
    let mut config = ClientConfig::clone(&client_config(credentials.ca_fingerprint).unwrap());
    config.max_fragment_size = Some(64);
    let mut client = End::client(&Arc::new(config));
    client.step().unwrap();
    let mut server = End::server(&server_config(&credentials).unwrap());
    // The first record is part of a message, so it has to be kept.
    server.incoming.extend_from_slice(&client.outgoing[..64 + 5]);
    server.step().unwrap();
    assert!(!server.incoming.is_empty());
    server.incoming.truncate(3);
    assert!(matches!(server.step(), Err(TlsError::BufferTooSmall { .. })));
}

#[test]
fn another_protocol_is_refused_at_once() {
    for text in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-OpenSSH\r\n", &[0; 5], &[22, 3, 1, 0xff, 0xff]] {
        let mut server = End::server(&server_config(&credentials(1, 2)).unwrap());
        server.incoming.extend_from_slice(text);
        let error = server.step().unwrap_err();
        assert_eq!(error.culprit(), Culprit::Peer, "{error:?}");
        assert_eq!(server.outgoing, [21, 3, 3, 0, 2, 2, 50], "decode_error");
    }
}

#[test]
fn a_truncated_flight_waits() {
    let credentials = credentials(1, 2);
    let server_config = server_config(&credentials).unwrap();
    let mut client = End::client(&client_config(credentials.ca_fingerprint).unwrap());
    client.step().unwrap();
    for end in 0..client.outgoing.len() {
        let mut server = End::server(&server_config);
        server.incoming.extend_from_slice(&client.outgoing[..end]);
        server.step().unwrap();
        assert!(!server.done && server.outgoing.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), as_handshake: bool) {
        let credentials = credentials(1, 2);
        let mut garbage = bytes;
        if as_handshake && garbage.len() > 5 {
            let length = u16::try_from(garbage.len() - 5).unwrap().to_be_bytes();
            garbage[..5].copy_from_slice(&[22, 3, 3, length[0], length[1]]);
        }
        let mut server = End::server(&server_config(&credentials).unwrap());
        server.incoming.clone_from(&garbage);
        let _ = server.step();
        prop_assert!(!server.done);
        let mut client = End::client(&client_config(credentials.ca_fingerprint).unwrap());
        client.step().unwrap();
        client.incoming.clone_from(&garbage);
        let _ = client.step();
        prop_assert!(!client.done);
    }

    #[test]
    fn a_changed_byte_in_any_flight_ends_the_handshake(flight in 0_usize..3, position: prop::sample::Index, bit in 0_u8..8) {
        let credentials = credentials(1, 2);
        let (mut server, mut client) = (
            End::server(&server_config(&credentials).unwrap()),
            End::client(&client_config(credentials.ca_fingerprint).unwrap()),
        );
        let mut result = Ok(());
        for number in 0..3 {
            let (from, to) = if number == 1 { (&mut server, &mut client) } else { (&mut client, &mut server) };
            result = result.and_then(|()| from.step());
            if number == flight && !from.outgoing.is_empty() {
                let index = position.index(from.outgoing.len());
                from.outgoing[index] ^= 1 << bit;
            }
            carry(from, to);
        }
        result = result.and_then(|()| server.step());
        // A changed byte that the transcript does not cover (record versions) may pass, a changed length may leave
        // a side waiting; but never do both sides agree on different sessions.
        if result.is_ok() && server.done {
            prop_assert_eq!(server.channel.session_id(), client.channel.session_id());
        }
    }
}
