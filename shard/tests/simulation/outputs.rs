//! What leaves a service: opened as clients open it, and compared with what they know.

use ringpost_protocol::crypto::delivery::{DeliveredKind, decrypt_message};
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Format, Transmission};
use ringpost_shard::service::{ConnRef, Output};
use ringpost_store::{MessageId, PartitionMap, QueueId};

use crate::bodies::{NUMBERED_BYTES, Sent, tag_of};
use crate::client::{Outgoing, VERSION};
use crate::commands::{Answer, Asked, Pending, Reading};
use crate::keys::POOL;
use crate::model::{Seen, Verdict};
use crate::world::World;

impl World {
    pub fn conn_of(&self, reference: ConnRef) -> Result<usize, String> {
        // Connections have their numbers as generations.
        let conn = reference.generation as usize;
        match self.conns.get(conn) {
            Some(connection) if connection.session.conn == reference => Ok(conn),
            _ => Err(format!("an output for {reference:?}, which is no connection")),
        }
    }

    pub fn take_output(&mut self, home: usize, output: Output) -> Verdict {
        match output {
            Output::Responses { conn, bytes, answered, .. } => {
                let conn = self.conn_of(conn)?;
                let mut rest = &bytes[..];
                while let Some((len, after)) = rest.split_first_chunk() {
                    let len = usize::from(u16::from_be_bytes(*len));
                    let bytes = after.get(..len).ok_or("a response is cut off")?;
                    self.take_transmission(home, conn, bytes)?;
                    rest = &after[len..];
                }
                let connection = &mut self.conns[conn];
                if answered && connection.is_open && connection.batches.pop().is_none() {
                    return Err("a batch is answered twice".into());
                }
            }
            Output::Service { .. } => return Err("a service is answered, and there is none".into()),
            Output::Message { conn, message } => {
                let conn = self.conn_of(conn)?;
                let lane = &mut self.conns[conn].lanes[home];
                lane.owed += 1;
                if lane.owed > self.service_config.delivery_credit {
                    return Err("more messages are sent than there is credit".into());
                }
                self.take_transmission(home, conn, &message.bytes()[2..])?;
                let connection = &self.conns[conn];
                if connection.is_open {
                    let shard = usize::from(connection.session.conn.shard);
                    let delay_ms = self.random.below(connection.write_ms_max + 1);
                    let last_ms = connection.outbox.back().map_or(0, |last| last.due_ms);
                    let due_ms = last_ms.max(self.now_ms + delay_ms);
                    let charge = self.shards[shard].arena.charge();
                    self.conns[conn].outbox.push_back(Outgoing::new(due_ms, home, charge));
                }
            }
        }
        Ok(())
    }

    fn take_transmission(&mut self, home: usize, conn: usize, bytes: &[u8]) -> Verdict {
        let session = std::sync::Arc::clone(&self.conns[conn].session);
        let parsed =
            Transmission::parse(bytes, Format::of_session(VERSION)).map_err(|bad| format!("{bad:?}"))?;
        let response = parsed
            .decode_response(VERSION, session.session_id.as_ref())
            .map_err(|error| format!("a response cannot be read: {error:?}"))?;
        if parsed.corr_id.is_empty() {
            let queue = self.queue_of(parsed.entity_id)?;
            let event = self.open(queue, None, response)?;
            self.model.told(conn, queue, &event)?;
            self.note_change(home, queue);
            self.react(conn, queue, &event);
            return Ok(());
        }
        let pending = self.conns[conn].lanes[home].pending.pop_front();
        let pending = pending.ok_or("an answer to nothing")?;
        if parsed.corr_id != pending.corr_id || pending.handed_secs.is_none() {
            return Err(format!("an answer out of order: {:?} is next", pending.asked));
        }
        let queue = pending.queue;
        let entity_id = match pending.asked {
            Asked::Ping | Asked::New { .. } => &[][..],
            Asked::Send(_) | Asked::SKey(_) => &self.model.queues[queue].sender_id,
            _ => &self.model.queues[queue].recipient_id,
        };
        if parsed.entity_id != entity_id {
            return Err(format!("the answer to {:?} is about another queue", pending.asked));
        }
        let answer = self.open(queue, Some(&pending), response)?;
        if let Answer::Ids { recipient_id, sender_id, .. } = &answer {
            self.look_at_ids(home, recipient_id, sender_id)?;
        }
        self.stats.answered += 1;
        if let Answer::Err(_) = &answer {
            self.stats.refused += 1;
        }
        self.react(conn, queue, &answer);
        let made = self.model.queues.len();
        self.model.answered(conn, &pending, answer).map_err(|why| format!("{why} (connection {conn})"))?;
        match pending.asked {
            Asked::New { .. } if self.model.queues.len() > made => self.note_change(home, made),
            Asked::New { .. } | Asked::Ping => {}
            _ => self.note_change(home, queue),
        }
        Ok(())
    }

    /// Remembers what a crash may leave.
    fn note_change(&mut self, home: usize, queue: usize) {
        if !self.is_durable_when_answered() {
            let state = self.model.queues[queue].state.clone();
            self.shards[home].not_durable.push_back((queue, state));
        }
    }

    fn queue_of(&self, recipient_id: &[u8]) -> Result<usize, String> {
        let id: QueueId = recipient_id.try_into().map_err(|_| "an ID of another length")?;
        self.model.by_recipient.get(&id).copied().ok_or_else(|| "an event of an unknown queue".into())
    }

    /// IDs of a new queue lie in one partition, which this shard has.
    fn look_at_ids(&self, home: usize, recipient_id: &QueueId, sender_id: &QueueId) -> Verdict {
        let partition = self.hasher.hash(recipient_id).partition();
        let map = PartitionMap::new(self.shards.len()).ok_or("no shards")?;
        if partition != self.hasher.hash(sender_id).partition() || map.home(partition) != home {
            return Err("a new queue is not at home".into());
        }
        Ok(())
    }

    fn open(
        &mut self,
        queue: usize,
        pending: Option<&Pending>,
        response: Response<'_>,
    ) -> Result<Answer, String> {
        Ok(match response {
            Response::Ids(ids) => {
                let Some(Asked::New { delivery_key, .. }) = pending.map(|pending| &pending.asked) else {
                    return Err("IDs without NEW".into());
                };
                Answer::Ids {
                    recipient_id: ids.recipient_id.try_into().map_err(|_| "an ID of another length")?,
                    sender_id: ids.sender_id.try_into().map_err(|_| "an ID of another length")?,
                    secret: POOL.delivery[*delivery_key].0.agree(&ids.router_dh_key).box_key(),
                }
            }
            Response::Ok => Answer::Ok,
            Response::Sok { .. } => Answer::Sok,
            Response::Pong => Answer::Pong,
            Response::End => Answer::End,
            Response::Deld => Answer::Deld,
            Response::Err(error) => Answer::Err(error),
            Response::Info(json) => {
                let json = String::from_utf8_lossy(json).into_owned();
                let (_, size) = json.split_once("\"qiSize\":").ok_or("QUE without qiSize")?;
                let digits: String = size.chars().take_while(char::is_ascii_digit).collect();
                Answer::Info {
                    messages: digits.parse().map_err(|_| "qiSize is no number")?,
                    is_secured: json.contains("\"qiSnd\":true"),
                    reading: match () {
                        () if json.contains("noSub") => Reading::Subscribed(json.contains("qDelivered")),
                        () if json.contains("prohibitSub") => Reading::Got(json.contains("qDelivered")),
                        () => Reading::No,
                    },
                }
            }
            Response::Msg { msg_id, body } => {
                self.stats.delivered += 1;
                let id: MessageId = msg_id.try_into().map_err(|_| "an ID of another length")?;
                let mut sealed = body.to_vec();
                let opened = decrypt_message(&self.model.queues[queue].secret, &id, &mut sealed)
                    .map_err(|error| format!("a message cannot be opened: {error:?}"))?;
                let received_secs = u64::try_from(opened.timestamp_secs).unwrap_or(0);
                let sent = match opened.kind {
                    DeliveredKind::Quota => None,
                    DeliveredKind::Message { flags, body } => {
                        let tag = tag_of(body).ok_or("a body that nobody sent is delivered")?;
                        Some(Sent { tag, bytes: body.len(), notification: flags.notification })
                    }
                };
                Answer::Message(Seen { id, received_secs, sent })
            }
            other => return Err(format!("an unexpected response: {other:?}")),
        })
    }

    /// What a client keeps of an answer.
    fn react(&mut self, conn: usize, queue: usize, answer: &Answer) {
        let connection = &mut self.conns[conn];
        if !connection.is_open {
            return;
        }
        match answer {
            Answer::Message(seen) => {
                connection.inbox.retain(|(other, id)| *other != queue || *id != seen.id);
                connection.inbox.push((queue, seen.id));
            }
            Answer::Deld => connection.inbox.retain(|(other, _)| *other != queue),
            _ => {}
        }
    }

    /// Whether a queue has a message that cannot be told from another of its kind.
    pub fn has_unnamed(&self, queue: usize) -> bool {
        let is_short = |sent: &Sent| sent.bytes < NUMBERED_BYTES;
        let messages = &self.model.queues[queue].state.messages;
        messages.iter().any(|entry| entry.id.is_none() && entry.sent.as_ref().is_some_and(is_short))
            || self.conns.iter().flat_map(|connection| &connection.lanes).flat_map(|lane| &lane.pending).any(
                |pending| {
                    pending.queue == queue && matches!(&pending.asked, Asked::Send(sent) if is_short(sent))
                },
            )
    }
}
