//! Clients that keep connecting, and do not take no for an answer.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringpost_client::{ClientConfig, Connection};
use ringpost_protocol::address::RouterAddress;

use crate::site::DEADLINE;

/// Clients of each kind.
const CLIENTS: usize = 4;
/// Between two connections of a client.
const EVERY: Duration = Duration::from_millis(3);

/// Connects all the time, some with TCP alone and some for a session, until it is told to end.
pub struct Knocking {
    ends: Arc<AtomicBool>,
    /// When each connection was made, and when each router's hello was there.
    connected: Arc<Mutex<Vec<Instant>>>,
    greeted: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Knocking {
    pub fn start(socket: SocketAddr, address: &RouterAddress) -> Self {
        let mut knocking = Self {
            ends: Arc::default(),
            connected: Arc::default(),
            greeted: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..CLIENTS {
            let (ends, connected) = (Arc::clone(&knocking.ends), Arc::clone(&knocking.connected));
            knocking.threads.push(std::thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let stream = TcpStream::connect_timeout(&socket, DEADLINE);
                    drop(stream.unwrap_or_else(|error| panic!("not connected: {error}")));
                    connected.lock().unwrap().push(Instant::now());
                    std::thread::sleep(EVERY);
                }
            }));
            let (ends, greeted) = (Arc::clone(&knocking.ends), Arc::clone(&knocking.greeted));
            let address = address.clone();
            knocking.threads.push(std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    while !ends.load(Ordering::Relaxed) {
                        let config = ClientConfig { connect_timeout: DEADLINE, ..ClientConfig::default() };
                        let (client, _events) = Connection::connect(&address, config)
                            .await
                            .unwrap_or_else(|error| panic!("no session: {error}"));
                        greeted.lock().unwrap().push(Instant::now());
                        // It may have been drained meanwhile.
                        let _ = client.ping().await;
                        client.close().await;
                        tokio::time::sleep(EVERY).await;
                    }
                });
            }));
        }
        knocking
    }

    /// Waits until so many more sessions were made.
    pub fn until_greeted(&self, more: usize) {
        let wanted = self.greeted.lock().unwrap().len() + more;
        let end = Instant::now() + DEADLINE;
        while self.greeted.lock().unwrap().len() < wanted {
            let all_run = self.threads.iter().all(|thread| !thread.is_finished());
            assert!(all_run && Instant::now() < end, "clients cannot connect");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails if one of them was refused. Gives how many connected, and the longest time in which no session was made.
    pub fn end(self) -> (usize, usize, Duration) {
        self.ends.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let (connected, mut greeted) =
            (self.connected.lock().unwrap().len(), self.greeted.lock().unwrap().clone());
        greeted.sort();
        let gaps = greeted.windows(2).map(|pair| pair[1] - pair[0]);
        (connected, greeted.len(), gaps.max().unwrap_or_default())
    }
}
