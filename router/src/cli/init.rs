//! Options of `smp-server init`.

use clap::{Args, ValueEnum};

use ringpost_protocol::certificate::SignatureAlgorithm;

use crate::exit::{Fatal, Reason};
use crate::init::{InitOptions, Password, ServerName};

#[derive(Debug, Args)]
pub struct InitArguments {
    /// Ask nothing, use the options given here
    #[arg(short, long)]
    yes: bool,

    /// Server IP address, unless there is a domain name [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    ip: Option<String>,

    /// Server domain name, for the address and the online certificate
    #[arg(short = 'n', long, value_name = "FQDN")]
    fqdn: Option<String>,

    /// Ports to listen on, separated by commas
    #[arg(short, long, value_name = "PORTS", default_value = "5223,443")]
    port: String,

    /// IP addresses to listen on, separated by commas [default: all]
    #[arg(long, value_name = "ADDRESSES")]
    listen: Option<String>,

    /// Anybody may make queues
    #[arg(long)]
    no_password: bool,

    /// Password that making queues needs [default: a random one]
    #[arg(long, value_name = "PASSWORD", conflicts_with = "no_password")]
    password: Option<String>,

    /// Write `enable = on` for the store log (the default): keep queues and messages
    #[arg(short = 'l', long)]
    store_log: bool,

    /// Write `enable = off` for the store log: memory only
    #[arg(long, conflicts_with = "store_log")]
    disable_store_log: bool,

    /// Write `log_stats = on` for daily statistics
    #[arg(short = 's', long)]
    daily_stats: bool,

    /// Signature algorithm of the keys and certificates
    #[arg(short = 'a', long, value_name = "ALG", default_value = "ED25519")]
    sign_algorithm: SignAlgorithm,

    /// Where the source of this server is published
    #[arg(long, value_name = "URI")]
    source_code: Option<String>,

    /// Server operator name
    #[arg(long, value_name = "OPERATOR_NAME", requires = "source_code")]
    operator: Option<String>,

    /// Server operator country, two letters
    #[arg(long, value_name = "OPERATOR_COUNTRY", value_parser = country, requires = "operator")]
    operator_country: Option<String>,

    /// Operator public website
    #[arg(long, value_name = "WEBSITE", requires = "source_code")]
    operator_website: Option<String>,

    /// Hosting provider name
    #[arg(long, value_name = "HOSTING_NAME", requires = "source_code")]
    hosting: Option<String>,

    /// Hosting provider country, two letters
    #[arg(long, value_name = "HOSTING_COUNTRY", value_parser = country, requires = "hosting")]
    hosting_country: Option<String>,

    /// Hosting type
    #[arg(long, value_name = "HOSTING_TYPE", requires = "source_code")]
    hosting_type: Option<HostingType>,

    /// Server datacenter country, two letters
    #[arg(long, value_name = "SERVER_COUNTRY", value_parser = country, requires = "source_code")]
    server_country: Option<String>,

    /// Without the web page (the default; there is none yet)
    #[arg(long)]
    disable_web: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum SignAlgorithm {
    Ed25519,
    Ed448,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HostingType {
    Virtual,
    Dedicated,
    Colocation,
    Owned,
}

/// ISO 3166 alpha-2, in capitals.
fn country(text: &str) -> Result<String, String> {
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Ok(text.to_ascii_uppercase());
    }
    Err("expected the two letters of a country, as DE".to_owned())
}

impl InitArguments {
    pub fn options(self) -> Result<InitOptions, Fatal> {
        if !self.yes {
            let message =
                "`smp-server init` without --yes, which asks for each setting, is not supported yet";
            return Err(
                Fatal::new(Reason::Usage, message).remedy("Pass --yes and the options that you need.")
            );
        }
        let hosting_type =
            self.hosting_type.and_then(|kind| Some(kind.to_possible_value()?.get_name().to_owned()));
        let information = [
            ("source_code", self.source_code),
            ("server_country", self.server_country),
            ("operator", self.operator),
            ("operator_country", self.operator_country),
            ("website", self.operator_website),
            ("hosting", self.hosting),
            ("hosting_country", self.hosting_country),
            ("hosting_type", hosting_type),
        ];
        Ok(InitOptions {
            name: server_name(self.ip, self.fqdn)?,
            ports: self.port,
            listen: self.listen,
            password: match self.password {
                _ if self.no_password => Password::None,
                Some(password) => Password::Given(password),
                None => Password::Random,
            },
            store_log: !self.disable_store_log,
            daily_stats: self.daily_stats,
            sign_algorithm: match self.sign_algorithm {
                SignAlgorithm::Ed25519 => SignatureAlgorithm::Ed25519,
                SignAlgorithm::Ed448 => SignatureAlgorithm::Ed448,
            },
            information: information.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
        })
    }
}

fn server_name(ip: Option<String>, fqdn: Option<String>) -> Result<ServerName, Fatal> {
    let usage = |message: String| Err(Fatal::new(Reason::Usage, message));
    match (ip, fqdn) {
        (None, None) => Ok(ServerName::Unknown),
        (Some(ip), _) if ip.parse::<std::net::IpAddr>().is_err() => {
            usage(format!("--ip {ip}: expected an IP address; names are given with --fqdn"))
        }
        (_, Some(fqdn)) if !is_domain_name(&fqdn) => {
            usage(format!("--fqdn {fqdn}: expected a domain name of letters, digits, hyphens and dots"))
        }
        (_, Some(name)) | (Some(name), None) => Ok(ServerName::Given(name)),
    }
}

fn is_domain_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_names_are_told_from_other_text() {
        for good in ["smp.example.com", "localhost", "a-b.onion", "xn--bcher-kva.example"] {
            assert!(is_domain_name(good), "{good}");
        }
        for bad in ["", "a..b", ".a", "a b", "smp://x", "a,b", "a:1", &"a".repeat(64), &"a.".repeat(130)] {
            assert!(!is_domain_name(bad), "{bad}");
        }
    }

    #[test]
    fn countries_are_two_letters_in_capitals() {
        assert_eq!(country("de"), Ok("DE".to_owned()));
        assert!(country("deu").is_err() && country("d1").is_err() && country("é").is_err());
    }
}
