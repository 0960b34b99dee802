//! The task of a connection: it alone reads and writes the socket.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ringpost_protocol::command::Command;
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::transmission::{Batch, plan_batches};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::client::Outgoing;
use crate::config::ClientConfig;
use crate::error::{ClientError, CommandFault, Disconnect, TransportFault};
use crate::event::Event;
use crate::id::EntityId;
use crate::in_flight::InFlight;
use crate::queue::random;
use crate::request::{Reply, Request, Transmission, Waiting};
use crate::session::Session;
use crate::wire::{Next, Wire};

/// Bytes of transmissions that are sealed before the socket has taken them.
const WRITE_AHEAD_BYTES: usize = 16 * BLOCK_BYTES;
/// The length in front of a transmission.
const LENGTH_BYTES: usize = 2;
/// How long to sleep when there is nothing to watch: until something else wakes the task.
const NOTHING_DUE: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct Driver {
    stream: TcpStream,
    wire: Wire,
    session: Arc<Session>,
    outgoing: mpsc::Receiver<Outgoing>,
    events: mpsc::Sender<Event>,
    ended: Arc<OnceLock<Disconnect>>,
    in_flight: InFlight,
    /// Taken from `outgoing`, not in a block yet.
    requests: Vec<Request>,
    /// Events that `events` had no room for.
    backlog: VecDeque<Event>,
    /// Of the backlog, while a command waits for its response.
    backlog_max: usize,
    command_timeout: Duration,
    keep_alive: Option<Duration>,
    in_flight_max: usize,
    received_at: Instant,
    /// When the socket last took bytes, or had none to take.
    wrote_at: Instant,
    /// Our PING under way.
    ping: Option<(Instant, oneshot::Receiver<Result<Reply, ClientError>>)>,
}

impl Driver {
    pub(crate) fn new(
        stream: TcpStream,
        wire: Wire,
        session: Arc<Session>,
        outgoing: mpsc::Receiver<Outgoing>,
        events: mpsc::Sender<Event>,
        ended: Arc<OnceLock<Disconnect>>,
        config: &ClientConfig,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream,
            wire,
            session,
            outgoing,
            events,
            ended,
            in_flight: InFlight::default(),
            requests: Vec::new(),
            backlog: VecDeque::new(),
            backlog_max: config.events_before_response_max.saturating_sub(config.events_max).max(1),
            command_timeout: config.command_timeout,
            keep_alive: config.keep_alive,
            in_flight_max: config.in_flight_max.max(1),
            received_at: now,
            wrote_at: now,
            ping: None,
        }
    }

    /// Runs until the connection ends.
    pub(crate) async fn run(mut self) {
        let reason = self.drive().await.err().unwrap_or(Disconnect::ByClient);
        self.end(reason).await;
    }

    /// Ok when this side wants to close.
    async fn drive(&mut self) -> Result<(), Disconnect> {
        // What came behind the handshake.
        self.receive()?;
        let check = tokio::time::sleep_until(self.next_check(Instant::now()).into());
        tokio::pin!(check);
        loop {
            let next_check = self.next_check(Instant::now()).into();
            if next_check < check.deadline() {
                check.as_mut().reset(next_check);
            }
            let wants_read = self.may_read();
            let wants_write = self.wire.records.has_outgoing();
            let interest = if wants_read && wants_write {
                Interest::READABLE | Interest::WRITABLE
            } else if wants_write {
                Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            tokio::select! {
                outgoing = self.outgoing.recv(), if !wants_write && self.in_flight.len() < self.in_flight_max => {
                    match outgoing {
                        None | Some(Outgoing::Close) => return Ok(()),
                        Some(outgoing) => self.send(outgoing)?,
                    }
                }
                ready = self.stream.ready(interest), if wants_read || wants_write => {
                    let ready = ready.map_err(network)?;
                    if wants_write && ready.is_writable() {
                        self.write()?;
                    }
                    if wants_read && ready.is_readable() {
                        self.read()?;
                    }
                }
                room = has_room(&self.events), if !self.backlog.is_empty() => {
                    if !room {
                        // Nobody receives events: the connection is used to send.
                        self.backlog.clear();
                    }
                    self.pass_events();
                    self.receive()?;
                }
                () = check.as_mut() => {
                    let now = Instant::now();
                    self.check(now)?;
                    check.as_mut().reset(self.next_check(now).into());
                }
            }
        }
    }

    /// Sends this and what else is waiting, with as many transmissions in each block as fit.
    fn send(&mut self, first: Outgoing) -> Result<(), Disconnect> {
        let mut bytes = self.take(first);
        let mut close = false;
        while bytes < WRITE_AHEAD_BYTES {
            match self.outgoing.try_recv() {
                Ok(Outgoing::Close) => {
                    close = true;
                    break;
                }
                Ok(outgoing) => bytes += self.take(outgoing),
                Err(_) => break,
            }
        }
        self.seal_requests()?;
        self.write()?;
        if close { Err(Disconnect::ByClient) } else { Ok(()) }
    }

    fn take(&mut self, outgoing: Outgoing) -> usize {
        let before = self.requests.len();
        match outgoing {
            Outgoing::One(request) => self.requests.push(*request),
            Outgoing::Many(requests) => self.requests.extend(requests),
            Outgoing::Close => {}
        }
        let taken = self.requests.get(before..).unwrap_or_default();
        taken.iter().map(|request| LENGTH_BYTES + request.transmission.as_bytes().len()).sum()
    }

    fn seal_requests(&mut self) -> Result<(), Disconnect> {
        if !self.wire.records.has_outgoing() {
            self.wrote_at = Instant::now();
        }
        let sizes: Vec<_> = self
            .requests
            .iter()
            .map(|request| LENGTH_BYTES + request.transmission.as_bytes().len())
            .collect();
        for batch in plan_batches(&sizes) {
            if let Batch::Transmissions(range) = batch {
                let requests = self.requests.get(range).unwrap_or_default();
                self.wire.push(&self.session, requests.iter().map(|request| &request.transmission))?;
            }
        }
        for (request, bytes) in self.requests.drain(..).zip(sizes) {
            if bytes > ringpost_protocol::limits::BLOCK_CONTENT_BYTES {
                // Who no longer waits needs no answer.
                let _ = request.waiting.reply.send(Err(ClientError::Command(CommandFault::TooLarge)));
            } else {
                self.in_flight.insert(request.corr_id, request.waiting);
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Disconnect> {
        while self.wire.records.has_outgoing() {
            match self.stream.try_write(self.wire.records.outgoing()) {
                Ok(bytes) => {
                    self.wire.records.sent(bytes);
                    self.wrote_at = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(network(error)),
            }
        }
        if self.outgoing.is_empty() {
            self.wire.records.release();
        }
        Ok(())
    }

    fn read(&mut self) -> Result<(), Disconnect> {
        match self.stream.try_read_buf(self.wire.records.incoming_room()) {
            Ok(0) => {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "cut off without the end of TLS");
                Err(network(cut))
            }
            Ok(_) => {
                self.received_at = Instant::now();
                self.receive()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(network(error)),
        }
    }

    /// A response may be behind events that nobody receives before the response has come.
    fn may_read(&self) -> bool {
        self.backlog.is_empty() || (!self.in_flight.is_empty() && self.backlog.len() < self.backlog_max)
    }

    /// Handles whole blocks, until events have no more room.
    fn receive(&mut self) -> Result<(), Disconnect> {
        while self.may_read() {
            match self.wire.next()? {
                Next::Block(content) => self.in_flight.receive(content, &self.session, &mut self.backlog)?,
                Next::Incomplete => return Ok(()),
                Next::Closed => return Err(Disconnect::ByRouter),
            }
            self.pass_events();
        }
        Ok(())
    }

    fn pass_events(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.backlog.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => self.backlog.clear(),
            }
        }
    }

    /// While something is under way its time is looked at now and then, not for each command.
    fn next_check(&self, now: Instant) -> Instant {
        if !self.in_flight.is_empty() || self.wire.records.has_outgoing() {
            let tick = self.command_timeout / 8;
            now + tick.clamp(Duration::from_millis(5), Duration::from_secs(1))
        } else {
            match self.keep_alive {
                // While events wait nothing is read: silence means nothing then.
                Some(keep_alive) if self.backlog.is_empty() => self.received_at + keep_alive,
                _ => now + NOTHING_DUE,
            }
        }
    }

    fn check(&mut self, now: Instant) -> Result<(), Disconnect> {
        self.in_flight.expire(now);
        if self.wire.records.has_outgoing() && now.duration_since(self.wrote_at) > self.command_timeout {
            return Err(TransportFault::WriteStalled.into());
        }
        if let Some((sent_at, reply)) = &mut self.ping {
            match reply.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return Ok(()),
                Ok(Err(ClientError::Timeout)) if self.received_at < *sent_at && self.backlog.is_empty() => {
                    return Err(TransportFault::KeepAlive.into());
                }
                _ => self.ping = None,
            }
        }
        match self.keep_alive {
            Some(keep_alive) if self.backlog.is_empty() && now >= self.received_at + keep_alive => {
                self.ping(now)
            }
            _ => Ok(()),
        }
    }

    fn ping(&mut self, now: Instant) -> Result<(), Disconnect> {
        let corr_id = random().map_err(|error| network(io::Error::other(error)))?;
        let (reply, receiver) = oneshot::channel();
        let entity = EntityId::EMPTY;
        let transmission =
            Transmission::new(&self.session, &corr_id, entity.as_bytes(), &Command::Ping, None)
                .map_err(|error| network(io::Error::other(error)))?;
        let waiting = Waiting {
            entity: Some(entity),
            command: Command::Ping.tag(),
            deadline: now + self.command_timeout,
            reply,
        };
        self.ping = Some((now, receiver));
        self.requests.push(Request { transmission, corr_id, waiting });
        self.seal_requests()?;
        self.write()
    }

    /// Tells everyone. The socket is closed first: events may wait long to be received.
    async fn end(mut self, reason: Disconnect) {
        tracing::debug!(%reason, "connection ended");
        self.wire.records.close();
        // Best effort: the peer learns of the end by the socket as well.
        let _ = self.stream.try_write(self.wire.records.outgoing());
        drop(self.stream);
        let error = ClientError::from(&reason);
        // Before the channel is closed: who finds it closed asks for the reason.
        let _ = self.ended.set(reason.clone());
        self.outgoing.close();
        while let Ok(outgoing) = self.outgoing.try_recv() {
            match outgoing {
                Outgoing::One(request) => self.requests.push(*request),
                Outgoing::Many(requests) => self.requests.extend(requests),
                Outgoing::Close => {}
            }
        }
        for request in self.requests {
            let _ = request.waiting.reply.send(Err(error.clone()));
        }
        self.in_flight.fail_all(&error);
        drop(self.outgoing);
        self.backlog.push_back(Event::Disconnected(reason));
        for event in self.backlog {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

/// Waits for room for an event; false if the receiver is gone. The room stays: the task is the only one that sends.
async fn has_room(events: &mpsc::Sender<Event>) -> bool {
    events.reserve().await.is_ok()
}

fn network(error: io::Error) -> Disconnect {
    TransportFault::Network(Arc::new(error)).into()
}
