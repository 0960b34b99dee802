//! The recorded handshakes, ready to run.

use ringpost_protocol::certificate::{RouterCredentials, VerifyingKey};
use ringpost_protocol::crypto::{DhPrivateKey, DhSecret};
use ringpost_protocol::handshake::{
    ClientHandshake, ClientSession, RouterHandshake, RouterHello, ServiceHello, ServiceRole, offered_versions,
};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::tls::SessionId;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use serde_json::Value;

use super::{array, bytes, chain, leaf_key, now_secs, vectors};

/// The plainest of them.
pub const USUAL: &str = "server 6..18, client 6..18, Ed25519";

pub type Block = [u8; BLOCK_BYTES];

pub fn new_block() -> Box<Block> {
    vec![0; BLOCK_BYTES].try_into().unwrap()
}

pub fn pad(content: &[u8]) -> Vec<u8> {
    let mut block = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    block.extend_from_slice(content);
    block.resize(BLOCK_BYTES, b'#');
    block
}

pub fn content(block: &[u8]) -> &[u8] {
    &block[2..2 + usize::from(u16::from_be_bytes([block[0], block[1]]))]
}

pub fn range(value: &Value) -> VersionRange {
    let number = |index: usize| SmpVersion(value[index].as_u64().unwrap().try_into().unwrap());
    VersionRange::new(number(0), number(1)).unwrap()
}

pub fn private_key(key: &Value) -> Option<DhPrivateKey> {
    (!key.is_null()).then(|| DhPrivateKey::from_bytes(array(&key["private"])))
}

/// The bytes of an agreed secret, to compare them.
pub fn agreed(secret: Option<&DhSecret>) -> Option<[u8; 32]> {
    secret.map(|secret| *secret.as_bytes())
}

/// One recorded handshake.
pub struct Case {
    pub value: Value,
    pub credentials: RouterCredentials,
    pub leaf_key: VerifyingKey,
    pub service_chain: Vec<Vec<u8>>,
    pub service_key: Vec<u8>,
}

impl Case {
    pub fn all() -> Vec<Self> {
        let recorded = vectors("handshake.json");
        let cases: Vec<_> = recorded["cases"].as_array().unwrap().iter().map(Self::new).collect();
        assert_eq!(cases.len(), 26);
        cases
    }

    pub fn named(name: &str) -> Self {
        let recorded = vectors("handshake.json");
        let cases = recorded["cases"].as_array().unwrap();
        Self::new(cases.iter().find(|case| case["name"] == name).unwrap())
    }

    pub fn new(value: &Value) -> Self {
        let recorded = &value["server_chain"];
        let credentials = RouterCredentials::new(chain(recorded), leaf_key(recorded), now_secs()).unwrap();
        let (mut service_chain, mut service_key) = (Vec::new(), Vec::new());
        if let Some(service) = value.get("service") {
            service_chain = chain(&service["chain"]).iter().map(|der| der.to_vec()).collect();
            service_key = bytes(&service["signed_session_key_der"]);
        }
        let leaf_key = credentials.key.verifying_key();
        Self { value: value.clone(), credentials, leaf_key, service_chain, service_key }
    }

    pub fn name(&self) -> &str {
        self.value["name"].as_str().unwrap()
    }

    pub fn session_id(&self) -> SessionId {
        SessionId::new(&bytes(&self.value["session_id"])).unwrap()
    }

    pub fn router(&self, block: &mut Block) -> RouterHandshake {
        let offered = match self.value["alpn"].as_str() {
            Some("smp/1") => range(&self.value["server_versions"]),
            None => offered_versions(None),
            Some(other) => panic!("ALPN {other}"),
        };
        let hello = RouterHello {
            offered,
            session_id: self.session_id(),
            credentials: &self.credentials,
            session_key: private_key(&self.value["server_session_key"]).unwrap().into(),
            web_challenge: None,
        };
        RouterHandshake::start(hello, block).unwrap()
    }

    pub fn client(&self) -> ClientHandshake<'_> {
        let service = self.value.get("service").map(|service| ServiceHello {
            role: role(&service["role"]),
            chain: self.service_chain.iter().map(Vec::as_slice).collect(),
            signed_key: &self.service_key,
        });
        ClientHandshake {
            versions: range(&self.value["client_versions"]),
            session_id: self.session_id(),
            identity: array(&self.value["server_chain"]["identity_fingerprint"]),
            leaf_key: &self.leaf_key,
            session_private_key: private_key(&self.value["client_session_key"]),
            proxy: self.value["proxy_server"].as_bool().unwrap(),
            service,
        }
    }

    /// Both sides, up to the client's hello.
    pub fn run(&self) -> (Box<Block>, ClientSession, RouterHandshake) {
        let (mut hello, mut answer) = (new_block(), new_block());
        let router = self.router(&mut hello);
        let client = self.client().router_hello(&hello[..], &mut answer).unwrap();
        (answer, client, router)
    }
}

pub fn role(value: &Value) -> ServiceRole {
    match value.as_str().unwrap() {
        "SRMessaging" => ServiceRole::Messaging,
        "SRNotifier" => ServiceRole::Notifier,
        "SRProxy" => ServiceRole::Proxy,
        other => panic!("role {other}"),
    }
}
