//! What is asked and what is said, in the terms of the specification.

pub type Id = Vec<u8>;
/// Numbers of a connection, a key, a message. They are never used again.
pub type Conn = usize;
pub type Key = usize;
pub type Number = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Messaging,
    Contact,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub fixed: Vec<u8>,
    pub user: Vec<u8>,
}

/// The link of a NEW.
#[derive(Clone, Debug)]
pub struct AskedLink {
    pub sender: Id,
    /// The sender ID is the one that follows from the correlation ID.
    pub is_derived: bool,
    /// Of a contact address.
    pub id: Id,
    pub data: Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    pub tag: u64,
    pub bytes: usize,
}

#[derive(Clone, Debug)]
pub enum Acked {
    /// The empty ID.
    Any,
    Message(Number),
    Unknown,
}

#[derive(Clone, Debug)]
pub enum Command {
    New {
        key: Key,
        subscribe: bool,
        password: Option<&'static str>,
        mode: Option<Mode>,
        link: Option<AskedLink>,
        notifier: Option<Key>,
    },
    Sub,
    Get,
    Ack(Acked),
    Key(Key),
    RKey(Vec<Key>),
    LSet {
        link: Id,
        data: Data,
    },
    LDel,
    NKey(Key),
    NDel,
    Off,
    Del,
    Que,
    SKey(Key),
    Send {
        notifies: bool,
        body: Body,
    },
    LKey(Key),
    LGet,
    NSub,
    Subs,
    NSubs,
    Ping,
    /// No command: these bytes, and the error.
    Bytes(&'static str, &'static str),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub command: Command,
    pub entity: Id,
    /// The key, and whether its signature or authenticator is as it left the client.
    pub signed: Option<(Key, bool)>,
    /// Made for another session.
    pub is_foreign: bool,
}

/// IDs that the router drew, as its answer has them.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    pub recipient: Id,
    pub sender: Id,
    pub link: Id,
    pub notifier: Id,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub is_secured: bool,
    pub is_notified: bool,
    pub reading: Option<(&'static str, Option<Number>)>,
    pub size: usize,
    pub first: Option<(Number, &'static str)>,
}

/// What stands in a transmission of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Whole, as on the wire.
    Text(String),
    Ids {
        recipient: Id,
        sender: Id,
        mode: Option<Mode>,
        link: Option<Id>,
        notifier: Option<Id>,
    },
    Nid(Id),
    Lnk {
        sender: Id,
        data: Data,
    },
    Info(Info),
    Msg(Number),
    Nmsg(Number),
}

/// An event: for whom, about which entity.
pub type Event = (Conn, Id, Said);
