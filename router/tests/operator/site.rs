//! A router with a control port, and a client of that.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringpost_client::{
    Client, ClientConfig, Connection, Event, Events, KeyKind, QueueOptions, RecipientQueue, SenderQueue,
};
use ringpost_protocol::certificate::{CertificateAuthority, SigningKey};
use ringpost_protocol::command::{MsgFlags, ServiceSubs};
use ringpost_protocol::handshake::{ServiceCredentials, ServiceRole};
use ringpost_protocol::version::{SmpVersion, VersionRange};

use crate::support::{Home, Running, free_port};

pub const ADMIN: &str = "admin-password";
pub const USER: &str = "user-password";
/// What has not happened by then never will.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Site {
    pub home: Home,
    pub port: u16,
    pub control: u16,
}

impl Site {
    pub fn new() -> Self {
        let (port, control) = (free_port(), free_port());
        let site = Self { home: Home::initialized(port), port, control };
        site.set("TRANSPORT", "control_port", &control.to_string());
        site.set("AUTH", "control_port_admin_password", ADMIN);
        site.set("AUTH", "control_port_user_password", USER);
        site
    }

    /// Sets a key of the ini, which `init` has written with all of them.
    pub fn set(&self, section: &str, key: &str, value: &str) {
        let ini = self.home.read("smp-server.ini");
        let at = ini.find(&format!("[{section}]\n")).unwrap();
        let (before, after) = ini.split_at(at);
        let is_of_key = |line: &&str| {
            line.trim_start_matches("# ").split('=').next().unwrap().trim() == key && line.contains('=')
        };
        let old = after.lines().find(is_of_key).unwrap_or_else(|| panic!("no key {key}"));
        let after = after.replacen(&format!("\n{old}\n"), &format!("\n{key} = {value}\n"), 1);
        self.home.write("smp-server.ini", &format!("{before}{after}"));
    }

    pub fn start(&self) -> Running {
        self.start_with(&["start", "--shards", "2"])
    }

    pub fn start_with(&self, arguments: &[&str]) -> Running {
        Running::start(self.home.smp_server(arguments.iter().copied()))
    }

    pub fn data(&self, name: &str) -> String {
        let path = self.home.data().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// With the role of an administrator.
    pub fn admin(&self) -> Control {
        let mut control = Control::connect(self.control);
        assert_eq!(control.ask(&format!("auth {ADMIN}")), ["Current role is CPRAdmin"]);
        control
    }

    pub async fn connect(&self) -> (Client, Events) {
        self.connect_with(ClientConfig::default()).await
    }

    /// As a service that receives.
    pub async fn connect_service(&self) -> (Client, Events) {
        let seed = [0x5e; 32];
        let authority = CertificateAuthority::generate(&seed, 1_790_000_000).unwrap();
        let chain = vec![authority.certificate().clone()];
        let credentials =
            ServiceCredentials { role: ServiceRole::Messaging, chain, key: SigningKey::ed25519(&seed) };
        self.connect_with(ClientConfig {
            versions: VersionRange::new(SmpVersion::V6, SmpVersion(19)).unwrap(),
            service: Some(Arc::new(credentials)),
            ..ClientConfig::default()
        })
        .await
    }

    async fn connect_with(&self, config: ClientConfig) -> (Client, Events) {
        let fingerprint = self.home.read("fingerprint").trim().to_owned();
        let address = format!("smp://{fingerprint}@127.0.0.1:{}", self.port).parse().unwrap();
        Connection::connect(&address, config).await.unwrap()
    }

    /// A service makes two queues, takes over one, and subscribes to all, believing that it has two. Of the one that it took over
    /// a message has come that it has not acknowledged.
    pub async fn use_a_service(&self) -> (Client, Events) {
        let (owner, _events) = self.connect().await;
        let taken = owner.new_queue(QueueOptions::default()).await.unwrap();
        let (client, mut events) = self.connect_service().await;
        let mut has = ServiceSubs::NONE;
        for _ in 0..2 {
            has.add_queue(client.new_queue(QueueOptions::default()).await.unwrap().recipient_id.as_bytes());
        }
        client.subscribe(&taken).await.unwrap();
        owner
            .send(&SenderQueue::unsecured(taken.sender_id), MsgFlags::default(), b"to a service")
            .await
            .unwrap();
        assert!(matches!(events.recv().await, Some(Event::Message(_))));
        assert!(client.subscribe_service(has).await.unwrap().count >= 3);
        // After what waits in the queues that it had before.
        while !matches!(events.recv().await.unwrap(), Event::ServiceDelivered) {}
        owner.close().await;
        (client, events)
    }

    /// Makes a queue, sends this many messages to it, and reads one.
    pub async fn use_a_queue(&self, messages: usize) -> RecipientQueue {
        let (client, mut events) = self.connect().await;
        let queue = client.new_queue(QueueOptions::default()).await.unwrap();
        let sender = SenderQueue::new(queue.sender_id, KeyKind::X25519.generate().unwrap());
        client.secure_by_sender(&sender).await.unwrap();
        for n in 0..messages {
            let flags = MsgFlags { notification: n == 0 };
            client.send(&sender, flags, b"body of a message").await.unwrap();
        }
        if messages > 0 {
            let Some(Event::Message(message)) = events.recv().await else { panic!("no message") };
            client.ack(&queue, &message.id).await.unwrap();
        }
        client.close().await;
        queue
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn base64(id: &[u8]) -> String {
    ringpost_protocol::encoding::base64url(id)
}

/// Waits until something holds.
#[track_caller]
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection to the control port.
pub struct Control {
    lines: BufReader<TcpStream>,
    pub stream: TcpStream,
}

impl Control {
    /// Reads the greeting.
    pub fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut control = Self { lines: BufReader::new(stream.try_clone().unwrap()), stream };
        assert_eq!(control.line().unwrap(), "SMP server control port");
        assert_eq!(control.line().unwrap(), "'help' for supported commands");
        control
    }

    /// None: it was closed.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The lines that answer a command: up to the answer to another one that is sent behind it.
    pub fn ask(&mut self, command: &str) -> Vec<String> {
        self.send(&format!("{command}\nhelp\n"));
        let mut lines = Vec::new();
        loop {
            let line = self.line().expect("an answer");
            if line.starts_with("commands: auth, ") {
                return lines;
            }
            lines.push(line);
        }
    }

    /// The answer of one line.
    #[track_caller]
    pub fn one(&mut self, command: &str) -> String {
        let lines = self.ask(command);
        let [line] = &lines[..] else { panic!("{command}: {lines:?}") };
        line.clone()
    }
}
