//! The command line.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringpost_client::KeyKind;
use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use serde_json::Value;

use crate::verify::BODY_BYTES_MIN;

/// Capacity benchmark for SMP routers. Every message is verified: nothing lost, duplicated, reordered or altered.
///
/// Exit status: 0 all verified; 1 verification or protocol failure, or interrupted; 2 wrong usage; 3 cannot connect.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub scenario: Scenario,
}

#[derive(Clone, Debug, Subcommand)]
pub enum Scenario {
    /// Pairs of sender and recipient, each with a queue, as fast as the router takes messages
    Throughput(Throughput),
    /// Messages at a fixed rate, whether the router keeps up or not: latency without coordinated omission
    Latency(LatencyOptions),
    /// Connections that are held open
    Idle(Idle),
    /// Many queues subscribed again after their connections are gone
    Subscribe(Subscribe),
    /// A storm of connections: TCP, TLS and SMP handshakes
    Handshake(Handshake),
    /// Creation of many queues
    Queues(Creation),
    /// Many queues of a client service subscribed again with one command
    Services(Services),
    /// Clients that ask the router to be their proxy to a relay that cannot be reached
    Unreachable(Unreachable),
}

/// Options of every scenario.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Address of the router: `smp://fingerprint[:password]@host[:port]`
    pub address: RouterAddress,
    /// Worker threads of the load generator [default: one for each core]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Time that does not count, at the start [default: 1, or 0 where a number is given instead of a duration]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub warmup_secs: Option<Duration>,
    /// Process ID of a router on this machine, to measure its CPU time and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// Write the results as JSON ("-": to the standard output, in place of the table)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the results as one HTML file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Connections that are being made at once
    #[arg(long, value_name = "K", default_value = "32")]
    pub connect_at_once: NonZeroUsize,
    /// How long a command may take
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout_secs: Duration,
    /// The highest SMP version to agree
    #[arg(long, value_name = "VERSION", default_value_t = SmpVersion::MAX.0, value_parser = clap::value_parser!(u16).range(i64::from(SmpVersion::V6.0)..=i64::from(SmpVersion::MAX.0)))]
    pub smp_version_max: u16,
    /// Keys of recipients
    #[arg(long, value_name = "KIND", default_value = "ed25519")]
    pub recipient_key: Key,
    /// Keys of senders
    #[arg(long, value_name = "KIND", default_value = "x25519")]
    pub sender_key: Key,
    /// Do without the encryption of blocks inside TLS, as some clients of old versions do
    #[arg(long)]
    pub plain_blocks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Key {
    Ed25519,
    Ed448,
    X25519,
}

impl From<Key> for KeyKind {
    fn from(key: Key) -> Self {
        match key {
            Key::Ed25519 => Self::Ed25519,
            Key::Ed448 => Self::Ed448,
            Key::X25519 => Self::X25519,
        }
    }
}

/// What pairs of sender and recipient have in common.
#[derive(Args, Clone, Debug)]
pub struct Traffic {
    /// Pairs of sender and recipient
    #[arg(long, value_name = "N", default_value = "10")]
    pub pairs: NonZeroUsize,
    /// Messages of a pair that are under way at once, from the SEND to the arrival
    #[arg(long, value_name = "K", default_value = "16")]
    pub in_flight: NonZeroUsize,
    /// Bytes of each message's body
    #[arg(long, value_name = "BYTES", default_value_t = 16_000, value_parser = body_bytes)]
    pub body_bytes: usize,
    /// How long to wait for messages at the end, before they count as lost
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub drain_secs: Duration,
}

#[derive(Args, Clone, Debug)]
pub struct Throughput {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub traffic: Traffic,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration_secs: Duration,
    /// Messages of each pair, in place of a duration
    #[arg(long, value_name = "N", conflicts_with = "duration_secs")]
    pub messages: Option<u64>,
    /// Send through this router, as a proxy to the one that has the queues
    #[arg(long, value_name = "ADDRESS")]
    pub proxy: Option<RouterAddress>,
    /// Process ID of the proxy on this machine, to measure its CPU time too
    #[arg(long, value_name = "PID", requires = "proxy")]
    pub proxy_pid: Option<u32>,
}

#[derive(Args, Clone, Debug)]
pub struct LatencyOptions {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub traffic: Traffic,
    /// Messages a second, of all pairs together
    #[arg(long, value_name = "N", default_value_t = 100.0, value_parser = rate)]
    pub rate: f64,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration_secs: Duration,
}

#[derive(Args, Clone, Debug)]
pub struct Idle {
    #[command(flatten)]
    pub common: Common,
    /// Connections to hold open
    #[arg(long, value_name = "N", default_value = "1000")]
    pub connections: NonZeroUsize,
    /// How long to hold them
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration_secs: Duration,
    /// A PING is sent when nothing was received for so long
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub keep_alive_secs: Duration,
}

#[derive(Args, Clone, Debug)]
pub struct Subscribe {
    #[command(flatten)]
    pub common: Common,
    /// Queues to create and subscribe to
    #[arg(long, value_name = "N", default_value = "10000")]
    pub queues: NonZeroUsize,
    /// Connections that share the queues
    #[arg(long, value_name = "C", default_value = "4")]
    pub connections: NonZeroUsize,
    /// Commands of a connection that are under way at once while queues are made
    #[arg(long, value_name = "K", default_value = "64")]
    pub in_flight: NonZeroUsize,
    /// Queues whose SUBs are sent together
    #[arg(long, value_name = "N", default_value = "500")]
    pub batch: NonZeroUsize,
    /// Messages to send to each queue before, which must then be delivered
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub messages_each: u64,
    /// Bytes of each message's body
    #[arg(long, value_name = "BYTES", default_value_t = 1_000, value_parser = body_bytes)]
    pub body_bytes: usize,
    /// How long to wait for messages at the end, before they count as lost
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub drain_secs: Duration,
    /// Shell command to run while there are no connections: a restart of the router, an upgrade, a crash. Afterwards
    /// connecting is tried for --timeout-secs
    #[arg(long, value_name = "COMMAND")]
    pub meanwhile: Option<String>,
    /// Leave the queues in the router
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Handshake {
    #[command(flatten)]
    pub common: Common,
    /// Connections to make, one after the other in each of the K places of --connect-at-once
    #[arg(long, value_name = "N", default_value = "1000")]
    pub connections: NonZeroUsize,
}

#[derive(Args, Clone, Debug)]
pub struct Unreachable {
    #[command(flatten)]
    pub common: Common,
    /// The relay to ask for [default: one on this machine that accepts connections and says nothing]
    #[arg(long, value_name = "ADDRESS")]
    pub relay: Option<RouterAddress>,
    /// Clients, each with a connection
    #[arg(long, value_name = "N", default_value = "1000")]
    pub clients: NonZeroUsize,
    /// How long a client waits after an answer before it asks again
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub pause_secs: Duration,
    /// How long to ask
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration_secs: Duration,
}

#[derive(Args, Clone, Debug)]
pub struct Creation {
    #[command(flatten)]
    pub common: Common,
    /// Queues to create
    #[arg(long, value_name = "N", default_value = "10000")]
    pub queues: NonZeroUsize,
    /// Connections that share the work
    #[arg(long, value_name = "C", default_value = "4")]
    pub connections: NonZeroUsize,
    /// Commands of a connection that are under way at once
    #[arg(long, value_name = "K", default_value = "64")]
    pub in_flight: NonZeroUsize,
    /// Subscribe to each queue as it is made
    #[arg(long)]
    pub subscribe: bool,
    /// While all is there, let every connection send a PING within this time
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub ping_secs: Duration,
    /// Leave the queues in the router
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args, Clone, Debug)]
pub struct Services {
    #[command(flatten)]
    pub common: Common,
    /// Queues of the service
    #[arg(long, value_name = "N", default_value = "10000")]
    pub queues: NonZeroUsize,
    /// How often the service connects and subscribes
    #[arg(long, value_name = "N", default_value = "10")]
    pub rounds: NonZeroUsize,
    /// Commands that are under way at once while queues are made
    #[arg(long, value_name = "K", default_value = "64")]
    pub in_flight: NonZeroUsize,
    /// Of every so many queues one has a message that must be delivered each time. 0: none has
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub one_message_in: usize,
    /// Bytes of each message's body
    #[arg(long, value_name = "BYTES", default_value_t = 1_000, value_parser = body_bytes)]
    pub body_bytes: usize,
    /// Leave the queues in the router
    #[arg(long)]
    pub keep: bool,
}

impl Scenario {
    pub fn common(&self) -> &Common {
        match self {
            Self::Throughput(options) => &options.common,
            Self::Latency(options) => &options.common,
            Self::Idle(options) => &options.common,
            Self::Subscribe(options) => &options.common,
            Self::Handshake(options) => &options.common,
            Self::Queues(options) => &options.common,
            Self::Services(options) => &options.common,
            Self::Unreachable(options) => &options.common,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Throughput(_) => "throughput",
            Self::Latency(_) => "latency",
            Self::Idle(_) => "idle",
            Self::Subscribe(_) => "subscribe",
            Self::Handshake(_) => "handshake",
            Self::Queues(_) => "queues",
            Self::Services(_) => "services",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// What one operation is.
    pub fn unit(&self) -> &'static str {
        match self {
            Self::Throughput(_) | Self::Latency(_) => "message",
            Self::Idle(_) => "connection",
            Self::Subscribe(_) => "subscription",
            Self::Handshake(_) => "handshake",
            Self::Queues(_) | Self::Services(_) => "queue",
            Self::Unreachable(_) => "answer",
        }
    }

    /// The most connections that are open at once.
    pub fn connections_max(&self) -> usize {
        match self {
            Self::Throughput(options) => 2 * options.traffic.pairs.get(),
            Self::Latency(options) => 2 * options.traffic.pairs.get(),
            Self::Idle(options) => options.connections.get(),
            Self::Subscribe(options) => 2 * options.connections.get(),
            Self::Handshake(options) => options.common.connect_at_once.get(),
            Self::Queues(options) => options.connections.get(),
            Self::Services(_) => 2,
            // And the listener, with what the router opens to it.
            Self::Unreachable(options) => options.clients.get() + 64,
        }
    }

    /// Time that does not count at the start.
    pub fn warmup(&self) -> Duration {
        let counted = match self {
            Self::Throughput(options) => options.messages.is_some(),
            Self::Latency(_) | Self::Idle(_) | Self::Unreachable(_) => false,
            Self::Subscribe(_) | Self::Handshake(_) | Self::Queues(_) | Self::Services(_) => true,
        };
        let default = Duration::from_secs(u64::from(!counted));
        self.common().warmup_secs.unwrap_or(default)
    }

    /// What shapes the load, for the report.
    pub fn options(&self) -> BTreeMap<&'static str, Value> {
        let common = self.common();
        let mut options = BTreeMap::from([
            ("warmup_secs", Value::from(self.warmup().as_secs_f64())),
            ("connect_at_once", common.connect_at_once.get().into()),
            ("recipient_key", format!("{:?}", common.recipient_key).into()),
            ("sender_key", format!("{:?}", common.sender_key).into()),
            ("plain_blocks", common.plain_blocks.into()),
        ]);
        let traffic = |traffic: &Traffic| {
            [
                ("pairs", Value::from(traffic.pairs.get())),
                ("in_flight", traffic.in_flight.get().into()),
                ("body_bytes", traffic.body_bytes.into()),
            ]
        };
        match self {
            Self::Throughput(throughput) => {
                options.extend(traffic(&throughput.traffic));
                match throughput.messages {
                    Some(messages) => options.insert("messages", messages.into()),
                    None => options.insert("duration_secs", throughput.duration_secs.as_secs_f64().into()),
                };
                options.insert("through_proxy", throughput.proxy.is_some().into());
            }
            Self::Latency(latency) => {
                options.extend(traffic(&latency.traffic));
                options.insert("rate", latency.rate.into());
                options.insert("duration_secs", latency.duration_secs.as_secs_f64().into());
            }
            Self::Idle(idle) => {
                options.insert("connections", idle.connections.get().into());
                options.insert("duration_secs", idle.duration_secs.as_secs_f64().into());
                options.insert("keep_alive_secs", idle.keep_alive_secs.as_secs_f64().into());
            }
            Self::Subscribe(subscribe) => options.extend([
                ("queues", subscribe.queues.get().into()),
                ("connections", subscribe.connections.get().into()),
                ("batch", subscribe.batch.get().into()),
                ("messages_each", subscribe.messages_each.into()),
                ("body_bytes", subscribe.body_bytes.into()),
                ("meanwhile", subscribe.meanwhile.is_some().into()),
            ]),
            Self::Handshake(handshake) => {
                options.insert("connections", handshake.connections.get().into());
            }
            Self::Unreachable(unreachable) => options.extend([
                ("clients", unreachable.clients.get().into()),
                ("pause_secs", unreachable.pause_secs.as_secs_f64().into()),
                ("duration_secs", unreachable.duration_secs.as_secs_f64().into()),
            ]),
            Self::Queues(queues) => options.extend([
                ("queues", queues.queues.get().into()),
                ("connections", queues.connections.get().into()),
                ("in_flight", queues.in_flight.get().into()),
                ("subscribe", queues.subscribe.into()),
                ("ping_secs", queues.ping_secs.as_secs_f64().into()),
            ]),
            Self::Services(services) => options.extend([
                ("queues", services.queues.get().into()),
                ("rounds", services.rounds.get().into()),
                ("one_message_in", services.one_message_in.into()),
                ("body_bytes", services.body_bytes.into()),
            ]),
        }
        options
    }
}

impl Scenario {
    /// A router besides the measured one.
    pub fn proxy_pid(&self) -> Option<u32> {
        match self {
            Self::Throughput(options) => options.proxy_pid,
            _ => None,
        }
    }
}

impl Common {
    /// The SMP versions to agree from.
    pub fn versions(&self) -> VersionRange {
        // The range of the option begins at the lowest version.
        VersionRange::new(SmpVersion::V6, SmpVersion(self.smp_version_max)).unwrap_or(VersionRange::ALL)
    }
}

/// A day: longer times are mistakes.
const SECONDS_MAX: f64 = 86_400.0;

fn seconds(text: &str) -> Result<Duration, String> {
    let secs: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=SECONDS_MAX).contains(&secs) {
        Ok(Duration::from_secs_f64(secs))
    } else {
        Err(format!("not between 0 and {SECONDS_MAX} seconds"))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=10_000_000.0).contains(&rate) {
        Ok(rate)
    } else {
        Err("not between 0.001 and 10,000,000".to_owned())
    }
}

fn body_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    let max = ringpost_protocol::limits::SEND_BODY_BYTES_MAX;
    if (BODY_BYTES_MIN..=max).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("not between {BODY_BYTES_MIN} and {max}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    const ADDRESS: &str = "smp://AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=@127.0.0.1:5223";

    fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["loadgen"], words].concat())
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_scenario_has_defaults() {
        for name in
            ["throughput", "latency", "idle", "subscribe", "handshake", "queues", "services", "unreachable"]
        {
            let cli = parse(&[name, ADDRESS]).unwrap();
            assert_eq!(cli.scenario.name(), name);
            assert!(!cli.scenario.options().is_empty() && cli.scenario.connections_max() > 0);
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for words in [
            &["throughput"][..],
            &["throughput", "http://x"],
            &["throughput", ADDRESS, "--pairs", "0"],
            &["throughput", ADDRESS, "--body-bytes", "39"],
            &["throughput", ADDRESS, "--body-bytes", "16089"],
            &["throughput", ADDRESS, "--duration-secs", "-1"],
            &["throughput", ADDRESS, "--duration-secs", "NaN"],
            &["throughput", ADDRESS, "--messages", "5", "--duration-secs", "1"],
            &["latency", ADDRESS, "--rate", "0"],
            &["idle", ADDRESS, "--smp-version-max", "5"],
            &["throughput", ADDRESS, "--proxy-pid", "5"],
            &["unreachable", ADDRESS, "--clients", "0"],
            &["flood", ADDRESS],
        ] {
            let error = parse(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn a_number_of_messages_has_no_warmup() {
        let warmup = |words: &[&str]| parse(words).unwrap().scenario.warmup().as_secs_f64();
        assert!((warmup(&["throughput", ADDRESS]) - 1.0).abs() < 1e-9);
        assert!(warmup(&["throughput", ADDRESS, "--messages", "5"]) < 1e-9);
        assert!(
            (warmup(&["throughput", ADDRESS, "--messages", "5", "--warmup-secs", "2"]) - 2.0).abs() < 1e-9
        );
    }
}
