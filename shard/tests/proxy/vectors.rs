//! The layers as the reference writes them (`proxy.json`), in both directions.

use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::boxes::{Nonce, open_padded, reversed, seal_padded};
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey, OwnedAuthorization};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Format, Transmission};
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::proxy::{Forward, Forwarded, PADDED_BYTES, open_response};
use serde_json::Value;
use sha2::Digest;

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("no text: {value}"))).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn dh(key: &Value) -> DhPrivateKey {
    DhPrivateKey::from_bytes(array(&key["private"]))
}

/// Recorded in full, or by length and hash.
#[track_caller]
fn assert_is(ours: &[u8], recorded: &Value, what: &str) {
    if let Some(text) = recorded.as_str() {
        assert_eq!(hex::encode(ours), text, "{what}");
    } else {
        assert_eq!(ours.len() as u64, recorded["len"].as_u64().unwrap(), "{what}");
        assert_hash(ours, &recorded["sha256"], what);
    }
}

#[track_caller]
fn assert_hash(ours: &[u8], recorded: &Value, what: &str) {
    assert_eq!(hex::encode(sha2::Sha256::digest(ours)), recorded.as_str().unwrap(), "{what}");
}

/// The command, of which long ones are not recorded: they are a SEND of one repeated byte.
fn command(case: &Value) -> Vec<u8> {
    let mut command = bytes(&case["command"]);
    if command.is_empty() {
        command = b"SEND F ".to_vec();
        command.resize(command.len() + 16_048, bytes(&case["batch"]["last32"])[31]);
    }
    assert_hash(&command, &case["command_sha256"], "command");
    command
}

/// The content of the client's block.
fn content(case: &Value, nonce: &Nonce, version: SmpVersion) -> Vec<u8> {
    let mut authorized = Vec::new();
    authorized.put_short(&bytes(&case["relay_session_id"]));
    let sent_from = authorized.len();
    authorized.put_short(nonce);
    authorized.put_short(&bytes(&case["entity_id"]));
    authorized.put(&command(case));
    assert_hash(&authorized, &case["for_authorization_sha256"], "for authorization");
    let key = (!case["sender_key"].is_null()).then(|| {
        let secret = array(&case["sender_key"]["private"]);
        match case["sender_key"]["alg"].as_str().unwrap() {
            "Ed25519" => AuthPrivateKey::ed25519(&secret),
            _ => AuthPrivateKey::x25519(secret),
        }
    });
    let session_key = dh(&case["relay_session_key"]).public();
    let authorization = key.map(|key| key.authorize(&[&authorized], Some(&session_key), nonce).unwrap());
    let mut transmission = Vec::new();
    transmission.put_short(authorization.as_ref().map_or(&[], OwnedAuthorization::as_bytes));
    if version >= SmpVersion::SERVICE_CERTIFICATES && authorization.is_some() {
        transmission.put(b"0");
    }
    transmission.put(&authorized[sent_from..]);
    let mut content = vec![1];
    content.put_large(&transmission);
    assert_is(&content, &case["batch"], "batch");
    content
}

/// What stands in a transmission with its 2-byte length.
fn parse(bytes: &[u8]) -> Transmission<'_> {
    assert_eq!(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])), bytes.len() - 2);
    Transmission::parse(&bytes[2..], Format::of_session(SmpVersion::MAX)).unwrap()
}

fn replay(case: &Value) {
    let version = SmpVersion(u16::try_from(case["version_in_PFWD"].as_u64().unwrap()).unwrap());
    let (client_nonce, proxy_nonce): (Nonce, Nonce) =
        (array(&case["client_corr_id"]), array(&case["proxy_corr_id"]));
    let (relay_key, proxy_key, command_key) =
        (dh(&case["relay_session_key"]), dh(&case["proxy_session_key"]), dh(&case["command_key"]));
    let client_secret = command_key.agree(&relay_key.public());
    assert_is(client_secret.as_bytes(), &case["client_secret"], "client secret");
    let proxy_secret = proxy_key.agree(&relay_key.public());
    assert_is(proxy_secret.as_bytes(), &case["proxy_secret"], "proxy secret");
    let (client_box, proxy_box) = (client_secret.box_key(), proxy_secret.box_key());

    // Client to proxy.
    let content = content(case, &client_nonce, version);
    let sealed = seal_padded(&client_box, &client_nonce, &content, PADDED_BYTES).unwrap();
    assert_is(&sealed, &case["enc_transmission"], "client's box");
    let mut pfwd = Vec::new();
    Command::Pfwd { version, key: command_key.public(), transmission: &sealed }
        .encode(SmpVersion::MAX, &mut pfwd);
    assert_is(&pfwd, &case["pfwd_command"], "PFWD");

    // Proxy to relay.
    let forward =
        Forward { corr_id: &client_nonce, version, key: command_key.public(), transmission: &sealed };
    let mut rfwd = Vec::new();
    forward.seal(&proxy_box, &proxy_nonce, &mut rfwd).unwrap();
    let rfwd = parse(&rfwd);
    assert_eq!((rfwd.corr_id, rfwd.entity_id), (&proxy_nonce[..], &[][..]));
    assert_hash(rfwd.command, &case["rfwd_command_sha256"], "RFWD");
    let sealed = &rfwd.command[b"RFWD ".len()..];
    assert_is(sealed, &case["enc_fwd_transmission"], "proxy's box");

    // The relay opens it.
    let mut opened = sealed.to_vec();
    let forwarded = Forwarded::open(&proxy_box, &relay_key, &proxy_nonce, &mut opened).unwrap();
    assert_eq!(forwarded.version, version);
    assert_eq!(&opened[forwarded.content.clone()], content);
    assert_eq!(forwarded.reply.corr_id(), proxy_nonce);

    // Relay to proxy.
    let response = bytes(&case["response_batch"]);
    let mut rres = Vec::new();
    forwarded.reply.seal(&proxy_box, &response[1..], &mut rres).unwrap();
    let rres = parse(&rres);
    assert_eq!((rres.corr_id, rres.entity_id), (&proxy_nonce[..], &[][..]));
    assert_hash(rres.command, &case["rres_sha256"], "RRES");
    let mut sealed = rres.command[b"RRES ".len()..].to_vec();
    assert_is(&sealed, &case["enc_fwd_response"], "proxy's box of the response");

    // The proxy opens it, and the client.
    let place = open_response(&proxy_box, &proxy_nonce, &mut sealed).unwrap();
    assert_is(&sealed[place.clone()], &case["enc_response"], "client's box of the response");
    let mut pres = Vec::new();
    Response::Pres(&sealed[place.clone()]).encode(SmpVersion::MAX, &mut pres);
    assert_hash(&pres, &case["pres_sha256"], "PRES");
    assert_is(&reversed(client_nonce), &case["client_response_nonce"], "nonce of the response");
    let opened = open_padded(&client_box, &reversed(client_nonce), &sealed[place]).unwrap();
    assert_eq!(opened, response);
}

#[test]
fn every_layer_has_the_bytes_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/proxy.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(file["padded_len"], PADDED_BYTES);
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 12, "{} cases", cases.len());
    cases.iter().for_each(replay);
}

#[test]
fn changed_layers_do_not_open() {
    let (relay_key, proxy_key) = (DhPrivateKey::from_bytes([1; 32]), DhPrivateKey::from_bytes([2; 32]));
    let command_key = DhPrivateKey::from_bytes([3; 32]);
    let proxy_box = proxy_key.agree(&relay_key.public()).box_key();
    let client_box = command_key.agree(&relay_key.public()).box_key();
    let sealed = seal_padded(&client_box, &[4; 24], b"content", PADDED_BYTES).unwrap();
    let rfwd = |transmission: &[u8]| {
        let forward =
            Forward { corr_id: &[4; 24], version: SmpVersion::MAX, key: command_key.public(), transmission };
        let mut out = Vec::new();
        forward.seal(&proxy_box, &[5; 24], &mut out).map(|()| parse(&out).command[5..].to_vec())
    };
    let open = |bytes: &[u8]| Forwarded::open(&proxy_box, &relay_key, &[5; 24], &mut bytes.to_vec());
    let good = rfwd(&sealed).unwrap();
    assert!(open(&good).is_ok());
    for cut in [0, 1, 15, 16, 17, 60, good.len() - 1] {
        assert!(open(&good[..cut]).is_err(), "{cut}");
    }
    for place in [0, 20, 500, good.len() - 1] {
        let mut changed = good.clone();
        changed[place] ^= 1;
        assert!(open(&changed).is_err(), "{place}");
    }
    // Within a good box of the proxy.
    assert!(open(&rfwd(&sealed[1..]).unwrap()).is_err());
    let mut changed = sealed.clone();
    changed[100] ^= 1;
    assert!(open(&rfwd(&changed).unwrap()).is_err());
    assert!(rfwd(&vec![0; sealed.len() + 2]).is_err(), "more than a block");
    let response = open(&good).unwrap().reply;
    let mut out = Vec::new();
    assert!(response.seal(&proxy_box, &vec![0; PADDED_BYTES], &mut out).is_err());
    assert!(out.is_empty());
}
