//! The segments that hold something of a shard: which, and how much of it lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use slab::Slab;

use super::file::{FileKind, FileName};
use super::image::DiskPlace;
use super::page::LogKey;

#[derive(Debug)]
pub struct Segment {
    pub log: LogKey,
    pub sequence: u32,
    /// Bodies of messages that are there, and valid images.
    pub live: u32,
    /// No commit begins here any more.
    pub sealed: bool,
    /// The newest commit of this log in the segment. 0 in segments of earlier generations, whose records were
    /// all read when the log was started.
    pub last_commit: u64,
    /// Of the file, if this log has made it in this life.
    pub blocks: u32,
    /// Of those, without what died with the segment.
    pub punched_blocks: u32,
    /// How many shards have something in a segment of an earlier generation. The last one deletes the file.
    pub users: Option<Arc<AtomicUsize>>,
}

impl Segment {
    pub fn file(&self) -> FileName {
        segment_file(self.log, self.sequence)
    }

    /// Whether nothing in the segment is needed by this shard once recovery begins at `floor_commit`.
    pub fn is_dead(&self, floor_commit: u64) -> bool {
        self.live == 0 && self.sealed && self.last_commit < floor_commit
    }
}

pub fn segment_file(log: LogKey, sequence: u32) -> FileName {
    FileName { kind: FileKind::Segment, generation: log.generation, shard: log.shard, sequence }
}

#[derive(Debug, Default)]
pub struct Segments {
    slots: Slab<Segment>,
    by_key: HashMap<(LogKey, u32), u32>,
}

impl Segments {
    /// The number of a segment in this table; it is entered if it is new.
    pub fn enter(&mut self, log: LogKey, sequence: u32) -> u32 {
        if let Some(&number) = self.by_key.get(&(log, sequence)) {
            return number;
        }
        let segment = Segment {
            log,
            sequence,
            live: 0,
            sealed: false,
            last_commit: 0,
            blocks: 0,
            punched_blocks: 0,
            users: None,
        };
        // A segment has a file: there are fewer than 2^32.
        let number = u32::try_from(self.slots.insert(segment)).unwrap_or(u32::MAX);
        self.by_key.insert((log, sequence), number);
        number
    }

    pub fn get(&self, number: u32) -> Option<&Segment> {
        self.slots.get(number as usize)
    }

    pub fn get_mut(&mut self, number: u32) -> Option<&mut Segment> {
        self.slots.get_mut(number as usize)
    }

    pub fn find(&self, log: LogKey, sequence: u32) -> Option<u32> {
        self.by_key.get(&(log, sequence)).copied()
    }

    pub fn remove(&mut self, number: u32) -> Option<Segment> {
        let segment = self.slots.try_remove(number as usize)?;
        self.by_key.remove(&(segment.log, segment.sequence));
        Some(segment)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.slots.iter().map(|(number, segment)| (u32::try_from(number).unwrap_or(u32::MAX), segment))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Segment> {
        self.slots.iter_mut().map(|(_, segment)| segment)
    }

    pub fn seal_all(&mut self) {
        for segment in self.iter_mut() {
            segment.sealed = true;
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Places of this table as files name them.
    pub fn disk_place(&self, segment: u32, block: u32) -> DiskPlace {
        match self.get(segment) {
            Some(known) => DiskPlace { log: known.log, sequence: known.sequence, block },
            // No live place names a segment that was removed; a root that did would be refused at the next start.
            None => DiskPlace { log: LogKey { generation: 0, shard: 0 }, sequence: 0, block },
        }
    }

    pub fn count_live(&mut self, segment: u32) {
        if let Some(segment) = self.get_mut(segment) {
            segment.live += 1;
        }
    }

    pub fn count_dead(&mut self, segment: u32) {
        if let Some(segment) = self.get_mut(segment) {
            segment.live = segment.live.saturating_sub(1);
        }
    }
}
