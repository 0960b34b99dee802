//! Hello blocks: those recorded from the reference, in both directions, and what must be refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::LazyLock;

use proptest::prelude::*;
use ringpost_protocol::certificate::{RouterCredentials, SigningKey, VerifyingKey, sign_key};
use ringpost_protocol::error::{HandshakeError, TransportError};
use ringpost_protocol::handshake::{
    ClientHandshake, ClientSession, HandshakeFailure, RouterHandshake, RouterHello, RouterSession,
    ServiceHello, ServiceResponse, ServiceRole, SessionSecret, offered_versions, read_service_response,
    write_service_response,
};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{array, bytes, chain, credentials, leaf_key, now_secs, vectors};

type Block = [u8; BLOCK_BYTES];

fn new_block() -> Box<Block> {
    vec![0; BLOCK_BYTES].try_into().unwrap()
}

fn pad(content: &[u8]) -> Vec<u8> {
    let mut block = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    block.extend_from_slice(content);
    block.resize(BLOCK_BYTES, b'#');
    block
}

fn content(block: &[u8]) -> &[u8] {
    &block[2..2 + usize::from(u16::from_be_bytes([block[0], block[1]]))]
}

fn range(value: &Value) -> VersionRange {
    let number = |index: usize| SmpVersion(value[index].as_u64().unwrap().try_into().unwrap());
    VersionRange::new(number(0), number(1)).unwrap()
}

fn secret(key: &Value) -> Option<SessionSecret> {
    (!key.is_null()).then(|| SessionSecret::new(array(&key["private"])))
}

/// One recorded handshake.
struct Case {
    value: Value,
    credentials: RouterCredentials,
    leaf_key: VerifyingKey,
    service_chain: Vec<Vec<u8>>,
    service_key: Vec<u8>,
}

impl Case {
    fn all() -> Vec<Self> {
        let recorded = vectors("handshake.json");
        let cases: Vec<_> = recorded["cases"].as_array().unwrap().iter().map(Self::new).collect();
        assert_eq!(cases.len(), 26);
        cases
    }

    fn named(name: &str) -> Self {
        let recorded = vectors("handshake.json");
        let cases = recorded["cases"].as_array().unwrap();
        Self::new(cases.iter().find(|case| case["name"] == name).unwrap())
    }

    fn new(value: &Value) -> Self {
        let recorded = &value["server_chain"];
        let credentials = RouterCredentials::new(chain(recorded), leaf_key(recorded), now_secs()).unwrap();
        let (mut service_chain, mut service_key) = (Vec::new(), Vec::new());
        if let Some(service) = value.get("service") {
            service_chain = chain(&service["chain"]).iter().map(|der| der.to_vec()).collect();
            service_key = bytes(&service["signed_session_key_der"]);
        }
        let leaf_key = credentials.key.verifying_key();
        Self { value: value.clone(), credentials, leaf_key, service_chain, service_key }
    }

    fn name(&self) -> &str {
        self.value["name"].as_str().unwrap()
    }

    fn session_id(&self) -> SessionId {
        SessionId::new(&bytes(&self.value["session_id"])).unwrap()
    }

    fn router(&self, block: &mut Block) -> RouterHandshake {
        let offered = match self.value["alpn"].as_str() {
            Some("smp/1") => range(&self.value["server_versions"]),
            None => offered_versions(None),
            Some(other) => panic!("ALPN {other}"),
        };
        let hello = RouterHello {
            offered,
            session_id: self.session_id(),
            credentials: &self.credentials,
            session_private_key: secret(&self.value["server_session_key"]).unwrap(),
            web_challenge: None,
        };
        RouterHandshake::start(hello, block).unwrap()
    }

    fn client(&self) -> ClientHandshake<'_> {
        let service = self.value.get("service").map(|service| ServiceHello {
            role: role(&service["role"]),
            chain: self.service_chain.iter().map(Vec::as_slice).collect(),
            signed_key: &self.service_key,
        });
        ClientHandshake {
            versions: range(&self.value["client_versions"]),
            session_id: self.session_id(),
            identity: array(&self.value["server_chain"]["identity_fingerprint"]),
            leaf_key: &self.leaf_key,
            session_private_key: secret(&self.value["client_session_key"]),
            proxy: self.value["proxy_server"].as_bool().unwrap(),
            service,
        }
    }

    /// Both sides, up to the client's hello.
    fn run(&self) -> (Box<Block>, ClientSession, RouterHandshake) {
        let (mut hello, mut answer) = (new_block(), new_block());
        let router = self.router(&mut hello);
        let client = self.client().router_hello(&hello[..], &mut answer).unwrap();
        (answer, client, router)
    }
}

fn role(value: &Value) -> ServiceRole {
    match value.as_str().unwrap() {
        "SRMessaging" => ServiceRole::Messaging,
        "SRNotifier" => ServiceRole::Notifier,
        "SRProxy" => ServiceRole::Proxy,
        other => panic!("role {other}"),
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The key is sent from version 7 on; with it both sides have the recorded secret.
fn expected_secret(case: &Case, version: SmpVersion) -> Option<SessionSecret> {
    let recorded = &case.value["dh_secret"];
    (version.0 >= 7 && !recorded.is_null()).then(|| SessionSecret::new(array(recorded)))
}

#[test]
fn recorded_handshakes_in_both_directions() {
    let mut refused = 0;
    for case in Case::all() {
        let name = case.name();
        let (mut hello, mut answer) = (new_block(), new_block());
        let router = case.router(&mut hello);
        assert_eq!(hex::encode(content(&hello[..])), case.value["server_hello"], "{name}");
        assert_eq!(sha256(&hello[..]), case.value["server_hello_block_sha256"], "{name}");
        let signed = sign_key(
            &bytes(&case.value["server_session_key"]["public_der"]),
            &leaf_key(&case.value["server_chain"]),
        );
        assert_eq!(hex::encode(signed), case.value["server_signed_session_key_der"], "{name}");

        let client = case.client().router_hello(&hello[..], &mut answer);
        if case.value.get("client_hello").is_none() {
            assert_eq!(case.value["client_result"]["error"], "TEVersion", "{name}");
            assert_eq!(client, Err(HandshakeFailure::Version), "{name}");
            refused += 1;
            continue;
        }
        let client = client.unwrap();
        assert_eq!(hex::encode(content(&answer[..])), case.value["client_hello"], "{name}");
        assert_eq!(sha256(&answer[..]), case.value["client_hello_block_sha256"], "{name}");
        let session = router.client_hello(&answer[..]).unwrap();
        check_outcomes(&case, &client, &session);
        refused += usize::from(check_service(&case, &client, &session));
    }
    assert_eq!(refused, 3);
}

fn check_outcomes(case: &Case, client: &ClientSession, router: &RouterSession<'_>) {
    let name = case.name();
    // Services that are refused after the hello have no recorded parameters.
    let recorded = &case.value["server_result"];
    if recorded.get("error").is_none() {
        assert_eq!(router.version.0, u16::try_from(recorded["version"].as_u64().unwrap()).unwrap(), "{name}");
        assert_eq!(router.versions, range(&recorded["version_range"]), "{name}");
        assert_eq!(router.block_encryption, recorded["block_encryption"].as_bool().unwrap(), "{name}");
        assert_eq!(recorded, &case.value["client_result"], "{name}");
    }
    assert_eq!(client.version, router.version, "{name}");
    assert_eq!(client.versions, router.versions, "{name}");
    assert_eq!(client.block_encryption, router.block_encryption, "{name}");
    assert_eq!(client.secret, expected_secret(case, client.version), "{name}");
    assert_eq!(router.secret, client.secret, "{name}");
    assert_eq!(client.session_id, case.session_id());
    assert_eq!(router.session_id, case.session_id());
    assert_eq!(router.proxy, case.value["proxy_server"] == true && router.version.0 >= 14, "{name}");
    if router.version.0 >= 7 && !case.value["client_session_key"].is_null() {
        let public: [u8; 32] = array(&case.value["client_session_key"]["public"]);
        assert_eq!(router.client_key.unwrap().0, public, "{name}");
    } else {
        assert_eq!(router.client_key, None, "{name}");
    }
    // The router's key is there whenever the router offers version 7, even if a lower one is agreed on.
    match &client.router_key {
        Some(router_key) => {
            let public: [u8; 32] = array(&case.value["server_session_key"]["public"]);
            assert_eq!(router_key.key.0, public, "{name}");
            assert_eq!(hex::encode(&router_key.signed_key), case.value["server_signed_session_key_der"]);
            assert_eq!(
                router_key.chain,
                case.credentials.chain.iter().map(|der| der.to_vec()).collect::<Vec<_>>()
            );
        }
        None => assert!(case.value["alpn"].is_null(), "{name}"),
    }
}

/// The third message. Whether the service is refused.
fn check_service(case: &Case, client: &ClientSession, router: &RouterSession<'_>) -> bool {
    let name = case.name();
    let Some(recorded) = case.value.get("server_service_message") else {
        assert_eq!(router.service, None, "{name}");
        assert!(!client.service_sent, "{name}");
        return false;
    };
    assert!(client.service_sent, "{name}");
    let service = router.service.as_ref().unwrap();
    let verified = service.verify(&case.service_chain).unwrap();
    assert_eq!(verified.role, role(&case.value["service"]["role"]), "{name}");
    assert_eq!(
        hex::encode(verified.fingerprint),
        case.value["service"]["certificate_fingerprint_sha256"],
        "{name}"
    );
    assert_eq!(hex::encode(verified.session_key), case.value["service"]["session_key"]["public"], "{name}");

    let mut block = new_block();
    if let Some(id) = case.value["server_result"].get("service_id").and_then(Value::as_str) {
        let service_id = hex::decode(id).unwrap();
        write_service_response(ServiceResponse::Accepted { service_id: &service_id }, &mut block).unwrap();
        assert_eq!(hex::encode(content(&block[..])), *recorded, "{name}");
        assert_eq!(read_service_response(&block[..]), Ok(&service_id[..]), "{name}");
        return false;
    }
    let error = match case.value["server_result"]["error"].as_str().unwrap() {
        "TEHandshake {handshakeErr = BAD_SERVICE}" => HandshakeError::BadService,
        "TEHandshake {handshakeErr = BAD_AUTH}" => HandshakeError::BadAuth,
        other => panic!("{other}"),
    };
    let error = TransportError::Handshake(error);
    write_service_response(ServiceResponse::Refused(error), &mut block).unwrap();
    assert_eq!(hex::encode(content(&block[..])), *recorded, "{name}");
    assert_eq!(read_service_response(&block[..]), Err(HandshakeFailure::Refused(error)), "{name}");
    true
}

const USUAL: &str = "server 6..18, client 6..18, Ed25519";

#[test]
fn the_router_refuses_another_identity_before_it_looks_at_the_version() {
    let case = Case::named(USUAL);
    let (answer, _, router) = case.run();
    let mut other = answer.clone();
    other[10] ^= 1;
    // Version 25.
    other[3] = 25;
    assert_eq!(router.client_hello(&other[..]), Err(HandshakeFailure::Identity));
    let identity = TransportError::Handshake(HandshakeError::Identity);
    assert_eq!(TransportError::from(HandshakeFailure::Identity), identity);
    // A hash of another length.
    let mut short = content(&answer[..])[..3].to_vec();
    short[2] = 0;
    short.extend_from_slice(b"F0");
    assert_eq!(case.run().2.client_hello(&pad(&short)), Err(HandshakeFailure::Identity));
}

#[test]
fn versions_outside_of_the_offer_are_refused() {
    let case = Case::named("server 6..16, client 6..18, Ed448");
    for version in [0, 5, 17, 18, 19, 0xffff_u16] {
        let (mut answer, _, router) = case.run();
        // Below 14 less is read, above nothing changes: what follows is ignored or there.
        answer[2..4].copy_from_slice(&version.to_be_bytes());
        assert_eq!(router.client_hello(&answer[..]), Err(HandshakeFailure::Version), "{version}");
    }
}

#[test]
fn the_client_refuses_a_hello_of_another_session() {
    let case = Case::named(USUAL);
    let (mut hello, mut answer) = (new_block(), new_block());
    case.router(&mut hello);
    let mut client = case.client();
    client.session_id = SessionId::new(&[1; 32]).unwrap();
    assert_eq!(client.router_hello(&hello[..], &mut answer), Err(HandshakeFailure::Session));
    let mut client = case.client();
    client.session_id = SessionId::new(&case.session_id().as_ref()[..31]).unwrap();
    assert_eq!(client.router_hello(&hello[..], &mut answer), Err(HandshakeFailure::Session));
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
        assert_eq!(client.router_hello(&hello[..], &mut answer), Err(HandshakeFailure::BadAuth));
        // Another leaf in TLS than the one that signed.
        let other = SigningKey::ed25519(&[3; 32]).verifying_key();
        let mut client = case.client();
        client.leaf_key = &other;
        assert_eq!(client.router_hello(&hello[..], &mut answer), Err(HandshakeFailure::BadAuth));
        // Changed bytes of the signed key and of the identity certificate.
        let end = 2 + content(&hello[..]).len();
        let signed_bytes = bytes(&case.value["server_signed_session_key_der"]).len();
        for index in [end - 1, end - signed_bytes + 20] {
            let mut changed = hello.clone();
            changed[index] ^= 1;
            assert_eq!(case.client().router_hello(&changed[..], &mut answer), Err(HandshakeFailure::BadAuth));
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
    assert_eq!(case.client().router_hello(&pad(&changed), &mut answer), Err(HandshakeFailure::BadAuth));
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
    assert_eq!(session.secret, client.secret);
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
    assert_eq!((session.router_key, session.secret, session.block_encryption), (None, None, false));
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
        assert_eq!(case.client().router_hello(block, &mut answer), Err(HandshakeFailure::Block));
        assert_eq!(case.run().2.client_hello(block), Err(HandshakeFailure::Block));
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
                assert_eq!(result, Err(HandshakeFailure::Parse), "{end}");
            }
        }
        let (answer, _, _) = case.run();
        let whole = content(&answer[..]);
        for end in 0..whole.len() {
            let block = pad(&whole[..end]);
            let (_, _, router) = case.run();
            assert_eq!(router.client_hello(&block), Err(HandshakeFailure::Parse), "{end}");
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
        assert_eq!(router.client_hello(&block), Err(HandshakeFailure::Parse), "{index}");
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
            session_private_key: SessionSecret::new([9; 32]),
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
        session_private_key: SessionSecret::new([9; 32]),
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
    assert_eq!(format!("{:?}", SessionSecret::new([7; 32])), "SessionSecret");
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
