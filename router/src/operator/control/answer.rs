//! What the commands of the control port do and say.

use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use ringpost_protocol::error::BlockingInfo;
use ringpost_shard::service::{QueueAction, QueueReport};
use ringpost_shard::{ClientReport, OperatorError};
use ringpost_store::{QueueId, Status};

use super::super::desk::Desk;
use super::super::statistics::{RELAYS, Totals};
use super::super::{metrics, process, report};
use super::command::{COMMANDS, Command};
use super::words;

/// Carries out a command for which the role is enough.
pub fn answer(desk: &Desk, command: &Command, out: &mut impl Write) -> io::Result<()> {
    match command {
        Command::Auth(_) | Command::Quit | Command::Skip => Ok(()),
        Command::Suspend | Command::Resume => writeln!(
            out,
            "{} not implemented: stop the router with SIGTERM, it finishes what is in flight",
            command.name()
        ),
        Command::Clients => clients(desk, out),
        Command::Stats => stats(&desk.totals(), out),
        Command::StatsRts => {
            let sums = desk.operator.counter_sums();
            sums.iter().try_for_each(|(name, value)| writeln!(out, "{name}: {value}"))
        }
        Command::Threads => {
            let threads = process::threads();
            writeln!(out, "Threads: {}", threads.len())?;
            threads
                .iter()
                .try_for_each(|thread| writeln!(out, "{} ({}) {}", thread.id, thread.state, thread.name))
        }
        Command::Sockets => sockets(desk, out),
        Command::SocketThreads => {
            writeln!(out, "connections have no threads of their own: see `sockets`, `clients` and `threads`")
        }
        Command::ServerInfo => server_info(desk, out),
        Command::Delete(id) => match act(desk, id, &QueueAction::Delete) {
            Ok(queue) => writeln!(out, "ok, {} messages deleted", queue.messages),
            Err(error) => writeln!(out, "error: {error}"),
        },
        Command::Status(id) => match act(desk, id, &QueueAction::Look) {
            Ok(queue) => writeln!(out, "{}", words::queue(&queue)),
            Err(error) => writeln!(out, "error: {error}"),
        },
        Command::Block(id, info) => writeln!(out, "{}", block(desk, id, info)),
        Command::Unblock(id) => writeln!(out, "{}", unblock(desk, id)),
        Command::Save => save(desk, out),
        Command::Report => writeln!(out, "{}", report::json(desk)),
        Command::Metrics => out.write_all(metrics::text(desk, None).as_bytes()),
        Command::Help => {
            let names: Vec<&str> = COMMANDS.iter().map(|info| info.name).collect();
            writeln!(out, "commands: {}", names.join(", "))
        }
    }
}

/// Does something to a queue. The log says that it was done, but not to which.
fn act(desk: &Desk, id: &QueueId, action: &QueueAction) -> Result<QueueReport, String> {
    let report = desk.operator.queue(id, action).map_err(|error| error.to_string())?;
    // As the reference says it.
    let report = report.ok_or_else(|| "AUTH".to_owned())?;
    match action {
        QueueAction::Look => {}
        QueueAction::Block(_) => tracing::info!("control port: a queue was blocked"),
        QueueAction::Unblock if !matches!(report.status, Status::Blocked(_)) => {}
        QueueAction::Unblock => tracing::info!("control port: a queue was unblocked"),
        QueueAction::Delete => tracing::info!("control port: a queue was deleted"),
    }
    Ok(report)
}

fn block(desk: &Desk, id: &QueueId, info: &BlockingInfo) -> String {
    let quota = match desk.take_block_quota() {
        Ok(quota) => quota,
        Err(most) => return format!("error: reached limit of {most} queues blocked daily"),
    };
    match act(desk, id, &QueueAction::Block(info.clone())) {
        Ok(queue) if queue.status == Status::Active => {
            quota.used();
            format!("ok, queue blocked: {}", words::status(&Status::Blocked(info.clone())))
        }
        Ok(_) => format!("ok, already inactive: {}", words::status(&Status::Blocked(info.clone()))),
        Err(error) => format!("error: {error}"),
    }
}

fn unblock(desk: &Desk, id: &QueueId) -> String {
    match act(desk, id, &QueueAction::Unblock) {
        Ok(queue) => match queue.status {
            Status::Blocked(info) => {
                format!("ok, queue unblocked, reason to block was: {}", words::blocking(&info))
            }
            Status::Active => "ok, queue was active".to_owned(),
            Status::Suspended => "error, queue is inactive".to_owned(),
        },
        Err(error) => format!("error: {error}"),
    }
}

fn save(desk: &Desk, out: &mut impl Write) -> io::Result<()> {
    if !desk.keeps_statistics() {
        return writeln!(
            out,
            "queues and messages are on the disk; statistics are not kept, see [STORE_LOG] log_stats"
        );
    }
    writeln!(out, "saving server state...")?;
    let saved = desk.operator.active_queues().map_err(|error| error.to_string());
    let saved = saved.and_then(|active| desk.save(&active).map_err(|error| error.to_string()));
    match saved {
        Ok(()) => writeln!(out, "server state saved!"),
        Err(error) => writeln!(out, "error: the statistics file could not be written: {error}"),
    }
}

fn sockets(desk: &Desk, out: &mut impl Write) -> io::Result<()> {
    for (port, listener) in desk.listeners() {
        writeln!(out, "Sockets for port {port}:")?;
        writeln!(out, "accepted: {}", listener.accepted)?;
        writeln!(out, "closed: {}", listener.closed)?;
        writeln!(out, "active: {}", listener.accepted.saturating_sub(listener.closed))?;
        // A connection is closed with the task that serves it: none is lost.
        writeln!(out, "leaked: 0")?;
    }
    Ok(())
}

fn server_info(desk: &Desk, out: &mut impl Write) -> io::Result<()> {
    let totals = desk.totals();
    writeln!(out, "Threads: {}", process::thread_count())?;
    writeln!(out, "Clients: {}", totals.get("clients"))?;
    let now = match desk.operator.subscriptions() {
        Ok(now) => now,
        Err(error) => return refused(out, error),
    };
    writeln!(out, "SMP subscriptions: {}", totals.get("subscriptions"))?;
    writeln!(out, "SMP subscribed clients: {}", now.subscribed_clients)?;
    writeln!(out, "Ntf subscriptions: {}", totals.get("ntfSubscriptions"))?;
    writeln!(out, "Ntf subscribed clients: {}", now.notified_clients)
}

fn clients(desk: &Desk, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "clientId,sessionId,connected,createdAt,rcvActiveAt,sndActiveAt,age,subscriptions")?;
    let now = SystemTime::now();
    let mut written = Ok(());
    let asked = desk.operator.clients(|clients| {
        for client in clients {
            if written.is_ok() {
                written = writeln!(out, "{}", client_line(&client, now));
            }
        }
    });
    written?;
    match asked {
        Ok(()) => Ok(()),
        Err(error) => refused(out, error),
    }
}

fn refused(out: &mut impl Write, error: OperatorError) -> io::Result<()> {
    writeln!(out, "error: {error}")
}

fn client_line(client: &ClientReport, now: SystemTime) -> String {
    let time = |time| humantime::format_rfc3339_nanos(time);
    let age_secs = now.duration_since(client.created_at).map_or(0, |age| age.as_secs());
    format!(
        "{},{},{},{},{},{},{age_secs},{}",
        client.id,
        URL_SAFE.encode(&client.session_id),
        if client.is_open { "True" } else { "False" },
        time(client.created_at),
        time(client.last_received),
        time(client.last_sent),
        client.subscriptions,
    )
}

/// In the order of the reference.
fn stats(totals: &Totals, out: &mut impl Write) -> io::Result<()> {
    let from = humantime::format_rfc3339_nanos(totals.from).to_string();
    writeln!(out, "fromTime: {}", from.replace('T', " ").replace('Z', " UTC"))?;
    let mut line = |label: &str, name: &str| writeln!(out, "{label}: {}", totals.get(name));
    for name in ["qCreated", "qSecured", "qDeletedAll", "qDeletedAllB", "qDeletedNew", "qDeletedSecured"] {
        line(name, name)?;
    }
    line("daily active queues", "day")?;
    for name in ["qSub", "qSubAllB", "qSubEnd", "qSubEndB"] {
        line(name, name)?;
    }
    let three = |names: [&str; 3]| {
        let [auth, duplicate, prohibited] = names.map(|name| totals.get(name));
        format!("({auth},{duplicate},{prohibited})")
    };
    let subs = three(["qSubAuth", "qSubDuplicate", "qSubProhibited"]);
    writeln!(out, "other SUB events (auth, duplicate, prohibited): {subs}")?;
    let mut line = |label: &str, name: &str| writeln!(out, "{label}: {}", totals.get(name));
    for name in ["msgSent", "msgRecv", "msgRecvGet", "msgGet", "msgGetNoMsg"] {
        line(name, name)?;
    }
    let gets = three(["msgGetAuth", "msgGetDuplicate", "msgGetProhibited"]);
    writeln!(out, "other GET events (auth, duplicate, prohibited): {gets}")?;
    let mut line = |label: &str, name: &str| writeln!(out, "{label}: {}", totals.get(name));
    for name in ["msgSentNtf", "msgRecvNtf", "msgNtfs", "msgNtfsB", "msgNtfExpired", "qCount"] {
        line(name, name)?;
    }
    line("qCount 2", "qCount")?;
    line("notifiers", "notifierCount")?;
    line("msgCount", "msgCount")?;
    line("ntfCount", "ntfCount")?;
    for (group, fields) in RELAYS {
        let values: Vec<String> = fields
            .iter()
            .map(|field| format!("{}={}", field.name, totals.get(&format!("{group}.{}", field.name))))
            .collect();
        writeln!(out, "{group}: {}", values.join(", "))?;
    }
    let mut line = |label: &str, name: &str| writeln!(out, "{label}: {}", totals.get(name));
    line("pMsgFwdsRecv", "pMsgFwdsRecv")?;
    for name in ["rcvServiceCount", "ntfServiceCount", "rcvServiceQueuesCount", "ntfServiceQueuesCount"] {
        line(name, name)?;
    }
    Ok(())
}
