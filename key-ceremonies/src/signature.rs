//! What a person signs with: the key of their certificate, wherever they are.

use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
    ED25519, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};
use zeroize::Zeroizing;

/// A signature that cannot be made, or does not hold.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// Not a key that is signed with here.
    #[error("the key is none of ECDSA P-256, ECDSA P-384, Ed25519 and RSA of 2048 bits or more")]
    Key,
    /// Not in the form that keys have here.
    #[error(
        "the key does not stand in PKCS#8 (PEM, BEGIN PRIVATE KEY): `openssl pkcs8 -topk8 -scrypt -in KEY -out NEW` makes it so"
    )]
    Form,
    /// The certificate is another key's.
    #[error("the key is not that of the certificate")]
    OtherKey,
    /// Nothing that could be a certificate.
    #[error("`certificate` holds no X.509 certificate in PEM")]
    Certificate,
    /// Not hexadecimal, or not by the key of that certificate over that text.
    #[error("`signature` does not hold for this text and this certificate")]
    Wrong,
    /// No randomness.
    #[error("the signature could not be made")]
    Failed,
    /// A key that is not here did not sign.
    #[error("{0}")]
    Elsewhere(String),
}

/// A signature and who made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The signer's certificate and those between it and its authority, PEM.
    pub certificate: String,
    /// Upper-case hexadecimal: ECDSA in ASN.1 with the hash of the curve's strength, Ed25519, or RSA-PSS (RFC 8017, 8.1) with
    /// SHA-256 and a salt of its length.
    pub signature: String,
}

enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
    Elsewhere(Box<SignElsewhere>),
}

/// Signs a text as [`Signed`] says, or says why not.
type SignElsewhere = dyn Fn(&[u8]) -> Result<Vec<u8>, String> + Send + Sync;

/// A person's certificate and its key.
pub struct PersonalKey {
    certificate: String,
    pair: Pair,
}

impl PersonalKey {
    /// Reads both from PEM files, the key as PKCS#8.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, SignatureError> {
        let read = |path: &Path| {
            let failed = |error: std::io::Error| SignatureError::File {
                path: path.display().to_string(),
                reason: error.to_string(),
            };
            std::fs::read_to_string(path).map_err(failed)
        };
        Self::from_pem(read(certificate)?, &Zeroizing::new(read(key)?))
    }

    /// The same from their texts.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn from_pem(certificate: String, key: &str) -> Result<Self, SignatureError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| SignatureError::Form)?;
        let key = key.secret_pkcs8_der();
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, key, &SystemRandom::new()).ok().map(Pair::Ecdsa)
        };
        let pair = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .or_else(|| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING))
            .or_else(|| Ed25519KeyPair::from_pkcs8_maybe_unchecked(key).ok().map(Pair::Ed25519))
            .or_else(|| RsaKeyPair::from_pkcs8(key).ok().map(Pair::Rsa))
            .ok_or(SignatureError::Key)?;
        Self { certificate, pair }.proved()
    }

    /// A key that is not here, as one in a token.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn elsewhere(certificate: String, sign: Box<SignElsewhere>) -> Result<Self, SignatureError> {
        Self { certificate, pair: Pair::Elsewhere(sign) }.proved()
    }

    fn proved(self) -> Result<Self, SignatureError> {
        // Whatever it signs must hold for the certificate that stands beside it.
        self.sign(b"")?.verify(b"").map_err(|error| match error {
            SignatureError::Wrong => SignatureError::OtherKey,
            other => other,
        })?;
        Ok(self)
    }

    /// The certificate and those between it and its authority, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a text.
    ///
    /// # Errors
    /// [`SignatureError::Failed`].
    pub fn sign(&self, text: &[u8]) -> Result<Signed, SignatureError> {
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, text).map_err(|_| SignatureError::Failed)?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(text).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PSS_SHA256, &random, text, &mut signature);
                signed.map_err(|_| SignatureError::Failed)?;
                signature
            }
            Pair::Elsewhere(sign) => sign(text).map_err(SignatureError::Elsewhere)?,
        };
        Ok(Signed { certificate: self.certificate.clone(), signature: hex::encode_upper(signature) })
    }
}

impl Signed {
    /// The signer's certificate and those between it and its authority, DER.
    ///
    /// # Errors
    /// [`SignatureError::Certificate`].
    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, SignatureError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        chain.ok().filter(|chain| !chain.is_empty()).ok_or(SignatureError::Certificate)
    }

    /// SHA-256 of the signer's certificate, hexadecimal; none if there is none.
    pub fn fingerprint(&self) -> Option<String> {
        self.chain().ok()?.first().map(|der| hex::encode(Sha256::digest(der)))
    }

    /// Whether the certificate's key made it over this text. Whose the certificate is, and whether it holds, is not asked.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, text: &[u8]) -> Result<(), SignatureError> {
        let chain = self.chain()?;
        let certificate = chain.first().and_then(|der| X509Certificate::from_der(der).ok());
        let (_, certificate) = certificate.ok_or(SignatureError::Certificate)?;
        let key = certificate.public_key();
        let signature = hex::decode(&self.signature).map_err(|_| SignatureError::Wrong)?;
        let by = algorithm_of(key).ok_or(SignatureError::Key)?;
        let public = UnparsedPublicKey::new(by, &key.subject_public_key.data);
        public.verify(text, &signature).map_err(|_| SignatureError::Wrong)
    }
}

/// How a key of that kind signs, if it is one that is signed with here.
fn algorithm_of(key: &SubjectPublicKeyInfo<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    let kind = &key.algorithm;
    let curve = kind.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    if kind.algorithm == OID_SIG_ED25519 {
        Some(&ED25519)
    } else if kind.algorithm == OID_PKCS1_RSAENCRYPTION {
        Some(&RSA_PSS_2048_8192_SHA256)
    } else if kind.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
        None
    } else if curve == Some(OID_EC_P256) {
        Some(&ECDSA_P256_SHA256_ASN1)
    } else if curve == Some(OID_NIST_EC_P384) {
        Some(&ECDSA_P384_SHA384_ASN1)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

    use super::*;

    fn person(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn what_is_signed_holds_for_that_text_and_no_other() {
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let (certificate, key) = person(algorithm);
            let signed = PersonalKey::from_pem(certificate, &key).unwrap().sign("销毁".as_bytes()).unwrap();
            signed.verify("销毁".as_bytes()).unwrap();
            assert!(matches!(signed.verify(b"other"), Err(SignatureError::Wrong)));
            let (other, _) = person(algorithm);
            let of_another = Signed { certificate: other, ..signed.clone() };
            assert!(matches!(of_another.verify("销毁".as_bytes()), Err(SignatureError::Wrong)));
            for signature in ["", "0", "zz", &signed.signature[2..]] {
                let changed = Signed { signature: signature.to_owned(), ..signed.clone() };
                assert!(matches!(changed.verify("销毁".as_bytes()), Err(SignatureError::Wrong)));
            }
        }
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let (certificate, key) = person(&PKCS_ED25519);
        let (other, _) = person(&PKCS_ED25519);
        let traditional = key.replace(" PRIVATE KEY", " EC PRIVATE KEY");
        assert!(matches!(PersonalKey::from_pem(other.clone(), &traditional), Err(SignatureError::Form)));
        assert!(matches!(PersonalKey::from_pem(other, &key), Err(SignatureError::OtherKey)));
        assert!(matches!(PersonalKey::from_pem(String::new(), &key), Err(SignatureError::Certificate)));
        assert!(matches!(PersonalKey::from_pem(certificate.clone(), "nothing"), Err(SignatureError::Form)));
        let unknown = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(matches!(PersonalKey::from_pem(certificate, unknown), Err(SignatureError::Key)));
        let missing = PersonalKey::load(Path::new("/nowhere.pem"), Path::new("/nowhere.key")).err().unwrap();
        assert!(missing.to_string().starts_with("/nowhere.pem: "), "{missing}");
    }
}
