//! The certificate chain of a service as one body in the store: as in the hello of a service, a count of one byte, then
//! each certificate after its length in two bytes.

use ringpost_protocol::encoding::{Reader, Sink};

/// At most 255 certificates of 65,535 bytes: see [`encoded_bytes`].
pub fn encode(chain: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_bytes(chain));
    out.put_list(chain, |out, der| out.put_large(der));
    out
}

/// More than fits into the encoding is more than the store takes.
pub fn encoded_bytes(chain: &[Vec<u8>]) -> usize {
    1 + chain.iter().map(|der| 2 + der.len()).sum::<usize>()
}

/// None if these bytes are no chain.
pub fn decode(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader::new(bytes);
    let chain = reader.list(|reader| Ok(reader.large()?.to_vec())).ok()?;
    reader.finish().ok()?;
    Some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_as_it_was_written() {
        let chain = vec![vec![1; 300], Vec::new(), vec![2; 5]];
        let bytes = encode(&chain);
        assert_eq!(bytes.len(), encoded_bytes(&chain));
        assert_eq!(decode(&bytes), Some(chain));
        for end in 0..bytes.len() {
            assert_eq!(decode(bytes.get(..end).unwrap_or_default()), None);
        }
    }
}
