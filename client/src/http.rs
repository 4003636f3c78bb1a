//! HTTP/2 over mutual TLS.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{Stream, StreamExt, TryStreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::key_file::key_pem;
use crate::wire::{APPROVAL, Problem};

/// Where a daemon is and who we are to it.
#[derive(Clone)]
pub struct Connection {
    /// `https://host:port`.
    pub url: String,
    /// PEM of the authority that signed the daemon's certificate.
    pub ca: PathBuf,
    /// PEM of our certificate.
    pub certificate: PathBuf,
    /// PEM of its key.
    pub key: PathBuf,
    /// What that is under, if it is under a passphrase.
    pub passphrase: Option<Zeroizing<String>>,
    /// Whoever signs in place of a key in a file.
    pub signer: Option<Arc<dyn SigningKey>>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A certificate or key file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No answer, or TLS refused.
    #[error("{url}: {reason}")]
    Connection {
        /// Where to.
        url: String,
        /// The whole chain of causes.
        reason: String,
    },
    /// The daemon answered with an error.
    #[error("{}", .0.detail)]
    Problem(Box<Problem>),
    /// The daemon answered something else than it should.
    #[error("the daemon's answer cannot be understood: {0}")]
    Answer(String),
}

/// How long a call may take that is no stream. The library has been seen to wait for ever on a connection that the daemon refused.
const PATIENCE: Duration = Duration::from_secs(300);

/// Largest frame of HTTP/2: answers to files come in these.
const FRAME: u32 = 256 << 10;

/// A client of one daemon.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    tls: Arc<rustls::ClientConfig>,
    approval: Option<String>,
}

/// A streamed answer.
pub struct Answer<S> {
    /// The keys that verify, where the daemon names them.
    pub keys: Option<String>,
    /// The job in the audit log.
    pub job: Option<String>,
    /// What comes.
    pub pieces: S,
}

impl Client {
    /// Reads the files and prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::File`].
    pub fn new(connection: &Connection) -> Result<Self, ClientError> {
        let secure = reqwest::Url::parse(&connection.url).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        if !secure {
            let reason = "is not the address of a daemon, as https://host:port".to_owned();
            return Err(ClientError::Connection { url: connection.url.clone(), reason });
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates(&connection.ca)? {
            roots.add(certificate).map_err(|error| unusable(&connection.ca, error))?;
        }
        let chain = certificates(&connection.certificate)?;
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&connection.ca, error))?
            .with_root_certificates(roots);
        let tls = match &connection.signer {
            Some(signer) => {
                let certified = CertifiedKey::new(chain, Arc::clone(signer));
                tls.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => tls
                .with_client_auth_cert(chain, private_key(connection)?)
                .map_err(|error| unusable(&connection.certificate, error))?,
        };
        let tls = Arc::new(tls);
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .http2_prior_knowledge()
            .http2_adaptive_window(true)
            .http2_max_frame_size(FRAME)
            .connect_timeout(Duration::from_secs(10))
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Connection { url: connection.url.clone(), reason: causes(&error) })?;
        Ok(Self { http, url: connection.url.trim_end_matches('/').to_owned(), tls, approval: None })
    }

    /// The same client, asking under a proposal that others have approved.
    #[must_use]
    pub fn approved(self, approval: Option<String>) -> Self {
        Self { approval, ..self }
    }

    /// GET.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, ClientError> {
        self.answer(self.http.get(self.at(path)).query(query)).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.answer(self.http.post(self.at(path)).json(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(self.http.delete(self.at(path))).await
    }

    /// POST of a stream of `content_type`, answered by a stream while it is still going up.
    ///
    /// # Errors
    /// [`ClientError`]; of the last of the stream's items, [`ClientError::Connection`] if the daemon breaks off.
    pub async fn stream<Q, S>(
        &self,
        path: &str,
        query: &Q,
        content_type: &str,
        body: S,
    ) -> Result<Answer<impl Stream<Item = Result<Bytes, ClientError>> + use<Q, S>>, ClientError>
    where
        Q: Serialize,
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let request = self
            .http
            .post(self.at(path))
            .query(query)
            .header("content-type", content_type)
            .body(reqwest::Body::wrap_stream(body));
        let response = self.checked(request).await?;
        let named = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (keys, job) = (named("claviger-keys"), named("claviger-job"));
        let url = self.url.clone();
        let broken = move |error| ClientError::Connection { url: url.clone(), reason: causes(&error) };
        // The library's stream tells an error again and again; ours ends with the first.
        let once = |over: &mut bool, piece: Result<Bytes, ClientError>| {
            let next = (!*over).then_some(piece);
            *over |= matches!(next, Some(Err(_)));
            ready(next)
        };
        Ok(Answer { keys, job, pieces: response.bytes_stream().map_err(broken).scan(false, once) })
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    async fn answer<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let response = self.checked(request.timeout(PATIENCE)).await?;
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        let answer = serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer(error.to_string()));
        // A component may have been in it.
        if let Ok(mut bytes) = bytes.try_into_mut() {
            zeroize::Zeroize::zeroize(bytes.as_mut());
        }
        answer
    }

    async fn checked(&self, mut request: reqwest::RequestBuilder) -> Result<reqwest::Response, ClientError> {
        if let Some(approval) = &self.approval {
            request = request.header(APPROVAL, approval);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.refused(&error).await),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.broken(&error))?;
        match serde_json::from_slice(&bytes) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(ClientError::Answer(format!("status {status} without a problem document"))),
        }
    }

    /// A connection that failed. Under TLS 1.3 the daemon looks at our certificate only after the handshake
    /// has ended for us, so its reason is read from a second connection.
    async fn refused(&self, error: &reqwest::Error) -> ClientError {
        let reason = match self.alert().await {
            // A key of another certificate, as a token may hold one of the same name.
            Some(alert) if alert.ends_with("DecryptError") => {
                format!("the daemon refuses the client certificate, which is not this key's: {alert}")
            }
            Some(alert) => format!("the daemon refuses the client certificate: {alert}"),
            None => causes(error),
        };
        ClientError::Connection { url: self.url.clone(), reason }
    }

    async fn alert(&self) -> Option<String> {
        let url = reqwest::Url::parse(&self.url).ok()?;
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let name = rustls::pki_types::ServerName::try_from(host.clone()).ok()?;
        let patience = Duration::from_secs(5);
        let stream = tokio::time::timeout(patience, TcpStream::connect((host, url.port_or_known_default()?)))
            .await
            .ok()?
            .ok()?;
        let connecting = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        let mut stream = tokio::time::timeout(patience, connecting).await.ok()?.ok()?;
        let read = tokio::time::timeout(patience, stream.read(&mut [0; 1])).await.ok()?;
        read.err().filter(|error| error.kind() == std::io::ErrorKind::InvalidData).map(|error| error.to_string())
    }

    fn broken(&self, error: &reqwest::Error) -> ClientError {
        ClientError::Connection { url: self.url.clone(), reason: causes(error) }
    }
}

/// The key of a connection, from its file.
fn private_key(connection: &Connection) -> Result<PrivateKeyDer<'static>, ClientError> {
    let key = key_pem(&connection.key, connection.passphrase.as_deref().map(String::as_str))?;
    PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| unusable(&connection.key, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, "holds no certificate in PEM")),
        other => other.map_err(|error| unusable(path, error)),
    }
}

fn unusable(path: &Path, reason: impl ToString) -> ClientError {
    ClientError::File { path: path.to_owned(), reason: reason.to_string() }
}

/// An error with all its causes; the last one says what matters, as `certificate expired`.
fn causes(error: &dyn Error) -> String {
    // A daemon that ended says no farewell; the library's words for it are for its own users.
    const NO_FAREWELL: &str = "close_notify";
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    if text.contains(NO_FAREWELL) { "the daemon has gone away".to_owned() } else { text }
}
