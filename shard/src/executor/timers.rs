//! Tasks that wait for a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Core;

/// A time, and a number that tells waits for the same time apart.
type Key = (Instant, u64);

#[derive(Debug, Default)]
pub struct Timers {
    waits: RefCell<BTreeMap<Key, Waker>>,
    next: Cell<u64>,
}

impl Timers {
    /// The first time that is waited for.
    pub fn next(&self) -> Option<Instant> {
        self.waits.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes those whose time has come.
    pub fn fire(&self) {
        let Some(first) = self.next() else { return };
        let now = Instant::now();
        if first > now {
            return;
        }
        loop {
            let mut waits = self.waits.borrow_mut();
            let Some(entry) = waits.first_entry().filter(|entry| entry.key().0 <= now) else { return };
            let waker = entry.remove();
            drop(waits);
            waker.wake();
        }
    }

    pub fn clear(&self) {
        let waits = std::mem::take(&mut *self.waits.borrow_mut());
        drop(waits);
    }
}

/// See [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    core: Rc<Core>,
    key: Option<Key>,
    at: Instant,
}

/// Waits for at least so long.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { core: super::core(), key: None, at: Instant::now() + duration }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let timers = &this.core.timers;
        if let Some(key) = this.key {
            if let Some(waker) = timers.waits.borrow_mut().get_mut(&key) {
                waker.clone_from(cx.waker());
                return Poll::Pending;
            }
            // It was taken out when its time had come.
            return Poll::Ready(());
        }
        let number = timers.next.get();
        timers.next.set(number.wrapping_add(1));
        let key = (this.at, number);
        timers.waits.borrow_mut().insert(key, cx.waker().clone());
        this.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.core.timers.waits.borrow_mut().remove(&key);
        }
    }
}
