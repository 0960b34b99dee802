//! How a run ends: in quiet, when everything is counted, and with damage done to the disk.

use std::collections::BTreeSet;

use ringpost_store::log::{Durability, FileName, StartError, Started, start};
use ringpost_store::{BodyPlace, Record};

use crate::model::{MARKS, State, difference};
use crate::seen::seen;
use crate::world::World;

const PAGE_MAGIC: &[u8] = b"RPPG";

impl World {
    /// Nothing more happens for as long as erasing may take. Then nothing that ended may be on the disk, all that was
    /// appended is there, and the logs still take records.
    pub(crate) fn quiet_end(&mut self) -> Result<(), String> {
        self.has_fault = false;
        let steps = if self.is_hasty { 600 } else { 30 };
        for _ in 0..steps {
            self.command(5)?;
            self.now_ms += 1 + self.random.below(2);
            self.turn()?;
        }
        // Something ends in every shard, so that there is a last round everywhere.
        for queue in self.queues.clone() {
            let shard = self.home(&queue);
            let today = self.today() + 1;
            self.retry(|world| world.append(shard, vec![Record::Used { queue, today }]))?;
        }
        // A round has some tens of operations one after the other, of at most 20 ms.
        let end_ms = self.now_ms + self.config.log.erase_within_ms + 4_000;
        self.run_until(end_ms)?;
        for (n, known) in self.known.iter().enumerate() {
            if !known.pending.is_empty() && self.config.log.durability == Durability::Always {
                return Err(format!("shard {n} does not write what was appended"));
            }
        }
        self.look_for_history()?;
        for (n, shard) in self.shards.iter().enumerate() {
            let mut expected = self.known[n].durable.clone();
            for (_, batch) in &self.known[n].pending {
                for record in batch {
                    expected.apply(record);
                }
            }
            if seen(&self.disk, shard, false)? != expected {
                return Err(format!("shard {n} shows something else than was sent"));
            }
        }
        Ok(())
    }

    fn retry(&mut self, mut attempt: impl FnMut(&mut Self) -> Result<bool, String>) -> Result<(), String> {
        for _ in 0..2_000 {
            if attempt(self)? {
                return Ok(());
            }
            self.now_ms += 5;
            self.turn()?;
        }
        Err("the log does not take records again".into())
    }

    /// No name of anything that ended stands in any file.
    fn look_for_history(&self) -> Result<(), String> {
        let mut alive = BTreeSet::new();
        for shard in &self.shards {
            alive.extend(seen(&self.disk, shard, false)?.names());
        }
        for (file, image) in self.disk.images() {
            for (n, block) in image.chunks(4_096).enumerate() {
                let mut at = 0;
                while let Some(found) = block[at..].iter().position(|&byte| byte == 0xf7) {
                    at += found;
                    let here = &block[at..];
                    let is_name = MARKS.iter().any(|mark| here.starts_with(mark));
                    if is_name && here.len() >= 16 && !alive.contains(&here[..16]) {
                        let name = String::from_utf8_lossy(&here[..8]).into_owned();
                        let tag = u64::from_le_bytes(here[8..16].try_into().unwrap());
                        return Err(format!(
                            "{file}, block {n}, byte {at}: {name} {tag} of something that ended"
                        ));
                    }
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// Turns over bits at rest. What is damaged must be noticed at the start or at the delivery.
    pub(crate) fn damage(&mut self) -> Result<(), String> {
        if self.config.log.durability == Durability::Always {
            // Some records behind the floor, and one more, whose commit proves that the others were durable. That
            // last one may be lost: there is no telling it from one that never reached the disk.
            for _ in 0..self.random.below(60) {
                self.command(3)?;
                self.turn()?;
            }
            self.run_until(self.now_ms + 100)?;
        } else {
            // A root says so for shards in which nothing ended.
            for shard in &mut self.shards {
                shard.log.renew();
            }
            self.run_until(self.now_ms + 4_000)?;
        }
        if self.known.iter().any(|known| !known.pending.is_empty()) {
            return Ok(());
        }
        let mut expected = State::default();
        for known in &self.known {
            expected.extend(known.durable.clone());
        }
        // Something comes behind it in every shard, so that the disk says that it was durable.
        let mut last = Vec::new();
        if self.config.log.durability == Durability::Always {
            for shard in 0..self.shards.len() {
                let mut service = self.new_service();
                while self.service_home(&service.fingerprint) != shard {
                    service = self.new_service();
                }
                last.push(service.id);
                if !self.add_service(service)? {
                    return Ok(());
                }
            }
            self.run_until(self.now_ms + 100)?;
        }
        self.crash();
        let images = self.disk.images();
        let used: Vec<(FileName, usize, bool)> = images
            .iter()
            .flat_map(|(file, image)| {
                image.chunks(4_096).enumerate().map(move |(n, block)| (*file, n, block))
            })
            .filter(|(_, _, block)| block.iter().any(|&byte| byte != 0))
            .map(|(file, n, block)| (file, n, block.starts_with(PAGE_MAGIC)))
            .collect();
        // One index page or some other blocks: what says that a commit was durable is the next commit's page, so if both are damaged,
        // or that page and a body of the commit, nothing may tell it. There are far fewer pages than other blocks, and only their beginning is full.
        let (pages, others): (Vec<_>, Vec<_>) = used.into_iter().partition(|(_, _, is_page)| *is_page);
        if !pages.is_empty() && self.random.chance(60) {
            let (file, block, _) = pages[self.random.index(pages.len())];
            self.disk.flip(file, block * 32_768 + self.random.index(400 * 8));
        } else {
            for _ in 0..=self.random.below(3) {
                let (file, block, _) = others[self.random.index(others.len())];
                self.disk.flip(file, block * 32_768 + self.random.index(32_768));
            }
        }
        let started: Started<BodyPlace> = match start(&self.disk, &self.config, self.hasher) {
            Ok(started) => started,
            Err(StartError::Corrupt(_)) => {
                self.stats.corrupt_starts += 1;
                return Ok(());
            }
            Err(error) => return Err(format!("the start failed: {error}")),
        };
        let mut all = State::default();
        for shard in &started.shards {
            all.extend(seen(&self.disk, shard, true)?);
        }
        // The last commit of each shard is there or not.
        all.services.retain(|id, _| !last.contains(id));
        if !all.is_same_but_refused(&expected) {
            return Err(format!("damage went unnoticed: {}", difference(&expected, &all)));
        }
        self.stats.refused_bodies += u64::from(all != expected);
        Ok(())
    }
}
