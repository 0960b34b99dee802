//! Requests as they are sent, and what comes back, opened as clients open it.

use ringpost_protocol::command::{
    Command as Wire, ContactLink, LinkData, MessagingLink, MsgFlags, NewQueue, NotifierCredentials,
    QueueMode, QueueRequest, ServiceSubs, SubscribeMode,
};
use ringpost_protocol::crypto::authorization::OwnedAuthorization;
use ringpost_protocol::transmission::{Authorization, Authorized, Format, Transmission};
use ringpost_protocol::version::SmpVersion;
use ringpost_shard::service::{Output, Session};

use crate::actions::Asked;
use crate::keys::{DH_POOL, POOL};
use crate::machine::Names;
use crate::spec::{Acked, Body, Command, Data, Id, Mode, Request};

/// A transmission that came to a connection.
#[derive(Clone)]
pub struct Received {
    pub corr: Vec<u8>,
    pub entity: Id,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(30)]);
        write!(f, "{word:?} about {:?}", Hex(&self.entity))
    }
}

/// Shows bytes shortly.
pub struct Hex<'a>(pub &'a [u8]);

impl std::fmt::Debug for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(&self.0[..self.0.len().min(4)]))
    }
}

/// The bytes of a body.
pub fn body_bytes(body: Body) -> Vec<u8> {
    let unit = body.tag.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut bytes = unit.repeat(body.bytes / unit.len() + 1);
    bytes.truncate(body.bytes);
    bytes
}

fn link_data(data: &Data) -> LinkData<'_> {
    LinkData { fixed: &data.fixed, user: &data.user }
}

fn public(key: usize) -> ringpost_protocol::keys::AuthPublicKey {
    POOL[key].public.clone()
}

/// The bytes of a transmission without its length. `asked` has what the specification need not know.
pub fn transmission(
    session: &Session,
    corr: &[u8],
    request: &Request,
    asked: &Asked,
    names: &Names,
) -> Vec<u8> {
    let (body, msg_id);
    let dh = |n: usize| DH_POOL[n].1;
    let command = match &request.command {
        Command::New { key, subscribe, password, mode, link, notifier } => {
            let Asked::New { dh: dh_key, notifier: asked_notifier, .. } = asked else {
                panic!("not what was asked")
            };
            let link = link.as_ref();
            let messaging =
                || link.map(|link| MessagingLink { sender_id: &link.sender, data: link_data(&link.data) });
            let contact = || {
                link.map(|link| ContactLink {
                    link_id: &link.id,
                    sender_id: &link.sender,
                    data: link_data(&link.data),
                })
            };
            Wire::New(Box::new(NewQueue {
                recipient_key: public(*key),
                recipient_dh_key: dh(*dh_key),
                basic_auth: password.map(str::as_bytes),
                subscribe: if *subscribe { SubscribeMode::Subscribe } else { SubscribeMode::OnlyCreate },
                request: mode.map(|mode| match mode {
                    Mode::Messaging => QueueRequest::Messaging(messaging()),
                    Mode::Contact => QueueRequest::Contact(contact()),
                }),
                notifier: notifier.zip(*asked_notifier).map(|(key, (_, dh_key))| NotifierCredentials {
                    notifier_key: public(key),
                    recipient_dh_key: dh(dh_key),
                }),
            }))
        }
        Command::Sub => Wire::Sub,
        Command::Get => Wire::Get,
        Command::Ack(acked) => {
            msg_id = match acked {
                Acked::Any => Vec::new(),
                Acked::Message(number) => names.name(*number).cloned().unwrap_or_default(),
                Acked::Unknown => vec![0xee; 24],
            };
            Wire::Ack { msg_id: &msg_id }
        }
        Command::Key(key) => Wire::Key(public(*key)),
        Command::RKey(keys) => Wire::RKey(keys.iter().map(|key| public(*key)).collect()),
        Command::LSet { link, data } => Wire::LSet { link_id: link, data: link_data(data) },
        Command::LDel => Wire::LDel,
        Command::NKey(key) => {
            let Asked::NKey(_, dh_key) = asked else { panic!("not what was asked") };
            Wire::NKey(NotifierCredentials { notifier_key: public(*key), recipient_dh_key: dh(*dh_key) })
        }
        Command::NDel => Wire::NDel,
        Command::Off => Wire::Off,
        Command::Del => Wire::Del,
        Command::Que => Wire::Que,
        Command::SKey(key) => Wire::SKey(public(*key)),
        Command::Send { notifies, body: sent } => {
            body = body_bytes(*sent);
            Wire::Send { flags: MsgFlags { notification: *notifies }, body: &body }
        }
        Command::LKey(key) => Wire::LKey(public(*key)),
        Command::LGet => Wire::LGet,
        Command::NSub => Wire::NSub,
        Command::Subs => Wire::Subs(ServiceSubs::UNKNOWN),
        Command::NSubs => Wire::NSubs(ServiceSubs::UNKNOWN),
        Command::Ping | Command::Bytes(..) => Wire::Ping,
    };
    let session_id: &[u8] = if request.is_foreign { &[0x77; 32] } else { session.session_id.as_ref() };
    let format = Format::of_session(session.version);
    let mut buffer = Vec::new();
    let authorized = Authorized::command(format, session_id, corr, &request.entity, &command, &mut buffer);
    let made = request.signed.map(|(key, is_whole)| {
        let mut made = POOL[key].authorize(authorized.for_authorization(), corr);
        if !is_whole {
            turn_a_bit(&mut made);
        }
        made
    });
    let authorization = made.as_ref().map_or(Authorization::None, OwnedAuthorization::as_borrowed);
    let mut out = Vec::new();
    authorized.write(authorization, None, &mut out);
    if let Command::Bytes(bytes, _) = &request.command {
        // It stands at the end.
        out.truncate(out.len() - b"PING".len());
        out.extend_from_slice(bytes.as_bytes());
    }
    out
}

fn turn_a_bit(made: &mut OwnedAuthorization) {
    match made {
        OwnedAuthorization::Ed25519(bytes) => bytes[40] ^= 4,
        OwnedAuthorization::Ed448(bytes) => bytes[90] ^= 4,
        OwnedAuthorization::Authenticator(bytes) => bytes[40] ^= 4,
    }
}

/// The transmissions of an output, and whose they are.
pub fn received(
    output: &Output,
    version_of: impl Fn(usize) -> u16,
) -> Result<(usize, Vec<Received>), String> {
    // Connections have their numbers as generations.
    let (conn, bytes) = match output {
        Output::Responses { conn, bytes, .. } => (conn.generation as usize, &bytes[..]),
        Output::Message { conn, message } => (conn.generation as usize, message.bytes()),
        Output::Service { .. } => return Err("a service is answered, and there is none".into()),
    };
    let format = Format::of_session(SmpVersion(version_of(conn)));
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len));
        let one = after.get(..len).ok_or("a response is cut off")?;
        let parsed = Transmission::parse(one, format).map_err(|bad| format!("{bad:?}"))?;
        all.push(Received {
            corr: parsed.corr_id.to_vec(),
            entity: parsed.entity_id.to_vec(),
            bytes: parsed.command.to_vec(),
        });
        rest = &after[len..];
    }
    Ok((conn, all))
}

pub fn mode_of(mode: QueueMode) -> Mode {
    match mode {
        QueueMode::Messaging => Mode::Messaging,
        QueueMode::Contact => Mode::Contact,
    }
}
