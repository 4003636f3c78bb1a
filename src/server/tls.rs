//! The server's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::TlsAcceptor;

use crate::config::Tls;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TlsError {
    path: PathBuf,
    reason: String,
}

/// TLS 1.3 only; a client without a certificate of one of our authorities does not get past the handshake.
///
/// # Errors
/// [`TlsError`].
pub(super) fn acceptor(config: &Tls) -> Result<(TlsAcceptor, Arc<dyn ClientCertVerifier>), TlsError> {
    let wrong = |path: &Path, reason: &dyn ToString| TlsError { path: path.to_owned(), reason: reason.to_string() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in chain(&config.client_ca)? {
        roots.add(certificate).map_err(|error| wrong(&config.client_ca, &error))?;
    }
    let mut revoked = Vec::new();
    for path in &config.crl {
        for list in CertificateRevocationListDer::pem_file_iter(path).map_err(|error| wrong(path, &error))? {
            revoked.push(list.map_err(|error| wrong(path, &error))?);
        }
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(revoked)
        .only_check_end_entity_revocation()
        .build()
        .map_err(|error| wrong(&config.client_ca, &error))?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| wrong(&config.key, &error))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong(&config.certificate, &error))?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(chain(&config.certificate)?, key)
        .map_err(|error| wrong(&config.certificate, &error))?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((TlsAcceptor::from(Arc::new(tls)), verifier))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error: rustls::pki_types::pem::Error| TlsError { path: path.to_owned(), reason: error.to_string() };
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}
