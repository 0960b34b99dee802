//! Certificates: those recorded from the reference, and new ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ringpost_protocol::certificate::chain::Certificate;
use ringpost_protocol::certificate::credentials::PemInput;
use ringpost_protocol::certificate::{
    CertificateAuthority, ChainError, CredentialsError, GenerateError, KeyError, RouterCredentials,
    fingerprint_text, parse_fingerprint, verify_chain,
};
use support::{chain, now_secs, vector_text, vectors};

/// 1 December 2026: the recorded certificates are valid from 22 November 2026.
const RECORDED_SECS: i64 = 1_796_083_200;

fn recorded(name: &str) -> String {
    vector_text(&format!("reference_data/etc/{name}"))
}

fn load(ca: &str, server: &str, key: &str, now_secs: i64) -> Result<RouterCredentials, CredentialsError> {
    RouterCredentials::from_pem(ca, server, key, now_secs)
}

fn load_recorded(now_secs: i64) -> Result<RouterCredentials, CredentialsError> {
    load(&recorded("ca.crt"), &recorded("server.crt"), &recorded("server.key"), now_secs)
}

#[test]
fn the_files_of_a_reference_router_load() {
    let credentials = load_recorded(RECORDED_SECS).unwrap();
    assert_eq!(credentials.fingerprint_text(), recorded("fingerprint").trim_end());
    assert_eq!(parse_fingerprint(&recorded("fingerprint")), Some(credentials.ca_fingerprint));
    assert_eq!(credentials.chain.len(), 2);
    let authority = CertificateAuthority::from_pem(&recorded("ca.crt"), &recorded("ca.key")).unwrap();
    assert_eq!(authority.fingerprint(), credentials.ca_fingerprint);
    // What we write is what OpenSSL wrote.
    assert_eq!(*authority.key_pem(), recorded("ca.key"));
    assert_eq!(authority.certificate_pem(), recorded("ca.crt"));
    assert_eq!(*credentials.key.to_pkcs8_pem(), recorded("server.key"));
}

#[test]
fn their_time_is_checked() {
    let early = load_recorded(1_000_000_000);
    assert!(matches!(early, Err(CredentialsError::Chain(ChainError::NotYetValid { certificate: 0, .. }))));
    let end = load_recorded(RECORDED_SECS).unwrap().not_after_secs();
    assert!(load_recorded(end).is_ok());
    let late = load_recorded(end + 1);
    let why = ChainError::Expired { certificate: 0, not_after_secs: end };
    assert_eq!(late.unwrap_err(), CredentialsError::Chain(why));
}

#[test]
fn a_reference_ca_signs_our_server_certificates() {
    let authority = CertificateAuthority::from_pem(&recorded("ca.crt"), &recorded("ca.key")).unwrap();
    let issued = authority.issue("smp.example.org", &[7; 32], RECORDED_SECS).unwrap();
    let loaded = load(&recorded("ca.crt"), &issued.certificate_pem, &issued.key_pem, RECORDED_SECS).unwrap();
    assert_eq!(loaded.fingerprint_text(), recorded("fingerprint").trim_end());
    let (_, ours) = x509_parser::parse_x509_certificate(&loaded.chain[0]).unwrap();
    let (_, ca) = x509_parser::parse_x509_certificate(&loaded.chain[1]).unwrap();
    assert_eq!(ours.issuer().as_raw(), ca.subject().as_raw());
    assert_eq!(key_identifiers(&ours).1, key_identifiers(&ca).0);
}

/// Subject and authority key identifiers.
fn key_identifiers(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    use x509_parser::extensions::ParsedExtension;
    let (mut subject, mut authority) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => subject = Some(id.0.to_vec()),
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                authority = id.key_identifier.as_ref().map(|id| id.0.to_vec());
            }
            _ => {}
        }
    }
    (subject, authority)
}

#[test]
fn new_identities_have_the_form_of_the_reference() {
    let authority = CertificateAuthority::generate(&[1; 32], RECORDED_SECS).unwrap();
    let issued = authority.issue("127.0.0.1", &[2; 32], RECORDED_SECS).unwrap();
    let ours = load(&authority.certificate_pem(), &issued.certificate_pem, &issued.key_pem, RECORDED_SECS);
    let ours = ours.unwrap();
    let theirs = load_recorded(RECORDED_SECS).unwrap();
    assert_eq!(ours.ca_fingerprint, authority.fingerprint());
    for (our_der, their_der) in ours.chain.iter().zip(&theirs.chain) {
        let (_, our) = x509_parser::parse_x509_certificate(our_der).unwrap();
        let (_, their) = x509_parser::parse_x509_certificate(their_der).unwrap();
        assert_eq!(our.version(), their.version());
        assert_eq!(our.subject().as_raw(), their.subject().as_raw());
        assert_eq!(our.issuer().as_raw(), their.issuer().as_raw());
        assert_eq!(our.is_ca(), their.is_ca());
        assert_eq!(
            our.key_usage().unwrap().map(|u| u.value.flags),
            their.key_usage().unwrap().map(|u| u.value.flags)
        );
        assert_eq!(
            our.extended_key_usage().unwrap().map(|usage| usage.value.server_auth),
            their.extended_key_usage().unwrap().map(|usage| usage.value.server_auth)
        );
        let oids = |c: &x509_parser::certificate::X509Certificate<'_>| {
            let mut oids: Vec<String> = c.extensions().iter().map(|e| e.oid.to_id_string()).collect();
            oids.sort();
            oids
        };
        assert_eq!(oids(&our), oids(&their));
        let days = |c: &Certificate<'_>| (c.not_after_secs() - c.not_before_secs()) / 86_400;
        assert_eq!(days(&Certificate::parse(our_der).unwrap()), 1_000_000);
        assert_eq!(days(&Certificate::parse(their_der).unwrap()), 999_999);
    }
    // Other keys, other serial numbers and identities.
    let other = CertificateAuthority::generate(&[3; 32], RECORDED_SECS).unwrap();
    assert_ne!(other.fingerprint(), authority.fingerprint());
    let again = CertificateAuthority::from_pem(&authority.certificate_pem(), &authority.key_pem()).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
}

#[test]
fn what_does_not_fit_together_is_named() {
    let ours = CertificateAuthority::generate(&[1; 32], RECORDED_SECS).unwrap();
    let issued = ours.issue("localhost", &[2; 32], RECORDED_SECS).unwrap();
    let other = CertificateAuthority::generate(&[3; 32], RECORDED_SECS).unwrap();
    let (ca, server, key) = (ours.certificate_pem(), &issued.certificate_pem, &issued.key_pem);

    let error = load(&ca, server, &other.key_pem(), RECORDED_SECS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "server key (server.key): it does not belong to the server certificate (server.crt)"
    );
    let error = load(&other.certificate_pem(), server, key, RECORDED_SECS).unwrap_err();
    assert_eq!(error, CredentialsError::Chain(ChainError::Signature { certificate: 0 }));
    assert!(error.to_string().ends_with("certificate 0 is not signed by certificate 1"), "{error}");
    let error = load("", server, key, RECORDED_SECS).unwrap_err();
    let missing = CredentialsError::Missing { input: PemInput::CaCertificate, section: "CERTIFICATE" };
    assert_eq!(error, missing);
    let error = load(&ca, server, &ca, RECORDED_SECS).unwrap_err();
    assert_eq!(error, CredentialsError::Missing { input: PemInput::ServerKey, section: "PRIVATE KEY" });
    let five = ca.repeat(4);
    let error = load(&five, server, key, RECORDED_SECS).unwrap_err();
    assert_eq!(error, CredentialsError::Chain(ChainError::Length(5)));
    let error = load(&ca, server, &key[..60], RECORDED_SECS).unwrap_err();
    assert!(matches!(error, CredentialsError::Pem { input: PemInput::ServerKey, .. }), "{error:?}");
    let broken = ca.replace("MII", "!!!");
    let error = load(&broken, server, key, RECORDED_SECS).unwrap_err();
    assert!(matches!(error, CredentialsError::Pem { input: PemInput::CaCertificate, .. }), "{error:?}");

    let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let error = load(&ca, server, &ecdsa, RECORDED_SECS).unwrap_err();
    assert_eq!(error, CredentialsError::Key { input: PemInput::ServerKey, error: KeyError::Algorithm });

    let error = CertificateAuthority::from_pem(&ca, key).unwrap_err();
    assert!(matches!(error, GenerateError::Credentials(CredentialsError::Mismatch { .. })), "{error:?}");
    for name in ["", &"a".repeat(65)] {
        assert_eq!(ours.issue(name, &[2; 32], RECORDED_SECS).unwrap_err(), GenerateError::Name);
    }
    for secs in [i64::MIN, i64::MAX, 253_402_300_800] {
        assert!(matches!(CertificateAuthority::generate(&[1; 32], secs), Err(GenerateError::Time(_))));
    }
}

#[test]
fn recorded_fingerprints_and_signatures() {
    for case in vectors("handshake.json")["cases"].as_array().unwrap() {
        let recorded = &case["server_chain"];
        let certificates = chain(recorded);
        for (der, expected) in certificates.iter().zip(recorded["fingerprints_sha256"].as_array().unwrap()) {
            let text = fingerprint_text(&ringpost_protocol::certificate::fingerprint(der));
            assert_eq!(parse_fingerprint(&text).unwrap().as_slice(), support::bytes(expected));
        }
        let leaf_key = verify_chain(&certificates, now_secs()).unwrap();
        assert_eq!(leaf_key, support::leaf_key(recorded).verifying_key());
        // Any changed byte of a signature is seen.
        let mut changed = certificates.clone();
        let mut leaf = changed[0].to_vec();
        *leaf.last_mut().unwrap() ^= 1;
        changed[0] = leaf.into();
        let error = verify_chain(&changed, now_secs()).unwrap_err();
        assert_eq!(error, ChainError::Signature { certificate: 0 });
    }
}

#[test]
fn truncated_certificates_are_malformed() {
    let credentials = load_recorded(RECORDED_SECS).unwrap();
    let leaf = &credentials.chain[0];
    for end in 0..leaf.len() {
        assert!(Certificate::parse(&leaf[..end]).is_none());
    }
    assert!(Certificate::parse(&[leaf, &[0][..]].concat()).is_none());
}
