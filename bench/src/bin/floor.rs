//! The cost model with this machine's figures: what cannot be avoided, next to what a router really spends.
//! docs/cost-model.md explains each line.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use ringpost_bench::Outcome;
use ringpost_bench::cost::{Beyond, Group, beyond_handshake, of_handshake, of_message, stage_us};
use ringpost_bench::profile::{Kind, Profiler};
use ringpost_bench::routers::{Cpu, Router, figure, loadgen, median, programs};

/// The router's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prints what a message and a handshake must cost on this machine, and what they do cost.
#[derive(Debug, Parser)]
#[command(name = "floor", disable_help_subcommand = true)]
struct Arguments {
    /// Runs of each; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Shards of the router
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
    /// Takes no profile
    #[arg(long)]
    no_profile: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// What runs of a router showed: medians.
struct Spent {
    /// Processor time of one operation.
    us: f64,
    /// Of it, the kernel's.
    system_us: f64,
    per_commit: f64,
    rate: f64,
    shares: BTreeMap<Kind, f64>,
}

fn run(arguments: &Arguments) -> Outcome {
    let programs = programs()?;
    let folder = tempfile::tempdir()?;
    println!("a message of 16,000 bytes: 8 pairs, 4 in flight, durability = always");
    let seconds = arguments.seconds.to_string();
    let load = ["--pairs", "8", "--in-flight", "4", "--duration-secs", &seconds];
    let spent = spend(&programs, "throughput", &load, arguments, folder.path())?;
    // The router has given the machine back: nothing of it is in the floor.
    let floor = of_message(folder.path(), spent.per_commit)?;
    table(&floor, &spent);
    println!("    in memory, without sockets, disk and executor: {:.1} us", stage_us("message")?);
    println!("    {:.0} messages a second, {:.1} in a commit", spent.rate, spent.per_commit);
    println!();
    println!("a handshake: TCP, TLS with X25519, hello blocks, one PING");
    let connections = (arguments.seconds * 500).to_string();
    let load = ["--connections", &connections];
    let spent = spend(&programs, "handshake", &load, arguments, folder.path())?;
    let floor = of_handshake()?;
    table(&floor, &spent);
    println!("    in memory, without sockets and executor: {:.1} us", stage_us("handshake")?);
    needed(&floor, &spent)?;
    println!("    {:.0} handshakes a second", spent.rate);
    println!();
    println!("between shards, on one core (two cores add the misses of their caches)");
    println!("    a letter to another shard: {:.2} us", stage_us("mesh-hop")?);
    println!("    a look at an empty lane: {:.1} ns", stage_us("mesh-scan")? * 1e3);
    Ok(())
}

/// What the floor of a handshake leaves out, though every router has it.
fn needed(floor: &[Group], spent: &Spent) -> Outcome {
    let Beyond { schedule_us, flights_us, exchange_us } = beyond_handshake()?;
    let total: f64 = floor.iter().map(Group::us).sum();
    let kernel: f64 = floor.iter().filter(|group| group.kind == Kind::Kernel).map(Group::us).sum();
    println!("    with the key schedule of TLS ({schedule_us:.1} us), and in the kernel");
    for (how, kernel_us) in [
        ("all that is said on the connection", flights_us),
        ("the same for a thread that waits for each message", exchange_us),
    ] {
        let needed = total - kernel + schedule_us + kernel_us;
        println!("      {how} ({kernel_us:.1} us): {needed:.1} us, ratio {:.2}", spent.us / needed);
    }
    Ok(())
}

/// Runs a scenario several times, each with a router of its own.
fn spend(
    programs: &Path,
    scenario: &str,
    load: &[&str],
    arguments: &Arguments,
    folder: &Path,
) -> Outcome<Spent> {
    let (mut us, mut system_us, mut per_commit, mut rates) = (vec![], vec![], vec![], vec![]);
    let mut shares = BTreeMap::new();
    for round in 0..arguments.rounds {
        let router = Router::start(programs, arguments.shards.into(), "durability = always")?;
        // The profile is a run of its own: taking it costs time.
        let before = router.cpu()?;
        let result = loadgen(programs, scenario, &router, load)?;
        let Cpu { user_secs, system_secs } = router.cpu()?.since(before);
        let each_us = figure(&result, "/router/cpu_us_per_operation")?;
        us.push(each_us);
        system_us.push(each_us * system_secs / (user_secs + system_secs).max(f64::MIN_POSITIVE));
        rates.push(figure(&result, "/operations")? / figure(&result, "/window_secs")?);
        if round == 0 && !arguments.no_profile {
            match Profiler::start(router.pid(), folder) {
                None => println!("    no profile: perf is not installed"),
                Some(profiler) => {
                    let again = loadgen(programs, scenario, &router, load);
                    match profiler.finish() {
                        Ok(found) => shares = found,
                        Err(fault) => println!("    no profile: {fault}"),
                    }
                    again?;
                }
            }
        }
        let counters = router.stop()?;
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let (delivered, commits) =
            (counters.get("messages_delivered") as f64, counters.get("log_commits") as f64);
        per_commit.push(if commits > 0.0 { (delivered / commits).max(1.0) } else { 1.0 });
    }
    Ok(Spent {
        us: median(us),
        system_us: median(system_us),
        per_commit: median(per_commit),
        rate: median(rates),
        shares,
    })
}

fn table(floor: &[Group], spent: &Spent) {
    println!(
        "    {:<28} {:>6} {:>9} {:>9} {:>9} {:>7}",
        "", "times", "each us", "floor us", "router us", "ratio"
    );
    let mut total = 0.0;
    for kind in Kind::ALL {
        let group = floor.iter().find(|group| group.kind == kind);
        let us = group.map_or(0.0, Group::us);
        total += us;
        // Without a profile the kernel's part is known, and no other.
        let router_us = match spent.shares.get(&kind) {
            Some(share) => Some(share * spent.us),
            None if kind == Kind::Kernel && spent.shares.is_empty() => Some(spent.system_us),
            None => None,
        };
        if group.is_none() && router_us.is_none_or(|us| us < 0.05) {
            continue;
        }
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let ratio = router_us.filter(|_| us > 0.0).map(|router_us| router_us / us);
        println!(
            "    {:<28} {:>6} {:>9} {:>9} {:>9} {:>7}",
            kind.name(),
            "",
            "",
            shown(group.map(|_| us)),
            shown(router_us),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        );
        for line in group.map_or(&[][..], |group| &group.lines) {
            println!("      {:<26} {:>6.1} {:>9.2} {:>9.1}", line.name, line.times, line.each_us, line.us());
        }
    }
    println!(
        "    {:<28} {:>6} {:>9} {:>9.1} {:>9.1} {:>7.2}",
        "total",
        "",
        "",
        total,
        spent.us,
        spent.us / total
    );
    println!("    of the router's time the kernel's: {:.1} us", spent.system_us);
}
