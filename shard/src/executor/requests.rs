//! What is under way in a ring, by the number that its completions carry.

use std::any::Any;
use std::rc::Rc;
use std::task::Waker;

use slab::Slab;

use super::watch::Watched;

/// The number of a request. A place that is used again has another one: on some kernels a completion that was kept back comes
/// after the last one of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// For completions that nobody wants: those of requests to cancel.
    pub const UNWANTED: Self = Self(u64::MAX);

    fn new(generation: u32, place: usize) -> Self {
        // There is no memory for so many that a place has more than 32 bits.
        Self(u64::from(generation) << 32 | (place as u64 & u64::from(u32::MAX)))
    }

    pub fn from_completion(number: u64) -> Self {
        Self(number)
    }

    pub fn number(self) -> u64 {
        self.0
    }

    #[allow(clippy::cast_possible_truncation)] // The lower half of the number.
    fn place(self) -> usize {
        self.0 as u32 as usize
    }
}

pub enum Request {
    Watch(Rc<Watched>),
    /// Few, and in a box: there is a watch for every connection.
    Operation(Box<Pending>),
}

/// An operation under way, or complete and not taken yet.
pub struct Pending {
    pub waker: Option<Waker>,
    pub result: Option<i32>,
    /// Nobody waits for it any more.
    pub is_abandoned: bool,
    /// Its result is a descriptor.
    pub opens: bool,
    /// What the kernel reads or writes.
    pub keeps: Option<Box<dyn Any>>,
}

const _: () = assert!(size_of::<(u32, Request)>() <= 24);

#[derive(Default)]
pub struct Requests {
    places: Slab<(u32, Request)>,
    generation: u32,
}

impl Requests {
    pub fn insert(&mut self, request: Request) -> Ticket {
        // The last one is that of what nobody wants.
        self.generation = (self.generation + 1) % u32::MAX;
        Ticket::new(self.generation, self.places.insert((self.generation, request)))
    }

    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Request> {
        let (generation, request) = self.places.get_mut(ticket.place())?;
        (Ticket::new(*generation, ticket.place()) == ticket).then_some(request)
    }

    pub fn remove(&mut self, ticket: Ticket) -> Option<Request> {
        self.get_mut(ticket)?;
        self.places.try_remove(ticket.place()).map(|(_, request)| request)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn operation() -> Request {
        let pending = Pending { waker: None, result: None, is_abandoned: false, opens: false, keeps: None };
        Request::Operation(Box::new(pending))
    }

    #[test]
    fn a_place_that_is_used_again_has_another_number() {
        let mut requests = Requests::default();
        let first = requests.insert(operation());
        assert!(requests.remove(first).is_some());
        let second = requests.insert(operation());
        assert_eq!(first.place(), second.place());
        assert!(requests.get_mut(first).is_none());
        assert!(requests.remove(first).is_none());
        assert!(requests.get_mut(second).is_some());
        assert_eq!(Ticket::from_completion(second.number()), second);
    }

    #[test]
    fn no_request_has_the_number_of_what_nobody_wants() {
        let mut requests = Requests { generation: u32::MAX - 2, ..Requests::default() };
        for _ in 0..4 {
            let ticket = requests.insert(operation());
            assert_ne!(ticket, Ticket::UNWANTED);
            assert!(requests.get_mut(ticket).is_some());
        }
        assert!(requests.get_mut(Ticket::UNWANTED).is_none());
        assert_eq!(requests.len(), 4);
    }
}
