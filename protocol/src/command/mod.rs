//! SMP commands: "SMP commands" of the protocol text.

mod codec;
mod credentials;

pub(crate) use codec::split_tag;

use md5::{Digest, Md5};

use crate::keys::{AuthPublicKey, DhPublicKey};
use crate::version::SmpVersion;

/// One command as it stands in a transmission. Byte strings are borrowed from the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    // recipient
    New(Box<NewQueue<'a>>),
    Sub,
    Subs(ServiceSubs),
    Key(AuthPublicKey),
    RKey(Vec<AuthPublicKey>),
    LSet { link_id: &'a [u8], data: LinkData<'a> },
    LDel,
    NKey(NotifierCredentials),
    NDel,
    Get,
    Ack { msg_id: &'a [u8] },
    Off,
    Del,
    Que,
    // sender
    SKey(AuthPublicKey),
    Send { flags: MsgFlags, body: &'a [u8] },
    Ping,
    // link
    LKey(AuthPublicKey),
    LGet,
    // notifier
    NSub,
    NSubs(ServiceSubs),
    // proxy
    Prxy { router: RouterBinary<'a>, basic_auth: Option<&'a [u8]> },
    Pfwd { version: SmpVersion, key: DhPublicKey, transmission: &'a [u8] },
    Rfwd(&'a [u8]),
}

/// The parameters of NEW, of all versions: "Create queue command".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewQueue<'a> {
    pub recipient_key: AuthPublicKey,
    pub recipient_dh_key: DhPublicKey,
    pub basic_auth: Option<&'a [u8]>,
    pub subscribe: SubscribeMode,
    /// From version 15; in 9 to 14 a flag "sender can secure" that reads as a mode without link.
    pub request: Option<QueueRequest<'a>>,
    /// From version 17.
    pub notifier: Option<NotifierCredentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeMode {
    Subscribe,
    OnlyCreate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueMode {
    /// "M": the sender can secure the queue.
    Messaging,
    /// "C": a contact address.
    Contact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueRequest<'a> {
    Messaging(Option<MessagingLink<'a>>),
    Contact(Option<ContactLink<'a>>),
}

impl QueueRequest<'_> {
    /// The mode of the requested queue.
    pub fn mode(&self) -> QueueMode {
        match self {
            Self::Messaging(_) => QueueMode::Messaging,
            Self::Contact(_) => QueueMode::Contact,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessagingLink<'a> {
    pub sender_id: &'a [u8],
    pub data: LinkData<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactLink<'a> {
    pub link_id: &'a [u8],
    pub sender_id: &'a [u8],
    pub data: LinkData<'a>,
}

/// Encrypted data of a short link: the fixed part and the part that its owner may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkData<'a> {
    pub fixed: &'a [u8],
    pub user: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifierCredentials {
    pub notifier_key: AuthPublicKey,
    pub recipient_dh_key: DhPublicKey,
}

/// Count and hash of a service's queues: on the wire from version 19. Absent below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSubs {
    /// -1 below version 19.
    pub count: i64,
    /// XOR of the MD5 hashes of all queue IDs; zeros below version 19.
    pub ids_hash: [u8; 16],
}

impl ServiceSubs {
    /// What SUBS and NSUBS say below version 19.
    pub const UNKNOWN: Self = Self { count: -1, ids_hash: [0; 16] };
    /// Of a service without queues.
    pub const NONE: Self = Self { count: 0, ids_hash: [0; 16] };

    /// Adds a queue by its ID: the recipient's for SUBS, the notifier's for NSUBS.
    pub fn add_queue(&mut self, id: &[u8]) {
        self.count += 1;
        for (byte, other) in self.ids_hash.iter_mut().zip(id_hash(id)) {
            *byte ^= other;
        }
    }
}

/// MD5 of a queue's ID. Hashes of more are the XOR of theirs.
pub fn id_hash(id: &[u8]) -> [u8; 16] {
    Md5::digest(id).into()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MsgFlags {
    pub notification: bool,
}

/// A router address in binary form, still undecoded beyond its fields: PRXY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterBinary<'a> {
    pub hosts: Vec<&'a [u8]>,
    pub port: &'a [u8],
    pub key_hash: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_queues_is_the_xor_of_their_md5() {
        // RFC 1321, A.5.
        let abc = *b"\x90\x01\x50\x98\x3c\xd2\x4f\xb0\xd6\x96\x3f\x7d\x28\xe1\x7f\x72";
        let mut subs = ServiceSubs::NONE;
        subs.add_queue(b"abc");
        assert_eq!(subs, ServiceSubs { count: 1, ids_hash: abc });
        subs.add_queue(b"other");
        assert_ne!(subs.ids_hash, abc);
        subs.add_queue(b"other");
        assert_eq!(subs, ServiceSubs { count: 3, ids_hash: abc });
    }
}
