//! Signed checkpoints: whoever can write the file can make a chain of hashes, but not these.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Blinding;

/// What is hashed into the signing key beside the storage master key, and what is signed before number and hash.
const CONTEXT: &[u8] = b"claviger audit checkpoint 1";

/// Bytes of a public key of P-256, an uncompressed point; one of Ed25519 has 32.
const POINT: usize = 65;

/// The end of a log at some time, signed over `CONTEXT || seq (8 bytes, big-endian) || hash (32 bytes)`: by Ed25519 (RFC 8032), or by
/// ECDSA on P-256 over SHA-256 (FIPS 186-5), `r` and `s` one after the other, where a backend keeps the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The number of the last record.
    pub seq: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
    /// The public key, hexadecimal: 32 bytes of Ed25519, or 65 of a point on P-256.
    pub key: String,
    /// The signature, hexadecimal.
    pub signature: String,
}

impl SignedHead {
    /// Whether the signature is of its key.
    pub fn is_authentic(&self) -> bool {
        let parts = (hex::decode(&self.key), hex::decode(&self.signature), message(self.seq, &self.hash));
        let (Ok(key), Ok(signature), Some(message)) = parts else { return false };
        let algorithm: &dyn VerificationAlgorithm =
            if key.len() == POINT { &ECDSA_P256_SHA256_FIXED } else { &ED25519 };
        UnparsedPublicKey::new(algorithm, key).verify(&message, &signature).is_ok()
    }

    /// Reads the head that stands beside a log; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn beside(log: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(path_beside(log)) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|_| io::Error::other(format!("{} beside it is no signed end", path_beside(log).display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts it beside the log, at once and on disk.
    pub(super) fn put_beside(&self, log: &Path) -> io::Result<()> {
        let path = path_beside(log);
        let next = path.with_extension("next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(&next, &path)
    }
}

fn path_beside(log: &Path) -> PathBuf {
    log.with_extension("head")
}

fn message(seq: u64, hash: &str) -> Option<Vec<u8>> {
    let hash = hex::decode(hash).ok().filter(|hash| hash.len() == 32)?;
    Some([CONTEXT, &seq.to_be_bytes(), &hash].concat())
}

/// What is hashed into the key of blindings beside the storage master key.
const BLINDING: &[u8] = b"claviger audit blinding 1";

/// The log's own keys.
pub struct Signer {
    key: Key,
    blinding: Zeroizing<[u8; 32]>,
    succession: Option<Succession>,
}

/// Which key signed before another.
pub(super) struct Succession {
    /// Its public key, hexadecimal.
    pub(super) before: String,
    /// The same if it is here: it signs that it hands over.
    pub(super) signer: Option<Box<Signer>>,
}

enum Key {
    /// Of the storage master key.
    Derived(Ed25519KeyPair),
    /// In a backend: the public key that it had at first, and how long records may stand unsigned while it does not answer.
    Kept { attest: Attest, public: String, patience: Duration },
}

/// Has a backend sign: its public key and the signature, or why there is none.
pub type Attest = Box<dyn Fn(&[u8]) -> Result<(Vec<u8>, Vec<u8>), String> + Send + Sync>;

impl Signer {
    /// The keys that belong to a storage master key.
    ///
    /// # Errors
    /// Never in practice: any 32 bytes are a seed.
    pub fn of(storage_key: &[u8]) -> io::Result<Self> {
        let seed = derived(storage_key, CONTEXT)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| io::Error::other("no seed"))?;
        Ok(Self { key: Key::Derived(key), blinding: derived(storage_key, BLINDING)?, succession: None })
    }

    /// A key that a backend keeps, in place of the derived one. It is asked for a signature at once.
    ///
    /// # Errors
    /// Why there is none.
    pub fn kept(storage_key: &[u8], attest: Attest, patience: Duration) -> Result<Self, String> {
        let (public, _) = attest(CONTEXT)?;
        let blinding = derived(storage_key, BLINDING).map_err(|error| error.to_string())?;
        let key = Key::Kept { attest, public: hex::encode(public), patience };
        let signer = Self { key, blinding, succession: None };
        signer.sign(0, &hex::encode([0; 32])).map(|_| signer)
    }

    /// Has it follow another key, which is here or gone.
    pub fn takes_over(&mut self, before: String, signer: Option<Self>) {
        self.succession = Some(Succession { before, signer: signer.map(Box::new) });
    }

    pub(super) fn succession(&self) -> Option<&Succession> {
        self.succession.as_ref()
    }

    /// How long records may stand unsigned, if the key is elsewhere; one that is here signs at once.
    pub(super) fn patience(&self) -> Option<Duration> {
        match &self.key {
            Key::Derived(_) => None,
            Key::Kept { patience, .. } => Some(*patience),
        }
    }

    /// The public key, hexadecimal.
    pub fn public_key(&self) -> String {
        match &self.key {
            Key::Derived(key) => hex::encode(key.public_key()),
            Key::Kept { public, .. } => public.clone(),
        }
    }

    /// What a job's salts follow from.
    pub fn blinding(&self, job: &str) -> Blinding {
        Blinding::of(&self.blinding, job)
    }

    /// Signs a log's end.
    ///
    /// # Errors
    /// Why there is no signature, or none by the key that signed before.
    pub fn sign(&self, seq: u64, hash: &str) -> Result<SignedHead, String> {
        let message = message(seq, hash).ok_or("its end cannot be signed")?;
        let (key, signature) = match &self.key {
            Key::Derived(key) => (self.public_key(), key.sign(&message).as_ref().to_vec()),
            Key::Kept { attest, .. } => {
                let (key, signature) = attest(&message)?;
                (hex::encode(key), signature)
            }
        };
        if key != self.public_key() {
            return Err("the backend has signed by another key than before".to_owned());
        }
        let signed = SignedHead { seq, hash: hash.to_owned(), key, signature: hex::encode(signature) };
        // A backend is not believed; the derived key is.
        if matches!(self.key, Key::Kept { .. }) && !signed.is_authentic() {
            return Err("what the backend has signed does not hold".to_owned());
        }
        Ok(signed)
    }
}

fn derived(storage_key: &[u8], context: &[u8]) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(storage_key).map_err(io::Error::other)?;
    mac.update(context);
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}
