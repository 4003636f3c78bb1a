//! From a certificate to a principal.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::PrincipalConfig;
use crate::policy::{Principal, PrincipalError};

/// The principals that the configuration knows, by certificate URI.
pub struct Principals(HashMap<String, Arc<Principal>>);

/// `[[principal]]` tables that contradict each other or name nobody.
#[derive(Debug, thiserror::Error)]
pub enum PrincipalsError {
    /// Not a URI of ours.
    #[error(transparent)]
    Uri(#[from] PrincipalError),
    /// Twice the same.
    #[error("principal `{0}` stands twice in the configuration")]
    Twice(String),
}

impl Principals {
    /// Reads the tables.
    ///
    /// # Errors
    /// [`PrincipalsError`].
    pub fn new(configs: &[PrincipalConfig]) -> Result<Self, PrincipalsError> {
        let mut principals = HashMap::new();
        for config in configs {
            let principal = Principal::from_uri(&config.uri, config.roles.clone(), config.tenants.clone())?;
            if principals.insert(config.uri.clone(), Arc::new(principal)).is_some() {
                return Err(PrincipalsError::Twice(config.uri.clone()));
            }
        }
        Ok(Self(principals))
    }

    /// Everybody, by name.
    pub(super) fn all(&self) -> Vec<Arc<Principal>> {
        let mut all: Vec<Arc<Principal>> = self.0.values().cloned().collect();
        all.sort_by_cached_key(ToString::to_string);
        all
    }

    /// The principal of a certificate that TLS has verified. It must name exactly one URI of ours: what is
    /// ambiguous is nobody.
    pub(super) fn of(&self, certificate: &CertificateDer<'_>) -> Option<Arc<Principal>> {
        let uris = uris(certificate);
        // A scheme is the same in capitals (RFC 3986, section 3.1): such a name is ours, and no principal's.
        let ours = |uri: &&String| uri.get(..9).is_some_and(|scheme| scheme.eq_ignore_ascii_case("claviger:"));
        let mut uris = uris.iter().filter(ours);
        match (uris.next(), uris.next()) {
            (Some(uri), None) => self.0.get(uri.as_str()).cloned(),
            _ => None,
        }
    }
}

/// The URIs of a certificate, as they stand in it.
pub(super) fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    });
    uris.collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_of_two_names_is_nobodys() {
        let known = PrincipalConfig {
            uri: "claviger://service/one".to_owned(),
            roles: Vec::new(),
            tenants: Vec::new(),
            calls_per_second: None,
            calls_at_once: None,
        };
        let principals = Principals::new(&[known]).unwrap();
        let named = |uris: &[&str]| {
            let mut params = CertificateParams::default();
            params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            principals.of(certificate.der()).map(|principal| principal.to_string())
        };
        let one = Some("claviger://service/one".to_owned());
        assert_eq!(named(&["claviger://service/one"]), one);
        assert_eq!(named(&["https://example.org/one", "claviger://service/one"]), one);
        for uris in [
            &["claviger://service/two"][..],
            &["claviger://service/one", "claviger://service/two"],
            &["claviger://service/one", "claviger://service/one"],
            &["CLAVIGER://service/two", "claviger://service/one"],
            &["Claviger://service/one"],
            &["claviger:service/two", "claviger://service/one"],
            &[],
        ] {
            assert_eq!(named(uris), None, "{uris:?}");
        }
    }
}
