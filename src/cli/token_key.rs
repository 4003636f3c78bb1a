//! A person's key in a PKCS#11 token, named by a URI (RFC 7512): it calls and signs, and stays where it is.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use claviger_driver_pkcs11::{Holder, KeyPlace, PrivateKey, SigningAlgorithm};
use der::Encode;
use der::asn1::UintRef;
use percent_encoding::percent_decode_str;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use zeroize::Zeroizing;

use super::connection::nobody_else_reads;

/// What such a URI begins with.
const SCHEME: &str = "pkcs11:";

/// Where a key is, as its URI says, and the file with the PIN.
struct Named {
    place: KeyPlace,
    pin: Option<String>,
}

/// A key in a token that is open.
#[derive(Debug)]
pub(super) struct TokenKey(PrivateKey);

/// Whether a key is named by the URI of a token.
pub(super) fn is_in_token(key: &Path) -> bool {
    key.to_str().is_some_and(|text| text.starts_with(SCHEME))
}

impl Named {
    fn parse(uri: &str) -> anyhow::Result<Self> {
        let mut named = Self { place: KeyPlace::default(), pin: None };
        let place = &mut named.place;
        let (path, query) = uri.trim_start_matches(SCHEME).split_once('?').unwrap_or((uri, ""));
        let path = path.trim_start_matches(SCHEME).split(';');
        for pair in path.chain(query.split('&')).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').with_context(|| format!("`{pair}` of {SCHEME} has no value"))?;
            let bytes: Vec<u8> = percent_decode_str(value).collect();
            let text = || String::from_utf8(bytes.clone()).with_context(|| format!("`{name}` of {SCHEME} is no UTF-8"));
            match name {
                "module-path" => place.module = text()?.into(),
                "token" => place.token = text()?,
                "object" => place.label = Some(text()?),
                "id" => place.id = Some(bytes),
                "pin-source" => named.pin = Some(text()?.trim_start_matches("file:").to_owned()),
                "pin-value" => bail!("a PIN does not stand in a command: name a file by pin-source, or type it"),
                "type" if value == "private" => {}
                // Attributes that the RFC leaves to others begin so.
                "x-init" => place.init = Some(text()?),
                other => {
                    bail!("`{other}` of {SCHEME} says nothing here: module-path, token, object, id, pin-source, x-init")
                }
            }
        }
        if place.module.as_os_str().is_empty()
            || place.token.is_empty()
            || (place.label.is_none() && place.id.is_none())
        {
            bail!("{SCHEME} needs token, object or id, and ?module-path=, the vendor's library");
        }
        Ok(named)
    }
}

/// Gives the PIN of the file that a URI names, or as somebody types it.
struct AtTheTerminal {
    file: Option<String>,
}

impl Holder for AtTheTerminal {
    fn pin(&self, token: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let pin = match &self.file {
            Some(path) => {
                nobody_else_reads(Path::new(path)).map_err(|error| error.to_string())?;
                std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
            }
            None => rpassword::prompt_password(format!("PIN of token {token}: ")).map_err(|error| {
                format!("there must be a terminal to type the PIN at, or pin-source in the key's URI: {error}")
            }),
        };
        let pin = Zeroizing::new(pin?);
        Ok(Zeroizing::new(pin.trim_end_matches(['\r', '\n']).as_bytes().to_vec()))
    }

    fn keypad(&self, token: &str) {
        eprintln!("Enter the PIN of token {token} at its keypad.");
    }
}

impl TokenKey {
    /// Opens a token, by the PIN in the file that its URI names, or as somebody types it.
    pub(super) fn open(uri: &str) -> anyhow::Result<Self> {
        let Named { place, pin } = Named::parse(uri)?;
        Ok(Self(PrivateKey::open(&place, Box::new(AtTheTerminal { file: pin }))?))
    }

    /// A signature over a message, as TLS 1.3 has it (RFC 8446, 4.2.3): ECDSA in ASN.1 with the hash of the curve's strength,
    /// Ed25519, or RSA-PSS with SHA-256.
    pub(super) fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let raw = self.0.sign(message).context("the token did not sign")?;
        match self.0.algorithm() {
            SigningAlgorithm::Ed25519 | SigningAlgorithm::RsaPss => Ok(raw),
            SigningAlgorithm::P256 | SigningAlgorithm::P384 => {
                let (r, s) = raw.split_at(raw.len() / 2);
                Ok(vec![UintRef::new(r)?, UintRef::new(s)?].to_der()?)
            }
        }
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
        match self.0.0.algorithm() {
            SigningAlgorithm::P256 | SigningAlgorithm::P384 => SignatureAlgorithm::ECDSA,
            SigningAlgorithm::Ed25519 => SignatureAlgorithm::ED25519,
            SigningAlgorithm::RsaPss => SignatureAlgorithm::RSA,
        }
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(|error| rustls::Error::General(format!("{error:#}")))
    }

    fn scheme(&self) -> SignatureScheme {
        match self.0.0.algorithm() {
            SigningAlgorithm::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            SigningAlgorithm::P384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            SigningAlgorithm::Ed25519 => SignatureScheme::ED25519,
            SigningAlgorithm::RsaPss => SignatureScheme::RSA_PSS_SHA256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_where_a_key_is_and_no_pin() {
        let Named { place, pin } = Named::parse(
            "pkcs11:token=%E5%9F%8E;object=li%20na;id=%01%A0?module-path=/usr/lib/x.so&pin-source=file:/run/pin\
             &x-init=configdir=%27sql:/home/%E6%9D%8E%27",
        )
        .unwrap();
        assert_eq!((place.token.as_str(), place.label.as_deref()), ("城", Some("li na")));
        assert_eq!((place.id, pin.as_deref()), (Some(vec![1, 0xA0]), Some("/run/pin")));
        assert_eq!((place.module, place.init), ("/usr/lib/x.so".into(), Some("configdir='sql:/home/李'".to_owned())));
        for (uri, why) in [
            ("pkcs11:token=a;object=b?module-path=/x&pin-value=1234", "does not stand in a command"),
            ("pkcs11:token=a;object=b", "needs token"),
            ("pkcs11:token=a?module-path=/x", "needs token"),
            ("pkcs11:token=a;object=b;colour=red?module-path=/x", "`colour`"),
            ("pkcs11:token=a;object=%FF?module-path=/x", "is no UTF-8"),
            ("pkcs11:token?module-path=/x", "has no value"),
        ] {
            let error = Named::parse(uri).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why) && !error.contains("1234"), "{uri}: {error}");
        }
    }
}
