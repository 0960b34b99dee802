//! The pages on a port without TLS: in a thread of its own, apart from the shards, with few connections and short deadlines.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringpost_protocol::websocket::http::{Refusal, Request, read_request};
use ringpost_protocol::websocket::pages::Pages;
use ringpost_shard::InheritedListeners;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

/// More wait in the queue of the kernel.
const CONNECTIONS_MAX: usize = 256;
/// For the request, and for the response, each.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// For the answers that are under way when the port is handed over.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// After an accept that failed for want of descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(200);

/// Binds, where no socket was inherited. Nothing is served yet.
pub fn bind(
    addresses: &[SocketAddr],
    inherited: &mut InheritedListeners,
) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::new();
    for &address in addresses {
        let fail = |error| (address, error);
        let mut of_address = inherited.take(address);
        if of_address.is_empty() {
            of_address.push(TcpListener::bind(address).map_err(fail)?);
        }
        of_address.iter().try_for_each(|listener| listener.set_nonblocking(true)).map_err(fail)?;
        listeners.append(&mut of_address);
    }
    Ok(listeners)
}

/// The thread that serves, until this is dropped.
#[derive(Debug)]
pub struct HttpPort {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    /// Other descriptors of the sockets.
    listeners: Vec<TcpListener>,
}

impl HttpPort {
    pub fn serve(listeners: Vec<TcpListener>, pages: &Pages) -> io::Result<Self> {
        let kept = listeners.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let pages = pages.clone();
        let (stop, stopped) = oneshot::channel();
        let run = move || runtime.block_on(run(listeners, pages, stopped));
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(run)?;
        Ok(Self { stop, thread, listeners: kept })
    }

    /// Accepts no more, and answers who has asked. Gives the listening sockets, in whose queues others wait.
    pub fn leave(self) -> Vec<TcpListener> {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::warn!("the port for pages did not end in order");
        }
        self.listeners
    }
}

async fn run(listeners: Vec<TcpListener>, pages: Pages, stopped: oneshot::Receiver<()>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut ports = tokio::task::JoinSet::new();
    for listener in listeners {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => _ = ports.spawn(accept(listener, pages.clone(), Arc::clone(&slots))),
            Err(error) => tracing::error!("a port for pages cannot be served: {error}"),
        }
    }
    // It is never sent: an error tells that the other end is gone.
    let _ = stopped.await;
    // No connection is lost: tokio accepts one when there is one, and then goes on to answer it.
    ports.shutdown().await;
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    // Those that take longer are cut off.
    let _ = tokio::time::timeout(ANSWERS_WITHIN, slots.acquire_many(all)).await;
}

async fn accept(listener: tokio::net::TcpListener, pages: Pages, slots: Arc<Semaphore>) {
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pages = pages.clone();
                tokio::spawn(async move {
                    // A client that breaks off gets no answer; there is nobody to tell.
                    let _ = answer(stream, &pages).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(PAUSE_AFTER_ERROR).await,
        }
    }
}

async fn answer(mut stream: TcpStream, pages: &Pages) -> io::Result<()> {
    let request = tokio::time::timeout(STEP_TIMEOUT, receive(&mut stream)).await??;
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let (head, body) = match request {
        Request::Page(request) => {
            let response = pages.answer(&request, now_secs);
            (response.head, response.body)
        }
        // Sessions of clients need TLS.
        Request::WebSocket { .. } => (Refusal::BadRequest.response(now_secs), Arc::default()),
        Request::Refused(refusal) => (refusal.response(now_secs), Arc::default()),
    };
    let send = async {
        stream.write_all(&head).await?;
        stream.write_all(&body).await?;
        stream.shutdown().await?;
        // What the client still sends is read, or the kernel would reset the connection and throw the answer away.
        let mut rest = [0; 1_024];
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(STEP_TIMEOUT, send).await?
}

async fn receive(stream: &mut TcpStream) -> io::Result<Request> {
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((request, _)) = read_request(&received) {
            return Ok(request);
        }
    }
}
