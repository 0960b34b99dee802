//! Options of `smp-server cert`.

use clap::Args;

use super::init::{SignAlgorithm, is_common_name};
use crate::certificates::CertificateOptions;
use crate::exit::{Fatal, Reason};

#[derive(Debug, Args)]
pub struct CertificateArguments {
    /// Signature algorithm of the new key [default: that of the old one]
    #[arg(short = 'a', long, value_name = "ALG")]
    sign_algorithm: Option<SignAlgorithm>,

    /// Name in the new certificate [default: that in the old one]
    #[arg(long, value_name = "FQDN")]
    cn: Option<String>,
}

impl CertificateArguments {
    pub fn options(self) -> Result<CertificateOptions, Fatal> {
        if let Some(name) = self.cn.as_deref().filter(|name| !is_common_name(name)) {
            let message =
                format!("--cn {name}: expected a domain name or an IP address of at most 64 characters");
            return Err(Fatal::new(Reason::Usage, message));
        }
        Ok(CertificateOptions { algorithm: self.sign_algorithm.map(Into::into), name: self.cn })
    }
}
