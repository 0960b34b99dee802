//! A storm of connections: each is made, answers one PING, and is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::{Context, Failure, Outcome, panicked};
use crate::cli::Handshake;
use crate::stats::Recorder;

pub async fn run(context: Arc<Context>, options: Handshake) -> Result<Outcome, Failure> {
    let connections = options.connections.get();
    let places = context.common.connect_at_once.get().min(connections);
    let storm = Arc::new(Storm {
        context: Arc::clone(&context),
        left: AtomicUsize::new(connections),
        connect: context.recorder(),
        ping: context.recorder(),
    });
    let run = &context.run;
    // Without a warm-up nothing may escape the window.
    let opened = context.warmup.is_zero();
    if opened {
        run.open_window();
    }
    let mut tasks = JoinSet::new();
    for place in 0..places {
        tasks.spawn(Arc::clone(&storm).one_place(place));
    }
    let timing = async {
        run.set_phase("warming up");
        run.sleep(context.warmup).await;
        run.set_phase("measuring");
        if !opened {
            run.open_window();
        }
        std::future::pending::<()>().await;
    };
    let joining = async {
        while let Some(joined) = tasks.join_next().await {
            joined.map_err(panicked)?;
        }
        Ok::<_, Failure>(())
    };
    tokio::select! {
        biased;
        () = timing => {}
        joined = joining => joined?,
    }
    run.close_window();
    run.mark_after(0, "");
    Ok(Outcome {
        latencies: vec![
            storm.connect.summary("connect", "TCP, TLS and SMP handshakes of one connection"),
            storm.ping.summary("first answer", "from the first PING to its PONG"),
        ],
        has_rates: true,
        ..Outcome::default()
    })
}

struct Storm {
    context: Arc<Context>,
    left: AtomicUsize,
    connect: Recorder,
    ping: Recorder,
}

impl Storm {
    async fn one_place(self: Arc<Self>, place: usize) {
        let run = &self.context.run;
        while !run.is_interrupted() && self.take_one() {
            let start_ns = run.clock.now_ns();
            match self.context.connect().await {
                Err(error) => run.errors.add("connect", error),
                Ok((client, _)) => {
                    self.record(&self.connect, place, start_ns);
                    let ping_ns = run.clock.now_ns();
                    match client.ping().await {
                        Ok(()) => {
                            self.record(&self.ping, place, ping_ns);
                            run.count(1);
                        }
                        Err(error) => self.context.failed("PING", &error),
                    }
                    client.close().await;
                }
            }
        }
    }

    fn take_one(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    fn record(&self, recorder: &Recorder, place: usize, start_ns: u64) {
        let run = &self.context.run;
        if run.window.contains(start_ns) {
            recorder.record_ns(place, run.clock.now_ns() - start_ns);
        }
    }
}
