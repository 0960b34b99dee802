//! Sessions that work.

use std::time::Duration;

use ringpost_protocol::encoding::{Reader, unpad};
use ringpost_protocol::tls::TlsError;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use ringpost_shard::StopMode;
use rustls::{AlertDescription, CipherSuite};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

use crate::common::web::{web_certificate, with_web_entries};
use crate::common::{Client, DEADLINE, Ended, Options, Queue, TestRouter, Web};
use crate::router;

fn open(router: &TestRouter, web: Web) -> Client {
    Client::open(router, Options { web: Some(web), ..Options::default() }).unwrap()
}

/// A message of each size there and back.
fn exchange(recipient: &mut Client, sender: &mut Client) {
    let mut queue = Queue::subscribed(recipient);
    recipient.secure_by_recipient(&mut queue);
    for size in [0, 100, 11_000, 16_000] {
        let body = vec![u8::try_from(size % 251).unwrap(); size];
        sender.send_message(&queue, &body).assert_ok();
        let message = recipient.message(&queue);
        assert_eq!(message.body(), body);
        recipient.ack(&queue, &message.id).assert_ok();
    }
}

#[test]
fn web_and_native_clients_share_a_port() {
    let (_, web_der) = web_certificate();
    for shards in [1, 2] {
        let router = router(shards);
        let browser = Web::browser(&router);
        for alpn in ["", "http/1.1", "smp/1", "h2,http/1.1", "h2,smp/1"] {
            let mut web = open(&router, Web { alpn, ..browser });
            assert_eq!(web.version, SmpVersion::MAX, "{alpn:?}");
            assert_eq!(web.tls.channel.peer_certificates(), std::slice::from_ref(&web_der));
            let mut native = Client::connect(&router);
            assert_eq!(native.tls.channel.peer_certificates(), router.credentials.chain);
            exchange(&mut web, &mut native);
            exchange(&mut native, &mut web);
        }
        // Without ALPN a native client is an old one, here too.
        let mut old = Client::version(&router, 6);
        exchange(&mut old, &mut open(&router, browser));
        let (first, second) = (&mut open(&router, browser), &mut open(&router, browser));
        exchange(first, second);
        assert_eq!(router.counter("websocket_upgrades"), 8);
    }
}

#[test]
fn every_version_goes_over_websockets() {
    let router = router(2);
    for version in 6..=SmpVersion::MAX.0 {
        // With and without a session key, and so block encryption.
        for session_key in [true, false] {
            let web = Some(Web::browser(&router));
            let options = Options { session_key, web, ..Options::version(version) };
            let mut client = Client::open(&router, options).unwrap();
            assert_eq!(client.version, SmpVersion(version));
            client.ping();
        }
    }
}

#[test]
fn session_identifiers_are_as_long_as_the_hash() {
    let router = router(1);
    for (suite, bytes) in [
        (CipherSuite::TLS13_AES_128_GCM_SHA256, 32),
        (CipherSuite::TLS13_AES_256_GCM_SHA384, 48),
        (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, 32),
    ] {
        let mut web = open(&router, Web { suite: Some(suite), ..Web::browser(&router) });
        assert_eq!(web.session_id.as_ref().len(), bytes);
        exchange(&mut web, &mut Client::connect(&router));
    }
}

#[test]
fn other_entries_serve_web_clients_alone() {
    let router = router(2);
    let [_, web_entry, websocket_entry] = router.router().local_addrs() else { panic!("three listeners") };
    let (_, web_der) = web_certificate();
    for sni in [true, false] {
        for alpn in ["", "http/1.1", "smp/1"] {
            let like = Web { sni, alpn, ..Web::browser(&router) };
            let mut web = open(&router, Web { address: *web_entry, ..like });
            assert_eq!(web.tls.channel.peer_certificates(), std::slice::from_ref(&web_der));
            let mut websocket = open(&router, Web { address: *websocket_entry, ..like });
            assert_eq!(websocket.tls.channel.peer_certificates(), router.credentials.chain);
            assert_eq!((web.version, websocket.version), (SmpVersion::MAX, SmpVersion::MAX));
            exchange(&mut web, &mut websocket);
        }
    }
}

#[test]
fn without_a_web_certificate_names_are_ignored() {
    let router = TestRouter::start(1);
    // A native session over TLS with a name.
    let web = Web { alpn: "smp/1", ..Web::browser(&router) };
    let mut tls = web.connect_tls(None).unwrap();
    assert_eq!(tls.channel.peer_certificates(), router.credentials.chain);
    let mut hello = Vec::new();
    while hello.len() < 16_384 {
        hello.extend(tls.read_plain().unwrap());
    }
    assert!(VersionRange::read(&mut Reader::new(unpad(&hello).unwrap())).is_ok());
}

#[test]
fn http_2_alone_is_refused() {
    let router = router(1);
    let web = Web { alpn: "h2", ..Web::browser(&router) };
    let error = web.connect_tls(None).err().unwrap();
    assert_eq!(error, Ended::Tls(TlsError::Alert(AlertDescription::NoApplicationProtocol)));
}

/// What stands behind the signed key of a router's hello, with the chain in it.
fn proof(client: &Client) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
    let mut reader = Reader::new(unpad(&client.hello[..]).unwrap());
    VersionRange::read(&mut reader).unwrap();
    assert_eq!(reader.short().unwrap(), client.session_id.as_ref());
    let chain = reader.list(Reader::large).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    reader.large().unwrap();
    let proof = (!reader.rest().is_empty()).then(|| reader.short().unwrap().to_vec());
    reader.finish().unwrap();
    (chain, proof)
}

#[test]
fn a_challenge_is_signed_by_the_routers_own_key() {
    let with_max = |max| {
        TestRouter::with(1, |config| {
            with_web_entries(config);
            config.versions = VersionRange::new(SmpVersion::V6, SmpVersion(max)).unwrap();
        })
    };
    let challenge = [7; 32];
    let router = with_max(19);
    for suite in [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256] {
        let web = Web { challenge: Some(challenge), suite: Some(suite), ..Web::browser(&router) };
        // Whatever version the client has: it is the router's that counts.
        for version in [6, 19] {
            let options = Options { web: Some(web), ..Options::version(version) };
            let client = Client::open(&router, options).unwrap();
            let (chain, proof) = proof(&client);
            assert!(chain.iter().eq(router.credentials.chain.iter().map(AsRef::as_ref)));
            let signed = [&challenge[..], client.session_id.as_ref()].concat();
            assert!(router.credentials.key.verifying_key().verify(&signed, &proof.unwrap()));
        }
    }
    let browser = Web::browser(&router);
    assert_eq!(proof(&open(&router, browser)).1, None);
    // Native sessions never have it.
    assert_eq!(proof(&Client::connect(&router)).1, None);
    let older = with_max(18);
    let web = Web { challenge: Some(challenge), ..Web::browser(&older) };
    assert_eq!(proof(&open(&older, web)).1, None);
}

#[test]
fn pings_are_answered_beside_blocks() {
    let router = router(1);
    let mut client = Client::web(&router);
    for payload in [&b""[..], b"are you there", &[7; 125]] {
        client.tls.write_message(Message::Ping(payload.to_vec().into())).unwrap();
        client.ping();
        assert_eq!(client.tls.pongs.pop().unwrap(), payload);
    }
    // A pong that nobody asked for is nothing.
    client.tls.write_message(Message::Pong(b"unasked".to_vec().into())).unwrap();
    client.ping();
    assert!(client.tls.pongs.is_empty());
    // Also when nothing else is written: the pong comes, and no block.
    client.tls.write_message(Message::Ping(b"alone".to_vec().into())).unwrap();
    assert!(client.receive_soon().is_none());
    assert_eq!(client.tls.pongs, [b"alone"]);
}

#[test]
fn a_client_that_closes_is_answered() {
    let router = router(2);
    for (code, answer) in [(Some(1000), 1000), (Some(4321), 4321), (None, 1005)] {
        let before = router.counters();
        let mut client = Client::web(&router);
        client.ping();
        let frame = code.map(|code: u16| CloseFrame { code: code.into(), reason: "bye".into() });
        client.tls.write_message(Message::Close(frame)).unwrap();
        assert_eq!(client.read_to_close(), []);
        assert_eq!(client.tls.closed_with, Some(answer));
        router.expect(&before, &[("closed_by_peer", 1)]);
    }
    router.wait_for("connections", 0);
}

#[test]
fn a_stop_is_told() {
    let router = router(2);
    let mut clients: Vec<_> = (0..4).map(|_| Client::web(&router)).collect();
    clients.iter_mut().for_each(Client::ping);
    router.request_stop(StopMode::Graceful);
    for client in &mut clients {
        assert_eq!(client.read_to_close(), []);
        assert_eq!(client.tls.closed_with, Some(1001));
    }
    router.join();
}

#[test]
fn many_messages_and_a_slow_reader() {
    let router = router(2);
    let mut recipient = Client::open(
        &router,
        Options {
            web: Some(Web::browser(&router)),
            receive_buffer_bytes: Some(4 << 10),
            ..Options::default()
        },
    )
    .unwrap();
    let mut sender = Client::web(&router);
    let mut queues: Vec<_> = (0..40).map(|_| Queue::subscribed(&mut recipient)).collect();
    for queue in &mut queues {
        recipient.secure_by_recipient(queue);
        sender.send_message(queue, &[9; 16_000]).assert_ok();
    }
    std::thread::sleep(Duration::from_millis(50));
    for queue in &queues {
        let message = recipient.message(queue);
        assert_eq!(message.body(), [9; 16_000]);
        recipient.ack(queue, &message.id).assert_ok();
    }
    recipient.tls.set_read_timeout(DEADLINE);
    recipient.ping();
}
