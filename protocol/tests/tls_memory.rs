//! What an established connection takes of the heap.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ringpost_protocol::tls::{client_config, server_config};
use support::{End, credentials, established};

/// Counts the bytes that are allocated now. A global allocator cannot be written without `unsafe`; this one only
/// counts and passes everything on.
mod counting {
    #![allow(unsafe_code)]

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub struct Counting;

    static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

    // SAFETY: every call goes to the system allocator with the same arguments.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller keeps the contract of `alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            ALLOCATED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: the caller keeps the contract of `dealloc`.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    pub fn allocated_bytes() -> usize {
        ALLOCATED_BYTES.load(Ordering::Relaxed)
    }
}

#[global_allocator]
static COUNTING: counting::Counting = counting::Counting;

/// The only test of this file: others would allocate at the same time.
#[test]
fn an_idle_connection_is_small() {
    const CONNECTIONS: usize = 64;
    let credentials = credentials(1, 2);
    let server = server_config(&credentials).unwrap();
    let client = client_config(credentials.ca_fingerprint).unwrap();
    // What is made once for all connections.
    established(&server, &client);

    let mut servers: Vec<End> = Vec::with_capacity(CONNECTIONS);
    let mut clients: Vec<End> = Vec::with_capacity(CONNECTIONS);
    let before = counting::allocated_bytes();
    for _ in 0..CONNECTIONS {
        let (server, client) = established(&server, &client);
        servers.push(End::new(server.channel));
        clients.push(End::new(client.channel));
    }
    let both = counting::allocated_bytes() - before;
    drop(clients);
    let server_bytes = (counting::allocated_bytes() - before) / CONNECTIONS;
    let client_bytes = both / CONNECTIONS - server_bytes;
    println!(
        "heap of an established channel: server {server_bytes} bytes, client {client_bytes} bytes; inline {} bytes",
        size_of::<ringpost_protocol::tls::TlsChannel>()
    );
    assert!(server_bytes < 2_000, "{server_bytes}");
    assert!(client_bytes < 5_000, "{client_bytes}");
    assert!(servers.iter().all(|end| end.channel.is_established()));
}
