//! Deliveries that are not acknowledged yet, by when they were made.
//!
//! Nearly all are acknowledged within the time slot in which they were made, so a message costs two additions.

use std::collections::BTreeMap;

/// Deliveries of so many seconds are counted together.
const SLOT_SECS: u32 = 10;

/// Ages in seconds by which the reference counts: each class is up to this age, and above that of the one before. The last
/// class is above all of them.
pub const PENDING_AGES_SECS: [u64; 4] = [60, 300, 1_200, 3_600];

/// Deliveries that are not acknowledged, at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingReport {
    pub total: u64,
    /// By age, in the classes of [`PENDING_AGES_SECS`].
    pub by_age: [u64; PENDING_AGES_SECS.len() + 1],
    /// For how long the oldest waits, at least.
    pub longest_secs: u64,
}

impl PendingReport {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.total += other.total;
        for (count, more) in self.by_age.iter_mut().zip(other.by_age) {
            *count += more;
        }
        self.longest_secs = self.longest_secs.max(other.longest_secs);
    }
}

#[derive(Debug, Default)]
pub struct Pending {
    /// The last slot, and what is pending of it.
    latest: u32,
    in_latest: usize,
    /// The slots before it that have any.
    earlier: BTreeMap<u32, usize>,
}

impl Pending {
    /// A delivery was made at this time, in seconds since 1970.
    pub fn add(&mut self, secs: u32) {
        let slot = secs / SLOT_SECS;
        if slot > self.latest {
            let count = std::mem::take(&mut self.in_latest);
            if count > 0 {
                self.earlier.insert(self.latest, count);
            }
            self.latest = slot;
        }
        if slot == self.latest {
            self.in_latest += 1;
        } else {
            // The clock was put back.
            *self.earlier.entry(slot).or_default() += 1;
        }
    }

    /// One that was made at this time is not pending any more.
    pub fn remove(&mut self, secs: u32) {
        self.remove_slot(secs / SLOT_SECS, 1);
    }

    fn remove_slot(&mut self, slot: u32, removed: usize) {
        if slot == self.latest {
            self.in_latest = self.in_latest.saturating_sub(removed);
        } else if let Some(count) = self.earlier.get_mut(&slot) {
            *count = count.saturating_sub(removed);
            if *count == 0 {
                self.earlier.remove(&slot);
            }
        }
    }

    /// None of those are pending any more, which are counted here too.
    pub fn remove_all(&mut self, of: &Self) {
        of.slots().for_each(|(slot, count)| self.remove_slot(slot, count));
    }

    pub fn count(&self) -> usize {
        self.slots().map(|(_, count)| count).sum()
    }

    fn slots(&self) -> impl Iterator<Item = (u32, usize)> {
        let earlier = self.earlier.iter().map(|(slot, count)| (*slot, *count));
        earlier.chain([(self.latest, self.in_latest)])
    }

    pub fn report(&self, now_secs: u64) -> PendingReport {
        let mut report = PendingReport::default();
        for (slot, count) in self.slots().filter(|(_, count)| *count > 0) {
            let slot_end = u64::from(slot.saturating_mul(SLOT_SECS).saturating_add(SLOT_SECS - 1));
            let age_secs = now_secs.saturating_sub(slot_end);
            let class = PENDING_AGES_SECS.iter().filter(|most| age_secs > **most).count();
            if let Some(of_class) = report.by_age.get_mut(class) {
                *of_class += count as u64;
            }
            report.total += count as u64;
            report.longest_secs = report.longest_secs.max(age_secs);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pending_is_told_by_its_age() {
        let mut pending = Pending::default();
        for secs in [1_000, 1_001, 1_009, 4_000, 4_750, 4_950, 5_000, 5_001] {
            pending.add(secs);
        }
        // The clock was put back.
        pending.add(3_999);
        let report = pending.report(5_009);
        assert_eq!((report.total, report.by_age, report.longest_secs), (9, [3, 1, 2, 0, 3], 4_000));
        for secs in [1_001, 5_001, 4_750] {
            pending.remove(secs);
        }
        assert_eq!(pending.report(5_009).by_age, [2, 0, 2, 0, 2]);
        let mut some = Pending::default();
        for secs in [1_000, 1_009, 5_000] {
            some.add(secs);
        }
        assert_eq!(some.count(), 3);
        pending.remove_all(&some);
        let report = pending.report(5_009);
        assert_eq!((report.total, report.by_age, report.longest_secs), (3, [1, 0, 2, 0, 0], 1_010));
        // With the time its class changes.
        assert_eq!(pending.report(20_000).by_age, [0, 0, 0, 0, 3]);
        for secs in [3_999, 4_000, 4_950] {
            pending.remove(secs);
        }
        assert_eq!(pending.report(5_009), PendingReport::default());
        assert_eq!(pending.earlier.len(), 0);
    }

    #[test]
    fn reports_of_shards_are_added_up() {
        let mut sum = PendingReport { total: 3, by_age: [1, 0, 2, 0, 0], longest_secs: 7 };
        sum.add(&PendingReport { total: 2, by_age: [1, 0, 0, 0, 1], longest_secs: 4_000 });
        assert_eq!(sum, PendingReport { total: 5, by_age: [2, 0, 2, 0, 1], longest_secs: 4_000 });
    }
}
