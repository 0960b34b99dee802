//! `smp-server init`: makes a router's identity, its certificates and its ini.

mod template;

use std::io::Write;

use ringpost_protocol::certificate::{
    CertificateAuthority, GenerateError, IssuedCertificate, SignatureAlgorithm, SigningKey, fingerprint_text,
};

use crate::address::address;
use crate::clock::now_secs;
use crate::exit::{Fatal, Reason};
use crate::files::{self, NewFile};
use crate::ini::{Ini, IniError};
use crate::paths::Paths;
use crate::random::random;
use crate::settings::keys::{
    AUTH, INACTIVE_CLIENTS, INFORMATION, PROXY, RINGPOST, STORE_LOG, TRANSPORT, WEB,
};
use crate::settings::{HOST_PLACEHOLDER, Settings, notices};
use crate::version;

use template::Set;

/// What the command line asks `init` for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitOptions {
    /// The name in the online certificate, and the host in the address unless it is the default IP.
    pub name: ServerName,
    pub ports: String,
    pub listen: Option<String>,
    pub password: Password,
    pub store_log: bool,
    pub daily_stats: bool,
    /// Of both keys and certificates.
    pub sign_algorithm: SignatureAlgorithm,
    /// With passwords of its own.
    pub control_port: Option<u16>,
    pub socks_proxy: Option<String>,
    /// Separated by spaces.
    pub own_domains: Option<String>,
    /// Keys and values of `[INFORMATION]`.
    pub information: Vec<(&'static str, String)>,
    /// The directory of the pages for browsers. None: the usual one.
    pub web_path: Option<String>,
    /// Whether browsers may be served, if there is a certificate for them.
    pub web: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// Given by the operator: a domain name or an IP address.
    Given(String),
    /// Nothing was given: the certificate names 127.0.0.1, and the address has a place to fill in.
    Unknown,
}

/// What making a queue needs.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    None,
    Given(String),
    Random,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Given(_) => "Given",
            Self::Random => "Random",
        })
    }
}

struct Identity {
    authority: CertificateAuthority,
    server: IssuedCertificate,
    fingerprint: String,
}

/// Makes all files, and says on `out` what was made.
pub fn init(paths: &Paths, options: &InitOptions, out: &mut dyn Write) -> Result<(), Fatal> {
    refuse_to_overwrite(paths)?;
    let password = match &options.password {
        Password::None => None,
        Password::Given(password) => Some(password.clone()),
        Password::Random => Some(random_password()?),
    };
    let (host, certificate_name) = match &options.name {
        ServerName::Given(name) => (name.as_str(), name.as_str()),
        ServerName::Unknown => (HOST_PLACEHOLDER, "127.0.0.1"),
    };
    let values = values(paths, options, host, password.as_deref())?;
    refuse_control_characters(&values)?;
    let ini_text = template::ini_text(&values);
    // Read back as `start` will: an option that makes no sense is refused before anything is written.
    let config_error = |error: IniError| Fatal::new(Reason::Usage, error.problem);
    let ini = Ini::parse(&paths.ini(), ini_text.as_bytes()).map_err(config_error)?;
    let settings = Settings::read(&ini).map_err(config_error)?;

    let identity = make_identity(certificate_name, options.sign_algorithm)?;
    write_files(paths, &identity, &ini_text)?;

    let report = Report { paths, identity: &identity, settings: &settings, ini: &ini };
    // All is done: an output that cannot be written is no reason to fail.
    let _ = out.write_all(report.text().as_bytes());
    Ok(())
}

/// An identity that is lost cannot be made again: its users would have to be told a new address.
pub fn refuse_to_overwrite(paths: &Paths) -> Result<(), Fatal> {
    for path in paths.init_files() {
        let exists = path.try_exists().map_err(|error| {
            Fatal::new(Reason::Files, format!("cannot look for {}: {error}", path.display()))
        })?;
        if !exists {
            continue;
        }
        let message = format!("the server is already initialized ({} exists)", path.display());
        let fatal = Fatal::new(Reason::AlreadyInitialized, message);
        return Err(if path == paths.ini() {
            fatal.remedy("Run `smp-server start`.")
        } else {
            fatal.remedy("There is no smp-server.ini beside it. Restore the ini, or move the old files away.")
        });
    }
    Ok(())
}

/// A line break in a value would be another line of the ini.
fn refuse_control_characters(values: &[Set]) -> Result<(), Fatal> {
    match values.iter().find(|set| set.value.chars().any(char::is_control)) {
        Some(set) => {
            Err(Fatal::new(Reason::Usage, format!("{}: no control characters are allowed", set.key)))
        }
        None => Ok(()),
    }
}

fn make_identity(certificate_name: &str, algorithm: SignatureAlgorithm) -> Result<Identity, Fatal> {
    let now_secs = now_secs();
    let certificate_error = |error: GenerateError| {
        let reason = if error == GenerateError::Name { Reason::Usage } else { Reason::Certificate };
        Fatal::new(reason, format!("cannot make the certificates: {error}"))
    };
    let authority =
        CertificateAuthority::generate_with(new_key(algorithm)?, now_secs).map_err(certificate_error)?;
    let server =
        authority.issue_with(certificate_name, &new_key(algorithm)?, now_secs).map_err(certificate_error)?;
    let fingerprint = fingerprint_text(&authority.fingerprint());
    Ok(Identity { authority, server, fingerprint })
}

pub fn new_key(algorithm: SignatureAlgorithm) -> Result<SigningKey, Fatal> {
    Ok(match algorithm {
        SignatureAlgorithm::Ed25519 => SigningKey::ed25519(&*random()?),
        SignatureAlgorithm::Ed448 => SigningKey::ed448(&*random()?),
    })
}

fn write_files(paths: &Paths, identity: &Identity, ini_text: &str) -> Result<(), Fatal> {
    files::make_directory(&paths.config_dir)?;
    files::make_directory(&paths.data_dir)?;
    let ca_key = identity.authority.key_pem();
    let ca_certificate = identity.authority.certificate_pem();
    let fingerprint = format!("{}\n", identity.fingerprint);
    // The ini comes last: where it is, all the others are.
    files::write_all(&[
        NewFile { path: &paths.ca_key(), content: &ca_key, mode: files::SECRET_MODE },
        NewFile { path: &paths.ca_certificate(), content: &ca_certificate, mode: files::PUBLIC_MODE },
        NewFile { path: &paths.server_key(), content: &identity.server.key_pem, mode: files::SECRET_MODE },
        NewFile {
            path: &paths.server_certificate(),
            content: &identity.server.certificate_pem,
            mode: files::PUBLIC_MODE,
        },
        NewFile { path: &paths.fingerprint(), content: &fingerprint, mode: files::PUBLIC_MODE },
        NewFile { path: &paths.ini(), content: ini_text, mode: files::GROUP_MODE },
    ])
}

/// The values that the ini gets; everything else in it is commented out.
fn values(
    paths: &Paths,
    options: &InitOptions,
    host: &str,
    password: Option<&str>,
) -> Result<Vec<Set>, Fatal> {
    let set = |section, key, value: &str| Set { section, key, value: value.to_owned() };
    let switch = |on| if on { "on" } else { "off" };
    let mut values = vec![
        set(STORE_LOG, "enable", switch(options.store_log)),
        set(STORE_LOG, "store_queues", "memory"),
        set(STORE_LOG, "store_messages", "memory"),
        set(STORE_LOG, "restore_messages", switch(options.store_log)),
        set(STORE_LOG, "expire_messages_days", "21"),
        set(STORE_LOG, "log_stats", switch(options.daily_stats)),
        set(AUTH, "new_queues", "on"),
        set(TRANSPORT, "host", host),
        set(TRANSPORT, "port", &options.ports),
        set(TRANSPORT, "log_tls_errors", "off"),
        set(TRANSPORT, "websockets", "off"),
        set(INACTIVE_CLIENTS, "disconnect", "on"),
        set(INACTIVE_CLIENTS, "ttl", "21600"),
        set(INACTIVE_CLIENTS, "check_interval", "3600"),
    ];
    values.extend(options.information.iter().map(|(key, value)| set(INFORMATION, key, value)));
    values.extend(password.map(|password| set(AUTH, "create_password", password)));
    values.extend(options.listen.as_deref().map(|listen| set(RINGPOST, "listen", listen)));
    if let Some(port) = options.control_port {
        values.push(set(TRANSPORT, "control_port", &port.to_string()));
        for key in ["control_port_admin_password", "control_port_user_password"] {
            values.push(set(AUTH, key, &random_password()?));
        }
    }
    values.extend(options.socks_proxy.as_deref().map(|proxy| set(PROXY, "socks_proxy", proxy)));
    values.extend(options.own_domains.as_deref().map(|domains| set(PROXY, "own_server_domains", domains)));
    values.extend(web_values(paths, options)?);
    Ok(values)
}

/// The reference has browsers served in any case, and then does not start without their certificate.
fn web_values(paths: &Paths, options: &InitOptions) -> Result<Vec<Set>, Fatal> {
    let set = |key, value: String| Set { section: WEB, key, value };
    if !options.web {
        return Ok(options.web_path.iter().map(|path| set("static_path", path.clone())).collect());
    }
    let path = options.web_path.clone().unwrap_or_else(|| paths.static_pages().display().to_string());
    let mut values = vec![set("static_path", path)];
    let (certificate, key) = (paths.web_certificate(), paths.web_key());
    if files::exists(&certificate)? && files::exists(&key)? {
        values.push(set("https", "443".to_owned()));
        values.push(set("cert", certificate.display().to_string()));
        values.push(set("key", key.display().to_string()));
    }
    Ok(values)
}

struct Report<'a> {
    paths: &'a Paths,
    identity: &'a Identity,
    settings: &'a Settings,
    ini: &'a Ini,
}

impl Report<'_> {
    fn text(&self) -> String {
        let ini = self.paths.ini();
        let ca_key = self.paths.ca_key();
        let settings = self.settings;
        let password = settings.create_password.as_deref();
        let mut lines = vec![
            format!("Server initialized. Configuration: {}", ini.display()),
            "Run `smp-server start` to start it.".to_owned(),
        ];
        lines.extend(
            notices(self.ini).iter().map(|notice| format!("Note: line {}: {}", notice.line, notice.text)),
        );
        lines.extend([
            "----------".to_owned(),
            "Keep the CA key somewhere else and delete it here: the server runs without it.".to_owned(),
            "With it, a new online certificate can be made that keeps the server's identity.".to_owned(),
            "CA private key location:".to_owned(),
            ca_key.display().to_string(),
            "----------".to_owned(),
            version::line(),
            format!("Fingerprint: {}", self.identity.fingerprint),
            format!(
                "Server address: {}",
                address(&self.identity.fingerprint, password, &settings.host, &settings.ports)
            ),
        ]);
        let source_code = settings.information.source_code.as_ref();
        lines.extend(source_code.map(|uri| format!("Server source code: {uri}")));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// 32 characters of 6 bits each.
fn random_password() -> Result<String, Fatal> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    Ok(random::<32>()?.iter().map(|byte| char::from(LETTERS[usize::from(byte & 63)])).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn random_passwords_are_valid_and_differ() {
        let (one, other) = (random_password().unwrap(), random_password().unwrap());
        assert!(crate::settings::valid_password(&one) && one.len() == 32);
        assert_ne!(one, other);
    }

    #[test]
    fn a_password_is_not_shown_in_debug_output() {
        assert_eq!(format!("{:?}", Password::Given("secret1".to_owned())), "Given");
    }
}
