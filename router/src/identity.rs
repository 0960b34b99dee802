//! The secrets and certificates of a router, as files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ringpost_protocol::certificate::{RouterCredentials, parse_fingerprint};
use zeroize::Zeroizing;

use crate::exit::{Fatal, Reason};
use crate::files::{NewFile, SECRET_MODE, write_all};
use crate::paths::Paths;
use crate::random::random;

/// No certificate or key comes near this.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Warned about before clients refuse the certificate.
const EXPIRY_WARNING_SECS: i64 = 30 * 86_400;

/// The key of the hash that spreads queues over partitions.
pub const ID_HASH_KEY_BYTES: usize = 16;

/// Loads certificates and key and checks them against each other and against the saved fingerprint: a router that
/// started under another identity than its users know would only turn them away.
pub fn load(paths: &Paths, now_secs: i64) -> Result<RouterCredentials, Fatal> {
    let ca = read(&paths.ca_certificate())?;
    let server = read(&paths.server_certificate())?;
    let key = read(&paths.server_key())?;
    let credentials = RouterCredentials::from_pem(&ca, &server, &key, now_secs).map_err(|error| {
        Fatal::new(
            Reason::Certificate,
            format!("the certificates in {}: {error}", paths.config_dir.display()),
        )
        .remedy("Restore the files that belong together: ca.crt, server.crt and server.key.")
    })?;

    let path = paths.fingerprint();
    let saved = read(&path)?;
    if parse_fingerprint(&saved) != Some(credentials.ca_fingerprint) {
        let message = format!(
            "{} does not match {}, whose fingerprint is {}",
            path.display(),
            paths.ca_certificate().display(),
            credentials.fingerprint_text()
        );
        let remedy = "Clients know the server by this fingerprint. Restore ca.crt (with server.crt and server.key) or \
                      the fingerprint file, whichever was changed.";
        return Err(Fatal::new(Reason::Certificate, message).remedy(remedy));
    }
    warn_of_weaknesses(paths, &credentials, now_secs);
    Ok(credentials)
}

fn warn_of_weaknesses(paths: &Paths, credentials: &RouterCredentials, now_secs: i64) {
    for path in [paths.server_key(), paths.ca_key(), paths.id_hash_key()] {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            tracing::warn!("{} can be read by other users: set its mode to 0600", path.display());
        }
    }
    let left_secs = credentials.not_after_secs().saturating_sub(now_secs);
    if left_secs < EXPIRY_WARNING_SECS {
        tracing::warn!("the certificate ends in {} days: clients will refuse it then", left_secs / 86_400);
    }
}

/// The key of the ID hash. It is made where there is none: directories of the reference have no such file.
pub fn id_hash_key(paths: &Paths) -> Result<Zeroizing<[u8; ID_HASH_KEY_BYTES]>, Fatal> {
    let path = paths.id_hash_key();
    if !path.exists() {
        let text = new_id_hash_key_text()?;
        write_all(&[NewFile { path: &path, content: &text, mode: SECRET_MODE }])?;
    }
    parse_hex(read(&path)?.trim()).ok_or_else(|| {
        Fatal::new(Reason::Certificate, format!("{}: expected 32 hexadecimal digits", path.display()))
            .remedy("Restore the file: with another key the router does not find its queues.")
    })
}

/// The text of a new key file.
pub fn new_id_hash_key_text() -> Result<Zeroizing<String>, Fatal> {
    let mut text = Zeroizing::new(String::with_capacity(2 * ID_HASH_KEY_BYTES + 1));
    for byte in random::<ID_HASH_KEY_BYTES>()?.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    text.push('\n');
    Ok(text)
}

fn parse_hex(text: &str) -> Option<Zeroizing<[u8; ID_HASH_KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; ID_HASH_KEY_BYTES]);
    let digits: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
    let digits = Zeroizing::new(digits?);
    if digits.len() != 2 * ID_HASH_KEY_BYTES {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | digit);
    }
    Some(key)
}

fn read(path: &Path) -> Result<Zeroizing<String>, Fatal> {
    read_text(path).map_err(|error| {
        let fatal = Fatal::new(Reason::Certificate, format!("cannot read {}: {error}", path.display()));
        match error.kind() {
            io::ErrorKind::NotFound => {
                fatal.remedy("Restore the file, or make a new server with `smp-server init`.")
            }
            io::ErrorKind::PermissionDenied => fatal.remedy("Start as the user who owns the file."),
            _ => fatal,
        }
    })
}

fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_hash_key_is_read_as_it_was_written() {
        let text = new_id_hash_key_text().unwrap();
        assert_eq!((text.len(), text.ends_with('\n')), (33, true));
        let key = parse_hex(text.trim()).unwrap();
        assert_eq!(key[0], u8::from_str_radix(&text[..2], 16).unwrap());
        assert_eq!(key[15], u8::from_str_radix(&text[30..32], 16).unwrap());
        for wrong in ["", "00", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &"é".repeat(16)] {
            assert!(parse_hex(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn the_hash_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths { config_dir: folder.path().to_owned(), data_dir: folder.path().to_owned() };
        let first = id_hash_key(&paths).unwrap();
        assert_eq!(*id_hash_key(&paths).unwrap(), *first);
        fs::write(paths.id_hash_key(), "short").unwrap();
        assert_eq!(id_hash_key(&paths).unwrap_err().reason, Reason::Certificate);
    }
}
