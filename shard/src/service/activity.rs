//! How many queues were active in a day, a week and a month: messages were sent to them, or read from them.
//!
//! There is no set of IDs. Every queue has the day of its last activity (4 bytes with that of notifications), and that day
//! tells which periods it was counted in already. So memory does not grow with activity, and a message costs a comparison.
//! Days are those of UTC, weeks begin on Monday. What leaves with deleted queues is noted apart, up to a bound.

use std::time::{Duration, UNIX_EPOCH};

use ringpost_store::{Log, Queue, QueueIx};

use super::commands::SECS_PER_DAY;
use super::{Body, Service};
use crate::counters::Counters;

/// The first day, of 1970, was a Thursday.
const FIRST_WEEKDAY: u16 = 3;

/// Deleted queues that are noted until the end of the month: 12 bytes each, 12 MB a shard. Of more, the counts stay right
/// until the router stops; after the next start they lack in the counts of the week and the month.
const DEPARTED_MAX: usize = 1 << 20;

/// Queues looked at before other tasks get their turn.
pub const ACTIVITY_STEP_QUEUES: u32 = 4_096;

/// A queue that was active: what a file of statistics keeps of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveQueue {
    /// The secret hash of its recipient ID.
    pub hash: u64,
    /// Days since 1970.
    pub day: u16,
    /// Of messages that ask for a notification; 0: none.
    pub notified_day: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActiveCounts {
    pub day: u64,
    pub week: u64,
    pub month: u64,
}

impl std::ops::AddAssign for ActiveCounts {
    fn add_assign(&mut self, other: Self) {
        self.day += other.day;
        self.week += other.week;
        self.month += other.month;
    }
}

/// A day with the first days of its week and month, in days since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    pub day: u16,
    pub week_start: u16,
    pub month_start: u16,
}

impl Periods {
    pub fn of(day: u16) -> Self {
        let date = humantime::format_rfc3339(UNIX_EPOCH + Duration::from_secs(u64::from(day) * SECS_PER_DAY));
        // 2026-11-22T...
        let of_month = date.to_string().get(8..10).and_then(|text| text.parse().ok()).unwrap_or(1_u16);
        Self {
            day,
            week_start: day.saturating_sub((day + FIRST_WEEKDAY) % 7),
            month_start: day.saturating_sub(of_month.saturating_sub(1)),
        }
    }

    /// The first day that any of the periods has.
    pub fn start(self) -> u16 {
        self.week_start.min(self.month_start)
    }

    /// What a queue with this day of last activity counts for.
    fn count(self, last: u16, counts: &mut ActiveCounts) {
        counts.day += u64::from(last >= self.day);
        counts.week += u64::from(last >= self.week_start);
        counts.month += u64::from(last >= self.month_start);
    }
}

/// The counts of a day when it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayCounts {
    /// In days since 1970.
    pub day: u16,
    pub all: ActiveCounts,
    pub notified: ActiveCounts,
}

#[derive(Debug)]
pub struct ActivityLedger {
    periods: Periods,
    now: DayCounts,
    ended: Option<DayCounts>,
    departed: Vec<ActiveQueue>,
}

impl Default for ActivityLedger {
    fn default() -> Self {
        Self {
            periods: Periods { day: 0, week_start: 0, month_start: 0 },
            now: DayCounts::default(),
            ended: None,
            departed: Vec::new(),
        }
    }
}

impl ActivityLedger {
    fn begin_day(&mut self, day: u16) {
        let periods = Periods::of(day);
        let was = std::mem::replace(&mut self.periods, periods);
        // Before the first turn it is no day.
        if was.day > 0 {
            self.ended = Some(self.now);
        }
        self.now.day = day;
        for counts in [&mut self.now.all, &mut self.now.notified] {
            counts.day = 0;
            if periods.week_start != was.week_start {
                counts.week = 0;
            }
            if periods.month_start != was.month_start {
                counts.month = 0;
            }
        }
        self.departed.retain(|queue| queue.day >= periods.start());
    }

    fn publish(&self, counters: &Counters) {
        let set = |count: &crate::counters::Count, value: u64| {
            count.set(usize::try_from(value).unwrap_or(usize::MAX));
        };
        let (all, notified) = (&self.now.all, &self.now.notified);
        set(&counters.active_day, all.day);
        set(&counters.active_week, all.week);
        set(&counters.active_month, all.month);
        set(&counters.active_notified_day, notified.day);
        set(&counters.active_notified_week, notified.week);
        set(&counters.active_notified_month, notified.month);
    }
}

/// Counts the first activity in each period.
fn advance(last: &mut u16, periods: Periods, counts: &mut ActiveCounts) {
    counts.day += u64::from(*last < periods.day);
    counts.week += u64::from(*last < periods.week_start);
    counts.month += u64::from(*last < periods.month_start);
    *last = periods.day;
}

impl<L: Log> Service<L> {
    /// Tells the time: to be called with each turn, and now and then without.
    pub fn note_time(&mut self, now_secs: u64) {
        self.now_secs = now_secs;
        let day = u16::try_from(now_secs / SECS_PER_DAY).unwrap_or(u16::MAX);
        if day > self.activity.periods.day {
            self.activity.begin_day(day);
            self.activity.publish(&self.counters);
        }
    }

    /// A message went through a queue.
    pub(super) fn note_active(&mut self, queue: QueueIx, notified: bool) {
        let periods = self.activity.periods;
        let Some(activity) = self.store.activity_mut(queue) else { return };
        // Nearly always both are false.
        let (is_first, is_first_notified) =
            (activity.day < periods.day, notified && activity.notified_day < periods.day);
        if is_first {
            advance(&mut activity.day, periods, &mut self.activity.now.all);
        }
        if is_first_notified {
            advance(&mut activity.notified_day, periods, &mut self.activity.now.notified);
        }
        if is_first || is_first_notified {
            self.activity.publish(&self.counters);
        }
    }

    /// A queue leaves: it stays counted.
    pub(super) fn note_departed(&mut self, queue: &Queue<Body>) {
        if queue.activity.day >= self.activity.periods.start()
            && queue.activity.day > 0
            && self.activity.departed.len() < DEPARTED_MAX
        {
            let hash = self.store.hasher().hash(&queue.recipient_id).0;
            let (day, notified_day) = (queue.activity.day, queue.activity.notified_day);
            self.activity.departed.push(ActiveQueue { hash, day, notified_day });
        }
    }

    /// Counts what an earlier run has left in the queues, and queues that were there then and are not any more.
    pub fn take_over_activity(&mut self, departed: Vec<ActiveQueue>, now_secs: u64) {
        self.note_time(now_secs);
        let periods = self.activity.periods;
        let mut counts = DayCounts { day: periods.day, ..DayCounts::default() };
        let of_queues = self.store.queues_between(0..u32::MAX).map(|(_, queue)| queue.activity);
        let of_departed = departed
            .iter()
            .map(|queue| ringpost_store::Activity { day: queue.day, notified_day: queue.notified_day });
        for activity in of_queues.chain(of_departed) {
            periods.count(activity.day, &mut counts.all);
            periods.count(activity.notified_day, &mut counts.notified);
        }
        self.activity.now = counts;
        self.activity.departed = departed;
        self.activity.departed.retain(|queue| queue.day >= periods.start());
        self.activity.departed.truncate(DEPARTED_MAX);
        self.activity.publish(&self.counters);
    }

    /// The counts of this day so far, and those of the day that ended last while the router ran.
    pub fn active_counts(&self) -> (DayCounts, Option<DayCounts>) {
        (self.activity.now, self.activity.ended)
    }

    /// Queues that were active in the current periods, among those at some places. The first step has the departed too.
    pub fn active_queues(&self, places: std::ops::Range<u32>) -> Vec<ActiveQueue> {
        let start = self.activity.periods.start().max(1);
        let mut active = if places.start == 0 { self.activity.departed.clone() } else { Vec::new() };
        let queues = self.store.queues_between(places).filter(|(_, queue)| queue.activity.day >= start);
        active.extend(queues.map(|(_, queue)| ActiveQueue {
            hash: self.store.hasher().hash(&queue.recipient_id).0,
            day: queue.activity.day,
            notified_day: queue.activity.notified_day,
        }));
        active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        // 20,784 days after 1970-01-01 is 2026-11-27, a Friday.
        assert_eq!(Periods::of(20_784), Periods { day: 20_784, week_start: 20_780, month_start: 20_758 });
        // A Monday, the first of June 2026, begins all three.
        assert_eq!(Periods::of(20_605), Periods { day: 20_605, week_start: 20_605, month_start: 20_605 });
        // The day after a leap day: the week began in the month before.
        assert_eq!(Periods::of(19_783), Periods { day: 19_783, week_start: 19_779, month_start: 19_783 });
    }

    #[test]
    fn a_queue_counts_once_in_each_period() {
        let mut counts = ActiveCounts::default();
        let mut last = 0;
        // From a Friday into the next month.
        for (day, expected) in [
            (20_784, (1, 1, 1)),
            (20_784, (1, 1, 1)),
            (20_785, (2, 1, 1)),
            (20_787, (3, 2, 1)),
            (20_788, (4, 2, 2)),
        ] {
            let periods = Periods::of(day);
            if last < day {
                advance(&mut last, periods, &mut counts);
            }
            assert_eq!((counts.day, counts.week, counts.month), expected, "{day}");
        }
    }
}
