//! What each command may be answered.

use ringpost_protocol::crypto::boxes::BoxKey;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_store::{MessageId, QueueId};

use crate::bodies::Sent;
use crate::model::{Model, Queue, Seen, State, Subscription, Verdict};

/// A command that was sent.
#[derive(Clone, Debug)]
pub struct Pending {
    pub corr_id: Vec<u8>,
    /// A number of a queue, unless the command names none.
    pub queue: usize,
    pub asked: Asked,
    /// The key that authorizes it.
    pub key: Option<usize>,
    /// When its batch was handed to the service.
    pub handed_secs: Option<u64>,
}

#[derive(Clone, Debug)]
pub enum Asked {
    Ping,
    New {
        delivery_key: usize,
        is_messaging: bool,
        subscribes: bool,
    },
    Sub,
    Get,
    Ack(Vec<u8>),
    Off,
    Del,
    Que,
    /// With the number of the key.
    Key(usize),
    SKey(usize),
    Send(Sent),
}

/// How a connection reads a queue: with SUB or GET, and whether something was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    No,
    Subscribed(bool),
    Got(bool),
}

/// A response or event, opened.
#[derive(Debug)]
pub enum Answer {
    Ids { recipient_id: QueueId, sender_id: QueueId, secret: BoxKey },
    Ok,
    Sok,
    Pong,
    End,
    Deld,
    Info { messages: usize, is_secured: bool, reading: Reading },
    Message(Seen),
    Err(ErrorType),
}

const BODY_BYTES_MAX: usize = 16_048;
const PROHIBITED: ErrorType = ErrorType::Cmd(CommandError::Prohibited);

fn unexpected(pending: &Pending, answer: &Answer) -> Verdict {
    let asked = match &pending.asked {
        Asked::Ack(id) => format!("ACK of {} bytes", id.len()),
        asked => format!("{asked:?}"),
    };
    Err(format!("{asked} is answered {answer:?}"))
}

impl Model {
    /// A command of a connection was answered.
    pub fn answered(&mut self, conn: usize, pending: &Pending, answer: Answer) -> Verdict {
        let (queue, handed_secs) = (pending.queue, pending.handed_secs.unwrap_or(0));
        let may_refuse = match (&pending.asked, &answer) {
            (Asked::New { .. }, Answer::Err(ErrorType::Store(_))) => self.is_short || self.has_caps,
            (_, Answer::Err(ErrorType::Store(_))) => self.is_short,
            (Asked::New { .. } | Asked::Sub | Asked::Get, Answer::Err(ErrorType::Quota)) => self.has_caps,
            _ => false,
        };
        if may_refuse {
            return Ok(());
        }
        let refused = || unexpected(pending, &answer);
        match &pending.asked {
            Asked::Ping => matches!(answer, Answer::Pong).then_some(()).ok_or_else(|| refused().unwrap_err()),
            Asked::New { .. } => self.created(conn, pending, answer),
            Asked::Send(sent) => {
                let wanted = self.queues[queue].state.sender_key;
                let is_let_in = self.exists(queue) && wanted == pending.key;
                match &answer {
                    Answer::Err(ErrorType::LargeMsg) if is_let_in && sent.bytes > BODY_BYTES_MAX => Ok(()),
                    Answer::Err(ErrorType::Auth) if !is_let_in || self.queues[queue].state.is_suspended => {
                        Ok(())
                    }
                    _ if !is_let_in || self.queues[queue].state.is_suspended => refused(),
                    Answer::Ok if sent.bytes <= BODY_BYTES_MAX => self.accepted(queue, *sent, handed_secs),
                    Answer::Err(ErrorType::Quota) => self.over_quota(queue, handed_secs),
                    _ => refused(),
                }
            }
            Asked::SKey(key) => {
                let may = self.exists(queue) && self.queues[queue].is_messaging && pending.key == Some(*key);
                self.secured(queue, *key, may, pending, &answer)
            }
            _ => {
                let is_let_in = self.exists(queue) && pending.key == Some(self.queues[queue].recipient_key);
                if is_let_in {
                    return self.recipient_answered(conn, pending, &answer);
                }
                matches!(answer, Answer::Err(ErrorType::Auth))
                    .then_some(())
                    .ok_or_else(|| refused().unwrap_err())
            }
        }
    }

    fn secured(
        &mut self,
        queue: usize,
        key: usize,
        may: bool,
        pending: &Pending,
        answer: &Answer,
    ) -> Verdict {
        let present = self.queues[queue].state.sender_key;
        let may = may && present.is_none_or(|present| present == key);
        match answer {
            Answer::Ok if may => {
                self.queues[queue].state.sender_key = Some(key);
                Ok(())
            }
            Answer::Err(ErrorType::Auth) if !may => Ok(()),
            _ => unexpected(pending, answer),
        }
    }

    fn recipient_answered(&mut self, conn: usize, pending: &Pending, answer: &Answer) -> Verdict {
        let queue = pending.queue;
        let is_subscriber = self.subscription_of(queue, conn).is_some();
        let has_got = self.queues[queue].got.contains_key(&conn);
        match (&pending.asked, answer) {
            (Asked::Key(key), _) => self.secured(queue, *key, true, pending, answer),
            (Asked::Sub, Answer::Err(error)) if has_got && *error == PROHIBITED => Ok(()),
            (Asked::Sub, Answer::Sok) if !has_got => {
                if let Some(former) = self.queues[queue].subscription
                    && former.conn != conn
                    && !self.closed.contains(&former.conn)
                {
                    return Err("a former subscriber was not told that it is none any more".into());
                }
                self.queues[queue].subscription = Some(Subscription { conn, delivered: None });
                Ok(())
            }
            (Asked::Get, Answer::Err(error)) if is_subscriber && *error == PROHIBITED => Ok(()),
            (Asked::Get, Answer::Ok) if !is_subscriber => {
                self.queues[queue].got.insert(conn, None);
                self.count_is(queue, 0)
            }
            (Asked::Get, Answer::Message(seen)) if !is_subscriber => {
                self.queues[queue].got.insert(conn, Some(seen.id));
                self.first_is(queue, seen)
            }
            (Asked::Ack(given), _) => self.acknowledged(conn, pending, given, answer),
            (Asked::Off, Answer::Ok) => {
                self.queues[queue].state.is_suspended = true;
                Ok(())
            }
            (Asked::Del, Answer::Ok) => {
                if let Some(former) = self.queues[queue].subscription
                    && former.conn != conn
                    && !self.closed.contains(&former.conn)
                {
                    return Err("a subscriber was not told that the queue is deleted".into());
                }
                let queue = &mut self.queues[queue];
                queue.state = State::default();
                queue.subscription = None;
                Ok(())
            }
            (Asked::Que, Answer::Info { messages, is_secured, reading }) => {
                if *reading != self.reading(queue, conn) {
                    return Err(format!("a queue is said to be read so: {reading:?}"));
                }
                if *is_secured != self.queues[queue].state.sender_key.is_some() {
                    return Err(format!("a queue is said to be secured: {is_secured}"));
                }
                self.count_is(queue, *messages)
            }
            _ => unexpected(pending, answer),
        }
    }

    fn reading(&mut self, queue: usize, conn: usize) -> Reading {
        if let Some(subscription) = self.subscription_of(queue, conn) {
            return Reading::Subscribed(subscription.delivered.is_some());
        }
        let got = self.queues[queue].got.get(&conn);
        got.map_or(Reading::No, |got| Reading::Got(got.is_some()))
    }

    fn acknowledged(&mut self, conn: usize, pending: &Pending, given: &[u8], answer: &Answer) -> Verdict {
        let queue = pending.queue;
        let matches = |id: &MessageId| given.is_empty() || *id == *given;
        let is_subscriber = self.subscription_of(queue, conn).is_some();
        let delivered = match self.subscription_of(queue, conn) {
            Some(subscription) => subscription.delivered,
            None => self.queues[queue].got.get(&conn).copied().flatten(),
        };
        let Some(delivered) = delivered.filter(matches) else {
            return match answer {
                Answer::Err(ErrorType::NoMsg) => Ok(()),
                _ => unexpected(pending, answer),
            };
        };
        let fits = match answer {
            Answer::Ok => true,
            Answer::Message(_) => is_subscriber,
            _ => false,
        };
        if !fits {
            return unexpected(pending, answer);
        }
        if !given.is_empty() {
            self.remove(queue, &delivered);
        }
        match self.subscription_of(queue, conn) {
            Some(subscription) => subscription.delivered = None,
            None => {
                self.queues[queue].got.insert(conn, None);
            }
        }
        match answer {
            Answer::Message(seen) => self.delivered(queue, conn, seen),
            _ => Ok(()),
        }
    }

    fn created(&mut self, conn: usize, pending: &Pending, answer: Answer) -> Verdict {
        let Answer::Ids { recipient_id, sender_id, secret } = answer else {
            return unexpected(pending, &answer);
        };
        let &Asked::New { is_messaging, subscribes, .. } = &pending.asked else {
            return unexpected(pending, &Answer::Ok);
        };
        let is_known = |id: &QueueId| {
            self.queues.iter().any(|queue| queue.recipient_id == *id || queue.sender_id == *id)
        };
        if is_known(&recipient_id) || is_known(&sender_id) || recipient_id == sender_id {
            return Err("a new queue has an ID of another".into());
        }
        let subscription = subscribes.then_some(Subscription { conn, delivered: None });
        self.by_recipient.insert(recipient_id, self.queues.len());
        self.queues.push(Queue {
            recipient_id,
            sender_id,
            recipient_key: pending.key.unwrap_or(0),
            is_messaging,
            secret,
            state: State { exists: true, ..State::default() },
            durable: State::default(),
            is_told_deleted: false,
            subscription,
            got: std::collections::BTreeMap::new(),
        });
        Ok(())
    }

    /// Something was told to a connection that did not ask.
    pub fn told(&mut self, conn: usize, queue: usize, event: &Answer) -> Verdict {
        let is_subscriber = self.subscription_of(queue, conn).is_some();
        match event {
            Answer::Message(seen) => self.delivered(queue, conn, seen),
            Answer::End | Answer::Deld if is_subscriber => {
                let queue = &mut self.queues[queue];
                queue.subscription = None;
                queue.is_told_deleted |= matches!(event, Answer::Deld);
                Ok(())
            }
            Answer::End | Answer::Deld if self.closed.contains(&conn) => Ok(()),
            other => Err(format!("a connection is told {other:?}")),
        }
    }
}
