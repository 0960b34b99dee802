//! As many messages as the router takes: each pair keeps its places full.

use std::sync::Arc;

use super::pair::{Load, Pace, make_pairs};
use super::{Context, Failure, Outcome, panicked};
use crate::cli::Throughput;
use crate::verify::Verification;
use tokio::task::JoinSet;

pub async fn run(context: Arc<Context>, options: Throughput) -> Result<Outcome, Failure> {
    let Throughput { traffic, duration_secs, messages, proxy, .. } = options;
    let pairs = make_pairs(&context, traffic.pairs.get(), proxy.as_ref()).await?;
    let load = Load::new(Arc::clone(&context), traffic)?;
    let run = &context.run;
    // Without a warm-up nothing may escape the window.
    let opened = context.warmup.is_zero();
    if opened {
        run.open_window();
    }
    run.set_phase("warming up");
    let mut tasks = JoinSet::new();
    let units = 2 * pairs.len() as u64;
    for pair in pairs {
        tasks.spawn(pair.run(Arc::clone(&load), Pace::Closed { messages }));
    }
    let timing = async {
        run.sleep(context.warmup).await;
        run.set_phase("measuring");
        if !opened {
            run.open_window();
        }
        if messages.is_some() {
            run.interrupted().await;
        } else {
            run.sleep(duration_secs).await;
            run.close_window();
            run.mark_after(units, "connection");
        }
        run.set_phase("waiting for the last messages");
        load.stop();
        std::future::pending::<()>().await;
    };
    let mut found = Verification::default();
    let joining = async {
        while let Some(joined) = tasks.join_next().await {
            found.add(joined.map_err(panicked)?);
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        () = timing => {}
        joined = joining => joined?,
    }
    // With a number of messages the window ends with the last of them.
    run.close_window();
    if messages.is_some() {
        run.mark_after(0, "");
    }
    Ok(Outcome {
        latencies: load.latencies(false),
        verification: Some(found),
        body_bytes: Some(load.options.body_bytes),
        has_rates: true,
        notes: Vec::new(),
    })
}
