//! Signatures and authenticators against `smp_transmission.json` and `blocks.json`, and the fixed keys.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{bytes, load, text};
use ed448_goldilocks_plus::VerifyingKey as Ed448VerifyingKey;
use ed25519_dalek::VerifyingKey;
use proptest::prelude::*;
use ringpost_protocol::crypto::authorization::{
    AuthPrivateKey, AuthorizeError, DUMMY_ED448_KEY, DUMMY_ED25519_KEY, DUMMY_X25519_KEY, Ed25519Claim,
    KnownKeys, VerifyContext, authenticator_box_key, authenticator_hash, make_authenticator, verify,
    verify_authenticator, verify_ed25519_batch,
};
use ringpost_protocol::crypto::boxes::nonce_from;
use ringpost_protocol::crypto::dh::DhPrivateKey;
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};
use ringpost_protocol::transmission::Authorization;
use serde_json::Value;
use sha2::{Digest, Sha512};

fn private_key(key: &Value) -> AuthPrivateKey {
    let private = bytes(&key["private"]);
    match text(&key["alg"]) {
        "Ed25519" => AuthPrivateKey::ed25519(&private.try_into().unwrap()),
        "Ed448" => AuthPrivateKey::ed448(&private.try_into().unwrap()),
        "X25519" => AuthPrivateKey::x25519(private.try_into().unwrap()),
        other => panic!("unknown algorithm {other}"),
    }
}

fn public_key(key: &Value) -> AuthPublicKey {
    let public = bytes(&key["public"]);
    match text(&key["alg"]) {
        "Ed25519" => AuthPublicKey::Ed25519(public.try_into().unwrap()),
        "Ed448" => AuthPublicKey::Ed448(Box::new(public.try_into().unwrap())),
        "X25519" => AuthPublicKey::X25519(public.try_into().unwrap()),
        other => panic!("unknown algorithm {other}"),
    }
}

fn dh_key(key: &Value) -> DhPrivateKey {
    DhPrivateKey::from_bytes(bytes(&key["private"]).try_into().unwrap())
}

/// The keys of one queue of each kind, and the router's session key.
struct Keys {
    private: [AuthPrivateKey; 3],
    session: DhPrivateKey,
}

impl Keys {
    fn new() -> Self {
        Self {
            private: [
                AuthPrivateKey::ed25519(&[1; 32]),
                AuthPrivateKey::ed448(&[2; 57]),
                AuthPrivateKey::x25519([3; 32]),
            ],
            session: DhPrivateKey::from_bytes([4; 32]),
        }
    }

    fn context<'a>(&'a self, corr_id: &'a [u8]) -> VerifyContext<'a> {
        VerifyContext { session_key: Some(&self.session), corr_id }
    }
}

#[test]
fn recorded_authorizations_are_made_and_verified() {
    let vectors = load("smp_transmission.json");
    let session_key = dh_key(&vectors["server_session_key"]);
    let mut seen = std::collections::BTreeMap::new();
    for case in vectors["transmissions"].as_array().unwrap() {
        let name = text(&case["name"]);
        let authorization = bytes(&case["authorization"]);
        let parsed = Authorization::from_bytes(&authorization).unwrap();
        if parsed.is_none() {
            assert!(authorization.is_empty(), "{name}");
            continue;
        }
        let key = if name.contains("signed by the service key") {
            &vectors["service"]["session_key"]
        } else {
            &vectors["client_keys"][text(&case["key"])]
        };
        let (signs, corr_id) = (bytes(&case["entity_key_signs"]), bytes(&case["corr_id"]));
        let private = private_key(key);
        assert_eq!(private.public(), public_key(key), "{name}");
        assert_eq!(parsed.as_bytes(), authorization, "{name}");
        let context = VerifyContext { session_key: Some(&session_key), corr_id: &corr_id };
        // However the bytes are cut, the authorization is the same.
        for cut in [0, 33, signs.len()] {
            let parts: &[&[u8]] = &[&signs[..cut], &signs[cut..]];
            assert!(verify(parsed, parts, Some(&public_key(key)), context), "{name}");
            let made = private.authorize(parts, Some(&session_key.public()), &corr_id).unwrap();
            assert_eq!(made.as_borrowed(), parsed, "{name}");
        }
        assert!(!verify(parsed, &[&signs, b"x"], Some(&public_key(key)), context), "{name}");
        *seen.entry(text(&key["alg"]).to_owned()).or_insert(0) += 1;

        if let Some(signature) = case["service_signature"].as_str() {
            let service = &vectors["service"]["session_key"];
            let signature = hex::decode(signature).unwrap();
            let signature = Authorization::from_bytes(&signature).unwrap();
            let signs = bytes(&case["for_authorization"]);
            assert!(verify(signature, &[&signs], Some(&public_key(service)), context), "{name}");
            let made = private_key(service).authorize(&[&signs], None, b"").unwrap();
            assert_eq!(made.as_borrowed(), signature, "{name}");
            *seen.entry("service".to_owned()).or_insert(0) += 1;
        }
    }
    for kind in ["Ed25519", "Ed448", "X25519", "service"] {
        assert!(seen.get(kind).is_some_and(|&count| count >= 4), "{kind} in {seen:?}");
    }
}

#[test]
fn recorded_authenticators() {
    let vectors = load("blocks.json");
    for case in vectors["authenticators"].as_array().unwrap() {
        let (message, nonce) = (bytes(&case["message"]), nonce_from(&bytes(&case["nonce"])));
        let authenticator: [u8; 80] = bytes(&case["authenticator"]).try_into().unwrap();
        let hash = authenticator_hash(&[&message[..7], &message[7..]]);
        assert_eq!(hash.to_vec(), bytes(&case["sha512"]));
        let session = dh_key(&case["server_key"]);
        let (key, is_queue_key) = authenticator_box_key(&session, Some(&public_key(&case["client_key"])));
        assert!(is_queue_key);
        assert_eq!(make_authenticator(&key, &nonce, &hash), authenticator);
        assert!(verify_authenticator(&key, &nonce, &hash, &authenticator));
        for at in 0..authenticator.len() {
            let mut changed = authenticator;
            changed[at] ^= 1;
            assert!(!verify_authenticator(&key, &nonce, &hash, &changed), "byte {at}");
        }
    }
}

/// Every combination of authorization and key but the right ones is refused, and so is every change.
#[test]
fn other_keys_and_changes_are_refused() {
    let keys = Keys::new();
    let corr_id = [9; 24];
    let parts: &[&[u8]] = &[b"session", b"command"];
    for (signer, private) in keys.private.iter().enumerate() {
        let made = private.authorize(parts, Some(&keys.session.public()), &corr_id).unwrap();
        let authorization = made.as_borrowed();
        assert!(!verify(authorization, parts, None, keys.context(&corr_id)));
        for (holder, other) in keys.private.iter().enumerate() {
            let passes = verify(authorization, parts, Some(&other.public()), keys.context(&corr_id));
            assert_eq!(passes, signer == holder);
        }
        for at in 0..authorization.as_bytes().len() {
            let mut changed = authorization.as_bytes().to_vec();
            changed[at] ^= 0x10;
            let changed = Authorization::from_bytes(&changed).unwrap();
            assert!(!verify(changed, parts, Some(&private.public()), keys.context(&corr_id)), "byte {at}");
        }
        assert!(!verify(Authorization::None, parts, Some(&private.public()), keys.context(&corr_id)));
        let other_parts: &[&[u8]] = &[b"session", b"other command"];
        assert!(!verify(authorization, other_parts, Some(&private.public()), keys.context(&corr_id)));
    }
}

/// An authenticator belongs to one session and one correlation ID; signatures do not ask for them.
#[test]
fn authenticators_are_bound_to_session_and_correlation_id() {
    let keys = Keys::new();
    let [ed25519, _, x25519] = &keys.private;
    let parts: &[&[u8]] = &[b"command"];
    let authenticator = x25519.authorize(parts, Some(&keys.session.public()), &[9; 24]).unwrap();
    let queue_key = x25519.public();
    assert!(!verify(authenticator.as_borrowed(), parts, Some(&queue_key), keys.context(&[8; 24])));
    let other_session = DhPrivateKey::from_bytes([5; 32]);
    let context = VerifyContext { session_key: Some(&other_session), corr_id: &[9; 24] };
    assert!(!verify(authenticator.as_borrowed(), parts, Some(&queue_key), context));
    let without_key = VerifyContext { session_key: None, corr_id: &[9; 24] };
    assert!(!verify(authenticator.as_borrowed(), parts, Some(&queue_key), without_key));
    assert_eq!(x25519.authorize(parts, None, &[9; 24]), Err(AuthorizeError::NoSessionKey));
    let signature = ed25519.authorize(parts, None, b"").unwrap();
    assert!(verify(signature.as_borrowed(), parts, Some(&ed25519.public()), without_key));
}

/// The dummy keys are what their documentation says: the first valid points of a chain of hashes, so that
/// nobody has their private halves.
#[test]
fn dummy_keys_are_hashes() {
    fn candidates(label: &'static str) -> impl Iterator<Item = [u8; 64]> {
        (0..=u8::MAX)
            .map(move |counter| Sha512::new().chain_update(label).chain_update([counter]).finalize().into())
    }
    let ed25519 = candidates("Ringpost dummy Ed25519 key")
        .map(|hash| hash[..32].try_into().unwrap())
        .find(|key| VerifyingKey::from_bytes(key).is_ok_and(|key| !key.is_weak()))
        .unwrap();
    assert_eq!(hex::encode(DUMMY_ED25519_KEY), hex::encode(ed25519));
    let ed448 = candidates("Ringpost dummy Ed448 key")
        .map(|hash| {
            let mut key = [0; 57];
            key[..56].copy_from_slice(&hash[..56]);
            key
        })
        .find(|key| Ed448VerifyingKey::from_bytes(key).is_ok())
        .unwrap();
    assert_eq!(hex::encode(DUMMY_ED448_KEY), hex::encode(ed448));
    let x25519 = candidates("Ringpost dummy X25519 key").next().unwrap();
    assert_eq!(hex::encode(DUMMY_X25519_KEY.0), hex::encode(&x25519[..32]));
    // Not of low order: the agreed secret is not zero.
    let agreed = DhPrivateKey::from_bytes([6; 32]).agree(&DUMMY_X25519_KEY);
    assert_ne!(agreed.as_bytes(), &[0; 32]);
}

/// A key that is no point is a key like any other until it is used; then nothing verifies.
#[test]
fn keys_that_are_no_points_verify_nothing() {
    let keys = Keys::new();
    let no_point =
        (0..=u8::MAX).map(|byte| [byte; 32]).find(|key| VerifyingKey::from_bytes(key).is_err()).unwrap();
    let parts: &[&[u8]] = &[b"command"];
    let [ed25519, ed448, _] = &keys.private;
    let signature = ed25519.authorize(parts, None, b"").unwrap();
    assert!(!verify(
        signature.as_borrowed(),
        parts,
        Some(&AuthPublicKey::Ed25519(no_point)),
        keys.context(b"")
    ));
    let signature = ed448.authorize(parts, None, b"").unwrap();
    let no_point = AuthPublicKey::Ed448(Box::new([0xff; 57]));
    assert!(!verify(signature.as_borrowed(), parts, Some(&no_point), keys.context(b"")));
}

/// All-zero secrets: as in the reference, a session key of low order is neither refused nor special.
#[test]
fn a_low_order_key_agrees_on_zeros() {
    let secret = DhPrivateKey::from_bytes([7; 32]).agree(&DhPublicKey([0; 32]));
    assert_eq!(secret.as_bytes(), &[0; 32]);
}

/// A key stands for itself alone, also where another has its place.
#[test]
fn known_keys_that_share_a_place_are_told_apart() {
    let parts: &[&[u8]] = &[b"command"];
    let signers: Vec<_> = (0..=255_u8).map(|seed| AuthPrivateKey::ed25519(&[seed; 32])).collect();
    let sign = |signer: &AuthPrivateKey| -> [u8; 64] {
        signer.authorize(parts, None, b"").unwrap().as_bytes().try_into().unwrap()
    };
    let mut known = KnownKeys::default();
    let AuthPublicKey::Ed25519(first) = signers[0].public() else { unreachable!() };
    assert!(known.verify_ed25519(&sign(&signers[0]), parts, Some(&AuthPublicKey::Ed25519(first))));
    // The same place, which the first two bytes say, and other bytes behind: a point or none.
    for last in 0..=255 {
        let mut other = first;
        other[31] ^= last;
        let is_it = last == 0;
        let other = AuthPublicKey::Ed25519(other);
        assert_eq!(known.verify_ed25519(&sign(&signers[0]), parts, Some(&other)), is_it);
    }
    for signer in &signers {
        assert!(known.verify_ed25519(&sign(signer), parts, Some(&signer.public())));
        assert!(!known.verify_ed25519(&sign(&signers[1]), parts, Some(&signers[2].public())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The batch finds just the claims that single checks refuse, and so do checks with known keys, whatever was checked before.
    #[test]
    fn a_batch_answers_as_single_checks_do(
        defects in prop::collection::vec(prop::option::weighted(0.1, 0_u8..5), 0..20),
        message in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let signers: Vec<_> = (0..defects.len()).map(|i| {
            AuthPrivateKey::ed25519(&[u8::try_from(i).unwrap(); 32])
        }).collect();
        let parts: &[&[u8]] = &[b"session", &message];
        let other_parts: &[&[u8]] = &[b"other", &message];
        let x25519 = AuthPublicKey::X25519([1; 32]);
        let no_point = AuthPublicKey::Ed25519([2; 32]);
        let publics: Vec<_> = signers.iter().map(AuthPrivateKey::public).collect();
        let signatures: Vec<[u8; 64]> = signers.iter().zip(&defects).map(|(signer, defect)| {
            let mut signature: [u8; 64] =
                signer.authorize(parts, None, b"").unwrap().as_bytes().try_into().unwrap();
            if *defect == Some(0) { signature[40] ^= 1 }
            signature
        }).collect();
        let claims: Vec<_> = (0..defects.len()).map(|i| Ed25519Claim {
            signature: &signatures[i],
            authorized: if defects[i] == Some(1) { other_parts } else { parts },
            key: match defects[i] {
                Some(2) => None,
                Some(3) => Some(&x25519),
                Some(4) => Some(&no_point),
                _ => Some(&publics[i]),
            },
        }).collect();
        let expected: Vec<_> = defects.iter().map(Option::is_none).collect();
        prop_assert_eq!(verify_ed25519_batch(&claims), expected.clone());
        let mut known = KnownKeys::default();
        for _ in 0..2 {
            let answers: Vec<_> = claims.iter().map(|claim| {
                known.verify_ed25519(claim.signature, claim.authorized, claim.key)
            }).collect();
            prop_assert_eq!(&answers, &expected);
        }
    }

    #[test]
    fn authorizations_of_any_bytes_never_panic(
        mut raw in prop::collection::vec(any::<u8>(), 0..130),
        size in prop::option::of(prop_oneof![Just(64), Just(80), Just(114)]),
    ) {
        let keys = Keys::new();
        raw.resize(size.unwrap_or(raw.len()), 7);
        if let Some(authorization) = Authorization::from_bytes(&raw) {
            prop_assert_eq!(authorization.as_bytes(), raw.as_slice());
            for private in &keys.private {
                let queue_key = private.public();
                prop_assert!(!verify(authorization, &[b"command"], Some(&queue_key), keys.context(b"")));
            }
        } else {
            prop_assert!(![0, 64, 80, 114].contains(&raw.len()));
        }
    }
}
