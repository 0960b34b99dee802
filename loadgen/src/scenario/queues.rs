//! Creation of many queues: how fast, and what the router pays for each in memory.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ringpost_client::{Client, ClientError, QueueOptions, RecipientQueue};
use tokio::task::JoinSet;

use super::{Context, Failure, Outcome, panicked};
use crate::cli::Creation;
use crate::stats::Recorder;

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
    let queues =
        create_queues(&context, &clients, options.queues.get(), options.in_flight, true, Some(&create))
            .await?;
    run.close_window();
    run.mark_after(queues.iter().map(Vec::len).sum::<usize>() as u64, "queue");
    if !options.keep {
        delete_queues(&context, &clients, queues, options.in_flight).await?;
    }
    Ok(Outcome {
        latencies: vec![create.summary("create", "from NEW to the IDs of the queue")],
        has_rates: true,
        ..Outcome::default()
    })
}

/// Creates queues, so many at once on each connection. Gives the queues of each connection.
pub async fn create_queues(
    context: &Arc<Context>,
    clients: &[Client],
    count: usize,
    at_once: NonZeroUsize,
    counts: bool,
    latency: Option<&Arc<Recorder>>,
) -> Result<Vec<Vec<RecipientQueue>>, Failure> {
    let left = Arc::new(AtomicUsize::new(count));
    let mut tasks = JoinSet::new();
    for (index, client) in clients.iter().enumerate() {
        for _ in 0..at_once.get() {
            let (context, client, left) = (Arc::clone(context), client.clone(), Arc::clone(&left));
            let latency = latency.cloned();
            // A service receives from all of its queues.
            let subscribe = client.session().service_id().is_some();
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
