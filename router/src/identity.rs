//! The secrets and certificates of a router, as files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ringpost_protocol::certificate::{
    ChainError, CredentialsError, FINGERPRINT_BYTES, RouterCredentials, WebCertificate, fingerprint_text,
    parse_fingerprint,
};
use zeroize::Zeroizing;

use crate::clock::now_secs;
use crate::exit::{Fatal, Reason};
use crate::paths::Paths;
use crate::settings::WebSettings;

/// No certificate or key comes near this.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Warned about before clients refuse the certificate.
const EXPIRY_WARNING_SECS: i64 = 30 * 86_400;

/// The key of the hash that spreads queues over partitions.
pub const ID_HASH_KEY_BYTES: usize = 16;

/// Loads certificates and key and checks them against each other and against the saved fingerprint: a router that
/// started under another identity than its users know would only turn them away.
pub fn load(paths: &Paths, now_secs: i64) -> Result<RouterCredentials, Fatal> {
    let ca = read_secret(&paths.ca_certificate())?;
    let server = read_secret(&paths.server_certificate())?;
    let key = read_secret(&paths.server_key())?;
    let credentials =
        RouterCredentials::from_pem(&ca, &server, &key, now_secs).map_err(|error| unusable(paths, &error))?;
    check_fingerprint(paths, &credentials.ca_fingerprint)?;
    warn_of_weaknesses(paths, &credentials, now_secs);
    Ok(credentials)
}

fn unusable(paths: &Paths, error: &CredentialsError) -> Fatal {
    let message = format!("the certificates in {}: {error}", paths.config_dir.display());
    match error {
        CredentialsError::Chain(ChainError::Expired { certificate: 0, .. }) => {
            Fatal::new(Reason::CertificateExpired, message)
                .remedy("Run `smp-server cert`, which makes another with ca.key; the address stays.")
        }
        CredentialsError::Chain(ChainError::Expired { .. } | ChainError::NotYetValid { .. }) => {
            Fatal::new(Reason::CertificateExpired, message)
                .remedy("See that the clock of this machine is right: clients refuse such a certificate.")
        }
        _ => Fatal::new(Reason::Certificate, message).remedy(
            "Restore the files that belong together: ca.crt, server.crt and server.key. If `smp-server cert` was \
             interrupted, run it again.",
        ),
    }
}

/// Refuses an identity that is not the one in the file, by which clients know the router.
pub fn check_fingerprint(paths: &Paths, found: &[u8; FINGERPRINT_BYTES]) -> Result<(), Fatal> {
    let path = paths.fingerprint();
    if parse_fingerprint(&read_secret(&path)?).as_ref() == Some(found) {
        return Ok(());
    }
    let message = format!(
        "{} does not match {}, whose fingerprint is {}",
        path.display(),
        paths.ca_certificate().display(),
        fingerprint_text(found)
    );
    let remedy = "Clients know the server by this fingerprint. Restore ca.crt (with server.crt and server.key) or the \
                  fingerprint file, whichever was changed.";
    Err(Fatal::new(Reason::Fingerprint, message).remedy(remedy))
}

/// Loads the certificate and key for browsers.
pub fn load_web(web: &WebSettings) -> Result<WebCertificate, Fatal> {
    const REMEDY: &str =
        "Restore the file, or switch browsers off: put # in front of [WEB] https in the ini.";
    let read = |path: &Path| {
        read_text(path).map_err(|error| {
            let message = format!("web clients: cannot read {}: {error}", path.display());
            Fatal::new(Reason::FileMissing, message).remedy(REMEDY)
        })
    };
    let (certificate, key) = (read(&web.certificate)?, read(&web.key)?);
    let loaded = WebCertificate::from_pem(&certificate, &key).map_err(|error| {
        let (certificate, key) = (web.certificate.display(), web.key.display());
        let message = format!("web clients: {certificate} and {key}: {error}");
        Fatal::new(Reason::Certificate, message).remedy(REMEDY)
    })?;
    // The apps are served all the same.
    if loaded.not_after_secs() < now_secs() {
        tracing::warn!("web clients: the certificate {} has expired", web.certificate.display());
    }
    Ok(loaded)
}

fn warn_of_weaknesses(paths: &Paths, credentials: &RouterCredentials, now_secs: i64) {
    for path in [paths.server_key(), paths.ca_key()] {
        if fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            tracing::warn!("{} can be read by other users: set its mode to 0600", path.display());
        }
    }
    let left_secs = credentials.not_after_secs().saturating_sub(now_secs);
    if left_secs < EXPIRY_WARNING_SECS {
        tracing::warn!("the certificate ends in {} days: clients will refuse it then", left_secs / 86_400);
    }
}

/// The text of a key or certificate.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Fatal> {
    read_text(path).map_err(|error| {
        let fatal = Fatal::new(Reason::FileMissing, format!("cannot read {}: {error}", path.display()));
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
