//! Addresses of routers and queues against `uris.json`, and their properties.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{array, assert_bytes, bytes, list, load, text};
use proptest::prelude::*;
use ringpost_protocol::address::{
    AddressError, AddressPart, ClientVersion, ClientVersionRange, Host, Hosts, KeyHash, Password,
    QueueAddress, QueueInfo, QueueUri, Router, RouterAddress, Scheme, SenderId,
};
use ringpost_protocol::command::{QueueMode, RouterBinary};
use ringpost_protocol::keys::DhPublicKey;
use serde_json::Value;

/// Ours: IPv6 addresses of the vectors, which are bare there, in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn hosts(server: &Value) -> String {
    list(server, "hosts").iter().map(|host| bracketed(text(host))).collect::<Vec<_>>().join(",")
}

fn router(server: &Value) -> Router {
    let port = text(&server["port"]);
    Router {
        hosts: Hosts::new(list(server, "hosts").iter().map(|host| text(host).parse().unwrap()).collect())
            .unwrap(),
        port: if port.is_empty() { None } else { Some(port.parse().unwrap()) },
        key_hash: KeyHash::new(&bytes(&server["key_hash"])).unwrap(),
    }
}

fn mode(value: &Value) -> Option<QueueMode> {
    value.as_str().map(|mode| match mode {
        "M" => QueueMode::Messaging,
        "C" => QueueMode::Contact,
        other => panic!("mode {other}"),
    })
}

fn queue(fields: &Value) -> QueueAddress {
    let der = bytes(&fields["dh_public_der"]);
    QueueAddress {
        router: router(&fields["server"]),
        sender_id: SenderId::new(&bytes(&fields["sender_id"])).unwrap(),
        dh_key: DhPublicKey(der[12..].try_into().unwrap()),
        mode: mode(&fields["queue_mode"]),
    }
}

fn uri(fields: &Value) -> QueueUri {
    let [min, max] =
        [0, 1].map(|at| ClientVersion(fields["client_versions"][at].as_u64().unwrap().try_into().unwrap()));
    QueueUri { versions: ClientVersionRange::new(min, max).unwrap(), queue: queue(fields) }
}

/// Texts that the reference reads and ours refuses, each by name, and the part that is wrong in them.
const REFUSED_ADDRESSES: [(&str, &str, AddressPart); 3] = [
    ("a port above 65535", "@smp.example.com:99999", AddressPart::Port),
    ("a last octet above 255, which the reference wraps to 144", "@1.2.3.400", AddressPart::Host),
    ("another octet above 255, which the reference takes for a domain name", "@300.2.3.4", AddressPart::Host),
];

#[test]
fn router_addresses() {
    let vectors = load("uris.json");
    let mut refused = Vec::new();
    for case in list(&vectors, "server_addresses") {
        let written = text(&case["text"]);
        let parsed = written.parse::<RouterAddress>();
        if let Some((why, _, part)) = REFUSED_ADDRESSES.iter().find(|(_, end, _)| written.ends_with(end)) {
            assert!(case["error"].is_null(), "{written} is refused by both");
            assert_eq!(parsed.unwrap_err().part, *part, "{why}");
            refused.push(*why);
            continue;
        }
        if case["error"].is_string() {
            assert!(parsed.is_err(), "{written}");
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(parsed.scheme.to_string(), text(&case["scheme"]));
        assert_eq!(parsed.router, router(&case["server"]), "{written}");
        assert_eq!(parsed.password.as_ref().map(Password::as_str), case["password"].as_str());

        // The same text, but for the brackets.
        let bare = text(&case["written_again"]);
        let host_list = list(&case["server"], "hosts").iter().map(text).collect::<Vec<_>>().join(",");
        let expected = bare.replace(&format!("@{host_list}"), &format!("@{}", hosts(&case["server"])));
        assert_eq!(parsed.to_string(), expected);
        assert_eq!(expected.parse(), Ok(parsed.clone()));

        let binary = bytes(&case["binary"]);
        let mut out = Vec::new();
        parsed.router.write_binary(&mut out);
        assert_eq!(hex::encode(&out), hex::encode(&binary), "{written}");
        assert_eq!(Router::parse_binary(&binary), Ok((parsed.router, &[][..])));
    }
    assert_eq!(refused.len(), REFUSED_ADDRESSES.len());
}

/// Which part of a refused address the error names.
#[test]
fn errors_name_the_wrong_part() {
    const HASH: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    for (written, part, message) in [
        (format!("http://{HASH}@a"), AddressPart::Scheme, "wrong scheme: not smp, xftp or ntf"),
        (format!("{HASH}@a"), AddressPart::Scheme, "wrong scheme: no :// behind it"),
        ("smp://a.b".into(), AddressPart::KeyHash, "wrong key hash: no @ behind it"),
        ("smp://@a".into(), AddressPart::KeyHash, "wrong key hash: empty"),
        ("smp://AQ=@a".into(), AddressPart::KeyHash, "wrong key hash: not base64url"),
        ("smp://AR==@a".into(), AddressPart::KeyHash, "wrong key hash: not base64url"),
        (format!("smp://{HASH}:@a"), AddressPart::Password, "wrong password: empty"),
        (
            format!("smp://{HASH}:a b@a"),
            AddressPart::Password,
            "wrong password: a character that is not allowed",
        ),
        (format!("smp://{HASH}@"), AddressPart::Host, "wrong host: empty"),
        (format!("smp://{HASH}@a,"), AddressPart::Host, "wrong host: empty"),
        (format!("smp://{HASH}@a/"), AddressPart::Host, "wrong host: something behind the host"),
        (format!("smp://{HASH}@[::1"), AddressPart::Host, "wrong host: no bracket closes the IPv6 address"),
        (format!("smp://{HASH}@[::g]"), AddressPart::Host, "wrong host: not an IPv6 address"),
        (
            format!("smp://{HASH}@Abc.onion"),
            AddressPart::Host,
            "wrong host: an onion name is lower case letters and digits before .onion",
        ),
        (format!("smp://{HASH}@a:"), AddressPart::Port, "wrong port: not a number up to 65535"),
        (format!("smp://{HASH}@a:+1"), AddressPart::Port, "wrong port: not a number up to 65535"),
    ] {
        let error = written.parse::<RouterAddress>().unwrap_err();
        assert_eq!((error.part, error.to_string().as_str()), (part, message), "{written}");
    }
}

#[test]
fn hosts_of_all_kinds() {
    let vectors = load("uris.json");
    let mut refused = Vec::new();
    for case in list(&vectors, "hosts") {
        let written = text(&case["text"]);
        let parsed = written.parse::<Host>();
        if written == "256.0.0.1" {
            assert_eq!(text(&case["kind"]), "THDomainName");
            assert_eq!(parsed.unwrap_err().part, AddressPart::Host);
            refused.push("an octet above 255, which the reference takes for a domain name");
            continue;
        }
        if case["error"].is_string() {
            assert_eq!(parsed.unwrap_err().part, AddressPart::Host, "{written}");
            continue;
        }
        let parsed = parsed.unwrap();
        let kind = match parsed {
            Host::Ipv4(_) => "THIPv4",
            Host::Ipv6(_) => "THIPv6",
            Host::Onion(_) => "THOnionHost",
            Host::Domain(_) => "THDomainName",
        };
        assert_eq!(kind, text(&case["kind"]), "{written}");
        assert_eq!(parsed.to_string(), bracketed(text(&case["written_again"])));
        // In binary, the length tells where the host ends: no brackets there.
        let key_hash = KeyHash::new(&[1]).unwrap();
        let router = Router { hosts: Hosts::new(vec![parsed]).unwrap(), port: None, key_hash };
        let mut out = Vec::new();
        router.write_binary(&mut out);
        assert_eq!(hex::encode(out), format!("01{}000101", text(&case["binary"])));
        assert_eq!(text(&case["written_again"]).parse(), Ok(router.hosts.as_slice()[0].clone()));
    }
    assert_eq!(refused.len(), 1);
}

/// `::1` with port 5223 is one text with the address `::1:5223` in the reference. Ours is not ambiguous, and
/// reads bare addresses as the reference does.
#[test]
fn ipv6_addresses_have_brackets_before_a_port() {
    let address = |text: &str| text.parse::<RouterAddress>().unwrap();
    assert_eq!(address("smp://AQ@[::1]:5223").to_string(), "smp://AQ==@[::1]:5223");
    assert_eq!(address("smp://AQ@::1:5223").to_string(), "smp://AQ==@[::1:5223]");
    assert_eq!(address("smp://AQ@::1:5223").port(), 5223);
    assert_eq!(address("smp://AQ@::1:5223").router.port, None);
    assert_eq!(address("smp://AQ@a,::1,b:443").to_string(), "smp://AQ==@a,[::1],b:443");
    assert_eq!(address("smp://AQ@face:443").to_string(), "smp://AQ==@face:443");
    assert_eq!(address("smp://AQ@[::ffff:1.2.3.4]").to_string(), "smp://AQ==@[::ffff:102:304]");
    assert!("smp://AQ@[1.2.3.4]".parse::<RouterAddress>().is_err());
}

#[test]
fn names_that_are_refused() {
    let long = "a".repeat(254);
    for name in [
        "1.2.3.4x",
        "1.2.3.4.example.com",
        ".onion",
        "a.b.onion",
        "a..b",
        ".a",
        ".",
        "a b",
        "a@b",
        "a[b",
        "é.fr",
        &long,
    ] {
        assert_eq!(name.parse::<Host>().unwrap_err().part, AddressPart::Host, "{name}");
    }
    for name in ["example.com.", "xn--caf-dma.fr", "1.2.3", "1.2.3.a", "4x", &long[1..]] {
        assert_eq!(name.parse::<Host>().unwrap().to_string(), name);
    }
}

#[test]
fn defaults_and_secrets() {
    let address: RouterAddress = "smp://AQ==:secret@a".parse().unwrap();
    assert_eq!(address.port(), 5223);
    assert!(!format!("{address:?}").contains("secret"));
    assert_eq!(address.without_password().to_string(), "smp://AQ==@a");
    assert_eq!((Scheme::Xftp.default_port(), Scheme::Ntf.default_port()), (443, 443));
}

#[test]
fn queue_uris() {
    let vectors = load("uris.json");
    for case in list(&vectors, "queue_uris") {
        let name = text(&case["name"]);
        let uri_of_case = uri(&case["fields"]);
        assert_eq!(uri_of_case.to_string(), text(&case["text"]), "{name}");
        assert_eq!(text(&case["text"]).parse(), Ok(uri(&case["parsed_again"])), "{name}");
        assert_bytes(&uri_of_case.to_binary(), &case["binary"], name);
        let again = QueueUri::from_binary(&bytes(&case["binary"]));
        assert_eq!(again, Ok(uri(&case["binary_parsed_again"])), "{name}");
    }
}

#[test]
fn queue_uris_in_other_forms() {
    let vectors = load("uris.json");
    for case in list(&vectors, "queue_uri_parsing") {
        let written = text(&case["text"]);
        let parsed = written.parse::<QueueUri>();
        if case["error"].is_string() {
            assert!(parsed.is_err(), "{written}");
            continue;
        }
        let parsed = parsed.unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(parsed, uri(&case["fields"]), "{written}");
        assert_eq!(parsed.to_string(), text(&case["written_again"]));
    }
}

#[test]
fn broken_queue_uris() {
    let key = "MCowBQYDK2VuAyEAwBqmjegYp8_UFpGs7esNS3_spud4Jawr_7G4hi9hATo";
    assert!(format!("smp://AQ@a/AQ#{key}").parse::<QueueUri>().is_ok());
    for (written, part) in [
        ("smp://AQ@a".into(), AddressPart::SenderId),
        ("smp://AQ@a#".into(), AddressPart::SenderId),
        ("smp://AQ@a/#".into(), AddressPart::SenderId),
        ("smp://AQ@a/A#".into(), AddressPart::SenderId),
        (format!("xftp://AQ@a/AQ#{key}"), AddressPart::Scheme),
        (format!("smp://AQ:pass@a/AQ#{key}"), AddressPart::Password),
        (format!("smp://AQ@a/AQ#{key}AA"), AddressPart::DhKey),
        (format!("smp://AQ@a/AQ#/?v=1&dh=AA{}", &key[2..]), AddressPart::DhKey),
        ("smp://AQ@a/AQ#/?v=1".into(), AddressPart::DhKey),
        (format!("smp://AQ@a/AQ#/?dh={key}"), AddressPart::Versions),
        (format!("smp://AQ@a/AQ#/?v=2-1&dh={key}"), AddressPart::Versions),
        (format!("smp://AQ@a/AQ#/?v=65536&dh={key}"), AddressPart::Versions),
        (format!("smp://AQ@a/AQ#/?v=1-&dh={key}"), AddressPart::Versions),
        (format!("smp://AQ@a/AQ#/?v=1&dh={key}%3"), AddressPart::Query),
        (format!("smp://AQ@a/AQ#/?v=1&dh={key}%ff"), AddressPart::Query),
        (format!("smp://AQ@a/AQ#/?v=1 &dh={key}"), AddressPart::Query),
        (format!("smp://AQ@a/AQ#/?v=1&dh={key}&srv=b:1"), AddressPart::Host),
    ] {
        assert_eq!(written.parse::<QueueUri>().unwrap_err().part, part, "{written}");
    }
}

#[test]
fn queue_infos() {
    let vectors = load("uris.json");
    for case in list(&vectors, "queue_infos") {
        let name = text(&case["name"]);
        let version = ClientVersion(case["client_version"].as_u64().unwrap().try_into().unwrap());
        let info = QueueInfo { version, queue: queue(&case["fields"]) };
        assert_bytes(&info.to_binary(), &case["binary"], name);
        let again = QueueInfo { version, queue: queue(&case["binary_parsed_again"]) };
        assert_eq!(QueueInfo::from_binary(&bytes(&case["binary"])), Ok(again), "{name}");
    }
}

/// The key in all of `uris.json`, by its DER form: the prefix that is written here.
#[test]
fn dh_keys_are_in_x509_form() {
    let vectors = load("uris.json");
    let key = DhPublicKey(array(&vectors["dh_key"]["public"]));
    let uri_of_case = uri(&list(&vectors, "queue_uris")[0]["fields"]);
    assert_eq!(uri_of_case.queue.dh_key, key);
    let der = hex::encode(bytes(&vectors["dh_key"]["public_der"]));
    assert!(hex::encode(uri_of_case.to_binary()).ends_with(&format!("2c{der}")));
}

#[test]
fn a_router_from_prxy() {
    let binary = RouterBinary { hosts: vec![b"a.example", b"::1"], port: b"5223", key_hash: &[7; 32] };
    let router = Router::try_from(&binary).unwrap();
    assert_eq!(router.hosts.to_string(), "a.example,[::1]");
    assert_eq!(router.port, Some(5223));
    for (broken, part) in [
        (RouterBinary { hosts: vec![], ..binary.clone() }, AddressPart::Host),
        (RouterBinary { hosts: vec![b"\xff"], ..binary.clone() }, AddressPart::Host),
        (RouterBinary { port: b"https", ..binary.clone() }, AddressPart::Port),
        (RouterBinary { key_hash: b"", ..binary.clone() }, AddressPart::KeyHash),
    ] {
        assert_eq!(Router::try_from(&broken).unwrap_err().part, part);
    }
}

fn any_host() -> impl Strategy<Value = Host> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| Host::Ipv4(octets.into())),
        any::<[u16; 8]>().prop_map(|segments| Host::Ipv6(segments.into())),
        prop::collection::vec(0..3_u16, 8)
            .prop_map(|segments| { Host::Ipv6(<[u16; 8]>::try_from(segments).unwrap().into()) }),
        any::<[u8; 4]>().prop_map(|octets| Host::Ipv6(std::net::Ipv4Addr::from(octets).to_ipv6_mapped())),
        "[a-z0-9]{1,56}\\.onion".prop_map(|name| name.parse().unwrap()),
        "[a-zA-Z][a-zA-Z0-9_-]{0,20}(\\.[a-zA-Z][a-zA-Z0-9_-]{0,20}){0,3}"
            .prop_map(|name| name.parse().unwrap()),
    ]
}

prop_compose! {
    fn any_router()(
        hosts in prop::collection::vec(any_host(), 1..5),
        port in any::<Option<u16>>(),
        key_hash in prop::collection::vec(any::<u8>(), 1..=255),
    ) -> Router {
        Router { hosts: Hosts::new(hosts).unwrap(), port, key_hash: KeyHash::new(&key_hash).unwrap() }
    }
}

prop_compose! {
    fn any_queue()(
        router in any_router(),
        sender_id in prop::collection::vec(any::<u8>(), 1..=255),
        dh_key in any::<[u8; 32]>(),
        mode in prop::option::of(prop_oneof![Just(QueueMode::Messaging), Just(QueueMode::Contact)]),
    ) -> QueueAddress {
        let sender_id = SenderId::new(&sender_id).unwrap();
        QueueAddress { router, sender_id, dh_key: DhPublicKey(dh_key), mode }
    }
}

fn any_versions() -> impl Strategy<Value = ClientVersionRange> {
    (1..7_u16, 0..7_u16).prop_map(|(min, more)| {
        ClientVersionRange::new(ClientVersion(min), ClientVersion(min + more)).unwrap()
    })
}

/// What a version, or a range of them, keeps of the mode in binary.
fn mode_kept(min: u16, max: u16, mode: Option<QueueMode>) -> Option<QueueMode> {
    match (mode, min) {
        (mode, 4..) => mode,
        (Some(QueueMode::Messaging), _) if max >= 3 => mode,
        (_, 3) => Some(QueueMode::Contact),
        _ => None,
    }
}

/// Every way to read every start of `bytes`; the parsers of whole forms must refuse all but the whole.
fn cuts_are_refused<T>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<T, AddressError>,
) -> Result<(), TestCaseError> {
    for len in 0..bytes.len() {
        prop_assert!(parse(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let longer = [bytes, b"x"].concat();
    prop_assert_eq!(parse(&longer).err().map(|error| error.part), Some(AddressPart::End));
    Ok(())
}

proptest! {
    #[test]
    fn addresses_are_read_as_written(
        router in any_router(),
        scheme in prop_oneof![Just(Scheme::Smp), Just(Scheme::Xftp), Just(Scheme::Ntf)],
        password in prop::option::of("[!-.0-9;-?A-~é]{1,30}"),
    ) {
        let password = password.map(|password| password.parse().unwrap());
        let address = RouterAddress { scheme, router, password };
        prop_assert_eq!(address.to_string().parse(), Ok(address.clone()));
        let mut binary = Vec::new();
        address.router.write_binary(&mut binary);
        for len in 0..binary.len() {
            prop_assert!(Router::parse_binary(&binary[..len]).is_err());
        }
        binary.push(1);
        prop_assert_eq!(Router::parse_binary(&binary), Ok((address.router, &[1][..])));
    }

    #[test]
    fn queue_uris_are_read_as_written(queue in any_queue(), versions in any_versions()) {
        let uri = QueueUri { versions, queue };
        prop_assert_eq!(uri.to_string().parse(), Ok(uri.clone()));
        let (min, max) = (versions.min().0, versions.max().0);
        let mut kept = uri.clone();
        kept.queue.mode = mode_kept(min, max, uri.queue.mode);
        let binary = uri.to_binary();
        prop_assert_eq!(QueueUri::from_binary(&binary), Ok(kept));
    }

    #[test]
    fn queue_infos_are_read_as_written(queue in any_queue(), version in 1..7_u16) {
        let info = QueueInfo { version: ClientVersion(version), queue };
        let mut kept = info.clone();
        kept.queue.mode = match mode_kept(version, version, info.queue.mode) {
            Some(QueueMode::Contact) if version == 3 => None,
            mode => mode,
        };
        if version == 1 {
            kept.queue.router.hosts = Hosts::new(info.queue.router.hosts.as_slice()[..1].to_vec()).unwrap();
        }
        prop_assert_eq!(QueueInfo::from_binary(&info.to_binary()), Ok(kept));
    }

    #[test]
    fn cut_forms_are_refused(mut queue in any_queue(), versions in any_versions()) {
        // Without a mode, whose one byte may be missing.
        queue.mode = None;
        let uri = QueueUri { versions, queue };
        if versions.min().0 != 3 {
            cuts_are_refused(&uri.to_binary(), QueueUri::from_binary)?;
        }
        let info = QueueInfo { version: versions.min(), queue: uri.queue.clone() };
        cuts_are_refused(&info.to_binary(), QueueInfo::from_binary)?;
        let text = uri.to_string();
        for len in 0..text.len() {
            let _ = text.get(..len).map(str::parse::<QueueUri>);
        }
    }

    #[test]
    fn any_text_and_bytes_never_panic(
        text in any::<String>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = text.parse::<RouterAddress>();
        let _ = text.parse::<QueueUri>();
        let _ = text.parse::<Host>();
        let _ = text.parse::<ClientVersionRange>();
        let _ = Router::parse_binary(&bytes);
        let _ = QueueUri::parse_binary(&bytes);
        let _ = QueueInfo::parse_binary(&bytes);
    }

    /// What is read is written in one form only, and that is read to the same.
    #[test]
    fn texts_like_addresses_have_one_form(
        text in "(smp|xftp|ntf|x)://[A-Za-z0-9_=-]{0,6}(:[a-c@:/]{0,3})?@\
            ([a-f0-9:.,]|\\[|\\]|\\.onion){0,20}(:[0-9]{0,6})?",
        hosts in "[a-f0-9:.,]{1,9}",
        query in "(v=[0-4-]{0,3}|q=[mcx]|k=s|srv=([a-f,:]|%2[cC]|%3A){0,6}|&){0,6}",
    ) {
        if let Ok(address) = text.parse::<RouterAddress>() {
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }
        let key = "MCowBQYDK2VuAyEAwBqmjegYp8_UFpGs7esNS3_spud4Jawr_7G4hi9hATo";
        if let Ok(uri) = format!("smp://AQ@{hosts}/AQ#/?v=1-2&dh={key}&{query}").parse::<QueueUri>() {
            prop_assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }
}
