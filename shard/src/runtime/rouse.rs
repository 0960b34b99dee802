//! Wakes the shards now and then, in case one sleeps that has something to do.
//!
//! glommio 0.9 can put an executor to sleep that has tasks to run, if its thread loses the processor for longer than the
//! preemption timer at one certain place (see `bell`): when a virtual machine is paused, for instance. Any event wakes it.
//! So that a shard with nothing else under way does not wait for the next client, one comes every second.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::operator::Shared;

const EVERY: Duration = Duration::from_secs(1);

/// Until the shards have ended, or nobody has the router any more.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::downgrade(shared);
    let ring = move || {
        loop {
            std::thread::sleep(EVERY);
            let Some(shared) = shared.upgrade() else { return };
            let mut any = false;
            for line in &shared.lines {
                any |= line.rouse();
            }
            if !any {
                return;
            }
        }
    };
    std::thread::Builder::new().name("rouse".to_owned()).spawn(ring).map(drop)
}
