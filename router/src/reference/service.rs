//! A service: a client that receives messages or notifications of many queues under its own certificate.

use ringpost_protocol::certificate::chain::Certificate;
use ringpost_protocol::handshake::ServiceRole;

use super::words::{Words, array, bytes, id, put_base64, put_secs, secs};
use super::{BadLine, Id};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    pub id: Id,
    pub role: ServiceRole,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 of the certificate by which the service is known.
    pub fingerprint: [u8; 32],
    /// The beginning of the day, in seconds since 1970.
    pub created_secs: i64,
}

impl ServiceRecord {
    /// Reads what follows the kind of line, to its end.
    pub(super) fn parse(mut words: Words<'_>) -> Result<Self, BadLine> {
        let service = Self {
            id: id("service_id", words.field("service_id=")?)?,
            role: match words.field("role=")? {
                b"M" => ServiceRole::Messaging,
                b"N" => ServiceRole::Notifier,
                b"P" => ServiceRole::Proxy,
                _ => return Err(BadLine::Field { field: "role", what: "neither M, N nor P" }),
            },
            chain: chain(words.field("cert=")?)?,
            fingerprint: array("cert_hash", words.field("cert_hash=")?)?,
            created_secs: secs("created_at", words.field("created_at=")?)?,
        };
        words.finish()?;
        Ok(service)
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"service_id=");
        put_base64(out, &self.id);
        out.extend_from_slice(match self.role {
            ServiceRole::Messaging => b" role=M cert=",
            ServiceRole::Notifier => b" role=N cert=",
            ServiceRole::Proxy => b" role=P cert=",
        });
        for (place, certificate) in self.chain.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            put_base64(out, certificate);
        }
        out.extend_from_slice(b" cert_hash=");
        put_base64(out, &self.fingerprint);
        out.extend_from_slice(b" created_at=");
        put_secs(out, self.created_secs);
    }
}

fn chain(text: &[u8]) -> Result<Vec<Vec<u8>>, BadLine> {
    let certificate = |text| {
        let der = bytes("cert", text)?;
        if Certificate::parse(&der).is_none() {
            return Err(BadLine::Field { field: "cert", what: "not a list of X.509 certificates" });
        }
        Ok(der)
    };
    text.split(|&byte| byte == b',').map(certificate).collect()
}
