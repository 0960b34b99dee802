//! `smp-server start`: from the files to a running router, and to its end.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use ringpost_protocol::certificate::RouterCredentials;
use ringpost_protocol::version::{SmpVersion, VersionRange};
use ringpost_shard::{
    Config, DataConfig, FatalError, InheritedListeners, Recovered, Router, StartError, StopMode, TlsOptions,
};
use ringpost_store::log::{Durability, StartError as LogStartError};

use crate::address::address;
use crate::clock::now_secs;
use crate::exit::{Fatal, Reason};
use crate::logging::LogOptions;
use crate::migrate::check::{CheckOptions, check};
use crate::operator::operation::Operation;
use crate::paths::Paths;
use crate::random::random;
use crate::settings::{LogLevel, Settings, Shards, StoreSettings, notices};
use crate::storage::Storage;
use crate::upgrade::{CHECKED, Predecessor, Upgrade};
use crate::web::{HttpPort, Web};
use crate::{configuration, identity, listen, logging, process_limits, signals, takeover, version, web};

/// Between two looks for expired messages, as the reference.
const EXPIRY_INTERVAL_SECS: u64 = 7_200;

/// The newest version all of whose commands the router has. Released routers of the reference stop at 18.
const VERSION_MAX: SmpVersion = SmpVersion::SERVICE_SUBSCRIPTIONS;

/// What the command line asks `start` for, above what the ini says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    pub shards: Option<Shards>,
    pub log_level: Option<LogLevel>,
    /// Pass over what is damaged in the log.
    pub skip_damaged: bool,
    /// End before clients are served.
    pub maintenance: bool,
    /// Look at ini, certificates and limits, change nothing, and end.
    pub check: bool,
}

/// Runs a router until it is stopped, or until another program takes over: then this does not return. What the operator
/// should know goes to `out`; lines that are not imported go to `err`, logs to standard error.
pub fn start(
    paths: &Paths,
    options: &StartOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Fatal> {
    let upgrade = Upgrade::new();
    let (mut inherited, notes) = InheritedListeners::from_environment();
    let mut predecessor = Predecessor::of(&mut inherited);
    for note in notes {
        // There is no log yet, and perhaps nobody who reads this.
        let _ = writeln!(err, "warning: {note}");
    }
    match run(paths, options, &upgrade, inherited, &mut predecessor, out, err) {
        Ok(None) => Ok(()),
        Ok(Some(listeners)) => Err(upgrade.exec(&listeners)),
        Err(failure) => Err(match predecessor {
            Some(predecessor) => predecessor.go_on(failure, err),
            None => failure,
        }),
    }
}

/// The listening sockets of a router that has handed over; None of one that was stopped.
type Left = Option<Vec<TcpListener>>;

/// The life of a router. The predecessor is forgotten when clients are served.
fn run(
    paths: &Paths,
    options: &StartOptions,
    upgrade: &Arc<Upgrade>,
    mut inherited: InheritedListeners,
    predecessor: &mut Option<Predecessor>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Left, Fatal> {
    let ini = configuration::read(paths)?;
    let mut settings = Settings::read(&ini).map_err(|error| configuration::error(&error))?;
    logging::start(LogOptions {
        level: options.log_level.unwrap_or(settings.log_level),
        is_from_ini: options.log_level.is_none(),
        format: settings.operator.log_format,
    })?;
    let signals = signals::Watch::start()?;
    for notice in notices(&ini) {
        tracing::warn!("{}:{}: {}", ini.path.display(), notice.line, notice.text);
    }
    // Before anything is changed: a router that cannot start for another reason leaves the other server's files alone.
    let credentials = identity::load(paths, now_secs())?;
    let web = settings.web.as_ref().map(identity::load_web).transpose()?;
    let shards = shard_count(options.shards.unwrap_or(settings.shards));
    settings.limits.connections = process_limits::raise_open_files(settings.limits.connections, shards)?;
    if options.check {
        process_limits::raise_locked_memory();
        Router::check(shards).map_err(start_error)?;
        tell(out, &[version::line(), CHECKED.to_owned()]);
        return Ok(None);
    }
    if settings.store.is_some() {
        takeover::take_over(paths, out, err)?;
    } else {
        takeover::warn_of_unread_state(paths);
    }
    if options.maintenance {
        web::write(&settings);
        check(paths, &CheckOptions::default(), out)?;
        tell(out, &["Maintenance completed: the server can be started".to_owned()]);
        return Ok(None);
    }
    // Held until the router has stopped.
    let storage = settings.store.is_some().then(|| Storage::open(&paths.data_dir)).transpose()?;
    let wanted = listen::all(&settings);
    for address in inherited.keep(&wanted) {
        tracing::info!("no longer listening on {address}");
    }
    if let Some(predecessor) = predecessor {
        predecessor.keep(&wanted);
    }
    let pages = Web::prepare(&settings, web.as_ref(), &mut inherited)?;
    tell(out, &about(&settings, &credentials, shards));
    let id_hash_key = match &storage {
        Some(storage) => *storage.id_hash_key(),
        None => *random()?,
    };
    process_limits::raise_locked_memory();
    let operation = Operation::prepare(paths, &settings, ini, &mut inherited)?;
    serve(
        Config {
            listen: listen::listeners(&settings),
            shards,
            credentials,
            tls: TlsOptions { x448: settings.tls_x448, web },
            log_tls_errors: settings.log_tls_errors,
            pages: pages.pages.clone(),
            versions: versions(),
            id_hash_key,
            allow_new_queues: settings.allow_new_queues,
            create_password: settings.create_password,
            message_ttl_secs: Some(settings.message_ttl_secs),
            notification_ttl_secs: settings.notification_ttl_secs,
            expiry_interval_secs: EXPIRY_INTERVAL_SECS,
            expires_on_start: settings.expires_on_start,
            expires_on_send: settings.expires_on_send,
            unused_queue_days: settings.unused_queue_days,
            queue_quota: settings.queue_quota,
            inactive: settings.inactive,
            limits: settings.limits,
            proxy: settings.proxy,
            data: match (settings.store, &storage) {
                (Some(store), Some(storage)) => Some(data(store, storage, options.skip_damaged)?),
                _ => None,
            },
            active_queues: operation.active_queues(),
        },
        Parts { pages, operation, signals, inherited, upgrade, predecessor },
        out,
    )
}

/// What goes with a router.
struct Parts<'a> {
    pages: Web,
    operation: Operation,
    signals: signals::Watch,
    inherited: InheritedListeners,
    upgrade: &'a Arc<Upgrade>,
    predecessor: &'a mut Option<Predecessor>,
}

/// Runs the router until a signal or a failure ends it.
fn serve(config: Config, parts: Parts<'_>, out: &mut dyn Write) -> Result<Left, Fatal> {
    let Parts { pages, operation, signals, mut inherited, upgrade, predecessor } = parts;
    let stop_secs = config.limits.stop_secs;
    let (addresses, entries): (Vec<_>, Vec<_>) =
        config.listen.iter().map(|listener| (listener.address, listener.entry)).unzip();
    listen::wait_until_free(addresses.iter().copied().filter(|address| !inherited.listens(*address)));
    let sockets: Vec<TcpListener> = addresses.iter().flat_map(|address| inherited.take(*address)).collect();
    if !sockets.is_empty() {
        tracing::info!("taking over {} listening sockets of clients", sockets.len());
    }
    let router = Router::take_over(config, sockets).map_err(start_error)?;
    tell(out, &found(router.recovered()));
    let (stop, hand_over) = (router.stopper(), router.stopper());
    let left = router.left_listeners();
    let operator = router.operator();
    let operated = operation.start(&operator, router.local_addrs(), &signals)?;
    let stops = Arc::clone(upgrade);
    signals.stops_with(stop_secs, move || {
        stops.stop();
        stop(StopMode::Graceful);
    });
    let hand_over: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        hand_over(StopMode::HandOver);
        signals::end_if_it_hangs(stop_secs);
    });
    let upgrades = Arc::clone(upgrade);
    signals.upgrades_with(move || upgrades.begin(&hand_over));
    let lines = operated.lines();
    if !lines.is_empty() {
        tell(out, &lines);
    }
    let serving = entries.into_iter().zip(router.local_addrs());
    let serving = serving.map(|(entry, address)| listen::serving(entry, *address));
    let mut lines: Vec<String> = serving.collect();
    let (served, http_port) = pages.serve()?;
    lines.extend(served);
    tell(out, &lines);
    // From now on this program has clients of its own.
    *predecessor = None;
    let joined = router.join();
    let mut listeners = operated.finish(joined.is_ok());
    joined.map_err(|error| {
        let message = error.to_string();
        match error {
            FatalError::Log(_) => Fatal::new(Reason::LogFailed, message).remedy(
                "Nothing that was acknowledged is lost. See that the disk works and has space, then start again.",
            ),
            FatalError::Shard { .. } => Fatal::new(Reason::RouterFailed, message).remedy(
                "This is a defect: please report it with the lines above. A restart brings the router back.",
            ),
        }
    })?;
    let counted = operator.counter_sums().into_iter().filter(|(_, value)| *value > 0);
    let counted: Vec<String> = counted.map(|(name, value)| format!("{name}={value}")).collect();
    tracing::info!("since the start: {}", counted.join(" "));
    if upgrade.is_due() {
        listeners.extend(left());
        listeners.extend(http_port.into_iter().flat_map(HttpPort::leave));
        return Ok(Some(listeners));
    }
    tell(out, &["Stopped".to_owned()]);
    Ok(None)
}

fn versions() -> VersionRange {
    VersionRange::new(SmpVersion::V6, VERSION_MAX).unwrap_or(VersionRange::ALL)
}

fn shard_count(shards: Shards) -> usize {
    match shards {
        Shards::Fixed(count) => count.get(),
        // Honours affinity and CPU quotas of containers.
        Shards::Auto => std::thread::available_parallelism().map_or(1, usize::from).min(Shards::MAX),
    }
}

/// What is said at start. Without the password: these lines end up in a journal.
fn about(settings: &Settings, credentials: &RouterCredentials, shards: usize) -> Vec<String> {
    let fingerprint = credentials.fingerprint_text();
    let new_queues = match (settings.allow_new_queues, &settings.create_password) {
        (false, _) => "not allowed",
        (true, Some(_)) => "need the password",
        (true, None) => "allowed",
    };
    let mut lines = vec![
        version::line(),
        format!("Fingerprint: {fingerprint}"),
        format!("Server address: {}", address(&fingerprint, None, &settings.host, &settings.ports)),
    ];
    let source_code = settings.information.source_code.as_ref();
    lines.extend(source_code.map(|uri| format!("Server source code: {uri}")));
    lines.extend([
        format!("Shards: {shards}"),
        store_line(settings.store),
        format!("Messages expire after {} days", settings.message_ttl_secs / 86_400),
        match settings.inactive {
            Some(inactive) => format!(
                "Clients inactive for {} seconds are disconnected, looked for every {} seconds",
                inactive.ttl_secs, inactive.check_interval_secs
            ),
            None => "Inactive clients are not disconnected".to_owned(),
        },
        format!("New queues: {new_queues}"),
    ]);
    lines
}

fn store_line(store: Option<StoreSettings>) -> String {
    let Some(store) = store else {
        return "Store: memory only; queues and messages are lost when the server stops".to_owned();
    };
    let answered = match store.durability {
        Durability::Always => "acknowledged when on the disk".to_owned(),
        Durability::Interval { ms } => format!("acknowledged at once, synced every {ms} ms"),
        Durability::Off => "acknowledged at once, not synced".to_owned(),
    };
    format!("Store: {answered}; what ended is erased within {} seconds", store.erase_within_secs)
}

fn data(store: StoreSettings, storage: &Storage, skip_damaged: bool) -> Result<DataConfig, Fatal> {
    Ok(DataConfig {
        directory: storage.directory().to_owned(),
        durability: store.durability,
        erase_within_ms: store.erase_within_secs * 1_000,
        segment_bytes: store.segment_mib << 20,
        skip_damaged,
        salt: u64::from_le_bytes(*random()?),
    })
}

/// What was loaded, and what was not.
fn found(recovered: &Recovered) -> Vec<String> {
    let mut lines = vec![format!("Loaded {} queues and {} messages", recovered.queues, recovered.messages)];
    if recovered.torn > 0 {
        lines.push(format!(
            "The last stop was not orderly: {} log ends were cut off; nothing in them had been acknowledged",
            recovered.torn
        ));
    }
    lines.extend(recovered.skipped.iter().map(|damage| format!("Damaged, and passed over: {damage}")));
    lines
}

fn tell(out: &mut dyn Write, lines: &[String]) {
    // A router that nobody listens to still serves its clients.
    let _ = out.write_all((lines.join("\n") + "\n").as_bytes()).and_then(|()| out.flush());
}

fn start_error(error: StartError) -> Fatal {
    let message = error.to_string();
    match error {
        StartError::Listen { address, source } => listen::error(address, &source),
        StartError::LockedMemory { .. } | StartError::LockedMemoryTaken { .. } => Fatal::new(Reason::LockedMemory, message),
        StartError::IoUring(_) => Fatal::new(Reason::NoIoUring, message).remedy(
            "On a machine: `sysctl kernel.io_uring_disabled=0`. In a container: the seccomp profile of the package, \
             docs/operations.md has the commands.",
        ),
        StartError::Tls(_) => Fatal::new(Reason::Certificate, message),
        StartError::Shards(_) | StartError::NoAddress => Fatal::new(Reason::Config, message),
        StartError::Random(_) | StartError::Bell(_) => Fatal::new(Reason::Other, message),
        StartError::Log(LogStartError::Corrupt(_)) => Fatal::new(Reason::LogDamaged, message).remedy(
            "`smp-server check` says what is damaged. Restore the directory from a backup, or start with \
             --skip-damaged: what was there is lost then.",
        ),
        StartError::Log(_) => Fatal::new(Reason::LogFailed, message)
            .remedy("See that the disk works and has space for the log, then start again."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn each_reason_not_to_start_has_its_exit_code() {
        let listen = |kind| StartError::Listen {
            address: ([127, 0, 0, 1], 443).into(),
            source: std::io::Error::from(kind),
        };
        let memory = StartError::LockedMemory { shards: 1, needed_bytes: 2, limit_bytes: 1 };
        for (error, reason) in [
            (listen(ErrorKind::AddrInUse), Reason::PortInUse),
            (listen(ErrorKind::PermissionDenied), Reason::PortRefused),
            (memory, Reason::LockedMemory),
            (StartError::LockedMemoryTaken { limit_bytes: 1 }, Reason::LockedMemory),
            (StartError::IoUring("refused".to_owned()), Reason::NoIoUring),
            (StartError::Tls("bad".to_owned()), Reason::Certificate),
            (StartError::Shards(0), Reason::Config),
        ] {
            let message = error.to_string();
            let fatal = start_error(error);
            assert_eq!(fatal.reason, reason, "{message}");
            assert!(fatal.message.contains(message.split(':').next().unwrap_or("")), "{fatal}");
        }
    }

    #[test]
    fn the_versions_offered_are_a_range() {
        assert_eq!((versions().min(), versions().max()), (SmpVersion::V6, VERSION_MAX));
    }

    #[test]
    fn a_fixed_number_of_shards_is_kept() {
        assert_eq!(shard_count(Shards::Fixed(7.try_into().unwrap())), 7);
        assert!((1..=Shards::MAX).contains(&shard_count(Shards::Auto)));
    }
}
