//! Reading a log without changing anything: no new generation is opened, and damage is listed instead of refused.

use std::collections::BTreeSet;

use super::BodyPlace;
use super::config::LogConfig;
use super::file::FileName;
use super::load::{Former, load};
use super::op::DiskError;
use super::page::{BLOCK_BYTES, LogKey, SegmentHeader, blocks_of};
use super::segments::{Segments, segment_file};
use super::start::{StartConfig, newest_complete};
use super::walk::{Corruption, Files, StartError, walk};
use crate::disk::Disk;
use crate::id::{IdHasher, PARTITIONS};
use crate::store::Store;

/// What a log holds.
#[derive(Debug)]
pub struct Inspection {
    /// Of all shards.
    pub store: Store<BodyPlace>,
    pub generation: u32,
    /// That wrote the log.
    pub shards: u16,
    /// Segments that hold something. Others may be there that the next start deletes.
    pub segments: u64,
    /// Of those segments, as long as they were made: erased parts take no space.
    pub segment_bytes: u64,
    /// Index pages behind the roots, and records in them that no image contains.
    pub pages: u64,
    pub replayed: u64,
    /// Where commits that a crash had left incomplete end. Nothing in them had been answered.
    pub torn: Vec<(FileName, u64)>,
    /// In the order in which it was found. The store lacks what was there.
    pub damage: Vec<Corruption>,
    table: Segments,
}

/// Reads the newest generation. None if there was never a log.
///
/// Roots, index pages and images are checked. Bodies are not: see [`Inspection::check_bodies`].
pub fn inspect<D: Disk>(disk: &D, hasher: IdHasher) -> Result<Option<Inspection>, StartError> {
    let config =
        StartConfig { log: LogConfig::default(), shards: 1, skip_corrupt: true, salt: 0, threads: false };
    let files: Files = disk.list()?.into_iter().collect();
    let roots = newest_complete(disk, &files)?;
    let Some(first) = roots.first() else { return Ok(None) };
    let (generation, shards) = (first.log.generation, first.shards);
    let mut formers = Vec::new();
    for root in roots {
        let tail = walk(disk, &files, &root, &config)?;
        formers.push(Former { root, tail });
    }
    let loaded = load(disk, &files, &formers, 0..PARTITIONS, hasher, &config)?;
    let mut inspection = Inspection {
        store: loaded.store,
        generation,
        shards,
        segments: 0,
        segment_bytes: 0,
        pages: formers.iter().map(|former| former.tail.pages.len() as u64).sum(),
        replayed: loaded.replayed,
        torn: formers.iter().filter_map(|former| former.tail.torn).collect(),
        damage: formers.iter().flat_map(|former| former.tail.skipped.clone()).collect(),
        table: loaded.segments,
    };
    inspection.damage.extend(loaded.skipped);
    inspection.check_segments(disk, &files, &formers)?;
    Ok(Some(inspection))
}

impl Inspection {
    /// Looks at the header and the length of every segment that holds something.
    fn check_segments<D: Disk>(
        &mut self,
        disk: &D,
        files: &Files,
        formers: &[Former],
    ) -> Result<(), DiskError> {
        let mut used: BTreeSet<(LogKey, u32)> =
            self.table.iter().map(|(_, segment)| (segment.log, segment.sequence)).collect();
        for Former { root, tail } in formers {
            let images = root.entries.iter().filter(|entry| entry.bytes > 0);
            used.extend(images.map(|entry| (entry.place.log, entry.place.sequence)));
            used.extend(tail.pages.iter().map(|page| (page.header.log, page.header.sequence)));
        }
        let mut block = vec![0; BLOCK_BYTES];
        for (log, sequence) in used {
            let file = segment_file(log, sequence);
            // Who needs a file that is not there says so.
            let Some(&bytes) = files.get(&file) else { continue };
            self.segments += 1;
            self.segment_bytes += bytes;
            disk.read(file, 0, &mut block)?;
            let damage = |offset, what: String| Corruption { file, offset, what };
            match SegmentHeader::decode(&block) {
                Ok(header) if (header.log, header.sequence) == (log, sequence) => {
                    let made_bytes = u64::from(header.blocks) * BLOCK_BYTES as u64;
                    if bytes < made_bytes {
                        let what = format!("the segment was cut off: it has {bytes} bytes of {made_bytes}");
                        let found = damage(bytes, what);
                        self.damage.push(found);
                    }
                }
                _ => self.damage.push(damage(0, "the segment's header is not what was written".into())),
            }
        }
        Ok(())
    }

    /// The body at a place, read into `buffer`; or why it is not what was written.
    pub fn read_body<'a, D: Disk>(
        &self,
        disk: &D,
        place: BodyPlace,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Result<&'a [u8], Corruption>, DiskError> {
        let offset = u64::from(place.block) * BLOCK_BYTES as u64;
        let Some(segment) = self.table.get(place.segment) else {
            // Every place of a loaded store is of a segment in its table.
            return Err(DiskError::Failed("a body in a segment that is not known".into()));
        };
        let file = segment.file();
        let damage = |what: &str| Corruption { file, offset, what: what.into() };
        buffer.clear();
        buffer.resize(blocks_of(place.len()) as usize * BLOCK_BYTES, 0);
        match disk.read(file, offset, buffer) {
            Ok(()) => Ok(place.body_in(buffer).ok_or_else(|| damage("a body is not what was written"))),
            Err(error) => Ok(Err(damage(&format!("a body cannot be read: {error}")))),
        }
    }

    /// Reads every body. Gives their number and their bytes.
    pub fn check_bodies<D: Disk>(&mut self, disk: &D) -> Result<(u64, u64), DiskError> {
        let (mut count, mut bytes) = (0, 0);
        let mut buffer = Vec::new();
        let mut found = Vec::new();
        for &place in self.store.bodies() {
            count += 1;
            bytes += place.len() as u64;
            found.extend(self.read_body(disk, place, &mut buffer)?.err());
        }
        self.damage.extend(found);
        Ok((count, bytes))
    }
}
