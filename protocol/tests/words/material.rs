//! Generated commands, responses and errors of every kind.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use ringpost_protocol::command::{
    Command, ContactLink, LinkData, MessagingLink, MsgFlags, NewQueue, NotifierCredentials, QueueMode,
    QueueRequest, RouterBinary, ServiceSubs, SubscribeMode,
};
use ringpost_protocol::error::{
    BlockingInfo, BlockingReason, BrokerError, ClientNotice, CommandError, ErrorType, HandshakeError,
    NetworkError, PROXY_NESTING_MAX, ProxyError, TransportError,
};
use ringpost_protocol::keys::{AuthPublicKey, DhPublicKey};
use ringpost_protocol::response::{QueueIds, Response, RouterNotifier};
use ringpost_protocol::version::{SmpVersion, VersionRange};

pub fn short() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 24), 4 => vec(any::<u8>(), 0..=255), 1 => Just(vec![0x20; 255])]
}

fn large() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..600), 1 => Just(vec![0x23; 65_535])]
}

fn password() -> impl Strategy<Value = Vec<u8>> {
    // Chosen from a list: a filter would reject too much for long runs.
    let refused = |byte: &u8| matches!(byte, b'@' | b':' | b'/' | 0xad);
    let allowed: Vec<u8> = (b'!'..=b'~').chain(0xa1..=0xff).filter(|byte| !refused(byte)).collect();
    let character = prop::sample::select(allowed);
    vec(character, 0..=255)
}

fn auth_key() -> impl Strategy<Value = AuthPublicKey> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(AuthPublicKey::Ed25519),
        any::<[u8; 32]>().prop_map(AuthPublicKey::X25519),
        vec(any::<u8>(), 57).prop_map(|key| AuthPublicKey::Ed448(Box::new(key.try_into().unwrap()))),
    ]
}

/// Values that commands and responses of a test case are made of.
#[derive(Clone, Debug)]
pub struct Material {
    pub ids: [Vec<u8>; 4],
    large: [Vec<u8>; 2],
    password: Option<Vec<u8>>,
    auth_keys: Vec<AuthPublicKey>,
    dh_keys: [[u8; 32]; 2],
    hosts: Vec<Vec<u8>>,
    flags: [bool; 6],
    subs: (i64, [u8; 16]),
    versions: (u16, u16),
    error: ErrorType,
}

prop_compose! {
    pub fn material()(
        ids in [short(), short(), short(), short()],
        large in [large(), large()],
        password in option::of(password()),
        auth_keys in vec(auth_key(), 1..5),
        dh_keys in any::<[[u8; 32]; 2]>(),
        hosts in vec(short(), 1..5),
        flags in any::<[bool; 6]>(),
        subs in (any::<i64>(), any::<[u8; 16]>()),
        versions in any::<(u16, u16)>(),
        error in error(),
    ) -> Material {
        Material { ids, large, password, auth_keys, dh_keys, hosts, flags, subs, versions, error }
    }
}

impl Material {
    fn data(&self) -> LinkData<'_> {
        LinkData { fixed: &self.large[0], user: &self.large[1] }
    }

    fn subs(&self) -> ServiceSubs {
        ServiceSubs { count: self.subs.0, ids_hash: self.subs.1 }
    }

    fn notifier(&self) -> NotifierCredentials {
        NotifierCredentials {
            notifier_key: self.auth_keys[0].clone(),
            recipient_dh_key: DhPublicKey(self.dh_keys[1]),
        }
    }

    fn queue_requests(&self) -> [Option<QueueRequest<'_>>; 5] {
        let [link_id, sender_id, ..] = &self.ids;
        let data = self.data();
        [
            None,
            Some(QueueRequest::Messaging(None)),
            Some(QueueRequest::Contact(None)),
            Some(QueueRequest::Messaging(Some(MessagingLink { sender_id, data }))),
            Some(QueueRequest::Contact(Some(ContactLink { link_id, sender_id, data }))),
        ]
    }

    /// Every command, NEW with every kind of request.
    pub fn commands(&self) -> Vec<Command<'_>> {
        let key = || self.auth_keys[0].clone();
        let [id, other_id, ..] = &self.ids;
        let [body, _] = &self.large;
        let mut commands = vec![
            Command::Sub,
            Command::Subs(self.subs()),
            Command::Key(key()),
            Command::RKey(self.auth_keys.clone()),
            Command::LSet { link_id: id, data: self.data() },
            Command::LDel,
            Command::NKey(self.notifier()),
            Command::NDel,
            Command::Get,
            Command::Ack { msg_id: id },
            Command::Off,
            Command::Del,
            Command::Que,
            Command::SKey(key()),
            Command::Send { flags: MsgFlags { notification: self.flags[0] }, body },
            Command::Ping,
            Command::LKey(key()),
            Command::LGet,
            Command::NSub,
            Command::NSubs(self.subs()),
            Command::Prxy {
                router: RouterBinary {
                    hosts: self.hosts.iter().map(Vec::as_slice).collect(),
                    port: id,
                    key_hash: other_id,
                },
                basic_auth: self.password.as_deref(),
            },
            Command::Pfwd {
                version: SmpVersion(self.versions.0),
                key: DhPublicKey(self.dh_keys[0]),
                transmission: body,
            },
            Command::Rfwd(body),
        ];
        commands.extend(self.queue_requests().into_iter().map(|request| {
            Command::New(Box::new(NewQueue {
                recipient_key: key(),
                recipient_dh_key: DhPublicKey(self.dh_keys[0]),
                basic_auth: self.password.as_deref(),
                subscribe: if self.flags[1] { SubscribeMode::Subscribe } else { SubscribeMode::OnlyCreate },
                request,
                notifier: self.flags[2].then(|| self.notifier()),
            }))
        }));
        commands
    }

    /// Every response that may be sent at this version.
    pub fn responses(&self, version: SmpVersion) -> Vec<Response<'_>> {
        let [id, other_id, link_id, service_id] = &self.ids;
        let [body, _] = &self.large;
        let (low, high) = (self.versions.0.min(self.versions.1), self.versions.0.max(self.versions.1));
        let mut responses = vec![
            Response::Lnk { sender_id: id, data: self.data() },
            Response::Sok { service_id: self.flags[0].then_some(id.as_slice()) },
            Response::Soks(self.subs()),
            Response::Msg { msg_id: id, body },
            Response::Nid { notifier_id: id, router_dh_key: DhPublicKey(self.dh_keys[0]) },
            Response::Nmsg { nonce: self.dh_keys[0].first_chunk().unwrap(), meta: id },
            Response::Pkey {
                session_id: id,
                versions: VersionRange::new(SmpVersion(low), SmpVersion(high)).unwrap(),
                certificates: self.large.iter().map(Vec::as_slice).collect(),
                signed_key: body,
            },
            Response::Rres(body),
            Response::Pres(body),
            Response::End,
            Response::Ends(self.subs()),
            Response::Deld,
            Response::Info(body),
            Response::Ok,
            Response::Err(self.error.clone()),
            Response::Pong,
        ];
        responses.extend([None, Some(QueueMode::Messaging), Some(QueueMode::Contact)].map(|mode| {
            Response::Ids(Box::new(QueueIds {
                recipient_id: id,
                sender_id: other_id,
                router_dh_key: DhPublicKey(self.dh_keys[0]),
                mode,
                link_id: self.flags[3].then_some(link_id.as_slice()),
                service_id: self.flags[4].then_some(service_id.as_slice()),
                notifier: self.flags[5].then_some(RouterNotifier {
                    notifier_id: other_id,
                    router_dh_key: DhPublicKey(self.dh_keys[1]),
                }),
            }))
        }));
        if version >= SmpVersion::SERVICE_SUBSCRIPTIONS {
            responses.push(Response::Alls);
        }
        responses
    }
}

fn latin1() -> impl Strategy<Value = String> {
    vec(any::<u8>(), 0..=255).prop_map(|bytes| bytes.into_iter().map(char::from).collect())
}

fn blocking_info() -> impl Strategy<Value = BlockingInfo> {
    let reason = prop_oneof![Just(BlockingReason::Spam), Just(BlockingReason::Content)];
    let notice = option::of(option::of(any::<i64>()));
    (reason, notice).prop_map(|(reason, notice)| BlockingInfo {
        reason,
        notice: notice.map(|ttl_secs| ClientNotice { ttl_secs }),
    })
}

fn broker_error() -> impl Strategy<Value = BrokerError> {
    let network = prop_oneof![
        latin1().prop_map(NetworkError::Connect),
        latin1().prop_map(NetworkError::Tls),
        Just(NetworkError::UnknownCa),
        Just(NetworkError::Failed),
        Just(NetworkError::Timeout),
        latin1().prop_map(NetworkError::Subscribe),
    ];
    let transport = prop::sample::select(vec![
        TransportError::Block,
        TransportError::Version,
        TransportError::LargeMsg,
        TransportError::Session,
        TransportError::NoAuth,
        TransportError::Handshake(HandshakeError::Parse),
        TransportError::Handshake(HandshakeError::Identity),
        TransportError::Handshake(HandshakeError::BadAuth),
        TransportError::Handshake(HandshakeError::BadService),
    ]);
    prop_oneof![
        latin1().prop_map(BrokerError::Response),
        latin1().prop_map(BrokerError::Unexpected),
        network.prop_map(BrokerError::Network),
        Just(BrokerError::Timeout),
        Just(BrokerError::Host),
        Just(BrokerError::NoService),
        transport.prop_map(BrokerError::Transport),
    ]
}

pub fn error() -> impl Strategy<Value = ErrorType> {
    let command = prop::sample::select(vec![
        CommandError::Unknown,
        CommandError::Syntax,
        CommandError::Prohibited,
        CommandError::NoAuth,
        CommandError::HasAuth,
        CommandError::NoEntity,
    ]);
    let plain = prop::sample::select(vec![
        ErrorType::Block,
        ErrorType::Session,
        ErrorType::Auth,
        ErrorType::Service,
        ErrorType::Crypto,
        ErrorType::Quota,
        ErrorType::Expired,
        ErrorType::NoMsg,
        ErrorType::LargeMsg,
        ErrorType::Internal,
        ErrorType::Duplicate,
    ]);
    let leaf = prop_oneof![
        plain,
        command.prop_map(ErrorType::Cmd),
        blocking_info().prop_map(ErrorType::Blocked),
        any::<String>().prop_map(ErrorType::Store),
        broker_error().prop_map(|error| ErrorType::Proxy(Box::new(ProxyError::Broker(error)))),
        Just(ErrorType::Proxy(Box::new(ProxyError::BasicAuth))),
        Just(ErrorType::Proxy(Box::new(ProxyError::NoSession))),
    ];
    let deeper = u32::try_from(PROXY_NESTING_MAX).unwrap() - 1;
    leaf.prop_recursive(deeper, deeper, 1, |inner| {
        inner.prop_map(|error| ErrorType::Proxy(Box::new(ProxyError::Protocol(error))))
    })
}
