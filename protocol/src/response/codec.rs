//! Bytes of responses, by version.

use super::{QueueIds, Response, RouterNotifier};
use crate::command::{LinkData, QueueMode, ServiceSubs, split_tag};
use crate::encoding::{DecodeError, Reader, Sink};
use crate::error::{CommandError, ErrorType, PROXY_NESTING_MAX};
use crate::keys::DhPublicKey;
use crate::version::{SmpVersion, VersionRange};

impl<'a> Response<'a> {
    /// Reads one whole response, without allocation except for `IDS`, `PKEY` and errors with details.
    ///
    /// `CMD UNKNOWN` if the word up to the first space names no response; `CMD SYNTAX` if what follows is not as
    /// this version has it.
    pub fn parse(version: SmpVersion, bytes: &'a [u8]) -> Result<Self, ErrorType> {
        let (tag, reader) = split_tag(bytes);
        match Self::read(version, tag, reader) {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(ErrorType::Cmd(CommandError::Unknown)),
            Err(_) => Err(ErrorType::Cmd(CommandError::Syntax)),
        }
    }

    fn read(version: SmpVersion, tag: &[u8], mut reader: Reader<'a>) -> Result<Option<Self>, DecodeError> {
        let r = &mut reader;
        let response = match tag {
            b"MSG" => {
                r.space()?;
                Self::Msg { msg_id: r.short()?, body: r.tail() }
            }
            b"OK" => Self::Ok,
            b"SOK" => {
                r.space()?;
                Self::Sok { service_id: r.maybe(Reader::short)? }
            }
            b"NMSG" => {
                r.space()?;
                Self::Nmsg { nonce: r.array()?, meta: r.short()? }
            }
            b"PONG" => Self::Pong,
            b"ERR" => {
                r.space()?;
                Self::Err(ErrorType::read(r, PROXY_NESTING_MAX)?)
            }
            b"IDS" => {
                r.space()?;
                Self::Ids(Box::new(QueueIds::read(version, r)?))
            }
            b"PRES" => {
                r.space()?;
                Self::Pres(r.tail())
            }
            b"RRES" => {
                r.space()?;
                Self::Rres(r.tail())
            }
            b"PKEY" => {
                r.space()?;
                Self::Pkey {
                    session_id: r.short()?,
                    versions: VersionRange::read(r)?,
                    certificates: r.list(Reader::large)?,
                    signed_key: r.large()?,
                }
            }
            b"LNK" => {
                r.space()?;
                Self::Lnk { sender_id: r.short()?, data: LinkData::read(r)? }
            }
            b"NID" => {
                r.space()?;
                Self::Nid { notifier_id: r.short()?, router_dh_key: DhPublicKey::read(r)? }
            }
            b"SOKS" => Self::Soks(read_service_subs(version, r)?),
            b"ENDS" => Self::Ends(read_service_subs(version, r)?),
            b"END" => Self::End,
            b"DELD" => Self::Deld,
            b"ALLS" if version >= SmpVersion::SERVICE_SUBSCRIPTIONS => Self::Alls,
            b"INFO" => {
                r.space()?;
                Self::Info(r.tail())
            }
            _ => return Ok(None),
        };
        reader.finish()?;
        Ok(Some(response))
    }

    /// The word that names the response, in the newest version.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::Ids(_) => "IDS",
            Self::Lnk { .. } => "LNK",
            Self::Sok { .. } => "SOK",
            Self::Soks(_) => "SOKS",
            Self::Msg { .. } => "MSG",
            Self::Alls => "ALLS",
            Self::Nid { .. } => "NID",
            Self::Nmsg { .. } => "NMSG",
            Self::Pkey { .. } => "PKEY",
            Self::Rres(_) => "RRES",
            Self::Pres(_) => "PRES",
            Self::End => "END",
            Self::Ends(_) => "ENDS",
            Self::Deld => "DELD",
            Self::Info(_) => "INFO",
            Self::Ok => "OK",
            Self::Err(_) => "ERR",
            Self::Pong => "PONG",
        }
    }

    /// Appends the response in the form of `version`. What the version has no place for is left out; `SOK` becomes
    /// `OK` and `DELD` becomes `END` where they did not exist.
    ///
    /// Invariants of the caller: IDs and notification metadata of at most 255 bytes, link data, certificates and
    /// the signed key of at most 65,535, 1 to 255 certificates.
    pub fn encode(&self, version: SmpVersion, out: &mut impl Sink) {
        match self {
            Self::Sok { .. } if version < SmpVersion::SERVICE_CERTIFICATES => return out.put(b"OK"),
            Self::Deld if version < SmpVersion::DELETED_EVENT => return out.put(b"END"),
            _ => out.put(self.tag().as_bytes()),
        }
        match self {
            Self::Alls | Self::End | Self::Deld | Self::Ok | Self::Pong => return,
            _ => out.put(b" "),
        }
        match self {
            Self::Msg { msg_id, body } => {
                out.put_short(msg_id);
                out.put(body);
            }
            Self::Sok { service_id } => out.put_maybe(*service_id, Sink::put_short),
            Self::Nmsg { nonce, meta } => {
                out.put(*nonce);
                out.put_short(meta);
            }
            Self::Err(error) => error.encode(version, out),
            Self::Ids(ids) => ids.write(version, out),
            Self::Rres(bytes) | Self::Pres(bytes) | Self::Info(bytes) => out.put(bytes),
            Self::Pkey { session_id, versions, certificates, signed_key } => {
                out.put_short(session_id);
                versions.write(out);
                out.put_list(certificates, |out, certificate| out.put_large(certificate));
                out.put_large(signed_key);
            }
            Self::Lnk { sender_id, data } => {
                out.put_short(sender_id);
                data.write(out);
            }
            Self::Nid { notifier_id, router_dh_key } => {
                out.put_short(notifier_id);
                router_dh_key.write(out);
            }
            Self::Soks(subs) | Self::Ends(subs) => {
                if version >= SmpVersion::SERVICE_SUBSCRIPTIONS {
                    subs.write(out);
                } else {
                    out.put_i64(subs.count);
                }
            }
            Self::Alls | Self::End | Self::Deld | Self::Ok | Self::Pong => {}
        }
    }

    /// Whether the response stands beside an entity ID where it must, and beside none where it must not.
    pub fn check_entity(&self, entity_id: &[u8]) -> Result<(), ErrorType> {
        let refusal = match self {
            Self::Ids(_) | Self::Err(_) => None,
            Self::Pong | Self::Pkey { .. } | Self::Rres(_) | Self::Alls => {
                (!entity_id.is_empty()).then_some(CommandError::HasAuth)
            }
            Self::Lnk { .. }
            | Self::Sok { .. }
            | Self::Soks(_)
            | Self::Msg { .. }
            | Self::Nid { .. }
            | Self::Nmsg { .. }
            | Self::Pres(_)
            | Self::End
            | Self::Ends(_)
            | Self::Deld
            | Self::Info(_)
            | Self::Ok => entity_id.is_empty().then_some(CommandError::NoEntity),
        };
        refusal.map_or(Ok(()), |error| Err(ErrorType::Cmd(error)))
    }
}

/// Below version 19 the router says only how many.
fn read_service_subs(version: SmpVersion, r: &mut Reader<'_>) -> Result<ServiceSubs, DecodeError> {
    r.space()?;
    if version >= SmpVersion::SERVICE_SUBSCRIPTIONS {
        ServiceSubs::read(r)
    } else {
        Ok(ServiceSubs { count: r.i64()?, ids_hash: [0; 16] })
    }
}

impl<'a> QueueIds<'a> {
    fn read(version: SmpVersion, r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let recipient_id = r.short()?;
        let sender_id = r.short()?;
        let router_dh_key = DhPublicKey::read(r)?;
        let mode = if version >= SmpVersion::SHORT_LINKS {
            r.maybe(QueueMode::read)?
        } else if version >= SmpVersion::SENDER_KEY {
            let sender_can_secure = r.bool()?;
            Some(if sender_can_secure { QueueMode::Messaging } else { QueueMode::Contact })
        } else {
            None
        };
        let link_id = if version >= SmpVersion::SHORT_LINKS { r.maybe(Reader::short)? } else { None };
        let service_id =
            if version >= SmpVersion::SERVICE_CERTIFICATES { r.maybe(Reader::short)? } else { None };
        let notifier =
            if version >= SmpVersion::NEW_NOTIFIER { r.maybe(RouterNotifier::read)? } else { None };
        Ok(Self { recipient_id, sender_id, router_dh_key, mode, link_id, service_id, notifier })
    }

    fn write(&self, version: SmpVersion, out: &mut impl Sink) {
        out.put_short(self.recipient_id);
        out.put_short(self.sender_id);
        self.router_dh_key.write(out);
        if version >= SmpVersion::SHORT_LINKS {
            out.put_maybe(self.mode, |out, mode| mode.write(out));
            out.put_maybe(self.link_id, Sink::put_short);
        } else if version >= SmpVersion::SENDER_KEY {
            out.put_bool(self.mode == Some(QueueMode::Messaging));
        }
        if version >= SmpVersion::SERVICE_CERTIFICATES {
            out.put_maybe(self.service_id, Sink::put_short);
        }
        if version >= SmpVersion::NEW_NOTIFIER {
            out.put_maybe(self.notifier.as_ref(), |out, notifier| notifier.write(out));
        }
    }
}

impl<'a> RouterNotifier<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { notifier_id: r.short()?, router_dh_key: DhPublicKey::read(r)? })
    }

    fn write(&self, out: &mut impl Sink) {
        out.put_short(self.notifier_id);
        self.router_dh_key.write(out);
    }
}
