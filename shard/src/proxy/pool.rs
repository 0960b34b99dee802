//! Which relays there are sessions with: one a relay, for all clients. Time is passed in.
//!
//! A relay that could not be reached is not tried again for a while; who asks then gets the error of the last attempt.

use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ringpost_protocol::address::Router;
use ringpost_protocol::crypto::Nonce;
use ringpost_protocol::error::{BrokerError, ErrorType, NetworkError, ProxyError, TransportError};

use crate::limits::{RELAY_WAITING_MAX, RELAYS_PER_SHARD_MAX};

/// Why there is no session with a relay, or no answer of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayFailure {
    /// Not reached, closed, or not the router of the address.
    Network,
    /// No host as the operator wants it.
    Host,
    /// The handshake failed.
    Transport(TransportError),
    /// No answer in time.
    Timeout,
}

impl RelayFailure {
    /// How a client is told.
    pub fn error(self) -> ErrorType {
        proxy_error(match self {
            Self::Network => BrokerError::Network(NetworkError::Failed),
            Self::Host => BrokerError::Host,
            Self::Transport(error) => BrokerError::Transport(error),
            Self::Timeout => BrokerError::Timeout,
        })
    }

    /// Whether another attempt may succeed without anything being changed.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Network | Self::Timeout)
    }
}

/// An error between proxy and relay.
pub fn proxy_error(error: BrokerError) -> ErrorType {
    ErrorType::Proxy(Box::new(ProxyError::Broker(error)))
}

#[derive(Debug)]
enum Entry<S, W> {
    Connecting { waiting: Vec<W> },
    Up(S),
    Failed { failure: RelayFailure, until: Instant },
}

/// What becomes of a client that asks for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<S, W> {
    Up(S, W),
    Failed(RelayFailure, W),
    /// It waits for a connection that is being made.
    Waits,
    /// It waits, and the caller is to connect.
    Connect,
}

/// Sessions `S` of relays and clients `W` that wait for them.
#[derive(Debug)]
pub struct Pool<S, W> {
    relays: HashMap<Router, Entry<S, W>>,
    retry: Duration,
}

impl<S: Clone, W> Pool<S, W> {
    /// After a failure a relay is not tried again for `retry`.
    pub fn new(retry: Duration) -> Self {
        Self { relays: HashMap::new(), retry }
    }

    /// A client wants a session with a relay.
    pub fn ask(&mut self, relay: &Router, client: W, now: Instant) -> Asked<S, W> {
        if self.relays.len() >= RELAYS_PER_SHARD_MAX && !self.relays.contains_key(relay) {
            self.forget_failures(now);
            if self.relays.len() >= RELAYS_PER_SHARD_MAX {
                return Asked::Failed(RelayFailure::Timeout, client);
            }
        }
        match self.relays.entry(relay.clone()) {
            Place::Vacant(place) => {
                place.insert(Entry::Connecting { waiting: vec![client] });
                Asked::Connect
            }
            Place::Occupied(mut place) => match place.get_mut() {
                Entry::Up(session) => Asked::Up(session.clone(), client),
                Entry::Connecting { waiting } if waiting.len() < RELAY_WAITING_MAX => {
                    waiting.push(client);
                    Asked::Waits
                }
                Entry::Connecting { .. } => Asked::Failed(RelayFailure::Timeout, client),
                Entry::Failed { failure, until } if now < *until => Asked::Failed(*failure, client),
                Entry::Failed { .. } => {
                    place.insert(Entry::Connecting { waiting: vec![client] });
                    Asked::Connect
                }
            },
        }
    }

    /// A session was made. Gives the clients that waited for it.
    pub fn connected(&mut self, relay: &Router, session: S) -> Vec<W> {
        Self::waiting(self.relays.insert(relay.clone(), Entry::Up(session)))
    }

    /// No session was made. Gives the clients that waited for it.
    pub fn failed(&mut self, relay: &Router, failure: RelayFailure, now: Instant) -> Vec<W> {
        let failed = Entry::Failed { failure, until: now + self.retry };
        Self::waiting(self.relays.insert(relay.clone(), failed))
    }

    /// A session ended: who asks next connects again.
    pub fn ended(&mut self, relay: &Router) {
        self.relays.remove(relay);
    }

    /// Forgets failures whose time is over.
    pub fn forget_failures(&mut self, now: Instant) {
        self.relays.retain(|_, entry| !matches!(entry, Entry::Failed { until, .. } if *until <= now));
    }

    fn waiting(entry: Option<Entry<S, W>>) -> Vec<W> {
        match entry {
            Some(Entry::Connecting { waiting }) => waiting,
            _ => Vec::new(),
        }
    }
}

/// Commands that a relay has not answered yet, by the correlation ID under which they were sent. All have the same time.
#[derive(Debug)]
pub struct InFlight<W> {
    commands: HashMap<Nonce, W>,
    /// In the order in which they were sent; answered ones stand here while they are behind others.
    order: VecDeque<(Instant, Nonce)>,
    limit: Duration,
    /// Since the last time that something came.
    timeouts: usize,
}

impl<W> InFlight<W> {
    /// A command without an answer after `limit` gets none.
    pub fn new(limit: Duration) -> Self {
        Self { commands: HashMap::new(), order: VecDeque::new(), limit, timeouts: 0 }
    }

    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// A command was sent.
    pub fn sent(&mut self, nonce: Nonce, client: W, now: Instant) {
        self.commands.insert(nonce, client);
        self.order.push_back((now + self.limit, nonce));
    }

    /// Something came under this correlation ID. None if nobody waits for it.
    pub fn answered(&mut self, corr_id: &[u8]) -> Option<(Nonce, W)> {
        self.timeouts = 0;
        let nonce: Nonce = corr_id.try_into().ok()?;
        let client = self.commands.remove(&nonce)?;
        // Mostly the oldest: what was answered need not stand here for its whole time.
        while self.order.front().is_some_and(|(_, first)| !self.commands.contains_key(first)) {
            self.order.pop_front();
        }
        Some((nonce, client))
    }

    /// Takes a command whose time is over.
    pub fn next_late(&mut self, now: Instant) -> Option<W> {
        while let Some((until, nonce)) = self.order.front().copied() {
            if until > now {
                return None;
            }
            self.order.pop_front();
            if let Some(client) = self.commands.remove(&nonce) {
                self.timeouts += 1;
                return Some(client);
            }
        }
        None
    }

    /// Commands that got no answer since something came last.
    pub fn timeouts(&self) -> usize {
        self.timeouts
    }

    /// The session is over.
    pub fn take_all(&mut self) -> Vec<W> {
        self.order.clear();
        self.commands.drain().map(|(_, client)| client).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ringpost_protocol::address::RouterAddress;

    fn relay(host: &str) -> Router {
        let hash = "u2dS9sG8nMNURyZwqASV4yROM28Er0luVTx5X1CsMrU=";
        format!("smp://{hash}@{host}").parse::<RouterAddress>().unwrap().router
    }

    const RETRY: Duration = Duration::from_secs(30);

    #[test]
    fn one_connection_serves_all_who_ask() {
        let now = Instant::now();
        let mut pool = Pool::new(RETRY);
        assert_eq!(pool.ask(&relay("a"), 1, now), Asked::Connect);
        assert_eq!(pool.ask(&relay("a"), 2, now), Asked::Waits);
        assert_eq!(pool.ask(&relay("b"), 3, now), Asked::Connect);
        assert_eq!(pool.connected(&relay("a"), "session"), [1, 2]);
        assert_eq!(pool.ask(&relay("a"), 4, now), Asked::Up("session", 4));
        pool.ended(&relay("a"));
        assert_eq!(pool.ask(&relay("a"), 5, now), Asked::Connect);
    }

    #[test]
    fn a_failure_stands_for_a_while() {
        let now = Instant::now();
        let mut pool: Pool<(), u8> = Pool::new(RETRY);
        assert_eq!(pool.ask(&relay("a"), 1, now), Asked::Connect);
        assert_eq!(pool.failed(&relay("a"), RelayFailure::Network, now), [1]);
        let later = now + RETRY.mul_f32(0.9);
        assert_eq!(pool.ask(&relay("a"), 2, later), Asked::Failed(RelayFailure::Network, 2));
        assert_eq!(pool.ask(&relay("a"), 3, now + RETRY), Asked::Connect);
        pool.failed(&relay("a"), RelayFailure::Host, now);
        pool.forget_failures(now + RETRY);
        assert!(pool.relays.is_empty());
    }

    #[test]
    fn relays_and_those_who_wait_are_bounded() {
        let now = Instant::now();
        let mut pool: Pool<(), usize> = Pool::new(RETRY);
        assert_eq!(pool.ask(&relay("a"), 0, now), Asked::Connect);
        for client in 1..RELAY_WAITING_MAX {
            assert_eq!(pool.ask(&relay("a"), client, now), Asked::Waits);
        }
        assert_eq!(pool.ask(&relay("a"), 7, now), Asked::Failed(RelayFailure::Timeout, 7));
        for n in 1..RELAYS_PER_SHARD_MAX {
            assert_eq!(pool.ask(&relay(&format!("h{n}")), n, now), Asked::Connect);
        }
        assert_eq!(pool.ask(&relay("b"), 8, now), Asked::Failed(RelayFailure::Timeout, 8));
        // Failures that are over make room.
        pool.failed(&relay("h1"), RelayFailure::Network, now);
        assert_eq!(pool.ask(&relay("b"), 9, now + RETRY), Asked::Connect);
    }

    #[test]
    fn commands_are_answered_or_late() {
        let now = Instant::now();
        let limit = Duration::from_secs(30);
        let mut in_flight = InFlight::new(limit);
        for n in 0..4 {
            in_flight.sent([n; 24], n, now + Duration::from_secs(n.into()));
        }
        assert_eq!(in_flight.answered(&[1; 24]), Some(([1; 24], 1)));
        assert_eq!(in_flight.answered(&[1; 24]), None);
        assert_eq!(in_flight.answered(&[9; 3]), None);
        assert_eq!(in_flight.next_late(now + limit.mul_f32(0.9)), None);
        assert_eq!(in_flight.next_late(now + limit), Some(0));
        let later = now + limit + Duration::from_secs(2);
        assert_eq!((in_flight.next_late(later), in_flight.next_late(later)), (Some(2), None));
        assert_eq!((in_flight.timeouts(), in_flight.len()), (2, 1));
        assert_eq!(in_flight.answered(&[3; 24]), Some(([3; 24], 3)));
        assert_eq!(in_flight.timeouts(), 0);
        in_flight.sent([5; 24], 5, now);
        assert_eq!(in_flight.take_all(), [5]);
        assert!(in_flight.is_empty() && in_flight.next_late(later).is_none());
    }

    #[test]
    fn failures_have_the_words_of_the_protocol() {
        use ringpost_protocol::version::SmpVersion;
        let text = |failure: RelayFailure| {
            let mut out = Vec::new();
            failure.error().encode(SmpVersion::MAX, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(RelayFailure::Network), "PROXY BROKER NETWORK");
        assert_eq!(text(RelayFailure::Host), "PROXY BROKER HOST");
        assert_eq!(text(RelayFailure::Timeout), "PROXY BROKER TIMEOUT");
        let version = RelayFailure::Transport(TransportError::Version);
        assert_eq!(text(version), "PROXY BROKER TRANSPORT VERSION");
        assert!(RelayFailure::Network.is_temporary() && !version.is_temporary());
    }
}
