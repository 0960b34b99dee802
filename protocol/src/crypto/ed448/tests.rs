#![allow(clippy::unwrap_used)]

use ed448_goldilocks_plus as other;
use proptest::prelude::*;

use super::*;

/// A point of order 4: x = -1, y = 0.
const OF_ORDER_4: [u8; KEY_BYTES] = [0; KEY_BYTES];

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&[seed; KEY_BYTES])
}

/// What another implementation says.
fn other_accepts(public: &[u8; KEY_BYTES], signature: &[u8; SIGNATURE_BYTES], message: &[u8]) -> bool {
    let key = other::VerifyingKey::from_bytes(public);
    let signature = other::Signature::from_bytes(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_raw(&signature, message).is_ok())
}

fn accepts(public: &[u8; KEY_BYTES], signature: &[u8; SIGNATURE_BYTES], message: &[u8]) -> bool {
    PublicKey::from_bytes(public).is_some_and(|key| key.verify(signature, &[message]))
}

/// The signature that the owner of `key` makes with this R, whose logarithm is `nonce` but for its small-order part.
fn signed_with(
    key: &PrivateKey,
    r: &[u8; KEY_BYTES],
    nonce: Scalar,
    message: &[u8],
) -> [u8; SIGNATURE_BYTES] {
    let k = hash_to_scalar(&[r, key.public().as_bytes()], &[message]);
    let s = nonce + k * Scalar::decode_reduce(&key.scalar);
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..KEY_BYTES].copy_from_slice(r);
    signature[KEY_BYTES..SIGNATURE_BYTES - 1].copy_from_slice(&s.encode());
    signature
}

/// RFC 8032, 7.4, those with an empty context: seed, public key, message, signature.
#[test]
fn vectors_of_the_rfc() {
    for [seed, public, message, signature] in [
        [
            "6c82a562cb808d10d632be89c8513ebf6c929f34ddfa8c9f63c9960ef6e348a3528c8a3fcc2f044e39a3fc5b94492f8f032e7549a20098\
             f95b",
            "5fd7449b59b461fd2ce787ec616ad46a1da1342485a70e1f8a0ea75d80e96778edf124769b46c7061bd6783df1e50f6cd1fa1abeafe825\
             6180",
            "",
            "533a37f6bbe457251f023c0d88f976ae2dfb504a843e34d2074fd823d41a591f2b233f034f628281f2fd7a22ddd47d7828c59bd0a21bfd\
             3980ff0d2028d4b18a9df63e006c5d1c2d345b925d8dc00b4104852db99ac5c7cdda8530a113a0f4dbb61149f05a7363268c71d95808ff\
             2e652600",
        ],
        [
            "c4eab05d357007c632f3dbb48489924d552b08fe0c353a0d4a1f00acda2c463afbea67c5e8d2877c5e3bc397a659949ef8021e954e0a12\
             274e",
            "43ba28f430cdff456ae531545f7ecd0ac834a55d9358c0372bfa0c6c6798c0866aea01eb00742802b8438ea4cb82169c235160627b4c3a\
             9480",
            "03",
            "26b8f91727bd62897af15e41eb43c377efb9c610d48f2335cb0bd0087810f4352541b143c4b981b7e18f62de8ccdf633fc1bf037ab7cd7\
             79805e0dbcc0aae1cbcee1afb2e027df36bc04dcecbf154336c19f0af7e0a6472905e799f1953d2a0ff3348ab21aa4adafd1d234441cf8\
             07c03a00",
        ],
        [
            "2ec5fe3c17045abdb136a5e6a913e32ab75ae68b53d2fc149b77e504132d37569b7e766ba74a19bd6162343a21c8590aa9cebca9014c63\
             6df5",
            "79756f014dcfe2079f5dd9e718be4171e2ef2486a08f25186f6bff43a9936b9bfe12402b08ae65798a3d81e22e9ec80e7690862ef3d4ed\
             3a00",
            "15777532b0bdd0d1389f636c5f6b9ba734c90af572877e2d272dd078aa1e567cfa80e12928bb542330e8409f3174504107ecd5efac61ae\
             7504dabe2a602ede89e5cca6257a7c77e27a702b3ae39fc769fc54f2395ae6a1178cab4738e543072fc1c177fe71e92e25bf03e4ecb72f\
             47b64d0465aaea4c7fad372536c8ba516a6039c3c2a39f0e4d832be432dfa9a706a6e5c7e19f397964ca4258002f7c0541b590316dbc56\
             22b6b2a6fe7a4abffd96105eca76ea7b98816af0748c10df048ce012d901015a51f189f3888145c03650aa23ce894c3bd889e030d56507\
             1c59f409a9981b51878fd6fc110624dcbcde0bf7a69ccce38fabdf86f3bef6044819de11",
            "c650ddbb0601c19ca11439e1640dd931f43c518ea5bea70d3dcde5f4191fe53f00cf966546b72bcc7d58be2b9badef28743954e3a44a23\
             f880e8d4f1cfce2d7a61452d26da05896f0a50da66a239a8a188b6d825b3305ad77b73fbac0836ecc60987fd08527c1a8e80d5823e65ca\
             fe2a3d00",
        ],
    ] {
        let key = PrivateKey::from_seed(&hex::decode(seed).unwrap().try_into().unwrap());
        assert_eq!(hex::encode(key.public().as_bytes()), public);
        let message = hex::decode(message).unwrap();
        // However the message is cut.
        for cut in [0, message.len() / 3, message.len()] {
            let parts: &[&[u8]] = &[&message[..cut], &message[cut..]];
            let made = key.sign(parts);
            assert_eq!(hex::encode(made), signature);
            assert!(key.public().verify(&made, parts));
        }
    }
}

#[test]
fn every_changed_bit_is_seen() {
    let (key, message) = (key(1), b"message");
    let signature = key.sign(&[message]);
    for bit in 0..8 * SIGNATURE_BYTES {
        let mut changed = signature;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public().verify(&changed, &[message]), "bit {bit}");
    }
    assert!(!key.public().verify(&signature, &[b"massage"]));
    assert!(!self::key(2).public().verify(&signature, &[message]));
}

/// Adding the order of the group to S gives the same equation, so only one of the two forms may pass.
#[test]
fn a_signature_has_one_form() {
    // 2^446 - 13818066809895115352007386748515426880336692474882178609894547503885, least byte first.
    let order = hex::decode(
        "f34458ab92c27823558fc58d72c26c219036d6ae49db4ec4e923ca7cffffffffffffffffffffffffffffffffffffffffffffffffffffff3f",
    );
    let (key, order) = (key(3), order.unwrap());
    let mut signature = key.sign(&[b"message"]);
    assert!(accepts(key.public().as_bytes(), &signature, b"message"));
    let mut carry = 0;
    for (byte, add) in signature[KEY_BYTES..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert!(!accepts(key.public().as_bytes(), &signature, b"message"));
    assert!(!other_accepts(key.public().as_bytes(), &signature, b"message"));
}

/// Points with a part of small order would give one message several signatures, or one signature several keys.
#[test]
fn small_order_parts_are_refused() {
    let (key, message) = (key(4), b"message");
    let small = Point::decode(&OF_ORDER_4).unwrap();
    assert!(small.isneutral() == 0 && small.xdouble(2).isneutral() != 0);
    for small in [small, small.double(), -small] {
        let shifted = (key.public().point + small).encode();
        assert!(Point::decode(&shifted).is_some());
        assert!(
            PublicKey::from_bytes(&shifted).is_none() && PublicKey::from_bytes(&small.encode()).is_none()
        );
        assert!(other::VerifyingKey::from_bytes(&shifted).is_err());

        let nonce = Scalar::from_u32(77);
        let r = (Point::mulgen(&nonce) + small).encode();
        let signature = signed_with(&key, &r, nonce, message);
        assert!(!accepts(key.public().as_bytes(), &signature, message));
        assert!(!other_accepts(key.public().as_bytes(), &signature, message));
    }
    // Without that part the signature made in the same way is good.
    let nonce = Scalar::from_u32(77);
    let signature = signed_with(&key, &Point::mulgen(&nonce).encode(), nonce, message);
    assert!(accepts(key.public().as_bytes(), &signature, message));
    assert!(other_accepts(key.public().as_bytes(), &signature, message));
}

#[test]
fn the_neutral_element_is_neither_key_nor_r() {
    let neutral = Point::NEUTRAL.encode();
    assert!(PublicKey::from_bytes(&neutral).is_none());
    assert!(other::VerifyingKey::from_bytes(&neutral).is_err());
    let key = key(5);
    let signature = signed_with(&key, &neutral, Scalar::ZERO, b"message");
    assert!(!accepts(key.public().as_bytes(), &signature, b"message"));
    assert!(!other_accepts(key.public().as_bytes(), &signature, b"message"));
}

/// RFC 8032, 5.2.3: the seven bits behind the coordinate are zero. (The other implementation does not look at them.)
#[test]
fn unused_bits_are_zero() {
    let (key, nonce) = (key(6), Scalar::from_u32(99));
    for bit in 0..7 {
        let mut r = Point::mulgen(&nonce).encode();
        r[KEY_BYTES - 1] |= 1 << bit;
        let signature = signed_with(&key, &r, nonce, b"message");
        assert!(!accepts(key.public().as_bytes(), &signature, b"message"), "bit {bit}");
        let mut public = *key.public().as_bytes();
        public[KEY_BYTES - 1] |= 1 << bit;
        assert!(PublicKey::from_bytes(&public).is_none(), "bit {bit}");
    }
}

#[test]
fn keys_are_not_printed() {
    assert_eq!(format!("{:?}", key(7)), "Ed448 private key");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Two implementations make the same signatures and accept the same ones.
    #[test]
    fn another_implementation_agrees(
        seed in prop::array::uniform32(any::<u8>()),
        message in prop::collection::vec(any::<u8>(), 0..300),
        changed in prop::option::of((0..SIGNATURE_BYTES - 1, 1..=u8::MAX)),
    ) {
        let mut whole_seed = [9; KEY_BYTES];
        whole_seed[..32].copy_from_slice(&seed);
        let key = PrivateKey::from_seed(&whole_seed);
        let theirs = other::SigningKey::from_bytes(&other::SecretKey::from(whole_seed));
        prop_assert_eq!(key.public().as_bytes(), &theirs.verifying_key().to_bytes());
        let mut signature = key.sign(&[&message]);
        prop_assert_eq!(signature, theirs.sign_raw(&message).to_bytes());
        if let Some((at, mask)) = changed {
            signature[at] ^= mask;
        }
        let accepted = accepts(key.public().as_bytes(), &signature, &message);
        prop_assert_eq!(accepted, changed.is_none());
        prop_assert_eq!(accepted, other_accepts(key.public().as_bytes(), &signature, &message));
    }

    #[test]
    fn any_bytes_never_panic(
        public in prop::collection::vec(any::<u8>(), KEY_BYTES),
        signature in prop::collection::vec(any::<u8>(), SIGNATURE_BYTES),
    ) {
        let signature: [u8; SIGNATURE_BYTES] = signature.try_into().unwrap();
        if let Some(key) = PublicKey::from_bytes(&public.try_into().unwrap()) {
            prop_assert!(!key.verify(&signature, &[b"message"]));
        }
        prop_assert!(!key(8).public().verify(&signature, &[b"message"]));
    }
}
