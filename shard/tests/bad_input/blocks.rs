//! Wrong records, blocks and transmissions in an established session.

use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::crypto::AuthPrivateKey;
use ringpost_protocol::crypto::boxes::seal_in_place;
use ringpost_protocol::crypto::chain::BlockChain;
use ringpost_protocol::error::{CommandError, ErrorType};
use ringpost_protocol::limits::{BLOCK_BYTES, TAG_BYTES};
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::SEALED_BLOCK_BYTES;
use ringpost_protocol::version::SmpVersion;

use crate::beside_healthy;
use crate::common::{Client, Prepared, Queue};

const BLOCK_ERROR: ErrorType = ErrorType::Block;

/// Content of one PING behind a count.
fn pings(client: &Client, count: u8) -> Vec<u8> {
    let ping = client.prepare_bytes(None, &[1; 24], &[], b"PING").bytes;
    let length = u16::try_from(ping.len()).unwrap().to_be_bytes();
    [&[count][..], &length, &ping].concat()
}

#[test]
fn a_changed_bit_in_a_record_ends_the_connection() {
    beside_healthy(|router, healthy| {
        // Kind and length of the record, its content, its tag.
        for at in [0, 3, 5, 1000, SEALED_BLOCK_BYTES - 1] {
            let before = router.counters();
            let mut client = Client::connect(router);
            let content = pings(&client, 1);
            let block = client.block_of(&content);
            let mut record = client.tls.seal(&block[..]);
            record[at] ^= 0x80;
            client.tls.write_bytes(&record).unwrap();
            assert!(client.read_to_close().is_empty());
            router.expect(&before, &[("closed_bad_record", 1)]);
        }
        healthy.goes_on();
    });
}

#[test]
fn a_changed_bit_in_a_block_ends_the_connection() {
    beside_healthy(|router, healthy| {
        // In the tag, in the length, in the content, in the padding.
        for at in [0, TAG_BYTES, 100, BLOCK_BYTES - 1] {
            let before = router.counters();
            let mut client = Client::connect(router);
            let content = pings(&client, 1);
            let mut block = client.block_of(&content);
            block[at] ^= 1;
            client.tls.write(&block[..]).unwrap();
            assert!(client.read_to_close().is_empty());
            router.expect(&before, &[("closed_bad_block", 1)]);
        }
        healthy.goes_on();
    });
}

#[test]
fn a_block_that_is_repeated_or_left_out_ends_the_connection() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut client = Client::connect(router);
        let content = pings(&client, 1);
        let block = client.block_of(&content);
        client.tls.write(&block[..]).unwrap();
        assert_eq!(client.receive().response(), Response::Pong);
        client.tls.write(&block[..]).unwrap();
        assert!(client.read_to_close().is_empty());

        let mut client = Client::connect(router);
        client.block_of(&content);
        let next = client.block_of(&content);
        client.tls.write(&next[..]).unwrap();
        assert!(client.read_to_close().is_empty());
        healthy.goes_on();
        router.expect(&before, &[("closed_bad_block", 2)]);
    });
}

#[test]
fn a_padding_length_beyond_the_block_ends_the_connection() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        // Right tag, wrong length inside.
        let mut client = Client::connect(router);
        let secret = client.secret.clone().unwrap();
        let mut chain = BlockChain::pair(client.session_id.as_ref(), &secret).client_sends;
        let (key, nonce) = chain.next();
        let mut block = vec![b'#'; BLOCK_BYTES];
        let too_long = u16::try_from(BLOCK_BYTES - TAG_BYTES - 1).unwrap();
        block[TAG_BYTES..TAG_BYTES + 2].copy_from_slice(&too_long.to_be_bytes());
        seal_in_place(&key, &nonce, &mut block);
        client.tls.write(&block).unwrap();
        assert!(client.read_to_close().is_empty());

        // The same without block encryption.
        for length in [u16::try_from(BLOCK_BYTES - 1).unwrap(), u16::MAX] {
            let mut client = Client::version(router, 10);
            let mut block = vec![b'#'; BLOCK_BYTES];
            block[..2].copy_from_slice(&length.to_be_bytes());
            client.tls.write(&block).unwrap();
            assert!(client.read_to_close().is_empty());
        }
        healthy.goes_on();
        router.expect(&before, &[("closed_bad_block", 3)]);
    });
}

/// The structure of a block is checked before anything of it is executed; then one error answers all of it.
#[test]
fn wrong_counts_and_lengths_are_answered_with_block() {
    beside_healthy(|router, healthy| {
        for version in [6, 10, 19] {
            let mut client = Client::version(router, version);
            let one = pings(&client, 1);
            let cases: Vec<Vec<u8>> = vec![
                vec![],
                vec![0],
                vec![1],
                [&[0], &one[1..]].concat(),
                [&[2], &one[1..]].concat(),
                [&[255], &one[1..]].concat(),
                // Bytes behind the last transmission.
                [&one[..], &[0]].concat(),
                // A length beyond the content, and one that cuts the transmission.
                [&[1, 0xff, 0xff], &one[3..]].concat(),
                [&[1, 0, 4], &one[3..]].concat(),
                // The second of two is too long: the first is not executed either.
                [&[2], &one[1..], &[0, 9, 0]].concat(),
                vec![0xff; 16_000],
            ];
            let before = router.counters();
            for case in &cases {
                let block = client.block_of(case);
                client.tls.write(&block[..]).unwrap();
                let received = client.receive();
                assert_eq!((received.corr_id.len(), received.entity_id.len()), (0, 0));
                received.assert_error(&BLOCK_ERROR);
            }
            // The session goes on.
            client.ping();
            router.expect(&before, &[("errors_block", cases.len().try_into().unwrap())]);
            drop(client);
            router
                .expect(&before, &[("errors_block", cases.len().try_into().unwrap()), ("closed_by_peer", 1)]);
        }
        healthy.goes_on();
    });
}

#[test]
fn a_transmission_that_cannot_be_read_does_not_spoil_the_others() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut client = Client::connect(router);
        let mut bad = client.prepare(None, &[], &Command::Ping);
        bad.bytes = vec![200, 1, 2, 3];
        let wrong_auth = client.prepare_bytes(None, b"corr", &[], b"PING");
        let wrong_auth = with_authorization_of(&wrong_auth.bytes, 63);
        let pings = [client.prepare(None, &[], &Command::Ping), client.prepare(None, &[], &Command::Ping)];
        client.send(&[pings[0].clone(), bad, wrong_auth, pings[1].clone()]);
        let mut received: Vec<_> = (0..4).map(|_| client.receive()).collect();
        // What cannot be read is answered by the shard of the connection, at once.
        received.sort_by_key(|received| received.error().is_none());
        received[0].assert_error(&BLOCK_ERROR);
        received[1].assert_error(&BLOCK_ERROR);
        assert!(received[2..].iter().all(|received| received.response() == Response::Pong));
        let corr_ids: Vec<_> = received[2..].iter().map(|received| &received.corr_id).collect();
        assert_eq!(corr_ids, [&pings[0].corr_id, &pings[1].corr_id]);
        drop(client);
        healthy.goes_on();
        router.expect(&before, &[("errors_block", 2), ("closed_by_peer", 1)]);
    });
}

/// A transmission with an authorization of this length, which no algorithm has.
fn with_authorization_of(bytes: &[u8], length: u8) -> Prepared {
    let mut with = vec![length];
    with.resize(1 + usize::from(length), 9);
    // Without a service signature.
    with.push(b'0');
    with.extend_from_slice(&bytes[1..]);
    Prepared { corr_id: vec![], bytes: with }
}

/// Authorization, entity, command, and the answer.
type Case<'a> = (Option<&'a AuthPrivateKey>, &'a [u8], &'a [u8], CommandError);

#[test]
fn commands_that_cannot_be_read_are_answered() {
    use CommandError::{HasAuth, NoAuth, NoEntity, Syntax, Unknown};
    let id = [5; 24];
    let key = AuthPrivateKey::ed25519(&[1; 32]);
    let cases: &[Case<'_>] = &[
        (None, &[], b"", Unknown),
        (None, &[], b"PINGPONG", Unknown),
        (None, &[], b"ping", Unknown),
        (None, &[], b"PING ", Syntax),
        (None, &[], b"\xff\xff", Unknown),
        (None, &id, b"PING", HasAuth),
        (Some(&key), &[], b"PING", HasAuth),
        (None, &id, b"SUB", NoAuth),
        (Some(&key), &[], b"SUB", NoAuth),
        (None, &[], b"SEND F x", NoEntity),
        (None, &id, b"SEND X x", Syntax),
        (Some(&key), &id, b"SEND", Syntax),
        (Some(&key), &id, b"ACK", Syntax),
        (Some(&key), &id, b"ACK \x18short", Syntax),
        (Some(&key), &id, b"KEY \x2cwrong", Syntax),
        (Some(&key), &[], b"NEW ", Syntax),
        (Some(&key), &id, b"SUB more", Syntax),
    ];
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let mut client = Client::connect(router);
        for (key, entity_id, command, error) in cases {
            let corr_id: [u8; 24] = client.random_bytes();
            let prepared = client.prepare_bytes(*key, &corr_id, entity_id, command);
            client.send(std::slice::from_ref(&prepared));
            let received = client.receive();
            assert_eq!(received.corr_id, corr_id);
            assert_eq!(&received.entity_id, entity_id, "{}", command.escape_ascii());
            assert_eq!(received.error(), Some(ErrorType::Cmd(*error)), "{}", command.escape_ascii());
        }
        client.ping();
        drop(client);
        healthy.goes_on();
        router.expect(&before, &[("errors_command", cases.len().try_into().unwrap()), ("closed_by_peer", 1)]);
    });
}

#[test]
fn commands_of_another_party_are_refused() {
    beside_healthy(|router, healthy| {
        let mut client = Client::connect(router);
        let mut queue = Queue::subscribed(&mut client);
        client.secure_by_recipient(&mut queue);
        let sender_key = queue.sender_key.clone().unwrap();
        let stranger = AuthPrivateKey::ed25519(&[3; 32]);
        let before = router.counters();
        let send = Command::Send { flags: MsgFlags::default(), body: b"x" };
        let key = Command::Key(stranger.public());
        let recipient_commands = [
            Command::Sub,
            Command::Get,
            Command::Ack { msg_id: &[1; 24] },
            Command::Off,
            Command::Del,
            Command::Que,
            key,
        ];
        let mut refused = 0;
        for command in &recipient_commands {
            for (key, entity_id) in [
                (&stranger, &queue.recipient_id),
                (&sender_key, &queue.recipient_id),
                (&sender_key, &queue.sender_id),
                (&queue.recipient_key, &queue.sender_id),
            ] {
                client.request(Some(key), entity_id, command).assert_error(&ErrorType::Auth);
                refused += 1;
            }
        }
        for (key, entity_id) in [
            (None, &queue.sender_id),
            (Some(&stranger), &queue.sender_id),
            (Some(&queue.recipient_key), &queue.sender_id),
            (Some(&sender_key), &queue.recipient_id),
        ] {
            client.request(key, entity_id, &send).assert_error(&ErrorType::Auth);
            refused += 1;
        }
        // Nothing of it has changed the queue.
        client.send_message(&queue, b"still there").assert_ok();
        assert_eq!(client.message(&queue).body(), b"still there");
        drop(client);
        healthy.goes_on();
        router.expect(&before, &[("errors_auth", refused), ("closed_by_peer", 1)]);
    });
}

#[test]
fn a_session_id_of_another_session_is_refused() {
    beside_healthy(|router, healthy| {
        let before = router.counters();
        let (mut one, mut other) = (Client::version(router, 6), Client::version(router, 6));
        let ping = one.prepare(None, &[], &Command::Ping);
        other.send(std::slice::from_ref(&ping));
        let received = other.receive();
        assert_eq!(received.corr_id, ping.corr_id);
        received.assert_error(&ErrorType::Session);
        other.ping();
        // Signatures are bound to the session too, where it is implied.
        let mut owner = Client::connect(router);
        let mut thief = Client::connect(router);
        let queue = Queue::only_created(&mut owner);
        let stolen = owner.prepare_recipient(&queue, &Command::Del);
        thief.send(std::slice::from_ref(&stolen));
        thief.receive().assert_error(&ErrorType::Auth);
        drop((one, other, owner, thief));
        healthy.goes_on();
        router.expect(&before, &[("errors_session", 1), ("errors_auth", 1), ("closed_by_peer", 4)]);
    });
}

#[test]
fn bodies_above_the_limit_of_the_version_are_refused() {
    beside_healthy(|router, healthy| {
        for version in [6, 8, 11, 19] {
            let before = router.counters();
            let mut client = Client::version(router, version);
            let queue = Queue::subscribed(&mut client);
            let most = Command::send_body_bytes_max(SmpVersion(version));
            client.send_message(&queue, &vec![1; most + 1]).assert_error(&ErrorType::LargeMsg);
            client.send_message(&queue, &vec![2; most]).assert_ok();
            let message = client.message(&queue);
            assert_eq!(message.body(), vec![2; most]);
            client.ack(&queue, &message.id).assert_ok();
            drop(client);
            router.expect(&before, &[("errors_large_msg", 1), ("closed_by_peer", 1)]);
        }
        healthy.goes_on();
    });
}
