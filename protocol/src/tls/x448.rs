//! X448 (RFC 7748) as a group for key exchange (RFC 8446, 4.2.8.2). The apps offer a share of it first, and no other
//! share: without it every connection of a phone costs one more round trip, for the router's `HelloRetryRequest` and
//! a second hello.

use std::fmt;

use crrl::x448::{x448, x448_base};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{ActiveKeyExchange, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Of a scalar, of a coordinate and of the secret.
const KEY_BYTES: usize = 56;

#[derive(Debug)]
pub(super) struct X448;

impl SupportedKxGroup for X448 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut private = Zeroizing::new([0; KEY_BYTES]);
        default_provider().secure_random.fill(&mut *private)?;
        Ok(Box::new(Exchange { public: x448_base(&private), private }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X448
    }
}

/// This side's keys of one exchange.
struct Exchange {
    private: Zeroizing<[u8; KEY_BYTES]>,
    public: [u8; KEY_BYTES],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let secret = Zeroizing::new(x448(peer, &self.private));
        // RFC 8446, 7.4.2: a peer whose key is of low order knows the secret without an exchange.
        if secret.ct_eq(&[0; KEY_BYTES]).into() {
            return Err(PeerMisbehaved::InvalidKeyShare.into());
        }
        Ok(SharedSecret::from(&secret[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X448
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("X448 exchange")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn key(text: &str) -> [u8; KEY_BYTES] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    fn exchange(private: &str) -> Box<dyn ActiveKeyExchange> {
        let private = Zeroizing::new(key(private));
        Box::new(Exchange { public: x448_base(&private), private })
    }

    /// RFC 7748, 5.2: scalar, coordinate, result.
    #[test]
    fn single_vectors() {
        for [scalar, u, result] in [
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
        ] {
            let secret = exchange(scalar).complete(&key(u)).unwrap();
            assert_eq!(hex::encode(secret.secret_bytes()), result);
        }
    }

    /// RFC 7748, 5.2: each round's result is the next scalar, its scalar the next coordinate.
    #[test]
    fn iterated_vectors() {
        let mut scalar = [0; KEY_BYTES];
        scalar[0] = 5;
        let mut u = scalar;
        for round in 1..=1_000 {
            let secret = exchange(&hex::encode(scalar)).complete(&u).unwrap();
            u = scalar;
            scalar = secret.secret_bytes().try_into().unwrap();
            let expected = match round {
                1 => {
                    "3f482c8a9f19b01e6c46ee9711d9dc14fd4bf67af30765c2ae2b846a4d23a8cd0db897086239492caf350b51f833868b9bc2b3bca9cf4113"
                }
                1_000 => {
                    "aa3b4749d55b9daf1e5b00288826c467274ce3ebbdd5c17b975e09d4af6c67cf10d087202db88286e2b79fceea3ec353ef54faa26e219f38"
                }
                _ => continue,
            };
            assert_eq!(hex::encode(scalar), expected);
        }
    }

    /// RFC 7748, 6.2: private and public keys of both sides, and the secret.
    #[test]
    fn both_sides_agree() {
        let alice = exchange(
            "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
        );
        let bob = exchange(
            "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d6927c120bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d",
        );
        let public = "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0";
        assert_eq!(hex::encode(alice.pub_key()), public);
        let public = "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b43027d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609";
        assert_eq!(hex::encode(bob.pub_key()), public);
        let secret = "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d";
        let (of_alice, of_bob) = (alice.pub_key().to_vec(), bob.pub_key().to_vec());
        assert_eq!(hex::encode(alice.complete(&of_bob).unwrap().secret_bytes()), secret);
        assert_eq!(hex::encode(bob.complete(&of_alice).unwrap().secret_bytes()), secret);
    }

    /// All coordinates of points of low order, on the curve and its twist, in every encoding: 0, 1, p - 1, p, p + 1.
    #[test]
    fn keys_of_low_order_and_other_lengths_are_refused() {
        let refused = |peer: &[u8]| {
            let error = X448.start().unwrap().complete(peer).err();
            assert_eq!(error, Some(PeerMisbehaved::InvalidKeyShare.into()), "{}", hex::encode(peer));
        };
        let (mut zero, mut one) = ([0; KEY_BYTES], [0; KEY_BYTES]);
        refused(&zero);
        one[0] = 1;
        refused(&one);
        // p = 2^448 - 2^224 - 1
        let mut prime = [0xff; KEY_BYTES];
        prime[28] = 0xfe;
        refused(&prime);
        prime[0] = 0xfe;
        refused(&prime);
        prime[..28].fill(0);
        prime[28] = 0xff;
        refused(&prime);
        zero[0] = 5;
        assert!(X448.start().unwrap().complete(&zero).is_ok());
        for length in [0, 55, 57, 112] {
            refused(&vec![5; length]);
        }
    }

    #[test]
    fn every_exchange_has_new_keys() {
        let [one, other] = [X448.start().unwrap(), X448.start().unwrap()];
        assert_eq!((one.group(), one.pub_key().len()), (NamedGroup::X448, KEY_BYTES));
        assert_ne!(one.pub_key(), other.pub_key());
    }
}
