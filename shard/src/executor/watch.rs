//! Descriptors that are watched, by one request each that lasts: sockets are read and written by plain system calls when they
//! are ready, which needs no buffer for those that say nothing.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use io_uring::opcode;
use io_uring::types::Fd;
use rustix::io::Errno;

use super::Core;
use super::requests::{Request, Ticket};

const RECEIVING: i16 = libc::POLLIN | libc::POLLRDHUP;
const SENDING: i16 = libc::POLLOUT;
/// After these there is always something to receive: the end, or an error.
const ENDS: i16 = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLNVAL;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Quiet,
    Ready,
    Ended,
}

/// What a watch and its request share.
#[derive(Debug)]
pub struct Watched {
    fd: i32,
    events: i16,
    /// Of the request, while there is one.
    ticket: Cell<Option<Ticket>>,
    state: Cell<State>,
    waker: RefCell<Option<Waker>>,
}

impl Watched {
    /// The kernel tells of an event, or why it tells of no more.
    pub fn report(&self, events: i32, lasts: bool) {
        if !lasts {
            self.ticket.set(None);
        }
        let ended = self.events == RECEIVING && (events < 0 || events & i32::from(ENDS) != 0);
        if ended {
            self.state.set(State::Ended);
        } else if self.state.get() == State::Quiet {
            self.state.set(State::Ready);
        }
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A descriptor that is watched from the first wait on, until this is dropped. The descriptor must stay open for as long.
#[derive(Debug)]
pub struct Watch {
    core: Rc<Core>,
    watched: Rc<Watched>,
}

impl Watch {
    pub fn to_receive(fd: &impl AsFd) -> Self {
        Self::new(fd, RECEIVING)
    }

    pub fn to_send(fd: &impl AsFd) -> Self {
        Self::new(fd, SENDING)
    }

    fn new(fd: &impl AsFd, events: i16) -> Self {
        let watched = Watched {
            fd: fd.as_fd().as_raw_fd(),
            events,
            ticket: Cell::new(None),
            state: Cell::new(State::Quiet),
            waker: RefCell::default(),
        };
        Self { core: super::core(), watched: Rc::new(watched) }
    }

    /// Whether it is worth a try.
    pub fn is_ready(&self) -> bool {
        self.watched.state.get() != State::Quiet
    }

    /// All was received that there was, or all sent that there was room for. What comes after this is told again.
    pub fn drained(&self) {
        if self.watched.state.get() == State::Ready {
            self.watched.state.set(State::Quiet);
        }
    }

    /// Tries to receive when there may be something, by a call that does not wait.
    pub fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut receive: impl FnMut() -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while self.is_ready() {
            match receive() {
                Ok(received) => return Poll::Ready(Ok(received)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.drained();
                    break;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        self.wait(cx);
        Poll::Pending
    }

    /// Wakes the task at the next event: also at the first, if there is something already when the watch begins.
    pub fn wait(&self, cx: &Context<'_>) {
        let watched = &self.watched;
        let mut waker = watched.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|present| present.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        if watched.ticket.get().is_none() {
            let events = u32::from(watched.events.unsigned_abs());
            let entry = opcode::PollAdd::new(Fd(watched.fd), events).multi(true).build();
            watched.ticket.set(Some(self.core.ring.start(Request::Watch(Rc::clone(watched)), entry)));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watched.waker.take();
        if let Some(ticket) = self.watched.ticket.get() {
            self.core.ring.cancel(ticket);
        }
    }
}
