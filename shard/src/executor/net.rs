//! Sockets. They are tried when the ring says that they are ready, by calls that do not wait.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::future::poll_fn;
use futures_lite::{AsyncRead, AsyncWrite};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, acceptfrom_with, recv, send};

use super::watch::Watch;

/// A connected stream socket, of TCP or between processes of this machine.
#[derive(Debug)]
pub struct Stream {
    /// Before the descriptor, which it watches, as the next one.
    watch: Watch,
    /// While the socket has no room.
    room: Option<Watch>,
    fd: OwnedFd,
}

impl Stream {
    pub fn new(socket: impl Into<OwnedFd>) -> Self {
        let fd = socket.into();
        Self { watch: Watch::to_receive(&fd), room: None, fd }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let wanted = out.len();
        let read = self.watch.poll(cx, || recv(&self.fd, &mut *out, RecvFlags::DONTWAIT));
        read.map_ok(|(received, _)| {
            // There was no more. At the end there is nothing to wait for.
            if received > 0 && received < wanted {
                self.watch.drained();
            }
            received
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(room) = self.room.as_ref().filter(|room| !room.is_ready()) {
                room.wait(cx);
                return Poll::Pending;
            }
            match send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.room = None;
                    return Poll::Ready(Ok(sent));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match &self.room {
                    // An event of the other direction.
                    Some(room) => room.drained(),
                    None => self.room = Some(Watch::to_send(&self.fd)),
                },
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Write).map_err(io::Error::from))
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    watch: Watch,
    fd: OwnedFd,
}

impl Listener {
    /// The socket must not block.
    pub fn new(listener: std::net::TcpListener) -> Self {
        let fd = OwnedFd::from(listener);
        let watch = Watch::to_receive(&fd);
        Self { watch, fd }
    }

    /// The next connection, and where it comes from. Dropped before its end, it has accepted none.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (socket, peer) = poll_fn(|cx| {
            self.watch.poll(cx, || acceptfrom_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK))
        })
        .await?;
        let peer = peer.ok_or_else(|| io::Error::other("a connection from nowhere"))?;
        Ok((Stream::new(socket), SocketAddr::try_from(peer)?))
    }
}
