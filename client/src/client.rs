//! The commands of a connection.

use std::borrow::Borrow;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ringpost_protocol::command::{Command, MsgFlags, NewQueue, QueueRequest, ServiceSubs, SubscribeMode};
use ringpost_protocol::crypto::DhPrivateKey;
use ringpost_protocol::crypto::delivery::MsgId;
use ringpost_protocol::handshake::ServiceRole;
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::version::SmpVersion;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use crate::error::{ClientError, CommandFault, Disconnect};
use crate::event::Message;
use crate::id::EntityId;
use crate::queue::{Authorizer, KeyKind, RecipientQueue, SenderQueue, random};
use crate::request::{CorrId, PendingReply, PendingSend, Reply, Request, Transmission, Waiting};
use crate::session::Session;

/// SUBs that are handed over together: about 20 blocks of them.
const SUBSCRIBE_MANY: usize = 2048;

/// A connection to a router. Clones share it; it is closed when the last one is dropped.
///
/// Every command waits for its response, at most for [`ClientConfig::command_timeout`](crate::ClientConfig::command_timeout).
/// Commands of many tasks run at once and share blocks. Dropping the future of a command does not take the command back
/// once it was handed over; a message that comes in response to it is then an event.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    session: Arc<Session>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Set before the receiver of `outgoing` is closed.
    ended: Arc<OnceLock<Disconnect>>,
    command_timeout: Duration,
    recipient_key: KeyKind,
}

/// What goes to the connection's task.
#[derive(Debug)]
pub(crate) enum Outgoing {
    One(Box<Request>),
    /// At most a few blocks of them.
    Many(Vec<Request>),
    Close,
}

/// How a new queue is to be.
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// Deliver its messages to this connection from the start.
    pub subscribe: bool,
    /// A contact address; otherwise the queue is for one sender, who can secure it.
    pub contact: bool,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { subscribe: true, contact: false }
    }
}

impl Client {
    pub(crate) fn new(
        session: Arc<Session>,
        outgoing: mpsc::Sender<Outgoing>,
        ended: Arc<OnceLock<Disconnect>>,
        command_timeout: Duration,
        recipient_key: KeyKind,
    ) -> Self {
        Self { shared: Arc::new(Shared { session, outgoing, ended, command_timeout, recipient_key }) }
    }

    /// What was agreed with the router.
    pub fn session(&self) -> &Session {
        &self.shared.session
    }

    /// Creates a queue with new keys (NEW).
    pub async fn new_queue(&self, options: QueueOptions) -> Result<RecipientQueue, ClientError> {
        let key = self.shared.recipient_key.generate().map_err(no_randomness)?;
        let dh_key = random().map(DhPrivateKey::from_bytes).map_err(no_randomness)?;
        let command = Command::New(Box::new(NewQueue {
            recipient_key: key.public(),
            recipient_dh_key: dh_key.public(),
            basic_auth: self.session().basic_auth.as_deref(),
            subscribe: if options.subscribe { SubscribeMode::Subscribe } else { SubscribeMode::OnlyCreate },
            request: Some(if options.contact {
                QueueRequest::Contact(None)
            } else {
                QueueRequest::Messaging(None)
            }),
            notifier: None,
        }));
        let authorizer = Authorizer::new(key);
        match self.command(EntityId::EMPTY, &command, Some(&authorizer)).await? {
            Reply::Ids(ids) => Ok(RecipientQueue::created(&ids, authorizer, &dh_key)),
            other => Err(other.unexpected("NEW")),
        }
    }

    /// Subscribes this connection to a queue (SUB). Its messages come as events.
    pub async fn subscribe(&self, queue: &RecipientQueue) -> Result<(), ClientError> {
        subscribed(self.command(queue.recipient_id, &Command::Sub, Some(&queue.key)).await)
    }

    /// Subscribes to many queues, with as many commands in a block as fit. The results are in the order of the queues.
    ///
    /// Events are to be received meanwhile: see [`Events`](crate::Events).
    pub async fn subscribe_many<Q: Borrow<RecipientQueue>>(
        &self,
        queues: &[Q],
    ) -> Vec<Result<(), ClientError>> {
        let mut results = Vec::with_capacity(queues.len());
        for queues in queues.chunks(SUBSCRIBE_MANY) {
            let mut requests = Vec::with_capacity(queues.len());
            let mut pending = Vec::with_capacity(queues.len());
            for queue in queues {
                let queue = queue.borrow();
                pending.push(self.request(queue.recipient_id, &Command::Sub, Some(&queue.key)).map(
                    |(request, reply)| {
                        requests.push(request);
                        reply
                    },
                ));
            }
            let handed_over = self.hand_over(Outgoing::Many(requests)).await;
            for reply in pending {
                results.push(match (reply, &handed_over) {
                    (Err(error), _) => Err(error),
                    (Ok(_), Err(error)) => Err(error.clone()),
                    (Ok(reply), Ok(())) => subscribed(reply.await),
                });
            }
        }
        results
    }

    /// Subscribes this connection of a service to all of its queues at once (SUBS, or NSUBS for one that is notified).
    /// `expected` is what the service believes to have: the router says what it has, and below version 19 only how many.
    /// A queue becomes the service's by [`new_queue`](Self::new_queue) or [`subscribe`](Self::subscribe) on such a connection.
    pub async fn subscribe_service(&self, expected: ServiceSubs) -> Result<ServiceSubs, ClientError> {
        let command = match self.session().service.as_ref().map(|service| service.role) {
            Some(ServiceRole::Notifier) => Command::NSubs(expected),
            _ => Command::Subs(expected),
        };
        let tag = command.tag();
        let service = self.session().service.as_ref();
        let service = service.ok_or(ClientError::Command(CommandFault::NoService { command: tag }))?;
        match self.command(service.id, &command, Some(&service.key)).await? {
            Reply::Service(subs) => Ok(subs),
            other => Err(other.unexpected(tag)),
        }
    }

    /// Lets the recipient secure the queue with the sender's key (KEY).
    pub async fn secure(
        &self,
        queue: &RecipientQueue,
        sender_key: &AuthPublicKey,
    ) -> Result<(), ClientError> {
        let command = Command::Key(sender_key.clone());
        self.done(queue.recipient_id, &command, Some(&queue.key)).await
    }

    /// Lets the sender secure the queue with its own key (SKEY). From version 9.
    pub async fn secure_by_sender(&self, queue: &SenderQueue) -> Result<(), ClientError> {
        let key = queue.key.as_ref().ok_or(ClientError::Command(CommandFault::NoKey))?;
        let command = Command::SKey(key.public());
        self.check_version(SmpVersion::SENDER_KEY, &command)?;
        self.done(queue.sender_id, &command, Some(key)).await
    }

    /// Sends a message (SEND). With a key in `queue` it is authorized.
    pub async fn send(&self, queue: &SenderQueue, flags: MsgFlags, body: &[u8]) -> Result<(), ClientError> {
        self.start_send(queue, flags, body).await?.await
    }

    /// Hands a message over and returns before the response: messages handed over one after the other are sent in this
    /// order. Waits while [`ClientConfig::queued_commands_max`](crate::ClientConfig::queued_commands_max) commands wait.
    pub async fn start_send(
        &self,
        queue: &SenderQueue,
        flags: MsgFlags,
        body: &[u8],
    ) -> Result<PendingSend, ClientError> {
        let version = self.session().version();
        let body_bytes_max = Command::send_body_bytes_max(version);
        if body.len() > body_bytes_max {
            let fault = CommandFault::BodyTooLarge { body_bytes: body.len(), body_bytes_max, version };
            return Err(ClientError::Command(fault));
        }
        let command = Command::Send { flags, body };
        let (request, reply) = self.request(queue.sender_id, &command, queue.key.as_ref())?;
        self.hand_over(Outgoing::One(Box::new(request))).await?;
        Ok(PendingSend { reply, forwarding: None })
    }

    /// Acknowledges a message, so that the router deletes it (ACK). The next message of the queue, if there is one.
    pub async fn ack(&self, queue: &RecipientQueue, msg_id: &MsgId) -> Result<Option<Message>, ClientError> {
        self.delivery(queue, &Command::Ack { msg_id }).await
    }

    /// Gets one message without a subscription (GET). It must be acknowledged like any other.
    pub async fn get(&self, queue: &RecipientQueue) -> Result<Option<Message>, ClientError> {
        self.delivery(queue, &Command::Get).await
    }

    /// Refuses all further messages (OFF).
    pub async fn suspend(&self, queue: &RecipientQueue) -> Result<(), ClientError> {
        self.done(queue.recipient_id, &Command::Off, Some(&queue.key)).await
    }

    /// Deletes a queue with its messages (DEL).
    pub async fn delete(&self, queue: &RecipientQueue) -> Result<(), ClientError> {
        self.done(queue.recipient_id, &Command::Del, Some(&queue.key)).await
    }

    /// What the router says about the state of a queue: JSON (QUE).
    pub async fn queue_info(&self, queue: &RecipientQueue) -> Result<Vec<u8>, ClientError> {
        match self.command(queue.recipient_id, &Command::Que, Some(&queue.key)).await? {
            Reply::Info(json) => Ok(json),
            other => Err(other.unexpected("QUE")),
        }
    }

    /// Waits for the router to answer a PING.
    pub async fn ping(&self) -> Result<(), ClientError> {
        match self.command(EntityId::EMPTY, &Command::Ping, None).await? {
            Reply::Pong => Ok(()),
            other => Err(other.unexpected("PING")),
        }
    }

    /// Closes the connection for all clones. What waits for a response gets [`ClientError::Closed`].
    pub async fn close(self) {
        // An error says that it is closed already.
        let _ = self.shared.outgoing.send(Outgoing::Close).await;
        self.shared.outgoing.closed().await;
    }

    /// Why the connection ended, if it has.
    pub fn disconnected(&self) -> Option<&Disconnect> {
        self.shared.ended.get()
    }

    async fn delivery(
        &self,
        queue: &RecipientQueue,
        command: &Command<'_>,
    ) -> Result<Option<Message>, ClientError> {
        match self.command(queue.recipient_id, command, Some(&queue.key)).await? {
            Reply::Message(message) => Ok(Some(message)),
            Reply::Ok => Ok(None),
            other => Err(other.unexpected(command.tag())),
        }
    }

    async fn done(
        &self,
        entity: EntityId,
        command: &Command<'_>,
        key: Option<&Authorizer>,
    ) -> Result<(), ClientError> {
        match self.command(entity, command, key).await? {
            Reply::Ok => Ok(()),
            other => Err(other.unexpected(command.tag())),
        }
    }

    pub(crate) async fn command(
        &self,
        entity: EntityId,
        command: &Command<'_>,
        key: Option<&Authorizer>,
    ) -> Result<Reply, ClientError> {
        let (request, reply) = self.request(entity, command, key)?;
        self.hand_over(Outgoing::One(Box::new(request))).await?;
        reply.await
    }

    fn request(
        &self,
        entity: EntityId,
        command: &Command<'_>,
        key: Option<&Authorizer>,
    ) -> Result<(Request, PendingReply), ClientError> {
        let corr_id = random().map_err(no_randomness)?;
        let (mut request, reply) = self.request_as(corr_id, entity.as_bytes(), command, key)?;
        request.waiting.entity = Some(entity);
        Ok((request, reply))
    }

    /// A request with a correlation ID that the caller has chosen, about anything that has an ID. The response may be
    /// about anything.
    pub(crate) fn request_as(
        &self,
        corr_id: CorrId,
        entity: &[u8],
        command: &Command<'_>,
        key: Option<&Authorizer>,
    ) -> Result<(Request, PendingReply), ClientError> {
        let transmission = Transmission::new(self.session(), &corr_id, entity, command, key)
            .map_err(ClientError::Command)?;
        let (reply, receiver) = oneshot::channel();
        let command = command.tag();
        let deadline = Instant::now() + self.shared.command_timeout;
        let waiting = Waiting { entity: None, command, deadline, reply };
        Ok((Request { transmission, corr_id, waiting }, PendingReply { command, receiver }))
    }

    pub(crate) async fn hand_over(&self, outgoing: Outgoing) -> Result<(), ClientError> {
        let outgoing = match self.shared.outgoing.try_send(outgoing) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(self.ended()),
            Err(mpsc::error::TrySendError::Full(outgoing)) => outgoing,
        };
        let deadline = Instant::now() + self.shared.command_timeout;
        match timeout_at(deadline.into(), self.shared.outgoing.send(outgoing)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    fn ended(&self) -> ClientError {
        self.disconnected().map_or(ClientError::Closed, ClientError::from)
    }

    pub(crate) fn check_version(&self, least: SmpVersion, command: &Command<'_>) -> Result<(), ClientError> {
        let version = self.session().version();
        if version >= least {
            return Ok(());
        }
        Err(ClientError::Command(CommandFault::NotInVersion { command: command.tag(), version }))
    }
}

pub(crate) fn no_randomness(error: getrandom::Error) -> ClientError {
    ClientError::Command(CommandFault::Randomness(error.to_string()))
}

/// SOK, or OK in older versions.
fn subscribed(reply: Result<Reply, ClientError>) -> Result<(), ClientError> {
    match reply? {
        Reply::Subscribed | Reply::Ok => Ok(()),
        other => Err(other.unexpected("SUB")),
    }
}
