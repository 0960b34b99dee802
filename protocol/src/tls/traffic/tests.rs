//! Records that no well-behaved peer sends.
#![allow(clippy::unwrap_used)]

use super::super::{TlsChannel, client_config, no_server_name, server_config};
use super::*;
use crate::certificate::{CertificateAuthority, RouterCredentials};

/// 1 January 2020: valid since then.
const MADE_SECS: i64 = 1_577_836_800;

/// Router and client, both established.
fn pair() -> (TlsChannel, TlsChannel) {
    let authority = CertificateAuthority::generate(&[1; 32], MADE_SECS).unwrap();
    let issued = authority.issue("localhost", &[2; 32], MADE_SECS).unwrap();
    let (ca, server) = (authority.certificate_pem(), &issued.certificate_pem);
    let credentials = RouterCredentials::from_pem(&ca, server, &issued.key_pem, MADE_SECS).unwrap();
    let mut router = TlsChannel::server(server_config(&credentials).unwrap()).unwrap();
    let config = client_config(credentials.ca_fingerprint).unwrap();
    let mut client = TlsChannel::client(config, no_server_name()).unwrap();
    let (mut to_router, mut to_client) = (Vec::new(), Vec::new());
    client.handshake(&mut [], &mut to_router).unwrap();
    router.handshake(&mut to_router, &mut to_client).unwrap();
    to_router.clear();
    assert!(client.handshake(&mut to_client, &mut to_router).unwrap().done);
    assert!(router.handshake(&mut to_router, &mut Vec::new()).unwrap().done);
    (router, client)
}

/// A record of any content, as the channel's peer would get it.
fn record(from: &mut TlsChannel, content_type: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0; content.len() + RECORD_OVERHEAD_BYTES];
    from.traffic().sending.seal(content_type, content, &mut out).unwrap();
    out
}

fn incomplete(consumed: usize) -> Opened {
    Opened::Incomplete { consumed }
}

#[test]
fn wrong_messages_after_the_handshake() {
    use RecordFault::{DecodeError, IllegalParameter, UnexpectedMessage};
    let session_ticket = [&[NEW_SESSION_TICKET, 0, 0, 20][..], &[0; 20]].concat();
    let from_client: [(RecordFault, u8, &[u8]); 13] = [
        (IllegalParameter, HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 2]),
        (DecodeError, HANDSHAKE, &[KEY_UPDATE, 0, 0, 2, 0, 0]),
        (DecodeError, HANDSHAKE, &[KEY_UPDATE, 0, 0, 0]),
        // Something behind a key update, under the old key.
        (UnexpectedMessage, HANDSHAKE, &[KEY_UPDATE, 0, 0, 1, 0, KEY_UPDATE, 0, 0, 1, 0]),
        (UnexpectedMessage, HANDSHAKE, &session_ticket),
        // A second ClientHello.
        (UnexpectedMessage, HANDSHAKE, &[1, 0, 0, 1, 0]),
        (UnexpectedMessage, HANDSHAKE, &[]),
        (UnexpectedMessage, 20, &[1]),
        (UnexpectedMessage, 99, &[1]),
        (DecodeError, ALERT, &[]),
        (DecodeError, ALERT, &[1]),
        (DecodeError, ALERT, &[1, 0, 0]),
        // Nothing but padding.
        (UnexpectedMessage, 0, &[0; 10]),
    ];
    for (expected, content_type, content) in from_client {
        let (mut router, mut client) = pair();
        let mut bytes = record(&mut client, content_type, content);
        assert_eq!(router.open(&mut bytes), Err(TlsError::Record(expected)), "{content_type} {content:?}");
        let mut alert = Vec::new();
        router.close_notify(&mut alert).unwrap();
        assert_eq!(client.open(&mut alert), Err(TlsError::Alert(expected.alert())));
    }
    // A request for a certificate, and a ticket longer than can be.
    for (expected, content) in
        [(UnexpectedMessage, [13, 0, 0, 3]), (DecodeError, [NEW_SESSION_TICKET, 3, 0, 0])]
    {
        let (mut router, mut client) = pair();
        let mut bytes = record(&mut router, HANDSHAKE, &content);
        assert_eq!(client.open(&mut bytes), Err(TlsError::Record(expected)));
    }
}

#[test]
fn messages_in_pieces() {
    let (mut router, mut client) = pair();
    for byte in [KEY_UPDATE, 0, 0, 1] {
        let mut bytes = record(&mut client, HANDSHAKE, &[byte]);
        let length = bytes.len();
        assert_eq!(router.open(&mut bytes).unwrap(), incomplete(length));
    }
    let mut bytes = record(&mut client, HANDSHAKE, &[1]);
    router.open(&mut bytes).unwrap();
    assert!(router.traffic().key_update_due);
    // The next record must have the next key.
    let limit = client.traffic().records_max;
    client.traffic().sending = client.traffic().keys.next_sending(limit).unwrap();
    let mut bytes = record(&mut client, APPLICATION_DATA, b"next key");
    assert!(matches!(router.open(&mut bytes).unwrap(), Opened::Data { .. }));

    // Other records may not stand between the pieces.
    for (content_type, content) in [(APPLICATION_DATA, &b"x"[..]), (APPLICATION_DATA, b""), (ALERT, &[1, 0])]
    {
        let (mut router, mut client) = pair();
        let mut bytes = record(&mut client, HANDSHAKE, &[KEY_UPDATE, 0]);
        router.open(&mut bytes).unwrap();
        let mut bytes = record(&mut client, content_type, content);
        let fault = TlsError::Record(RecordFault::UnexpectedMessage);
        assert_eq!(router.open(&mut bytes), Err(fault));
    }
}

#[test]
fn padding_and_empty_records() {
    let (mut router, mut client) = pair();
    // The content type stands where this content ends; what the record adds is padding.
    let mut bytes = record(&mut client, 0, b"data\x17\0\0\0");
    let length = bytes.len();
    let opened = router.open(&mut bytes).unwrap();
    assert_eq!(opened, Opened::Data { consumed: length, payload: 5..9 });
    assert_eq!(bytes[5..9], *b"data");
    let mut largest = vec![0; PLAINTEXT_BYTES_MAX];
    largest[0] = b'x';
    largest[1] = APPLICATION_DATA;
    let mut bytes = record(&mut client, 0, &largest);
    assert!(matches!(router.open(&mut bytes).unwrap(), Opened::Data { payload, .. } if payload == (5..6)));

    // In front of data, both in one piece.
    let empty = record(&mut client, APPLICATION_DATA, b"");
    let mut bytes = [empty.clone(), record(&mut client, APPLICATION_DATA, b"data")].concat();
    let (start, length) = (empty.len() + RECORD_HEADER_BYTES, bytes.len());
    let opened = router.open(&mut bytes).unwrap();
    assert_eq!(opened, Opened::Data { consumed: length, payload: start..start + 4 });
    for count in 0..=EMPTY_RECORDS_MAX {
        let mut bytes = record(&mut client, APPLICATION_DATA, b"");
        let opened = router.open(&mut bytes);
        if count == EMPTY_RECORDS_MAX {
            assert_eq!(opened, Err(TlsError::Record(RecordFault::TooManyEmptyRecords)));
        } else {
            assert_eq!(opened.unwrap(), incomplete(bytes.len()));
        }
    }
}

#[test]
fn one_side_may_close_and_go_on_reading() {
    let (mut router, mut client) = pair();
    let mut bytes = Vec::new();
    router.close_notify(&mut bytes).unwrap();
    assert!(matches!(client.open(&mut bytes).unwrap(), Opened::Closed { .. }));
    let mut bytes = record(&mut client, APPLICATION_DATA, b"still here");
    assert!(matches!(router.open(&mut bytes).unwrap(), Opened::Data { .. }));
    assert_eq!(router.seal(b"x", &mut [0; 100]), Err(TlsError::Ended));
    // user_canceled is followed by close_notify.
    let mut bytes = record(&mut client, ALERT, &[1, 90]);
    let length = bytes.len();
    assert_eq!(router.open(&mut bytes).unwrap(), incomplete(length));
    let mut bytes = record(&mut client, ALERT, &[1, 0]);
    assert!(matches!(router.open(&mut bytes).unwrap(), Opened::Closed { .. }));
}
