//! Clients that ask for a relay that cannot be reached, again and again: others must not notice.

use std::sync::Arc;
use std::time::Duration;

use ringpost_client::{Client, ClientError, error_text};
use ringpost_protocol::address::{Hosts, KeyHash, Password, Router, RouterAddress, Scheme};
use ringpost_protocol::error::ErrorType;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Context, Failure, Outcome, panicked};
use crate::cli::Unreachable;
use crate::stats::Recorder;

pub async fn run(context: Arc<Context>, options: Unreachable) -> Result<Outcome, Failure> {
    let run = &context.run;
    let relay = match options.relay {
        Some(relay) => relay,
        None => silent_relay().await?,
    };
    run.set_phase("connecting");
    let clients = context.connect_all(options.clients.get()).await?;
    let asking = Arc::new(Asking {
        context: Arc::clone(&context),
        relay,
        pause: options.pause_secs,
        answer: context.recorder(),
    });
    let mut tasks = JoinSet::new();
    for (place, (client, _)) in clients.into_iter().enumerate() {
        tasks.spawn(Arc::clone(&asking).one_client(place, client));
    }
    run.set_phase("warming up");
    run.sleep(context.warmup).await;
    run.set_phase("asking");
    run.open_window();
    run.sleep(options.duration_secs).await;
    run.close_window();
    run.mark_after(options.clients.get() as u64, "connection");
    run.set_phase("checking");
    // Everyone is still there, whatever became of the relay.
    tasks.abort_all();
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Err(error) if !error.is_cancelled() => return Err(panicked(error)),
            _ => {}
        }
    }
    let (client, _) = context.connect().await?;
    client.ping().await.map_err(|error| Failure::Command("PING at the end", error))?;
    Ok(Outcome {
        latencies: vec![asking.answer.summary("refused", "from PRXY to the error that tells of the relay")],
        ..Outcome::default()
    })
}

/// The address of a listener that takes connections and never says a word.
async fn silent_relay() -> Result<RouterAddress, Failure> {
    let failed = |error: std::io::Error| Failure::Other(format!("cannot listen on 127.0.0.1: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            // Those that the router gave up long ago.
            if held.len() > SILENT_MAX {
                held.remove(0);
            }
        }
    });
    let host = "127.0.0.1".parse().map_err(|_| Failure::Other("no host".to_owned()))?;
    let hosts = Hosts::new(vec![host]).map_err(|_| Failure::Other("no host".to_owned()))?;
    let key_hash = KeyHash::new(&[7; 32]).map_err(|_| Failure::Other("no key hash".to_owned()))?;
    let router = Router { hosts, port: Some(port), key_hash };
    Ok(RouterAddress { scheme: Scheme::Smp, router, password: None::<Password> })
}

/// Connections that the silent relay holds.
const SILENT_MAX: usize = 32;

struct Asking {
    context: Arc<Context>,
    relay: RouterAddress,
    pause: Duration,
    answer: Recorder,
}

impl Asking {
    async fn one_client(self: Arc<Self>, place: usize, client: Client) {
        let run = &self.context.run;
        loop {
            let start_ns = run.clock.now_ns();
            match client.relay_session(&self.relay, self.context.common.versions()).await {
                // What is to come: the proxy tells of the relay.
                Err(ClientError::Router(ErrorType::Proxy(_))) => {
                    if run.window.contains(start_ns) {
                        self.answer.record_ns(place, run.clock.now_ns() - start_ns);
                    }
                    run.count(1);
                }
                Err(ClientError::Router(error)) => run.errors.add("PRXY", error_text(&error)),
                Err(error) => {
                    self.context.failed("PRXY", &error);
                    return;
                }
                Ok(_) => run.errors.add("PRXY", "the relay can be reached"),
            }
            run.sleep(self.pause).await;
            if run.is_interrupted() {
                return;
            }
        }
    }
}
