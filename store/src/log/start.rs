//! Starting: the state from the files of the generation before, and a new generation that takes records.
//!
//! Every start opens a new generation. Each of its shards loads its partitions, writes images of what changed since the
//! former floors, and a root; when all shards have done that, the roots before are deleted, and only then the logs
//! take records. So there is always one generation that is complete, and all records are in the logs of the newest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::StoredBody;
use super::clean::Cause;
use super::config::{LogConfig, Mutation};
use super::engine::SegmentLog;
use super::erase::{Job, PUNCH_RANGES_MAX, coalesce};
use super::file::{FileKind, FileName};
use super::load::{Former, Loaded, live_extents, load};
use super::op::{Completion, DiskError, Op};
use super::page::{BLOCK_BYTES, LogKey, PageHeader, SegmentHeader, blocks_of};
use super::root::Root;
use super::segments::segment_file;
use super::spare::smaller;
use super::walk::{Corruption, Files, StartError, walk};
use crate::disk::{Disk, HeapBuffer, HeapBuffers};
use crate::id::{IdHasher, PartitionMap};
use crate::store::Store;

#[derive(Clone, Debug)]
pub struct StartConfig {
    pub log: LogConfig,
    /// Of this start; it may be another number than before.
    pub shards: usize,
    /// Passes over what is damaged instead of refusing to start. What was there is lost.
    pub skip_corrupt: bool,
    /// Secret and random: makes it impossible to send a body that passes for a page of the log.
    pub salt: u64,
    /// One thread a shard; otherwise all in the caller's.
    pub threads: bool,
}

/// A shard with its queues. The log's buffers are ordinary memory: see [`SegmentLog::with_buffers`].
#[derive(Debug)]
pub struct StartedShard<B> {
    pub log: SegmentLog<HeapBuffers>,
    pub store: Store<B>,
}

#[derive(Debug)]
pub struct Started<B> {
    pub shards: Vec<StartedShard<B>>,
    pub generation: u32,
    /// Records applied after the images.
    pub replayed: u64,
    /// Where commits that a crash had left incomplete were cut off. Nothing in them had been answered.
    pub torn: Vec<(FileName, u64)>,
    /// Damage that was passed over.
    pub skipped: Vec<Corruption>,
}

/// Loads what is there and starts a log for each shard.
pub fn start<D, B>(disk: &D, config: &StartConfig, hasher: IdHasher) -> Result<Started<B>, StartError>
where
    D: Disk + Sync,
    B: StoredBody + Send,
{
    let map = PartitionMap::new(config.shards).ok_or(StartError::Shards)?;
    let block_bytes = BLOCK_BYTES as u64;
    let segment_bytes = config.log.segment_bytes;
    if !segment_bytes.is_multiple_of(block_bytes)
        || !(16 * block_bytes..=u64::from(u32::MAX)).contains(&segment_bytes)
    {
        return Err(StartError::SegmentBytes);
    }
    let files: Files = disk.list()?.into_iter().collect();
    let roots = newest_complete(disk, &files)?;
    let newest = files.keys().map(|file| file.generation).max().unwrap_or(0);
    let files = without_unfinished(disk, files, &roots)?;
    let generation = newest
        .checked_add(1)
        .ok_or_else(|| DiskError::Failed("no number for a generation is left".into()))?;
    let mut formers = Vec::new();
    for root in roots {
        let tail = walk(disk, &files, &root, config)?;
        formers.push(Former { root, tail });
    }
    let start = Start { disk, config, files: &files, formers: &formers, map, generation, hasher };
    let based = start.base_all()?;
    start.finish(based)
}

struct Start<'a, D> {
    disk: &'a D,
    config: &'a StartConfig,
    files: &'a Files,
    formers: &'a [Former],
    map: PartitionMap,
    generation: u32,
    hasher: IdHasher,
}

struct Based<B> {
    shard: StartedShard<B>,
    /// What lives in which segment of earlier generations.
    live: BTreeMap<(LogKey, u32), Vec<(u32, u32)>>,
    replayed: u64,
    skipped: Vec<Corruption>,
}

impl<D: Disk + Sync> Start<'_, D> {
    fn base_all<B: StoredBody + Send>(&self) -> Result<Vec<Based<B>>, StartError> {
        let shards = 0..self.config.shards;
        if !self.config.threads {
            let hurries = self.config.log.mutated(Mutation::HurryStart);
            return shards
                .map(|shard| {
                    let based = self.base(shard)?;
                    if hurries {
                        self.delete_old_roots()?;
                    }
                    Ok(based)
                })
                .collect();
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = shards.map(|shard| scope.spawn(move || self.base(shard))).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(based) => based,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// Loads a shard and writes its first root.
    fn base<B: StoredBody>(&self, shard: usize) -> Result<Based<B>, StartError> {
        let partitions: Range<usize> = self.map.partitions(shard);
        let loaded: Loaded<B> =
            load(self.disk, self.files, self.formers, partitions, self.hasher, self.config)?;
        let mut live: BTreeMap<(LogKey, u32), Vec<(u32, u32)>> = BTreeMap::new();
        live_extents(&loaded, |segment, extent| {
            if let Some(known) = loaded.segments.get(segment) {
                live.entry((known.log, known.sequence)).or_default().push(extent);
            }
        });
        let Loaded { store, mut segments, cleaning, skipped, replayed } = loaded;
        segments.seal_all();
        // There are at most 256 shards.
        let key = LogKey { generation: self.generation, shard: u16::try_from(shard).unwrap_or(u16::MAX) };
        // Shards do not share a salt, so that no page of one passes for another's.
        let salt = self.config.salt.wrapping_add((u64::from(self.generation) << 16) + shard as u64);
        let inherits = !self.formers.is_empty();
        let mut log = SegmentLog::new(
            self.config.log.clone(),
            HeapBuffers,
            key,
            (self.map, salt, inherits),
            segments,
            cleaning,
        );
        log.current_blocks = self.make_first_segment(&log)?;
        log.begin_round(Cause::Time);
        while !log.is_based() {
            log.advance(0, &store);
            let mut has_moved = false;
            while let Some(request) = log.next_request() {
                has_moved = true;
                let result = self.disk.perform(&request.op);
                let buffer = match request.op {
                    Op::Write { buffer, .. } => Some(buffer),
                    _ => None,
                };
                log.complete(Completion { token: request.token, result, buffer });
            }
            if let Some(failure) = log.failure() {
                return Err(StartError::Disk(DiskError::Failed(failure.to_owned())));
            }
            if !has_moved && log.has_given_up() {
                return Err(StartError::Disk(DiskError::NoSpace));
            }
        }
        Ok(Based { shard: StartedShard { log, store }, live, replayed, skipped })
    }

    /// Gives its blocks: fewer than wanted if there is no space for more.
    fn make_first_segment(&self, log: &SegmentLog<HeapBuffers>) -> Result<u32, StartError> {
        let mut blocks = log.segment_blocks();
        let file = segment_file(log.segment_header(1, blocks).log, 1);
        loop {
            let bytes = u64::from(blocks) * BLOCK_BYTES as u64;
            match (self.disk.perform(&Op::<HeapBuffer>::Create { file, bytes }), smaller(blocks)) {
                (Err(DiskError::NoSpace), Some(fewer)) => blocks = fewer,
                (Err(error), _) => return Err(error.into()),
                (Ok(()), _) => break,
            }
        }
        let header = log.segment_header(1, blocks);
        let mut buffer = HeapBuffer::new(BLOCK_BYTES);
        header.encode(buffer.as_mut());
        self.disk.perform(&Op::Write { file, offset: 0, buffer, bytes: BLOCK_BYTES, durable: false })?;
        self.disk.perform(&Op::<HeapBuffer>::Sync { file })?;
        Ok(blocks)
    }

    fn delete(&self, file: FileName) -> Result<(), StartError> {
        Ok(self.disk.perform(&Op::<HeapBuffer>::Delete { file })?)
    }

    fn delete_old_roots(&self) -> Result<(), StartError> {
        for &file in self.files.keys().filter(|file| file.kind == FileKind::Root) {
            self.delete(file)?;
        }
        Ok(())
    }

    /// All shards have their root: what came before is deleted, or punched when the logs run.
    fn finish<B: StoredBody>(&self, mut based: Vec<Based<B>>) -> Result<Started<B>, StartError> {
        self.delete_old_roots()?;
        let mut live: BTreeMap<(LogKey, u32), Vec<(u32, u32)>> = BTreeMap::new();
        let mut users: HashMap<(LogKey, u32), Arc<AtomicUsize>> = HashMap::new();
        for shard in &mut based {
            for (key, extents) in std::mem::take(&mut shard.live) {
                live.entry(key).or_default().extend(extents);
            }
            for segment in shard.shard.log.segments.iter_mut() {
                if segment.log.generation < self.generation {
                    let key = (segment.log, segment.sequence);
                    // An empty body lives in a segment, but has no blocks in it.
                    live.entry(key).or_default();
                    let count = users.entry(key).or_default();
                    count.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
                    segment.users = Some(Arc::clone(count));
                }
            }
        }
        let used: HashSet<FileName> =
            users.keys().map(|&(log, sequence)| segment_file(log, sequence)).collect();
        for &file in self.files.keys() {
            if file.kind == FileKind::Segment && !used.contains(&file) {
                self.delete(file)?;
            }
        }
        for (key, mut extents) in live {
            extents.push((0, 1));
            let file = segment_file(key.0, key.1);
            let blocks =
                blocks_of(usize::try_from(self.files.get(&file).copied().unwrap_or(0)).unwrap_or(usize::MAX));
            let gaps = gaps(extents, blocks);
            let user = based.iter_mut().find_map(|shard| {
                let log = &mut shard.shard.log;
                Some((log.segments.find(key.0, key.1)?, log))
            });
            if let Some((segment, log)) = user {
                for ranges in gaps.chunks(PUNCH_RANGES_MAX) {
                    log.segments.count_live(segment);
                    let job = Job { file, ranges: ranges.to_vec(), hold: Some(segment), release: None };
                    log.cleaning.jobs.push_back(job);
                }
            }
        }
        let mut started = Started {
            shards: Vec::new(),
            generation: self.generation,
            replayed: 0,
            torn: self.formers.iter().filter_map(|former| former.tail.torn).collect(),
            skipped: self.formers.iter().flat_map(|former| former.tail.skipped.clone()).collect(),
        };
        for shard in based {
            started.replayed += shard.replayed;
            started.skipped.extend(shard.skipped);
            started.shards.push(shard.shard);
        }
        Ok(started)
    }
}

/// What lies between extents, up to `end`.
fn gaps(mut extents: Vec<(u32, u32)>, end: u32) -> Vec<(u32, u32)> {
    coalesce(&mut extents);
    let mut gaps = Vec::new();
    let mut at = 0;
    for (block, blocks) in extents {
        if block > at {
            gaps.push((at, block - at));
        }
        at = block + blocks;
    }
    if end > at {
        gaps.push((at, end - at));
    }
    gaps
}

/// Deletes the files of a later generation, whose start did not come to its end: as long as the roots before it are there its
/// logs have taken no records, and it may have failed for want of the space that these files take.
fn without_unfinished<D: Disk>(disk: &D, mut files: Files, roots: &[Root]) -> Result<Files, StartError> {
    let Some(complete) = roots.first().map(|root| root.log.generation) else { return Ok(files) };
    for file in files.keys().filter(|file| file.generation > complete) {
        disk.perform(&Op::<HeapBuffer>::Delete { file: *file })?;
    }
    files.retain(|file, _| file.generation <= complete);
    Ok(files)
}

/// The roots of the newest generation of which every shard has one. None at all: this is the first start.
pub(super) fn newest_complete<D: Disk>(disk: &D, files: &Files) -> Result<Vec<Root>, StartError> {
    let mut generations: BTreeMap<u32, BTreeMap<u16, Vec<FileName>>> = BTreeMap::new();
    for &file in files.keys().filter(|file| file.kind == FileKind::Root) {
        generations.entry(file.generation).or_default().entry(file.shard).or_default().push(file);
    }
    let mut unreadable = None;
    for (_, mut shards) in generations.into_iter().rev() {
        let mut roots = Vec::new();
        for candidates in shards.values_mut() {
            // While a root replaces the one before it there are two. The newer one may be incomplete; nothing
            // that the older one needs was erased as long as it is there.
            candidates.sort_unstable_by(|a, b| b.cmp(a));
            for &file in candidates.iter() {
                if let Some(root) = read_root(disk, files, file)? {
                    roots.push(root);
                    break;
                }
                unreadable.get_or_insert(file);
            }
        }
        roots.sort_unstable_by_key(|root| root.log);
        let expected = roots.first().map_or(0, |root| root.shards);
        if expected > 0 && roots.len() == usize::from(expected) {
            return Ok(roots);
        }
    }
    let remains = find_remains(disk, files)?;
    match (remains, unreadable) {
        (None, _) => Ok(Vec::new()),
        (Some(file), unreadable) => Err(StartError::Corrupt(Corruption {
            file: unreadable.unwrap_or(file),
            offset: 0,
            what: "there is data, but no generation whose roots can all be read".into(),
        })),
    }
}

fn read_root<D: Disk>(disk: &D, files: &Files, file: FileName) -> Result<Option<Root>, StartError> {
    let bytes = usize::try_from(files.get(&file).copied().unwrap_or(0)).unwrap_or(0);
    let bytes_max = blocks_of(Root::encoded_bytes(crate::id::BUCKETS)) as usize * BLOCK_BYTES;
    if bytes > bytes_max {
        return Ok(None);
    }
    let mut content = vec![0; bytes];
    disk.read(file, 0, &mut content)?;
    Ok(Root::decode(&content).ok().filter(|root| {
        root.log == LogKey { generation: file.generation, shard: file.shard }
            && root.sequence == file.sequence
    }))
}

/// A file that shows that there was a log which took records. A first start that was interrupted leaves none.
fn find_remains<D: Disk>(disk: &D, files: &Files) -> Result<Option<FileName>, StartError> {
    for &file in files.keys() {
        if file.kind == FileKind::Root {
            if file.sequence > 1 {
                return Ok(Some(file));
            }
            continue;
        }
        let blocks = blocks_of(usize::try_from(files.get(&file).copied().unwrap_or(0)).unwrap_or(0));
        let mut bytes = vec![0; BLOCK_BYTES];
        for block in 0..blocks {
            disk.read(file, u64::from(block) * BLOCK_BYTES as u64, &mut bytes)?;
            let is_heir = block == 0 && SegmentHeader::decode(&bytes).is_ok_and(|header| header.inherits);
            let has_records = PageHeader::decode(&bytes, true).is_ok_and(|(header, _)| header.records > 0);
            if is_heir || has_records {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}
