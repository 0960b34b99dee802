//! `smp-server cert`: another online certificate, signed by the same CA. So the router's identity and address stay.

use std::io::Write;
use std::path::Path;

use ringpost_protocol::certificate::{
    CertificateAuthority, GenerateError, OldCertificate, RouterCredentials, SignatureAlgorithm,
};

use crate::clock::now_secs;
use crate::exit::{Fatal, Reason};
use crate::files::{self, NewFile};
use crate::identity::read_secret;
use crate::init::new_key;
use crate::paths::Paths;

/// What the command line asks for; what it does not say is taken from the old certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateOptions {
    pub algorithm: Option<SignatureAlgorithm>,
    /// A domain name or IP address.
    pub name: Option<String>,
}

/// Replaces `server.crt` and `server.key`. A router that runs keeps the old ones until it is started again.
pub fn renew(paths: &Paths, options: &CertificateOptions, out: &mut dyn Write) -> Result<(), Fatal> {
    if !files::exists(&paths.ini())? {
        return Err(crate::configuration::not_initialized(paths));
    }
    let ca_certificate = read_secret(&paths.ca_certificate())?;
    let ca_key = read_ca_key(&paths.ca_key())?;
    let failed = |error: GenerateError| {
        Fatal::new(Reason::Certificate, format!("cannot make the certificate: {error}"))
            .remedy("Restore ca.crt and ca.key: only they can sign for this server's address.")
    };
    let authority = CertificateAuthority::from_pem(&ca_certificate, &ca_key).map_err(failed)?;
    // Otherwise the new certificate would have an address that nobody knows.
    crate::identity::check_fingerprint(paths, &authority.fingerprint())?;

    let (name, algorithm) = wanted(paths, options)?;
    let key = new_key(algorithm)?;
    let now_secs = now_secs();
    let issued = authority.issue_with(&name, &key, now_secs).map_err(failed)?;
    RouterCredentials::from_pem(&ca_certificate, &issued.certificate_pem, &issued.key_pem, now_secs)
        .map_err(|error| {
            Fatal::new(Reason::Certificate, format!("the new certificate cannot be used: {error}"))
        })?;
    let (key_path, certificate_path) = (paths.server_key(), paths.server_certificate());
    // If only one is replaced the router says that they do not belong together, and this can be done again.
    files::replace_all(&[
        NewFile { path: &key_path, content: &issued.key_pem, mode: files::SECRET_MODE },
        NewFile { path: &certificate_path, content: &issued.certificate_pem, mode: files::PUBLIC_MODE },
    ])?;
    let lines = [
        format!("Made a new online certificate for {name} ({algorithm}): {}", certificate_path.display()),
        "The address of the server is the same. Restart the server to use the certificate.".to_owned(),
        "----------".to_owned(),
        "Keep the CA key somewhere else and delete it here: the server runs without it.".to_owned(),
        "CA private key location:".to_owned(),
        paths.ca_key().display().to_string(),
        "----------".to_owned(),
    ];
    // All is done: an output that cannot be written is no reason to fail.
    let _ = out.write_all((lines.join("\n") + "\n").as_bytes());
    Ok(())
}

fn read_ca_key(path: &Path) -> Result<zeroize::Zeroizing<String>, Fatal> {
    read_secret(path).map_err(|fatal| {
        fatal.remedy(
            "The CA key signs the new certificate. If it is kept elsewhere, put it here for this command.",
        )
    })
}

const REMEDY: &str = "Give both --cn and --sign-algorithm to make one without looking at the old.";

/// Name and algorithm of the new certificate.
fn wanted(paths: &Paths, options: &CertificateOptions) -> Result<(String, SignatureAlgorithm), Fatal> {
    if let (Some(name), Some(algorithm)) = (&options.name, options.algorithm) {
        return Ok((name.clone(), algorithm));
    }
    let path = paths.server_certificate();
    let refused =
        |what: String| Fatal::new(Reason::Certificate, format!("{}: {what}", path.display())).remedy(REMEDY);
    let old = OldCertificate::from_pem(&read_secret(&path)?).map_err(|error| refused(error.to_string()))?;
    if old.certificates > 1 {
        let what = format!(
            "it has {} certificates, so ca.key is not what signed the first of them",
            old.certificates
        );
        return Err(refused(what));
    }
    let name = options.name.clone().or(old.name).ok_or_else(|| refused("it names no host".to_owned()))?;
    let algorithm = options.algorithm.or(old.algorithm);
    Ok((name, algorithm.ok_or_else(|| refused("its key is neither Ed25519 nor Ed448".to_owned()))?))
}
