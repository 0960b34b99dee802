//! Creation of many queues: how fast, and what the router pays for each in memory.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringpost_client::{Client, ClientError, QueueOptions, RecipientQueue};
use tokio::task::JoinSet;

use super::{Context, Failure, Outcome, panicked};
use crate::cli::Creation;
use crate::stats::{Recorder, as_f64};

/// A failing router is not asked again and again.
const ERRORS_MAX: u64 = 100;

pub async fn run(context: Arc<Context>, options: Creation) -> Result<Outcome, Failure> {
    let run = &context.run;
    run.set_phase("connecting");
    let connections = context.connect_all(options.connections.get()).await?;
    let clients: Vec<_> = connections.iter().map(|(client, _)| client.clone()).collect();
    run.set_phase("warming up");
    run.sleep(context.warmup).await;
    run.set_phase("creating queues");
    let create = Arc::new(context.recorder());
    run.open_window();
    let making = Making {
        count: options.queues.get(),
        at_once: options.in_flight,
        subscribe: options.subscribe,
        counts: true,
        latency: Some(&create),
    };
    let queues = create_queues(&context, &clients, making).await?;
    run.close_window();
    run.mark_after(queues.iter().map(Vec::len).sum::<usize>() as u64, "queue");
    let mut latencies = vec![create.summary("create", "from NEW to the IDs of the queue")];
    if !options.ping_secs.is_zero() {
        run.set_phase("sending PINGs");
        let ping = Arc::new(context.recorder());
        ping_all(&context, &clients, options.ping_secs, &ping).await?;
        latencies.push(ping.summary("ping", "from a PING to its PONG, one for each connection, in turn"));
    }
    if !options.keep {
        delete_queues(&context, &clients, queues, options.in_flight).await?;
    }
    Ok(Outcome { latencies, has_rates: true, ..Outcome::default() })
}

/// A PING from every connection, at even distances.
async fn ping_all(
    context: &Arc<Context>,
    clients: &[Client],
    within: Duration,
    latency: &Arc<Recorder>,
) -> Result<(), Failure> {
    let begun = tokio::time::Instant::now();
    let mut tasks = JoinSet::new();
    for (index, client) in clients.iter().enumerate() {
        let (context, client, latency) = (Arc::clone(context), client.clone(), Arc::clone(latency));
        let at = begun + within.mul_f64(as_f64(index as u64) / as_f64(clients.len() as u64));
        tasks.spawn(async move {
            tokio::time::sleep_until(at).await;
            let start_ns = context.run.clock.now_ns();
            match client.ping().await {
                Ok(()) => latency.record_ns(index, context.run.clock.now_ns() - start_ns),
                Err(error) => context.failed("PING", &error),
            }
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(panicked)?;
    }
    Ok(())
}

/// How queues are to be made.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    pub count: usize,
    /// On each connection.
    pub at_once: NonZeroUsize,
    pub subscribe: bool,
    /// Each is an operation of the run.
    pub counts: bool,
    pub latency: Option<&'a Arc<Recorder>>,
}

/// Creates queues. Gives those of each connection.
pub async fn create_queues(
    context: &Arc<Context>,
    clients: &[Client],
    making: Making<'_>,
) -> Result<Vec<Vec<RecipientQueue>>, Failure> {
    let Making { count, at_once, subscribe, counts, latency } = making;
    let left = Arc::new(AtomicUsize::new(count));
    let mut tasks = JoinSet::new();
    for (index, client) in clients.iter().enumerate() {
        for _ in 0..at_once.get() {
            let (context, client, left) = (Arc::clone(context), client.clone(), Arc::clone(&left));
            let latency = latency.cloned();
            tasks.spawn(async move {
                let mut queues = Vec::new();
                let run = &context.run;
                while !run.is_interrupted() && run.errors.total() < ERRORS_MAX && take_one(&left) {
                    let start_ns = run.clock.now_ns();
                    match client.new_queue(QueueOptions { subscribe, contact: false }).await {
                        Ok(queue) => {
                            if let Some(latency) = &latency {
                                latency.record_ns(index, run.clock.now_ns() - start_ns);
                            }
                            if counts {
                                run.count(1);
                            }
                            queues.push(queue);
                        }
                        Err(error) => {
                            context.failed("NEW", &error);
                            if is_final(&error) {
                                break;
                            }
                        }
                    }
                }
                (index, queues)
            });
        }
    }
    let mut queues: Vec<Vec<RecipientQueue>> = clients.iter().map(|_| Vec::new()).collect();
    while let Some(joined) = tasks.join_next().await {
        let (index, made) = joined.map_err(panicked)?;
        if let Some(queues) = queues.get_mut(index) {
            queues.extend(made);
        }
    }
    Ok(queues)
}

/// Deletes the queues of each connection.
pub async fn delete_queues(
    context: &Arc<Context>,
    clients: &[Client],
    queues: Vec<Vec<RecipientQueue>>,
    at_once: NonZeroUsize,
) -> Result<(), Failure> {
    context.run.set_phase("deleting queues");
    let mut tasks = JoinSet::new();
    for (client, queues) in clients.iter().zip(queues) {
        let (queues, next) = (Arc::new(queues), Arc::new(AtomicUsize::new(0)));
        for _ in 0..at_once.get() {
            let (context, client) = (Arc::clone(context), client.clone());
            let (queues, next) = (Arc::clone(&queues), Arc::clone(&next));
            tasks.spawn(async move {
                while let Some(queue) = queues.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = client.delete(queue).await {
                        context.failed("DEL", &error);
                        if is_final(&error) {
                            break;
                        }
                    }
                }
            });
        }
    }
    while let Some(joined) = tasks.join_next().await {
        joined.map_err(panicked)?;
    }
    Ok(())
}

/// The connection is gone or of no use: all further commands would fail alike.
pub fn is_final(error: &ClientError) -> bool {
    matches!(error, ClientError::Closed | ClientError::Transport(_) | ClientError::Timeout)
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
