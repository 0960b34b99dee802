//! Streams and listeners.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::{or, poll_fn, poll_once, yield_now};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use socket2::SockRef;

use super::super::{Listener, Stream, sleep, spawn_local};
use super::{requests, run, until};

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|place| u8::try_from((place * 31 + seed * 7 + place / 251) % 256).unwrap()).collect()
}

/// More than the sockets hold goes both ways at once, in pieces of all lengths, and the reading side is slow at first.
#[test]
pub fn all_bytes_arrive_in_order_however_full_the_sockets_are() {
    const BYTES: usize = 3_000_000;
    run(async {
        let (one, other) = tcp_pair();
        for socket in [&one, &other] {
            SockRef::from(socket).set_send_buffer_size(8192).unwrap();
        }
        let sides: Vec<_> = [one, other]
            .into_iter()
            .enumerate()
            .map(|(seed, socket)| {
                let (mut reads, mut writes) = (Stream::new(socket.try_clone().unwrap()), Stream::new(socket));
                let writer = spawn_local(async move {
                    let bytes = pattern(BYTES, seed);
                    let mut rest = &bytes[..];
                    let mut length = 1;
                    while !rest.is_empty() {
                        length = length % 70_000 + 977;
                        let piece = &rest[..length.min(rest.len())];
                        let sent = writes.write(piece).await.unwrap();
                        rest = &rest[sent..];
                    }
                    writes.close().await.unwrap();
                });
                let reader = spawn_local(async move {
                    sleep(Duration::from_millis(5)).await;
                    let mut received = Vec::new();
                    let mut length = 1;
                    loop {
                        length = length % 40_000 + 1_013;
                        let mut piece = vec![0; length];
                        let count = reads.read(&mut piece).await.unwrap();
                        if count == 0 {
                            break;
                        }
                        received.extend_from_slice(&piece[..count]);
                    }
                    assert!(received == pattern(BYTES, 1 - seed));
                });
                (writer, reader)
            })
            .collect();
        for (writer, reader) in sides {
            writer.await;
            reader.await;
        }
    });
}

/// The end of a stream comes right behind its last bytes, at any moment of the read that takes them.
#[test]
pub fn an_end_behind_the_last_bytes_is_not_missed() {
    run(async {
        for round in 0..500 {
            let (one, mut other) = UnixStream::pair().unwrap();
            let peer = std::thread::spawn(move || {
                other.write_all(&[7; 100]).unwrap();
                if round % 2 == 0 {
                    std::thread::yield_now();
                }
            });
            let mut stream = Stream::new(one);
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, [7; 100]);
            peer.join().unwrap();
        }
    });
}

/// One event tells of both, and of the end nothing else does.
#[test]
pub fn an_end_that_comes_with_the_last_bytes_is_not_missed() {
    run(async {
        let (one, mut other) = tcp_pair();
        other.write_all(&[7; 100]).unwrap();
        other.shutdown(std::net::Shutdown::Write).unwrap();
        // Both have arrived when the watch begins.
        while one.peek(&mut [0; 200]).unwrap() < 100 {}
        sleep(Duration::from_millis(1)).await;
        let mut stream = Stream::new(one);
        let mut received = [0; 200];
        assert_eq!(stream.read(&mut received).await.unwrap(), 100);
        assert_eq!(stream.read(&mut received).await.unwrap(), 0);
        assert_eq!(stream.read(&mut received).await.unwrap(), 0);
    });
}

/// The ring has not been asked, so of what has come since nobody knows, and there is no call to find out.
#[test]
pub fn a_socket_that_was_drained_is_not_tried_before_its_next_event() {
    run(async {
        let (one, mut other) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(one);
        for length in [3, 16] {
            other.write_all(&[1; 3]).unwrap();
            let mut received = vec![0; length];
            assert_eq!(stream.read(&mut received).await.unwrap(), 3);
            if length == 3 {
                assert!(poll_once(stream.read(&mut received)).await.is_none());
            }
            other.write_all(&[1]).unwrap();
            assert!(poll_once(stream.read(&mut received)).await.is_none());
            assert_eq!(stream.read(&mut received).await.unwrap(), 1);
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::new(listener);
        let _first = TcpStream::connect(address).unwrap();
        listener.accept().await.unwrap();
        assert!(poll_once(listener.accept()).await.is_none());
        let _second = TcpStream::connect(address).unwrap();
        assert!(poll_once(listener.accept()).await.is_none());
        listener.accept().await.unwrap();
    });
}

#[test]
pub fn a_socket_that_is_given_up_is_watched_no_more_and_wakes_nobody() {
    let polls = run(async {
        let before = requests();
        let (one, _other) = UnixStream::pair().unwrap();
        let mut given_up = Some(Stream::new(one));
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        let task = spawn_local(poll_fn(move |cx| {
            counted.set(counted.get() + 1);
            if let Some(mut stream) = given_up.take() {
                assert!(Pin::new(&mut stream).poll_read(cx, &mut [0]).is_pending());
            }
            Poll::<()>::Pending
        }));
        assert_eq!(requests(), before + 1);
        until(|| requests() == before).await;
        task.cancel().await;
        polls.get()
    });
    assert_eq!(polls, 1);
}

#[test]
pub fn a_socket_that_has_room_again_is_not_watched_for_it() {
    const BYTES: usize = 1 << 20;
    run(async {
        let before = requests();
        let (one, mut other) = UnixStream::pair().unwrap();
        let writer = spawn_local(async move {
            let mut stream = Stream::new(one);
            stream.write_all(&vec![0; BYTES]).await.unwrap();
            stream
        });
        assert_eq!(requests(), before + 1);
        other.set_nonblocking(true).unwrap();
        let mut taken = vec![0; BYTES];
        while !writer.is_finished() {
            while other.read(&mut taken).is_ok() {}
            sleep(Duration::from_millis(1)).await;
        }
        let stream = writer.await;
        until(|| requests() == before).await;
        drop(stream);
    });
}

/// Such a peer is noticed once, not for as long as it lasts.
#[test]
pub fn a_peer_that_sends_no_more_and_reads_nothing_costs_nothing() {
    run(async {
        let (one, other) = tcp_pair();
        other.shutdown(std::net::Shutdown::Write).unwrap();
        let mut stream = Stream::new(one);
        let polls = Rc::new(Cell::new(0));
        let counted = Rc::clone(&polls);
        let writer = spawn_local(async move {
            let block = vec![0; 65_536];
            loop {
                let write = poll_fn(|cx| {
                    let write = std::pin::Pin::new(&mut stream).poll_write(cx, &block);
                    if write.is_pending() {
                        counted.set(counted.get() + 1);
                    }
                    write
                });
                if write.await.is_err() {
                    break;
                }
            }
        });
        sleep(Duration::from_millis(100)).await;
        assert!((1..100).contains(&polls.get()), "{} waits", polls.get());
        // It goes on when the peer reads.
        let before = polls.get();
        let mut other = other;
        let mut taken = vec![0; 1 << 20];
        while polls.get() == before {
            other.read_exact(&mut taken).unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        drop(other);
        writer.await;
    });
}

#[test]
pub fn a_reset_is_an_error_for_both_directions() {
    run(async {
        let (one, other) = tcp_pair();
        let mut stream = Stream::new(one);
        stream.write_all(b"unread").await.unwrap();
        let mut waits = spawn_local(async move {
            let read = stream.read(&mut [0; 10]).await;
            (read.map_err(|error| error.kind()), stream)
        });
        sleep(Duration::from_millis(1)).await;
        assert!(futures_lite::future::poll_once(&mut waits).await.is_none());
        // It is closed with bytes unread.
        drop(other);
        let (read, mut stream) = waits.await;
        assert_eq!(read, Err(std::io::ErrorKind::ConnectionReset));
        let write = poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_write(cx, b"more")).await;
        assert_eq!(write.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    });
}

/// Eight times as many sockets as the ring has places for completions are ready at the same time, again and again.
#[test]
pub fn more_events_than_the_ring_has_places_are_all_told() {
    const SOCKETS: usize = 4_000;
    run(async {
        let (mut peers, mut tasks) = (Vec::new(), Vec::new());
        let rounds = Rc::new(Cell::new(0_usize));
        for _ in 0..SOCKETS {
            let (one, other) = UnixStream::pair().unwrap();
            peers.push(other);
            let rounds = Rc::clone(&rounds);
            tasks.push(spawn_local(async move {
                let mut stream = Stream::new(one);
                while stream.read(&mut [0; 16]).await.unwrap() > 0 {
                    rounds.set(rounds.get() + 1);
                }
            }));
        }
        for round in 1..=3 {
            for peer in &mut peers {
                peer.write_all(&[1]).unwrap();
            }
            while rounds.get() < round * SOCKETS {
                // The kernel keeps what the ring has no places for, also while tasks are ready.
                if round == 2 {
                    yield_now().await;
                } else {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
        drop(peers);
        for task in tasks {
            task.await;
        }
        assert_eq!(rounds.get(), 3 * SOCKETS);
    });
}

#[test]
pub fn connections_that_wait_are_all_accepted() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::new(listener);
        let connect =
            |count: usize| -> Vec<_> { (0..count).map(|_| TcpStream::connect(address).unwrap()).collect() };
        for count in [1, 50, 3] {
            let clients = connect(count);
            for client in &clients {
                let (_, peer) = listener.accept().await.unwrap();
                assert!(clients.iter().any(|other| other.local_addr().unwrap() == peer));
                assert!(client.peer_addr().is_ok());
            }
        }
        let waits = async { listener.accept().await.is_err() };
        let timer = async {
            sleep(Duration::from_millis(10)).await;
            true
        };
        assert!(or(waits, timer).await);
    });
}

/// A router that hands its sockets over gives up accepting, and the next program must find every connection.
#[test]
pub fn who_gives_up_accepting_has_accepted_nobody() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let kept = listener.try_clone().unwrap();
        let address = kept.local_addr().unwrap();
        let accepts = spawn_local(async move {
            let listener = Listener::new(listener);
            listener.accept().await.map(drop)
        });
        sleep(Duration::from_millis(1)).await;
        let client = TcpStream::connect(address).unwrap();
        // The kernel has an event for it, and it has not run yet.
        accepts.cancel().await;
        sleep(Duration::from_millis(1)).await;
        let (_, peer) = kept.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    });
}

/// A router that ends and starts again at once finds its port free, and its peers hear of the end.
#[test]
pub fn sockets_are_closed_when_the_executor_has_ended() {
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (one, mut other) = UnixStream::pair().unwrap();
        run(async move {
            spawn_local(async move {
                let _ = Listener::new(listener).accept().await;
            })
            .detach();
            spawn_local(async move {
                let mut stream = Stream::new(one);
                let _ = poll_fn(|cx| std::pin::Pin::new(&mut stream).poll_read(cx, &mut [0])).await;
            })
            .detach();
            sleep(Duration::from_millis(1)).await;
        });
        TcpListener::bind(address).unwrap();
        other.set_nonblocking(true).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    }
}
