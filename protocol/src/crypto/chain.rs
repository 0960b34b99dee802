//! The keys of encrypted blocks: one chain for each direction of a session ("TLS transport encryption", from
//! version 11).
//!
//! HKDF-SHA512 throughout. The start: salt = session ID, input = the agreed secret, 64 bytes = two chain
//! keys, the first for what the router sends. Each block: empty salt, input = chain key, 88 bytes = next
//! chain key (32), box secret (32), nonce (24). An earlier key cannot be had from a later one.

use std::fmt;
use std::sync::LazyLock;

use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::boxes::{BoxKey, Nonce};
use super::dh::DhSecret;
use super::sha512::Sha512;

type HmacSha512 = Hmac<Sha512>;

const INIT_INFO: &[u8] = b"SimpleXSbChainInit";
const STEP_INFO: &[u8] = b"SimpleXSbChain";
/// The block of SHA-512, to which HMAC fills its keys up with zeros.
const HMAC_KEY_BYTES: usize = 128;

/// HMAC keyed by the empty salt. The key schedule is the same for every step of every chain, so it is done
/// once.
static EMPTY_SALT: LazyLock<HmacSha512> =
    LazyLock::new(|| <HmacSha512 as Mac>::new(&[0; HMAC_KEY_BYTES].into()));

/// The chain of one direction. Both ends step it once a block, so a lost or refused block ends the session.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BlockChain {
    key: [u8; 32],
}

/// The two chains of a session.
#[derive(Clone, Debug)]
pub struct BlockChains {
    pub router_sends: BlockChain,
    pub client_sends: BlockChain,
}

impl BlockChain {
    /// The chains of a session. `session_id` is the one of the TLS session, `secret` is agreed between the
    /// client's and the router's session keys.
    #[allow(clippy::expect_used, reason = "64 bytes are far below what HKDF gives")]
    pub fn pair(session_id: &[u8], secret: &DhSecret) -> BlockChains {
        let mut keys = [0; 64];
        Hkdf::<Sha512>::new(Some(session_id), secret.as_bytes())
            .expand(INIT_INFO, &mut keys)
            .expect("HKDF-SHA512 gives up to 16,320 bytes");
        let chains = BlockChains {
            router_sends: Self { key: part(&keys, 0) },
            client_sends: Self { key: part(&keys, 32) },
        };
        keys.zeroize();
        chains
    }

    /// Steps the chain: the key and nonce of the next block.
    ///
    /// Eight SHA-512 compressions, and no allocation: HKDF written out so that the one key schedule left is
    /// shared.
    #[allow(clippy::should_implement_trait, reason = "a chain has no end and is not iterated over")]
    pub fn next(&mut self) -> (BoxKey, Nonce) {
        let extracted = EMPTY_SALT.clone().chain_update(self.key).finalize().into_bytes();
        let mut expand_key = [0; HMAC_KEY_BYTES];
        expand_key[..64].copy_from_slice(&extracted);
        let expand = <HmacSha512 as Mac>::new(&expand_key.into());
        let first = expand.clone().chain_update(STEP_INFO).chain_update([1]).finalize().into_bytes();
        let second =
            expand.chain_update(first).chain_update(STEP_INFO).chain_update([2]).finalize().into_bytes();
        let (mut first, mut second): ([u8; 64], [u8; 64]) = (first.into(), second.into());

        self.key = part(&first, 0);
        let mut secret: [u8; 32] = part(&first, 32);
        let key = BoxKey::from_secret(&secret);
        let nonce = part(&second, 0);
        expand_key.zeroize();
        first.zeroize();
        second.zeroize();
        secret.zeroize();
        (key, nonce)
    }
}

impl fmt::Debug for BlockChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlockChain")
    }
}

/// `N` bytes of `bytes` from `start`.
fn part<const N: usize>(bytes: &[u8; 64], start: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[start..start + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The written-out steps are HKDF as RFC 5869 has it.
    #[test]
    fn a_step_is_hkdf_with_an_empty_salt() {
        let mut chain = BlockChain { key: [7; 32] };
        let mut expected = [0; 88];
        assert!(Hkdf::<Sha512>::new(None, &chain.key).expand(STEP_INFO, &mut expected).is_ok());
        let (key, nonce) = chain.next();
        assert_eq!(chain.key, expected[..32]);
        let mut secret = [0; 32];
        secret.copy_from_slice(&expected[32..64]);
        assert_eq!(key.as_bytes(), BoxKey::from_secret(&secret).as_bytes());
        assert_eq!(nonce, expected[64..]);
    }
}
