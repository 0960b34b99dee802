//! The pages on a port without TLS: in a thread of its own, apart from the shards, with few connections and short deadlines.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringpost_protocol::websocket::http::{Refusal, Request, read_request};
use ringpost_protocol::websocket::pages::Pages;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// More wait in the queue of the kernel.
const CONNECTIONS_MAX: usize = 256;
/// For the request, and for the response, each.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(200);

/// Binds. Nothing is served before [`serve`].
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let bind = |address: &SocketAddr| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    addresses.iter().map(|address| bind(address).map_err(|error| (*address, error))).collect()
}

/// Serves for the rest of the process.
pub fn serve(listeners: Vec<TcpListener>, pages: &Pages) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let pages = pages.clone();
    let run = move || {
        runtime.block_on(async move {
            let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
            let mut ports = tokio::task::JoinSet::new();
            for listener in listeners {
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => _ = ports.spawn(accept(listener, pages.clone(), Arc::clone(&slots))),
                    Err(error) => tracing::error!("a port for pages cannot be served: {error}"),
                }
            }
            while ports.join_next().await.is_some() {}
        });
    };
    std::thread::Builder::new().name("http".to_owned()).spawn(run).map(|_| ())
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
