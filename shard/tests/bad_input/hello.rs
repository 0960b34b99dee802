//! Wrong hello blocks, after a right TLS handshake.

use std::sync::Arc;

use ringpost_protocol::encoding::{Sink, pad};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::ALPN_SMP;
use ringpost_protocol::tls::config::client_config_with_alpn;
use ringpost_protocol::version::{SmpVersion, VersionRange};

use crate::common::tls::read_to_close;
use crate::common::{Client, Ended, TestRouter, TlsStream};
use crate::{beside_healthy, short_limits};

/// Connects with TLS and reads the router's hello.
fn connect(router: &TestRouter, alpn: bool) -> TlsStream {
    let alpn: &[&[u8]] = if alpn { &[ALPN_SMP] } else { &[] };
    let config = client_config_with_alpn(router.credentials.ca_fingerprint, alpn).unwrap();
    let mut tls = TlsStream::connect(router.address, config, None).unwrap();
    let mut read = 0;
    while read < BLOCK_BYTES {
        read += tls.read().unwrap().len();
    }
    assert_eq!(read, BLOCK_BYTES);
    tls
}

/// A client hello without a key, and what follows the key.
fn hello(version: u16, identity: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    content.put_u16(version);
    content.put_short(identity);
    content.put(rest);
    content
}

fn padded(content: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    pad(content, BLOCK_BYTES, &mut block).unwrap();
    block
}

/// The router closes without an answer.
fn assert_refused(mut tls: TlsStream, block: &[u8]) {
    tls.write(block).unwrap();
    match tls.read() {
        Err(Ended::Closed) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hello_for_another_identity_is_refused() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let own = router.credentials.ca_fingerprint;
        let mut other = own;
        other[31] ^= 1;
        for identity in [&other[..], &[], &own[..31], &[0; 255]] {
            assert_refused(connect(router, true), &padded(&hello(18, identity, b"F0")));
        }
        healthy.goes_on();
        router.expect(&before, &[("handshakes_failed_identity", 4)]);
    });
}

#[test]
fn versions_that_are_not_offered_are_refused() {
    let newest = SmpVersion::MAX.0;
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let identity = router.credentials.ca_fingerprint;
        for version in [0, 1, 5, newest + 1, u16::MAX] {
            assert_refused(connect(router, true), &padded(&hello(version, &identity, b"F0")));
        }
        // Without ALPN only version 6 is.
        for version in [7, 18, newest] {
            assert_refused(connect(router, false), &padded(&hello(version, &identity, b"F0")));
        }
        healthy.goes_on();
        router.expect(&before, &[("handshakes_failed_version", 8)]);
    });
}

#[test]
fn garbage_instead_of_a_hello_is_refused() {
    let mut wrong_length = vec![b'#'; BLOCK_BYTES];
    wrong_length[..2].copy_from_slice(&16_383_u16.to_be_bytes());
    beside_healthy(|router, healthy| {
        let identity = router.credentials.ca_fingerprint;
        let blocks = [
            // No content, a length beyond the block.
            vec![0; BLOCK_BYTES],
            vec![0xff; BLOCK_BYTES],
            wrong_length.clone(),
            // Cut off: in the version, in the identity, before the flags.
            padded(&[0]),
            padded(&[0, 18, 32, 1]),
            padded(&hello(18, &identity, b"")),
            padded(&hello(18, &identity, b"F")),
            // Flags that are none; a service hello that is cut off.
            padded(&hello(18, &identity, b"x0")),
            padded(&hello(18, &identity, b"Fx")),
            padded(&hello(18, &identity, b"F1")),
            // A key of another algorithm is no key, and then no flag.
            padded(&hello(18, &identity, b"\x2c\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00F0")),
        ];
        let before = router.counters();
        for block in &blocks {
            assert_refused(connect(router, true), block);
        }
        healthy.goes_on();
        router.expect(&before, &[("handshakes_failed_parse", blocks.len().try_into().unwrap())]);
    });
}

#[test]
fn a_hello_that_does_not_come_ends_at_the_limit() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let block = padded(&hello(18, &router.credentials.ca_fingerprint, b"F0"));
        let mut silent = connect(router, true);
        let mut half = connect(router, true);
        half.write(&block[..BLOCK_BYTES / 2]).unwrap();
        let mut half_record = connect(router, true);
        let records = half_record.seal(&block);
        half_record.write_bytes(&records[..records.len() - 1]).unwrap();
        // TLS says nothing of the hello, but it cannot be read for want of its block.
        for tls in [&mut silent, &mut half, &mut half_record] {
            assert_eq!(tls.read(), Err(Ended::Closed));
        }
        healthy.goes_on();
        router.expect(&before, &[("closed_handshake_timeout", 3)]);
    });
}

/// A changed bit in a record of the hello, and a client that closes instead of sending it.
#[test]
fn a_changed_record_is_refused() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let block = padded(&hello(18, &router.credentials.ca_fingerprint, b"F0"));
        let mut changed = connect(router, true);
        let mut records = changed.seal(&block);
        records[100] ^= 1;
        changed.write_bytes(&records).unwrap();
        assert_eq!(changed.read(), Err(Ended::Closed));
        router.expect(&before, &[("closed_bad_record", 1)]);

        let mut leaving = connect(router, true);
        let mut alert = Vec::new();
        leaving.channel.close_notify(&mut alert).unwrap();
        leaving.write_bytes(&alert).unwrap();
        assert!(read_to_close(&mut leaving.socket).is_empty());
        healthy.goes_on();
        router.expect(&before, &[("closed_bad_record", 1), ("closed_by_peer", 1)]);
    });
}

/// A router may be told to offer less than it could.
#[test]
fn a_router_offers_the_configured_versions_only() {
    let router = TestRouter::with(1, |config| {
        config.limits = short_limits();
        config.versions = VersionRange::new(SmpVersion(8), SmpVersion(12)).unwrap();
    });
    let before = router.counters();
    let identity = router.credentials.ca_fingerprint;
    assert_refused(connect(&router, true), &padded(&hello(13, &identity, b"F0")));
    assert_refused(connect(&router, true), &padded(&hello(7, &identity, b"F0")));
    // Nothing that such a client could take: it is let go before any hello.
    let config = client_config_with_alpn(identity, &[]).unwrap();
    let mut tls = TlsStream::connect(router.address, Arc::clone(&config), None).unwrap();
    assert_eq!(tls.read(), Err(Ended::Closed));
    router.expect(&before, &[("handshakes_failed_version", 3)]);
    Client::version(&router, 12).ping();
    let mut newest = Client::connect(&router);
    assert_eq!(newest.version, SmpVersion(12));
    newest.ping();
}
