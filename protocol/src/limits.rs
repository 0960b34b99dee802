//! Sizes fixed by the protocol, in bytes, with the relations between them checked when compiled.

/// A transport block: "SMP Transmission and transport block structure".
pub const BLOCK_BYTES: usize = 16_384;
/// The authentication tag of every box (Poly1305); it comes first.
pub const TAG_BYTES: usize = 16;
/// The length in front of padded content.
pub const PAD_LENGTH_BYTES: usize = 2;
/// What transmissions may take of a block: less the padding length, the count, and the tag of block encryption
/// (left free in unencrypted blocks too, as the reference does).
pub const BLOCK_CONTENT_BYTES: usize = BLOCK_BYTES - PAD_LENGTH_BYTES - 1 - TAG_BYTES;
/// Transmissions in a block: the count is one byte.
pub const BATCH_TRANSMISSIONS_MAX: usize = 255;
/// IDs that our routers make: queues, correlation, messages.
pub const ID_BYTES: usize = 24;
/// The nonce of every box.
pub const NONCE_BYTES: usize = 24;
/// The clear form of a delivered message: time, flags, space, body, padded ("Deliver queue message").
pub const DELIVERY_PADDED_BYTES: usize = 16_106;
/// The encrypted form of a delivered message.
pub const DELIVERY_ENCRYPTED_BYTES: usize = DELIVERY_PADDED_BYTES + TAG_BYTES;
/// Time (8), flags (1) and space (1) in front of the body of a delivered message.
pub const DELIVERY_HEADER_BYTES: usize = 10;
/// The largest body of a SEND that any version allows.
pub const SEND_BODY_BYTES_MAX: usize = 16_088;
/// The padded metadata of a notification (NMSG).
pub const NOTIFICATION_META_PADDED_BYTES: usize = 128;

const _: () = {
    assert!(BLOCK_CONTENT_BYTES == 16_365);
    assert!(PAD_LENGTH_BYTES + DELIVERY_HEADER_BYTES + SEND_BODY_BYTES_MAX <= DELIVERY_PADDED_BYTES);
    // One MSG transmission (length, empty authorization, empty correlation ID, entity ID, command) fits into a block.
    assert!(2 + 1 + 1 + 1 + ID_BYTES + 4 + 1 + ID_BYTES + DELIVERY_ENCRYPTED_BYTES <= BLOCK_CONTENT_BYTES);
};
