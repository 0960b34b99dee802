//! What clients do.

use crate::bodies::{NUMBERED_BYTES, Sent};
use crate::commands::{Asked, Pending};
use crate::keys::KEYS;
use crate::world::World;

/// Batches of a connection under way, as the runtime allows.
const BATCHES_MAX: usize = 4;
const CONNECTIONS_MAX: usize = 4;
const QUEUES_MAX: usize = 8;

impl World {
    /// A client does something.
    pub fn act(&mut self) {
        let open: Vec<usize> = (0..self.conns.len()).filter(|&conn| self.conns[conn].is_open).collect();
        if open.is_empty() || (open.len() < CONNECTIONS_MAX && self.random.chance(3)) {
            self.connect();
            return;
        }
        let conn = open[self.random.index(open.len())];
        if self.random.chance(1) {
            self.disconnect(conn);
            return;
        }
        if self.conns[conn].batches.len() >= BATCHES_MAX {
            return;
        }
        let mut commands = Vec::new();
        let count = if self.random.chance(60) { 1 } else { 1 + self.random.below(5) };
        for _ in 0..count {
            let command = self.any_command(conn);
            let has_short = |pending: &Pending| matches!(&pending.asked, Asked::Send(sent) if sent.bytes < NUMBERED_BYTES);
            // Two that cannot be told from each other.
            if has_short(&command) && commands.iter().any(has_short) {
                continue;
            }
            commands.push(command);
        }
        self.send_block(conn, commands);
    }

    fn any_command(&mut self, conn: usize) -> Pending {
        let queues: Vec<usize> = (0..self.model.queues.len())
            .filter(|&queue| self.model.exists(queue) || self.random.chance(2))
            .collect();
        if queues.is_empty() || (queues.len() < QUEUES_MAX && self.random.chance(4)) {
            let asked = Asked::New {
                delivery_key: self.random.index(KEYS),
                is_messaging: self.random.chance(60),
                subscribes: self.random.chance(60),
            };
            let key = Some(self.random.index(KEYS));
            return self.command(0, asked, key);
        }
        let queue = queues[self.random.index(queues.len())];
        match self.random.below(200) {
            0..78 => self.any_send(queue),
            78..145 => self.any_acknowledgement(conn, queue),
            145..165 => self.any_subscription(conn, queue),
            165..175 => self.recipient_command(queue, Asked::Get),
            175..183 => self.recipient_command(queue, Asked::Que),
            183..185 => {
                let key = self.random.index(KEYS);
                self.recipient_command(queue, Asked::Key(key))
            }
            185..187 => {
                let key = self.random.index(KEYS);
                self.command(queue, Asked::SKey(key), Some(key))
            }
            187 => self.recipient_command(queue, Asked::Off),
            188..191 => self.recipient_command(queue, Asked::Del),
            191 => {
                // Most likely not the right one.
                let key = Some(self.random.index(KEYS));
                self.command(queue, Asked::Sub, key)
            }
            _ => self.command(queue, Asked::Ping, None),
        }
    }

    fn any_send(&mut self, queue: usize) -> Pending {
        let bytes = match self.random.below(40) {
            0..2 => self.random.index(NUMBERED_BYTES),
            2..16 => NUMBERED_BYTES + self.random.index(300),
            16..26 => self.random.index(16_049),
            26 => 16_049,
            _ => 16_048,
        };
        let bytes = if bytes < NUMBERED_BYTES && self.has_unnamed(queue) { 100 } else { bytes };
        self.next_tag += 1;
        let tag = if bytes < NUMBERED_BYTES { 0 } else { self.next_tag };
        let sent = Sent { tag, bytes, notification: self.random.chance(30) };
        let known = self.model.queues[queue].state.sender_key;
        let key = if self.random.chance(95) { known } else { Some(self.random.index(KEYS)) };
        self.command(queue, Asked::Send(sent), key)
    }

    /// Mostly of what was delivered.
    fn any_acknowledgement(&mut self, conn: usize, queue: usize) -> Pending {
        let connection = &mut self.conns[conn];
        let roll = self.random.below(100);
        if roll < 90 && !connection.inbox.is_empty() {
            let (queue, id) = connection.inbox.swap_remove(self.random.index(connection.inbox.len()));
            connection.done = Some((queue, id));
            return self.recipient_command(queue, Asked::Ack(id.to_vec()));
        }
        match (connection.done, roll % 6) {
            (Some((queue, id)), 0) => self.recipient_command(queue, Asked::Ack(id.to_vec())),
            (_, 1) => self.recipient_command(queue, Asked::Ack(Vec::new())),
            (_, 2) => self.recipient_command(queue, Asked::Ack(vec![7; 24])),
            _ => self.any_subscription(conn, queue),
        }
    }

    /// Mostly of a queue to which no other connection has subscribed.
    fn any_subscription(&mut self, conn: usize, queue: usize) -> Pending {
        let subscription = self.model.queues[queue].subscription;
        let is_others =
            subscription.is_some_and(|other| other.conn != conn && !self.model.closed.contains(&other.conn));
        if is_others && self.random.chance(75) {
            return self.any_send(queue);
        }
        self.recipient_command(queue, Asked::Sub)
    }
}
