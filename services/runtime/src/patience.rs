//! A listener whose connections end when their peer takes nothing, or does nothing, for too long.
//!
//! A peer that asks and does not read would otherwise hold its connection, and what is queued for it, for as long as it likes; one that
//! connects and says nothing would hold a place. What always holds: a write that has waited for [`WRITE_PATIENCE`] without a byte being
//! taken fails; so does a read when for [`IDLE_PATIENCE`] no byte went either way. Streams send something more often than that.

use axum::serve::Listener;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};

/// How long a peer may take nothing: much longer than a lost packet is repeated, much shorter than people notice memory.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(20);

/// How long a connection may lie idle: longer than browsers pause between requests, and than streams are silent.
pub const IDLE_PATIENCE: Duration = Duration::from_secs(75);

/// Accepts [`PatientStream`]s.
pub struct PatientListener {
    listener: TcpListener,
    patience: Duration,
    idle: Duration,
}

impl PatientListener {
    /// Over a listener; `patience` as in [`WRITE_PATIENCE`], `idle` as in [`IDLE_PATIENCE`].
    pub fn new(listener: TcpListener, patience: Duration, idle: Duration) -> Self {
        PatientListener { listener, patience, idle }
    }
}

impl Listener for PatientListener {
    type Io = PatientStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (PatientStream, SocketAddr) {
        // The trait's own implementation goes on after errors such as too many open files.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // Events are small and urgent; without it they wait for the acknowledgement of those before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let stream = PatientStream {
            stream,
            patience: self.patience,
            waiting: None,
            idle: self.idle,
            quiet: None,
        };
        (stream, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with limited patience for a peer that takes nothing.
pub struct PatientStream {
    stream: TcpStream,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    idle: Duration,
    /// Runs while a read waits; begins again with every byte.
    quiet: Option<Pin<Box<Sleep>>>,
}

impl PatientStream {
    /// Passes on what a write came to, unless it has waited too long.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            if let Some(quiet) = &mut self.quiet {
                quiet.as_mut().reset(Instant::now() + self.idle);
            }
            return written;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl AsyncRead for PatientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.quiet = None;
            return read;
        }
        let idle = self.idle;
        let quiet = self.quiet.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(quiet.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does nothing")))
    }
}

impl AsyncWrite for PatientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.judge(cx, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LONG: Duration = Duration::from_secs(600);

    async fn pair(patience: Duration, idle: Duration) -> (PatientStream, TcpStream) {
        let mut listener = PatientListener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), patience, idle);
        let address = listener.local_addr().unwrap();
        let (accepted, peer) = tokio::join!(listener.accept(), TcpStream::connect(address));
        (accepted.0, peer.unwrap())
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (mut stream, peer) = pair(Duration::from_millis(200), LONG).await;
        let chunk = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = stream.write_all(&chunk).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(peer);
    }

    #[tokio::test]
    async fn one_that_reads_is_not() {
        let (mut stream, mut peer) = pair(LONG, LONG).await;
        let sent = vec![7; 8 << 20];
        let reader = tokio::spawn(async move {
            let mut got = vec![0; 8 << 20];
            peer.read_exact(&mut got).await.unwrap();
            got
        });
        stream.write_all(&sent).await.unwrap();
        assert!(reader.await.unwrap() == sent);
    }

    #[tokio::test]
    async fn one_that_says_nothing_is_given_up_unless_something_is_sent_to_it() {
        let (mut stream, mut peer) = pair(LONG, Duration::from_secs(2)).await;
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (stream, mut other) = pair(LONG, Duration::from_secs(2)).await;
        let (mut reading, mut writing) = tokio::io::split(stream);
        let waits = tokio::spawn(async move { reading.read_u8().await });
        for _ in 0..12 {
            writing.write_all(b".").await.unwrap();
            assert_eq!(other.read_u8().await.unwrap(), b'.');
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        assert!(!waits.is_finished());
        other.write_all(b"!").await.unwrap();
        assert_eq!(waits.await.unwrap().unwrap(), b'!');
        peer.shutdown().await.unwrap();
    }
}
