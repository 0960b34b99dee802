//! A queue with the keys of its parties, and the commands that use it.

use ringpost_protocol::command::{Command, MsgFlags, NewQueue, QueueMode, QueueRequest, SubscribeMode};
use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::crypto::delivery::{DeliveredKind, decrypt_message};
use ringpost_protocol::crypto::{AuthPrivateKey, DhPrivateKey};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;

use super::client::{Client, Prepared, Received};

#[derive(Clone, Debug)]
pub struct Queue {
    pub recipient_id: Vec<u8>,
    pub sender_id: Vec<u8>,
    pub recipient_key: AuthPrivateKey,
    /// None until it is secured.
    pub sender_key: Option<AuthPrivateKey>,
    pub delivery: BoxKey,
}

/// A message as the recipient reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub id: Vec<u8>,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Sent { notification: bool, body: Vec<u8> },
    Quota,
}

impl Message {
    #[track_caller]
    pub fn body(&self) -> &[u8] {
        match &self.content {
            Content::Sent { body, .. } => body,
            Content::Quota => panic!("a quota message"),
        }
    }
}

impl Queue {
    /// Creates a messaging queue with Ed25519 recipient key.
    pub fn create(client: &mut Client, subscribe: SubscribeMode) -> Self {
        let key = AuthPrivateKey::ed25519(&client.random_bytes());
        Self::create_with(client, subscribe, key, QueueMode::Messaging).unwrap()
    }

    pub fn subscribed(client: &mut Client) -> Self {
        Self::create(client, SubscribeMode::Subscribe)
    }

    pub fn only_created(client: &mut Client) -> Self {
        Self::create(client, SubscribeMode::OnlyCreate)
    }

    /// The response if it is not IDS.
    pub fn create_with(
        client: &mut Client,
        subscribe: SubscribeMode,
        recipient_key: AuthPrivateKey,
        mode: QueueMode,
    ) -> Result<Self, Received> {
        let private = DhPrivateKey::from_bytes(client.random_bytes());
        let request = match mode {
            QueueMode::Messaging => QueueRequest::Messaging(None),
            QueueMode::Contact => QueueRequest::Contact(None),
        };
        let new = NewQueue {
            recipient_key: recipient_key.public(),
            recipient_dh_key: private.public(),
            basic_auth: None,
            subscribe,
            request: (client.version >= SmpVersion::SENDER_KEY).then_some(request),
            notifier: None,
        };
        let received = client.request(Some(&recipient_key), &[], &Command::New(Box::new(new)));
        match received.response() {
            Response::Ids(ids) => Ok(Self {
                recipient_id: ids.recipient_id.to_vec(),
                sender_id: ids.sender_id.to_vec(),
                recipient_key,
                sender_key: None,
                delivery: private.agree(&ids.router_dh_key).box_key(),
            }),
            _ => Err(received.clone()),
        }
    }

    /// Opens an MSG of this queue.
    #[track_caller]
    pub fn open(&self, received: &Received) -> Message {
        assert_eq!(received.entity_id, self.recipient_id, "{received:?}");
        let Response::Msg { msg_id, body } = received.response() else { panic!("no message: {received:?}") };
        let mut body = body.to_vec();
        let delivered = decrypt_message(&self.delivery, msg_id.try_into().unwrap(), &mut body).unwrap();
        let content = match delivered.kind {
            DeliveredKind::Message { flags, body } => {
                Content::Sent { notification: flags.notification, body: body.to_vec() }
            }
            DeliveredKind::Quota => Content::Quota,
        };
        Message { id: msg_id.to_vec(), content }
    }
}

/// A command of the recipient.
impl Client {
    pub fn prepare_recipient(&mut self, queue: &Queue, command: &Command<'_>) -> Prepared {
        self.prepare(Some(&queue.recipient_key), &queue.recipient_id, command)
    }

    #[track_caller]
    pub fn recipient(&mut self, queue: &Queue, command: &Command<'_>) -> Received {
        self.request(Some(&queue.recipient_key), &queue.recipient_id, command)
    }

    #[track_caller]
    pub fn subscribe(&mut self, queue: &Queue) {
        let received = self.recipient(queue, &Command::Sub);
        assert_subscribed_by(&received, self.service.as_ref().map(|service| &service.id[..]));
    }

    #[track_caller]
    pub fn ack(&mut self, queue: &Queue, msg_id: &[u8]) -> Received {
        self.recipient(queue, &Command::Ack { msg_id })
    }

    /// The next thing received, which must be a message of the queue that nobody asked for.
    #[track_caller]
    pub fn message(&mut self, queue: &Queue) -> Message {
        let received = self.receive();
        assert!(received.is_event(), "{received:?}");
        queue.open(&received)
    }

    pub fn prepare_message(&mut self, queue: &Queue, body: &[u8]) -> Prepared {
        let command = Command::Send { flags: MsgFlags::default(), body };
        self.prepare(queue.sender_key.as_ref(), &queue.sender_id, &command)
    }

    #[track_caller]
    pub fn send_message(&mut self, queue: &Queue, body: &[u8]) -> Received {
        let prepared = self.prepare_message(queue, body);
        self.send(std::slice::from_ref(&prepared));
        self.try_response(&prepared.corr_id).unwrap()
    }

    /// Secures the queue with a new key of the sender: an X25519 key where this client's version has such.
    #[track_caller]
    pub fn secure_by_recipient(&mut self, queue: &mut Queue) {
        let key = if self.version >= SmpVersion::AUTH_COMMANDS {
            AuthPrivateKey::x25519(self.random_bytes())
        } else {
            AuthPrivateKey::ed25519(&self.random_bytes())
        };
        self.recipient(queue, &Command::Key(key.public())).assert_ok();
        queue.sender_key = Some(key);
    }
}

/// SOK, which is OK below version 16.
#[track_caller]
pub fn assert_subscribed(received: &Received) {
    assert_subscribed_by(received, None);
}

/// The same in the session of a service.
#[track_caller]
pub fn assert_subscribed_by(received: &Received, service_id: Option<&[u8]>) {
    let expected = if received.version >= SmpVersion::SERVICE_CERTIFICATES {
        Response::Sok { service_id }
    } else {
        Response::Ok
    };
    assert_eq!(received.response(), expected);
}
