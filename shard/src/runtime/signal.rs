//! A flag that one task of a shard waits for and others set.

use std::cell::{Cell, RefCell};
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

#[derive(Debug, Default)]
pub struct Signal {
    is_set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn set(&self) {
        self.is_set.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until it is set, and takes it back.
    pub async fn wait(&self) {
        poll_fn(|cx| {
            if self.is_set.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
