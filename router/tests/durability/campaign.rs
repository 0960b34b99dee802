//! Clients under load that remember what they were told, and a router that is killed under them.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringpost_client::{
    Client, ClientConfig, Connection, Event, Events, Message, QueueOptions, RecipientQueue, SenderQueue,
};
use ringpost_protocol::address::RouterAddress;
use ringpost_protocol::command::MsgFlags;
use tokio::task::JoinSet;

/// Messages of one queue that wait for their `OK` at once.
const IN_FLIGHT: usize = 4;
/// A drain ends when nothing came for so long.
const QUIET: Duration = Duration::from_millis(1_500);
/// Times as long for what is known to be there: a disk that others keep busy may stall a commit for seconds.
const QUIET_PERIODS_MAX: u32 = 20;

/// A queue, and what its parties know.
pub struct Known {
    pub number: usize,
    recipient: RecipientQueue,
    sender: SenderQueue,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    next: usize,
    /// Messages of which the sender was told that the router has them.
    accepted: BTreeSet<usize>,
    /// Messages of which the recipient was told that the router has forgotten them.
    forgotten: BTreeSet<usize>,
    /// In the order in which they came first.
    received: Vec<usize>,
}

impl Known {
    fn body(&self, n: usize) -> Vec<u8> {
        // All sizes: some stay in their block, some are copied, some are empty but for the number.
        let bytes = 16 + (n * 7_919 + self.number * 104_729) % 16_000;
        let mut body = vec![(n % 251) as u8; bytes];
        body[..8].copy_from_slice(&(self.number as u64).to_le_bytes());
        body[8..16].copy_from_slice(&(n as u64).to_le_bytes());
        body
    }

    /// Notes a message that came, and whether that may be. Gives its number.
    fn came(&self, message: Message) -> (usize, ringpost_protocol::crypto::delivery::MsgId) {
        let received = message.open(&self.recipient).unwrap();
        let id = received.id;
        let body = received.body().expect("no quota message: fewer are under way");
        let n = usize::try_from(u64::from_le_bytes(body[8..16].try_into().unwrap())).unwrap();
        assert!(
            body == self.body(n),
            "queue {}: message {n} was altered, or is of another queue",
            self.number
        );
        let mut told = self.told.lock().unwrap();
        assert!(!told.forgotten.contains(&n), "queue {}: message {n} came back", self.number);
        match told.received.last() {
            // Delivered again, since its acknowledgement was not answered.
            Some(last) if *last == n => {}
            Some(last) => {
                assert!(*last < n, "queue {}: message {n} came after {last}", self.number);
                told.received.push(n);
            }
            None => told.received.push(n),
        }
        (n, id)
    }

    /// Whether all is there that the router had accepted.
    fn is_complete(&self) -> bool {
        let told = self.told.lock().unwrap();
        told.accepted.iter().all(|n| told.received.contains(n))
    }

    fn missing(&self) -> String {
        let told = self.told.lock().unwrap();
        let received: BTreeSet<usize> = told.received.iter().copied().collect();
        let missing: Vec<_> = told.accepted.difference(&received).collect();
        format!("missing {missing:?} of {} accepted", told.accepted.len())
    }

    /// Panics if a message is missing that the router had accepted.
    pub fn check_complete(&self) {
        assert!(self.is_complete(), "queue {}: {}", self.number, self.missing());
    }

    pub fn accepted(&self) -> usize {
        self.told.lock().unwrap().accepted.len()
    }
}

/// None: the router is gone, or not there yet.
async fn try_connect(address: &RouterAddress) -> Option<(Client, Events)> {
    let config = ClientConfig { command_timeout: Duration::from_secs(20), ..ClientConfig::default() };
    Connection::connect(address, config).await.ok()
}

/// Makes queues with secured senders.
pub async fn make_queues(address: &RouterAddress, count: usize) -> Vec<Arc<Known>> {
    let (client, _events) = try_connect(address).await.unwrap();
    let mut queues = Vec::new();
    for number in 0..count {
        let options = QueueOptions { subscribe: false, contact: false };
        let recipient = client.new_queue(options).await.unwrap();
        let key = ringpost_client::KeyKind::X25519.generate().unwrap();
        let sender = SenderQueue::new(recipient.sender_id, key);
        client.secure(&recipient, &sender.public_key().unwrap()).await.unwrap();
        queues.push(Arc::new(Known { number, recipient, sender, told: Mutex::default() }));
    }
    client.close().await;
    queues
}

/// Sends until the connection ends. What is answered is noted.
async fn send(address: RouterAddress, queue: Arc<Known>, accepted: Arc<AtomicUsize>) {
    // It may be killed before all clients are connected.
    let Some((client, _events)) = try_connect(&address).await else { return };
    let mut pending = std::collections::VecDeque::new();
    loop {
        if pending.len() == IN_FLIGHT {
            let Some((n, sending)) = pending.pop_front() else { continue };
            let sending: ringpost_client::PendingSend = sending;
            match sending.await {
                Ok(()) => {
                    queue.told.lock().unwrap().accepted.insert(n);
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
                Err(ringpost_client::ClientError::Router(error)) => {
                    panic!("SEND was answered with {error:?}")
                }
                Err(_) => return,
            }
        }
        let n = {
            let mut told = queue.told.lock().unwrap();
            told.next += 1;
            told.next - 1
        };
        match client.start_send(&queue.sender, MsgFlags::default(), &queue.body(n)).await {
            Ok(sending) => pending.push_back((n, sending)),
            Err(_) => return,
        }
    }
}

/// Receives and acknowledges. With `until_quiet` it ends when nothing comes any more, otherwise with the connection.
async fn receive(address: RouterAddress, queue: Arc<Known>, until_quiet: bool) {
    let Some((client, mut events)) = try_connect(&address).await else {
        assert!(!until_quiet, "no connection to a router that serves");
        return;
    };
    if client.subscribe(&queue.recipient).await.is_err() {
        assert!(!until_quiet, "SUB was not answered");
        return;
    }
    let mut quiet_periods = 0;
    loop {
        let event = match tokio::time::timeout(QUIET, events.recv()).await {
            Ok(event) => event,
            Err(_) if until_quiet => {
                quiet_periods += 1;
                if queue.is_complete() {
                    return;
                }
                if quiet_periods == QUIET_PERIODS_MAX {
                    // Says whether the router still has what is missing, and does not deliver it, or has lost it.
                    let info = client.queue_info(&queue.recipient).await;
                    let info = info.map(|json| String::from_utf8_lossy(&json).into_owned());
                    panic!("queue {}: nothing comes any more: {info:?}; {}", queue.number, queue.missing());
                }
                continue;
            }
            Err(_) => continue,
        };
        quiet_periods = 0;
        let message = match event {
            Some(Event::Message(message)) => message,
            other => {
                assert!(!until_quiet, "queue {}: {other:?} instead of a message", queue.number);
                return;
            }
        };
        let mut next = Some(message);
        while let Some(message) = next.take() {
            let (n, id) = queue.came(message);
            match client.ack(&queue.recipient, &id).await {
                Ok(following) => {
                    queue.told.lock().unwrap().forgotten.insert(n);
                    next = following;
                }
                Err(error) => {
                    assert!(!until_quiet, "ACK was not answered: {error:?}");
                    return;
                }
            }
        }
    }
}

/// Clients that send to all queues, and receive from the first half of them, until the router is gone.
pub struct Load {
    tasks: JoinSet<()>,
    pub accepted: Arc<AtomicUsize>,
}

impl Load {
    pub fn start(address: &RouterAddress, queues: &[Arc<Known>]) -> Self {
        let mut tasks = JoinSet::new();
        let accepted = Arc::new(AtomicUsize::new(0));
        for queue in queues {
            tasks.spawn(send(address.clone(), Arc::clone(queue), Arc::clone(&accepted)));
            if queue.number % 2 == 0 {
                tasks.spawn(receive(address.clone(), Arc::clone(queue), false));
            }
        }
        Self { tasks, accepted }
    }

    /// Waits until the router has accepted so many messages.
    pub async fn until_accepted(&self, count: usize) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while self.accepted.load(Ordering::Relaxed) < count {
            assert!(std::time::Instant::now() < end, "{} accepted", self.accepted.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits for the clients, whose router is gone.
    pub async fn ended(mut self) {
        while let Some(task) = self.tasks.join_next().await {
            task.unwrap();
        }
    }
}

/// Takes everything out of all queues and checks that nothing is missing.
pub async fn drain(address: &RouterAddress, queues: &[Arc<Known>]) {
    let mut tasks = JoinSet::new();
    for queue in queues {
        tasks.spawn(receive(address.clone(), Arc::clone(queue), true));
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    for queue in queues {
        queue.check_complete();
    }
}
