//! Replays what a running reference router answered, step by step (`smp_session.json`), with our own IDs and keys in
//! place of the recorded ones.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::queue::{Content, Queue};
use common::{Client, Received, TestRouter, TestService};
use ringpost_protocol::command::Command;
use ringpost_protocol::crypto::delivery::decrypt_notification_meta;
use ringpost_protocol::crypto::{AuthPrivateKey, BoxKey, DhPrivateKey};
use ringpost_protocol::response::{QueueIds, Response};
use ringpost_protocol::version::SmpVersion;
use serde_json::Value;

/// Steps and notes that are not replayed, by reason. All others are.
const NOT_REPLAYED: &[(&str, &[&str])] = &[(
    "a router as its own relay: see the tests of the proxy",
    &["PRXY when the server is its own destination and the proxy is allowed"],
)];

/// Where the reference was seen to send an event before the response that it has no order with: a sender that is its
/// own recipient. Ours answers first.
const EVENT_AND_RESPONSE_IN_ANY_ORDER: &str = "v6: SEND";

/// Steps before which connections end and others begin: a service's, and what connects beside it.
const CONNECTIONS_CHANGE: &[(&str, &[&str], &[&str])] = &[
    ("NEW with notifier", &[], &["c", "service N"]),
    (
        "service, second connection: NSUBS (all associated queues)",
        &["c", "service N"],
        &["c again", "service N again"],
    ),
];
/// Steps in which the service shows its ID, and its session key.
const SHOWS_SERVICE_ID: &str = "service: NSUB with service signature";
const SHOWS_SERVICE_KEY: &str = "service: NSUBS";

/// In front of the 32 bytes of a 25519 key in DER, of both algorithms.
const KEY_PREFIXES: [&[u8; 12]; 2] = [
    b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
    b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00",
];

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap_or_else(|| panic!("no text: {value}"))).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// A long value: in hex, or shown by its ends where the middle repeats its end.
fn long_bytes(value: &Value) -> Vec<u8> {
    use sha2::Digest;
    if value.is_string() {
        return bytes(value);
    }
    let mut all = bytes(&value["first64"]);
    let last = bytes(&value["last32"])[31];
    all.resize(usize::try_from(value["len"].as_u64().unwrap()).unwrap(), last);
    assert_eq!(hex::encode(sha2::Sha256::digest(&all)), text(&value["sha256"]), "not restored: {value}");
    all
}

fn base64_id(value: &str) -> Vec<u8> {
    STANDARD.decode(value).unwrap()
}

/// A queue of ours and what was sent to it and not yet delivered for the first time.
struct Known {
    queue: Queue,
    undelivered: VecDeque<Content>,
}

struct Replay {
    clients: HashMap<String, Client>,
    /// Our keys, by the recorded public key in DER.
    keys: HashMap<Vec<u8>, [u8; 32]>,
    /// Our IDs of queues and messages, by the recorded ones.
    ids: HashMap<Vec<u8>, Vec<u8>>,
    /// By our recipient ID.
    queues: HashMap<Vec<u8>, Known>,
    /// What our messages must contain, by our message ID.
    contents: HashMap<Vec<u8>, Content>,
    /// What notifications are encrypted with, by our notifier ID.
    notifiers: HashMap<Vec<u8>, BoxKey>,
    next_key: u8,
}

impl Replay {
    /// Our key in place of a recorded one, as both kinds of private key it may be used as.
    fn secret(&mut self, recorded_der: &[u8]) -> [u8; 32] {
        let next_key = &mut self.next_key;
        *self.keys.entry(recorded_der.to_vec()).or_insert_with(|| {
            *next_key += 1;
            [*next_key; 32]
        })
    }

    fn private_key(&mut self, recorded_der: &[u8]) -> AuthPrivateKey {
        let secret = self.secret(recorded_der);
        match recorded_der.strip_prefix(KEY_PREFIXES[0]) {
            Some(_) => AuthPrivateKey::ed25519(&secret),
            None => AuthPrivateKey::x25519(secret),
        }
    }

    fn id(&self, recorded: &[u8]) -> Vec<u8> {
        self.ids.get(recorded).cloned().unwrap_or_else(|| recorded.to_vec())
    }

    /// A recorded command with our keys and IDs in it: they have the same lengths.
    fn command(&mut self, recorded: &[u8]) -> Vec<u8> {
        let mut ours = recorded.to_vec();
        for at in 0..recorded.len() {
            let rest = &recorded[at..];
            if let Some(der) =
                rest.get(..44).filter(|der| KEY_PREFIXES.iter().any(|prefix| der.starts_with(*prefix)))
            {
                let public = self.private_key(der).public().to_der();
                ours[at..at + 44].copy_from_slice(&public);
            }
            if let Some(id) = rest.get(..24).and_then(|id| self.ids.get(id)) {
                ours[at..at + 24].copy_from_slice(id);
            }
        }
        ours
    }

    /// Sends the command of a step.
    fn send(&mut self, step: &Value) {
        let key = match &step["authorized_with"] {
            Value::String(nothing) => {
                assert_eq!(nothing, "nothing");
                None
            }
            key => Some(self.private_key(&bytes(&key["public_der"]))),
        };
        let by_service = step["service_signature"] == true;
        let command = self.command(&long_bytes(&step["command"]));
        let entity_id = self.id(&bytes(&step["entity_id"]));
        let accepted = step["received"].as_array().unwrap().iter().any(|received| received["tag"] == "OK");
        if let Some(rest) = command.strip_prefix(b"SEND ")
            && accepted
        {
            let known = self.queues.values_mut().find(|known| known.queue.sender_id == entity_id).unwrap();
            let content = Content::Sent { notification: rest[0] == b'T', body: rest[2..].to_vec() };
            known.undelivered.push_back(content);
        }
        let client = self.clients.get_mut(text(&step["from"])).unwrap();
        let corr_id = bytes(&step["corr_id"]);
        let prepared = client.prepare_signed(key.as_ref(), &corr_id, &entity_id, &command, by_service);
        client.send(&[prepared]);
    }

    /// Compares what we received with what was recorded.
    fn compare(&mut self, step: &Value, recorded: &Value, ours: &Received) {
        assert_eq!(ours.corr_id, bytes(&recorded["corr_id"]), "{ours:?}");
        assert_eq!(ours.entity_id, self.id(&bytes(&recorded["entity_id"])), "{ours:?}");
        assert_eq!(ours.response().tag(), text(&recorded["tag"]), "{ours:?}");
        match ours.response() {
            Response::Ids(ids) => self.compare_ids(step, recorded, &ids, ours.version),
            Response::Msg { .. } => self.compare_message(recorded, ours),
            Response::Info(json) => {
                let theirs = serde_json::from_str(text(&recorded["text"])).unwrap();
                self.compare_json("", &theirs, &serde_json::from_slice(json).unwrap());
            }
            Response::Nid { notifier_id, router_dh_key } => {
                let message = bytes(&recorded["message"]);
                let Ok(Response::Nid { notifier_id: theirs, .. }) = Response::parse(ours.version, &message)
                else {
                    panic!("not NID");
                };
                self.ids.insert(theirs.to_vec(), notifier_id.to_vec());
                // NKEY has the notifier's key and then the key to agree with the router.
                let nkey = bytes(&step["command"]);
                let secret = DhPrivateKey::from_bytes(self.secret(&nkey[51..95]));
                self.notifiers.insert(notifier_id.to_vec(), secret.agree(&router_dh_key).box_key());
            }
            Response::Nmsg { nonce, meta } => {
                let key = &self.notifiers[&ours.entity_id];
                let about = decrypt_notification_meta(key, nonce, meta).unwrap();
                assert_eq!((about.msg_id.len(), meta.len()), (24, 144));
                assert_eq!(ours.message.len(), bytes(&recorded["message"]).len());
            }
            Response::Lnk { .. } | Response::Sok { service_id: Some(_) } => {
                let theirs = bytes(&recorded["message"]);
                assert_eq!(hex::encode(&ours.message), hex::encode(self.command(&theirs)), "{ours:?}");
            }
            _ => assert_eq!(hex::encode(&ours.message), text(&recorded["message"]), "{ours:?}"),
        }
    }

    fn compare_ids(&mut self, step: &Value, recorded: &Value, ours: &QueueIds<'_>, version: SmpVersion) {
        let message = bytes(&recorded["message"]);
        let Response::Ids(theirs) = Response::parse(version, &message).unwrap() else { panic!("not IDS") };
        assert_eq!((ours.mode, ours.service_id), (theirs.mode, theirs.service_id));
        assert_eq!(ours.link_id.is_some(), theirs.link_id.is_some());
        if let (Some(theirs), Some(ours)) = (theirs.link_id, ours.link_id) {
            self.ids.insert(theirs.to_vec(), ours.to_vec());
        }
        assert_eq!(ours.notifier.is_some(), theirs.notifier.is_some());
        if let (Some(theirs), Some(ours)) = (&theirs.notifier, &ours.notifier) {
            self.ids.insert(theirs.notifier_id.to_vec(), ours.notifier_id.to_vec());
            let new = bytes(&step["command"]);
            let Ok(Command::New(new)) = Command::parse(version, &new) else { panic!("not NEW") };
            let dh_key = new.notifier.unwrap().recipient_dh_key;
            let secret = DhPrivateKey::from_bytes(self.secret(&dh_key.to_der()));
            self.notifiers.insert(ours.notifier_id.to_vec(), secret.agree(&ours.router_dh_key).box_key());
        }
        for (theirs, ours) in [(theirs.recipient_id, ours.recipient_id), (theirs.sender_id, ours.sender_id)] {
            assert_eq!(ours.len(), theirs.len());
            self.ids.insert(theirs.to_vec(), ours.to_vec());
        }
        // NEW has the recipient's key and then the key to agree with the router.
        let new = bytes(&step["command"]);
        let (key, dh_key) = (&new[5..49], &new[50..94]);
        let dh_private = DhPrivateKey::from_bytes(self.secret(dh_key));
        let queue = Queue {
            recipient_id: ours.recipient_id.to_vec(),
            sender_id: ours.sender_id.to_vec(),
            recipient_key: self.private_key(key),
            sender_key: None,
            delivery: dh_private.agree(&ours.router_dh_key).box_key(),
        };
        self.queues.insert(queue.recipient_id.clone(), Known { queue, undelivered: VecDeque::new() });
    }

    fn compare_message(&mut self, recorded: &Value, received: &Received) {
        let theirs = &recorded["message"];
        assert_eq!(received.message.len(), usize::try_from(theirs["len"].as_u64().unwrap()).unwrap());
        let their_id = &bytes(&theirs["first64"])[5..29];
        let known = self.queues.get_mut(&received.entity_id).unwrap();
        let ours = known.queue.open(received);
        if let Some(id) = self.ids.get(their_id) {
            assert_eq!(&ours.id, id, "delivered again under another ID");
        } else {
            self.ids.insert(their_id.to_vec(), ours.id.clone());
            let content = known.undelivered.pop_front().expect("a message that nobody sent");
            assert!(self.contents.insert(ours.id.clone(), content).is_none(), "an ID used twice");
        }
        assert_eq!(ours.content, self.contents[&ours.id]);
    }

    fn compare_json(&self, name: &str, theirs: &Value, ours: &Value) {
        match (theirs, ours) {
            (Value::Object(theirs), Value::Object(ours)) => {
                assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>(), "in {name:?}");
                for (name, theirs) in theirs {
                    self.compare_json(name, theirs, &ours[name]);
                }
            }
            (Value::String(theirs), Value::String(ours)) => match name {
                "qDelivered" | "msgId" => assert_eq!(base64_id(ours), self.id(&base64_id(theirs)), "{name}"),
                // RFC 3339 in UTC; the reference adds fractions of a second.
                "msgTs" => {
                    assert!(humantime::parse_rfc3339(theirs).is_ok());
                    assert!(humantime::parse_rfc3339(ours).is_ok(), "{ours}");
                }
                _ => assert_eq!(ours, theirs, "{name}"),
            },
            _ => assert_eq!(ours, theirs, "{name}"),
        }
    }
}

fn steps() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/smp_session.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["steps"].as_array().unwrap().clone()
}

fn name(step: &Value) -> &str {
    step["step"].as_str().or(step["note"].as_str()).unwrap()
}

fn replay(shards: usize) {
    let router = TestRouter::start(shards);
    // Here 'a' and 'b' are often on different shards, and neither on the home of the other's queues.
    let clients = [("a", 18), ("b", 18), ("v6", 6)]
        .map(|(name, version)| (name.to_owned(), Client::version(&router, version)))
        .into();
    let mut replay = Replay {
        clients,
        keys: HashMap::new(),
        ids: HashMap::new(),
        queues: HashMap::new(),
        contents: HashMap::new(),
        notifiers: HashMap::new(),
        next_key: 0,
    };
    let steps = steps();
    let service = TestService::notifier(33);
    let shown = |wanted: &str| steps.iter().find(|step| name(step) == wanted).unwrap();
    let service_id = bytes(&shown(SHOWS_SERVICE_ID)["received"][0]["message"])[6..].to_vec();
    let service_key = bytes(&shown(SHOWS_SERVICE_KEY)["authorized_with"]["public_der"]);
    replay.keys.insert(service_key, service.session_key().as_bytes().try_into().unwrap());
    let skipped: HashSet<&str> = NOT_REPLAYED.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    for step in &steps {
        if skipped.contains(name(step)) {
            continue;
        }
        for (_, end, begin) in CONNECTIONS_CHANGE.iter().filter(|(at, ..)| *at == name(step)) {
            for name in *end {
                assert_eq!(replay.clients.remove(*name).unwrap().receive_soon(), None);
            }
            for name in *begin {
                let client = if name.starts_with("service") {
                    let client = Client::service(&router, service, 18);
                    let known = replay.ids.insert(service_id.clone(), client.service_id().to_vec());
                    assert!(known.is_none_or(|known| known == client.service_id()), "another ID");
                    client
                } else {
                    Client::version(&router, 18)
                };
                replay.clients.insert((*name).to_owned(), client);
            }
        }
        if step.get("command").is_some() {
            replay.send(step);
        }
        let mut expected: Vec<&Value> = step["received"].as_array().unwrap().iter().collect();
        if name(step) == EVENT_AND_RESPONSE_IN_ANY_ORDER {
            expected.sort_by_key(|recorded| recorded["corr_id"] == "");
        }
        for recorded in expected {
            let ours = replay.clients.get_mut(text(&recorded["to"])).unwrap().receive();
            let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                replay.compare(step, recorded, &ours);
            }));
            assert!(compared.is_ok(), "with {shards} shards at the step {:?}", name(step));
        }
    }
    for (name, client) in &mut replay.clients {
        assert_eq!(client.receive_soon(), None, "more than recorded came to {name}");
    }
}

#[test]
fn every_step_is_replayed_or_named_with_the_reason_why_not() {
    let steps = steps();
    let names: BTreeSet<&str> = steps.iter().map(name).collect();
    assert_eq!(names.len(), steps.len(), "names of steps are not unique");
    let listed: Vec<&str> = NOT_REPLAYED.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let unique: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(unique.len(), listed.len(), "a step is listed twice");
    let unknown: Vec<_> = unique.difference(&names).collect();
    assert!(unknown.is_empty(), "no such steps: {unknown:?}");
    assert!(names.contains(EVENT_AND_RESPONSE_IN_ANY_ORDER));
    let changes: Vec<_> = CONNECTIONS_CHANGE.iter().filter(|(at, ..)| !names.contains(at)).collect();
    assert!(changes.is_empty(), "no such steps: {changes:?}");
    assert_eq!(names.len() - unique.len(), 110, "the number of replayed steps and notes");
}

#[test]
fn one_shard_answers_as_recorded() {
    replay(1);
}

#[test]
fn two_shards_answer_as_recorded() {
    // Which shard accepts a connection is the kernel's choice: several rounds meet several placements.
    (0..3).for_each(|_| replay(2));
}

#[test]
fn three_shards_answer_as_recorded() {
    (0..4).for_each(|_| replay(3));
}
