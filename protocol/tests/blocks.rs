//! Padding, agreed secrets, boxes, chains and blocks against `blocks.json`, and their properties.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{array, assert_bytes, bytes, list, load, number, text};
use proptest::prelude::*;
use ringpost_protocol::crypto::block::BlockCipher;
use ringpost_protocol::crypto::boxes::{
    self, BoxKey, nonce_from, open, open_in_place, open_into, open_padded, reversed, seal, seal_in_place,
    seal_into, seal_padded,
};
use ringpost_protocol::crypto::chain::{BlockChain, BlockChains};
use ringpost_protocol::crypto::dh::{DhPrivateKey, DhSecret};
use ringpost_protocol::crypto::ids::sender_id_from_correlation;
use ringpost_protocol::crypto::{OpenError, TooLarge};
use ringpost_protocol::keys::DhPublicKey;
use ringpost_protocol::limits::{BLOCK_BYTES, TAG_BYTES};
use serde_json::Value;

fn key() -> BoxKey {
    BoxKey::from_secret(&[5; 32])
}

const NONCE: boxes::Nonce = [6; 24];

fn private(key: &Value) -> DhPrivateKey {
    DhPrivateKey::from_bytes(array(&key["private"]))
}

fn public(key: &Value) -> DhPublicKey {
    DhPublicKey(array(&key["public"]))
}

/// The padded form is what a padded box seals, so it shows when the box is opened without unpadding.
#[test]
fn pad() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "pad") {
        let name = text(&case["name"]);
        let (message, padded_len) = (bytes(&case["message"]), number(&case["padded_len"]));
        let sealed = seal_padded(&key(), &NONCE, &message, padded_len);
        if case["result"].is_string() {
            assert_eq!(text(&case["result"]), "error CryptoLargeMsgError", "{name}");
            assert_eq!(sealed.unwrap_err().content_bytes, message.len(), "{name}");
        } else {
            let sealed = sealed.unwrap();
            let padded = open(&key(), &NONCE, &sealed).unwrap();
            let expected =
                if case["result"]["hex"].is_string() { &case["result"]["hex"] } else { &case["result"] };
            assert_bytes(&padded, expected, name);
            assert_eq!(open_padded(&key(), &NONCE, &sealed).unwrap(), message, "{name}");
        }
    }
}

#[test]
fn unpad() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "unpad") {
        let name = text(&case["name"]);
        let sealed = seal(&key(), &NONCE, &bytes(&case["padded"]));
        let opened = open_padded(&key(), &NONCE, &sealed);
        if case["result"].is_string() {
            assert_eq!(opened, Err(OpenError::Padding), "{name}");
        } else {
            assert_eq!(opened.unwrap(), bytes(&case["result"]), "{name}");
        }
    }
}

/// X448, the other algorithm of this list, belongs to the ratchet of the agent.
#[test]
fn agreed_secrets() {
    let vectors = load("blocks.json");
    let x25519: Vec<_> = list(&vectors, "dh").iter().filter(|case| text(&case["name"]) == "X25519").collect();
    assert_eq!(x25519.len(), 3);
    for case in x25519 {
        let (a, b) = (&case["key_a"], &case["key_b"]);
        assert_eq!(private(a).public(), public(a));
        assert_eq!(private(b).public(), public(b));
        assert_eq!(private(a).as_bytes().to_vec(), bytes(&a["private"]));
        assert_eq!(private(a).agree(&public(b)).as_bytes().to_vec(), bytes(&case["secret"]));
        assert_eq!(private(b).agree(&public(a)).as_bytes().to_vec(), bytes(&case["secret"]));
    }
}

#[test]
fn crypto_boxes() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "crypto_box") {
        let name = text(&case["name"]);
        let secret = private(&case["key_a"]).agree(&DhPublicKey(array(&case["key_b_public"])));
        assert_eq!(secret.as_bytes().to_vec(), bytes(&case["dh_secret"]), "{name}");
        let (key, nonce) = (secret.box_key(), array(&case["nonce"]));
        assert_bytes(key.as_bytes(), &case["hsalsa20_secret_zero"], name);
        let (message, padded) = (bytes(&case["message"]), bytes(&case["padded"]));
        let sealed = seal_padded(&key, &nonce, &message, number(&case["padded_len"])).unwrap();
        assert_bytes(&sealed, &case["encrypted"], name);
        assert_bytes(&seal(&key, &nonce, &padded), &case["encrypted"], name);
        assert_eq!(open_padded(&key, &nonce, &sealed).unwrap(), message, "{name}");
    }
}

#[test]
fn secret_boxes() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "secret_box") {
        let name = text(&case["name"]);
        let (key, nonce) = (BoxKey::from_secret(&array(&case["key"])), array(&case["nonce"]));
        assert_bytes(key.as_bytes(), &case["hsalsa20_key_zero"], name);
        let message = bytes(&case["message"]);
        let sealed = match case["padded_len"].as_u64() {
            Some(_) => seal_padded(&key, &nonce, &message, number(&case["padded_len"])).unwrap(),
            None => seal(&key, &nonce, &message),
        };
        assert_bytes(&sealed, &case["encrypted"], name);
        let opened = if case["padded_len"].is_null() { open } else { open_padded };
        assert_eq!(opened(&key, &nonce, &sealed).unwrap(), message, "{name}");
    }
    let failures = &vectors["secret_box_failures"];
    let (key, nonce) = (BoxKey::from_secret(&array(&failures["key"])), array(&failures["nonce"]));
    for case in list(failures, "cases") {
        let packet = bytes(&case["packet"]);
        let opened = open(&key, &nonce, &packet);
        match text(&case["result"]) {
            "ok" => assert!(opened.is_ok()),
            _ if packet.len() < TAG_BYTES => assert_eq!(opened, Err(OpenError::Size(packet.len()))),
            _ => assert_eq!(opened, Err(OpenError::Tag), "{}", case["name"]),
        }
    }
}

#[test]
fn box_of_limited_length() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "max_len_box") {
        let key = BoxKey::from_secret(&array(&case["dh_secret"]));
        let padded_len = number(&case["max_len"]) + 2;
        let sealed = seal_padded(&key, &array(&case["nonce"]), text(&case["message"]).as_bytes(), padded_len);
        assert_bytes(&sealed.unwrap(), &case["encrypted"], text(&case["name"]));
    }
}

#[test]
fn nonces() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "nonces") {
        let nonce = nonce_from(&bytes(&case["input"]));
        assert_bytes(&nonce, &case["nonce"], text(&case["name"]));
        assert_bytes(&reversed(nonce), &case["reversed"], text(&case["name"]));
    }
}

#[test]
fn chains() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "chains") {
        let name = text(&case["name"]);
        let secret = private(&case["client_key"]).agree(&public(&case["server_key"]));
        assert_eq!(secret.as_bytes().to_vec(), bytes(&case["dh_secret"]), "{name}");
        let BlockChains { router_sends, client_sends } =
            BlockChain::pair(&bytes(&case["session_id"]), &secret);
        for (mut chain, steps) in
            [(router_sends, "chain_1_server_sends"), (client_sends, "chain_2_client_sends")]
        {
            for step in list(case, steps) {
                let (key, nonce) = chain.next();
                let expected = BoxKey::from_secret(&array(&step["key"]));
                assert_eq!(key.as_bytes(), expected.as_bytes(), "{name}");
                assert_bytes(&nonce, &step["nonce"], name);
            }
        }
    }
}

fn block_of(cipher: &BlockCipher, content: &[u8]) -> Box<[u8; BLOCK_BYTES]> {
    let mut block = Box::new([0xee; BLOCK_BYTES]);
    block[cipher.content_offset()..][..content.len()].copy_from_slice(content);
    block
}

#[test]
fn encrypted_blocks() {
    let vectors = load("blocks.json");
    for case in list(&vectors, "encrypted_blocks") {
        let name = text(&case["name"]);
        let (session_id, secret) =
            (bytes(&case["session_id"]), DhSecret::from_bytes(array(&case["dh_secret"])));
        let mut router = BlockCipher::router(&session_id, &secret);
        let mut client = BlockCipher::client(&session_id, &secret);
        for record in list(case, "blocks_in_order") {
            let (from, to) = match text(&record["from"]) {
                "server" => (&mut router, &mut client),
                _ => (&mut client, &mut router),
            };
            let content = bytes(&record["content"]);
            let mut block = block_of(from, &content);
            from.seal(&mut block, content.len()).unwrap();
            assert_bytes(block.as_slice(), &record["block"], name);
            if record["block_full"].is_string() {
                assert_bytes(block.as_slice(), &record["block_full"], name);
            }
            let opened = to.open(block.as_mut_slice()).unwrap();
            assert_eq!(block[opened], content[..], "{name}");
        }
        assert_eq!(text(&case["content_of_16367_bytes"]), "Left TELargeMsg");
        let mut block = Box::new([0; BLOCK_BYTES]);
        let refused = TooLarge { content_bytes: 16_367, content_bytes_max: 16_366 };
        assert_eq!(router.seal(&mut block, 16_367), Err(refused));
        assert_eq!(*block, [0; BLOCK_BYTES]);
        // What was refused has not stepped the chain.
        router.seal(&mut block, 0).unwrap();
        assert_eq!(client.open(block.as_mut_slice()), Ok(18..18));
    }
}

#[test]
fn blocks_without_encryption() {
    let vectors = load("smp_transmission.json");
    for case in list(&vectors, "transmissions") {
        let content = bytes(&case["single_transmission_batch"]);
        let mut cipher = BlockCipher::plain();
        let mut block = block_of(&cipher, &content);
        cipher.seal(&mut block, content.len()).unwrap();
        let name = text(&case["name"]);
        if let Some(sha256) = case["block_sha256"].as_str().filter(|_| number(&case["version"]) < 11) {
            use sha2::Digest;
            assert_eq!(hex::encode(sha2::Sha256::digest(block.as_slice())), sha256, "{name}");
        }
        let opened = cipher.open(block.as_mut_slice()).unwrap();
        assert_eq!(block[opened], content[..], "{name}");
    }
    let mut cipher = BlockCipher::plain();
    let mut block = Box::new([b'a'; BLOCK_BYTES]);
    assert_eq!(cipher.content_bytes_max(), 16_382);
    assert!(cipher.seal(&mut block, 16_383).is_err());
    cipher.seal(&mut block, 16_382).unwrap();
    assert_eq!(cipher.open(block.as_mut_slice()), Ok(2..BLOCK_BYTES));
    block[..2].copy_from_slice(&16_383_u16.to_be_bytes());
    assert_eq!(cipher.open(block.as_mut_slice()), Err(OpenError::Padding));
}

/// A block can be replayed, reordered, reflected or cut no more than it can be changed.
#[test]
fn blocks_open_once_in_order_and_on_the_other_side() {
    let secret = DhSecret::from_bytes([1; 32]);
    let sides = || (BlockCipher::router(b"session", &secret), BlockCipher::client(b"session", &secret));
    let (mut router, _) = sides();
    let mut blocks = [block_of(&router, b"first"), block_of(&router, b"second")];
    for (block, len) in blocks.iter_mut().zip([5, 6]) {
        router.seal(block, len).unwrap();
    }
    let [first, second] = blocks;

    let (mut reflected, mut client) = sides();
    assert_eq!(reflected.open(&mut first.clone()[..]), Err(OpenError::Tag));
    assert_eq!(client.open(&mut first.clone()[..]), Ok(18..23));
    assert_eq!(client.open(&mut first.clone()[..]), Err(OpenError::Tag));
    let (_, mut client) = sides();
    assert_eq!(client.open(&mut second.clone()[..]), Err(OpenError::Tag));
    for len in [0, 15, 16, BLOCK_BYTES - 1] {
        let (_, mut client) = sides();
        assert_eq!(client.open(&mut first.clone()[..len]), Err(OpenError::Size(len)));
    }
    let (mut sealer, mut opener) = (sides().0.split().0, sides().1.split().1);
    let mut block = first.clone();
    block[18..20].copy_from_slice(b"hi");
    sealer.seal(&mut block, 2).unwrap();
    assert_eq!(opener.open(block.as_mut_slice()), Ok(18..20));
    assert_eq!(&block[18..20], b"hi");
}

#[test]
fn secrets_are_not_printed() {
    let secret = DhSecret::from_bytes([0xab; 32]);
    let chains = BlockChain::pair(b"", &secret);
    let private = DhPrivateKey::from_bytes([0xab; 32]);
    let printed = format!("{secret:?} {chains:?} {private:?} {:?}", secret.box_key());
    assert_eq!(
        printed,
        "DhSecret BlockChains { router_sends: BlockChain, client_sends: BlockChain } DhPrivateKey BoxKey"
    );
}

/// The example message of NIST for SHA3-384, "abc": the first 24 of the 48 bytes.
#[test]
fn sender_ids() {
    assert_eq!(
        hex::encode(sender_id_from_correlation(b"abc")),
        "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c25"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every length around the cipher's steps, and a block's.
    #[test]
    fn boxes_are_those_of_another_library(
        one: [u8; 32],
        other: [u8; 32],
        nonce: [u8; 24],
        length in prop_oneof![0_usize..700, Just(BLOCK_BYTES)],
        fill: u8,
    ) {
        use crypto_box::aead::Aead;
        let (ours, theirs) = (DhPrivateKey::from_bytes(one), crypto_box::SecretKey::from(other));
        let clear: Vec<u8> = (0..length).map(|at| fill.wrapping_add(at.to_le_bytes()[0])).collect();
        let sealed = seal(&ours.agree(&DhPublicKey(*theirs.public_key().as_bytes())).box_key(), &nonce, &clear);
        let their_box = crypto_box::SalsaBox::new(&crypto_box::PublicKey::from(ours.public().0), &theirs);
        prop_assert_eq!(&their_box.encrypt(&nonce.into(), &clear[..]).unwrap(), &sealed);
        prop_assert_eq!(their_box.decrypt(&nonce.into(), &sealed[..]).unwrap(), clear);
    }

    #[test]
    fn all_ways_to_seal_give_the_same_box(
        secret in any::<[u8; 32]>(),
        nonce in any::<[u8; 24]>(),
        clear in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let key = BoxKey::from_secret(&secret);
        let sealed = seal(&key, &nonce, &clear);
        prop_assert_eq!(sealed.len(), clear.len() + TAG_BYTES);
        let mut in_place = vec![0xcc; TAG_BYTES];
        in_place.extend_from_slice(&clear);
        seal_in_place(&key, &nonce, &mut in_place);
        prop_assert_eq!(&in_place, &sealed);
        let mut into = vec![0xdd; sealed.len()];
        seal_into(&key, &nonce, &clear, &mut into);
        prop_assert_eq!(&into, &sealed);

        prop_assert_eq!(open(&key, &nonce, &sealed).unwrap(), clear.clone());
        let mut opened = vec![0xee; clear.len()];
        prop_assert_eq!(open_into(&key, &nonce, &sealed, &mut opened), Ok(()));
        prop_assert_eq!(&opened, &clear);
        prop_assert_eq!(open_in_place(&key, &nonce, &mut in_place), Ok(&mut opened[..]));
    }

    #[test]
    fn a_changed_or_cut_box_does_not_open(clear in prop::collection::vec(any::<u8>(), 0..80)) {
        let sealed = seal(&key(), &NONCE, &clear);
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1_u8 << bit;
                let before = changed.clone();
                prop_assert_eq!(open(&key(), &NONCE, &changed), Err(OpenError::Tag));
                prop_assert_eq!(open_in_place(&key(), &NONCE, &mut changed), Err(OpenError::Tag));
                prop_assert_eq!(changed, before);
            }
            let error = if at < TAG_BYTES { OpenError::Size(at) } else { OpenError::Tag };
            prop_assert_eq!(open(&key(), &NONCE, &sealed[..at]), Err(error));
            let mut cut = sealed[..at].to_vec();
            prop_assert_eq!(open_in_place(&key(), &NONCE, &mut cut), Err(error));
            prop_assert_eq!(open_padded(&key(), &NONCE, &sealed[..at]), Err(error));
        }
        let mut other_nonce = NONCE;
        other_nonce[23] ^= 1;
        prop_assert_eq!(open(&key(), &other_nonce, &sealed), Err(OpenError::Tag));
        let other_key = BoxKey::from_secret(&[4; 32]);
        prop_assert_eq!(open(&other_key, &NONCE, &sealed), Err(OpenError::Tag));
    }

    #[test]
    fn padded_boxes_give_back_what_fits(
        message in prop::collection::vec(any::<u8>(), 0..300),
        padded_len in 0..400_usize,
    ) {
        match seal_padded(&key(), &NONCE, &message, padded_len) {
            Ok(sealed) => {
                prop_assert!(message.len() + 2 <= padded_len);
                prop_assert_eq!(sealed.len(), padded_len + TAG_BYTES);
                prop_assert_eq!(open_padded(&key(), &NONCE, &sealed), Ok(message));
            }
            Err(error) => {
                prop_assert!(message.len() + 2 > padded_len);
                prop_assert_eq!(error.content_bytes_max, padded_len.saturating_sub(2));
            }
        }
    }

    #[test]
    fn sessions_carry_any_content(
        secret in any::<[u8; 32]>(),
        session_id in prop::collection::vec(any::<u8>(), 0..64),
        contents in prop::collection::vec((any::<bool>(), any::<u8>(), 0..=16_366_usize), 1..6),
        change in any::<prop::sample::Index>(),
    ) {
        let secret = DhSecret::from_bytes(secret);
        let mut router = BlockCipher::router(&session_id, &secret);
        let mut client = BlockCipher::client(&session_id, &secret);
        for (from_router, byte, len) in contents {
            let (from, to) = if from_router { (&mut router, &mut client) } else { (&mut client, &mut router) };
            let content = vec![byte; len];
            let mut block = block_of(from, &content);
            from.seal(&mut block, len).unwrap();
            let opened = to.open(block.as_mut_slice()).unwrap();
            prop_assert_eq!(&block[opened], &content);
        }
        let mut block = block_of(&router, b"content");
        router.seal(&mut block, 7).unwrap();
        block[change.index(BLOCK_BYTES)] ^= 1;
        prop_assert_eq!(client.open(block.as_mut_slice()), Err(OpenError::Tag));
    }

    #[test]
    fn plain_blocks_of_any_bytes_never_panic(start in any::<[u8; 4]>(), len in 0..BLOCK_BYTES + 2) {
        let mut block = vec![0; len];
        for (to, from) in block.iter_mut().zip(start) { *to = from; }
        match BlockCipher::plain().open(&mut block) {
            Ok(content) => prop_assert!(block.get(content).is_some()),
            Err(OpenError::Size(size)) => { prop_assert_eq!(size, len); prop_assert_ne!(len, BLOCK_BYTES); }
            Err(error) => prop_assert_eq!(error, OpenError::Padding),
        }
    }
}
