//! Connections whose other side does its part: a first request soon after the handshake, and answers taken at some pace.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes that whoever is written to must take in the time it has, while more waits.
const ENOUGH: usize = 32 << 10;

/// A stream that ends when nothing comes at first, or when too little is taken.
pub(super) struct Paced<S> {
    stream: S,
    /// Until the first byte has come.
    first: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    /// Since the stream took no more at once.
    stalled: Option<Stall>,
}

struct Stall {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> Paced<S> {
    /// A stream that must say something within `first`, and take [`ENOUGH`] of what waits within `patience`.
    pub(super) fn new(stream: S, first: Duration, patience: Duration) -> Self {
        Self { stream, first: Some(Box::pin(sleep(first))), patience, stalled: None }
    }

    /// What a write came to, unless the stream has stood still for too long.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                let enough = |stall: &mut Stall| {
                    stall.taken += bytes;
                    stall.taken >= ENOUGH
                };
                if self.stalled.as_mut().is_some_and(enough) {
                    self.stalled = None;
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => {
                ready!(self.stall(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Ready when the other side has had its time.
    fn stall(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience;
        let stall = self.stalled.get_or_insert_with(|| Stall { until: Box::pin(sleep(patience)), taken: 0 });
        stall.until.as_mut().poll(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if let Some(first) = &mut self.first {
            match &read {
                Poll::Ready(_) => self.first = None,
                Poll::Pending => {
                    ready!(first.as_mut().poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, from);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, from);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => {
                ready!(self.stall(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            flushed => {
                self.stalled = None;
                flushed
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => {
                ready!(self.stall(context));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            shut => shut,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_at_first_is_left() {
        let (ours, _theirs) = duplex(64);
        let mut silent = Paced::new(ours, FIRST, PATIENCE);
        assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (ours, mut other) = duplex(64);
        let mut spoken = Paced::new(ours, FIRST, PATIENCE);
        other.write_u8(7).await.unwrap();
        assert_eq!(spoken.read_u8().await.unwrap(), 7);
        // Afterwards it may take its time.
        let waiting = tokio::spawn(async move { spoken.read_u8().await });
        sleep(100 * FIRST).await;
        other.write_u8(8).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_too_little_is_left_and_who_takes_enough_is_not() {
        for (each, pause, stays) in [(1, 1, false), (ENOUGH / 16, 1, true), (0, 1, false)] {
            let (ours, mut theirs) = duplex(1024);
            let mut written = Paced::new(ours, FIRST, PATIENCE);
            let reader = tokio::spawn(async move {
                let mut taken = vec![0; each];
                while theirs.read_exact(&mut taken).await.is_ok() {
                    sleep(Duration::from_secs(pause)).await;
                    if each == 0 {
                        std::future::pending::<()>().await;
                    }
                }
            });
            let sent = written.write_all(&vec![0; 8 * ENOUGH]).await;
            assert_eq!(sent.is_ok(), stays, "{each} bytes at a time: {sent:?}");
            reader.abort();
        }
    }
}
