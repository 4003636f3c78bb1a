//! A person's private key in a token: it signs, and stays where it is.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cryptoki_sys as ck;
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

use crate::library::{Failed, Library, Template, TokenInfo, Unusable};
use crate::mechanisms::Mechanism;

/// DER of secp256r1's object identifier, 1.2.840.10045.3.1.7, as `CKA_EC_PARAMS` has it.
pub(crate) const P256: &[u8] = &[0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
/// Of secp384r1's, 1.3.132.0.34.
const P384: &[u8] = &[0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22];
/// Bytes of an RSA modulus at least.
const RSA_BYTES: usize = 256;

/// What a key signs by, and the hash that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA over SHA-256.
    P256,
    /// ECDSA over SHA-384.
    P384,
    /// Ed25519 over the message itself.
    Ed25519,
    /// RSA-PSS over SHA-256, with a salt of 32 bytes.
    RsaPss,
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPlace {
    /// The vendor's library.
    pub module: PathBuf,
    /// What the module wants to be initialised with (NSS its directory).
    pub init: Option<String>,
    /// The token's label.
    pub token: String,
    /// `CKA_LABEL`; this or the id must be there.
    pub label: Option<String>,
    /// `CKA_ID`.
    pub id: Option<Vec<u8>>,
}

/// Whoever a token belongs to.
pub trait Holder: Send + Sync {
    /// The PIN; asked for once, or for each signature if the key wants that.
    ///
    /// # Errors
    ///
    /// Why there is none, in words.
    fn pin(&self, token: &str) -> Result<Zeroizing<Vec<u8>>, String>;

    /// Told when a token waits for the PIN at a keypad of its own.
    fn keypad(&self, token: &str);
}

/// Why there is no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// The library cannot be loaded, or is none.
    #[error("{module}: {reason}")]
    Module {
        /// Its path.
        module: String,
        /// Why.
        reason: String,
    },
    /// No token has that label.
    #[error("{module} has no token `{token}`; it shows {there}")]
    NoToken {
        /// The module's path.
        module: String,
        /// The label.
        token: String,
        /// The tokens that are there.
        there: String,
    },
    /// Nobody gave a PIN.
    #[error("{0}")]
    NoPin(String),
    /// The token refuses it.
    #[error("token {token} refuses the PIN: {reason}")]
    Pin {
        /// The token's label.
        token: String,
        /// What it returned.
        reason: String,
    },
    /// Nothing there has this name and signs.
    #[error("token {0} has no such private key that signs")]
    NoKey(String),
    /// More than one has.
    #[error("token {0} has several private keys of that name: say which by id")]
    SeveralKeys(String),
    /// It signs by something else.
    #[error("the token's key is none of ECDSA P-256, ECDSA P-384, Ed25519 and RSA of 2048 bits or more")]
    Algorithm,
    /// The token failed.
    #[error("{function}: {reason}")]
    Token {
        /// The standard's name of the function.
        function: &'static str,
        /// What it returned.
        reason: String,
    },
}

impl From<Failed> for PrivateKeyError {
    fn from(failed: Failed) -> Self {
        Self::Token { function: failed.function, reason: failed.rv.to_string() }
    }
}

/// Used by one thread at a time.
struct Session {
    handle: ck::CK_SESSION_HANDLE,
    /// How the token refused a PIN: callers who connect again ask again, and a token locks itself after a few.
    refused: Option<PrivateKeyError>,
}

/// A private key, in a session of its own.
pub struct PrivateKey {
    library: Arc<Library>,
    session: Mutex<Session>,
    object: ck::CK_OBJECT_HANDLE,
    algorithm: SigningAlgorithm,
    token: TokenInfo,
    /// Whether each signature takes the PIN.
    always_authenticate: bool,
    holder: Box<dyn Holder>,
}

impl PrivateKey {
    /// Opens the token and finds the key.
    ///
    /// # Errors
    ///
    /// What is not there, or does not open.
    pub fn open(place: &KeyPlace, holder: Box<dyn Holder>) -> Result<Self, PrivateKeyError> {
        let module = place.module.display().to_string();
        let unusable = |error: Unusable| {
            let hint = match (&error, &place.init) {
                (Unusable::Initialize(_), None) => "; does it want its parameters (NSS its directory)?",
                _ => "",
            };
            PrivateKeyError::Module { module: module.clone(), reason: format!("{error}{hint}") }
        };
        let library = Library::at(&place.module, place.init.as_deref()).map_err(unusable)?;
        let token = find_token(&library, &module, &place.token)?;
        let session = library.open_to_read(token.slot)?;
        library.login(session, pin(&token, &*holder)?.as_deref().map(Vec::as_slice)).map_err(refused(&token))?;
        let (object, algorithm) = find_key(&library, session, place)?;
        let always_authenticate = library
            .attribute(session, object, ck::CKA_ALWAYS_AUTHENTICATE)?
            .is_some_and(|value| value.iter().any(|byte| *byte != 0));
        Ok(Self {
            library,
            session: Mutex::new(Session { handle: session, refused: None }),
            object,
            algorithm,
            token,
            always_authenticate,
            holder,
        })
    }

    /// What the key signs by.
    #[must_use]
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// A signature as PKCS#11 has it: `r` and `s` of one length one after the other for ECDSA, else as its standard has it.
    ///
    /// # Errors
    ///
    /// A PIN that is not given or refused, or a token that fails.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        // The token is given the hash: fewer of them hash by themselves.
        let (mechanism, given) = match self.algorithm {
            SigningAlgorithm::P256 => (Mechanism::Plain(ck::CKM_ECDSA), Sha256::digest(message).to_vec()),
            SigningAlgorithm::P384 => (Mechanism::Plain(ck::CKM_ECDSA), Sha384::digest(message).to_vec()),
            SigningAlgorithm::Ed25519 => (Mechanism::Plain(ck::CKM_EDDSA), message.to_vec()),
            SigningAlgorithm::RsaPss => (Mechanism::Pss, Sha256::digest(message).to_vec()),
        };
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.always_authenticate {
            return Ok(self.library.sign(session.handle, mechanism, self.object, &given)?);
        }
        if let Some(refused) = &session.refused {
            return Err(refused.clone());
        }
        let pin = pin(&self.token, &*self.holder)?;
        let pin = pin.as_deref().map(Vec::as_slice);
        let signed =
            self.library.sign_by_pin(session.handle, mechanism, self.object, &given, pin).map_err(refused(&self.token));
        session.refused = signed.as_ref().err().filter(|error| matches!(error, PrivateKeyError::Pin { .. })).cloned();
        signed
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.library.close_session(self.session.get_mut().unwrap_or_else(PoisonError::into_inner).handle);
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key in a token")
    }
}

fn find_token(library: &Library, module: &str, label: &str) -> Result<TokenInfo, PrivateKeyError> {
    let tokens = library.tokens()?;
    let there: Vec<String> = tokens.iter().map(TokenInfo::shown).collect();
    tokens.into_iter().find(|token| token.label == label).ok_or_else(|| PrivateKeyError::NoToken {
        module: module.to_owned(),
        token: label.to_owned(),
        there: if there.is_empty() { "none".to_owned() } else { there.join(", ") },
    })
}

/// The PIN; none for a token that takes it at its own keypad.
fn pin(token: &TokenInfo, holder: &dyn Holder) -> Result<Option<Zeroizing<Vec<u8>>>, PrivateKeyError> {
    if token.keypad {
        holder.keypad(&token.label);
        return Ok(None);
    }
    holder.pin(&token.label).map(Some).map_err(PrivateKeyError::NoPin)
}

/// What a failure of a call with a PIN means.
fn refused(token: &TokenInfo) -> impl Fn(Failed) -> PrivateKeyError {
    |failed| match failed {
        Failed { rv, .. } if rv.is_refused_pin() => {
            PrivateKeyError::Pin { token: token.label.clone(), reason: rv.to_string() }
        }
        other => other.into(),
    }
}

fn find_key(
    library: &Library,
    session: ck::CK_SESSION_HANDLE,
    place: &KeyPlace,
) -> Result<(ck::CK_OBJECT_HANDLE, SigningAlgorithm), PrivateKeyError> {
    let mut wanted = Template::default().number(ck::CKA_CLASS, ck::CKO_PRIVATE_KEY).flag(ck::CKA_SIGN, true);
    if let Some(label) = &place.label {
        wanted = wanted.bytes(ck::CKA_LABEL, label.as_bytes());
    }
    if let Some(id) = &place.id {
        wanted = wanted.bytes(ck::CKA_ID, id);
    }
    let object = match library.find(session, wanted)?[..] {
        [object] => object,
        [] => return Err(PrivateKeyError::NoKey(place.token.clone())),
        _ => return Err(PrivateKeyError::SeveralKeys(place.token.clone())),
    };
    let number = |bytes: Zeroizing<Vec<u8>>| bytes[..].try_into().map(ck::CK_ULONG::from_ne_bytes).ok();
    let kind = library.attribute(session, object, ck::CKA_KEY_TYPE)?.and_then(number);
    let algorithm = match kind {
        Some(ck::CKK_EC) => {
            match library.attribute(session, object, ck::CKA_EC_PARAMS)?.as_deref().map(Vec::as_slice) {
                Some(P256) => Some(SigningAlgorithm::P256),
                Some(P384) => Some(SigningAlgorithm::P384),
                _ => None,
            }
        }
        Some(ck::CKK_EC_EDWARDS) => Some(SigningAlgorithm::Ed25519),
        Some(ck::CKK_RSA) => library
            .attribute(session, object, ck::CKA_MODULUS)?
            .filter(|modulus| modulus.len() >= RSA_BYTES)
            .map(|_| SigningAlgorithm::RsaPss),
        _ => None,
    };
    Ok((object, algorithm.ok_or(PrivateKeyError::Algorithm)?))
}
