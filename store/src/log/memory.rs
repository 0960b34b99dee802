//! A log without a disk: durable at once, and gone with the process.

use slab::Slab;

use super::op::ReadRequest;
use super::record::{BODY_BYTES_MAX, BodyMeta, Record};
use super::{AppendError, BodyPlace, Entry, Log, Position};
use crate::id::IdHash;

/// Serves tests, and routers whose operator wants no disk.
#[derive(Debug, Default)]
pub struct MemoryLog {
    recorded: Option<Recorded>,
    appended: u64,
}

#[derive(Debug, Default)]
struct Recorded {
    bodies: Slab<Box<[u8]>>,
    records: Vec<(IdHash, Record<BodyPlace>)>,
}

impl MemoryLog {
    /// Keeps nothing: who appends keeps what it needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps every record, for [`replay`](Self::replay), and every body until it is erased.
    pub fn recording() -> Self {
        Self { recorded: Some(Recorded::default()), appended: 0 }
    }

    pub fn recorded_body(&self, place: BodyPlace) -> Option<&[u8]> {
        place.body_in(self.recorded.as_ref()?.bodies.get(place.block as usize)?)
    }

    /// Every record so far, in order, if they are kept.
    pub fn replay(&self) -> impl Iterator<Item = &(IdHash, Record<BodyPlace>)> {
        self.recorded.iter().flat_map(|recorded| &recorded.records)
    }
}

impl Log for MemoryLog {
    fn append(
        &mut self,
        entries: &[Entry<'_>],
        places: &mut Vec<BodyPlace>,
    ) -> Result<Position, AppendError> {
        let is_too_large =
            |entry: &Entry<'_>| entry.record.body().is_some_and(|body| body.len() > BODY_BYTES_MAX);
        if entries.iter().any(is_too_large) {
            return Err(AppendError::TooLarge);
        }
        for entry in entries {
            match &mut self.recorded {
                Some(Recorded { bodies, records }) => {
                    let record = entry.record.clone().map_body(|body| {
                        let meta = BodyMeta::of(body).unwrap_or(BodyMeta { bytes: 0, crc: 0 });
                        let block = u32::try_from(bodies.insert(body.into())).unwrap_or(u32::MAX);
                        BodyPlace { segment: 0, block, crc: meta.crc, bytes: meta.bytes }
                    });
                    places.extend(record.body());
                    records.push((entry.hash, record));
                }
                None => places.extend(entry.record.body().map(|_| BodyPlace::NOWHERE)),
            }
        }
        self.appended += entries.len() as u64;
        Ok(self.durable_up_to())
    }

    fn durable_up_to(&self) -> Position {
        Position(self.appended)
    }

    fn keeps_bodies(&self) -> bool {
        false
    }

    fn readable_up_to(&self) -> Position {
        Position(self.appended)
    }

    fn read(&self, _: BodyPlace) -> Option<ReadRequest> {
        None
    }

    fn body<'a>(&self, _: BodyPlace, _: &'a [u8]) -> Option<&'a [u8]> {
        None
    }

    fn erase(&mut self, place: BodyPlace) {
        if let Some(recorded) = &mut self.recorded {
            recorded.bodies.try_remove(place.block as usize);
        }
    }
}
