//! Connections that exchange messages for as long as a test lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Client, DEADLINE, Queue, TestRouter};

/// Two clients that behave. What others do to the router must not disturb them.
pub struct Healthy {
    exchanged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Healthy {
    /// Connects two clients.
    pub fn start(router: &TestRouter) -> Self {
        Self::with(Client::connect(router), Client::connect(router))
    }

    pub fn with(mut recipient: Client, mut sender: Client) -> Self {
        let mut queue = Queue::subscribed(&mut recipient);
        recipient.secure_by_recipient(&mut queue);
        let exchanged = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (exchanged, stop) = (Arc::clone(&exchanged), Arc::clone(&stop));
            move || {
                let mut count = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    // Small bodies and those that stay in their block.
                    let mut body = count.to_be_bytes().to_vec();
                    body.resize(if count.is_multiple_of(2) { 16_000 } else { 100 }, 7);
                    sender.send_message(&queue, &body).assert_ok();
                    let message = recipient.message(&queue);
                    assert_eq!(message.body(), body, "message {count}");
                    recipient.ack(&queue, &message.id).assert_ok();
                    count += 1;
                    exchanged.store(count, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self { exchanged, stop, thread: Some(thread) }
    }

    /// Waits for more messages.
    #[track_caller]
    pub fn goes_on(&self) {
        let wanted = self.exchanged.load(Ordering::Relaxed) + 3;
        let end = Instant::now() + DEADLINE;
        while self.exchanged.load(Ordering::Relaxed) < wanted {
            let ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
            assert!(!ended && Instant::now() < end, "the healthy connections exchange nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the exchange after some more messages, closing both connections.
    #[track_caller]
    pub fn finish(mut self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Healthy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
