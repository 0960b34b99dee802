//! Runs one stage so many times: for callgrind, and for whoever wants to see it in a profiler.

use std::process::ExitCode;

use clap::Parser;
use ringpost_bench::Outcome;
use ringpost_bench::meter::Meter;
use ringpost_bench::stages::{STAGES, find};

/// The router's allocator: under callgrind too, its instructions belong to the count.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs a stage of the way of a message, in memory.
#[derive(Debug, Parser)]
#[command(name = "stages", disable_help_subcommand = true)]
struct Arguments {
    /// The stage: see --list
    #[arg(required_unless_present_any = ["list", "cpu"])]
    stage: Option<String>,
    /// How often
    #[arg(default_value_t = 1_000)]
    steps: u64,
    /// Of a hundred steps, so many are made twice: a slowdown that must be noticed
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    slower_percent: u64,
    /// Says which stages there are
    #[arg(long)]
    list: bool,
    /// Says which features of the processor the code finds
    #[arg(long)]
    cpu: bool,
    /// Says how long one step takes
    #[arg(long)]
    time: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("stages: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    if arguments.list {
        for stage in STAGES {
            println!("{:<16} {}", stage.name, stage.about);
        }
        return Ok(());
    }
    if arguments.cpu {
        println!("{}", features().join(" "));
        return Ok(());
    }
    let name = arguments.stage.as_deref().unwrap_or_default();
    let stage = find(name).ok_or_else(|| format!("no stage {name}: see --list"))?;
    let mut step = stage.make()?;
    let mut meter = if arguments.time { Meter::timed() } else { Meter::untimed() };
    for number in 0..arguments.steps {
        step(&mut meter)?;
        let twice = |number: u64| number * arguments.slower_percent / 100;
        for _ in twice(number)..twice(number + 1) {
            step(&mut meter)?;
        }
    }
    if arguments.time {
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        let things = (arguments.steps * u64::from(stage.per_step)) as f64;
        println!("{:.3} us", meter.elapsed().as_secs_f64() * 1e6 / things);
    }
    Ok(())
}

/// The features by which the libraries below choose between implementations.
#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    macro_rules! look {
        ($($feature:tt),*) => { $(if is_x86_feature_detected!($feature) { found.push($feature); })* };
    }
    look!("sse4.1", "avx", "avx2", "avx512f", "avx512ifma", "bmi1", "bmi2", "adx", "aes", "pclmulqdq", "sha");
    found
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<&'static str> {
    vec![std::env::consts::ARCH]
}
