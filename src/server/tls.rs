//! The server's side of TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio_rustls::TlsAcceptor;
use x509_parser::der_parser::num_bigint::BigUint;
use x509_parser::prelude::{ASN1Time, CertificateRevocationList, FromDer, X509Certificate};

use crate::config::Tls;

/// Seconds that an authority's clock may be ahead of ours.
const CLOCKS_DIFFER: i64 = 300;

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
    let authorities = chain(&config.client_ca)?;
    let mut roots = RootCertStore::empty();
    for certificate in &authorities {
        roots.add(certificate.clone()).map_err(|error| wrong(&config.client_ca, &error))?;
    }
    let revoked = revoked(config, &authorities)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(revoked)
        .build()
        .map_err(|error| {
            wrong(&config.client_ca, &format!("{error} (with the revocation lists of `crl`, if there are any)"))
        })?;
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
    let wrong = |reason: String| TlsError { path: path.to_owned(), reason };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| wrong(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong("there is no certificate in it (PEM, BEGIN CERTIFICATE)".to_owned())),
        false => Ok(certificates),
    }
}

/// A revocation list.
struct RevocationList {
    list: CertificateRevocationListDer<'static>,
    /// The name of the authority, as it stands there.
    issuer: Vec<u8>,
    /// Whether its time has come, when it was made, and which it is of the authority's: of two of a second the later.
    since: (bool, i64, Option<BigUint>),
}

/// The newest list of each authority. If there are lists, each that certifies callers must have one: without it nobody of
/// its gets in.
fn revoked(
    config: &Tls,
    authorities: &[CertificateDer<'_>],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut lists: Vec<RevocationList> = Vec::new();
    for path in &config.crl {
        for list in revocations(path, authorities)? {
            match lists.iter_mut().find(|other| other.issuer == list.issuer) {
                // Only one is looked at: the one that came later knows what the other knew.
                Some(other) if list.since > other.since => *other = list,
                Some(_) => {}
                None => lists.push(list),
            }
        }
    }
    let read = |authority| X509Certificate::from_der(authority).ok().map(|(_, certificate)| certificate);
    let known: Vec<X509Certificate<'_>> = authorities.iter().filter_map(|authority| read(authority)).collect();
    for (number, authority) in known.iter().enumerate().filter(|_| !lists.is_empty()) {
        if known[..number].iter().any(|other| other.subject() == authority.subject()) {
            tracing::warn!(
                authority = %authority.subject(),
                "two of `client_ca` have this name: the revocation list of one lets in nobody of the other"
            );
        }
        if !lists.iter().any(|list| list.issuer == authority.subject().as_raw()) {
            tracing::warn!(authority = %authority.subject(), "has no revocation list: nobody whom it certified gets in");
        }
    }
    Ok(lists.into_iter().map(|list| list.list).collect())
}

/// The revocation lists of a file. One without any would let in everybody who was revoked, one that somebody else made in an
/// authority's name would let nobody in.
fn revocations(path: &Path, authorities: &[CertificateDer<'_>]) -> Result<Vec<RevocationList>, TlsError> {
    let wrong = |reason: String| TlsError { path: path.to_owned(), reason };
    let none = || wrong("there is no revocation list in it (PEM, BEGIN X509 CRL)".to_owned());
    let lists = CertificateRevocationListDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    let lists = lists.collect::<Result<Vec<_>, _>>().map_err(|_| none())?;
    if lists.is_empty() {
        return Err(none());
    }
    let mut signed = Vec::new();
    for list in lists {
        let (_, read) = CertificateRevocationList::from_der(&list)
            .map_err(|error| wrong(format!("a revocation list in it cannot be read: {error}")))?;
        let named = authorities.iter().filter_map(|authority| Some(X509Certificate::from_der(authority).ok()?.1));
        let mut named = named.filter(|authority| authority.subject() == read.issuer()).peekable();
        if named.peek().is_none() {
            // Of an authority that one of them has certified: callers show that certificate, and the list is held to it then.
            tracing::warn!(path = %path.display(), issuer = %read.issuer(), "a revocation list of none of `client_ca`");
        } else if !named.any(|authority| read.verify_signature(authority.public_key()).is_ok()) {
            return Err(wrong(format!("a revocation list of {} is not signed by that authority", read.issuer())));
        }
        if read.next_update().is_some_and(|next| next < ASN1Time::now()) {
            tracing::warn!(path = %path.display(), issuer = %read.issuer(), "a newer revocation list should be there by now");
        }
        let made = read.last_update().timestamp();
        let has_come = made <= ASN1Time::now().timestamp() + CLOCKS_DIFFER;
        if !has_come {
            tracing::warn!(path = %path.display(), issuer = %read.issuer(), "a revocation list from the future: any other counts before it");
        }
        let since = (has_come, made, read.crl_number().cloned());
        let issuer = read.issuer().as_raw().to_vec();
        signed.push(RevocationList { list: list.clone(), issuer, since });
    }
    Ok(signed)
}
