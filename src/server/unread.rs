//! Request bodies that nobody reads to their end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Version;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How long a body that was given up stays open.
const LINGER: Duration = Duration::from_secs(5);
/// Bytes of it that are taken and thrown away over HTTP/1.
const TAKEN: usize = 1 << 20;

/// A body that, given up before its end, stays open for a while: if its stream were reset at once, or its connection
/// closed, a caller that is still sending might see that before the answer that says what was wrong.
pub(super) struct Unread {
    body: Option<Incoming>,
    version: Version,
}

impl Unread {
    /// The body of a request of such a version.
    pub(super) fn new(body: Incoming, version: Version) -> Self {
        Self { body: Some(body), version }
    }
}

/// Takes what comes of a body until it ends, or enough has come: over HTTP/1 nothing else lets the caller read on.
async fn take(mut body: Incoming) {
    let mut taken = 0;
    while let Some(Ok(frame)) = body.frame().await
        && taken < TAKEN
    {
        taken += frame.data_ref().map_or(0, Bytes::len);
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !body.is_end_stream());
        let (Some(body), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) else { return };
        if self.version == Version::HTTP_2 {
            // What flow control lets in stays where it is, and the rest stays with the caller.
            runtime.spawn(async move {
                tokio::time::sleep(LINGER).await;
                drop(body);
            });
        } else {
            runtime.spawn(tokio::time::timeout(LINGER, take(body)));
        }
    }
}
