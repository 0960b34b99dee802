//! How a shard comes to its end, in steps of the sweep.
//!
//! A stop accepts no more at once. To hand its sockets over, a router must lose no connection: of those that wait in the
//! queues of the kernel the next program takes care, but one that a shard has accepted is its own, and gets its handshake
//! done.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::StopMode;
use super::connection::{Close, Connection};
use super::shard::Shard;

/// Between two looks.
pub const LOOK: Duration = Duration::from_millis(10);
/// What a handshake may take, from accepting on, that the router waits for before it hands over: those of clients far away,
/// not those of clients that say nothing.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(2);
/// Connections that are closed have so long to end.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum Step {
    Running,
    Handshaking { until: Instant },
    Draining { deadline: Instant },
}

#[derive(Debug)]
pub struct Ending {
    step: Step,
    /// New sessions may begin.
    is_welcoming: bool,
}

impl Default for Ending {
    fn default() -> Self {
        Self { step: Step::Running, is_welcoming: true }
    }
}

impl Ending {
    /// Does what is to be done at this time. True if the shard has ended.
    pub fn look(&mut self, shard: &Shard, now: Instant, stop_accepting: impl Fn()) -> bool {
        match shard.stop.mode() {
            StopMode::Run => false,
            StopMode::HandOver => {
                self.hand_over(shard, now, stop_accepting);
                self.has_drained(shard, now)
            }
            StopMode::Graceful => {
                if !matches!(self.step, Step::Draining { .. }) {
                    stop_accepting();
                    self.note_no_more_sessions(shard);
                    self.drain(shard, now);
                }
                self.has_drained(shard, now)
            }
            StopMode::Immediate => {
                // Their tasks end with the executor, which says nothing to the peers.
                close_connections(shard);
                true
            }
        }
    }

    fn hand_over(&mut self, shard: &Shard, now: Instant, stop_accepting: impl Fn()) {
        match &mut self.step {
            Step::Running => {
                stop_accepting();
                self.step = Step::Handshaking { until: now + HANDSHAKE_WITHIN };
            }
            Step::Handshaking { until } => {
                if now >= *until || shard.handshakes.get() == 0 || !has_young_handshakes(shard) {
                    self.note_no_more_sessions(shard);
                }
                // Until then sessions of other shards go on, and need this one.
                if shard.stop.no_more_sessions() {
                    self.drain(shard, now);
                }
            }
            Step::Draining { .. } => {}
        }
    }

    fn note_no_more_sessions(&mut self, shard: &Shard) {
        if std::mem::take(&mut self.is_welcoming) {
            shard.stop.note_no_more_sessions();
        }
    }

    /// Stops reading; what is under way is answered and written.
    fn drain(&mut self, shard: &Shard, now: Instant) {
        for connection in all(shard) {
            connection.draining.set(true);
            connection.wake_reader();
            connection.wake_writer();
        }
        self.step = Step::Draining { deadline: now + Duration::from_secs(shard.config.limits.stop_secs) };
    }

    fn has_drained(&self, shard: &Shard, now: Instant) -> bool {
        let Step::Draining { deadline } = self.step else { return false };
        if shard.stop.no_more_sessions() && shard.stop.all_connections_ended() {
            return true;
        }
        if now >= deadline {
            close_connections(shard);
        }
        // The connections end by themselves once they are closed.
        now >= deadline + CLOSE_WITHIN
    }
}

/// Clients that have connected just now, and have no session yet.
fn has_young_handshakes(shard: &Shard) -> bool {
    let connections = shard.connections.borrow();
    connections.iter().any(|(_, connection)| {
        connection.session.get().is_none()
            && !connection.is_relay
            && connection.created_at.elapsed() < HANDSHAKE_WITHIN
    })
}

fn close_connections(shard: &Shard) {
    for connection in all(shard) {
        connection.close(Close::Stop);
    }
}

fn all(shard: &Shard) -> Vec<Rc<Connection>> {
    shard.connections.borrow().iter().map(|(_, connection)| Rc::clone(connection)).collect()
}
