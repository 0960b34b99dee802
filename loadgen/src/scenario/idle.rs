//! Connections that are held open: what the router pays for each in memory and in CPU time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Context, Failure, Outcome, panicked};
use crate::cli::Idle;
use crate::stats::as_f64;

/// For the router to give back what handshakes took.
const SETTLE: Duration = Duration::from_millis(500);

pub async fn run(context: Arc<Context>, options: Idle) -> Result<Outcome, Failure> {
    let run = &context.run;
    run.set_phase("connecting");
    let connect = Arc::new(context.recorder());
    let places = Arc::new(Semaphore::new(context.common.connect_at_once.get()));
    let start_ns = run.clock.now_ns();
    let mut tasks = JoinSet::new();
    for index in 0..options.connections.get() {
        let (context, places, connect) = (Arc::clone(&context), Arc::clone(&places), Arc::clone(&connect));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let start_ns = context.run.clock.now_ns();
            let connected = context.connect().await;
            connect.record_ns(index, context.run.clock.now_ns() - start_ns);
            connected
        });
    }
    let mut held = Vec::with_capacity(options.connections.get());
    loop {
        tokio::select! {
            joined = tasks.join_next() => match joined {
                None => break,
                Some(joined) => match joined.map_err(panicked)? {
                    Ok(connection) => held.push(connection),
                    Err(error) => run.errors.add("connect", error),
                },
            },
            () = run.interrupted() => return Err(Failure::Interrupted),
        }
    }
    let secs = as_f64(run.clock.now_ns() - start_ns) / 1e9;
    let connected = held.len() as u64;
    let note = format!("{connected} connections made in {secs:.2} s, {:.0}/s", as_f64(connected) / secs);

    run.set_phase("settling");
    run.sleep(SETTLE + context.warmup).await;
    run.set_phase("holding");
    run.open_window();
    run.sleep(options.duration_secs).await;
    // Each connection held is one operation.
    run.count(connected);
    run.close_window();
    run.mark_after(connected, "connection");

    run.set_phase("checking");
    let ping = Arc::new(context.recorder());
    let places = Arc::new(Semaphore::new(context.common.connect_at_once.get()));
    let mut tasks = JoinSet::new();
    for (index, (client, events)) in held.into_iter().enumerate() {
        let (context, places, ping) = (Arc::clone(&context), Arc::clone(&places), Arc::clone(&ping));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let start_ns = context.run.clock.now_ns();
            match client.ping().await {
                Ok(()) => ping.record_ns(index, context.run.clock.now_ns() - start_ns),
                Err(error) => context.failed("PING at the end", &error),
            }
            (client, events)
        });
    }
    // All stay open until the last one is checked.
    let mut checked = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        checked.push(joined.map_err(panicked)?);
    }
    Ok(Outcome {
        latencies: vec![
            connect.summary("connect", "TCP, TLS and SMP handshakes of one connection"),
            ping.summary("ping", "from a PING at the end to its PONG"),
        ],
        notes: vec![note],
        ..Outcome::default()
    })
}
