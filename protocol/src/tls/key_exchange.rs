//! The groups for key exchange on Montgomery curves (RFC 7748; RFC 8446, 4.2.8.2): X25519 and X448.
//!
//! rustls has X25519 too, through ring, which takes 59 us to make a key and agree where this takes 32. It has no X448. The
//! apps offer a share of that first, and no other share: without it every connection of a phone costs one more round trip,
//! for the router's `HelloRetryRequest` and a second hello.

use std::cell::RefCell;
use std::fmt;

use crrl::x448::{x448, x448_base};
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::random::FetchedRandom;
use crate::crypto::awslc::x25519;
use crate::crypto::several::{at_once, x25519_bases};

pub(super) static X25519: Group<32> =
    Group { name: NamedGroup::X25519, make: x25519_pair, multiply: |point, scalar| x25519(scalar, point) };

pub(super) static X448: Group<56> = Group { name: NamedGroup::X448, make: x448_pair, multiply: x448 };

/// A curve whose scalars, coordinates and secrets have `N` bytes.
pub(super) struct Group<const N: usize> {
    name: NamedGroup,
    /// Keys that nobody else has.
    make: fn() -> Result<Pair<N>, GetRandomFailed>,
    /// A coordinate times a scalar. Zero for a coordinate of low order.
    multiply: fn(&[u8; N], &[u8; N]) -> [u8; N],
}

impl<const N: usize> SupportedKxGroup for Group<N> {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let Pair { private, public } = (self.make)()?;
        Ok(Box::new(Exchange { name: self.name, multiply: self.multiply, public, private }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

/// Keys of an exchange to come.
struct Pair<const N: usize> {
    private: Zeroizing<[u8; N]>,
    public: [u8; N],
}

thread_local! {
    /// Made at once with others that were taken.
    static X25519_AHEAD: RefCell<Vec<Pair<32>>> = const { RefCell::new(Vec::new()) };
}

fn x25519_pair() -> Result<Pair<32>, GetRandomFailed> {
    X25519_AHEAD.with_borrow_mut(|ahead| {
        if let Some(pair) = take_last(ahead) {
            return Ok(pair);
        }
        let mut privates = Zeroizing::new(vec![[0; 32]; at_once()]);
        for private in privates.iter_mut() {
            FetchedRandom.fill(private)?;
        }
        let pairs = privates.iter().zip(x25519_bases(&privates));
        ahead.extend(pairs.map(|(private, public)| Pair { private: Zeroizing::new(*private), public }));
        take_last(ahead).ok_or(GetRandomFailed)
    })
}

/// `Vec::pop` would leave the key's bytes in its place.
fn take_last(ahead: &mut Vec<Pair<32>>) -> Option<Pair<32>> {
    let last = ahead.last()?;
    let pair = Pair { private: last.private.clone(), public: last.public };
    ahead.truncate(ahead.len() - 1);
    Some(pair)
}

fn x448_pair() -> Result<Pair<56>, GetRandomFailed> {
    let mut private = Zeroizing::new([0; 56]);
    FetchedRandom.fill(&mut *private)?;
    Ok(Pair { public: x448_base(&private), private })
}

impl<const N: usize> fmt::Debug for Group<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// This side's keys of one exchange.
struct Exchange<const N: usize> {
    name: NamedGroup,
    multiply: fn(&[u8; N], &[u8; N]) -> [u8; N],
    private: Zeroizing<[u8; N]>,
    public: [u8; N],
}

impl<const N: usize> ActiveKeyExchange for Exchange<N> {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let secret = Zeroizing::new((self.multiply)(peer, &self.private));
        // RFC 8446, 7.4.2: a peer whose key is of low order knows the secret without an exchange.
        if secret.ct_eq(&[0; N]).into() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&secret[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        self.name
    }
}

impl<const N: usize> fmt::Debug for Exchange<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} exchange", self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use super::*;

    fn exchange<const N: usize>(group: &Group<N>, private: &str) -> Box<dyn ActiveKeyExchange> {
        let private: [u8; N] = hex::decode(private).unwrap().try_into().unwrap();
        let (name, multiply) = (group.name, group.multiply);
        let mut base_point = [0; N];
        base_point[0] = if N == 32 { 9 } else { 5 };
        let public = multiply(&base_point, &private);
        Box::new(Exchange { name, multiply, public, private: Zeroizing::new(private) })
    }

    /// RFC 7748, 5.2: scalar, coordinate, result.
    #[test]
    fn single_vectors() {
        fn check<const N: usize>(group: &Group<N>, vectors: &[[&str; 3]]) {
            for [scalar, u, result] in vectors {
                let secret = exchange(group, scalar).complete(&hex::decode(u).unwrap()).unwrap();
                assert_eq!(hex::encode(secret.secret_bytes()), *result);
            }
        }
        check(
            &X25519,
            &[
                [
                    "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                    "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                    "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
                ],
                [
                    "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                    "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                    "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
                ],
            ],
        );
        check(
            &X448,
            &[
                [
                    "3d262fddf9ec8e88495266fea19a34d28882acef045104d0d1aae121700a779c984c24f8cdd78fbff44943eba368f54b29259a4f1c600ad3",
                    "06fce640fa3487bfda5f6cf2d5263f8aad88334cbd07437f020f08f9814dc031ddbdc38c19c6da2583fa5429db94ada18aa7a7fb4ef8a086",
                    "ce3e4ff95a60dc6697da1db1d85e6afbdf79b50a2412d7546d5f239fe14fbaadeb445fc66a01b0779d98223961111e21766282f73dd96b6f",
                ],
                [
                    "203d494428b8399352665ddca42f9de8fef600908e0d461cb021f8c538345dd77c3e4806e25f46d3315c44e0a5b4371282dd2c8d5be3095f",
                    "0fbcc2f993cd56d3305b0b7d9e55d4c1a8fb5dbb52f8e9a1e9b6201b165d015894e56c4d3570bee52fe205e28a78b91cdfbde71ce8d157db",
                    "884a02576239ff7a2f2f63b2db6a9ff37047ac13568e1e30fe63c4a7ad1b3ee3a5700df34321d62077e63633c575c1c954514e99da7c179d",
                ],
            ],
        );
    }

    /// RFC 7748, 5.2: each round's result is the next scalar, its scalar the next coordinate.
    #[test]
    fn iterated_vectors() {
        fn check<const N: usize>(group: &Group<N>, start: u8, first: &str, thousandth: &str) {
            let mut scalar = [0; N];
            scalar[0] = start;
            let mut u = scalar;
            for round in 1..=1_000 {
                let secret = exchange(group, &hex::encode(scalar)).complete(&u).unwrap();
                u = scalar;
                scalar = secret.secret_bytes().try_into().unwrap();
                let expected = match round {
                    1 => first,
                    1_000 => thousandth,
                    _ => continue,
                };
                assert_eq!(hex::encode(scalar), expected);
            }
        }
        check(
            &X25519,
            9,
            "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079",
            "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51",
        );
        check(
            &X448,
            5,
            "3f482c8a9f19b01e6c46ee9711d9dc14fd4bf67af30765c2ae2b846a4d23a8cd0db897086239492caf350b51f833868b9bc2b3bca9cf4113",
            "aa3b4749d55b9daf1e5b00288826c467274ce3ebbdd5c17b975e09d4af6c67cf10d087202db88286e2b79fceea3ec353ef54faa26e219f38",
        );
    }

    /// RFC 7748, 6: private and public keys of both sides, and the secret.
    #[test]
    fn both_sides_agree() {
        fn check<const N: usize>(group: &Group<N>, alice: [&str; 2], bob: [&str; 2], secret: &str) {
            let [alice, bob] = [alice, bob].map(|[private, public]| {
                let exchange = exchange(group, private);
                assert_eq!(hex::encode(exchange.pub_key()), public);
                exchange
            });
            let (of_alice, of_bob) = (alice.pub_key().to_vec(), bob.pub_key().to_vec());
            assert_eq!(hex::encode(alice.complete(&of_bob).unwrap().secret_bytes()), secret);
            assert_eq!(hex::encode(bob.complete(&of_alice).unwrap().secret_bytes()), secret);
        }
        check(
            &X25519,
            [
                "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
                "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
            ],
            [
                "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
                "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            ],
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        );
        check(
            &X448,
            [
                "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
                "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0",
            ],
            [
                "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d",
                "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b43027d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
            ],
            "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d",
        );
    }

    /// Coordinates of points of low order: 0, 1, p - 1, p, p + 1, and for X25519 the two of order 8.
    #[test]
    fn keys_of_low_order_and_other_lengths_are_refused() {
        fn check<const N: usize>(group: &'static Group<N>, low: &[[u8; N]]) {
            let refused = |peer: &[u8]| {
                let error = group.start().unwrap().complete(peer).err();
                assert_eq!(error, Some(PeerMisbehaved::InvalidKeyShare.into()), "{}", hex::encode(peer));
            };
            for key in low {
                refused(key);
            }
            for length in [0, N - 1, N + 1, 2 * N] {
                refused(&vec![5; length]);
            }
            let mut five = [0; N];
            five[0] = 5;
            assert!(group.start().unwrap().complete(&five).is_ok());
        }
        fn small<const N: usize>(first: u8) -> [u8; N] {
            let mut key = [0; N];
            key[0] = first;
            key
        }
        // p = 2^255 - 19
        let around = |first: u8| {
            let mut key = [0xff; 32];
            (key[0], key[31]) = (first, 0x7f);
            key
        };
        let of_order_8 = [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ]
        .map(|text| hex::decode(text).unwrap().try_into().unwrap());
        check(
            &X25519,
            &[small(0), small(1), around(0xec), around(0xed), around(0xee), of_order_8[0], of_order_8[1]],
        );
        // p = 2^448 - 2^224 - 1
        let mut prime = [0xff; 56];
        prime[28] = 0xfe;
        let mut below = prime;
        below[0] = 0xfe;
        let mut above = prime;
        above[..28].fill(0);
        above[28] = 0xff;
        check(&X448, &[small(0), small(1), below, prime, above]);
    }

    #[test]
    fn every_exchange_has_new_keys() {
        fn check<const N: usize>(group: &Group<N>, name: NamedGroup) {
            let mut seen = HashSet::new();
            // More than are made at once.
            for _ in 0..20 {
                let [one, other] = [group.start().unwrap(), group.start().unwrap()];
                assert_eq!((one.group(), one.pub_key().len()), (name, N));
                assert!(seen.insert(one.pub_key().to_vec()) && seen.insert(other.pub_key().to_vec()));
                let (of_one, of_other) = (one.pub_key().to_vec(), other.pub_key().to_vec());
                let (secret, same) = (one.complete(&of_other).unwrap(), other.complete(&of_one).unwrap());
                assert_eq!(secret.secret_bytes(), same.secret_bytes());
            }
        }
        check(&X25519, NamedGroup::X25519);
        check(&X448, NamedGroup::X448);
    }
}
