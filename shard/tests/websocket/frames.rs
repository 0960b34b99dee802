//! Frames that are wrong, late or endless.

use std::time::Duration;

use ringpost_protocol::command::Command;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_shard::StopMode;
use tungstenite::Message;

use crate::common::{Client, Ended, Options, Queue, TestRouter, Web};
use crate::{beside_healthy, router};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame with this first byte, in the shortest form of its length.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => bytes.push(0x80 | u8::try_from(length).unwrap()),
        Ok(length) => {
            bytes.push(0x80 + 126);
            bytes.extend(length.to_be_bytes());
        }
        Err(_) => {
            bytes.push(0x80 + 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A PING of SMP, as a block.
fn block(client: &mut Client) -> Vec<u8> {
    let ping = client.prepare(None, &[], &Command::Ping);
    client.blocks(&[ping]).remove(0).to_vec()
}

#[track_caller]
fn assert_closed_with(client: &mut Client, status: u16) {
    assert_eq!(client.read_to_close(), []);
    assert_eq!(client.tls.closed_with, Some(status));
}

#[test]
fn broken_frames_are_told_and_counted() {
    beside_healthy(|router, _| {
        let whole = vec![7; BLOCK_BYTES];
        let mut unmasked = vec![0x82, 126, 0x40, 0];
        unmasked.extend(&whole);
        let cases: &[(Vec<u8>, u16)] = &[
            (frame(0x81, b"hello"), 1003),
            (frame(0x01, b""), 1003),
            (frame(0x82, &whole[1..]), 1008),
            (frame(0x82, b""), 1008),
            (frame(0x82, &vec![7; BLOCK_BYTES + 1]), 1009),
            (frame(0x82, &vec![7; 100_000])[..14].to_vec(), 1009),
            ([frame(0x02, &whole), frame(0x80, b"x")].concat(), 1009),
            ([frame(0x02, b"x"), frame(0x80, b"x")].concat(), 1008),
            (unmasked, 1002),
            (frame(0xc2, &whole), 1002),
            (frame(0x83, &whole), 1002),
            (frame(0x8b, b""), 1002),
            (frame(0x80, &whole), 1002),
            ([frame(0x02, b"x"), frame(0x82, &whole)].concat(), 1002),
            (frame(0x09, b"ping"), 1002),
            (frame(0x89, &[7; 126]), 1002),
            (frame(0x88, &[3]), 1002),
            (frame(0x88, &1005_u16.to_be_bytes()), 1002),
            ([frame(0x02, b"x"), frame(0x00, b"").repeat(600)].concat(), 1002),
        ];
        let before = router.counters();
        for (bytes, status) in cases {
            let mut client = Client::web(router);
            client.tls.write_plain(bytes).unwrap();
            assert_closed_with(&mut client, *status);
        }
        router.expect(&before, &[("closed_bad_frame", cases.len() as u64)]);
    });
}

/// What was right before the wrong frame is still answered.
#[test]
fn what_came_before_a_broken_frame_is_answered() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let mut client = Client::web(router);
        let bytes = [frame(0x82, &block(&mut client)), frame(0x81, b"text")].concat();
        client.tls.write_plain(&bytes).unwrap();
        assert_eq!(client.read_to_close().len(), 1);
        assert_eq!(client.tls.closed_with, Some(1003));
        router.expect(&before, &[("closed_bad_frame", 1)]);
    });
}

#[test]
fn the_same_before_there_is_a_session() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let mut tls = Web::browser(router).connect(None).unwrap();
        assert_eq!(tls.read().unwrap().len(), BLOCK_BYTES);
        tls.write_plain(&frame(0x81, b"hello")).unwrap();
        assert_eq!(tls.read(), Err(Ended::Closed));
        assert_eq!(tls.closed_with, Some(1003));
        // A good frame with a hello for another router.
        let mut tls = Web::browser(router).connect(None).unwrap();
        tls.read().unwrap();
        tls.write(&[0; BLOCK_BYTES]).unwrap();
        assert_eq!(tls.read(), Err(Ended::Closed));
        // A client that goes before its hello, and says so.
        let mut tls = Web::browser(router).connect(None).unwrap();
        tls.write_message(Message::Close(None)).unwrap();
        tls.read().unwrap();
        assert_eq!(tls.read(), Err(Ended::Closed));
        assert_eq!(tls.closed_with, Some(1005));
        router.expect(
            &before,
            &[("closed_bad_frame", 1), ("handshakes_failed_parse", 1), ("closed_by_peer", 1)],
        );
    });
}

#[test]
fn a_block_that_does_not_open_ends_the_session() {
    beside_healthy(|router, _| {
        let before = router.counters();
        let mut client = Client::web(router);
        client.tls.write(&[7; BLOCK_BYTES]).unwrap();
        assert_eq!(client.read_to_close(), []);
        router.expect(&before, &[("closed_bad_block", 1)]);
    });
}

#[test]
fn messages_may_be_split_and_joined() {
    beside_healthy(|router, _| {
        let mut client = Client::web(router);
        for piece_bytes in [100, 1_000, 16_383] {
            let block = block(&mut client);
            let mut pieces = block.chunks(piece_bytes);
            let mut bytes = frame(0x02, pieces.next().unwrap());
            for piece in pieces {
                bytes.extend(frame(0x89, b"between"));
                bytes.extend(frame(0x00, piece));
            }
            bytes.extend(frame(0x80, b""));
            client.tls.write_plain(&bytes).unwrap();
            client.receive();
            assert_eq!(client.tls.pongs.pop().unwrap(), b"between");
        }
        // Three messages whose frames lie anyhow in records of these sizes.
        for record_bytes in [200, 5_000, 16_384] {
            let bytes: Vec<u8> = (0..3).flat_map(|_| frame(0x82, &block(&mut client))).collect();
            for part in bytes.chunks(record_bytes) {
                client.tls.write_plain(part).unwrap();
            }
            for _ in 0..3 {
                client.receive();
            }
        }
    });
}

/// Frames that were begun must be finished in time, wherever they stop: like blocks.
#[test]
fn frames_that_stop_in_the_middle_are_given_up() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut clients: Vec<Client> = (0..5).map(|_| Client::web(router)).collect();
        let whole = frame(0x82, &vec![7; BLOCK_BYTES]);
        for (client, end) in clients.iter_mut().zip([1, 5, 8, 10_000, whole.len() - 1]) {
            client.tls.write_plain(&whole[..end]).unwrap();
        }
        // Between the frames of a message, and in a ping.
        let mut between = Client::web(router);
        between.tls.write_plain(&frame(0x02, b"x")).unwrap();
        let mut ping = Client::web(router);
        ping.tls.write_plain(&frame(0x89, b"ping")[..8]).unwrap();
        clients.extend([between, ping]);
        healthy.goes_on();
        for client in &mut clients {
            assert_eq!(client.read_to_close(), []);
        }
        router.expect(&before, &[("closed_block_timeout", 7)]);
    });
}

#[test]
fn an_idle_session_stays() {
    beside_healthy(|router, _| {
        let mut client = Client::web(router);
        // Longer than the time for a block, with and without pings.
        std::thread::sleep(Duration::from_millis(1_800));
        client.ping();
        for _ in 0..9 {
            client.tls.write_message(Message::Ping(b"x".to_vec().into())).unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        client.ping();
        assert_eq!(client.tls.pongs.len(), 9);
        drop(client);
        router.wait_for("connections", 2);
    });
}

/// Whoever pings without end and reads no pong holds up nobody, and costs no memory.
#[test]
fn a_flood_of_pings_does_not_hold_up_others() {
    beside_healthy(|router, healthy| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = Client::web(router);
                    client.tls.socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
                    let pings = frame(0x89, b"").repeat(2_000);
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        if client.tls.write_plain(&pings).is_err() {
                            break;
                        }
                    }
                });
            }
            for _ in 0..20 {
                healthy.goes_on();
            }
            assert!(router.counter("arena_lent") < 100);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        router.wait_for("connections", 2);
    });
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let options = Options {
            web: Some(Web::browser(router)),
            receive_buffer_bytes: Some(4 << 10),
            ..Options::default()
        };
        let mut deaf = Client::open(router, options).unwrap();
        let mut sender = Client::connect(router);
        for _ in 0..400 {
            if router.counter("closed_write_timeout") > before["closed_write_timeout"] {
                break;
            }
            // Its answers go unread; what it is sent fills the sockets.
            let prepared = deaf.prepare(None, &[], &Command::Ping);
            let pings = vec![prepared; 200];
            deaf.tls.socket.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
            let _ = deaf.try_send(&pings);
            sender.ping();
            healthy.goes_on();
        }
        router.expect(&before, &[("closed_write_timeout", 1)]);
        drop((deaf, sender));
        router.wait_for("connections", 2);
    });
}

/// Half a frame does not hold up the stop, and a queue's messages survive the connection.
#[test]
fn a_stop_does_not_wait_for_a_frame() {
    let router = router(1);
    let mut half = Client::web(&router);
    half.ping();
    half.tls.write_plain(&[0x82]).unwrap();
    let mut recipient = Client::web(&router);
    Queue::subscribed(&mut recipient);
    router.request_stop(StopMode::Graceful);
    assert_eq!(half.read_to_close(), []);
    assert_eq!(half.tls.closed_with, Some(1001));
    assert_eq!(recipient.read_to_close(), []);
    router.join();
}

/// Caps hold for web clients as for others.
#[test]
fn connections_are_capped() {
    let router = TestRouter::with(1, |config| {
        crate::with_web_entries(config);
        config.limits.connections = 3;
    });
    let _clients: Vec<_> = (0..3).map(|_| Client::web(&router)).collect();
    let refused = Web::browser(&router).connect_tls(None).err().unwrap();
    assert_eq!(refused, Ended::Closed);
    assert_eq!(router.counter("refused_connections"), 1);
}
