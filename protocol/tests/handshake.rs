//! Recorded handshakes: hello blocks and outcomes, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ringpost_protocol::certificate::sign_key;
use ringpost_protocol::error::{HandshakeError, TransportError};
use ringpost_protocol::handshake::{
    ClientSession, HandshakeFailure, RouterSession, ServiceResponse, read_service_response,
    write_service_response,
};
use ringpost_protocol::version::SmpVersion;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::hello::{Case, agreed, content, new_block, range, role};
use support::{array, bytes, leaf_key};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The key is sent from version 7 on; with it both sides have the recorded secret.
fn expected_secret(case: &Case, version: SmpVersion) -> Option<[u8; 32]> {
    let recorded = &case.value["dh_secret"];
    (version.0 >= 7 && !recorded.is_null()).then(|| array(recorded))
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
            assert_eq!(client.unwrap_err(), HandshakeFailure::Version, "{name}");
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
    assert_eq!(agreed(client.secret.as_ref()), expected_secret(case, client.version), "{name}");
    assert_eq!(agreed(router.secret.as_ref()), agreed(client.secret.as_ref()), "{name}");
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
