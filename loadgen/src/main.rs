//! Capacity benchmark for SMP routers: puts load on a router, verifies every message, and reports what it took.
//!
//! | module | what it knows |
//! |---|---|
//! | `cli` | the command line |
//! | `scenario` | what load is put on the router |
//! | `verify` | what messages carry, and whether they arrive as they must |
//! | `run`, `stats` | what is counted and measured |
//! | `procfs` | CPU time and memory of a process |
//! | `report` | table, JSON and HTML |

#![forbid(unsafe_code)]

mod cli;
mod procfs;
mod report;
mod run;
mod scenario;
mod stats;
mod verify;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use ringpost_protocol::version::SmpVersion;
use rustix::process::{Resource, getrlimit, setrlimit};

use cli::{Cli, Scenario};
use procfs::Process;
use report::Report;
use run::{Measured, Monitor, Run};
use scenario::{Context, Failure, Outcome};
use stats::as_f64;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANNOT_CONNECT: u8 = 3;
/// A second interruption does not wait for anything.
const KILLED: i32 = 130;

/// Tasks between two looks at the sockets. A task may sign and encrypt for 100 us, so with tokio's 61 a busy thread
/// would see an answer 6 ms late, and that would be counted as the router's latency.
const TASKS_PER_EVENT_CHECK: u32 = 7;

/// Beside the connections: standard streams, the runtime's own, files of `/proc`.
const OTHER_FILES: u64 = 64;

fn main() -> ExitCode {
    let Cli { scenario } = Cli::parse();
    match benchmark(&scenario) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(Fatal { code, text }) => {
            // The error stream is the last resort.
            let _ = writeln!(io::stderr(), "loadgen: {text}");
            ExitCode::from(code)
        }
    }
}

/// Ends the program, with one line.
struct Fatal {
    code: u8,
    text: String,
}

impl Fatal {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// True if everything was verified.
fn benchmark(scenario: &Scenario) -> Result<bool, Fatal> {
    let common = scenario.common().clone();
    let address = common.address.clone().without_password().to_string();
    allow_files(scenario.connections_max() as u64 + OTHER_FILES)?;
    let run = Run::new(common.pid.map(Process::new), scenario.proxy_pid().map(Process::new));
    run.mark_before().map_err(|error| Fatal::new(USAGE, format!("--pid: {error}")))?;
    let threads =
        common.threads.or_else(|| thread::available_parallelism().ok()).map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .event_interval(TASKS_PER_EVENT_CHECK)
        .enable_all()
        .build()
        .map_err(|error| Fatal::new(FAILED, format!("cannot start threads: {error}")))?;
    let started_at_unix_secs =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let context = Arc::new(Context::new(Arc::clone(&run), scenario, threads));
    let smp_version = runtime.block_on(probe(&context)).map_err(|failure| {
        let code = if matches!(failure, Failure::Connect(_)) { CANNOT_CONNECT } else { FAILED };
        Fatal::new(code, format!("{address}: {failure}"))
    })?;
    // The first connection costs the router memory that the others do not.
    run.mark_before().map_err(|error| Fatal::new(FAILED, format!("--pid: {error}")))?;

    runtime.spawn(watch_interrupts(Arc::clone(&run)));
    let monitor = Monitor::start(Arc::clone(&run), scenario.unit());
    let outcome = runtime.block_on(scenario::run(context, scenario.clone()));
    let series = monitor.finish();
    let outcome = outcome.map_err(|failure| Fatal::new(FAILED, format!("{address}: {failure}")))?;
    let measured = run
        .measured(threads)
        .ok_or_else(|| Fatal::new(FAILED, "the run ended before anything was measured"))?;
    let rates = if outcome.has_rates { series.rates(120) } else { Vec::new() };
    let mut report = assemble(&run, scenario, outcome, measured);
    report.router_address = address;
    report.smp_version = smp_version.0;
    report.started_at_unix_secs = started_at_unix_secs;
    report.rates = rates;
    write_report(&report, common.json.as_deref(), common.html.as_deref())?;
    // Connections that still have events waiting are no reason to wait.
    runtime.shutdown_background();
    Ok(report.passed)
}

/// One connection, to tell a router that is not there, or not the right one, from one that fails under load.
async fn probe(context: &Context) -> Result<SmpVersion, Failure> {
    let (client, _) = context.connect().await?;
    client.ping().await.map_err(|error| Failure::Command("the first PING", error))?;
    let version = client.session().version();
    client.close().await;
    Ok(version)
}

fn assemble(run: &Run, scenario: &Scenario, outcome: Outcome, measured: Measured) -> Report {
    let Measured { window_secs, operations, own, router, proxy } = measured;
    let mut notes = outcome.notes;
    if run.is_interrupted() {
        notes.push("the run was interrupted".to_owned());
    }
    if own.is_limit {
        notes.push("the load generator was busy all the time: the router may be able to do more".to_owned());
    } else if own.machine_is_full {
        notes.push("router and load generator together used all cores: each limits the other".to_owned());
    }
    let errors = run.errors.counts();
    let clean = outcome.verification.as_ref().is_none_or(verify::Verification::is_clean);
    let operations_per_sec = outcome.has_rates.then(|| as_f64(operations) / window_secs);
    Report {
        schema: report::SCHEMA,
        loadgen_version: env!("CARGO_PKG_VERSION"),
        scenario: scenario.name(),
        router_address: String::new(),
        smp_version: 0,
        started_at_unix_secs: 0,
        options: scenario.options(),
        passed: clean && errors.total() == 0 && !run.is_interrupted(),
        interrupted: run.is_interrupted(),
        window_secs,
        unit: scenario.unit(),
        operations,
        operations_per_sec,
        body_bytes_per_sec: operations_per_sec
            .zip(outcome.body_bytes)
            .map(|(per_sec, bytes)| per_sec * as_f64(bytes as u64)),
        latencies: outcome.latencies,
        rates: Vec::new(),
        verification: outcome.verification,
        errors,
        router,
        proxy,
        loadgen: own,
        notes,
    }
}

fn write_report(report: &Report, json: Option<&Path>, html: Option<&Path>) -> Result<(), Fatal> {
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        Fatal::new(FAILED, format!("cannot write {}: {error}", path.display()))
    };
    let stdout = Path::new("-");
    if let Some(path) = html {
        fs::write(path, report::html::render(report)).map_err(|error| failed(path, &error))?;
    }
    if let Some(path) = json {
        let text = report::json::render(report).map_err(|error| failed(path, &error))?;
        if path == stdout {
            return io::stdout().write_all(text.as_bytes()).map_err(|error| failed(path, &error));
        }
        fs::write(path, text).map_err(|error| failed(path, &error))?;
    }
    let table = report::table::render(report);
    io::stdout().write_all(table.as_bytes()).map_err(|error| failed(stdout, &error))
}

/// The first interruption ends the load and still gives a report.
async fn watch_interrupts(run: Arc<Run>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if run.is_interrupted() {
            std::process::exit(KILLED);
        }
        run.interrupt();
    }
}

/// Every connection is an open file.
fn allow_files(needed: u64) -> Result<(), Fatal> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or_default();
        let text =
            format!("so many connections need {needed} open files, and the limit is {maximum} (ulimit -n)");
        return Err(Fatal::new(USAGE, text));
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)
        .map_err(|error| Fatal::new(FAILED, format!("cannot raise ulimit -n: {error}")))
}
