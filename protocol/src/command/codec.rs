//! Bytes of commands, by version.

use super::{
    Command, ContactLink, LinkData, MessagingLink, MsgFlags, NewQueue, NotifierCredentials, QueueMode,
    QueueRequest, RouterBinary, ServiceSubs, SubscribeMode,
};
use crate::encoding::{DecodeError, Reader, Sink};
use crate::error::{CommandError, ErrorType};
use crate::keys::{AuthPublicKey, DhPublicKey};
use crate::version::SmpVersion;

/// The longest word that names a command: what comes before the first space is not searched further.
const TAG_BYTES_MAX: usize = 5;

/// Splits a command or response into its tag and the rest, which starts with a space or is empty.
pub(crate) fn split_tag(bytes: &[u8]) -> (&[u8], Reader<'_>) {
    let searched = &bytes[..bytes.len().min(TAG_BYTES_MAX + 1)];
    // A longer word is no tag either, so where it is cut does not matter.
    let length = searched.iter().position(|&byte| byte == b' ').unwrap_or(searched.len());
    let (tag, rest) = bytes.split_at(length);
    (tag, Reader::new(rest))
}

impl<'a> Command<'a> {
    /// Reads one whole command, without allocation except for `NEW`, `RKEY` and `PRXY`.
    ///
    /// `CMD UNKNOWN` if the word up to the first space names no command; `CMD SYNTAX` if its parameters are not as
    /// this version has them, or if bytes follow. Commands are read at versions below the one that added them.
    pub fn parse(version: SmpVersion, bytes: &'a [u8]) -> Result<Self, ErrorType> {
        let (tag, reader) = split_tag(bytes);
        match Self::read(version, tag, reader) {
            Ok(Some(command)) => Ok(command),
            Ok(None) => Err(ErrorType::Cmd(CommandError::Unknown)),
            Err(_) => Err(ErrorType::Cmd(CommandError::Syntax)),
        }
    }

    fn read(version: SmpVersion, tag: &[u8], mut reader: Reader<'a>) -> Result<Option<Self>, DecodeError> {
        let r = &mut reader;
        let command = match tag {
            b"SEND" => {
                r.space()?;
                let flags = MsgFlags::read(r)?;
                r.space()?;
                Self::Send { flags, body: r.tail() }
            }
            b"ACK" => {
                r.space()?;
                Self::Ack { msg_id: r.short()? }
            }
            b"SUB" => Self::Sub,
            b"PING" => Self::Ping,
            b"NSUB" => Self::NSub,
            b"GET" => Self::Get,
            b"SKEY" => Self::SKey(read_key(r)?),
            b"KEY" => Self::Key(read_key(r)?),
            b"NEW" => {
                r.space()?;
                Self::New(Box::new(NewQueue::read(version, r)?))
            }
            b"PFWD" => {
                r.space()?;
                Self::Pfwd {
                    version: SmpVersion(r.u16()?),
                    key: DhPublicKey::read(r)?,
                    transmission: r.tail(),
                }
            }
            b"RFWD" => {
                r.space()?;
                Self::Rfwd(r.tail())
            }
            b"PRXY" => {
                r.space()?;
                Self::Prxy { router: RouterBinary::read(r)?, basic_auth: r.maybe(read_basic_auth)? }
            }
            b"SUBS" => Self::Subs(read_service_subs(version, r)?),
            b"NSUBS" => Self::NSubs(read_service_subs(version, r)?),
            b"RKEY" => {
                r.space()?;
                Self::RKey(r.list(AuthPublicKey::read)?)
            }
            b"LSET" => {
                r.space()?;
                Self::LSet { link_id: r.short()?, data: LinkData::read(r)? }
            }
            b"LDEL" => Self::LDel,
            b"NKEY" => {
                r.space()?;
                Self::NKey(NotifierCredentials::read(r)?)
            }
            b"NDEL" => Self::NDel,
            b"OFF" => Self::Off,
            b"DEL" => Self::Del,
            b"QUE" => Self::Que,
            b"LKEY" => Self::LKey(read_key(r)?),
            b"LGET" => Self::LGet,
            _ => return Ok(None),
        };
        reader.finish()?;
        Ok(Some(command))
    }

    /// The word that names the command.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::New(_) => "NEW",
            Self::Sub => "SUB",
            Self::Subs(_) => "SUBS",
            Self::Key(_) => "KEY",
            Self::RKey(_) => "RKEY",
            Self::LSet { .. } => "LSET",
            Self::LDel => "LDEL",
            Self::NKey(_) => "NKEY",
            Self::NDel => "NDEL",
            Self::Get => "GET",
            Self::Ack { .. } => "ACK",
            Self::Off => "OFF",
            Self::Del => "DEL",
            Self::Que => "QUE",
            Self::SKey(_) => "SKEY",
            Self::Send { .. } => "SEND",
            Self::Ping => "PING",
            Self::LKey(_) => "LKEY",
            Self::LGet => "LGET",
            Self::NSub => "NSUB",
            Self::NSubs(_) => "NSUBS",
            Self::Prxy { .. } => "PRXY",
            Self::Pfwd { .. } => "PFWD",
            Self::Rfwd(_) => "RFWD",
        }
    }

    /// Appends the command in the form of `version`. What the version has no place for is left out.
    ///
    /// Invariants of the caller: IDs, passwords and hosts of at most 255 bytes, link data of at most 65,535,
    /// lists of 1 to 255.
    pub fn encode(&self, version: SmpVersion, out: &mut impl Sink) {
        out.put(self.tag().as_bytes());
        match self {
            Self::Send { flags, body } => {
                out.put(b" ");
                out.put_bool(flags.notification);
                out.put(b" ");
                out.put(body);
            }
            Self::Ack { msg_id } => {
                out.put(b" ");
                out.put_short(msg_id);
            }
            Self::New(queue) => {
                out.put(b" ");
                queue.write(version, out);
            }
            Self::Key(key) | Self::SKey(key) | Self::LKey(key) => {
                out.put(b" ");
                key.write(out);
            }
            Self::RKey(keys) => {
                out.put(b" ");
                out.put_list(keys, |out, key| key.write(out));
            }
            Self::LSet { link_id, data } => {
                out.put(b" ");
                out.put_short(link_id);
                data.write(out);
            }
            Self::NKey(credentials) => {
                out.put(b" ");
                credentials.write(out);
            }
            Self::Subs(subs) | Self::NSubs(subs) => {
                if version >= SmpVersion::SERVICE_SUBSCRIPTIONS {
                    out.put(b" ");
                    subs.write(out);
                }
            }
            Self::Prxy { router, basic_auth } => {
                out.put(b" ");
                router.write(out);
                out.put_maybe(*basic_auth, Sink::put_short);
            }
            Self::Pfwd { version, key, transmission } => {
                out.put(b" ");
                out.put_u16(version.0);
                key.write(out);
                out.put(transmission);
            }
            Self::Rfwd(transmission) => {
                out.put(b" ");
                out.put(transmission);
            }
            Self::Sub
            | Self::LDel
            | Self::NDel
            | Self::Get
            | Self::Off
            | Self::Del
            | Self::Que
            | Self::Ping
            | Self::LGet
            | Self::NSub => {}
        }
    }

    /// The largest body of `SEND` in a session of this version; above it the router answers `LARGE_MSG`.
    pub fn send_body_bytes_max(version: SmpVersion) -> usize {
        if version >= SmpVersion::BLOCK_ENCRYPTION {
            16_048
        } else if version >= SmpVersion::PROXY {
            16_064
        } else {
            crate::limits::SEND_BODY_BYTES_MAX
        }
    }
}

fn read_key(r: &mut Reader<'_>) -> Result<AuthPublicKey, DecodeError> {
    r.space()?;
    AuthPublicKey::read(r)
}

fn read_service_subs(version: SmpVersion, r: &mut Reader<'_>) -> Result<ServiceSubs, DecodeError> {
    if version < SmpVersion::SERVICE_SUBSCRIPTIONS {
        return Ok(ServiceSubs::UNKNOWN);
    }
    r.space()?;
    ServiceSubs::read(r)
}

/// A router password: printable Latin-1 characters without space, `@`, `:` and `/`, as an address can carry it.
fn read_basic_auth<'a>(r: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    const SOFT_HYPHEN: u8 = 0xad;
    let password = r.short()?;
    let printable = |&byte: &u8| match byte {
        b'@' | b':' | b'/' | SOFT_HYPHEN => false,
        b'!'..=b'~' | 0xa1..=0xff => true,
        _ => false,
    };
    if password.iter().all(printable) { Ok(password) } else { Err(DecodeError::Invalid) }
}

impl MsgFlags {
    /// The first flag; later versions may add bytes up to the next space, which are skipped.
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let notification = r.bool()?;
        r.word();
        Ok(Self { notification })
    }
}

impl<'a> NewQueue<'a> {
    fn read(version: SmpVersion, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let recipient_key = AuthPublicKey::read(r)?;
        let recipient_dh_key = DhPublicKey::read(r)?;
        let basic_auth = if version >= SmpVersion::SENDER_KEY {
            r.maybe(read_basic_auth)?
        } else if r.rest().first() == Some(&b'A') {
            r.u8()?;
            Some(read_basic_auth(r)?)
        } else {
            None
        };
        let subscribe = match r.u8()? {
            b'S' => SubscribeMode::Subscribe,
            b'C' => SubscribeMode::OnlyCreate,
            _ => return Err(DecodeError::Invalid),
        };
        let request = if version >= SmpVersion::SHORT_LINKS {
            r.maybe(QueueRequest::read)?
        } else if version >= SmpVersion::SENDER_KEY {
            let sender_can_secure = r.bool()?;
            Some(if sender_can_secure { QueueRequest::Messaging(None) } else { QueueRequest::Contact(None) })
        } else {
            None
        };
        let notifier =
            if version >= SmpVersion::NEW_NOTIFIER { r.maybe(NotifierCredentials::read)? } else { None };
        Ok(Self { recipient_key, recipient_dh_key, basic_auth, subscribe, request, notifier })
    }

    fn write(&self, version: SmpVersion, out: &mut impl Sink) {
        self.recipient_key.write(out);
        self.recipient_dh_key.write(out);
        if version >= SmpVersion::SENDER_KEY {
            out.put_maybe(self.basic_auth, Sink::put_short);
        } else if let Some(password) = self.basic_auth {
            out.put(b"A");
            out.put_short(password);
        }
        out.put(match self.subscribe {
            SubscribeMode::Subscribe => b"S",
            SubscribeMode::OnlyCreate => b"C",
        });
        if version >= SmpVersion::SHORT_LINKS {
            out.put_maybe(self.request.as_ref(), |out, request| request.write(out));
        } else if version >= SmpVersion::SENDER_KEY {
            out.put_bool(matches!(self.request, Some(QueueRequest::Messaging(_))));
        }
        if version >= SmpVersion::NEW_NOTIFIER {
            out.put_maybe(self.notifier.as_ref(), |out, credentials| credentials.write(out));
        }
    }
}

impl QueueMode {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match r.u8()? {
            b'M' => Ok(Self::Messaging),
            b'C' => Ok(Self::Contact),
            _ => Err(DecodeError::Invalid),
        }
    }

    pub(crate) fn write(self, out: &mut impl Sink) {
        out.put(match self {
            Self::Messaging => b"M",
            Self::Contact => b"C",
        });
    }
}

impl<'a> QueueRequest<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match QueueMode::read(r)? {
            QueueMode::Messaging => Self::Messaging(
                r.maybe(|r| Ok(MessagingLink { sender_id: r.short()?, data: LinkData::read(r)? }))?,
            ),
            QueueMode::Contact => Self::Contact(r.maybe(|r| {
                Ok(ContactLink { link_id: r.short()?, sender_id: r.short()?, data: LinkData::read(r)? })
            })?),
        })
    }

    fn write(&self, out: &mut impl Sink) {
        self.mode().write(out);
        match self {
            Self::Messaging(link) => out.put_maybe(link.as_ref(), |out, link| {
                out.put_short(link.sender_id);
                link.data.write(out);
            }),
            Self::Contact(link) => out.put_maybe(link.as_ref(), |out, link| {
                out.put_short(link.link_id);
                out.put_short(link.sender_id);
                link.data.write(out);
            }),
        }
    }
}

impl<'a> LinkData<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { fixed: r.large()?, user: r.large()? })
    }

    pub(crate) fn write(&self, out: &mut impl Sink) {
        out.put_large(self.fixed);
        out.put_large(self.user);
    }
}

impl NotifierCredentials {
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { notifier_key: AuthPublicKey::read(r)?, recipient_dh_key: DhPublicKey::read(r)? })
    }

    fn write(&self, out: &mut impl Sink) {
        self.notifier_key.write(out);
        self.recipient_dh_key.write(out);
    }
}

impl ServiceSubs {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { count: r.i64()?, ids_hash: *r.short_array()? })
    }

    pub(crate) fn write(&self, out: &mut impl Sink) {
        out.put_i64(self.count);
        out.put_short(&self.ids_hash);
    }
}

impl<'a> RouterBinary<'a> {
    /// Reads a router address in binary form: 1 to 255 hosts, port (may be empty), key hash.
    pub fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { hosts: r.list(Reader::short)?, port: r.short()?, key_hash: r.short()? })
    }

    /// Writes a router address in binary form.
    pub fn write(&self, out: &mut impl Sink) {
        out.put_list(&self.hosts, |out, host| out.put_short(host));
        out.put_short(self.port);
        out.put_short(self.key_hash);
    }
}
