//! Writes X.509 certificates (RFC 5280) with Ed25519 and Ed448 keys, in the form that the reference has OpenSSL make.

use sha2::{Digest, Sha256};
use x509_parser::time::ASN1Time;

use super::der::{BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, put};
use super::key::{SignatureAlgorithm, SigningKey, VerifyingKey};

const BOOLEAN: u8 = 0x01;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0x80;
const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;
const CONTEXT_3_CONSTRUCTED: u8 = 0xa3;

/// 2.5.4.3 and 2.5.4.10.
const COMMON_NAME_OID: &[u8] = &[0x55, 4, 3];
const ORGANIZATION_OID: &[u8] = &[0x55, 4, 10];
/// 2.5.29.14, .35, .19, .15 and .37.
const SUBJECT_KEY_IDENTIFIER_OID: &[u8] = &[0x55, 0x1d, 14];
const AUTHORITY_KEY_IDENTIFIER_OID: &[u8] = &[0x55, 0x1d, 35];
const BASIC_CONSTRAINTS_OID: &[u8] = &[0x55, 0x1d, 19];
const KEY_USAGE_OID: &[u8] = &[0x55, 0x1d, 15];
const EXTENDED_KEY_USAGE_OID: &[u8] = &[0x55, 0x1d, 37];
/// 1.3.6.1.5.5.7.3.1
const SERVER_AUTH_OID: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// Digital signature, non-repudiation, key agreement: bits 0, 1 and 4, with three unused ones behind.
const KEY_USAGE_BITS: &[u8] = &[3, 0b1100_1000];

/// Bytes of serial numbers and key identifiers.
const HASH_BYTES: usize = 20;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Authority,
    Server,
}

/// A certificate to be written.
pub(super) struct NewCertificate<'a> {
    pub purpose: Purpose,
    /// DER of a `Name`, as are those of [`name`].
    pub subject: &'a [u8],
    pub issuer: &'a [u8],
    pub public_key: &'a VerifyingKey,
    pub issuer_key: &'a SigningKey,
    /// See [`key_identifier`]. Of the key that signs.
    pub issuer_key_identifier: &'a [u8],
    /// Unix times.
    pub not_before_secs: i64,
    pub not_after_secs: i64,
}

impl NewCertificate<'_> {
    /// DER. None if a time is outside of what certificates can say: the years 0 to 9999.
    pub(super) fn sign(&self) -> Option<Vec<u8>> {
        let algorithm = self.issuer_key.algorithm().identifier_der();
        let body = sequence(&[
            &element(CONTEXT_0_CONSTRUCTED, &[&element(INTEGER, &[&[2]])]), // version 3
            &element(INTEGER, &[&self.serial_number()]),
            &algorithm,
            self.issuer,
            &sequence(&[&time(self.not_before_secs)?, &time(self.not_after_secs)?]),
            self.subject,
            &public_key_info(self.public_key),
            &element(CONTEXT_3_CONSTRUCTED, &[&self.extensions()]),
        ]);
        let signature = self.issuer_key.sign(&body);
        Some(sequence(&[&body, &algorithm, &element(BIT_STRING, &[&[0], &signature])]))
    }

    /// A hash of the key, which is random. Positive, and of the full length.
    fn serial_number(&self) -> [u8; HASH_BYTES] {
        let digest = Sha256::new().chain_update(b"serial number").chain_update(self.public_key.as_bytes());
        let mut serial = first_bytes(digest);
        serial[0] = serial[0] & 0x3f | 0x40;
        serial
    }

    /// In the order of OpenSSL with the reference's configuration.
    fn extensions(&self) -> Vec<u8> {
        let subject_key = element(OCTET_STRING, &[&key_identifier(self.public_key)]);
        let subject_key = extension(SUBJECT_KEY_IDENTIFIER_OID, false, &subject_key);
        let authority_key = sequence(&[&element(CONTEXT_0, &[self.issuer_key_identifier])]);
        let authority_key = extension(AUTHORITY_KEY_IDENTIFIER_OID, false, &authority_key);
        match self.purpose {
            Purpose::Authority => {
                let constraints = sequence(&[&element(BOOLEAN, &[&[0xff]])]);
                let constraints = extension(BASIC_CONSTRAINTS_OID, true, &constraints);
                sequence(&[&subject_key, &authority_key, &constraints])
            }
            Purpose::Server => {
                let constraints = extension(BASIC_CONSTRAINTS_OID, false, &sequence(&[]));
                let usage = extension(KEY_USAGE_OID, false, &element(BIT_STRING, &[KEY_USAGE_BITS]));
                let extended = sequence(&[&element(OBJECT_IDENTIFIER, &[SERVER_AUTH_OID])]);
                let extended = extension(EXTENDED_KEY_USAGE_OID, false, &extended);
                sequence(&[&constraints, &usage, &extended, &subject_key, &authority_key])
            }
        }
    }
}

/// A `Name` of common name and organization.
pub(super) fn name(common_name: &str, organization: Option<&str>) -> Vec<u8> {
    let attribute = |oid, text: &str| {
        let value = element(UTF8_STRING, &[text.as_bytes()]);
        element(SET, &[&sequence(&[&element(OBJECT_IDENTIFIER, &[oid]), &value])])
    };
    let organization = organization.map(|text| attribute(ORGANIZATION_OID, text)).unwrap_or_default();
    sequence(&[&attribute(COMMON_NAME_OID, common_name), &organization])
}

/// The first 160 bits of the SHA-256 of the key: RFC 7093, method 1.
pub(super) fn key_identifier(key: &VerifyingKey) -> [u8; HASH_BYTES] {
    first_bytes(Sha256::new().chain_update(key.as_bytes()))
}

fn first_bytes(digest: Sha256) -> [u8; HASH_BYTES] {
    let mut bytes = [0; HASH_BYTES];
    bytes.copy_from_slice(&digest.finalize()[..HASH_BYTES]);
    bytes
}

fn public_key_info(key: &VerifyingKey) -> Vec<u8> {
    let algorithm: SignatureAlgorithm = key.algorithm();
    sequence(&[&algorithm.identifier_der(), &element(BIT_STRING, &[&[0], key.as_bytes()])])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { element(BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    sequence(&[&element(OBJECT_IDENTIFIER, &[oid]), &critical, &element(OCTET_STRING, &[value])])
}

/// RFC 5280, 4.1.2.5: two digits of the year until 2049, four from then on.
fn time(unix_secs: i64) -> Option<Vec<u8>> {
    let time = ASN1Time::from_timestamp(unix_secs).ok()?.to_datetime();
    let year = u32::try_from(time.year()).ok().filter(|year| *year <= 9999)?;
    let rest = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    Some(if (1950..2050).contains(&year) {
        element(UTC_TIME, &[format!("{:02}{rest}", year % 100).as_bytes()])
    } else {
        element(GENERALIZED_TIME, &[format!("{year:04}{rest}").as_bytes()])
    })
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    element(SEQUENCE, parts)
}

fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, tag, &parts.concat());
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_have_the_form_of_their_century() {
        let text = |secs| String::from_utf8(time(secs).unwrap()[2..].to_vec()).unwrap();
        assert_eq!(text(0), "700101000000Z");
        assert_eq!(text(2_524_607_999), "491231235959Z");
        assert_eq!(text(2_524_608_000), "20500101000000Z");
        assert_eq!(text(253_402_300_799), "99991231235959Z");
        for secs in [253_402_300_800, i64::MAX, i64::MIN] {
            assert!(time(secs).is_none(), "{secs}");
        }
    }

    #[test]
    fn serial_numbers_are_positive_and_differ() {
        let key = SigningKey::ed25519(&[1; 32]);
        let serial = |seed| {
            let new = NewCertificate {
                purpose: Purpose::Authority,
                subject: &name("a", None),
                issuer: &name("a", None),
                public_key: &SigningKey::ed25519(&[seed; 32]).verifying_key(),
                issuer_key: &key,
                issuer_key_identifier: &[],
                not_before_secs: 0,
                not_after_secs: 1,
            };
            new.serial_number()
        };
        assert!((1..50).all(|seed| (0x40..0x80).contains(&serial(seed)[0])));
        assert_ne!(serial(1), serial(2));
    }
}
