//! SMP responses and events: "Router messages" of the protocol text.

use crate::command::{LinkData, QueueMode, ServiceSubs};
use crate::error::ErrorType;
use crate::keys::DhPublicKey;
use crate::version::VersionRange;

/// What a router sends: the response to a command, or an event. Byte strings are borrowed from the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    Ids(Box<QueueIds<'a>>),
    Lnk { sender_id: &'a [u8], data: LinkData<'a> },
    Sok { service_id: Option<&'a [u8]> },
    Soks(ServiceSubs),
    Msg { msg_id: &'a [u8], body: &'a [u8] },
    Alls,
    Nid { notifier_id: &'a [u8], router_dh_key: DhPublicKey },
    Nmsg { nonce: &'a [u8; 24], meta: &'a [u8] },
    Pkey { session_id: &'a [u8], versions: VersionRange, certificates: Vec<&'a [u8]>, signed_key: &'a [u8] },
    Rres(&'a [u8]),
    Pres(&'a [u8]),
    End,
    Ends(ServiceSubs),
    Deld,
    /// JSON.
    Info(&'a [u8]),
    Ok,
    Err(ErrorType),
    Pong,
}

/// The answer to NEW: "Create queue command".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueIds<'a> {
    pub recipient_id: &'a [u8],
    pub sender_id: &'a [u8],
    pub router_dh_key: DhPublicKey,
    /// From version 15; in 9 to 14 a flag.
    pub mode: Option<QueueMode>,
    /// From version 15.
    pub link_id: Option<&'a [u8]>,
    /// From version 16.
    pub service_id: Option<&'a [u8]>,
    /// From version 17: notifier ID and the router's key.
    pub notifier: Option<RouterNotifier<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterNotifier<'a> {
    pub notifier_id: &'a [u8],
    pub router_dh_key: DhPublicKey,
}
