//! How a run ends: all is delivered, nothing that ended is left on the disk, damage is not delivered.

use std::collections::BTreeSet;

use ringpost_store::{Content, Log, StoredBody};

use crate::bodies::{BODY_MARK, body_name};
use crate::commands::Asked;
use crate::model::Verdict;
use crate::world::World;

impl World {
    pub fn end(&mut self) -> Verdict {
        self.has_fault = false;
        if self.random.chance(50) {
            self.forget_all()?;
            self.drain(true)?;
        } else {
            self.drain(true)?;
            self.forget_all()?;
        }
        self.count();
        Ok(())
    }

    /// Receives and acknowledges everything. If it may, some of it is damaged on the disk before.
    pub fn drain(&mut self, may_damage: bool) -> Verdict {
        if may_damage && self.random.chance(50) {
            self.damage();
        }
        // A connection may have few subscriptions.
        let conns: Vec<usize> = (0..self.model.queues.len()).map(|_| self.connect()).collect();
        for (queue, &conn) in conns.iter().enumerate() {
            let command = self.recipient_command(queue, Asked::Sub);
            self.send_block(conn, vec![command]);
        }
        loop {
            self.come_to_rest()?;
            let mut has_received = false;
            for &conn in &conns {
                for (queue, id) in std::mem::take(&mut self.conns[conn].inbox) {
                    has_received = true;
                    let command = self.recipient_command(queue, Asked::Ack(id.to_vec()));
                    self.send_block(conn, vec![command]);
                }
            }
            if !has_received {
                break;
            }
        }
        for (queue, &conn) in conns.iter().enumerate() {
            let command = self.recipient_command(queue, Asked::Que);
            self.send_block(conn, vec![command]);
        }
        self.come_to_rest()?;
        match self.model.queues.iter().map(|queue| queue.state.messages.len()).sum() {
            0 => Ok(()),
            left => Err(format!("{left} messages are left after all were received")),
        }
    }

    /// Turns bits of bodies at rest.
    fn damage(&mut self) {
        let mut places = Vec::new();
        for shard in &self.shards {
            for (_, queue) in shard.service.store().queues_between(0..u32::MAX) {
                for message in queue.messages().into_iter().flatten() {
                    if let Content::Sent { body, .. } = &message.content {
                        places.extend(shard.service.log().read(body.place()).map(|read| (read, message.id)));
                    }
                }
            }
        }
        for (read, id) in places {
            let entries = self.model.queues.iter().flat_map(|queue| &queue.state.messages);
            let sent = entries.filter(|entry| entry.id == Some(id)).find_map(|entry| entry.sent);
            if let Some(sent) = sent.filter(|sent| sent.tag > 0)
                && self.random.chance(30)
            {
                self.stats.damaged += 1;
                self.model.damaged.insert(sent.tag);
                let byte = usize::try_from(read.offset).unwrap() + self.random.index(read.body_bytes);
                self.disk.flip(read.file, byte * 8 + self.random.index(8));
            }
        }
    }

    /// Nothing more happens for as long as erasing may take. Then nothing that ended may be on the disk.
    fn forget_all(&mut self) -> Verdict {
        for shard in &mut self.shards {
            // Nothing expires any more: that would end too late.
            shard.next_expiry_ms = u64::MAX;
        }
        // Something ends in every shard, so that there is a last round everywhere.
        let conns: Vec<usize> = (0..self.shards.len()).map(|shard| self.connect_to(shard)).collect();
        for &conn in &conns {
            let asked = Asked::New { delivery_key: 0, is_messaging: false, subscribes: false };
            let command = self.command(0, asked, Some(1));
            self.send_block(conn, vec![command]);
        }
        self.come_to_rest()?;
        for (shard, &conn) in conns.iter().enumerate() {
            // If no queue could be made, another goes.
            let ending = (0..self.model.queues.len())
                .rev()
                .find(|&queue| self.model.exists(queue) && self.home(queue) == shard);
            let Some(queue) = ending else { return Ok(()) };
            let command = self.recipient_command(queue, Asked::Del);
            self.send_block(conn, vec![command]);
        }
        self.come_to_rest()?;
        // A round has some tens of operations one after the other, of at most 20 ms.
        self.run_until(self.now_ms + self.config.log.erase_within_ms + 4_000)?;
        self.look_for_history()
    }

    /// No name of anything that ended stands in any file.
    fn look_for_history(&self) -> Verdict {
        let mut bodies = BTreeSet::new();
        let mut ids = BTreeSet::new();
        for shard in &self.shards {
            for (_, queue) in shard.service.store().queues_between(0..u32::MAX) {
                ids.extend([queue.recipient_id, queue.sender_id]);
                ids.extend(queue.messages().into_iter().flatten().map(|message| message.id));
            }
        }
        let mut ended = Vec::new();
        for queue in &self.model.queues {
            ended.extend([queue.recipient_id, queue.sender_id]);
            let messages = queue.state.messages.iter();
            let left = messages.filter(|entry| entry.id.is_none_or(|id| ids.contains(&id)));
            bodies.extend(left.filter_map(|entry| entry.sent).map(|sent| body_name(sent.tag)));
        }
        ended.extend(self.model.message_ids.keys());
        ended.retain(|id| !ids.contains(id));
        let ended: BTreeSet<[u8; 24]> = ended.into_iter().collect();
        let mut begins = vec![false; 1 << 16];
        for id in &ended {
            begins[usize::from(u16::from_le_bytes([id[0], id[1]]))] = true;
        }
        begins[usize::from(u16::from_le_bytes([BODY_MARK[0], BODY_MARK[1]]))] = true;
        for (file, image) in self.disk.images() {
            for (n, block) in image.chunks(4_096).enumerate().filter(|(_, b)| b.iter().any(|&byte| byte != 0))
            {
                for (at, pair) in block.windows(2).enumerate() {
                    if !begins[usize::from(u16::from_le_bytes([pair[0], pair[1]]))] {
                        continue;
                    }
                    let here = &block[at..];
                    let is_body = here.starts_with(&BODY_MARK)
                        && here.first_chunk().is_some_and(|name: &[u8; 16]| !bodies.contains(name));
                    let is_id = here.first_chunk().is_some_and(|id: &[u8; 24]| ended.contains(id));
                    if is_body || is_id {
                        let what = if is_body { "a body" } else { "an ID" };
                        return Err(format!("{file}, block {n}, byte {at}: {what} of something that ended"));
                    }
                }
            }
        }
        Ok(())
    }
}
