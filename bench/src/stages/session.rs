//! Whole sessions without sockets: what clients send goes in as records, and what they get comes out as records.

use ringpost_protocol::command::{Command, NewQueue, QueueRequest, SubscribeMode};
use ringpost_protocol::crypto::DhPrivateKey;
use ringpost_protocol::crypto::authorization::AuthPrivateKey;
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Format, Transmission};

use super::Step;
use crate::Outcome;
use crate::material::{VERSION, id, send, transmission};
use crate::meter::Meter;
use crate::world::{ClientEnd, Identity, World, connect, records};

/// A router with clients.
struct Site {
    world: World,
    clients: Vec<ClientEnd>,
    /// What a client sends, and what it gets.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// Makes correlation IDs.
    commands: u64,
}

/// A queue as its recipient knows it.
struct Queue {
    key: AuthPrivateKey,
    recipient_id: [u8; 24],
    sender_id: [u8; 24],
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Ok,
    Sok,
    Pong,
    Message([u8; 24]),
}

fn answer(bytes: &[u8], session_id: &[u8]) -> Outcome<Awaited> {
    let parsed = Transmission::parse(bytes, Format::of_session(VERSION));
    let parsed = parsed.map_err(|bad| format!("{:?}", bad.error))?;
    match parsed.decode_response(VERSION, session_id).map_err(|error| format!("{error:?}"))? {
        Response::Ok => Ok(Awaited::Ok),
        Response::Sok { .. } => Ok(Awaited::Sok),
        Response::Pong => Ok(Awaited::Pong),
        Response::Msg { msg_id, .. } => Ok(Awaited::Message(msg_id.try_into()?)),
        other => Err(format!("unexpected: {other:?}").into()),
    }
}

impl Site {
    fn new(clients: u32) -> Outcome<Self> {
        let identity = Identity::new()?;
        let (mut world, mut ends) = (World::new()?, Vec::new());
        for place in 0..clients {
            let (client, router) = connect(&identity, place, &mut Meter::untimed())?;
            world.add(router);
            ends.push(client);
        }
        Ok(Self { world, clients: ends, incoming: records(), outgoing: records(), commands: 0 })
    }

    fn corr_id(&mut self) -> [u8; 24] {
        self.commands += 1;
        id(self.commands, 9)
    }

    fn command(
        &mut self,
        from: usize,
        key: Option<&AuthPrivateKey>,
        entity_id: &[u8],
        command: &Command<'_>,
    ) -> Outcome<Vec<u8>> {
        let corr_id = self.corr_id();
        transmission(self.clients[from].scope(), key, &corr_id, entity_id, command)
    }

    /// Lets a shard work on a block of these transmissions.
    fn execute(&mut self, from: usize, transmissions: &[Vec<u8>], meter: &mut Meter) -> Outcome {
        let length = self.clients[from].seal(transmissions, &mut self.incoming)?;
        let buffer = self.world.received(&self.incoming[..length])?;
        meter.run(|| self.world.receive(from, buffer, length))
    }

    /// Writes what waits for a client. Gives what it reads.
    fn write(&mut self, to: usize, meter: &mut Meter) -> Outcome<Vec<Vec<u8>>> {
        let length = meter.run(|| self.world.write(to, &mut self.outgoing))?;
        let mut got = Vec::new();
        self.clients[to].open(&mut self.outgoing[..length], |bytes| {
            got.push(bytes.to_vec());
            Ok(())
        })?;
        Ok(got)
    }

    /// Writes and looks at the answers, in any order.
    fn answers(&mut self, to: usize, meter: &mut Meter) -> Outcome<Vec<Awaited>> {
        let got = self.write(to, meter)?;
        got.iter().map(|bytes| answer(bytes, self.clients[to].session_id.as_ref())).collect()
    }

    fn new_command(&mut self, at: usize, number: u64) -> Outcome<(AuthPrivateKey, Vec<u8>)> {
        let mut seed = [5; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let key = AuthPrivateKey::ed25519(&seed);
        let new = NewQueue {
            recipient_key: key.public(),
            recipient_dh_key: DhPrivateKey::from_bytes([6; 32]).public(),
            basic_auth: None,
            subscribe: SubscribeMode::Subscribe,
            request: Some(QueueRequest::Messaging(None)),
            notifier: None,
        };
        let bytes = self.command(at, Some(&key), &[], &Command::New(Box::new(new)))?;
        Ok((key, bytes))
    }

    fn new_queue(&mut self, at: usize, number: u64, meter: &mut Meter) -> Outcome<Queue> {
        let (key, bytes) = self.new_command(at, number)?;
        self.execute(at, &[bytes], meter)?;
        let got = self.write(at, meter)?;
        let [bytes] = &got[..] else { return Err("no answer to NEW".into()) };
        let parsed = Transmission::parse(bytes, Format::of_session(VERSION));
        let parsed = parsed.map_err(|bad| format!("{:?}", bad.error))?;
        match parsed.decode_response(VERSION, self.clients[at].session_id.as_ref()) {
            Ok(Response::Ids(ids)) => {
                let (recipient_id, sender_id) = (ids.recipient_id.try_into()?, ids.sender_id.try_into()?);
                Ok(Queue { key, recipient_id, sender_id })
            }
            other => Err(format!("no IDS: {other:?}").into()),
        }
    }
}

/// The way of a message. The answer to the ACK waits in the recipient's outbox and goes with the next message, as it
/// does where several are under way.
pub fn message() -> Outcome<Step> {
    let mut site = Site::new(2)?;
    let (sender, recipient) = (0, 1);
    let mut unmetered = Meter::untimed();
    let queue = site.new_queue(recipient, 1, &mut unmetered)?;
    let sender_key = AuthPrivateKey::x25519([8; 32]);
    let secure = Command::SKey(sender_key.public());
    let bytes = site.command(sender, Some(&sender_key), &queue.sender_id, &secure)?;
    site.execute(sender, &[bytes], &mut unmetered)?;
    if site.answers(sender, &mut unmetered)? != [Awaited::Ok] {
        return Err("SKEY was refused".into());
    }
    Ok(Box::new(move |meter| {
        let corr_id = site.corr_id();
        let bytes = send(site.clients[sender].scope(), &sender_key, &corr_id, &queue.sender_id)?;
        site.execute(sender, &[bytes], meter)?;
        if site.answers(sender, meter)? != [Awaited::Ok] {
            return Err("SEND was refused".into());
        }
        let got = site.answers(recipient, meter)?;
        let message_id = got.iter().find_map(|answer| match answer {
            Awaited::Message(id) => Some(*id),
            _ => None,
        });
        let message_id = message_id.ok_or("no message was delivered")?;
        let ack = Command::Ack { msg_id: &message_id };
        let bytes = site.command(recipient, Some(&queue.key), &queue.recipient_id, &ack)?;
        site.execute(recipient, &[bytes], meter)
    }))
}

pub fn ping() -> Outcome<Step> {
    let mut site = Site::new(1)?;
    Ok(Box::new(move |meter| {
        let bytes = site.command(0, None, &[], &Command::Ping)?;
        site.execute(0, &[bytes], meter)?;
        if site.answers(0, meter)? == [Awaited::Pong] { Ok(()) } else { Err("no PONG".into()) }
    }))
}

/// SUBs in one block.
const SUBS: u64 = 100;

pub fn subscribe() -> Outcome<Step> {
    let mut site = Site::new(1)?;
    let mut queues = Vec::new();
    for number in 0..SUBS {
        queues.push(site.new_queue(0, number, &mut Meter::untimed())?);
    }
    Ok(Box::new(move |meter| {
        let mut block = Vec::new();
        for queue in &queues {
            block.push(site.command(0, Some(&queue.key), &queue.recipient_id, &Command::Sub)?);
        }
        site.execute(0, &block, meter)?;
        let got = site.answers(0, meter)?;
        if got.len() == queues.len() && got.iter().all(|answer| *answer == Awaited::Sok) {
            Ok(())
        } else {
            Err(format!("SUB was refused: {} answers", got.len()).into())
        }
    }))
}

pub fn create() -> Outcome<Step> {
    let mut site = Site::new(1)?;
    let mut number = 0;
    Ok(Box::new(move |meter| {
        number += 1;
        site.new_queue(0, number, meter).map(drop)
    }))
}
