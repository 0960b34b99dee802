//! Writing a root: create, write and sync its file, delete the one before.

use super::clean::Phase;
use super::config::Mutation;
use super::engine::SegmentLog;
use super::file::{FileKind, FileName};
use super::op::{Buffers, DiskError, FileStep, Op, Purpose};
use super::page::{BLOCK_BYTES, blocks_of};
use super::root::{Floor, Root, RootEntry};

impl<A: Buffers> SegmentLog<A> {
    fn root_file(&self, sequence: u32) -> FileName {
        let kind = FileKind::Root;
        FileName { kind, generation: self.log.generation, shard: self.log.shard, sequence }
    }

    fn root(&self, floor: Floor) -> Root {
        let mut entries = Vec::new();
        for (index, state) in self.cleaning.buckets.iter().enumerate() {
            let Some(bucket) = self.cleaning.bucket_of(index) else { continue };
            let (place, bytes, crc) = match state.image {
                Some(image) => (self.segments.disk_place(image.segment, image.block), image.bytes, image.crc),
                // That a bucket became empty matters while older records of it may be read.
                None if state.lsn > floor.lsn => (self.segments.disk_place(self.current, 0), 0, 0),
                None => continue,
            };
            entries.push(RootEntry { bucket, place, bytes, crc, lsn: state.lsn });
        }
        Root {
            log: self.log,
            // The map has at most 256.
            shards: u16::try_from(self.map.shards()).unwrap_or(u16::MAX),
            sequence: self.cleaning.root_sequence + 1,
            salt: self.salt,
            floor,
            durable_commit: self.synced.commit,
            entries,
        }
    }

    pub(super) fn write_root(&mut self) {
        let mut floor = self.floor();
        if self.config.mutated(Mutation::FloorTooHigh)
            && let Some(later) = self.cleaning.commits.iter().find(|start| start.number > floor.commit)
        {
            floor = later.floor;
        }
        self.cleaning.round.floor = Some(floor);
        self.cleaning.phase = Phase::WritingRoot;
        let root = self.root(floor);
        let blocks = blocks_of(Root::encoded_bytes(root.entries.len()));
        self.cleaning.root_blocks = blocks;
        let bytes = u64::from(blocks) * BLOCK_BYTES as u64;
        let file = self.root_file(root.sequence);
        self.cleaning.pending_root = Some(root);
        self.request(Purpose::Root(FileStep::Create), Op::Create { file, bytes });
    }

    pub(super) fn root_made(&mut self, step: FileStep, result: Result<(), DiskError>) {
        let sequence = self.cleaning.root_sequence + 1;
        let file = self.root_file(sequence);
        match (step, result) {
            (FileStep::Create, Ok(())) => {
                let Some(root) = self.cleaning.pending_root.take() else { return };
                let bytes = blocks_of(Root::encoded_bytes(root.entries.len())) as usize * BLOCK_BYTES;
                let mut buffer = self.pool.lend(bytes);
                if let Some(place) = buffer.as_mut().get_mut(..bytes) {
                    place.fill(0);
                    root.encode(place);
                }
                let write = Op::Write { file, offset: 0, buffer, bytes, durable: false };
                self.request(Purpose::Root(FileStep::Write), write);
            }
            (FileStep::Write, Ok(())) => {
                self.request(Purpose::Root(FileStep::Sync), Op::Sync { file });
            }
            // The former root goes before anything that only it names.
            (FileStep::Sync, Ok(())) if sequence > 1 => {
                let file = self.root_file(sequence - 1);
                self.request(Purpose::Root(FileStep::Delete), Op::Delete { file });
            }
            (FileStep::Delete, Ok(())) if self.cleaning.round.floor.is_none() => self.abandon_root(),
            (FileStep::Sync | FileStep::Delete, Ok(())) => self.root_written(),
            (FileStep::Create | FileStep::Write, Err(DiskError::NoSpace)) => {
                self.cleaning.round.floor = None;
                self.request(Purpose::Root(FileStep::Delete), Op::Delete { file });
            }
            (_, Err(error)) => self.fail("writing a root", &error),
        }
    }

    fn root_written(&mut self) {
        self.cleaning.root_sequence += 1;
        if let Some(floor) = self.cleaning.round.floor.take() {
            self.erase_rest(floor);
        }
        self.cleaning.phase = Phase::ErasingRest;
        self.next_job();
    }
}
