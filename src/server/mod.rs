//! TLS 1.3 with client certificates; a peer's certificate becomes a principal.

mod greetings;
mod identity;
mod paced;
mod places;
mod taken;
mod tls;
mod unread;

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::config::{Config, Limits};
use crate::policy::Principal;
use crate::service::Caller;
use greetings::Greetings;
pub use identity::{Principals, PrincipalsError};
use paced::Paced;
use places::Places;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use taken::Answers;
pub use tls::TlsError;
use tls::acceptor;
use unread::Unread;

/// A handshake that takes longer is not a client's.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once: whoever has not shown a certificate yet takes no place from those who have, nor, for longer than others take, from
/// those who are about to.
const HANDSHAKES: usize = 256;

/// Who is let in, and as whom; replaced as a whole when the configuration is read again.
pub struct Door {
    tls: TlsAcceptor,
    verifier: Arc<dyn ClientCertVerifier>,
    principals: Principals,
}

impl Door {
    /// Reads certificates and principals.
    ///
    /// # Errors
    /// [`DoorError`].
    pub fn new(config: &Config) -> Result<Self, DoorError> {
        let (tls, verifier) = acceptor(&config.tls)?;
        Ok(Self { tls, verifier, principals: Principals::new(&config.principals)? })
    }

    /// Who shows a chain of certificates, if they still hold: one may have been revoked, or have ended, since it was
    /// first shown.
    pub fn caller(&self, chain: &[CertificateDer<'static>]) -> Option<Arc<Principal>> {
        let (own, between) = chain.split_first()?;
        self.verifier.verify_client_cert(own, between, UnixTime::now()).ok()?;
        self.principals.of(own)
    }

    /// Everybody who may be let in, by name.
    pub fn principals(&self) -> Vec<Arc<Principal>> {
        self.principals.all()
    }
}

/// A configuration by which nobody could be let in.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each wraps an error that says everything")]
pub enum DoorError {
    #[error(transparent)]
    Principals(#[from] PrincipalsError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The door as it is now.
pub type Doors = tokio::sync::watch::Receiver<Arc<Door>>;

/// Hears of those that are not let in: from where, with which URIs in their certificate, and why.
pub type Turned = Arc<dyn Fn(IpAddr, &str, &str) + Send + Sync>;

/// Serves until `stop`, then lets running requests end for as long as the limits say.
pub async fn serve(
    listener: TcpListener,
    doors: Doors,
    router: axum::Router,
    limits: &Limits,
    turned_away: Turned,
    stop: impl Future<Output = ()>,
) {
    let graceful = GracefulShutdown::new();
    let (greetings, places) = (Arc::new(Greetings::new(HANDSHAKES)), Arc::new(Places::new(limits.connections)));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: waiting helps, spinning does not.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let refused = || metrics::counter!("claviger_connections_refused_total").increment(1);
        let (greeting, makes_room) = greetings.begin();
        let tls = doors.borrow().tls.clone();
        let patience = Duration::from_secs(limits.request_seconds);
        let (doors, router, watcher, places) = (doors.clone(), router.clone(), graceful.watcher(), Arc::clone(&places));
        let turned_away = Arc::clone(&turned_away);
        tokio::spawn(async move {
            let accepted = tokio::select! {
                accepted = handshake(stream, tls) => accepted,
                Ok(()) = makes_room => {
                    refused();
                    Err("others came, and it was the oldest".into())
                }
            };
            drop(greeting);
            match accepted {
                Ok(stream) => {
                    let chain: Chain = stream.get_ref().1.peer_certificates().unwrap_or_default().into();
                    let shown = chain.first().map(identity::uris).unwrap_or_default().join(" ");
                    let Some(_place) = places.take(&shown) else {
                        tracing::warn!(%peer, caller = shown, "no place for another connection");
                        turned_away(peer.ip(), &shown, "connections");
                        return refused();
                    };
                    // Callers that leave without a farewell are no news.
                    if let Err(error) =
                        connection(stream, chain, peer, doors, router, watcher, patience, turned_away).await
                    {
                        tracing::debug!(%peer, %error, "connection broke off");
                    }
                }
                Err(error) => {
                    tracing::info!(%peer, %error, "TLS handshake failed");
                    turned_away(peer.ip(), "", "handshake");
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(Duration::from_secs(limits.drain_seconds), graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and are broken off");
    }
}

/// The certificates that a caller has shown.
type Chain = Arc<[CertificateDer<'static>]>;

/// Whose connection it is, as the door says now: who is no principal any more is none on an old connection either.
#[derive(Clone)]
struct Known {
    chain: Chain,
    doors: Doors,
    peer: SocketAddr,
    turned_away: Turned,
    last: Arc<Mutex<Option<Said>>>,
}

/// What a door said, which, and when.
type Said = (Arc<Door>, Instant, Option<Caller>);

/// How long what a door said of a certificate holds: certificates end.
const HOLDS: Duration = Duration::from_secs(10);

impl Known {
    fn caller(&self) -> Option<Caller> {
        let door = Arc::clone(&self.doors.borrow());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((of, at, caller)) if Arc::ptr_eq(of, &door) && at.elapsed() < HOLDS => caller.clone(),
            _ => {
                let caller = door
                    .caller(&self.chain)
                    .map(|principal| Caller::new(principal, self.peer.ip(), Arc::clone(&self.chain)));
                if caller.is_none() {
                    let shown = self.chain.first().map(identity::uris).unwrap_or_default().join(" ");
                    (self.turned_away)(self.peer.ip(), &shown, "unknown_principal");
                }
                *last = Some((door, Instant::now(), caller.clone()));
                caller
            }
        }
    }
}

/// Largest frame of HTTP/2: files go up in these.
const FRAME: u32 = 256 << 10;

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn handshake(stream: TcpStream, tls: TlsAcceptor) -> Result<TlsStream<TcpStream>, Failure> {
    stream.set_nodelay(true)?;
    Ok(tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??)
}

#[expect(clippy::too_many_arguments, reason = "each its own thing, and one caller")]
async fn connection(
    stream: TlsStream<TcpStream>,
    chain: Chain,
    peer: SocketAddr,
    doors: Doors,
    router: axum::Router,
    watcher: hyper_util::server::graceful::Watcher,
    patience: Duration,
    turned_away: Turned,
) -> Result<(), Failure> {
    let known = Known { chain, turned_away, doors, peer, last: Arc::default() };
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(known.caller());
        let version = request.version();
        request.map(|body| axum::body::Body::new(Unread::new(body, version)))
    });
    let answers = Answers::new(patience);
    let of_answers = Arc::clone(&answers);
    let service = service.map_response(move |response| response.map(|body| of_answers.watched(body)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .max_concurrent_streams(64)
        .max_frame_size(FRAME)
        .adaptive_window(true);
    let stream = TokioIo::new(Paced::new(stream, HANDSHAKE, patience));
    let serving = builder.serve_connection_with_upgrades(stream, TowerToHyperService::new(service));
    tokio::select! {
        served = watcher.watch(serving.into_owned()) => served,
        () = answers.overdue() => Err("an answer was not taken in time".into()),
    }
}
