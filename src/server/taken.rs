//! Answers that their caller takes. Over HTTP/2 one who opens no window for them, and answers every ping, would hold them
//! for ever; over HTTP/1.1 the connection itself stands still then.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::time::Instant;

/// Bytes that are handed on at once: the next ones go when these have been taken.
const PIECE: usize = 32 << 10;

/// The answers of a connection.
pub(super) struct Answers {
    patience: Duration,
    next: AtomicU64,
    /// Those of which a piece waits for the caller, and since when.
    waiting: Mutex<Vec<(u64, Instant)>>,
}

impl Answers {
    /// A caller has so long for each piece.
    pub(super) fn new(patience: Duration) -> Arc<Self> {
        Arc::new(Self { patience, next: AtomicU64::new(0), waiting: Mutex::default() })
    }

    /// One more.
    pub(super) fn watched(self: &Arc<Self>, body: Body) -> Body {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.waits(number);
        Body::new(Watched { body, rest: Bytes::new(), number, answers: Arc::clone(self) })
    }

    /// Ready when a piece has waited for too long.
    pub(super) async fn overdue(&self) {
        loop {
            tokio::time::sleep(self.patience / 8).await;
            if self.lock().iter().any(|(_, since)| since.elapsed() > self.patience) {
                return;
            }
        }
    }

    fn waits(&self, number: u64) {
        self.lock().push((number, Instant::now()));
    }

    fn is_taken(&self, number: u64) {
        self.lock().retain(|(other, _)| *other != number);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an answer.
struct Watched {
    body: Body,
    /// What is left of a piece that was too large.
    rest: Bytes,
    number: u64,
    answers: Arc<Answers>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    /// Asked for more when what was given before has gone its way.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.answers.is_taken(self.number);
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let size = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(size);
        self.answers.waits(self.number);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, inner) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.answers.is_taken(self.number);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    async fn in_time(answers: &Answers) -> bool {
        tokio::time::timeout(4 * PATIENCE, answers.overdue()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_whole_and_waits_for_nobody_for_ever() {
        let text: Vec<u8> = (0..3 * PIECE + 7).map(|at| (at % 251) as u8).collect();
        let answers = Answers::new(PATIENCE);
        let whole = answers.watched(Body::from(text.clone())).collect().await.unwrap().to_bytes();
        assert!(whole == text);
        assert!(in_time(&answers).await, "it was taken");

        let body = answers.watched(Body::from(text.clone()));
        assert!(!in_time(&answers).await, "nobody asks for it");
        drop(body);
        let mut body = answers.watched(Body::from(text));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE);
        assert!(!in_time(&answers).await, "nobody asks for the rest");
        drop(body);

        // One that is not there yet waits for us, and not for its caller.
        let mut slow =
            answers.watched(Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>()));
        assert!(tokio::time::timeout(PATIENCE, slow.frame()).await.is_err());
        assert!(in_time(&answers).await);
    }
}
