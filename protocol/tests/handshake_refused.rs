//! Hello blocks that must be refused, and what may be added to them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use ringpost_protocol::certificate::{SigningKey, sign_key};
use ringpost_protocol::crypto::DhPrivateKey;
use ringpost_protocol::error::{HandshakeError, TransportError};
use ringpost_protocol::handshake::{
    HandshakeFailure, RouterHandshake, RouterHello, ServiceHello, ServiceResponse, offered_versions,
    read_service_response, write_service_response,
};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use support::hello::{Case, USUAL, agreed, content, new_block, pad};
use support::{bytes, credentials};

#[test]
fn the_router_refuses_another_identity_before_it_looks_at_the_version() {
    let case = Case::named(USUAL);
    let (answer, _, router) = case.run();
    let mut other = answer.clone();
    other[10] ^= 1;
    // Version 25.
    other[3] = 25;
    assert_eq!(router.client_hello(&other[..]).unwrap_err(), HandshakeFailure::Identity);
    let identity = TransportError::Handshake(HandshakeError::Identity);
    assert_eq!(TransportError::from(HandshakeFailure::Identity), identity);
    // A hash of another length.
    let mut short = content(&answer[..])[..3].to_vec();
    short[2] = 0;
    short.extend_from_slice(b"F0");
    assert_eq!(case.run().2.client_hello(&pad(&short)).unwrap_err(), HandshakeFailure::Identity);
}

#[test]
fn versions_outside_of_the_offer_are_refused() {
    let case = Case::named("server 6..16, client 6..18, Ed448");
    for version in [0, 5, 17, 18, 19, 0xffff_u16] {
        let (mut answer, _, router) = case.run();
        // Below 14 less is read, above nothing changes: what follows is ignored or there.
        answer[2..4].copy_from_slice(&version.to_be_bytes());
        assert_eq!(router.client_hello(&answer[..]).unwrap_err(), HandshakeFailure::Version, "{version}");
    }
}

#[test]
fn the_client_refuses_a_hello_of_another_session() {
    let case = Case::named(USUAL);
    let (mut hello, mut answer) = (new_block(), new_block());
    case.router(&mut hello);
    let mut client = case.client();
    client.session_id = SessionId::new(&[1; 32]).unwrap();
    assert_eq!(client.router_hello(&hello[..], &mut answer).unwrap_err(), HandshakeFailure::Session);
    let mut client = case.client();
    client.session_id = SessionId::new(&case.session_id().as_ref()[..31]).unwrap();
    assert_eq!(client.router_hello(&hello[..], &mut answer).unwrap_err(), HandshakeFailure::Session);
}

#[test]
fn the_client_refuses_keys_that_the_router_did_not_sign() {
    for name in [
        USUAL,
        "server 6..18, client 6..18, Ed448",
        "3 certificate chain (identity is the second certificate)",
    ] {
        let case = Case::named(name);
        let (mut hello, mut answer) = (new_block(), new_block());
        case.router(&mut hello);
        // Another identity than that of the chain.
        let mut client = case.client();
        client.identity[0] ^= 1;
        assert_eq!(client.router_hello(&hello[..], &mut answer).unwrap_err(), HandshakeFailure::BadAuth);
        // Another leaf in TLS than the one that signed.
        let other = SigningKey::ed25519(&[3; 32]).verifying_key();
        let mut client = case.client();
        client.leaf_key = &other;
        assert_eq!(client.router_hello(&hello[..], &mut answer).unwrap_err(), HandshakeFailure::BadAuth);
        // Changed bytes of the signed key and of the identity certificate.
        let end = 2 + content(&hello[..]).len();
        let signed_bytes = bytes(&case.value["server_signed_session_key_der"]).len();
        for index in [end - 1, end - signed_bytes + 20] {
            let mut changed = hello.clone();
            changed[index] ^= 1;
            assert_eq!(
                case.client().router_hello(&changed[..], &mut answer).unwrap_err(),
                HandshakeFailure::BadAuth
            );
        }
        let mut changed = hello.clone();
        changed[end - signed_bytes - 2 - 1] ^= 1;
        let result = case.client().router_hello(&changed[..], &mut answer);
        // Certificates above the identity are not compared with anything: the leaf's signature is what counts.
        assert_eq!(result.is_err(), case.credentials.chain.len() == 2);
    }
}

#[test]
fn a_signed_key_of_another_kind_is_refused() {
    let case = Case::named(USUAL);
    let (mut hello, mut answer) = (new_block(), new_block());
    case.router(&mut hello);
    let mut spki = bytes(&case.value["server_session_key"]["public_der"]);
    // An Ed25519 key.
    spki[8] = 0x70;
    let signed = sign_key(&spki, &case.credentials.key);
    let content = content(&hello[..]);
    let changed = [&content[..content.len() - signed.len()], &signed].concat();
    assert_eq!(
        case.client().router_hello(&pad(&changed), &mut answer).unwrap_err(),
        HandshakeFailure::BadAuth
    );
}

#[test]
fn what_follows_the_known_parts_is_ignored() {
    let case = Case::named(USUAL);
    let (mut hello, mut answer) = (new_block(), new_block());
    let router = case.router(&mut hello);
    let longer = [content(&hello[..]), b"more to come"].concat();
    let client = case.client().router_hello(&pad(&longer), &mut answer).unwrap();
    let longer = [content(&answer[..]), &[0; 1000]].concat();
    let block = pad(&longer);
    let session = router.client_hello(&block).unwrap();
    assert_eq!(agreed(session.secret.as_ref()), agreed(client.secret.as_ref()));
    assert!(session.secret.is_some());
    let mut block = new_block();
    write_service_response(ServiceResponse::Accepted { service_id: b"id" }, &mut block).unwrap();
    let longer = pad(&[content(&block[..]), b"tail"].concat());
    assert_eq!(read_service_response(&longer), Ok(&b"id"[..]));
    let refused = read_service_response(&pad(b"EHANDSHAKE BAD_AUTH tail")).unwrap_err();
    let error = TransportError::Handshake(HandshakeError::BadAuth);
    assert_eq!(refused, HandshakeFailure::Refused(error));
}

#[test]
fn a_router_hello_without_key_is_accepted() {
    let case = Case::named(USUAL);
    let (mut hello, mut answer) = (new_block(), new_block());
    case.router(&mut hello);
    let without = pad(&content(&hello[..])[..4 + 33]);
    let session = case.client().router_hello(&without, &mut answer).unwrap();
    assert_eq!((session.router_key, session.block_encryption), (None, false));
    assert!(session.secret.is_none());
}

#[test]
fn blocks_with_wrong_padding_are_refused() {
    let case = Case::named(USUAL);
    for block in [
        &[][..],
        &[0],
        &[0, 1, 2],
        &[0; BLOCK_BYTES - 1],
        &vec![0; BLOCK_BYTES + 1],
        &vec![0xff; BLOCK_BYTES],
    ] {
        let mut answer = new_block();
        assert_eq!(case.client().router_hello(block, &mut answer).unwrap_err(), HandshakeFailure::Block);
        assert_eq!(case.run().2.client_hello(block).unwrap_err(), HandshakeFailure::Block);
        assert_eq!(read_service_response(block), Err(HandshakeFailure::Block));
    }
}

#[test]
fn every_truncated_hello_is_refused_or_means_less() {
    for case in [Case::named(USUAL), Case::named("service M, 2 certificates, accepted")] {
        let mut hello = new_block();
        case.router(&mut hello);
        let whole = content(&hello[..]);
        for end in 0..whole.len() {
            let mut answer = new_block();
            let result = case.client().router_hello(&pad(&whole[..end]), &mut answer);
            if end == 4 + 33 {
                assert!(result.is_ok(), "no key");
            } else {
                assert_eq!(result.unwrap_err(), HandshakeFailure::Parse, "{end}");
            }
        }
        let (answer, _, _) = case.run();
        let whole = content(&answer[..]);
        for end in 0..whole.len() {
            let block = pad(&whole[..end]);
            let (_, _, router) = case.run();
            assert_eq!(router.client_hello(&block).unwrap_err(), HandshakeFailure::Parse, "{end}");
        }
    }
    for whole in [&b"R\x03abc"[..], b"EHANDSHAKE BAD_SERVICE"] {
        for end in 0..whole.len() {
            assert_eq!(read_service_response(&pad(&whole[..end])), Err(HandshakeFailure::Parse), "{end}");
        }
    }
}

#[test]
fn bad_flags_roles_and_counts_are_refused() {
    let case = Case::named("service M, 2 certificates, accepted");
    let (answer, _, _) = case.run();
    let whole = content(&answer[..]);
    // Version, hash, key; then flag, "1", role, count.
    let at = 2 + 33 + 45;
    assert_eq!(whole[at..at + 4], *b"F1M\x02");
    for (index, wrong) in [(0, b'X'), (1, b'2'), (2, b'X'), (3, 0), (3, 200)] {
        let mut changed = whole.to_vec();
        changed[at + index] = wrong;
        let block = pad(&changed);
        let (_, _, router) = case.run();
        assert_eq!(router.client_hello(&block).unwrap_err(), HandshakeFailure::Parse, "{index}");
    }
}

#[test]
fn services_are_verified_against_their_tls_chain() {
    let case = Case::named("service M, 2 certificates, accepted");
    let (answer, _, router) = case.run();
    let session = router.client_hello(&answer[..]).unwrap();
    let service = session.service.unwrap();
    assert!(service.verify(&case.service_chain).is_ok());
    assert_eq!(service.verify(&case.service_chain[..1]), Err(HandshakeFailure::BadAuth));
    assert_eq!(service.verify::<Vec<u8>>(&[]), Err(HandshakeFailure::BadAuth));
    let router_chain = &case.credentials.chain;
    assert_eq!(service.verify(router_chain), Err(HandshakeFailure::BadAuth));
    // The chain is right, the signed key is another's.
    let forged =
        ServiceHello { signed_key: &bytes(&case.value["server_signed_session_key_der"]), ..service.clone() };
    assert_eq!(forged.verify(&case.service_chain), Err(HandshakeFailure::BadAuth));
    let empty = ServiceHello { chain: Vec::new(), ..service };
    assert_eq!(empty.verify::<Vec<u8>>(&[]), Err(HandshakeFailure::BadAuth));
}

#[test]
fn a_challenge_of_the_web_is_signed_from_version_19_on() {
    let credentials = credentials(1, 2);
    let session_id = SessionId::new(&[8; 48]).unwrap();
    let challenge = [7; 32];
    let hello = |offered, web_challenge| {
        let mut block = new_block();
        let hello = RouterHello {
            offered,
            session_id,
            credentials: &credentials,
            session_key: DhPrivateKey::from_bytes([9; 32]).into(),
            web_challenge,
        };
        RouterHandshake::start(hello, &mut block).unwrap();
        content(&block[..]).to_vec()
    };
    let plain = hello(VersionRange::ALL, None);
    let signed = hello(VersionRange::ALL, Some(&challenge));
    let signature = signed.strip_prefix(&plain[..]).unwrap();
    assert_eq!(signature[0], 64);
    let message = [&challenge[..], &[8; 48]].concat();
    assert!(credentials.key.verifying_key().verify(&message, &signature[1..]));
    let old = VersionRange::new(SmpVersion::V6, SmpVersion(18)).unwrap();
    assert_eq!(hello(old, Some(&challenge)), hello(old, None));
}

#[test]
fn a_chain_that_does_not_fit_into_the_block_is_an_error() {
    let mut credentials = credentials(1, 2);
    credentials.chain[0] = vec![0; BLOCK_BYTES].into();
    let hello = RouterHello {
        offered: VersionRange::ALL,
        session_id: SessionId::new(&[8; 32]).unwrap(),
        credentials: &credentials,
        session_key: DhPrivateKey::from_bytes([9; 32]).into(),
        web_challenge: None,
    };
    assert_eq!(RouterHandshake::start(hello, &mut new_block()).unwrap_err(), HandshakeFailure::TooLarge);
    let long_id = ServiceResponse::Accepted { service_id: &[0; 256] };
    assert_eq!(write_service_response(long_id, &mut new_block()), Err(HandshakeFailure::TooLarge));
}

#[test]
fn every_error_of_the_third_message_is_read_as_written() {
    let errors = [
        TransportError::Block,
        TransportError::Version,
        TransportError::LargeMsg,
        TransportError::Session,
        TransportError::NoAuth,
        TransportError::Handshake(HandshakeError::Parse),
        TransportError::Handshake(HandshakeError::Identity),
        TransportError::Handshake(HandshakeError::BadAuth),
        TransportError::Handshake(HandshakeError::BadService),
    ];
    for error in errors {
        let mut block = new_block();
        write_service_response(ServiceResponse::Refused(error), &mut block).unwrap();
        assert_eq!(read_service_response(&block[..]), Err(HandshakeFailure::Refused(error)));
    }
    for wrong in ["E", "EOTHER", "EVERSIONS", "EHANDSHAKE OTHER", "X", ""] {
        assert_eq!(read_service_response(&pad(wrong.as_bytes())), Err(HandshakeFailure::Parse), "{wrong}");
    }
}

#[test]
fn versions_are_offered_by_protocol_name() {
    assert_eq!(offered_versions(Some(b"smp/1")), VersionRange::ALL);
    assert_eq!(offered_versions(None), VersionRange::WITHOUT_ALPN);
    assert_eq!(offered_versions(Some(b"smp/2")), VersionRange::WITHOUT_ALPN);
}

#[test]
fn secrets_are_not_printed() {
    let case = Case::named(USUAL);
    let (answer, client, router) = case.run();
    assert!(format!("{router:?}").contains("session_private_key: DhPrivateKey }"));
    let session = router.client_hello(&answer[..]).unwrap();
    assert!(format!("{session:?}").contains("session_private_key: DhPrivateKey,"));
    for printed in [format!("{client:?}"), format!("{session:?}")] {
        assert!(printed.contains("secret: Some(DhSecret),"), "{printed}");
    }
    assert!(format!("{:?}", case.client()).contains("session_private_key: Some(DhPrivateKey),"));
}

proptest! {
    #[test]
    fn any_content_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 0_u16..25) {
        static CASE: LazyLock<Case> = LazyLock::new(|| Case::named(USUAL));
        let case = &*CASE;
        let (answer, _, router) = case.run();
        let mut block = new_block();
        prop_assert!(case.client().router_hello(&pad(&bytes), &mut block).is_err());
        let _ = read_service_response(&pad(&bytes));
        // Behind a right beginning too.
        let start = [&version.to_be_bytes()[..], &content(&answer[..])[2..35], &bytes].concat();
        let padded = pad(&start);
        if let Ok(session) = router.client_hello(&padded) {
            prop_assert_eq!(session.version.0, version);
        }
        let _ = case.run().2.client_hello(&pad(&bytes));
    }
}
