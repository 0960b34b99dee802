//! Whether a transmission says what it is to say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringpost_protocol::crypto::delivery::{DeliveredKind, decrypt_message, decrypt_notification_meta};
use ringpost_protocol::response::Response;
use ringpost_protocol::version::SmpVersion;
use serde_json::Value;

use crate::spec::{Id, Info, Message, Number, Said};
use crate::wire::{Received, body_bytes, mode_of};
use crate::world::{Verdict, World};

impl World {
    pub fn is_said(&mut self, conn: usize, said: &Said, came: &Received) -> Verdict {
        let other = || {
            let came = String::from_utf8_lossy(&came.bytes[..came.bytes.len().min(100)]);
            Err(format!("{came:?} came, not {said:?}"))
        };
        if let Said::Text(text) = said {
            return if text.as_bytes() == came.bytes { Ok(()) } else { other() };
        }
        let version = SmpVersion(self.spec.versions[conn]);
        let response = Response::parse(version, &came.bytes).map_err(|error| format!("{error:?}"))?;
        match (said, response) {
            (Said::Ids { .. }, Response::Ids(ids)) => {
                let its = Said::Ids {
                    recipient: ids.recipient_id.to_vec(),
                    sender: ids.sender_id.to_vec(),
                    mode: ids.mode.map(mode_of),
                    link: ids.link_id.map(<[u8]>::to_vec),
                    notifier: ids.notifier.map(|new| new.notifier_id.to_vec()),
                };
                if *said == its && ids.service_id.is_none() { Ok(()) } else { other() }
            }
            (Said::Nid(id), Response::Nid { notifier_id, .. }) if id == notifier_id => Ok(()),
            (Said::Lnk { sender, data }, Response::Lnk { sender_id, data: its }) => {
                let is_same = sender == sender_id && data.fixed == its.fixed && data.user == its.user;
                if is_same { Ok(()) } else { other() }
            }
            (Said::Msg(number), Response::Msg { msg_id, body }) => {
                self.is_message(*number, &came.entity, msg_id, body)
            }
            (Said::Nmsg(number), Response::Nmsg { nonce, meta }) => {
                let key = self.notifier_secrets.get(&came.entity).ok_or("a notifier that nobody has")?;
                let about = decrypt_notification_meta(key, nonce, meta)
                    .map_err(|error| format!("a notification cannot be opened: {error:?}"))?;
                self.is_named(*number, &about.msg_id, about.timestamp_secs)
            }
            (Said::Info(info), Response::Info(json)) => self.is_info(info, json),
            _ => other(),
        }
    }

    fn message(&self, number: Number) -> Option<&Message> {
        self.spec.queues.iter().flat_map(|queue| &queue.messages).find(|message| message.number == number)
    }

    /// A message has this ID, now and always; the time is that of its arrival, if it is still there.
    fn is_named(&mut self, number: Number, id: &[u8], time_secs: i64) -> Verdict {
        if id.len() != 24 || !self.names.is(number, id) {
            return Err(format!("message {number} has another ID than before"));
        }
        let known = self.message(number).map(|message| message.received_secs);
        match known {
            Some(known) if i64::try_from(known) != Ok(time_secs) => {
                Err(format!("message {number} is of {known}, not {time_secs}"))
            }
            _ => Ok(()),
        }
    }

    fn is_message(&mut self, number: Number, recipient: &Id, id: &[u8], body: &[u8]) -> Verdict {
        let secret = self.secrets.get(recipient).ok_or("a message of a queue that nobody has")?;
        let nonce = id.try_into().map_err(|_| "an ID of another length")?;
        let mut sealed = body.to_vec();
        let opened = decrypt_message(secret, nonce, &mut sealed)
            .map_err(|error| format!("a message cannot be opened: {error:?}"))?;
        let time_secs = opened.timestamp_secs;
        let sent = match &opened.kind {
            DeliveredKind::Quota => None,
            DeliveredKind::Message { flags, body } => Some((flags.notification, body.to_vec())),
        };
        // It may have left its queue with the same command.
        if let Some(known) = self.message(number) {
            let wanted = known.sent.map(|(notifies, body)| (notifies, body_bytes(body)));
            if sent != wanted {
                return Err(format!("message {number} has other flags, or another body"));
            }
        }
        self.is_named(number, id, time_secs)
    }

    fn is_info(&mut self, info: &Info, json: &[u8]) -> Verdict {
        let json: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut wanted = vec!["qiNtf", "qiSize", "qiSnd"];
        wanted.extend(info.first.map(|_| "qiMsg"));
        wanted.extend(info.reading.map(|_| "qiSub"));
        wanted.sort_unstable();
        let mut members: Vec<&str> =
            json.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
        members.sort_unstable();
        let is_same = members == wanted
            && json["qiSnd"] == info.is_secured
            && json["qiNtf"] == info.is_notified
            && json["qiSize"] == info.size
            && json["qiSub"]["qSubThread"].as_str() == info.reading.map(|(word, _)| word)
            && json["qiMsg"]["msgType"].as_str() == info.first.map(|(_, word)| word);
        let delivered = info.reading.and_then(|(_, delivered)| delivered);
        let named = [
            (delivered, &json["qiSub"]["qDelivered"]),
            (info.first.map(|(n, _)| n), &json["qiMsg"]["msgId"]),
        ];
        for (number, its) in named {
            let id = its.as_str().map(|text| STANDARD.decode(text)).transpose();
            let id = id.map_err(|_| "an ID that is no base64")?;
            let is_its = match (number, id) {
                (None, None) => true,
                (Some(number), Some(id)) => self.names.is(number, &id),
                _ => false,
            };
            if !is_its {
                return Err(format!("{json} names another message than {info:?}"));
            }
        }
        if is_same { Ok(()) } else { Err(format!("{json} is said, not {info:?}")) }
    }
}
