//! Operations: requests that are done once.
#![allow(unsafe_code)] // What the caller promises of addresses is passed on, and descriptors come as numbers.

use std::any::Any;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use io_uring::squeue;

use super::Core;
use super::requests::{Pending, Request, Ticket};

/// An operation that is under way. Dropped before its end, it is done all the same.
#[derive(Debug)]
pub struct Operation<T> {
    core: Rc<Core>,
    ticket: Option<Ticket>,
    kept: PhantomData<fn() -> T>,
}

impl<T: 'static> Operation<T> {
    /// Starts an operation, which gives back what it `keeps`. If its result is a descriptor, it `opens` one.
    ///
    /// # Safety
    /// All addresses in the entry are of heap memory that `keeps` owns, which does not move when `keeps` does.
    pub unsafe fn start(entry: squeue::Entry, keeps: T, opens: bool) -> Self {
        let core = super::core();
        let keeps: Option<Box<dyn Any>> = Some(Box::new(keeps));
        let pending = Pending { waker: None, result: None, is_abandoned: false, opens, keeps };
        let request = Request::Operation(Box::new(pending));
        // SAFETY: as the caller promises.
        let ticket = unsafe { core.ring.start_keeping(request, entry) };
        Self { core, ticket: Some(ticket), kept: PhantomData }
    }
}

impl<T: 'static> Future for Operation<T> {
    /// The result, and what was kept.
    type Output = (io::Result<u32>, Option<T>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let mut requests = this.core.ring.requests.borrow_mut();
        let found = this.ticket.and_then(|ticket| requests.get_mut(ticket));
        let Some(Request::Operation(pending)) = found else {
            return Poll::Ready((Err(io::Error::other("the operation has ended already")), None));
        };
        let Some(result) = pending.result else {
            pending.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let keeps = pending.keeps.take();
        if let Some(ticket) = this.ticket.take() {
            requests.remove(ticket);
        }
        let kept = keeps.and_then(|kept| kept.downcast().ok()).map(|kept| *kept);
        Poll::Ready((u32::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result)), kept))
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut requests = self.core.ring.requests.borrow_mut();
        if let Some(Request::Operation(pending)) = requests.get_mut(ticket)
            && pending.result.is_none()
        {
            pending.is_abandoned = true;
            let waker = pending.waker.take();
            drop(requests);
            drop(waker);
            return;
        }
        // It is complete.
        let done = requests.remove(ticket);
        drop(requests);
        discard(done);
    }
}

/// Drops an operation that is complete and that nobody waits for, with the descriptor that it opened.
pub fn discard(operation: Option<Request>) {
    if let Some(Request::Operation(pending)) = &operation
        && pending.opens
        && let Some(opened @ 0..) = pending.result
    {
        // SAFETY: the kernel has given us this descriptor, and whoever wanted it has not taken it and is gone.
        drop(unsafe { OwnedFd::from_raw_fd(opened) });
    }
    drop(operation);
}
