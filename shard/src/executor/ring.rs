//! The ring: requests to the kernel, and what it says of them.
//!
//! There are two kinds. A [watch](super::watch) tells every time that something can be received from a descriptor, until it is
//! dropped. An [operation](super::operation) is done once; what the kernel reads or writes for it belongs to the ring until it
//! is complete, even if nobody waits for it any more.
#![allow(unsafe_code)] // Requests carry addresses, which must stay valid until the kernel is done with them.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::{Duration, Instant};

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::operation::discard;
use super::requests::{Request, Requests, Ticket};

/// At the end, operations that keep something have so long to complete,
const FINISH_WITHIN: Duration = Duration::from_secs(5);
/// and the kernel so long to let go of the descriptors that were watched.
const LET_GO_WITHIN: Duration = Duration::from_millis(100);

/// The kernel gives the memory of closed rings back a little later.
const FREED_WITHIN: Duration = Duration::from_millis(500);

/// How long a visit waits for completions.
#[derive(Clone, Copy, Debug)]
pub enum Wait {
    No,
    AtMost(Duration),
    Forever,
}

/// The places of a ring, each a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSize {
    /// Requests that go to the kernel with one system call; more take more calls.
    requests: u32,
    /// Completions that wait for this thread. What does not fit the kernel keeps itself. By their number it chooses how
    /// it finds a request that is to be cancelled: with 100,000 watches that takes 14 us with 8,192, and 449 with 512.
    completions: u32,
}

impl RingSize {
    pub const LARGE: Self = Self { requests: 512, completions: 8192 };
    pub const SMALL: Self = Self { requests: 128, completions: 1024 };
    /// For [`probe`].
    pub const LEAST: Self = Self { requests: 8, completions: 16 };

    /// What the kernel counts for it as locked memory, unless the process has `CAP_IPC_LOCK`: 64 bytes and a number for each
    /// request, 16 bytes for each completion, in whole pages.
    pub const fn locked_bytes(self) -> u64 {
        (self.requests as u64 * 64).next_multiple_of(4096)
            + (self.requests as u64 * 4 + self.completions as u64 * 16 + 256).next_multiple_of(4096)
    }
}

/// Opens a ring that runs the kernel's part when this thread asks for completions, or without that on kernels before 6.1.
fn open(size: RingSize) -> io::Result<IoUring> {
    let began = Instant::now();
    loop {
        match open_with(size, true) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return open_with(size, false),
            // Rings that were closed just now are still counted as locked memory.
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && began.elapsed() < FREED_WITHIN => {
                std::thread::sleep(FREED_WITHIN / 50);
            }
            opened => return opened,
        }
    }
}

fn open_with(size: RingSize, defers: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(size.completions).dontfork();
    if defers {
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().setup_submit_all();
    }
    let uring = builder.build(size.requests)?;
    let params = uring.params();
    // Together they are of Linux 5.13, as watches that last are.
    if params.is_feature_ext_arg() && params.is_feature_resource_tagging() && params.is_feature_nodrop() {
        Ok(uring)
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "it is older than Linux 5.13"))
    }
}

/// Whether the kernel lets this process use `io_uring`, and knows what is needed of it.
pub fn probe() -> io::Result<()> {
    open(RingSize::LEAST).map(drop)
}

pub struct Ring {
    uring: RefCell<IoUring>,
    pub(super) requests: RefCell<Requests>,
    /// Operations that keep something for the kernel.
    keeping: Cell<usize>,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("requests", &self.requests.borrow().len()).finish_non_exhaustive()
    }
}

impl Ring {
    pub fn new(size: RingSize) -> io::Result<Self> {
        open(size).map(Self::of)
    }

    /// As kernels before 6.1 have it.
    #[cfg(test)]
    pub fn older(size: RingSize) -> io::Result<Self> {
        open_with(size, false).map(Self::of)
    }

    fn of(uring: IoUring) -> Self {
        Self { uring: RefCell::new(uring), requests: RefCell::default(), keeping: Cell::new(0) }
    }

    /// Hands requests in, takes completions, and waits if there are none yet.
    pub fn visit(&self, wait: Wait) -> io::Result<()> {
        let mut uring = self.uring.borrow_mut();
        let has_completions = !uring.completion().is_empty();
        let (has_requests, has_work) = {
            let queue = uring.submission();
            (!queue.is_empty(), queue.taskrun() || queue.cq_overflow())
        };
        let wait = if has_completions { Wait::No } else { wait };
        if has_requests || has_work || !matches!(wait, Wait::No) {
            match enter(&uring, wait) {
                Err(error) if !is_passing(&error) => return Err(error),
                _ => {}
            }
        }
        drop(uring);
        self.take_completions();
        Ok(())
    }

    fn take_completions(&self) {
        loop {
            let next = self.uring.borrow_mut().completion().next();
            let Some(completion) = next else { return };
            self.complete(&completion);
        }
    }

    fn complete(&self, completion: &cqueue::Entry) {
        let ticket = Ticket::from_completion(completion.user_data());
        let mut requests = self.requests.borrow_mut();
        match requests.get_mut(ticket) {
            Some(Request::Watch(watched)) => {
                let watched = watched.clone();
                let lasts = cqueue::more(completion.flags());
                if !lasts {
                    requests.remove(ticket);
                }
                drop(requests);
                watched.report(completion.result(), lasts);
            }
            Some(Request::Operation(pending)) => {
                if pending.keeps.is_some() {
                    self.keeping.set(self.keeping.get() - 1);
                }
                pending.result = Some(completion.result());
                let waker = pending.waker.take();
                if pending.is_abandoned {
                    let abandoned = requests.remove(ticket);
                    drop(requests);
                    discard(abandoned);
                } else if let Some(waker) = waker {
                    drop(requests);
                    waker.wake();
                }
            }
            None => {}
        }
    }

    /// Puts a request into the queue, under the number of its ticket.
    ///
    /// # Safety
    /// What the entry points to stays until its last completion.
    unsafe fn push(&self, entry: squeue::Entry, ticket: Ticket) {
        let entry = entry.user_data(ticket.number());
        let mut uring = self.uring.borrow_mut();
        loop {
            // SAFETY: as the caller promises.
            if unsafe { uring.submission().push(&entry) }.is_ok() {
                return;
            }
            // The queue is full. What the kernel does not take now it takes later.
            let _ = uring.submit();
        }
    }

    /// Starts a request that has no addresses.
    pub(super) fn start(&self, request: Request, entry: squeue::Entry) -> Ticket {
        let ticket = self.requests.borrow_mut().insert(request);
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry, ticket) };
        ticket
    }

    /// Starts a request whose addresses are of heap memory that the request's `keeps` owns, and that does not move with it.
    ///
    /// # Safety
    /// That it is so.
    pub(super) unsafe fn start_keeping(&self, request: Request, entry: squeue::Entry) -> Ticket {
        let ticket = self.requests.borrow_mut().insert(request);
        self.keeping.set(self.keeping.get() + 1);
        // SAFETY: `keeps` is dropped or handed out after the last completion: see `complete`, `finish` and `Operation`.
        unsafe { self.push(entry, ticket) };
        ticket
    }

    /// Lets the kernel end a request, whose last completion still comes.
    pub(super) fn cancel(&self, ticket: Ticket) {
        let entry = opcode::AsyncCancel::new(ticket.number()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry, Ticket::UNWANTED) };
    }

    /// Hands requests in now, without waiting for the end of the turn.
    pub fn submit(&self) {
        // What the kernel does not take now it takes later.
        let _ = self.uring.borrow_mut().submit();
    }

    /// Waits for operations that keep something, since the kernel may still write to it, and for watches that were dropped, so
    /// that their sockets are closed. What an operation keeps that takes too long is never freed.
    pub fn finish(&self) {
        let began = Instant::now();
        while self.requests.borrow().len() > 0 {
            let limit = if self.keeping.get() > 0 { FINISH_WITHIN } else { LET_GO_WITHIN };
            if began.elapsed() >= limit || self.visit(Wait::AtMost(Duration::from_millis(10))).is_err() {
                break;
            }
        }
        let requests = std::mem::take(&mut *self.requests.borrow_mut());
        if self.keeping.get() > 0 {
            std::mem::forget(requests);
        }
    }
}

fn enter(uring: &IoUring, wait: Wait) -> io::Result<()> {
    match wait {
        Wait::No => uring.submit(),
        Wait::Forever => uring.submit_and_wait(1),
        Wait::AtMost(limit) => {
            let limit = Timespec::from(limit);
            let args = SubmitArgs::new().timespec(&limit);
            uring.submitter().submit_with_args(1, &args)
        }
    }
    .map(drop)
}

/// Whether a visit may simply be tried again: the time was over, a signal came, or the kernel has completions for us first.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN))
}
