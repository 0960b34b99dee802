//! Short links: "Set short link", "Delete short link" and "Short link commands" of the protocol text.

use std::sync::Arc;

use ringpost_protocol::command::{LinkData, QueueMode};
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::keys::AuthPublicKey;
use ringpost_protocol::limits::BLOCK_CONTENT_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::Transmission;
use ringpost_store::{BodyPlace, Entry, Link, Log, Party, Queue, QueueId, QueueIx, Record, Status};

use super::Service;
use super::bodies::CacheKey;
use super::body::{Body, Form};
use super::commands::{Next, Secrets};
use super::ledger::Refused;
use super::session::Session;

/// LNK with all but correlation ID, session ID and data: lengths, link ID, tag, sender ID.
const LNK_FRONT_BYTES: usize = 96;

/// Whether the sender has a key of its own. Queues that were made before queues had modes count as messaging then.
pub fn is_secured_messaging(queue: &Queue<Body>) -> bool {
    queue.mode != Some(QueueMode::Contact) && queue.sender_key.is_some()
}

/// Contact addresses that were made before queues had modes were never secured.
fn is_contact(queue: &Queue<Body>) -> bool {
    match queue.mode {
        Some(mode) => mode == QueueMode::Contact,
        None => queue.sender_key.is_none(),
    }
}

impl<L: Log> Service<L> {
    /// A link as it is appended: fixed and user data are one body.
    pub(super) fn new_link(&self, id: QueueId, data: &LinkData<'_>) -> Option<Link<Vec<u8>>> {
        Some(Link {
            id,
            fixed_bytes: u16::try_from(data.fixed.len()).ok()?,
            fixed_hash: self.store.hasher().hash_fixed_data(data.fixed),
            data: [data.fixed, data.user].concat(),
        })
    }

    /// The link as it is kept, after it was appended.
    pub(super) fn kept_link(&self, link: Link<Vec<u8>>) -> Link<Body> {
        let place = self.places.first().copied().unwrap_or(BodyPlace::NOWHERE);
        link.map(|data| Body { form: Form::Own(data.into()), place, cached: CacheKey::NONE })
    }

    /// Counts the data of a link that has just been put into the store.
    pub(super) fn count_link(&mut self, queue: QueueIx) {
        let Some(body) = self.store.link_data_mut(queue) else { return };
        let form = std::mem::replace(&mut body.form, Form::Away);
        let cached = self.count_in(queue, &form, self.appended);
        if let Some(body) = self.store.link_data_mut(queue) {
            body.form = form;
            body.cached = cached;
        }
    }

    /// LSET.
    pub(super) fn set_link(&mut self, queue_ix: QueueIx, link_id: &[u8], data: &LinkData<'_>) -> Next {
        let (Some(queue), Some((recipient_id, hash))) = (self.store.queue(queue_ix), self.name(queue_ix))
        else {
            return Next::Answer(ErrorType::Auth);
        };
        let present = queue.link();
        if is_secured_messaging(queue) || present.is_some_and(|present| present.id != *link_id) {
            return Next::Answer(ErrorType::Auth);
        }
        let Ok(id) = QueueId::try_from(link_id) else {
            return Next::Answer(ErrorType::Cmd(CommandError::Syntax));
        };
        let Some(link) = self.new_link(id, data) else { return Next::Answer(ErrorType::LargeMsg) };
        if present.is_some_and(|present| !link.is_same_but_user_data(present)) {
            return Next::Answer(ErrorType::Auth);
        }
        let is_new = present.is_none();
        let link_hash = self.store.hasher().hash(&id);
        if is_new && !self.config.links.try_claim(link_hash, hash.partition()) {
            return Next::Answer(ErrorType::Auth);
        }
        let record = Record::Link { queue: recipient_id, link: link.clone() };
        if let Err(refused) = self.append_all(&[Entry { hash, record: record.as_bytes() }]) {
            if is_new {
                self.config.links.release(link_hash);
            }
            return refused.into();
        }
        let link = self.kept_link(link);
        match self.store.set_link(queue_ix, link) {
            Ok(former) => {
                if let Some(former) = former {
                    self.release_body(former.data);
                }
                self.count_link(queue_ix);
                self.counters.links.set(self.store.link_count());
                Next::Ok
            }
            Err(_) => Next::Answer(ErrorType::Internal),
        }
    }

    /// LDEL. It is no error if there is no link.
    pub(super) fn drop_link(&mut self, queue: QueueIx) -> Result<(), Refused> {
        let has_link = self.store.queue(queue).is_some_and(|queue| queue.link().is_some());
        if has_link {
            self.append_of(queue, |queue| Record::LinkGone { queue })?;
            self.link_dropped(queue);
        }
        Ok(())
    }

    /// Forgets a link whose end was appended.
    pub(super) fn link_dropped(&mut self, queue: QueueIx) {
        if let Ok(Some(link)) = self.store.remove_link(queue) {
            self.config.links.release(self.store.hasher().hash(&link.id));
            self.release_body(link.data);
            self.counters.links.set(self.store.link_count());
        }
    }

    /// LKEY: secures a messaging queue and gives its data.
    pub(super) fn secure_by_link(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        key: AuthPublicKey,
        today: u32,
    ) -> Next {
        let queue_ix = self.find(Party::Link, parsed.entity_id);
        let allowed = queue_ix.and_then(|ix| self.store.queue(ix)).is_some_and(|queue| {
            queue.mode == Some(QueueMode::Messaging)
                && queue.sender_key.as_ref().is_none_or(|present| *present == key)
        });
        let verified = self.verified(session, parsed, allowed.then_some(&key), Secrets::Fresh);
        let Some(queue) = queue_ix.filter(|_| allowed && verified) else {
            return Next::Answer(ErrorType::Auth);
        };
        if let Some(refusal) = self.refusal_of_blocked(queue) {
            return refusal;
        }
        if !self.is_link_here(queue, session.conn) {
            return Next::Wait;
        }
        self.note_use(queue, today);
        match self.secure(queue, key) {
            Next::Ok => self.answer_with_link(session, parsed, queue),
            other => other,
        }
    }

    /// LGET: the data of a contact address.
    pub(super) fn read_link(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        today: u32,
    ) -> Next {
        let queue = self.find(Party::Link, parsed.entity_id);
        let is_address = queue.and_then(|ix| self.store.queue(ix)).is_some_and(is_contact);
        let Some(queue) = queue.filter(|_| is_address) else { return Next::Answer(ErrorType::Auth) };
        if let Some(refusal) = self.refusal_of_blocked(queue) {
            return refusal;
        }
        if !self.is_link_here(queue, session.conn) {
            return Next::Wait;
        }
        self.note_use(queue, today);
        self.answer_with_link(session, parsed, queue)
    }

    fn answer_with_link(
        &mut self,
        session: &Arc<Session>,
        parsed: &Transmission<'_>,
        queue: QueueIx,
    ) -> Next {
        let Some(queue) = self.store.queue(queue) else { return Next::Answer(ErrorType::Auth) };
        let Some(link) = queue.link() else { return Next::Answer(ErrorType::Auth) };
        let (Form::Own(bytes), sender_id) = (&link.data.form, queue.sender_id) else {
            return Next::Answer(ErrorType::Internal);
        };
        let Some((fixed, user)) = bytes.split_at_checked(usize::from(link.fixed_bytes)) else {
            return Next::Answer(ErrorType::Internal);
        };
        let session_bytes = session.wire_session_id().map_or(0, <[u8]>::len);
        if LNK_FRONT_BYTES + session_bytes + parsed.corr_id.len() + bytes.len() > BLOCK_CONTENT_BYTES {
            return Next::Answer(ErrorType::LargeMsg);
        }
        let response = Response::Lnk { sender_id: &sender_id, data: LinkData { fixed, user } };
        super::append(&mut self.responses, session, parsed.corr_id, parsed.entity_id, &response);
        Next::Answered
    }

    /// What a blocked queue answers to all but its end.
    pub(super) fn refusal_of_blocked(&self, queue: QueueIx) -> Option<Next> {
        match self.store.queue(queue)?.status() {
            Status::Blocked(info) => Some(Next::Answer(ErrorType::Blocked(info))),
            Status::Active | Status::Suspended => None,
        }
    }
}
