//! The message path allocates nothing: parsing SEND, ACK and SUB, and filling blocks with responses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::Cell;
use std::hint::black_box;

use ringpost_protocol::command::{Command, MsgFlags};
use ringpost_protocol::encoding::pad_in_place;
use ringpost_protocol::error::ErrorType;
use ringpost_protocol::limits::{BLOCK_BYTES, DELIVERY_ENCRYPTED_BYTES};
use ringpost_protocol::response::Response;
use ringpost_protocol::transmission::{Authorization, Authorized, BlockBuilder, Format, decode_commands};
use ringpost_protocol::version::SmpVersion;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread.
mod counting {
    // An allocator can only be written with unsafe code; this one passes every call on as it is.
    #![allow(unsafe_code)]

    use std::alloc::{GlobalAlloc, Layout, System};

    struct Counting;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    fn count() {
        // Not there any more while a thread ends.
        let _ = super::ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    }

    // Safety: the caller's promises are those of `System`, which does all the work.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count();
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
            unsafe { System.dealloc(place, layout) }
        }

        unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
            count();
            unsafe { System.realloc(place, layout, bytes) }
        }
    }
}

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

const SESSION_ID: [u8; 32] = [3; 32];
const ID: [u8; 24] = [7; 24];

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(black_box(Vec::<u8>::with_capacity(10)))), 1);
}

#[test]
fn parsing_a_block_of_commands_allocates_nothing() {
    for version in [SmpVersion::V6, SmpVersion::AUTH_COMMANDS, SmpVersion::MAX] {
        let format = Format::of_session(version);
        let mut content = vec![0; BLOCK_BYTES];
        let mut builder = BlockBuilder::new(&mut content, format, &SESSION_ID);
        let body = [0x41; 4000];
        for (command, authorization) in [
            (Command::Sub, Authorization::Ed25519(&[1; 64])),
            (Command::Ack { msg_id: &ID }, Authorization::Ed25519(&[1; 64])),
            (
                Command::Send { flags: MsgFlags { notification: true }, body: &body },
                Authorization::Authenticator(&[2; 80]),
            ),
            (Command::Get, Authorization::None), // refused
        ] {
            let (mut buffer, mut transmission) = (Vec::new(), Vec::new());
            Authorized::command(format, &SESSION_ID, &ID, &ID, &command, &mut buffer).write(
                authorization,
                None,
                &mut transmission,
            );
            builder.push_transmission(&transmission).unwrap();
        }
        let content_bytes = builder.content_bytes();
        let content = &content[..content_bytes];
        let mut scratch = Vec::with_capacity(BLOCK_BYTES);
        let (mut read, mut refused) = (0, 0);
        let count = allocations(|| {
            for decoded in decode_commands(content, format, &SESSION_ID) {
                match decoded {
                    Ok((transmission, command)) => {
                        black_box(transmission.for_authorization(&SESSION_ID, &mut scratch));
                        black_box(transmission.for_authorization_parts(&SESSION_ID));
                        black_box(command);
                        read += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        });
        assert_eq!((count, read, refused), (0, 3, 1), "{version:?}");
    }
}

#[test]
fn filling_a_block_with_responses_allocates_nothing() {
    let mut block = vec![0; BLOCK_BYTES];
    for version in [SmpVersion::V6, SmpVersion::AUTH_COMMANDS, SmpVersion::MAX] {
        let format = Format::of_session(version);
        let count = allocations(|| {
            let mut builder = BlockBuilder::new(&mut block[2..], format, &SESSION_ID);
            builder.push_response(&ID, &ID, &Response::Sok { service_id: None }).unwrap();
            builder.push_response(&ID, &ID, &Response::Err(ErrorType::Auth)).unwrap();
            builder.push_message(&[], &ID, &ID, DELIVERY_ENCRYPTED_BYTES - 500).unwrap().fill(1);
            while builder.push_response(&ID, &ID, &Response::Ok).is_ok() {}
            let content_bytes = builder.content_bytes();
            pad_in_place(&mut block, content_bytes).unwrap();
        });
        assert_eq!(count, 0, "{version:?}");
    }
}
