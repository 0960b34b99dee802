//! The state of a new shard, from the images and logs of the shards before it.

use std::ops::Range;

use super::clean::{BucketState, Cleaning, Image};
use super::config::Mutation;
use super::page::{BLOCK_BYTES, blocks_of};
use super::record::Record;
use super::replay::apply;
use super::root::{Root, RootEntry};
use super::segments::{Segments, segment_file};
use super::start::StartConfig;
use super::walk::{Corruption, Files, Page, StartError, Tail};
use super::{BodyPlace, StoredBody, image};
use crate::disk::Disk;
use crate::id::{BUCKETS_PER_PARTITION, Bucket, IdHasher};
use crate::store::Store;

/// Images after which it is told how many queues there will be.
const IMAGES_SAMPLED: usize = 64;

/// One log of the generation before: its root, and what follows its floor.
#[derive(Debug)]
pub struct Former {
    pub root: Root,
    pub tail: Tail,
}

#[derive(Debug)]
pub struct Loaded<B> {
    pub store: Store<B>,
    pub segments: Segments,
    pub cleaning: Cleaning,
    pub skipped: Vec<Corruption>,
    pub replayed: u64,
}

struct Loader<'a, D, B> {
    disk: &'a D,
    files: &'a Files,
    config: &'a StartConfig,
    first_bucket: usize,
    store: Store<B>,
    segments: Segments,
    states: Vec<BucketState>,
    dirty: Vec<Bucket>,
    skipped: Vec<Corruption>,
    replayed: u64,
}

/// Loads the queues of some partitions.
pub fn load<D: Disk, B: StoredBody>(
    disk: &D,
    files: &Files,
    formers: &[Former],
    partitions: Range<usize>,
    hasher: IdHasher,
    config: &StartConfig,
) -> Result<Loaded<B>, StartError> {
    let first_bucket = partitions.start * BUCKETS_PER_PARTITION;
    let mut loader = Loader {
        disk,
        files,
        config,
        first_bucket,
        store: Store::new(hasher),
        segments: Segments::default(),
        states: vec![BucketState::default(); partitions.len() * BUCKETS_PER_PARTITION],
        dirty: Vec::new(),
        skipped: Vec::new(),
        replayed: 0,
    };
    for former in formers {
        loader.load_images(&former.root)?;
        let pages = &former.tail.pages;
        if config.log.mutated(Mutation::ReplayBackwards) {
            for page in pages.iter().rev() {
                loader.replay(page)?;
            }
        } else {
            for page in pages {
                loader.replay(page)?;
            }
        }
    }
    Ok(loader.finish())
}

impl<D: Disk, B: StoredBody> Loader<'_, D, B> {
    fn state(&mut self, bucket: Bucket) -> Option<&mut BucketState> {
        self.states.get_mut(bucket.index().checked_sub(self.first_bucket)?)
    }

    /// Reports damage, or passes over it if that was asked for.
    fn damaged(&mut self, damage: Corruption) -> Result<(), StartError> {
        if !self.config.skip_corrupt {
            return Err(StartError::Corrupt(damage));
        }
        self.skipped.push(damage);
        Ok(())
    }

    fn load_images(&mut self, root: &Root) -> Result<(), StartError> {
        let entries: Vec<&RootEntry> =
            root.entries.iter().filter(|entry| self.state(entry.bucket).is_some()).collect();
        let before = self.store.queue_count();
        let mut image = Vec::new();
        for (n, entry) in entries.iter().enumerate() {
            if n == IMAGES_SAMPLED {
                // Buckets have about as many queues each. A table that grows by itself is moved again and again.
                let sampled = self.store.queue_count() - before;
                self.store.reserve(sampled * (entries.len() - n) / n);
            }
            self.load_image(entry, &mut image)?;
        }
        Ok(())
    }

    fn load_image(&mut self, entry: &RootEntry, bytes: &mut Vec<u8>) -> Result<(), StartError> {
        let Some(state) = self.state(entry.bucket) else { return Ok(()) };
        state.lsn = entry.lsn;
        if entry.bytes == 0 {
            return Ok(());
        }
        let place = entry.place;
        let file = segment_file(place.log, place.sequence);
        let offset = u64::from(place.block) * BLOCK_BYTES as u64;
        let damage = |what: &str| Corruption { file, offset, what: what.into() };
        let Some(&file_bytes) = self.files.get(&file) else {
            return self.damaged(damage("the file of a bucket's image is missing"));
        };
        if offset + u64::from(entry.bytes) > file_bytes {
            return self.damaged(damage("a bucket's image lies behind the end of the file"));
        }
        bytes.resize(entry.bytes as usize, 0);
        self.disk.read(file, offset, bytes)?;
        if crc32c::crc32c(bytes) != entry.crc {
            return self.damaged(damage("a bucket's image is not what was written"));
        }
        let Self { store, segments, .. } = self;
        let segment = |log, sequence| segments.enter(log, sequence);
        if image::restore(bytes, entry.bucket, store, segment).is_err() {
            return self.damaged(damage("a bucket's image is malformed"));
        }
        let segment = self.segments.enter(place.log, place.sequence);
        if let Some(state) = self.state(entry.bucket) {
            state.image = Some(Image { segment, block: place.block, bytes: entry.bytes, crc: entry.crc });
        }
        Ok(())
    }

    fn replay(&mut self, page: &Page) -> Result<(), StartError> {
        let header = page.header;
        let segment = self.segments.enter(header.log, header.sequence);
        for recorded in page.records() {
            let recorded = match recorded {
                Ok(recorded) => recorded,
                Err(damage) => return self.damaged(damage),
            };
            let bucket = recorded.bucket;
            let forgets = self.config.log.mutated(Mutation::ForgetPartition);
            let repeats = self.config.log.mutated(Mutation::IgnoreImageLsn);
            let Some(state) = self.state(bucket) else { continue };
            let is_image = matches!(recorded.record, Record::Image { .. });
            if is_image
                || (recorded.lsn < state.lsn && !repeats)
                || (forgets && bucket.partition().is_multiple_of(16))
            {
                continue;
            }
            if state.dirty_commit == 0 {
                state.dirty_commit = 1;
                self.dirty.push(bucket);
            }
            self.replayed += 1;
            let (lsn, block) = (recorded.lsn, recorded.block);
            let record = recorded
                .record
                .map_body(|meta| B::at(BodyPlace { segment, block, crc: meta.crc, bytes: meta.bytes }));
            if let Err(misfit) = apply(&mut self.store, record) {
                self.damaged(page.corruption(format!("record {lsn} does not fit: {misfit}")))?;
            }
        }
        Ok(())
    }

    /// Counts what lives in which segment. The images of changed buckets do not: they are written anew.
    fn finish(mut self) -> Loaded<B> {
        for state in &mut self.states {
            state.lsn = 0;
            if state.dirty_commit > 0 {
                state.image = None;
            }
            if let Some(image) = &state.image {
                self.segments.count_live(image.segment);
            }
        }
        for body in bodies(&self.store) {
            self.segments.count_live(body.segment);
        }
        let empty: Vec<u32> =
            self.segments.iter().filter(|(_, known)| known.live == 0).map(|(number, _)| number).collect();
        for number in empty {
            self.segments.remove(number);
        }
        Loaded {
            store: self.store,
            segments: self.segments,
            cleaning: Cleaning::new(self.first_bucket, self.states, self.dirty),
            skipped: self.skipped,
            replayed: self.replayed,
        }
    }
}

/// The places of all bodies.
fn bodies<B: StoredBody>(store: &Store<B>) -> impl Iterator<Item = BodyPlace> {
    store.bodies().map(StoredBody::place)
}

/// What of a shard lives in each segment: blocks and counts.
pub fn live_extents<B: StoredBody>(loaded: &Loaded<B>, mut each: impl FnMut(u32, (u32, u32))) {
    for body in bodies(&loaded.store) {
        if !body.is_empty() {
            each(body.segment, (body.block, blocks_of(body.len())));
        }
    }
    for image in loaded.cleaning.buckets.iter().filter_map(|state| state.image) {
        each(image.segment, (image.block, blocks_of(image.bytes as usize)));
    }
}
