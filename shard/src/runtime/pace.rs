//! Letting others go first.

use std::time::Duration;

use futures_lite::future::yield_now;
use glommio::timer::sleep;

/// Turns of one task between two visits to the reactor. A turn is at most a millisecond, and mostly a tenth of it.
const TURNS_PER_VISIT: u32 = 8;

/// Keeps a task that always has something to do from holding up the others.
///
/// Tasks that are ready take turns, but while any task is ready the executor looks for new events only when its
/// preemption timer fires. That timer cannot be short (see `start`), so a busy task goes through the reactor by itself.
#[derive(Debug, Default)]
pub struct Pace {
    turns: u32,
}

impl Pace {
    /// After a turn that did something.
    pub async fn turn(&mut self) {
        self.turns += 1;
        if self.turns < TURNS_PER_VISIT {
            yield_now().await;
        } else {
            self.turns = 0;
            sleep(Duration::from_nanos(1)).await;
        }
    }

    /// The task waited for an event.
    pub fn waited(&mut self) {
        self.turns = 0;
    }
}
