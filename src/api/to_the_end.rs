//! Work that nobody breaks off by going away.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;

/// A future that goes on in a task of its own if it is dropped before its end, and of which a panic is a result. As long as it
/// is waited for it costs no task.
pub(super) struct ToTheEnd<T: Send + 'static>(Option<Pin<Box<Caught<T>>>>);

type Caught<T> = dyn Future<Output = Result<T, Panic>> + Send;

/// What was thrown.
type Panic = Box<dyn Any + Send>;

impl<T: Send + 'static> ToTheEnd<T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(AssertUnwindSafe(future).catch_unwind())))
    }
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = Result<T, Panic>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Nobody asks again whom it was answered.
        let Some(future) = &mut self.0 else { return Poll::Pending };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let (Some(future), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(future);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_ends_though_nobody_waits() {
        let ((go, gone), (tell, told)) = (oneshot::channel(), oneshot::channel());
        let work = ToTheEnd::new(async move {
            gone.await.unwrap();
            tell.send(7).unwrap();
        });
        assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err(), "it waits");
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_panic_is_a_result() {
        let panicked = ToTheEnd::new(async { panic!("on purpose") }).await;
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert_eq!(ToTheEnd::new(async { 7 }).await.ok(), Some(7));
    }
}
