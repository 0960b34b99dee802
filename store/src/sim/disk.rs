//! The simulated disk.
//!
//! Operations take a random time and complete in any order. What was written and not synced may be on the disk after a
//! crash or not, sector by sector; the same holds for what was under way. Space is limited if that is asked for, any
//! operation can be made to fail, and any bit can be turned over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::random::Random;
use crate::disk::{Disk, HeapBuffer};
use crate::log::{BLOCK_BYTES, Completion, DiskError, FileName, Op, Request};

/// A failure to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An operation fails with an input/output error. A sync that fails has lost what it was to bring to the disk, as
    /// kernels do, and the next one succeeds.
    Error,
    /// A write fails for lack of space.
    WriteNoSpace,
}

#[derive(Debug, Default)]
struct SimFile {
    /// What survives a crash.
    durable: Vec<u8>,
    /// What a read sees.
    now: Vec<u8>,
    /// Written, but not synced.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// Blocks that take space.
    allocated: Vec<bool>,
    /// Blocks that were written since the file has its name.
    written: Vec<bool>,
}

#[derive(Debug)]
struct UnderWay {
    due_ms: u64,
    owner: usize,
    request: Request<HeapBuffer>,
    /// How many of the file's unsynced writes a sync covers.
    covers: usize,
}

#[derive(Debug)]
struct State {
    random: Random,
    files: BTreeMap<FileName, SimFile>,
    under_way: Vec<UnderWay>,
    delay_ms_max: u64,
    capacity_blocks: usize,
    /// Operations until a fault.
    fault: Option<(u32, Fault)>,
    /// Blocking operations until the machine stops.
    fuse: Option<u32>,
    stopped: bool,
}

/// Shared by all shards of a simulated machine.
#[derive(Debug)]
pub struct SimDisk(Mutex<State>);

impl SimDisk {
    pub fn new(seed: u64, delay_ms_max: u64) -> Self {
        Self(Mutex::new(State {
            random: Random::new(seed),
            files: BTreeMap::new(),
            under_way: Vec::new(),
            delay_ms_max,
            capacity_blocks: usize::MAX,
            fault: None,
            fuse: None,
            stopped: false,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an operation.
    pub fn submit(&self, now_ms: u64, owner: usize, request: Request<HeapBuffer>) {
        let mut state = self.state();
        let delay_ms_max = state.delay_ms_max;
        let due_ms = now_ms + state.random.below(delay_ms_max + 1);
        let covers = match &request.op {
            Op::Sync { file } => state.files.get(file).map_or(0, |file| file.unsynced.len()),
            _ => 0,
        };
        state.under_way.push(UnderWay { due_ms, owner, request, covers });
    }

    /// Completes what is due, in any order. Says whose it was.
    pub fn completions(&self, now_ms: u64) -> Vec<(usize, Completion<HeapBuffer>)> {
        let mut state = self.state();
        let mut done = Vec::new();
        loop {
            let due: Vec<usize> = (0..state.under_way.len())
                .filter(|&n| state.under_way.get(n).is_some_and(|operation| operation.due_ms <= now_ms))
                .collect();
            if due.is_empty() {
                return done;
            }
            let pick = state.random.index(due.len());
            let operation = state.under_way.swap_remove(due.get(pick).copied().unwrap_or(0));
            let result = state.carry_out(&operation.request.op, operation.covers);
            let buffer = match operation.request.op {
                Op::Write { buffer, .. } => Some(buffer),
                _ => None,
            };
            done.push((operation.owner, Completion { token: operation.request.token, result, buffer }));
        }
    }

    pub fn next_due_ms(&self) -> Option<u64> {
        self.state().under_way.iter().map(|operation| operation.due_ms).min()
    }

    /// Space for all files. Nothing is taken away from those that are there.
    pub fn set_capacity_blocks(&self, blocks: usize) {
        self.state().capacity_blocks = blocks;
    }

    pub fn used_blocks(&self) -> usize {
        self.state().used_blocks()
    }

    /// Makes the operation after the next `operations` fail.
    pub fn set_fault(&self, operations: u32, fault: Fault) {
        self.state().fault = Some((operations, fault));
    }

    /// Stops the machine within the blocking operation after the next `operations`.
    pub fn set_fuse(&self, operations: Option<u32>) {
        self.state().fuse = operations;
    }

    /// The machine stops. What is left is what the disk had, and some of what was on its way.
    pub fn crash(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let sector_bytes = if state.random.chance(50) { 512 } else { BLOCK_BYTES };
        // All, nothing, or some of it arrives.
        let arrives_percent = [0, 20, 50, 90, 100].get(state.random.index(5)).copied().unwrap_or(50);
        let random = &mut state.random;
        for file in state.files.values_mut() {
            for (offset, data) in std::mem::take(&mut file.unsynced) {
                tear(&mut file.durable, offset, &data, sector_bytes, arrives_percent, random);
            }
        }
        for operation in std::mem::take(&mut state.under_way) {
            let random = &mut state.random;
            match operation.request.op {
                Op::Create { file, bytes } if random.chance(50) => {
                    state.files.entry(file).or_insert_with(|| SimFile::zeros(bytes));
                }
                Op::Write { file, offset, buffer, bytes, .. } => {
                    if let Some(file) = state.files.get_mut(&file) {
                        let data = buffer.as_ref().get(..bytes).unwrap_or_default();
                        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                        tear(&mut file.durable, offset, data, sector_bytes, arrives_percent, random);
                    }
                }
                Op::Punch { file, ranges } => {
                    for (offset, bytes) in ranges {
                        if random.chance(50) {
                            state.files.get_mut(&file).into_iter().for_each(|file| file.punch(offset, bytes));
                        }
                    }
                }
                Op::Delete { file } if random.chance(50) => {
                    state.files.remove(&file);
                }
                Op::Reuse { from, file, .. } if random.chance(50) => {
                    if let Some(renamed) = state.files.remove(&from) {
                        state.files.insert(file, renamed);
                    }
                }
                Op::Create { .. } | Op::Reuse { .. } | Op::Delete { .. } | Op::Sync { .. } => {}
            }
        }
        for file in state.files.values_mut() {
            file.now.clone_from(&file.durable);
        }
        state.fault = None;
        state.fuse = None;
        state.stopped = false;
    }

    /// What every file holds.
    pub fn images(&self) -> Vec<(FileName, Vec<u8>)> {
        self.state().files.iter().map(|(&name, file)| (name, file.now.clone())).collect()
    }

    /// Turns over a bit.
    pub fn flip(&self, file: FileName, bit: usize) {
        if let Some(file) = self.state().files.get_mut(&file) {
            for image in [&mut file.durable, &mut file.now] {
                if let Some(byte) = image.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// Makes a file read as zeros from some byte on.
    pub fn zero_from(&self, file: FileName, from: usize) {
        if let Some(file) = self.state().files.get_mut(&file) {
            for image in [&mut file.durable, &mut file.now] {
                image.get_mut(from..).unwrap_or_default().fill(0);
            }
        }
    }

    /// Cuts off the end of a file.
    pub fn truncate(&self, file: FileName, bytes: usize) {
        if let Some(file) = self.state().files.get_mut(&file) {
            file.durable.truncate(bytes);
            file.now.truncate(bytes);
        }
    }
}

impl SimFile {
    fn zeros(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(0);
        Self {
            durable: vec![0; bytes],
            now: vec![0; bytes],
            unsynced: Vec::new(),
            allocated: vec![true; bytes.div_ceil(BLOCK_BYTES)],
            written: vec![false; bytes.div_ceil(BLOCK_BYTES)],
        }
    }

    fn punch(&mut self, offset: u64, bytes: u64) {
        let (from, to) = (usize::try_from(offset).unwrap_or(0), usize::try_from(offset + bytes).unwrap_or(0));
        for image in [&mut self.durable, &mut self.now] {
            let to = to.min(image.len());
            if let Some(range) = image.get_mut(from..to) {
                range.fill(0);
            }
        }
        if let Some(blocks) = self.allocated.get_mut(from / BLOCK_BYTES..to / BLOCK_BYTES) {
            blocks.fill(false);
        }
        // What was written there and never synced is gone as well.
        self.unsynced.retain(|(at, data)| at + data.len() <= from || *at >= to);
    }
}

/// Puts some sectors of a write on the disk.
fn tear(
    image: &mut [u8],
    offset: usize,
    data: &[u8],
    sector_bytes: usize,
    arrives_percent: u64,
    random: &mut Random,
) {
    for (n, sector) in data.chunks(sector_bytes).enumerate() {
        let at = offset + n * sector_bytes;
        if random.chance(arrives_percent)
            && let Some(place) = image.get_mut(at..at + sector.len())
        {
            place.copy_from_slice(sector);
        }
    }
}

impl State {
    fn used_blocks(&self) -> usize {
        self.files.values().map(|file| file.allocated.iter().filter(|used| **used).count()).sum()
    }

    fn takes_fault(&mut self, is_write: bool) -> Option<Fault> {
        match &mut self.fault {
            Some((0, Fault::WriteNoSpace)) if !is_write => None,
            Some((0, fault)) => {
                let fault = *fault;
                self.fault = None;
                Some(fault)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }

    fn carry_out<Buf: AsRef<[u8]>>(&mut self, op: &Op<Buf>, covers: usize) -> Result<(), DiskError> {
        let fault = self.takes_fault(matches!(op, Op::Write { .. }));
        let failed = || DiskError::Failed("input/output error".into());
        if fault == Some(Fault::WriteNoSpace) {
            return Err(DiskError::NoSpace);
        }
        if fault == Some(Fault::Error) {
            if let Op::Sync { file } = op
                && let Some(file) = self.files.get_mut(file)
            {
                file.unsynced.clear();
            }
            return Err(failed());
        }
        match op {
            Op::Create { file, bytes } => {
                let blocks = usize::try_from(*bytes).unwrap_or(0).div_ceil(BLOCK_BYTES);
                if self.used_blocks() + blocks > self.capacity_blocks {
                    return Err(DiskError::NoSpace);
                }
                self.files.insert(*file, SimFile::zeros(*bytes));
            }
            Op::Reuse { from, file, bytes } => {
                let mut renamed = self.files.remove(from).ok_or_else(|| no_file(*from))?;
                let blocks = usize::try_from(*bytes).unwrap_or(0).div_ceil(BLOCK_BYTES);
                assert_eq!(renamed.now.len(), blocks * BLOCK_BYTES, "a segment of another size");
                renamed.written.fill(false);
                let lacks = renamed.allocated.iter().filter(|allocated| !**allocated).count();
                let has_space = lacks == 0 || self.used_blocks() + blocks <= self.capacity_blocks;
                if has_space {
                    renamed.allocated.fill(true);
                }
                let before = self.files.insert(*file, renamed);
                assert!(before.is_none(), "two segments with one name");
                if !has_space {
                    return Err(DiskError::NoSpace);
                }
            }
            Op::Write { file, offset, buffer, bytes, durable } => {
                let file = self.files.get_mut(file).ok_or_else(|| no_file(*file))?;
                let data = buffer.as_ref().get(..*bytes).unwrap_or_default();
                let offset = usize::try_from(*offset).unwrap_or(usize::MAX);
                let place = file.now.get_mut(offset..offset + data.len()).ok_or_else(failed)?;
                assert!(
                    offset.is_multiple_of(BLOCK_BYTES) && data.len().is_multiple_of(BLOCK_BYTES),
                    "a write that is not aligned"
                );
                place.copy_from_slice(data);
                for written in
                    file.written.iter_mut().skip(offset / BLOCK_BYTES).take(data.len() / BLOCK_BYTES)
                {
                    assert!(!std::mem::replace(written, true), "a block is written twice");
                }
                if *durable {
                    if let Some(place) = file.durable.get_mut(offset..offset + data.len()) {
                        place.copy_from_slice(data);
                    }
                } else {
                    file.unsynced.push((offset, data.to_vec()));
                }
            }
            Op::Sync { file } => {
                let file = self.files.get_mut(file).ok_or_else(|| no_file(*file))?;
                for (offset, data) in file.unsynced.drain(..covers.min(file.unsynced.len())) {
                    if let Some(place) = file.durable.get_mut(offset..offset + data.len()) {
                        place.copy_from_slice(&data);
                    }
                }
            }
            Op::Punch { file, ranges } => {
                let file = self.files.get_mut(file).ok_or_else(|| no_file(*file))?;
                for &(offset, bytes) in ranges {
                    file.punch(offset, bytes);
                }
            }
            Op::Delete { file } => {
                self.files.remove(file);
            }
        }
        Ok(())
    }
}

fn no_file(file: FileName) -> DiskError {
    DiskError::Failed(format!("{file} does not exist"))
}

impl Disk for SimDisk {
    fn list(&self) -> Result<Vec<(FileName, u64)>, DiskError> {
        Ok(self.state().files.iter().map(|(&name, file)| (name, file.now.len() as u64)).collect())
    }

    fn read(&self, file: FileName, offset: u64, out: &mut [u8]) -> Result<(), DiskError> {
        let state = self.state();
        let file = state.files.get(&file).ok_or_else(|| no_file(file))?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.now.len());
        let there = file.now.get(from..).unwrap_or_default();
        let bytes = there.len().min(out.len());
        let (head, rest) = out.split_at_mut(bytes);
        head.copy_from_slice(there.get(..bytes).unwrap_or_default());
        rest.fill(0);
        Ok(())
    }

    fn perform<Buf: AsRef<[u8]>>(&self, op: &Op<Buf>) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.stopped {
            return Err(DiskError::Failed("the machine has stopped".into()));
        }
        if state.fuse == Some(0) {
            state.stopped = true;
            // Half of the time the operation has its effect.
            if state.random.chance(50) {
                let _ = state.carry_out(op, usize::MAX);
            }
            return Err(DiskError::Failed("the machine has stopped".into()));
        }
        if let Some(left) = &mut state.fuse {
            *left -= 1;
        }
        state.carry_out(op, usize::MAX)
    }
}
