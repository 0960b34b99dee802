//! Services on the shards of their sessions: the third message of the handshake, and who receives for a service.
//!
//! ```text
//! session's shard                                 service's shard             every shard
//! hello        -- FindService -->                 (of the certificate)
//!              <-- Found ----------
//! NEW, SUB...  -- ServiceOrder::Hold -->          (of the ID) -- the same --> the session holds the subscription
//!              <-- Holds, and Ended to the former session -------------------
//! SOKS, then   -- StartScan ------------------------------------------------> messages
//! ALLS         <-- Delivered ------------------------------------------------
//! ```
//!
//! The shard that the ID of the service names gives the orders of all its sessions to all shards, so they agree which
//! session is the last. A session holds the subscription before any of its commands that need it is executed.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use futures_lite::future::poll_fn;
use ringpost_protocol::command::{Command, ServiceSubs};
use ringpost_protocol::crypto::authorization::{VerifyContext, verify};
use ringpost_protocol::encoding::Sink;
use ringpost_protocol::error::{ErrorType, HandshakeError, TransportError};
use ringpost_protocol::handshake::{
    ServiceHello, ServiceResponse, ServiceRole, VerifiedService, write_service_response,
};
use ringpost_protocol::limits::ID_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Authorization, Format, Transmission, parse_content};
use ringpost_protocol::version::SmpVersion;
use ringpost_store::{ServiceId, ServiceParty, ServiceTotal};
use smallvec::SmallVec;

use super::connection::{Close, Connection};
use super::handshake::write_all;
use super::shard::{Letter, Shard, Work};
use super::websocket::{seal_block, sealed_bytes_max};
use crate::counters::ServiceCounts;
use crate::service::{
    FindService, SECS_PER_DAY, ServiceOrder, ServicePart, Session, SessionService, check_service,
};

/// What a connection of a service has beside others.
#[derive(Debug, Default)]
pub struct Serving {
    /// The answer of the shard that keeps the service.
    found: Cell<Option<Result<ServiceId, HandshakeError>>>,
    /// It has held the subscription: all shards are to hear of its end.
    claimed: Cell<bool>,
    /// It was not told that another session has taken the subscription.
    holds: Cell<bool>,
    /// Of its orders so far.
    rounds: Cell<u32>,
    /// Answers of which some shards' are still to come.
    gathers: RefCell<Vec<Gather>>,
    /// The order that all shards have carried out.
    held: Cell<Option<Held>>,
    /// Shards whose scans wait for room in the outbox.
    paused: RefCell<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Holds,
    Ended,
    Delivered,
}

/// What shards have said of one order so far.
#[derive(Debug)]
struct Gather {
    kind: Kind,
    round: u32,
    /// Shards that have not said it.
    left: usize,
    total: ServiceTotal,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    round: u32,
    total: ServiceTotal,
    is_new: bool,
}

impl Serving {
    /// Adds what one of so many shards has said. Gives the sum when all have.
    fn gather(&self, kind: Kind, round: u32, shards: usize, part: &ServiceTotal) -> Option<ServiceTotal> {
        let mut gathers = self.gathers.borrow_mut();
        let is_it = |gather: &Gather| gather.kind == kind && gather.round == round;
        let place = gathers.iter().position(is_it).unwrap_or_else(|| {
            gathers.push(Gather { kind, round, left: shards, total: ServiceTotal::default() });
            gathers.len() - 1
        });
        let gather = gathers.get_mut(place)?;
        gather.total.add(part);
        gather.left = gather.left.saturating_sub(1);
        (gather.left == 0).then(|| gathers.swap_remove(place).total)
    }
}

/// Verifies a service, has its ID found or made, and tells it: the end of its handshake.
pub async fn introduce(
    shard: &Shard,
    connection: &Connection,
    hello: &ServiceHello<'_>,
) -> Result<Box<SessionService>, Close> {
    let verified = hello.verify(connection.tls.borrow().peer_certificates());
    let found = match verified {
        Ok(verified) => {
            let id = find(shard, connection, hello, &verified).await?;
            id.map(|id| Box::new(SessionService::new(id, &verified)))
        }
        Err(_) => Err(HandshakeError::BadAuth),
    };
    let response = match &found {
        Ok(service) => ServiceResponse::Accepted { service_id: &service.id },
        Err(error) => ServiceResponse::Refused(TransportError::Handshake(*error)),
    };
    let mut sealed = vec![0; sealed_bytes_max(connection)];
    let length = {
        let mut scratch = shard.scratch.borrow_mut();
        write_service_response(response, &mut scratch.small).map_err(|_| Close::HandshakeService)?;
        let mut tls = connection.tls.borrow_mut();
        seal_block(connection, &mut tls, &scratch.small, &mut sealed).map_err(|_| Close::HandshakeTls)?
    };
    sealed.truncate(length);
    write_all(connection, &sealed).await?;
    found.map_err(|_| {
        connection.end(Close::HandshakeService);
        Close::HandshakeService
    })
}

async fn find(
    shard: &Shard,
    connection: &Connection,
    hello: &ServiceHello<'_>,
    verified: &VerifiedService,
) -> Result<Result<ServiceId, HandshakeError>, Close> {
    let mut chain = Vec::new();
    chain.put_list(&hello.chain, |chain, der| chain.put_large(der));
    let wanted = Box::new(FindService {
        conn: connection.conn,
        role: verified.role,
        fingerprint: verified.fingerprint,
        chain,
        today: u32::try_from(Shard::now_secs() / SECS_PER_DAY).unwrap_or(u32::MAX),
    });
    let serving = connection.serving.get_or_init(Box::default);
    let home = shard.map.home(shard.hasher.hash_fingerprint(&verified.fingerprint).partition());
    if home == shard.id {
        shard.do_work(Work::FindService(wanted));
    } else {
        shard.post(home, Letter::FindService(wanted));
    }
    wait(connection, || serving.found.take()).await
}

/// Waits until something is there that wakes the connection's reader, or the connection is closed.
async fn wait<T>(connection: &Connection, mut take: impl FnMut() -> Option<T>) -> Result<T, Close> {
    poll_fn(|cx| {
        if let Some(reason) = connection.closed() {
            return Poll::Ready(Err(reason));
        }
        connection.set_reader(cx.waker());
        take().map_or(Poll::Pending, |taken| Poll::Ready(Ok(taken)))
    })
    .await
}

/// SUBS or NSUBS.
#[derive(Debug)]
pub struct Subscribe {
    corr_id: SmallVec<[u8; ID_BYTES]>,
    /// What the service believes to have; the count is negative if it does not say.
    expected: ServiceSubs,
}

/// The service subscription that a transmission asks for, or why it is refused. None: it asks for something else.
pub fn subscription(
    session: &Session,
    transmission: &Transmission<'_>,
) -> Option<Result<Subscribe, ErrorType>> {
    let service = session.service.as_deref()?;
    let tag = transmission.command.split(|&byte| byte == b' ').next();
    if !matches!(tag, Some(b"SUBS" | b"NSUBS")) {
        return None;
    }
    let command = match transmission.decode_command(session.version, session.session_id.as_ref()) {
        Ok(command) => command,
        Err(error) => return Some(Err(error)),
    };
    if let Err(error) = check_service(session, transmission, &command) {
        return Some(Err(error));
    }
    let (Command::Subs(expected) | Command::NSubs(expected)) = command else { return None };
    // It is signed as with the key of the entity, which is the service.
    let context = VerifyContext { session_key: None, corr_id: transmission.corr_id };
    let authorized = transmission.for_authorization_parts(session.session_id.as_ref());
    let is_right = matches!(transmission.authorization, Authorization::Ed25519(_))
        && transmission.entity_id == service.id
        && verify(transmission.authorization, &authorized, Some(&service.key), context);
    if !is_right {
        return Some(Err(ErrorType::Service));
    }
    Some(Ok(Subscribe { corr_id: transmission.corr_id.into(), expected }))
}

/// Before the commands of a block are handed to their homes: if one of them is to make a queue the service's, the session
/// holds the subscription first. (Whether the queue's owner has authorized it is not known yet; the service has.)
pub async fn claim(
    shard: &Shard,
    connection: &Connection,
    session: &Arc<Session>,
    content: &[u8],
) -> Result<(), Close> {
    let Some(party) = session.service.as_ref().and_then(|service| service.party()) else { return Ok(()) };
    if connection.serving.get().is_some_and(|serving| serving.holds.get()) {
        return Ok(());
    }
    let makes_its_own = |transmission: Transmission<'_>| {
        transmission.service_signature.is_some()
            && match party {
                ServiceParty::Recipient => {
                    transmission.command == b"SUB" || transmission.command.starts_with(b"NEW ")
                }
                ServiceParty::Notifier => transmission.command == b"NSUB",
            }
    };
    if parse_content(content, Format::of_session(session.version)).flatten().any(makes_its_own) {
        hold(shard, connection, session, false).await?;
    }
    Ok(())
}

/// Carries out each SUBS or NSUBS of a block.
pub async fn subscribe_all(
    shard: &Shard,
    connection: &Connection,
    session: &Arc<Session>,
    subscriptions: Vec<Subscribe>,
) -> Result<(), Close> {
    for one in subscriptions {
        subscribe(shard, connection, session, one).await?;
    }
    Ok(())
}

/// Carries out SUBS or NSUBS, after the commands that came before it.
async fn subscribe(
    shard: &Shard,
    connection: &Connection,
    session: &Arc<Session>,
    subscribe: Subscribe,
) -> Result<(), Close> {
    let Some(service) = session.service.as_deref() else { return Ok(()) };
    let are_answered = || {
        let answered = connection.in_flight.borrow().is_empty();
        // Then the next answer wakes this task.
        connection.held_back.set(!answered);
        answered.then_some(())
    };
    wait(connection, are_answered).await?;
    let Held { total, is_new, .. } = hold(shard, connection, session, true).await?;
    let has = ServiceSubs::from(total);
    service.subscribes.store(true, Ordering::Relaxed);
    if let Some(party) = service.party() {
        let counts = shard.counters.service(party);
        if is_new {
            count_expected(counts, subscribe.expected, has);
        } else {
            counts.subs_repeated.add(1);
        }
    }
    connection.respond(&subscribe.corr_id, &service.id, &Response::Soks(has));
    if is_new {
        (0..shard.map.shards()).for_each(|home| start_scan(shard, home, connection));
    }
    Ok(())
}

/// Counts whether a service knew which queues it has.
fn count_expected(counts: &ServiceCounts, expected: ServiceSubs, has: ServiceSubs) {
    let difference = has.count.abs_diff(expected.count);
    let difference = usize::try_from(difference).unwrap_or(usize::MAX);
    if expected.count < 0 || expected == has {
        counts.subs_right.add(1);
    } else if expected.count < has.count {
        counts.subs_more.add(1);
        counts.subs_more_queues.add(difference);
    } else if expected.count > has.count {
        counts.subs_fewer.add(1);
        counts.subs_fewer_queues.add(difference);
    } else {
        counts.subs_other.add(1);
    }
}

/// Has all shards take the session for the one that receives for its service.
async fn hold(
    shard: &Shard,
    connection: &Connection,
    session: &Arc<Session>,
    subscribes_all: bool,
) -> Result<Held, Close> {
    let serving = connection.serving.get_or_init(Box::default);
    if !serving.claimed.replace(true) {
        (0..shard.map.shards()).for_each(|home| connection.note_home(home));
    }
    let round = serving.rounds.get().wrapping_add(1);
    serving.rounds.set(round);
    serving.holds.set(true);
    order(shard, ServiceOrder::Hold { session: Arc::clone(session), round, subscribes_all });
    wait(connection, || serving.held.take().filter(|held| held.round == round)).await
}

/// A connection has ended: whoever takes its service's subscription next is not to be told of a former one.
pub fn release(shard: &Shard, connection: &Connection) {
    if let (Some(serving), Some(session)) = (connection.serving.get(), connection.session.get())
        && serving.claimed.get()
    {
        order(shard, ServiceOrder::Release { session: Arc::clone(session) });
    }
}

/// Sends an order to the shard that brings those of this service into a sequence.
fn order(shard: &Shard, order: ServiceOrder) {
    let (ServiceOrder::Hold { session, .. } | ServiceOrder::Release { session }) = &order;
    let Some(service) = &session.service else { return };
    let home = shard.map.home(shard.hasher.hash(&service.id).partition());
    if home == shard.id {
        pass_on(shard, &order);
    } else {
        shard.post(home, Letter::ServiceOrder(order));
    }
}

/// Gives an order to all shards. Those of one service come from one shard, so the lanes keep their sequence.
pub fn pass_on(shard: &Shard, order: &ServiceOrder) {
    for to in 0..shard.map.shards() {
        if to == shard.id {
            shard.do_work(Work::CarryOut(order.clone()));
        } else {
            shard.post(to, Letter::CarryOut(order.clone()));
        }
    }
}

fn start_scan(shard: &Shard, home: usize, connection: &Connection) {
    let conn = connection.conn;
    if home == shard.id {
        // Not at once: the service may be at work.
        shard.defer(Work::StartScan { conn });
    } else {
        shard.post(home, Letter::StartScan { conn });
    }
}

/// Takes what a shard has to say to the session of a service.
pub fn take_part(shard: &Shard, connection: &Connection, home: usize, part: ServicePart) {
    let Some(serving) = connection.serving.get() else { return };
    let shards = shard.map.shards();
    match part {
        ServicePart::Found(found) => {
            serving.found.set(Some(found.ok_or(HandshakeError::BadService)));
            connection.wake_reader();
        }
        ServicePart::Holds { round, total, is_new } => {
            if let Some(total) = serving.gather(Kind::Holds, round, shards, &total) {
                serving.held.set(Some(Held { round, total, is_new }));
                connection.wake_reader();
            }
        }
        ServicePart::Ended { round, total } => {
            if let Some(total) = serving.gather(Kind::Ended, round, shards, &total) {
                let service = connection.session.get().and_then(|session| session.service.as_deref());
                // Unless it has asked to hold it again meanwhile.
                if serving.rounds.get() == round {
                    serving.holds.set(false);
                    if let Some(service) = service {
                        service.subscribes.store(false, Ordering::Relaxed);
                    }
                }
                // What was not sent by then will not be.
                let is_over = |gather: &Gather| gather.kind == Kind::Delivered && gather.round <= round;
                serving.gathers.borrow_mut().retain(|gather| !is_over(gather));
                if let Some(service) = service {
                    connection.respond(&[], &service.id, &Response::Ends(total.into()));
                    if let Some(party) = service.party() {
                        shard.counters.service(party).subs_ended.add(1);
                    }
                }
            }
        }
        ServicePart::Delivered { round } => {
            let all = serving.gather(Kind::Delivered, round, shards, &ServiceTotal::default());
            let knows_alls = connection.session.get().is_some_and(|session| {
                session.version >= SmpVersion::SERVICE_SUBSCRIPTIONS
                    && session.service.as_ref().is_some_and(|service| service.role == ServiceRole::Messaging)
            });
            if all.is_some() && knows_alls {
                connection.respond(&[], &[], &Response::Alls);
            }
        }
        ServicePart::Pauses => {
            serving.paused.borrow_mut().push(home);
            written(shard, connection);
        }
    }
}

/// Lets scans go on that wait for room in the outbox, if there is some.
pub fn written(shard: &Shard, connection: &Connection) {
    let Some(serving) = connection.serving.get() else { return };
    if connection.outbox.borrow().response_bytes() <= shard.config.limits.outbox_bytes {
        for home in serving.paused.take() {
            start_scan(shard, home, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_different_orders_are_not_mixed() {
        let serving = Serving::default();
        let part = |count: u64, byte: u8| ServiceTotal { count, ids_hash: [byte; 16] };
        // The first shard is ahead by a whole order of the others.
        assert_eq!(serving.gather(Kind::Ended, 1, 2, &part(3, 1)), None);
        assert_eq!(serving.gather(Kind::Holds, 2, 2, &part(3, 1)), None);
        assert_eq!(serving.gather(Kind::Ended, 2, 2, &part(4, 9)), None);
        assert_eq!(serving.gather(Kind::Ended, 1, 2, &part(2, 4)), Some(part(5, 5)));
        assert_eq!(serving.gather(Kind::Holds, 2, 2, &part(2, 4)), Some(part(5, 5)));
        assert_eq!(serving.gather(Kind::Ended, 2, 2, &part(2, 4)), Some(part(6, 13)));
        assert!(serving.gathers.borrow().is_empty());
        assert_eq!(serving.gather(Kind::Delivered, 3, 1, &part(0, 0)), Some(part(0, 0)));
    }
}
