//! Sealed start: the storage master key, wrapped under what an operator brings.
//!
//! The storage master key is random and never changes hands; the store holds it under a key that comes
//! from a key file or, through argon2id, from a passphrase. A daemon without it serves nothing.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{Commitments, Share, ShareError, join_shares};
use serde::{Deserialize, Serialize};

use crate::store::{Store, StoreError};

/// Why the daemon stays sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or written.
    #[error("key file {path}: {error}")]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A credential was named, and systemd has handed none over.
    #[error("there is no CREDENTIALS_DIRECTORY: give the unit LoadCredentialEncrypted= for the storage key")]
    NoCredentials,
    /// Others than its owner may touch it.
    #[error("key file {path} must be a plain file of this user that nobody else may read or write (chmod 600)")]
    Permissions {
        /// The file.
        path: PathBuf,
    },
    /// Not 32 bytes.
    #[error("key file {path} must hold exactly 32 bytes")]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// Not the key or passphrase that sealed the store.
    #[error("this is not the key file or passphrase that the store was sealed with")]
    Wrong,
    /// The store has no seal yet.
    #[error("the store was never sealed: run `claviger init` first")]
    NotInitialised,
    /// The store has one already.
    #[error("the store is sealed already")]
    Initialised,
    /// It was sealed with the other kind.
    #[error("the store was sealed with a {0}")]
    OtherKind(&'static str),
    /// Not these shares, or not enough.
    #[error(transparent)]
    Shares(#[from] ShareError),
    /// It is open.
    #[error("the daemon is unsealed already")]
    Open,
    /// Sealed with something else.
    #[error("the store was not sealed with shares")]
    NoShares,
    /// A passphrase that is too short to resist guessing.
    #[error("a passphrase has at least 12 characters")]
    ShortPassphrase,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The seal in the store cannot be read, or randomness failed.
    #[error("the seal cannot be made or read: {0}")]
    Broken(String),
}

/// What an operator brings.
pub enum Opener<'a> {
    /// A file of 32 bytes that only its owner may read.
    KeyFile(&'a Path),
    /// The same 32 bytes, in the directory that systemd made for this service alone.
    Credential(&'a Path),
    /// Words; the secret is wiped by its owner.
    Passphrase(&'a Secret),
    /// Shares, enough of them and each a good one.
    Shares(&'a [Share]),
}

/// The wrapped storage master key, as the store keeps it.
#[derive(Serialize, Deserialize)]
struct Seal {
    version: u8,
    #[serde(flatten)]
    kind: Kind,
    nonce: String,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Kind {
    KeyFile,
    /// What is public of the shares.
    Shares(Commitments),
    /// Parameters of argon2id: memory in KiB, passes, lanes.
    Passphrase {
        salt: String,
        memory: u32,
        passes: u32,
        lanes: u32,
    },
}

const META: &str = "seal";

/// Makes the storage master key and seals it; done once for a store.
///
/// # Errors
/// [`SealError`].
pub async fn initialise(store: &Store, opener: Opener<'_>) -> Result<Secret, SealError> {
    if store.meta(META).await?.is_some() {
        return Err(SealError::Initialised);
    }
    let kind = match opener {
        Opener::KeyFile(_) | Opener::Credential(_) => Kind::KeyFile,
        Opener::Shares(_) => return Err(SealError::Broken("shares are made of a store that is open".to_owned())),
        // OWASP's second choice for argon2id, well above its minimum.
        Opener::Passphrase(words) if words.len() >= 12 => {
            Kind::Passphrase { salt: hex::encode(random::<16>()?), memory: 47 * 1024, passes: 3, lanes: 1 }
        }
        Opener::Passphrase(_) => return Err(SealError::ShortPassphrase),
    };
    let wrapping = wrapping_key(&kind, &opener)?;
    let mut failed = false;
    let storage_key = Secret::init(32, |bytes| failed = getrandom::fill(bytes).is_err());
    if failed {
        return Err(SealError::Broken("no randomness".to_owned()));
    }
    let text = sealed(&storage_key, &wrapping, kind)?;
    match store.write_meta_once(META, &text).await {
        Err(StoreError::Conflict) => Err(SealError::Initialised),
        other => Ok(other.map(|()| storage_key)?),
    }
}

/// Seals a store that is open anew, so that nothing but these shares' key opens it.
///
/// # Errors
/// [`SealError`]; then the seal is as it was.
pub async fn seal_with_shares(
    store: &Store,
    storage_key: &Secret,
    key: &Secret,
    commitments: &Commitments,
) -> Result<(), SealError> {
    let text = sealed(storage_key, key, Kind::Shares(commitments.clone()))?;
    Ok(store.replace_meta(META, &text).await?)
}

fn sealed(storage_key: &Secret, wrapping: &Secret, kind: Kind) -> Result<String, SealError> {
    let nonce = random::<12>()?;
    let payload = Payload { msg: storage_key.expose(), aad: META.as_bytes() };
    let wrapped = cipher(wrapping)?
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| SealError::Broken("encryption failed".to_owned()))?;
    let seal = Seal { version: 1, kind, nonce: hex::encode(nonce), wrapped: hex::encode(wrapped) };
    serde_json::to_string(&seal).map_err(|error| SealError::Broken(error.to_string()))
}

/// What is public of a seal's shares; none if it opens with something else.
pub fn shares_of(text: &str) -> Option<Commitments> {
    match serde_json::from_str::<Seal>(text).ok()?.kind {
        Kind::Shares(commitments) => Some(commitments),
        Kind::KeyFile | Kind::Passphrase { .. } => None,
    }
}

/// Opens the seal.
///
/// # Errors
/// [`SealError`].
pub async fn unseal(store: &Store, opener: Opener<'_>) -> Result<Secret, SealError> {
    open(&text_of(store).await?, &opener)
}

/// The seal of a store, as a backup has it too: it opens with what an operator brings.
///
/// # Errors
/// [`SealError`].
pub async fn text_of(store: &Store) -> Result<String, SealError> {
    store.meta(META).await?.ok_or(SealError::NotInitialised)
}

/// Opens a seal by its text.
///
/// # Errors
/// [`SealError`].
pub fn open(text: &str, opener: &Opener<'_>) -> Result<Secret, SealError> {
    let seal: Seal = serde_json::from_str(text).map_err(|error| SealError::Broken(error.to_string()))?;
    let broken = || SealError::Broken("it is not what was written".to_owned());
    let nonce: [u8; 12] = hex::decode(&seal.nonce).ok().and_then(|nonce| nonce.try_into().ok()).ok_or_else(broken)?;
    let wrapped = hex::decode(&seal.wrapped).map_err(|_| broken())?;
    let payload = Payload { msg: &wrapped, aad: META.as_bytes() };
    let wrapping = wrapping_key(&seal.kind, opener)?;
    cipher(&wrapping)?.decrypt(&Nonce::from(nonce), payload).map(Secret::taking).map_err(|_| SealError::Wrong)
}

/// Makes a key file of random bytes that nobody else may read.
///
/// # Errors
/// If it is there already or cannot be written.
pub fn create_key_file(path: &Path) -> Result<(), SealError> {
    let failed = |error| SealError::KeyFile { path: path.to_owned(), error };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut key = random::<32>()?;
    let written = file.write_all(&key).and_then(|()| file.sync_all());
    zeroize::Zeroize::zeroize(&mut key);
    written.map_err(failed)
}

fn wrapping_key(kind: &Kind, opener: &Opener<'_>) -> Result<Secret, SealError> {
    match (kind, opener) {
        (Kind::KeyFile, Opener::KeyFile(path)) => read_key_file(path),
        (Kind::KeyFile, Opener::Credential(path)) => {
            let failed = |error| SealError::KeyFile { path: path.to_path_buf(), error };
            read_key(path, std::fs::File::open(path).map_err(failed)?)
        }
        (Kind::Passphrase { salt, memory, passes, lanes }, Opener::Passphrase(words)) => {
            let broken = |error: argon2::Error| SealError::Broken(error.to_string());
            let params = argon2::Params::new(*memory, *passes, *lanes, Some(32)).map_err(broken)?;
            let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            let mut result = Ok(());
            let key =
                Secret::init(32, |bytes| result = argon2.hash_password_into(words.expose(), salt.as_bytes(), bytes));
            result.map(|()| key).map_err(broken)
        }
        (Kind::Shares(commitments), Opener::Shares(shares)) => Ok(join_shares(shares, commitments)?),
        (Kind::KeyFile, _) => Err(SealError::OtherKind("key file")),
        (Kind::Passphrase { .. }, _) => Err(SealError::OtherKind("passphrase")),
        (Kind::Shares(_), _) => Err(SealError::OtherKind("set of shares")),
    }
}

fn read_key_file(path: &Path) -> Result<Secret, SealError> {
    let failed = |error| SealError::KeyFile { path: path.to_owned(), error };
    let listed = std::fs::symlink_metadata(path).map_err(failed)?;
    let file = std::fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // A link that was put in its place between the two looks has another inode.
    let same = (listed.dev(), listed.ino()) == (metadata.dev(), metadata.ino());
    let own = std::fs::metadata("/proc/self").map(|process| process.uid()).map_err(failed)?;
    if !same || !metadata.is_file() || metadata.mode() & 0o077 != 0 || metadata.uid() != own {
        return Err(SealError::Permissions { path: path.to_owned() });
    }
    read_key(path, file)
}

fn read_key(path: &Path, mut file: std::fs::File) -> Result<Secret, SealError> {
    let failed = |error| SealError::KeyFile { path: path.to_owned(), error };
    if file.metadata().map_err(failed)?.len() != 32 {
        return Err(SealError::Length { path: path.to_owned() });
    }
    let mut result = Ok(());
    let key = Secret::init(32, |bytes| result = file.read_exact(bytes));
    result.map(|()| key).map_err(failed)
}

fn cipher(key: &Secret) -> Result<Aes256Gcm, SealError> {
    Aes256Gcm::new_from_slice(key.expose()).map_err(|error| SealError::Broken(error.to_string()))
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SealError::Broken(error.to_string()))?;
    Ok(bytes)
}
