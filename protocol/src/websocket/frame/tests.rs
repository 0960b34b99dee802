#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Control as TheirControl, Data, OpCode};
use tungstenite::protocol::frame::{Frame as Theirs, FrameHeader};

use super::*;

const MASK: [u8; MASK_BYTES] = [0x12, 0xf0, 0x00, 0x9a];

/// A client's frame, as another implementation writes it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { opcode, is_final, mask: Some(MASK), ..FrameHeader::default() };
    let frame = Theirs::from_payload(header, payload.to_vec().into());
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}

fn data(kind: Data, is_final: bool, payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Data(kind), is_final, payload)
}

fn control(kind: TheirControl, payload: &[u8]) -> Vec<u8> {
    frame(OpCode::Control(kind), true, payload)
}

fn block(fill: u8) -> Vec<u8> {
    let mut block: Vec<u8> = (0..=u8::MAX).cycle().take(BLOCK_BYTES).collect();
    block[0] = fill;
    block
}

#[derive(Debug, PartialEq)]
enum Seen {
    Block(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>),
    Fault(FrameFault),
}

/// Reads a stream that arrives in pieces of this size.
fn read(stream: &[u8], piece_bytes: usize) -> (Vec<Seen>, FrameReader) {
    let mut reader = FrameReader::default();
    let (mut seen, mut block) = (Vec::new(), Vec::new());
    for piece in stream.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        let mut rest = &mut piece[..];
        loop {
            let found = match reader.read(rest) {
                Ok(found) => found,
                Err(fault) => {
                    seen.push(Seen::Fault(fault));
                    return (seen, reader);
                }
            };
            match found.event {
                Event::Nothing => {
                    assert_eq!(found.consumed, rest.len());
                    break;
                }
                Event::Block { payload, last } => {
                    block.extend_from_slice(&rest[payload]);
                    if last {
                        seen.push(Seen::Block(std::mem::take(&mut block)));
                    }
                }
                Event::Ping(payload) => seen.push(Seen::Ping(payload.as_ref().to_vec())),
                Event::Close(status) => {
                    seen.push(Seen::Close(status));
                    return (seen, reader);
                }
            }
            rest = &mut rest[found.consumed..];
        }
    }
    (seen, reader)
}

fn assert_fault(stream: &[u8], fault: FrameFault) {
    for piece_bytes in [1, 7, 100_000] {
        assert_eq!(
            read(stream, piece_bytes).0,
            [Seen::Fault(fault)],
            "{:?}",
            &stream[..stream.len().min(20)]
        );
    }
}

#[test]
fn blocks_pings_and_the_end_in_pieces_of_every_size() {
    let stream = [
        data(Data::Binary, true, &block(1)),
        control(TheirControl::Ping, b"are you there"),
        data(Data::Binary, false, &block(2)[..9]),
        control(TheirControl::Pong, b"unasked"),
        data(Data::Continue, false, b""),
        control(TheirControl::Ping, &[7; CONTROL_BYTES_MAX]),
        data(Data::Continue, false, &block(2)[9..1_000]),
        data(Data::Continue, true, &block(2)[1_000..]),
        control(TheirControl::Ping, b""),
        control(TheirControl::Close, &[3, 0xe8]),
    ]
    .concat();
    for piece_bytes in (1..40).chain([1_000, 16_384, 16_392, stream.len()]) {
        let expected = [
            Seen::Block(block(1)),
            Seen::Ping(b"are you there".to_vec()),
            Seen::Ping(vec![7; CONTROL_BYTES_MAX]),
            Seen::Block(block(2)),
            Seen::Ping(Vec::new()),
            Seen::Close(Some(1000)),
        ];
        assert_eq!(read(&stream, piece_bytes).0, expected, "{piece_bytes}");
    }
}

#[test]
fn a_block_is_complete_with_its_last_byte() {
    let stream = data(Data::Binary, true, &block(1));
    assert_eq!(stream.len(), BLOCK_BYTES + 8);
    assert!(!read(&[], 1).1.is_partial());
    for end in [1, 2, 7, 8, 9, stream.len() - 1] {
        let (seen, reader) = read(&stream[..end], 5);
        assert_eq!((seen.len(), reader.is_partial()), (0, true), "{end}");
    }
    assert!(!read(&stream, 5).1.is_partial());
}

#[test]
fn broken_rules() {
    let good = data(Data::Binary, true, &block(1));
    let changed = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        frame
    };
    for stream in [
        // Reserved bits, reserved opcodes, no mask.
        changed(0, 0xc2),
        changed(0, 0xa2),
        changed(0, 0x92),
        changed(0, 0x83),
        changed(0, 0x8b),
        changed(1, 0x7e),
        // A continuation of nothing, a new message within one, text within one.
        data(Data::Continue, true, &block(1)),
        [data(Data::Binary, false, b"a"), data(Data::Binary, false, b"b")].concat(),
        [data(Data::Binary, false, b"a"), data(Data::Text, false, b"b")].concat(),
        // Lengths in longer forms than they need, and one of 64 bits.
        vec![0x82, 0xfe, 0, 125, 1, 2, 3, 4],
        vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0x40, 0, 1, 2, 3, 4],
        vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4],
        // Control frames that are split, or too long.
        frame(OpCode::Control(TheirControl::Ping), false, b"x"),
        control(TheirControl::Ping, &[0; CONTROL_BYTES_MAX + 1]),
        control(TheirControl::Close, &[0; CONTROL_BYTES_MAX + 1]),
        // Reasons to close that are no reasons.
        control(TheirControl::Close, &[3]),
        control(TheirControl::Close, &999_u16.to_be_bytes()),
        control(TheirControl::Close, &1005_u16.to_be_bytes()),
        control(TheirControl::Close, &5000_u16.to_be_bytes()),
        control(TheirControl::Close, &[3, 0xe8, 0xff, 0xfe]),
    ] {
        assert_fault(&stream, FrameFault::Protocol);
    }
}

#[test]
fn messages_that_are_no_blocks() {
    assert_fault(&data(Data::Text, true, b"hello"), FrameFault::Text);
    assert_fault(&data(Data::Text, false, b""), FrameFault::Text);
    assert_fault(&data(Data::Binary, true, &block(1)[1..]), FrameFault::TooShort);
    assert_fault(&data(Data::Binary, true, b""), FrameFault::TooShort);
    // Known by the header alone.
    assert_fault(&data(Data::Binary, true, &vec![0; BLOCK_BYTES + 1])[..8], FrameFault::TooLong);
    assert_fault(
        &[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4],
        FrameFault::TooLong,
    );
    let halves = [data(Data::Binary, false, &block(1)), data(Data::Continue, true, b"x")].concat();
    assert_eq!(read(&halves, 100).0, [Seen::Fault(FrameFault::TooLong)]);
    let short = [data(Data::Binary, false, &[0; 5]), data(Data::Continue, true, &[0; 9])].concat();
    assert_eq!(read(&short, 100).0, [Seen::Fault(FrameFault::TooShort)]);
}

#[test]
fn a_message_of_endless_frames_is_refused() {
    let empty = data(Data::Continue, false, b"");
    let stream =
        [data(Data::Binary, false, b"x"), empty.repeat(usize::from(FRAMES_PER_MESSAGE_MAX))].concat();
    assert_fault(&stream, FrameFault::Protocol);
    assert_eq!(read(&stream[..stream.len() - empty.len()], 50).0, []);
}

/// Another implementation reads what the router writes.
#[test]
fn our_frames_are_read_by_others() {
    let ping = control(TheirControl::Ping, b"payload");
    let Event::Ping(ping) = FrameReader::default().read(&mut ping.clone()).unwrap().event else {
        panic!("no ping")
    };
    let stream = [&BLOCK_HEADER[..], &block(3), &pong(&ping), &close(Some(1001)), &close(None)].concat();
    let mut cursor = std::io::Cursor::new(stream);
    let mut next = || {
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        assert!(header.is_final && header.mask.is_none());
        let start = usize::try_from(cursor.position()).unwrap();
        let payload = cursor.get_ref()[start..][..usize::try_from(length).unwrap()].to_vec();
        cursor.set_position(cursor.position() + length);
        (header.opcode, payload)
    };
    assert_eq!(next(), (OpCode::Data(Data::Binary), block(3)));
    assert_eq!(next(), (OpCode::Control(TheirControl::Pong), b"payload".to_vec()));
    assert_eq!(next(), (OpCode::Control(TheirControl::Close), vec![3, 0xe9]));
    assert_eq!(next(), (OpCode::Control(TheirControl::Close), Vec::new()));
}

proptest! {
    #[test]
    fn any_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        piece_bytes in 1_usize..50,
    ) {
        let _ = read(&bytes, piece_bytes);
    }

    /// Whatever is changed in a stream: it is read to its end, or there is one fault and nothing behind it.
    #[test]
    fn changed_streams_never_panic(at in 0_usize..200, value: u8, piece_bytes in 1_usize..300) {
        let mut stream = [
            data(Data::Binary, false, &block(2)[..100]),
            control(TheirControl::Ping, b"ping"),
            data(Data::Continue, true, &block(2)[100..]),
            data(Data::Binary, true, &block(3)),
        ]
        .concat();
        stream[at] = value;
        let (seen, _) = read(&stream, piece_bytes);
        let faults = seen.iter().filter(|seen| matches!(seen, Seen::Fault(_))).count();
        prop_assert!(faults == 0 || matches!(seen.last(), Some(Seen::Fault(_))) && faults == 1);
        for block in &seen {
            if let Seen::Block(block) = block {
                prop_assert_eq!(block.len(), BLOCK_BYTES);
            }
        }
    }
}
