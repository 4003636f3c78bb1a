//! Signed checkpoints: whoever can write the file can make a chain of hashes, but not these.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Blinding;

/// What is hashed into the signing key beside the storage master key, and what is signed before number and hash.
const CONTEXT: &[u8] = b"claviger audit checkpoint 1";

/// The end of a log at some time, signed (Ed25519, RFC 8032) over `CONTEXT || seq (8 bytes, big-endian) || hash (32 bytes)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// The number of the last record.
    pub seq: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
    /// The public key, hexadecimal.
    pub key: String,
    /// The signature, hexadecimal.
    pub signature: String,
}

impl SignedHead {
    /// Whether the signature is of its key.
    pub fn is_authentic(&self) -> bool {
        let parts = (hex::decode(&self.key), hex::decode(&self.signature), message(self.seq, &self.hash));
        let (Ok(key), Ok(signature), Some(message)) = parts else { return false };
        UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok()
    }

    /// Reads the head that stands beside a log; none if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn beside(log: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(path_beside(log)) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
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
    key: Ed25519KeyPair,
    blinding: Zeroizing<[u8; 32]>,
}

impl Signer {
    /// The keys that belong to a storage master key.
    ///
    /// # Errors
    /// Never in practice: any 32 bytes are a seed.
    pub fn of(storage_key: &[u8]) -> io::Result<Self> {
        let derived = |context: &[u8]| -> io::Result<Zeroizing<[u8; 32]>> {
            let mut mac = Hmac::<Sha256>::new_from_slice(storage_key).map_err(io::Error::other)?;
            mac.update(context);
            Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
        };
        let key = Ed25519KeyPair::from_seed_unchecked(&*derived(CONTEXT)?).map_err(|_| io::Error::other("no seed"))?;
        Ok(Self { key, blinding: derived(BLINDING)? })
    }

    /// The public key, hexadecimal.
    pub fn public_key(&self) -> String {
        hex::encode(self.key.public_key())
    }

    /// What a job's salts follow from.
    pub fn blinding(&self, job: &str) -> Blinding {
        Blinding::of(&self.blinding, job)
    }

    /// Signs a log's end; none if the hash is none.
    pub fn sign(&self, seq: u64, hash: &str) -> Option<SignedHead> {
        let signature = self.key.sign(&message(seq, hash)?);
        let (key, signature) = (self.public_key(), hex::encode(signature));
        Some(SignedHead { seq, hash: hash.to_owned(), key, signature })
    }
}
