//! Records after the handshake, also against rustls' own record layer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::config::websocket_server_config;
use ringpost_protocol::tls::provider::provider;
use ringpost_protocol::tls::{
    KEY_UPDATE_RECORD_BYTES, Opened, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_OVERHEAD_BYTES,
    RecordFault, SEALED_BLOCK_BYTES, TlsChannel, TlsError, client_config, server_config,
};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::{AlertDescription, ServerConfig, ServerConnection, Tls13CipherSuite};
use support::stock::{Stock, against_stock_client, against_stock_server};
use support::{End, carry, credentials, pair};

/// A block with different bytes everywhere.
fn block(seed: u8) -> Vec<u8> {
    (0..BLOCK_BYTES).map(|i| u8::try_from(i % 251).unwrap() ^ seed).collect()
}

#[test]
fn a_block_is_one_record_and_opens_in_place() {
    let (mut server, mut client) = pair();
    let mut record = vec![0; SEALED_BLOCK_BYTES];
    assert_eq!(client.channel.sealed_bytes(BLOCK_BYTES), SEALED_BLOCK_BYTES);
    assert_eq!(client.channel.seal(&block(0), &mut record).unwrap(), SEALED_BLOCK_BYTES);
    assert_eq!(record[..RECORD_HEADER_BYTES], [23, 3, 3, 0x40, 0x11]);
    let opened = server.channel.open(&mut record).unwrap();
    let payload = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + BLOCK_BYTES;
    assert_eq!(opened, Opened::Data { consumed: SEALED_BLOCK_BYTES, payload: payload.clone() });
    assert_eq!(record[payload], block(0));
}

#[test]
fn sealing_in_place_makes_the_same_records() {
    let (mut server, mut client) = pair();
    let mut ahead = Vec::new();
    for seed in 0..3 {
        let mut buffer = vec![0; SEALED_BLOCK_BYTES + 10];
        buffer[RECORD_HEADER_BYTES..][..BLOCK_BYTES].copy_from_slice(&block(seed));
        let length = server.channel.seal_in_place(&mut buffer, BLOCK_BYTES, &mut ahead).unwrap();
        assert_eq!(length, SEALED_BLOCK_BYTES);
        client.incoming.extend_from_slice(&buffer[..length]);
        assert_eq!(client.open_all().unwrap(), block(seed));
        server.send(&block(seed));
        carry(&mut server, &mut client);
        assert_eq!(client.open_all().unwrap(), block(seed));
    }
    assert!(ahead.is_empty());
    let mut small = vec![0; SEALED_BLOCK_BYTES - 1];
    let error = server.channel.seal_in_place(&mut small, BLOCK_BYTES, &mut ahead).unwrap_err();
    let given = SEALED_BLOCK_BYTES - 1;
    assert_eq!(error, TlsError::BufferTooSmall { required: SEALED_BLOCK_BYTES, given });
    let mut large = vec![0; 2 * BLOCK_BYTES];
    assert!(server.channel.seal_in_place(&mut large, BLOCK_BYTES + 1, &mut ahead).is_err());
    // Neither error used up a sequence number.
    server.send(b"next");
    carry(&mut server, &mut client);
    assert_eq!(client.open_all().unwrap(), b"next");
}

#[test]
fn a_buffer_that_is_too_small_changes_nothing() {
    let (mut server, mut client) = pair();
    for length in [0, 1, SEALED_BLOCK_BYTES - 1] {
        let mut out = vec![0; length];
        let error = server.channel.seal(&block(1), &mut out).unwrap_err();
        assert_eq!(error, TlsError::BufferTooSmall { required: SEALED_BLOCK_BYTES, given: length });
    }
    server.send(&block(1));
    carry(&mut server, &mut client);
    assert_eq!(client.open_all().unwrap(), block(1));
    assert_eq!(server.channel.seal(&[], &mut []).unwrap(), 0);
}

#[test]
fn records_are_opened_one_by_one_and_only_when_whole() {
    let (mut server, mut client) = pair();
    for seed in 0..3 {
        client.send(&block(seed));
    }
    carry(&mut client, &mut server);
    let stream = std::mem::take(&mut server.incoming);
    // One and a half records at a time.
    let mut plain = Vec::new();
    for part in stream.chunks(SEALED_BLOCK_BYTES * 3 / 2) {
        server.incoming.extend_from_slice(part);
        while let Opened::Data { consumed, payload } = server.channel.open(&mut server.incoming).unwrap() {
            assert_eq!(consumed, SEALED_BLOCK_BYTES);
            plain.extend_from_slice(&server.incoming[payload]);
            server.incoming.drain(..consumed);
        }
    }
    assert_eq!(plain, [block(0), block(1), block(2)].concat());
    assert!(server.incoming.is_empty());
}

#[test]
fn every_incomplete_length_waits_unchanged() {
    let (mut server, mut client) = pair();
    client.send(b"a small record");
    let record = std::mem::take(&mut client.outgoing);
    for end in 0..record.len() {
        let mut part = record[..end].to_vec();
        assert_eq!(server.channel.open(&mut part).unwrap(), Opened::Incomplete { consumed: 0 });
        assert_eq!(part, record[..end]);
    }
    server.incoming = record;
    assert_eq!(server.open_all().unwrap(), b"a small record");
}

#[test]
fn rustls_reads_and_writes_what_we_do() {
    for (mut ours, mut stock) in [against_stock_client(), against_stock_server(|_| {})] {
        for seed in 0..5 {
            ours.send(&block(seed));
            assert_eq!(stock.take(&std::mem::take(&mut ours.outgoing)).unwrap(), block(seed));
            let sent = stock.send(&block(seed));
            assert_eq!(sent.len(), SEALED_BLOCK_BYTES);
            ours.incoming.extend(sent);
            assert_eq!(ours.open_all().unwrap(), block(seed));
        }
    }
}

#[test]
fn blocks_split_over_small_records_arrive() {
    let (mut ours, mut stock) = against_stock_server(|config| config.max_fragment_size = Some(1_000));
    ours.incoming.extend(stock.send(&block(3)));
    assert!(ours.incoming.len() > SEALED_BLOCK_BYTES + 16 * RECORD_OVERHEAD_BYTES - 100);
    assert_eq!(ours.open_all().unwrap(), block(3));
}

#[test]
fn more_than_a_block_is_several_records() {
    let (mut ours, mut stock) = against_stock_client();
    let long: Vec<u8> = [block(1), block(2), vec![7; 100]].concat();
    ours.send(&long);
    assert_eq!(ours.outgoing.len(), long.len() + 3 * RECORD_OVERHEAD_BYTES);
    assert_eq!(stock.take(&ours.outgoing).unwrap(), long);
}

#[test]
fn key_updates_of_the_peer_are_followed_and_answered() {
    for (mut ours, mut stock) in [against_stock_client(), against_stock_server(|_| {})] {
        for round in 0..4 {
            // With update_requested.
            stock.refresh_keys();
            ours.incoming.extend(stock.send(&block(round)));
            assert_eq!(ours.open_all().unwrap(), block(round));
            // The answer comes once, in front of the next data, which has the new key.
            ours.send(&block(round));
            assert_eq!(ours.outgoing.len(), KEY_UPDATE_RECORD_BYTES + SEALED_BLOCK_BYTES);
            ours.send(b"and without");
            let sent = std::mem::take(&mut ours.outgoing);
            assert_eq!(sent.len(), KEY_UPDATE_RECORD_BYTES + SEALED_BLOCK_BYTES + 11 + RECORD_OVERHEAD_BYTES);
            assert_eq!(stock.take(&sent).unwrap(), [&block(round)[..], b"and without"].concat());
        }
        // The same when sealing in place.
        stock.refresh_keys();
        ours.incoming.extend(stock.send(b"x"));
        ours.open_all().unwrap();
        let (mut ahead, mut record) = (Vec::new(), vec![9; 100]);
        let length = ours.channel.seal_in_place(&mut record, 10, &mut ahead).unwrap();
        assert_eq!(ahead.len(), KEY_UPDATE_RECORD_BYTES);
        assert_eq!(stock.take(&[&ahead, &record[..length]].concat()).unwrap(), [9; 10]);
    }
}

#[test]
fn a_key_update_needs_room_in_front_of_the_data() {
    let (mut ours, mut stock) = against_stock_client();
    stock.refresh_keys();
    ours.incoming.extend(stock.send(b"x"));
    ours.open_all().unwrap();
    let mut out = vec![0; SEALED_BLOCK_BYTES];
    let required = SEALED_BLOCK_BYTES + KEY_UPDATE_RECORD_BYTES;
    let error = ours.channel.seal(&block(0), &mut out).unwrap_err();
    assert_eq!(error, TlsError::BufferTooSmall { required, given: SEALED_BLOCK_BYTES });
    assert_eq!(ours.channel.sealed_bytes(BLOCK_BYTES), required);
    ours.send(&block(0));
    assert_eq!(stock.take(&ours.outgoing).unwrap(), block(0));
}

#[test]
fn keys_are_changed_before_they_are_worn_out() {
    let credentials = credentials(1, 2);
    let mut worn = CryptoProvider::clone(&provider());
    #[allow(irrefutable_let_patterns)]
    let rustls::SupportedCipherSuite::Tls13(suite) = worn.cipher_suites[0] else {
        panic!("a suite of TLS 1.3");
    };
    worn.cipher_suites = vec![rustls::SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon { confidentiality_limit: 5, ..copy(&suite.common) },
        quic: None,
        ..*suite
    })))];
    let usual = server_config(&credentials).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(worn))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&usual.cert_resolver));
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    let (mut server, mut client) =
        support::established(&Arc::new(config), &client_config(credentials.ca_fingerprint).unwrap());
    let mut updates = 0;
    for seed in 0..20 {
        server.send(&block(seed));
        updates += (server.outgoing.len() - SEALED_BLOCK_BYTES) / KEY_UPDATE_RECORD_BYTES;
        carry(&mut server, &mut client);
        assert_eq!(client.open_all().unwrap(), block(seed));
    }
    // Four blocks and the update itself with each key.
    assert_eq!(updates, 4);
}

fn copy(common: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    }
}

#[test]
fn session_tickets_are_ignored_also_in_pieces() {
    for size in [None, Some(32), Some(57)] {
        let (mut ours, mut stock) = against_stock_server(|config| {
            config.send_tls13_tickets = 3;
            config.session_storage = rustls::server::ServerSessionMemoryCache::new(8);
            config.max_fragment_size = size;
        });
        assert!(!ours.incoming.is_empty(), "tickets came");
        ours.incoming.extend(stock.send(b"behind the tickets"));
        assert_eq!(ours.open_all().unwrap(), b"behind the tickets");
    }
}

#[test]
fn data_that_the_router_sends_before_the_end_of_the_handshake() {
    let credentials = credentials(1, 2);
    // One that asks for no certificate: only such a router may.
    let mut config = ServerConfig::clone(&websocket_server_config(&credentials).unwrap());
    config.send_half_rtt_data = true;
    let mut stock = Stock::Server(Box::new(ServerConnection::new(Arc::new(config)).unwrap()));
    let mut ours = End::client(&client_config(credentials.ca_fingerprint).unwrap());
    ours.step().unwrap();
    stock.take(&std::mem::take(&mut ours.outgoing)).unwrap();
    // With its Finished, before the client's.
    ours.incoming = stock.send(b"early");
    ours.step().unwrap();
    assert!(ours.done);
    assert_eq!(ours.open_all().unwrap(), b"early");
    stock.take(&std::mem::take(&mut ours.outgoing)).unwrap();
}

#[test]
fn closing_is_said_and_heard() {
    for (mut ours, mut stock) in [against_stock_client(), against_stock_server(|_| {})] {
        ours.incoming.extend(stock.send(b"last"));
        ours.incoming.extend(stock.close());
        ours.incoming.extend_from_slice(b"bytes behind the end are ignored");
        let Opened::Data { consumed, .. } = ours.channel.open(&mut ours.incoming).unwrap() else {
            panic!("data first");
        };
        ours.incoming.drain(..consumed);
        let consumed = ours.incoming.len();
        assert_eq!(ours.channel.open(&mut ours.incoming).unwrap(), Opened::Closed { consumed });
        assert_eq!(ours.channel.open(&mut []).unwrap(), Opened::Closed { consumed: 0 });
        // The other direction is still open.
        ours.send(b"answer");
        ours.channel.close_notify(&mut ours.outgoing).unwrap();
        let sent = ours.outgoing.len();
        ours.channel.close_notify(&mut ours.outgoing).unwrap();
        assert_eq!(ours.outgoing.len(), sent, "once");
        assert_eq!(ours.channel.seal(b"x", &mut [0; 100]), Err(TlsError::Ended));
        assert_eq!(ours.channel.open(&mut []).unwrap(), Opened::Closed { consumed: 0 });
        assert_eq!(stock.take(&ours.outgoing).unwrap(), b"answer");
        if let Stock::Client(stock) = &mut stock {
            assert!(stock.process_new_packets().unwrap().peer_has_closed());
        }
    }
}

/// What our side says about `record`, and what rustls then hears.
fn fault(ours: &mut End, stock: &mut Stock, mut record: Vec<u8>) -> (TlsError, AlertDescription) {
    let error = ours.channel.open(&mut record).unwrap_err();
    assert_eq!(ours.channel.open(&mut record), Err(TlsError::Ended));
    assert_eq!(ours.channel.seal(b"x", &mut [0; 100]), Err(TlsError::Ended));
    let mut alert = Vec::new();
    ours.channel.close_notify(&mut alert).unwrap();
    match stock.take(&alert) {
        Err(rustls::Error::AlertReceived(alert)) => (error, alert),
        other => panic!("an alert, not {other:?}"),
    }
}

#[test]
fn wrong_records_end_the_connection_with_their_alerts() {
    let record_overflow = [23, 3, 3, 0x41, 0x01];
    let cases: [(RecordFault, AlertDescription, &[u8]); 5] = [
        (
            RecordFault::BadRecordMac,
            AlertDescription::BadRecordMac,
            &[23, 3, 3, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
        ),
        (RecordFault::BadRecordMac, AlertDescription::BadRecordMac, &[23, 3, 3, 0, 0]),
        (RecordFault::RecordOverflow, AlertDescription::RecordOverflow, &record_overflow),
        // A plain alert, a plain change_cipher_spec.
        (RecordFault::UnexpectedMessage, AlertDescription::UnexpectedMessage, &[21, 3, 3, 0, 2, 2, 40]),
        (RecordFault::UnexpectedMessage, AlertDescription::UnexpectedMessage, &[20, 3, 3, 0, 1, 1]),
    ];
    for (expected, alert, record) in cases {
        let (mut ours, mut stock) = against_stock_client();
        assert_eq!(fault(&mut ours, &mut stock, record.to_vec()), (TlsError::Record(expected), alert));
    }
    // A valid record twice, with a changed byte, and behind a lost one.
    let (mut ours, mut stock) = against_stock_client();
    let sent = stock.send(b"once");
    ours.incoming.extend_from_slice(&sent);
    ours.open_all().unwrap();
    let mac = (TlsError::Record(RecordFault::BadRecordMac), AlertDescription::BadRecordMac);
    assert_eq!(fault(&mut ours, &mut stock, sent), mac);
    for index in 0..30 {
        let (mut ours, mut stock) = against_stock_client();
        let mut sent = stock.send(b"four bytes");
        let index = index % sent.len();
        // Another length makes it incomplete or leaves a rest; the type is checked before.
        if matches!(index, 0 | 3 | 4) {
            continue;
        }
        sent[index] ^= 0x80;
        assert_eq!(fault(&mut ours, &mut stock, sent), mac, "byte {index}");
    }
    let (mut ours, mut stock) = against_stock_client();
    stock.send(b"lost");
    let behind = stock.send(b"behind");
    assert_eq!(fault(&mut ours, &mut stock, behind), mac);
}

#[test]
fn a_fatal_alert_is_an_error_and_gets_no_answer() {
    let (mut server, mut client) = pair();
    let mut garbage = vec![23, 3, 3, 0, 20];
    garbage.extend_from_slice(&[1; 20]);
    client.channel.open(&mut garbage).unwrap_err();
    client.channel.close_notify(&mut client.outgoing).unwrap();
    carry(&mut client, &mut server);
    assert_eq!(server.open_all(), Err(TlsError::Alert(AlertDescription::BadRecordMac)));
    assert_eq!(server.open_all(), Err(TlsError::Ended));
    server.channel.close_notify(&mut server.outgoing).unwrap();
    assert!(server.outgoing.is_empty());
}

#[test]
fn many_key_updates_without_data_are_refused() {
    let (mut ours, mut stock) = against_stock_client();
    let mut updates = Vec::new();
    for _ in 0..32 {
        stock.refresh_keys();
        updates.extend(stock.send(&[]));
    }
    ours.incoming.extend_from_slice(&updates);
    assert_eq!(ours.open_all().unwrap(), b"");
    ours.incoming.extend(stock.send(b"data starts the count again"));
    ours.open_all().unwrap();
    for _ in 0..33 {
        stock.refresh_keys();
        ours.incoming.extend(stock.send(&[]));
    }
    assert_eq!(ours.open_all(), Err(TlsError::Record(RecordFault::TooManyEmptyRecords)));
}

#[test]
fn a_channel_that_is_closed_during_the_handshake_stays_closed() {
    let credentials = credentials(1, 2);
    let mut channel = TlsChannel::server(server_config(&credentials).unwrap()).unwrap();
    let mut out = Vec::new();
    channel.close_notify(&mut out).unwrap();
    assert!(out.is_empty());
    assert_eq!(channel.handshake(&mut [], &mut out), Err(TlsError::Ended));
    assert_eq!(channel.open(&mut []), Err(TlsError::Ended));
    assert!(!channel.is_established());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_after_the_handshake_is_never_data(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        as_record: bool,
    ) {
        let (mut server, mut client) = pair();
        let mut garbage = bytes;
        if as_record && garbage.len() > 5 {
            let length = u16::try_from(garbage.len() - 5).unwrap().to_be_bytes();
            garbage[..5].copy_from_slice(&[23, 3, 3, length[0], length[1]]);
        }
        for end in [&mut server, &mut client] {
            end.incoming.clone_from(&garbage);
            if let Ok(plain) = end.open_all() {
                prop_assert!(plain.is_empty());
            }
        }
    }

    #[test]
    fn any_sizes_go_through(sizes in proptest::collection::vec(1_usize..40_000, 1..4), piece in 1_usize..20_000) {
        let (mut server, mut client) = pair();
        let mut sent = Vec::new();
        for (index, size) in sizes.into_iter().enumerate() {
            let data = vec![u8::try_from(index).unwrap(); size];
            server.send(&data);
            sent.extend(data);
        }
        let mut received = Vec::new();
        for part in server.outgoing.chunks(piece) {
            client.incoming.extend_from_slice(part);
            received.extend(client.open_all().unwrap());
            prop_assert!(client.incoming.len() < RECORD_BYTES_MAX);
        }
        prop_assert_eq!(received, sent);
    }
}
