//! The scenarios, and what they share: connections, and how things go wrong.

pub mod handshake;
pub mod idle;
pub mod latency;
mod pair;
pub mod queues;
pub mod services;
pub mod subscribe;
pub mod throughput;
pub mod unreachable;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringpost_client::{Client, ClientConfig, ClientError, ConnectError, Connection, Events};
use ringpost_protocol::address::{Host, RouterAddress};
use ringpost_protocol::handshake::ServiceCredentials;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::{Common, Scenario};
use crate::run::Run;
use crate::stats::{Latency, Recorder};
use crate::verify::Verification;

/// Connections from one address of the loopback network: below the number of ports that the system gives out.
const CONNECTIONS_PER_LOCAL_IP: usize = 16_000;

/// What every scenario works with.
#[derive(Debug)]
pub struct Context {
    pub run: Arc<Run>,
    pub common: Common,
    pub warmup: Duration,
    pub threads: usize,
    pub config: ClientConfig,
    /// Connections made so far.
    connected: AtomicUsize,
}

/// What a scenario found, beside what [`Run`] counted.
#[derive(Debug, Default)]
pub struct Outcome {
    pub latencies: Vec<Latency>,
    pub verification: Option<Verification>,
    /// The body of one operation.
    pub body_bytes: Option<usize>,
    /// Operations happen all the time: a rate over time says something.
    pub has_rates: bool,
    pub notes: Vec<String>,
}

/// Why a scenario could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("cannot connect: {0}")]
    Connect(#[from] ConnectError),
    #[error("{0}: {1}")]
    Command(&'static str, ClientError),
    #[error("interrupted before anything was measured")]
    Interrupted,
    #[error("{0}")]
    Other(String),
}

/// Runs a scenario to its end.
pub async fn run(context: Arc<Context>, scenario: Scenario) -> Result<Outcome, Failure> {
    match scenario {
        Scenario::Throughput(options) => throughput::run(context, options).await,
        Scenario::Latency(options) => latency::run(context, options).await,
        Scenario::Idle(options) => idle::run(context, options).await,
        Scenario::Subscribe(options) => subscribe::run(context, options).await,
        Scenario::Handshake(options) => handshake::run(context, options).await,
        Scenario::Queues(options) => queues::run(context, options).await,
        Scenario::Services(options) => services::run(context, options).await,
        Scenario::Unreachable(options) => unreachable::run(context, options).await,
    }
}

impl Context {
    pub fn new(run: Arc<Run>, scenario: &Scenario, threads: usize) -> Self {
        let common = scenario.common().clone();
        let keep_alive = match scenario {
            Scenario::Idle(options) => options.keep_alive_secs,
            _ => Duration::from_secs(60),
        };
        let config = ClientConfig {
            versions: common.versions(),
            command_timeout: common.timeout_secs,
            connect_timeout: common.timeout_secs,
            keep_alive: Some(keep_alive),
            recipient_key: common.recipient_key.into(),
            block_encryption: !common.plain_blocks,
            ..ClientConfig::default()
        };
        Self { run, common, warmup: scenario.warmup(), threads, config, connected: AtomicUsize::new(0) }
    }

    pub fn recorder(&self) -> Recorder {
        Recorder::new(2 * self.threads)
    }

    /// One more connection. On the loopback network the addresses to connect from take turns, since one has ports for
    /// about 28,000 connections.
    pub async fn connect(&self) -> Result<(Client, Events), ConnectError> {
        self.connect_to(&self.common.address).await
    }

    /// The same to another router.
    pub async fn connect_to(&self, address: &RouterAddress) -> Result<(Client, Events), ConnectError> {
        self.connect_with(address, None).await
    }

    /// The same for a service.
    pub async fn connect_as(
        &self,
        service: &Arc<ServiceCredentials>,
    ) -> Result<(Client, Events), ConnectError> {
        self.connect_with(&self.common.address, Some(Arc::clone(service))).await
    }

    async fn connect_with(
        &self,
        address: &RouterAddress,
        service: Option<Arc<ServiceCredentials>>,
    ) -> Result<(Client, Events), ConnectError> {
        let index = self.connected.fetch_add(1, Ordering::Relaxed);
        let mut config = self.config.clone();
        config.service = service;
        let turn = u8::try_from(index / CONNECTIONS_PER_LOCAL_IP % 250).unwrap_or(0);
        if turn > 0 && is_ipv4_loopback(address) {
            config.local_ip = Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + turn)));
        }
        Connection::connect(address, config).await
    }

    /// Makes connections, some at once, and fails with the first that fails.
    pub async fn connect_all(self: &Arc<Self>, count: usize) -> Result<Vec<(Client, Events)>, Failure> {
        let address = self.common.address.clone();
        self.connect_all_to(&address, count).await
    }

    /// The same to another router.
    pub async fn connect_all_to(
        self: &Arc<Self>,
        address: &RouterAddress,
        count: usize,
    ) -> Result<Vec<(Client, Events)>, Failure> {
        let places = Arc::new(Semaphore::new(self.common.connect_at_once.get()));
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let (context, places, address) = (Arc::clone(self), Arc::clone(&places), address.clone());
            tasks.spawn(async move {
                let _place = places.acquire_owned().await;
                context.connect_to(&address).await
            });
        }
        let mut connections = Vec::with_capacity(count);
        loop {
            tokio::select! {
                joined = tasks.join_next() => match joined {
                    None => return Ok(connections),
                    Some(joined) => connections.push(joined.map_err(panicked)??),
                },
                () = self.run.interrupted() => return Err(Failure::Interrupted),
            }
        }
    }

    /// Counts a failed command.
    pub fn failed(&self, what: &str, error: &ClientError) {
        self.run.errors.add(&error.kind(), format_args!("{what}: {error}"));
    }
}

/// A task of this program that panicked: a defect here.
#[allow(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
fn panicked(error: tokio::task::JoinError) -> Failure {
    Failure::Other(format!("a task of the load generator failed: {error}"))
}

fn is_ipv4_loopback(address: &RouterAddress) -> bool {
    matches!(address.router.hosts.as_slice().first(), Some(Host::Ipv4(ip)) if ip.is_loopback())
}
