//! Options of `smp-server init`, and what it asks for without `--yes`.

use clap::{Args, ValueEnum};

use ringpost_protocol::certificate::SignatureAlgorithm;

use super::interview::Interview;
use crate::exit::{Fatal, Reason};
use crate::init::{InitOptions, Password, ServerName};
use crate::paths::Paths;
use crate::settings::valid_password;

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

    /// Control port, on this machine only, with random passwords
    /// [without PORT: 5224]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "5224")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    control_port: Option<u16>,

    /// SOCKS5 proxy to servers that have onion addresses only
    /// [without PROXY: 127.0.0.1:9050]
    #[arg(long, value_name = "PROXY", num_args = 0..=1, default_missing_value = "127.0.0.1:9050")]
    socks_proxy: Option<String>,

    /// Domain names of own servers, separated by commas
    #[arg(long, value_name = "DOMAINS")]
    own_domains: Option<String>,

    /// Where the source of this server is published
    #[arg(long, value_name = "URI", num_args = 0..=1, default_missing_value = "")]
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

    /// Directory that the information and link pages are written to
    /// [default: www in the state directory]
    #[arg(long, value_name = "PATH")]
    web_path: Option<String>,

    /// Serve no pages. Otherwise they are served on port 443 if the files
    /// web.crt and web.key are in the configuration directory
    #[arg(long)]
    disable_web: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum SignAlgorithm {
    Ed25519,
    Ed448,
}

impl From<SignAlgorithm> for SignatureAlgorithm {
    fn from(algorithm: SignAlgorithm) -> Self {
        match algorithm {
            SignAlgorithm::Ed25519 => Self::Ed25519,
            SignAlgorithm::Ed448 => Self::Ed448,
        }
    }
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
    /// What to do, after the questions that are to be asked.
    pub fn options(self, paths: &Paths, interview: &mut Interview<'_>) -> Result<InitOptions, Fatal> {
        if self.source_code.as_deref() == Some("") {
            let message = "--source-code needs the URI where the source of this server is published";
            return Err(
                Fatal::new(Reason::Usage, message).remedy("Leave the option out if you did not change it.")
            );
        }
        let ask = !self.yes;
        let options = self.given()?;
        if ask { asked(options, paths, interview) } else { Ok(options) }
    }

    /// What the command line says.
    fn given(self) -> Result<InitOptions, Fatal> {
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
            sign_algorithm: self.sign_algorithm.into(),
            control_port: self.control_port,
            socks_proxy: self.socks_proxy,
            // The ini separates them by spaces.
            own_domains: self.own_domains.map(|domains| domains.replace(',', " ")),
            information: information.into_iter().filter_map(|(key, value)| Some((key, value?))).collect(),
            web_path: self.web_path,
            web: !self.disable_web,
        })
    }
}

/// Asks for what most operators choose; the options of the command line are the answers that Enter gives.
fn asked(
    mut options: InitOptions,
    paths: &Paths,
    interview: &mut Interview<'_>,
) -> Result<InitOptions, Fatal> {
    interview.say("`smp-server init --help` lists the options; Enter takes what stands in brackets.");
    interview.ask(&format!(
        "A server will be made in {} and {} (press Enter)",
        paths.config_dir.display(),
        paths.data_dir.display()
    ))?;
    options.store_log =
        interview.yes_or_no("Keep queues and messages when the server restarts", options.store_log)?;
    options.daily_stats = interview.yes_or_no("Write daily statistics", options.daily_stats)?;
    interview.say("Must a user know a password to make queues on this server?");
    let shown = match &options.password {
        Password::None => "n",
        Password::Given(_) => "the one given",
        Password::Random => "r",
    };
    let question =
        format!("'r' for a random one, 'n' for none (public servers), or the password itself [{shown}]:");
    options.password = interview.ask_until(&question, options.password, |answer| match answer {
        "r" => Ok(Password::Random),
        "n" => Ok(Password::None),
        password if valid_password(password) => Ok(Password::Given(password.to_owned())),
        _ => Err("A password has 1 to 255 printable ASCII characters, no space, none of @ : /"),
    })?;
    let shown = match &options.name {
        ServerName::Given(name) => name.as_str(),
        ServerName::Unknown => "127.0.0.1",
    };
    let question = format!("Domain name or IP address of the server [{shown}]:");
    options.name = interview.ask_until(&question, options.name.clone(), |answer| {
        if is_common_name(answer) {
            Ok(ServerName::Given(answer.to_owned()))
        } else {
            Err("A domain name is letters, digits, hyphens and dots, at most 64.")
        }
    })?;
    let source =
        options.information.iter().find(|(key, _)| *key == "source_code").map(|(_, uri)| uri.clone());
    let shown = source.as_deref().unwrap_or("none");
    let question = format!("URI of the source code, if you changed it [{shown}]:");
    let given = interview.ask_until(&question, None, |answer| {
        if answer.starts_with("https://") || answer.starts_with("http://") {
            Ok(Some(answer.to_owned()))
        } else {
            Err("It begins with https:// or http://")
        }
    })?;
    if let Some(uri) = given {
        options.information.retain(|(key, _)| *key != "source_code");
        options.information.push(("source_code", uri));
    }
    if options.web {
        let default = paths.static_pages();
        let shown = options.web_path.clone().unwrap_or_else(|| default.display().to_string());
        let question = format!("Directory of the information and link pages [{shown}]:");
        let answer = interview.ask(&question)?;
        options.web_path = if answer.is_empty() { options.web_path } else { Some(answer) };
    }
    Ok(options)
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

/// Whether a certificate can name this server.
pub fn is_common_name(text: &str) -> bool {
    const CHARACTERS_MAX: usize = 64;
    text.len() <= CHARACTERS_MAX && (is_domain_name(text) || text.parse::<std::net::IpAddr>().is_ok())
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
