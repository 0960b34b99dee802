//! What `scripts/bench-check` runs: compares what stages and a router cost with `bench/budgets.toml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Parser;
use ringpost_bench::budget::{self, Budgets, Verdict, line};
use ringpost_bench::routers::{Router, figure, loadgen, median, programs};
use ringpost_bench::stages::{STAGES, Stage, find};
use ringpost_bench::{Outcome, callgrind};

/// Compares what each stage costs with bench/budgets.toml.
#[derive(Debug, Parser)]
#[command(name = "budgets", disable_help_subcommand = true)]
struct Arguments {
    /// Writes what is measured to the file instead
    #[arg(long, conflicts_with = "self_test")]
    record: bool,
    /// Only these stages
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// Only counts instructions: no router is started
    #[arg(long)]
    no_routers: bool,
    /// Makes every stage 15 % slower, and fails unless that is noticed in each
    #[arg(long)]
    self_test: bool,
}

/// The slowdown that must be noticed.
const SLOWER_PERCENT: u32 = 15;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome<bool> {
    let programs = programs()?;
    let wanted: Vec<&'static Stage> = match &arguments.only[..] {
        [] => STAGES.iter().collect(),
        names => names
            .iter()
            .map(|name| find(name).ok_or_else(|| format!("no stage {name}")))
            .collect::<Result<_, _>>()?,
    };
    let cpu = callgrind::cpu(&programs)?;
    let mut budgets = match Budgets::read(&budget::path()) {
        Ok(budgets) => budgets,
        Err(_) if arguments.record => Budgets {
            cpu: cpu.clone(),
            instructions_margin_percent: 5.0,
            ratios_margin_percent: 20.0,
            instructions: BTreeMap::new(),
            ratios: BTreeMap::new(),
        },
        Err(fault) => return Err(fault),
    };
    println!("instructions, counted by callgrind ({cpu}):");
    let slower_percent = if arguments.self_test { SLOWER_PERCENT } else { 0 };
    let mut counts = count(&programs, &wanted, slower_percent)?;
    let ratios =
        if arguments.no_routers || arguments.self_test { BTreeMap::new() } else { ratios(&programs)? };
    if arguments.record {
        budgets.cpu = cpu;
        budgets.instructions.retain(|name, _| find(name).is_some());
        budgets.instructions.extend(counts.into_iter().map(|(name, count)| (name, count.round())));
        budgets.ratios.extend(ratios.into_iter().map(|(name, ratio)| (name, round(ratio))));
        budgets.write(&budget::path())?;
        println!("written to {}", budget::path().display());
        return Ok(true);
    }
    if budgets.cpu != cpu {
        println!(
            "The budgets were recorded where code finds \"{}\". Counts of ciphers cannot be compared with them: those stages are not judged here, and the whole message by its ratio to its ciphers.",
            budgets.cpu
        );
        counts = without_ciphers(&counts);
        budgets.instructions = without_ciphers(&budgets.instructions);
    }
    let margin = budgets.instructions_margin_percent;
    let instructions = judge(&counts, &budgets.instructions, margin);
    if arguments.self_test {
        return Ok(all_noticed(&instructions));
    }
    if !ratios.is_empty() {
        println!("figures of a running router:");
    }
    let ratios = judge(&ratios, &budgets.ratios, budgets.ratios_margin_percent);
    let failed: Vec<&str> = instructions
        .iter()
        .chain(&ratios)
        .filter(|(_, verdict)| verdict.fails())
        .map(|(name, _)| &**name)
        .collect();
    if failed.is_empty() {
        return Ok(true);
    }
    eprintln!("error: over budget: {}", failed.join(", "));
    eprintln!("If it is worth it: scripts/bench-check --record, and say in the commit what it buys.");
    Ok(false)
}

/// What a delivered message is made of, beside the router's own work: stages, and how often. (The blocks' stages derive
/// their keys.)
const OF_A_MESSAGE: [(&str, f64); 8] = [
    ("tls-open", 2.0),
    ("tls-seal", 2.0),
    ("block-open", 2.0),
    ("block-seal", 2.0),
    ("message-hash", 1.0),
    ("message-seal", 1.0),
    ("authenticator", 1.0),
    ("ed25519-verify", 1.0),
];

/// Stages without ciphers, which take the same instructions on all processors.
const WITHOUT_CIPHERS: [&str; 8] =
    ["log", "mesh-hop", "mesh-scan", "parse-ack", "parse-send", "parse-subs", "store", "message"];

/// What can be compared with counts from another kind of processor.
fn without_ciphers(counts: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let mut comparable = counts.clone();
    comparable.retain(|name, _| WITHOUT_CIPHERS.contains(&&**name));
    let ciphers: Option<f64> =
        OF_A_MESSAGE.iter().map(|(name, times)| Some(counts.get(*name)? * times)).sum();
    if let (Some(message), Some(ciphers)) = (comparable.remove("message"), ciphers) {
        comparable.insert("message / its ciphers".to_owned(), message / ciphers);
    }
    comparable
}

/// Prints a table. Gives the verdicts.
fn judge(
    measured: &BTreeMap<String, f64>,
    recorded: &BTreeMap<String, f64>,
    margin_percent: f64,
) -> Vec<(String, Verdict)> {
    if !measured.is_empty() {
        println!("    {:<24} {:>12} {:>12} {:>9}", "", "measured", "recorded", "");
    }
    let mut verdicts = Vec::new();
    for (name, value) in measured {
        let recorded = recorded.get(name).copied();
        let verdict = Verdict::of(*value, recorded, margin_percent);
        println!("{}", line(name, *value, recorded, verdict));
        verdicts.push((name.clone(), verdict));
    }
    verdicts
}

fn all_noticed(verdicts: &[(String, Verdict)]) -> bool {
    let missed: Vec<&str> = verdicts
        .iter()
        .filter(|(_, verdict)| !matches!(verdict, Verdict::Exceeds { .. }))
        .map(|(name, _)| &**name)
        .collect();
    if missed.is_empty() {
        println!("{SLOWER_PERCENT} % more work was noticed in each of {} stages", verdicts.len());
    } else {
        eprintln!("error: {SLOWER_PERCENT} % more work was not noticed in: {}", missed.join(", "));
    }
    missed.is_empty()
}

/// Two digits behind the point, or whole numbers.
fn round(value: f64) -> f64 {
    if value < 100.0 { (value * 100.0).round() / 100.0 } else { value.round() }
}

/// Counts all stages, on all cores: nothing here depends on time.
fn count(programs: &Path, stages: &[&'static Stage], slower_percent: u32) -> Outcome<BTreeMap<String, f64>> {
    let next = AtomicUsize::new(0);
    let counts = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(stage) = stages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let count = callgrind::instructions(programs, stage, slower_percent);
                    let mut counts = counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    counts.push((stage.name.to_owned(), count));
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    counts.into_iter().map(|(name, count)| count.map(|count| (name, count))).collect()
}

/// Pairs of runs: what else happens on the machine meets both of a pair.
const PAIRS: usize = 5;
/// Messages a second that both of a pair carry, far below what either could: then both have the same to do.
const PAIR_RATE: &str = "800";

/// What only a running router shows.
fn ratios(programs: &Path) -> Outcome<BTreeMap<String, f64>> {
    let mut ratios = BTreeMap::new();
    let router = Router::start(programs, 2, "")?;
    let idle = ["--connections", "4000", "--duration-secs", "1"];
    let result = loadgen(programs, "idle", &router, &idle)?;
    ratios.insert("idle-connection-bytes".to_owned(), figure(&result, "/router/rss_bytes_per_unit")?);
    router.stop()?;

    let mut durability = Vec::new();
    for _ in 0..PAIRS {
        let mut cpu_us = Vec::new();
        for setting in ["durability = always", "durability = off"] {
            let router = Router::start(programs, 2, setting)?;
            let load = ["--pairs", "8", "--rate", PAIR_RATE, "--duration-secs", "3"];
            let result = loadgen(programs, "latency", &router, &load)?;
            cpu_us.push(figure(&result, "/router/cpu_us_per_operation")?);
            router.stop()?;
        }
        if let [always, off] = cpu_us[..] {
            durability.push(always / off);
        }
    }
    ratios.insert("always-over-off".to_owned(), median(durability));
    Ok(ratios)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// On another processor all ciphers may take twice as long, but not the router's own work.
    #[test]
    fn own_work_is_judged_on_any_processor() {
        let recorded = Budgets::read(&budget::path()).unwrap().instructions;
        let with = |ciphers_factor: f64, own_factor: f64| {
            let mut counts: BTreeMap<_, _> =
                recorded.iter().map(|(name, count)| (name.clone(), count * ciphers_factor)).collect();
            for name in WITHOUT_CIPHERS {
                counts.insert(name.to_owned(), recorded[name] * own_factor);
            }
            counts.insert("message".to_owned(), recorded["message"] * ciphers_factor * own_factor);
            without_ciphers(&counts)
        };
        let allowed = without_ciphers(&recorded);
        assert_eq!(allowed.len(), WITHOUT_CIPHERS.len());
        let fails = |counts: BTreeMap<String, f64>| {
            judge(&counts, &allowed, 5.0).iter().filter(|(_, verdict)| verdict.fails()).count()
        };
        assert_eq!(fails(with(2.0, 1.0)), 0);
        assert_eq!(fails(with(2.0, 1.15)), WITHOUT_CIPHERS.len());
    }
}
