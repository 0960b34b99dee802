//! Commands, responses and errors in tests: built from the fields of vectors, and cut down to what a version says.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod material;
pub mod shown;

use ringpost_protocol::command::{
    Command, ContactLink, LinkData, MessagingLink, MsgFlags, NewQueue, NotifierCredentials, QueueMode,
    QueueRequest, RouterBinary, ServiceSubs, SubscribeMode,
};
use ringpost_protocol::error::{BlockingInfo, BrokerError, ErrorType, NetworkError, ProxyError};
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};
use ringpost_protocol::response::{QueueIds, Response, RouterNotifier};
use ringpost_protocol::version::{SmpVersion, VersionRange};
use serde_json::Value;

use crate::common::{hex, items, name};

/// Bytes that live as long as the test: commands borrow, vectors are read into owned values.
pub fn leak(bytes: Vec<u8>) -> &'static [u8] {
    Vec::leak(bytes)
}

fn bytes(value: &Value) -> &'static [u8] {
    leak(hex(value))
}

fn text(value: &Value) -> &'static [u8] {
    leak(value.as_str().unwrap().as_bytes().to_vec())
}

fn maybe<T>(value: &Value, read: impl FnOnce(&Value) -> T) -> Option<T> {
    (!value.is_null()).then(|| read(value))
}

fn auth_key(value: &Value) -> AuthPublicKey {
    AuthPublicKey::from_der(&hex(value)).unwrap()
}

fn dh_key(value: &Value) -> DhPublicKey {
    DhPublicKey::from_der(&hex(value)).unwrap()
}

fn link_data(fields: &Value) -> LinkData<'static> {
    LinkData { fixed: bytes(&fields["enc_fixed_data"]), user: bytes(&fields["enc_user_data"]) }
}

fn version(value: &Value) -> SmpVersion {
    SmpVersion(u16::try_from(value.as_u64().unwrap()).unwrap())
}

/// The versions of one group of equal encodings.
pub fn versions(encoding: &Value) -> Vec<SmpVersion> {
    items(&encoding["versions"]).iter().map(version).collect()
}

fn tag(case: &Value) -> &str {
    name(case).split(' ').next().unwrap()
}

/// The command that a case of `commands` describes.
pub fn command(case: &Value) -> Command<'static> {
    let fields = &case["fields"];
    match tag(case) {
        "NEW" => Command::New(Box::new(new_queue(fields))),
        "SUB" => Command::Sub,
        "SUBS" => Command::Subs(ServiceSubs::UNKNOWN),
        "KEY" => Command::Key(auth_key(&fields["sender_key_der"])),
        "RKEY" => Command::RKey(items(&fields["keys_der"]).iter().map(auth_key).collect()),
        "LSET" => Command::LSet { link_id: bytes(&fields["link_id"]), data: link_data(fields) },
        "LDEL" => Command::LDel,
        "NKEY" => Command::NKey(NotifierCredentials {
            notifier_key: auth_key(&fields["notifier_key_der"]),
            recipient_dh_key: dh_key(&fields["rcv_ntf_dh_der"]),
        }),
        "NDEL" => Command::NDel,
        "GET" => Command::Get,
        "ACK" => Command::Ack { msg_id: bytes(&fields["msg_id"]) },
        "OFF" => Command::Off,
        "DEL" => Command::Del,
        "QUE" => Command::Que,
        "SKEY" => Command::SKey(auth_key(&fields["sender_key_der"])),
        "SEND" => Command::Send {
            flags: MsgFlags { notification: fields["notification"].as_bool().unwrap() },
            body: text(&fields["body"]),
        },
        "PING" => Command::Ping,
        "LKEY" => Command::LKey(auth_key(&fields["sender_key_der"])),
        "LGET" => Command::LGet,
        "NSUB" => Command::NSub,
        "NSUBS" => Command::NSubs(ServiceSubs::UNKNOWN),
        "PRXY" => {
            let router = &fields["server"];
            Command::Prxy {
                router: RouterBinary {
                    hosts: items(&router["hosts"]).iter().map(text).collect(),
                    port: text(&router["port"]),
                    key_hash: bytes(&router["key_hash"]),
                },
                basic_auth: maybe(&fields["basic_auth"], text),
            }
        }
        "PFWD" => Command::Pfwd {
            version: version(&fields["version"]),
            key: dh_key(&fields["key_der"]),
            transmission: bytes(&fields["enc_transmission"]),
        },
        "RFWD" => Command::Rfwd(bytes(&fields["enc_fwd_transmission"])),
        other => panic!("a command the vectors did not have before: {other}"),
    }
}

fn new_queue(fields: &Value) -> NewQueue<'static> {
    NewQueue {
        recipient_key: auth_key(&fields["rcv_auth_key_der"]),
        recipient_dh_key: dh_key(&fields["rcv_dh_key_der"]),
        basic_auth: maybe(&fields["basic_auth"], text),
        subscribe: match fields["sub_mode"].as_str().unwrap() {
            "S" => SubscribeMode::Subscribe,
            "C" => SubscribeMode::OnlyCreate,
            other => panic!("mode {other}"),
        },
        request: maybe(&fields["queue_req_data"], |request| match queue_mode(&request["mode"]) {
            QueueMode::Messaging => QueueRequest::Messaging(maybe(&request["link"], |link| MessagingLink {
                sender_id: bytes(&link["sender_id"]),
                data: link_data(link),
            })),
            QueueMode::Contact => QueueRequest::Contact(maybe(&request["link"], |link| ContactLink {
                link_id: bytes(&link["link_id"]),
                sender_id: bytes(&link["sender_id"]),
                data: link_data(link),
            })),
        }),
        notifier: maybe(&fields["ntf_creds"], |credentials| NotifierCredentials {
            notifier_key: auth_key(&credentials["ntf_key_der"]),
            recipient_dh_key: dh_key(&credentials["ntf_dh_der"]),
        }),
    }
}

fn queue_mode(value: &Value) -> QueueMode {
    match value.as_str().unwrap() {
        "M" => QueueMode::Messaging,
        "C" => QueueMode::Contact,
        other => panic!("mode {other}"),
    }
}

/// The response that a case of `responses` describes.
pub fn response(case: &Value) -> Response<'static> {
    let fields = &case["fields"];
    let subs = || ServiceSubs { count: fields["count"].as_i64().unwrap(), ids_hash: [0; 16] };
    match tag(case) {
        "IDS" => Response::Ids(Box::new(QueueIds {
            recipient_id: bytes(&fields["rcv_id"]),
            sender_id: bytes(&fields["snd_id"]),
            router_dh_key: dh_key(&fields["srv_dh_der"]),
            mode: maybe(&fields["queue_mode"], queue_mode),
            link_id: maybe(&fields["link_id"], bytes),
            service_id: maybe(&fields["service_id"], bytes),
            notifier: maybe(&fields["server_ntf_creds"], |credentials| RouterNotifier {
                notifier_id: bytes(&credentials["notifier_id"]),
                router_dh_key: dh_key(&credentials["srv_ntf_dh_der"]),
            }),
        })),
        "LNK" => Response::Lnk { sender_id: bytes(&fields["sender_id"]), data: link_data(fields) },
        "SOK" => Response::Sok { service_id: maybe(&fields["service_id"], bytes) },
        "SOKS" => Response::Soks(subs()),
        "MSG" => Response::Msg { msg_id: bytes(&fields["msg_id"]), body: bytes(&fields["enc_body"]) },
        "NID" => Response::Nid {
            notifier_id: bytes(&fields["notifier_id"]),
            router_dh_key: dh_key(&fields["srv_ntf_dh_der"]),
        },
        "NMSG" => Response::Nmsg {
            nonce: bytes(&fields["nonce"]).try_into().unwrap(),
            meta: bytes(&fields["enc_meta"]),
        },
        "PKEY" => Response::Pkey {
            session_id: bytes(&fields["session_id"]),
            versions: VersionRange::new(version(&fields["min_version"]), version(&fields["max_version"]))
                .unwrap(),
            certificates: items(&fields["chain_der"]).iter().map(bytes).collect(),
            signed_key: bytes(&fields["signed_key_der"]),
        },
        "RRES" => Response::Rres(bytes(&fields["enc_fwd_response"])),
        "PRES" => Response::Pres(bytes(&fields["enc_response"])),
        "END" => Response::End,
        "ENDS" => Response::Ends(subs()),
        "DELD" => Response::Deld,
        "INFO" => Response::Info(text(&fields["json"])),
        "OK" => Response::Ok,
        "PONG" => Response::Pong,
        other => panic!("a response the vectors did not have before: {other}"),
    }
}

/// What a reader of `version` gets to know of a command.
pub fn command_as_read<'a>(command: &Command<'a>, version: SmpVersion) -> Command<'a> {
    match command {
        Command::New(queue) => {
            let mut queue = queue.clone();
            if version < SmpVersion::SENDER_KEY {
                queue.request = None;
            } else if version < SmpVersion::SHORT_LINKS {
                queue.request = Some(match queue.request {
                    Some(QueueRequest::Messaging(_)) => QueueRequest::Messaging(None),
                    _ => QueueRequest::Contact(None),
                });
            }
            if version < SmpVersion::NEW_NOTIFIER {
                queue.notifier = None;
            }
            Command::New(queue)
        }
        Command::Subs(_) if version < SmpVersion::SERVICE_SUBSCRIPTIONS => {
            Command::Subs(ServiceSubs::UNKNOWN)
        }
        Command::NSubs(_) if version < SmpVersion::SERVICE_SUBSCRIPTIONS => {
            Command::NSubs(ServiceSubs::UNKNOWN)
        }
        _ => command.clone(),
    }
}

/// What a reader of `version` gets to know of a response.
pub fn response_as_read<'a>(response: &Response<'a>, version: SmpVersion) -> Response<'a> {
    let short = |subs: &ServiceSubs| {
        let hash = if version < SmpVersion::SERVICE_SUBSCRIPTIONS { [0; 16] } else { subs.ids_hash };
        ServiceSubs { count: subs.count, ids_hash: hash }
    };
    match response {
        Response::Ids(ids) => {
            let mut ids = ids.clone();
            if version < SmpVersion::SENDER_KEY {
                ids.mode = None;
            } else if version < SmpVersion::SHORT_LINKS {
                ids.mode = Some(ids.mode.unwrap_or(QueueMode::Contact));
            }
            if version < SmpVersion::SHORT_LINKS {
                ids.link_id = None;
            }
            if version < SmpVersion::SERVICE_CERTIFICATES {
                ids.service_id = None;
            }
            if version < SmpVersion::NEW_NOTIFIER {
                ids.notifier = None;
            }
            Response::Ids(ids)
        }
        Response::Sok { .. } if version < SmpVersion::SERVICE_CERTIFICATES => Response::Ok,
        Response::Deld if version < SmpVersion::DELETED_EVENT => Response::End,
        Response::Soks(subs) => Response::Soks(short(subs)),
        Response::Ends(subs) => Response::Ends(short(subs)),
        Response::Err(error) => Response::Err(error_as_read(error, version)),
        _ => response.clone(),
    }
}

/// What a reader of `version` gets to know of an error.
pub fn error_as_read(error: &ErrorType, version: SmpVersion) -> ErrorType {
    match error {
        ErrorType::Blocked(_) if version < SmpVersion::BLOCKED_ERROR => ErrorType::Auth,
        ErrorType::Blocked(info) if version < SmpVersion::BLOCKED_NOTICE => {
            ErrorType::Blocked(BlockingInfo { reason: info.reason, notice: None })
        }
        _ => without_network_details(error),
    }
}

/// Details of NETWORK are read, but not written.
fn without_network_details(error: &ErrorType) -> ErrorType {
    match error {
        ErrorType::Proxy(inner) => ErrorType::Proxy(Box::new(match &**inner {
            ProxyError::Protocol(error) => ProxyError::Protocol(without_network_details(error)),
            ProxyError::Broker(BrokerError::Network(_)) => {
                ProxyError::Broker(BrokerError::Network(NetworkError::Failed))
            }
            other => other.clone(),
        })),
        other => other.clone(),
    }
}
