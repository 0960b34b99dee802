//! A client service that comes back: all of its queues are subscribed with one command.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ringpost_client::{Client, EntityId, Event, Events, RecipientQueue, SenderQueue};
use ringpost_protocol::certificate::{CertificateAuthority, SigningKey};
use ringpost_protocol::command::{MsgFlags, ServiceSubs};
use ringpost_protocol::handshake::{ServiceCredentials, ServiceRole};
use ringpost_protocol::version::SmpVersion;
use tokio::time::timeout;

use super::queues::{Making, create_queues, delete_queues};
use super::{Context, Failure, Outcome};
use crate::cli::Services;
use crate::stats::Recorder;

pub async fn run(context: Arc<Context>, options: Services) -> Result<Outcome, Failure> {
    let run = &context.run;
    let service = Arc::new(credentials()?);
    run.set_phase("connecting");
    let (client, events) = connect(&context, &service).await?;
    // Nothing is sent to its queues yet.
    drop(events);
    run.set_phase("creating queues");
    let clients = [client];
    let making = Making {
        count: options.queues.get(),
        at_once: options.in_flight,
        // A service receives from all of its queues.
        subscribe: true,
        counts: false,
        latency: None,
    };
    let queues = create_queues(&context, &clients, making).await?;
    let [client] = clients;
    client.close().await;
    let queues: Vec<RecipientQueue> = queues.into_iter().flatten().collect();
    let mut has = ServiceSubs::NONE;
    for queue in &queues {
        has.add_queue(queue.recipient_id.as_bytes());
    }
    run.set_phase("sending messages");
    let filled = fill(&context, &options, &queues).await?;

    let ready = Arc::new(context.recorder());
    run.sleep(context.warmup).await;
    run.set_phase("subscribing");
    run.open_window();
    for round in 0..options.rounds.get() {
        if run.is_interrupted() {
            break;
        }
        subscribe(&context, &service, has, &filled, (&ready, round)).await?;
        run.count(queues.len() as u64);
    }
    run.close_window();
    run.mark_after(queues.len() as u64, "queue");
    if !options.keep {
        let (client, events) = connect(&context, &service).await?;
        drop(events);
        delete_queues(&context, &[client], vec![queues], options.in_flight).await?;
    }
    Ok(Outcome {
        latencies: vec![ready.summary("ready", "from SUBS to the last of the waiting messages")],
        body_bytes: (options.one_message_in > 0).then_some(options.body_bytes),
        has_rates: true,
        ..Outcome::default()
    })
}

/// New at each run: the router keeps every service that it has seen.
fn credentials() -> Result<ServiceCredentials, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Other(format!("no certificate: {error}"));
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| failed(&error))?;
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let authority = CertificateAuthority::generate(&seed, i64::try_from(now_secs).unwrap_or(i64::MAX))
        .map_err(|error| failed(&error))?;
    let chain = vec![authority.certificate().clone()];
    Ok(ServiceCredentials { role: ServiceRole::Messaging, chain, key: SigningKey::ed25519(&seed) })
}

async fn connect(context: &Context, service: &Arc<ServiceCredentials>) -> Result<(Client, Events), Failure> {
    let (client, events) = context.connect_as(service).await?;
    let version = client.session().version();
    if version < SmpVersion::SERVICE_SUBSCRIPTIONS {
        return Err(Failure::Other(format!(
            "the router agreed on version {version}; only from version 19 on it tells a service when all is delivered"
        )));
    }
    Ok((client, events))
}

/// Sends a message to some of the queues. Gives these.
async fn fill(
    context: &Context,
    options: &Services,
    queues: &[RecipientQueue],
) -> Result<HashSet<EntityId>, Failure> {
    let mut filled = HashSet::new();
    if options.one_message_in == 0 {
        return Ok(filled);
    }
    let (client, events) = context.connect().await?;
    drop(events);
    let body = vec![b'.'; options.body_bytes];
    for queues in queues.iter().step_by(options.one_message_in).collect::<Vec<_>>().chunks(64) {
        let mut pending = Vec::new();
        for queue in queues {
            let sender = SenderQueue::unsecured(queue.sender_id);
            let send = client.start_send(&sender, MsgFlags::default(), &body).await;
            pending.push(send.map_err(|error| Failure::Command("SEND", error))?);
            filled.insert(queue.recipient_id);
        }
        for send in pending {
            send.await.map_err(|error| Failure::Command("SEND", error))?;
        }
    }
    client.close().await;
    Ok(filled)
}

/// One connection of the service, up to the last of what waited.
async fn subscribe(
    context: &Context,
    service: &Arc<ServiceCredentials>,
    has: ServiceSubs,
    filled: &HashSet<EntityId>,
    (ready, round): (&Recorder, usize),
) -> Result<(), Failure> {
    let run = &context.run;
    let (client, mut events) = connect(context, service).await?;
    let start_ns = run.clock.now_ns();
    let subscribes = {
        let client = client.clone();
        tokio::spawn(async move { client.subscribe_service(has).await })
    };
    let mut missing = filled.clone();
    loop {
        let event = timeout(context.common.timeout_secs, events.recv()).await;
        match event {
            Ok(Some(Event::ServiceDelivered) | None) => break,
            Ok(Some(Event::Message(message))) => {
                if !missing.remove(&message.queue) {
                    run.errors.add("unexpected message", "twice, or from a queue to which none was sent");
                }
            }
            Ok(Some(Event::Disconnected(reason))) => {
                run.errors.add("disconnected", reason);
                break;
            }
            Ok(Some(other)) => run.errors.add("unexpected event", format_args!("{other:?}")),
            Err(_) => {
                run.errors.add("timeout", "not all that waited was delivered in time");
                break;
            }
        }
    }
    ready.record_ns(round, run.clock.now_ns() - start_ns);
    if !missing.is_empty() {
        run.errors.add("lost", format_args!("{} waiting messages were not delivered", missing.len()));
    }
    match subscribes.await.map_err(super::panicked)? {
        Ok(told) if told == has => {}
        Ok(told) => {
            let text = format!("the router says {} queues, not the {} that were made", told.count, has.count);
            run.errors.add("drift", text);
        }
        Err(error) => context.failed("SUBS", &error),
    }
    client.close().await;
    Ok(())
}
