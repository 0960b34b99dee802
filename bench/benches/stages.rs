//! Every primitive and stage of a message, one at a time: `cargo bench -p ringpost-bench --bench stages`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringpost_bench::meter::Meter;
use ringpost_bench::stages::STAGES;

/// The router's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Only what a stage measures of its steps counts.
fn stages(c: &mut Criterion) {
    let mut group = c.benchmark_group("stages");
    for stage in STAGES {
        group.throughput(Throughput::Elements(stage.per_step.into()));
        group.bench_function(stage.name, |b| {
            let mut step = stage.make().unwrap();
            b.iter_custom(|times| {
                let mut meter = Meter::timed();
                for _ in 0..times {
                    step(&mut meter).unwrap();
                }
                meter.elapsed()
            });
        });
    }
}

fn config() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2))
}

criterion_group! { name = all; config = config(); targets = stages }
criterion_main!(all);
