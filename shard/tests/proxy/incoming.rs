//! RFWD from peers that are no proxies, or bad ones.

use ringpost_protocol::command::Command;
use ringpost_protocol::error::{BrokerError, CommandError, ErrorType, TransportError};

use crate::client::broker;
use crate::common::client::Options;
use crate::common::{Client, TestRouter};

#[test]
fn what_does_not_open_is_refused() {
    let router = TestRouter::start(2);
    let mut client = Client::connect(&router);
    for size in [0, 1, 16_241, 16_290, 16_320] {
        let response = client.request(None, &[], &Command::Rfwd(&vec![1; size]));
        response.assert_error(&ErrorType::Crypto);
    }
    let response = client.request(None, &[1; 24], &Command::Rfwd(&[1; 16_290]));
    response.assert_error(&ErrorType::Cmd(CommandError::HasAuth));
    client.ping();
    assert_eq!(router.counter("forwards_received"), 0);
}

#[test]
fn without_a_session_key_nothing_is_forwarded() {
    let router = TestRouter::start(1);
    let options = Options { session_key: false, ..Options::version(18) };
    let mut client = Client::open(&router, options).unwrap();
    let response = client.request(None, &[], &Command::Rfwd(&[1; 16_290]));
    response.assert_error(&broker(BrokerError::Transport(TransportError::NoAuth)));
    client.ping();
}
