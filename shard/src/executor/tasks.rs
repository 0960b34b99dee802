//! Tasks: those that are ready, in the order in which they became so, and wakes from other threads.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ptr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use async_task::Runnable;
use slab::Slab;

use super::Core;
use super::bell::{Bell, Ear};

/// After this time a turn ends though tasks are ready: the kernel may have news that are urgent.
const TURN: Duration = Duration::from_millis(1);
/// Tasks between two looks at the clock.
const TASKS_PER_LOOK: usize = 4;

/// At the end, tasks that another thread is just waking are waited for so long.
const DROP_WITHIN: Duration = Duration::from_secs(1);

/// A spawned task. Dropping it cancels the task, [`detach`](async_task::Task::detach) lets it run by itself.
pub type Task<T> = async_task::Task<T>;

/// What is ready on this thread, and whose it is.
struct Ready {
    home: Cell<*const Home>,
    queue: RefCell<VecDeque<Runnable>>,
}

thread_local! {
    static READY: Ready =
        const { Ready { home: Cell::new(ptr::null()), queue: RefCell::new(VecDeque::new()) } };
}

/// Where other threads put tasks that they wake.
#[derive(Debug)]
struct Home {
    inbox: Mutex<Vec<Runnable>>,
    bell: Arc<Bell>,
}

impl Home {
    fn schedule(self: &Arc<Self>, runnable: Runnable) {
        // Only a thread whose executor this is may run it. After a thread's end there is nobody to run anything.
        let own = READY.try_with(|ready| ptr::eq(ready.home.get(), Arc::as_ptr(self))).unwrap_or(false);
        if own {
            READY.with(|ready| ready.queue.borrow_mut().push_back(runnable));
            return;
        }
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push(runnable);
        self.bell.ring();
    }
}

#[derive(Debug)]
pub struct Tasks {
    home: Arc<Home>,
    /// A waker of every task, by which those that are left at the end are found.
    all: RefCell<Slab<Option<Waker>>>,
}

impl Tasks {
    pub fn new() -> io::Result<Self> {
        let home = Arc::new(Home { inbox: Mutex::default(), bell: Arc::new(Bell::new()?) });
        READY.with(|ready| ready.home.set(Arc::as_ptr(&home)));
        Ok(Self { home, all: RefCell::default() })
    }

    /// Drops all tasks, with what they hold.
    pub fn drop_all(&self) {
        let began = Instant::now();
        // Dropping one may wake or end others, and another thread may be about to put one into the inbox.
        while !self.all.borrow().is_empty() && began.elapsed() < DROP_WITHIN {
            let wakers: Vec<Waker> =
                self.all.borrow_mut().iter_mut().filter_map(|(_, waker)| waker.take()).collect();
            wakers.into_iter().for_each(Waker::wake);
            let foreign =
                std::mem::take(&mut *self.home.inbox.lock().unwrap_or_else(PoisonError::into_inner));
            drop(foreign);
            let ready = READY.with(|ready| std::mem::take(&mut *ready.queue.borrow_mut()));
            if ready.is_empty() {
                std::thread::yield_now();
            }
            drop(ready);
        }
        READY.with(|ready| ready.home.set(ptr::null()));
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.all.borrow().len()
    }

    fn take_inbox(&self) {
        let foreign = std::mem::take(&mut *self.home.inbox.lock().unwrap_or_else(PoisonError::into_inner));
        READY.with(|ready| ready.queue.borrow_mut().extend(foreign));
    }
}

pub fn are_ready() -> bool {
    READY.with(|ready| !ready.queue.borrow().is_empty())
}

/// Runs the tasks that are ready now, but not for much longer than a turn may take: what they make ready waits for the next
/// turn.
pub fn run_ready() {
    READY.with(|ready| {
        let most = ready.queue.borrow().len();
        let began = Instant::now();
        for place in 0..most {
            if place % TASKS_PER_LOOK == TASKS_PER_LOOK - 1 && began.elapsed() >= TURN {
                return;
            }
            let next = ready.queue.borrow_mut().pop_front();
            let Some(runnable) = next else { return };
            runnable.run();
        }
    });
}

/// Takes a task out of the list when it ends, however.
struct Listed {
    core: Rc<Core>,
    place: usize,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.core.tasks.all.borrow_mut().try_remove(self.place);
    }
}

/// Spawns a task on the executor of this thread. It runs at once, until it first waits: nothing that it needs may be borrowed.
pub fn spawn_local<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let core = super::core();
    let place = core.tasks.all.borrow_mut().insert(None);
    let home = Arc::clone(&core.tasks.home);
    let listed = Listed { core: Rc::clone(&core), place };
    let task = async move {
        let _listed = listed;
        future.await
    };
    let (runnable, task) = async_task::spawn_local(task, move |runnable| home.schedule(runnable));
    if let Some(waker) = core.tasks.all.borrow_mut().get_mut(place) {
        *waker = Some(runnable.waker());
    }
    runnable.run();
    task
}

/// Takes over what other threads wake, for as long as the executor runs.
pub async fn listen(core: Rc<Core>) {
    let ear = Ear::new(Arc::clone(&core.tasks.home.bell));
    loop {
        core.tasks.take_inbox();
        ear.listen().await;
    }
}
