//! Whether a client names the server that it wants (SNI, RFC 6066, 3): native clients do not, browsers do, and both come
//! to the same port. Which configuration is right must be known before rustls sees the first message.

use super::record::{HANDSHAKE, RECORD_HEADER_BYTES, record_bytes};
use crate::encoding::{DecodeError, Reader};

/// A longer hello is no hello. rustls says so to the client.
const HELLO_BYTES_MAX: usize = 16_384;

const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const RANDOM_BYTES: usize = 32;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sni {
    /// The hello is not complete.
    Incomplete,
    /// There is the name of a host.
    Named,
    /// There is none, or this is no TLS.
    Unnamed,
}

/// Looks for a server name in the first bytes that a client sent.
pub fn sni(mut bytes: &[u8]) -> Sni {
    let mut message = Vec::new();
    loop {
        match bytes.first() {
            None => return Sni::Incomplete,
            Some(&content_type) if content_type != HANDSHAKE => return Sni::Unnamed,
            Some(_) => {}
        }
        let Some(record) = record_bytes(bytes) else { return Sni::Incomplete };
        if message.len() + record > HELLO_BYTES_MAX || record == RECORD_HEADER_BYTES {
            return Sni::Unnamed;
        }
        let Some((record, behind)) = bytes.split_at_checked(record) else { return Sni::Incomplete };
        message.extend_from_slice(record.get(RECORD_HEADER_BYTES..).unwrap_or_default());
        match hello(&message) {
            Ok(named) => return if named { Sni::Named } else { Sni::Unnamed },
            Err(DecodeError::Truncated) => bytes = behind,
            Err(_) => return Sni::Unnamed,
        }
    }
}

/// Whether a hello names a host. `Truncated` if the message is not complete.
fn hello(message: &[u8]) -> Result<bool, DecodeError> {
    let mut reader = Reader::new(message);
    let &[kind, high, middle, low] = reader.array()?;
    if kind != CLIENT_HELLO {
        return Ok(false);
    }
    let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).unwrap_or(usize::MAX);
    if length > HELLO_BYTES_MAX {
        return Ok(false);
    }
    let body = reader.rest().get(..length).ok_or(DecodeError::Truncated)?;
    // From here on something missing is an error of the client, not a reason to wait.
    Ok(names_a_host(body).unwrap_or(false))
}

fn names_a_host(body: &[u8]) -> Result<bool, DecodeError> {
    let mut reader = Reader::new(body);
    reader.u16()?; // version
    reader.array::<RANDOM_BYTES>()?;
    reader.short()?; // session ID
    reader.large()?; // cipher suites
    reader.short()?; // compression methods
    let mut extensions = Reader::new(reader.large()?);
    while !extensions.rest().is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.large()?;
        if kind == SERVER_NAME {
            let mut names = Reader::new(Reader::new(content).large()?);
            return Ok(names.u8()? == HOST_NAME && !names.large()?.is_empty());
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;

    use super::*;
    use crate::tls::{TlsChannel, client_config, no_server_name};

    fn first_message(name: Option<&'static str>) -> Vec<u8> {
        let mut config = rustls::ClientConfig::clone(&client_config([0; 32]).unwrap());
        config.enable_sni = name.is_some();
        let name = name.map_or_else(no_server_name, |name| ServerName::try_from(name).unwrap());
        let mut out = Vec::new();
        TlsChannel::client(config.into(), name).unwrap().handshake(&mut [], &mut out).unwrap();
        out
    }

    /// The same message in records of this size.
    fn split(hello: &[u8], size: usize) -> Vec<u8> {
        let records = hello[RECORD_HEADER_BYTES..]
            .chunks(size)
            .map(|part| [&hello[..3], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat());
        records.collect::<Vec<_>>().concat()
    }

    #[test]
    fn names_are_found_however_the_hello_is_split() {
        for (name, expected) in [(Some("smp.example.com"), Sni::Named), (None, Sni::Unnamed)] {
            let hello = first_message(name);
            for size in [1, 2, 50, 100, 16_384] {
                let bytes = split(&hello, size);
                for end in 0..bytes.len() {
                    assert_eq!(sni(&bytes[..end]), Sni::Incomplete, "{end} of {}", bytes.len());
                }
                assert_eq!(sni(&bytes), expected);
                assert_eq!(sni(&[&bytes[..], b"more"].concat()), expected);
            }
        }
    }

    #[test]
    fn what_is_no_hello_is_left_to_the_native_side() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0xff, 0xff],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
            &[22, 3, 1, 0, 5, 1, 0, 0, 1, 7],
        ] {
            assert_eq!(sni(bytes), Sni::Unnamed, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..400, at in 0_usize..400, value: u8) {
            let _ = sni(&bytes);
            let mut hello = first_message(Some("smp.example.com"));
            let end = hello.len();
            hello[at % end] = value;
            let _ = sni(&hello[..cut.min(end)]);
        }
    }
}
