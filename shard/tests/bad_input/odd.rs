//! What TLS and the protocol allow, though clients rarely do it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use ringpost_protocol::command::Command;
use ringpost_protocol::encoding::{Sink, pad};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::no_server_name;
use ringpost_protocol::transmission::{Format, parse_content};
use ringpost_protocol::version::SmpVersion;
use rustls::{ClientConnection, StreamOwned};

use crate::beside_healthy;
use crate::common::tls::connect;
use crate::common::{Client, Prepared, Queue};
use crate::tls::config_with;

/// Blocks of records of any size, and any number of them in one write.
#[test]
fn blocks_may_be_cut_into_records_of_any_size() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut client = Client::connect(router);
        let queue = Queue::only_created(&mut client);
        for (record_bytes, written_bytes) in [
            (16_384, 7),
            (16_383, 16_405),
            (10_000, 50_000),
            (1_000, 100_000),
            (16_384, 500_000),
            (37, 1_000_000),
        ] {
            let pings: Vec<Prepared> = (0..4)
                .flat_map(|n| {
                    // Each block is filled, so that there are as many as messages.
                    let message = client.prepare_message(&queue, &vec![n; 16_000]);
                    [client.prepare(None, &[], &Command::Ping), message]
                })
                .collect();
            let plain: Vec<u8> = client.blocks(&pings).iter().flat_map(|block| block.to_vec()).collect();
            assert_eq!(plain.len(), 4 * BLOCK_BYTES);
            let records: Vec<u8> =
                plain.chunks(record_bytes).flat_map(|part| client.tls.seal(part)).collect();
            for part in records.chunks(written_bytes.max(records.len() / 200)) {
                client.tls.write_bytes(part).unwrap();
            }
            for sent in &pings {
                let received = client.try_response(&sent.corr_id).unwrap();
                assert!(matches!(received.response(), Response::Pong | Response::Ok), "{received:?}");
            }
        }
        drop(client);
        healthy.goes_on();
        router.expect(&before, &[("closed_by_peer", 1)]);
    });
}

/// A session of version 10 over rustls' own connections.
struct Plain {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Plain {
    fn read_block(&mut self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_BYTES];
        self.stream.read_exact(&mut block).unwrap();
        block
    }

    fn write_block(&mut self, content: &[u8]) {
        let mut block = Vec::new();
        pad(content, BLOCK_BYTES, &mut block).unwrap();
        self.stream.write_all(&block).unwrap();
        self.stream.flush().unwrap();
    }

    fn ping(&mut self) {
        let mut ping = Vec::new();
        ping.put_short(&[]);
        ping.put_short(b"corr");
        ping.put_short(&[]);
        ping.put(b"PING");
        let length = u16::try_from(ping.len()).unwrap().to_be_bytes();
        self.write_block(&[&[1][..], &length, &ping].concat());
        let block = self.read_block();
        let length = usize::from(u16::from_be_bytes([block[0], block[1]]));
        let format = Format::of_session(SmpVersion(10));
        let pong = parse_content(&block[2..2 + length], format).next().unwrap().unwrap();
        assert_eq!((pong.corr_id, pong.command), (&b"corr"[..], &b"PONG"[..]));
    }
}

/// rustls as the peer, which changes its keys now and then. A key update begins no block, whose time would run.
#[test]
fn keys_may_be_updated_at_any_time() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let config = config_with(rustls::crypto::ring::default_provider());
        let connection = ClientConnection::new(config, no_server_name()).unwrap();
        let mut client = Plain { stream: StreamOwned::new(connection, connect(router.address, None)) };
        client.read_block();
        let mut hello = Vec::new();
        hello.put_u16(10);
        hello.put_short(&router.credentials.ca_fingerprint);
        client.write_block(&hello);
        client.ping();
        for _ in 0..3 {
            client.stream.conn.refresh_traffic_keys().unwrap();
            client.stream.flush().unwrap();
            client.ping();
        }
        client.stream.conn.refresh_traffic_keys().unwrap();
        client.stream.flush().unwrap();
        // Longer than the limit for a block.
        let end = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < end {
            healthy.goes_on();
        }
        client.ping();
        drop(client);
        router.expect(&before, &[("closed_by_peer", 1)]);
    });
}
