//! Where a router keeps its files.

use std::ffi::OsString;
use std::path::PathBuf;

pub const CONFIG_DIR_VARIABLE: &str = "SMP_SERVER_CFG_PATH";
pub const CONFIG_DIR_DEFAULT: &str = "/etc/opt/simplex";
pub const DATA_DIR_VARIABLE: &str = "SMP_SERVER_LOG_PATH";
pub const DATA_DIR_DEFAULT: &str = "/var/opt/simplex";

/// The two directories of a router and the files in them. The names are those of the reference implementation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Configuration and keys.
    pub config_dir: PathBuf,
    /// State and statistics.
    pub data_dir: PathBuf,
}

impl Paths {
    /// From the environment; a variable that is empty counts as not set.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name, default: &str| {
            variable(name).filter(|value| !value.is_empty()).map_or_else(|| default.into(), PathBuf::from)
        };
        Self {
            config_dir: path(CONFIG_DIR_VARIABLE, CONFIG_DIR_DEFAULT),
            data_dir: path(DATA_DIR_VARIABLE, DATA_DIR_DEFAULT),
        }
    }

    pub fn ini(&self) -> PathBuf {
        self.config_dir.join("smp-server.ini")
    }

    /// SHA-256 of the CA certificate, base64url: the identity in the router's address.
    pub fn fingerprint(&self) -> PathBuf {
        self.config_dir.join("fingerprint")
    }

    /// The identity certificate.
    pub fn ca_certificate(&self) -> PathBuf {
        self.config_dir.join("ca.crt")
    }

    /// The identity key, needed only to make another online certificate.
    pub fn ca_key(&self) -> PathBuf {
        self.config_dir.join("ca.key")
    }

    /// The online certificate, which TLS and the session handshake use.
    pub fn server_certificate(&self) -> PathBuf {
        self.config_dir.join("server.crt")
    }

    pub fn server_key(&self) -> PathBuf {
        self.config_dir.join("server.key")
    }

    /// The certificate chain for browsers, and its key, where the ini names no others.
    pub fn web_certificate(&self) -> PathBuf {
        self.config_dir.join("web.crt")
    }

    pub fn web_key(&self) -> PathBuf {
        self.config_dir.join("web.key")
    }

    /// Where the pages for browsers are written, where the ini names no other directory.
    pub fn static_pages(&self) -> PathBuf {
        self.data_dir.join("www")
    }

    /// Everything that `init` makes.
    pub fn init_files(&self) -> [PathBuf; 6] {
        [
            self.ini(),
            self.fingerprint(),
            self.ca_certificate(),
            self.ca_key(),
            self.server_certificate(),
            self.server_key(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn unset_and_empty_variables_mean_the_defaults() {
        let none = Paths::from_variables(|_| None);
        let empty = Paths::from_variables(|_| Some(OsString::new()));
        assert_eq!(none, empty);
        assert_eq!(none.ini(), Path::new("/etc/opt/simplex/smp-server.ini"));
        assert_eq!(none.data_dir, Path::new("/var/opt/simplex"));
    }

    #[test]
    fn variables_set_the_directories() {
        let paths = Paths::from_variables(|name| Some(format!("/x/{name}").into()));
        assert_eq!(paths.server_key(), Path::new("/x/SMP_SERVER_CFG_PATH/server.key"));
        assert_eq!(paths.data_dir, Path::new("/x/SMP_SERVER_LOG_PATH"));
    }
}
