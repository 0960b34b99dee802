//! A log without a disk: durable at once, and gone with the process.

use slab::Slab;

use super::record::{BodyMeta, Record};
use super::{AppendError, BodyPlace, Entry, Log, Position};
use crate::id::IdHash;

/// Serves tests, and routers whose operator wants no disk. It keeps bodies until they are erased, and records only if it
/// was told to.
#[derive(Debug, Default)]
pub struct MemoryLog {
    bodies: Slab<Box<[u8]>>,
    records: Option<Vec<(IdHash, Record<BodyPlace>)>>,
    appended: u64,
}

impl MemoryLog {
    /// Keeps no records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps every record, for [`replay`](Self::replay).
    pub fn recording() -> Self {
        Self { records: Some(Vec::new()), ..Self::default() }
    }

    pub fn body(&self, place: BodyPlace) -> Option<&[u8]> {
        place.body_in(self.bodies.get(place.block as usize)?)
    }

    /// Every record so far, in order, if they are kept.
    pub fn replay(&self) -> impl Iterator<Item = &(IdHash, Record<BodyPlace>)> {
        self.records.iter().flatten()
    }
}

impl Log for MemoryLog {
    fn append(
        &mut self,
        entries: &[Entry<'_>],
        places: &mut Vec<BodyPlace>,
    ) -> Result<Position, AppendError> {
        let is_too_large =
            |entry: &Entry<'_>| entry.record.body().is_some_and(|body| BodyMeta::of(body).is_none());
        if entries.iter().any(is_too_large) {
            return Err(AppendError::TooLarge);
        }
        for entry in entries {
            let Self { bodies, records, .. } = self;
            let mut keep = |body: &[u8]| {
                let meta = BodyMeta::of(body).unwrap_or(BodyMeta { bytes: 0, crc: 0 });
                let block = u32::try_from(bodies.insert(body.into())).unwrap_or(u32::MAX);
                BodyPlace { segment: 0, block, crc: meta.crc, bytes: meta.bytes }
            };
            if records.is_some() || entry.record.body().is_some() {
                let record = entry.record.clone().map_body(&mut keep);
                places.extend(record.body());
                if let Some(records) = records {
                    records.push((entry.hash, record));
                }
            }
        }
        self.appended += entries.len() as u64;
        Ok(self.durable_up_to())
    }

    fn durable_up_to(&self) -> Position {
        Position(self.appended)
    }

    fn erase(&mut self, place: BodyPlace) {
        self.bodies.try_remove(place.block as usize);
    }
}
