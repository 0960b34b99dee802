//! A small SMP router in this process, made of the protocol's server side, that can misbehave on demand.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

mod queues;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::certificate::{CertificateAuthority, RouterCredentials};
use ringpost_protocol::crypto::{BlockCipher, DhPrivateKey};
use ringpost_protocol::handshake::{
    RouterHandshake, RouterHello, ServiceResponse, offered_versions, write_service_response,
};
use ringpost_protocol::limits::BLOCK_BYTES;
use ringpost_protocol::response::Response;
use ringpost_protocol::tls::{Opened, TlsChannel, server_config};
use ringpost_protocol::transmission::{BlockBuilder, Format, decode_commands};
use ringpost_protocol::version::VersionRange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

pub use queues::Delivery;
use queues::{Answer, Kind, Peer, Queues};

/// How the router misbehaves. The default is that it does not.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Closes TCP as soon as a client connects.
    pub close_at_once: bool,
    /// Closes TCP in the place of its hello.
    pub close_in_handshake: bool,
    /// Closes TCP without a word after so many commands on a connection.
    pub cut_after_commands: Option<usize>,
    /// Ends TLS properly after so many commands on a connection.
    pub end_after_commands: Option<usize>,
    /// Does not answer this command.
    pub silent_to: Option<&'static str>,
    /// Answers this command by PONG with the command's entity.
    pub pong_to: Option<&'static str>,
    /// Answers this command about another queue.
    pub other_queue_to: Option<&'static str>,
    /// Answers this command by bytes that are no response.
    pub nonsense_to: Option<&'static str>,
    /// Answers this command by a block with a wrong count.
    pub broken_block_to: Option<&'static str>,
    /// Sends every block in records of 5,000 bytes.
    pub small_records: bool,
    /// Answers SUB by the first message, as the protocol's text allows.
    pub message_answers_sub: bool,
    /// What happens to stored messages.
    pub delivery: Delivery,
}

pub struct FakeRouter {
    pub address: RouterAddress,
    pub shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

pub struct Shared {
    credentials: RouterCredentials,
    faults: Faults,
    versions: VersionRange,
    pub queues: Queues,
    /// Blocks with commands received so far.
    pub blocks: AtomicUsize,
    /// The most commands in one block so far.
    pub commands_in_block_max: AtomicUsize,
}

impl Drop for FakeRouter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeRouter {
    pub async fn start(faults: Faults) -> Self {
        Self::with_versions(faults, VersionRange::ALL).await
    }

    pub async fn with_versions(faults: Faults, versions: VersionRange) -> Self {
        let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
        let authority = CertificateAuthority::generate(&random(), now_secs).unwrap();
        let issued = authority.issue("127.0.0.1", &random(), now_secs).unwrap();
        let credentials = RouterCredentials::from_pem(
            &authority.certificate_pem(),
            &issued.certificate_pem,
            &issued.key_pem,
            now_secs,
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("smp://{}@127.0.0.1:{port}", credentials.fingerprint_text()).parse().unwrap();
        let shared = Arc::new(Shared {
            credentials,
            queues: Queues::new(faults.delivery, faults.message_answers_sub),
            faults,
            versions,
            blocks: AtomicUsize::new(0),
            commands_in_block_max: AtomicUsize::new(0),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            for id in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                if !serving.faults.close_at_once {
                    tokio::spawn(serve(stream, id, Arc::clone(&serving)));
                }
            }
        });
        Self { address, shared, task }
    }

    /// Blocks with commands received so far, and the most commands in one.
    pub fn blocks(&self) -> (usize, usize) {
        let shared = &self.shared;
        (shared.blocks.load(Ordering::SeqCst), shared.commands_in_block_max.load(Ordering::SeqCst))
    }
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// One connection of a client. None when it is over, for whatever reason.
async fn serve(stream: TcpStream, id: usize, shared: Arc<Shared>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let tls = TlsChannel::server(server_config(&shared.credentials).unwrap()).unwrap();
    let mut link =
        Link { stream, tls, incoming: Vec::new(), plain: Vec::new(), small: shared.faults.small_records };
    link.handshake().await?;
    if shared.faults.close_in_handshake {
        return None;
    }
    let session_id = link.tls.session_id()?;
    let key = random();
    let mut block = Box::new([0; BLOCK_BYTES]);
    let offered = offered_versions(link.tls.alpn()).intersect(shared.versions)?;
    let hello = RouterHello {
        offered,
        session_id,
        credentials: &shared.credentials,
        session_key: DhPrivateKey::from_bytes(key).into(),
        web_challenge: None,
    };
    let handshake = RouterHandshake::start(hello, &mut block).unwrap();
    link.write(&block[..]).await?;
    let client_hello = link.read().await?;
    let session = handshake.client_hello(&client_hello).ok()?;
    let service = match &session.service {
        Some(hello) => Some(hello.verify(link.tls.peer_certificates()).ok()?),
        None => None,
    };
    if let Some(service) = &service {
        let response = ServiceResponse::Accepted { service_id: &service.fingerprint[..24] };
        write_service_response(response, &mut block).unwrap();
        link.write(&block[..]).await?;
    }
    let mut cipher = match &session.secret {
        Some(secret) if session.block_encryption => BlockCipher::router(session_id.as_ref(), secret),
        _ => BlockCipher::plain(),
    };
    let format = Format::of_session(session.version);
    let (outbox, mut answers) = mpsc::unbounded_channel();
    let peer = Peer { id, outbox, session_key: session.session_private_key, session_id, service };
    let mut commands_seen = 0;
    loop {
        tokio::select! {
            block = link.read() => {
                let mut block = block?;
                let content = cipher.open(&mut block).ok()?;
                let commands: Vec<_> = decode_commands(&block[content], format, session_id.as_ref()).collect();
                shared.blocks.fetch_add(1, Ordering::SeqCst);
                shared.commands_in_block_max.fetch_max(commands.len(), Ordering::SeqCst);
                for command in commands {
                    let (transmission, command) = match command {
                        Ok(command) => command,
                        Err(bad) => {
                            peer.answer(bad.corr_id, bad.entity_id, Kind::Err(bad.error));
                            continue;
                        }
                    };
                    commands_seen += 1;
                    if shared.faults.cut_after_commands.is_some_and(|count| commands_seen > count) {
                        return None;
                    }
                    if shared.faults.end_after_commands.is_some_and(|count| commands_seen > count) {
                        let mut out = Vec::new();
                        link.tls.close_notify(&mut out).ok()?;
                        link.stream.write_all(&out).await.ok()?;
                        return None;
                    }
                    let tag = Some(command.tag());
                    let (corr_id, entity) = (transmission.corr_id, transmission.entity_id);
                    if tag == shared.faults.silent_to {
                    } else if tag == shared.faults.pong_to {
                        peer.answer(corr_id, entity, Kind::Pong);
                    } else if tag == shared.faults.other_queue_to {
                        peer.answer(corr_id, &[5; 24], Kind::Ok);
                    } else if tag == shared.faults.nonsense_to {
                        peer.answer(corr_id, entity, Kind::Nonsense);
                    } else if tag == shared.faults.broken_block_to {
                        peer.answer(corr_id, entity, Kind::BrokenBlock);
                    } else {
                        shared.queues.execute(&peer, &transmission, &command);
                    }
                }
            }
            answer = answers.recv() => {
                let mut waiting = vec![answer?];
                while let Ok(answer) = answers.try_recv() {
                    waiting.push(answer);
                }
                let mut waiting = waiting.as_slice();
                while !waiting.is_empty() {
                    let offset = cipher.content_offset();
                    let mut content = BlockBuilder::new(&mut block[offset..], format, session_id.as_ref());
                    let mut broken = false;
                    while let [answer, rest @ ..] = waiting {
                        if push(&mut content, answer).is_err() {
                            break;
                        }
                        broken |= matches!(answer.kind, Kind::BrokenBlock);
                        waiting = rest;
                    }
                    let bytes = content.content_bytes();
                    assert!(bytes > 0, "an answer that fits no block");
                    if broken {
                        block[offset] += 1;
                    }
                    cipher.seal(&mut block, bytes).unwrap();
                    link.write(&block[..]).await?;
                }
            }
        }
    }
}

fn push(
    content: &mut BlockBuilder<'_>,
    answer: &Answer,
) -> Result<(), ringpost_protocol::transmission::Refused> {
    let response = match &answer.kind {
        Kind::Ok => Response::Ok,
        Kind::Pong | Kind::BrokenBlock => Response::Pong,
        Kind::Nonsense => {
            let mut bytes = vec![0, 24];
            bytes.extend_from_slice(&answer.corr_id);
            bytes.push(24);
            bytes.extend_from_slice(&answer.entity);
            bytes.extend_from_slice(b"WHAT");
            return content.push_transmission(&bytes);
        }
        Kind::Sok { service_id } => Response::Sok { service_id: service_id.as_ref().map(|id| &id[..]) },
        Kind::Soks(subs) => Response::Soks(*subs),
        Kind::Alls => Response::Alls,
        Kind::End => Response::End,
        Kind::Deld => Response::Deld,
        Kind::Info => Response::Info(b"{}"),
        Kind::Err(error) => Response::Err(error.clone()),
        Kind::Msg { id, body } => Response::Msg { msg_id: id, body: &body[..] },
        Kind::Ids { recipient_id, sender_id, router_dh_key, mode, service_id } => {
            Response::Ids(Box::new(ringpost_protocol::response::QueueIds {
                recipient_id,
                sender_id,
                router_dh_key: *router_dh_key,
                mode: *mode,
                link_id: None,
                service_id: service_id.as_ref().map(|id| &id[..]),
                notifier: None,
            }))
        }
    };
    content.push_response(&answer.corr_id, &answer.entity, &response)
}

/// TLS over a socket, block by block.
struct Link {
    stream: TcpStream,
    tls: TlsChannel,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    small: bool,
}

impl Link {
    async fn handshake(&mut self) -> Option<()> {
        let mut outgoing = Vec::new();
        loop {
            let step = self.tls.handshake(&mut self.incoming, &mut outgoing);
            self.stream.write_all(&outgoing).await.ok()?;
            outgoing.clear();
            let step = step.ok()?;
            self.incoming.drain(..step.consumed);
            if step.done {
                return Some(());
            }
            if self.stream.read_buf(&mut self.incoming).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Loses nothing when its future is dropped.
    async fn read(&mut self) -> Option<Vec<u8>> {
        loop {
            loop {
                match self.tls.open(&mut self.incoming).ok()? {
                    Opened::Data { consumed, payload } => {
                        self.plain.extend_from_slice(&self.incoming[payload]);
                        self.incoming.drain(..consumed);
                    }
                    Opened::Incomplete { consumed } => {
                        self.incoming.drain(..consumed);
                        break;
                    }
                    Opened::Closed { .. } => return None,
                }
            }
            if self.plain.len() >= BLOCK_BYTES {
                return Some(self.plain.drain(..BLOCK_BYTES).collect());
            }
            self.incoming.reserve(BLOCK_BYTES);
            if self.stream.read_buf(&mut self.incoming).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn write(&mut self, block: &[u8]) -> Option<()> {
        let mut out = Vec::new();
        for part in block.chunks(if self.small { 5_000 } else { BLOCK_BYTES }) {
            let start = out.len();
            out.resize(start + self.tls.sealed_bytes(part.len()), 0);
            let sealed = self.tls.seal(part, &mut out[start..]).ok()?;
            out.truncate(start + sealed);
        }
        self.stream.write_all(&out).await.ok()
    }
}
