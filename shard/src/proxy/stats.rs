//! Counting forwarded commands in the words of the reference.

use crate::counters::Counters;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Sessions with relays that clients asked for (PRXY).
    Session,
    /// Commands (PFWD).
    Forward,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The relay was not reached, or there is no such session.
    NoConnection,
    /// The relay has no version that forwards.
    Incompatible,
    OtherError,
}

/// Counts a command and its outcome. `own`: the relay is the operator's.
pub fn count(counters: &Counters, subject: Subject, own: bool, outcome: Outcome) {
    let c = counters;
    let (all, of_own) = match subject {
        Subject::Session => (
            [
                &c.relay_requests,
                &c.relay_successes,
                &c.relay_errors_connect,
                &c.relay_errors_compat,
                &c.relay_errors_other,
            ],
            [
                &c.own_relay_requests,
                &c.own_relay_successes,
                &c.own_relay_errors_connect,
                &c.own_relay_errors_compat,
                &c.own_relay_errors_other,
            ],
        ),
        Subject::Forward => (
            [
                &c.forward_requests,
                &c.forward_successes,
                &c.forward_errors_connect,
                &c.forward_errors_compat,
                &c.forward_errors_other,
            ],
            [
                &c.own_forward_requests,
                &c.own_forward_successes,
                &c.own_forward_errors_connect,
                &c.own_forward_errors_compat,
                &c.own_forward_errors_other,
            ],
        ),
    };
    for [requests, success, connect, compat, other] in std::iter::once(all).chain(own.then_some(of_own)) {
        requests.add(1);
        match outcome {
            Outcome::Success => success,
            Outcome::NoConnection => connect,
            Outcome::Incompatible => compat,
            Outcome::OtherError => other,
        }
        .add(1);
    }
}
