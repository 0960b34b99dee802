//! IDs that are derived, not drawn.

use sha3::{Digest, Sha3_384};

use crate::limits::ID_BYTES;

/// The sender ID that a NEW with link data must carry: the first 24 bytes of SHA3-384 of the correlation ID.
/// A client cannot ask for an ID of its choice, so NEW does not tell whether a given ID exists ("Create queue
/// command").
pub fn sender_id_from_correlation(corr_id: &[u8]) -> [u8; ID_BYTES] {
    let hash = Sha3_384::digest(corr_id);
    let mut id = [0; ID_BYTES];
    for (to, from) in id.iter_mut().zip(hash) {
        *to = from;
    }
    id
}
