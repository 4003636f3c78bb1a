//! A person's key in a PKCS#11 token, named by a URI (RFC 7512): it calls and signs, and stays where it is.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use der::Encode;
use der::asn1::{ObjectIdentifier, UintRef};
use percent_encoding::percent_decode_str;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use sha2::{Digest, Sha256, Sha384};
use zeroize::Zeroizing;

use super::connection::nobody_else_reads;

/// What such a URI begins with.
const SCHEME: &str = "pkcs11:";
/// Curves of SEC 2.
const SECP_256_R_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP_384_R_1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// Bytes of an RSA key at least.
const RSA_BYTES: usize = 256;
/// Bytes of SHA-256, and of the salt of RSA-PSS.
const SHA256_BYTES: u64 = 32;

/// Where a key is, as its URI says.
struct Place {
    module: String,
    token: String,
    object: Option<String>,
    id: Option<Vec<u8>>,
    pin: Option<String>,
}

/// A key in a token that is open.
pub(super) struct TokenKey {
    session: Mutex<Session>,
    key: ObjectHandle,
    kind: Kind,
}

/// What a key signs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
}

impl Kind {
    /// As the token says; what it does not say is none of these.
    fn of(session: &Session, key: ObjectHandle) -> anyhow::Result<Self> {
        let asked = [AttributeType::KeyType, AttributeType::EcParams, AttributeType::Modulus];
        let (mut kind, mut curve, mut modulus) = (None, Vec::new(), 0);
        for attribute in session.get_attributes(key, &asked)? {
            match attribute {
                Attribute::KeyType(found) => kind = Some(found),
                Attribute::EcParams(found) => curve = found,
                Attribute::Modulus(found) => modulus = found.len(),
                _ => {}
            }
        }
        match kind {
            Some(KeyType::EC) if curve == SECP_256_R_1.to_der()? => Ok(Self::P256),
            Some(KeyType::EC) if curve == SECP_384_R_1.to_der()? => Ok(Self::P384),
            Some(KeyType::EC_EDWARDS) => Ok(Self::Ed25519),
            Some(KeyType::RSA) if modulus >= RSA_BYTES => Ok(Self::Rsa),
            _ => bail!("the token's key is none of ECDSA P-256, ECDSA P-384, Ed25519 and RSA of 2048 bits or more"),
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Ed25519 => SignatureScheme::ED25519,
            Self::Rsa => SignatureScheme::RSA_PSS_SHA256,
        }
    }
}

/// Whether a key is named by the URI of a token.
pub(super) fn is_in_token(key: &Path) -> bool {
    key.to_str().is_some_and(|text| text.starts_with(SCHEME))
}

impl Place {
    fn parse(uri: &str) -> anyhow::Result<Self> {
        let mut place = Self { module: String::new(), token: String::new(), object: None, id: None, pin: None };
        let (path, query) = uri.trim_start_matches(SCHEME).split_once('?').unwrap_or((uri, ""));
        let path = path.trim_start_matches(SCHEME).split(';');
        for pair in path.chain(query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').with_context(|| format!("`{pair}` of {SCHEME} has no value"))?;
            let bytes: Vec<u8> = percent_decode_str(value).collect();
            let text = || String::from_utf8(bytes.clone()).with_context(|| format!("`{name}` of {SCHEME} is no UTF-8"));
            match name {
                "module-path" => place.module = text()?,
                "token" => place.token = text()?,
                "object" => place.object = Some(text()?),
                "id" => place.id = Some(bytes),
                "pin-source" => place.pin = Some(text()?.trim_start_matches("file:").to_owned()),
                "pin-value" => bail!("a PIN does not stand in a command: name a file by pin-source, or type it"),
                "type" if value == "private" => {}
                other => bail!("`{other}` of {SCHEME} says nothing here: module-path, token, object, id, pin-source"),
            }
        }
        if place.module.is_empty() || place.token.is_empty() || (place.object.is_none() && place.id.is_none()) {
            bail!("{SCHEME} needs token, object or id, and ?module-path=, the vendor's library");
        }
        Ok(place)
    }
}

impl TokenKey {
    /// Opens a token, by the PIN in the file that its URI names, or as somebody types it.
    pub(super) fn open(uri: &str) -> anyhow::Result<Self> {
        let place = Place::parse(uri)?;
        let library = Pkcs11::new(&place.module).with_context(|| place.module.clone())?;
        library
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .with_context(|| place.module.clone())?;
        let is_it = |slot: &cryptoki::slot::Slot| {
            library.get_token_info(*slot).is_ok_and(|info| info.label().trim_end() == place.token)
        };
        let slot = library.get_slots_with_token()?.into_iter().find(is_it);
        let slot = slot.with_context(|| format!("{} has no token `{}`", place.module, place.token))?;
        let session = library.open_ro_session(slot).with_context(|| place.token.clone())?;
        let pin = match &place.pin {
            Some(path) => {
                nobody_else_reads(Path::new(path))?;
                Zeroizing::new(std::fs::read_to_string(path).with_context(|| path.clone())?)
            }
            None => Zeroizing::new(
                rpassword::prompt_password(format!("PIN of token {}: ", place.token))
                    .context("there must be a terminal to type the PIN at, or pin-source in the key's URI")?,
            ),
        };
        let pin = AuthPin::new(pin.trim_end().to_owned().into());
        session.login(UserType::User, Some(&pin)).with_context(|| format!("token {} refuses the PIN", place.token))?;
        let mut wanted = vec![Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Sign(true)];
        wanted.extend(place.object.map(|label| Attribute::Label(label.into_bytes())));
        wanted.extend(place.id.map(Attribute::Id));
        let key = match session.find_objects(&wanted)?[..] {
            [key] => key,
            [] => bail!("token {} has no such private key that signs", place.token),
            _ => bail!("token {} has several private keys of that name: say which by id", place.token),
        };
        let kind = Kind::of(&session, key)?;
        Ok(Self { session: Mutex::new(session), key, kind })
    }

    /// A signature over a message, as TLS 1.3 has it (RFC 8446, 4.2.3): ECDSA in ASN.1 with the hash of the curve's strength,
    /// Ed25519, or RSA-PSS with SHA-256.
    pub(super) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let pss = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: SHA256_BYTES.into(),
        };
        // The token is given the hash: fewer of them hash by themselves.
        let (mechanism, given) = match self.kind {
            Kind::P256 => (Mechanism::Ecdsa, Sha256::digest(message).to_vec()),
            Kind::P384 => (Mechanism::Ecdsa, Sha384::digest(message).to_vec()),
            Kind::Ed25519 => (Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure)), message.to_vec()),
            Kind::Rsa => (Mechanism::RsaPkcsPss(pss), Sha256::digest(message).to_vec()),
        };
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = session.sign(&mechanism, self.key, &given).context("the token did not sign")?;
        if matches!(self.kind, Kind::Ed25519 | Kind::Rsa) {
            return Ok(raw);
        }
        let (r, s) = raw.split_at(raw.len() / 2);
        Ok(vec![UintRef::new(r)?, UintRef::new(s)?].to_der()?)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key in a token")
    }
}

/// The same for TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsKey(pub(super) Arc<TokenKey>);

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.kind {
            Kind::P256 | Kind::P384 => SignatureAlgorithm::ECDSA,
            Kind::Ed25519 => SignatureAlgorithm::ED25519,
            Kind::Rsa => SignatureAlgorithm::RSA,
        }
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(|error| rustls::Error::General(format!("{error:#}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.kind.scheme()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_where_a_key_is_and_no_pin() {
        let place = Place::parse(
            "pkcs11:token=%E5%9F%8E;object=li%20na;id=%01%A0?module-path=/usr/lib/x.so&pin-source=file:/run/pin",
        )
        .unwrap();
        assert_eq!((place.token.as_str(), place.object.as_deref()), ("城", Some("li na")));
        assert_eq!((place.id, place.pin.as_deref()), (Some(vec![1, 0xA0]), Some("/run/pin")));
        assert_eq!(place.module, "/usr/lib/x.so");
        for (uri, why) in [
            ("pkcs11:token=a;object=b?module-path=/x&pin-value=1234", "does not stand in a command"),
            ("pkcs11:token=a;object=b", "needs token"),
            ("pkcs11:token=a?module-path=/x", "needs token"),
            ("pkcs11:token=a;object=b;colour=red?module-path=/x", "`colour`"),
            ("pkcs11:token=a;object=%FF?module-path=/x", "is no UTF-8"),
            ("pkcs11:token?module-path=/x", "has no value"),
        ] {
            let error = Place::parse(uri).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why) && !error.contains("1234"), "{uri}: {error}");
        }
    }
}
