//! One thread's executor: its tasks, and one ring of `io_uring` that all their I/O goes through.
//!
//! | file | what it does |
//! |---|---|
//! | `tasks` | tasks that are ready, spawning, wakes from other threads |
//! | `ring`, `requests` | the ring: requests to the kernel and their completions |
//! | `watch`, `operation` | the two kinds of them |
//! | `bell` | waking the executor from another thread |
//! | `timers` | tasks that wait for a time |
//! | `net` | sockets |
//! | `file` | files without the page cache |
//! | `blocking` | what has no asynchronous form |
//!
//! A turn runs the tasks that are ready, then enters the kernel once, if there is anything to hand in or to fetch: all
//! requests of the turn go in with the same system call that brings the completions, and that sleeps if no task is ready.
//! Nothing is shared with other threads but the inbox for wakes from there.

mod bell;
mod blocking;
mod file;
mod net;
mod operation;
mod requests;
mod ring;
mod tasks;
mod timers;
mod watch;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use bell::{Bell, Ear};
pub use blocking::spawn_blocking;
pub use file::{File, Opening};
pub use net::{Listener, Stream};
pub use ring::{RingSize, probe};
pub use tasks::{Task, spawn_local};
pub use timers::sleep;

use blocking::Helper;
use ring::{Ring, Wait};
use tasks::Tasks;
use timers::Timers;

/// What the tasks of a thread share.
#[derive(Debug)]
struct Core {
    ring: Ring,
    timers: Timers,
    tasks: Tasks,
    helper: Helper,
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The executor of this thread. Panics outside of [`run`]: that is a mistake in the program, whatever comes from outside.
fn core() -> Rc<Core> {
    let core = CORE.with_borrow(Clone::clone);
    match core {
        Some(core) => core,
        None => panic!("no executor runs on this thread"),
    }
}

/// Runs a future, and all tasks that it spawns, on this thread until the future is ready; what is left of the tasks is dropped
/// then, and requests that write to files are waited for.
pub fn run<F>(size: RingSize, future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    run_on(Ring::new(size)?, future)
}

fn run_on<F>(ring: Ring, future: F) -> io::Result<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let core =
        Rc::new(Core { ring, timers: Timers::default(), tasks: Tasks::new()?, helper: Helper::default() });
    CORE.set(Some(Rc::clone(&core)));
    let ends = Ends(Rc::clone(&core));
    let listens = spawn_local(tasks::listen(Rc::clone(&core)));
    let main = spawn_local(future);
    while !main.is_finished() {
        tasks::run_ready();
        let wait = if tasks::are_ready() || main.is_finished() {
            Wait::No
        } else {
            match core.timers.next() {
                None => Wait::Forever,
                Some(at) => match at.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => Wait::No,
                    left => Wait::AtMost(left),
                },
            }
        };
        core.ring.visit(wait)?;
        core.timers.fire();
    }
    drop(listens);
    // It is finished, so this gives its result at once.
    let result = futures_lite::future::block_on(main);
    drop(ends);
    Ok(result)
}

/// Ends the executor, also when a task panics.
struct Ends(Rc<Core>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.tasks.drop_all();
        self.0.ring.finish();
        self.0.timers.clear();
        CORE.set(None);
    }
}

#[cfg(test)]
mod tests;
