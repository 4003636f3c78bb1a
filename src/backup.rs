//! Backups: a store and its log, encrypted and authenticated under a key that follows from the storage master key.
//!
//! ```text
//! claviger backup          LF
//! header, a line of JSON   LF    authenticated with every piece
//! pieces: at most 64 KiB of a tar archive and a tag of 16 bytes (STREAM over AES-256-GCM)
//! ```
//!
//! The header holds the seal, so whoever has what opens the seal (key file, passphrase) can restore, and nobody else can. Each
//! backup has a key of its own: HMAC-SHA256 over a salt of 32 bytes.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use aead_stream::{DecryptorBE32, EncryptorBE32, Nonce, StreamBE32};
use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{KeyInit, Payload};
use claviger_hsm_api::Secret;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

const MAGIC: &str = "claviger backup\n";
const CONTEXT: &[u8] = b"claviger backup 1";
/// Bytes of a piece before it is encrypted.
const PIECE: usize = 64 << 10;
const TAG: usize = 16;
/// The longest header.
const LONGEST: u64 = 16 << 10;

/// What a backup holds, by the names that it has in a data directory; no other name is taken.
pub const NAMES: [&str; 3] = ["claviger.db", "audit.jsonl", "audit.head"];

/// Why a backup cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Not a backup, or of a version that is not known.
    #[error("this is no backup of a version that this program knows")]
    Unknown,
    /// Changed, cut off, or of another storage master key.
    #[error("the backup does not hold: it was changed or cut off, or is of another storage master key")]
    Changed,
    /// A file in it that none has.
    #[error("the backup holds a file that no backup has")]
    Stranger,
}

/// The key of a daemon's backups.
pub struct BackupKey(Secret);

/// What stands before a backup, for everybody to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Of this layout: 1.
    pub version: u8,
    /// The installation that it is of.
    pub daemon: String,
    /// When it was made.
    pub created: Timestamp,
    /// The seal, as the store has it.
    pub seal: String,
    /// 32 random bytes, hexadecimal.
    pub salt: String,
}

impl Header {
    /// A header with a salt of its own.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn new(daemon: String, seal: String) -> Result<Self, BackupError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        Ok(Self { version: 1, daemon, created: Timestamp::now(), seal, salt: hex::encode(salt) })
    }
}

impl BackupKey {
    /// The one that belongs to a storage master key.
    ///
    /// # Errors
    /// Never in practice: HMAC takes keys of any length.
    pub fn of(storage_key: &Secret) -> io::Result<Self> {
        derived(storage_key, CONTEXT).map(Self)
    }

    fn of_one(&self, header: &Header) -> Result<Aes256Gcm, BackupError> {
        let salt = hex::decode(&header.salt).map_err(|_| BackupError::Unknown)?;
        Aes256Gcm::new_from_slice(derived(&self.0, &salt)?.expose()).map_err(|_| BackupError::Unknown)
    }

    /// Writes a backup of these files.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn write(&self, header: &Header, files: &[(&str, File, u64)], out: impl Write) -> Result<(), BackupError> {
        let line = serde_json::to_string(header).map_err(io::Error::other)?;
        let cipher = self.of_one(header)?;
        let mut out = out;
        out.write_all(MAGIC.as_bytes())?;
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
        let encryptor = EncryptorBE32::from_aead(cipher, &nonce());
        let sealing =
            Sealing { encryptor: Some(encryptor), line, piece: Zeroizing::new(Vec::with_capacity(PIECE)), out };
        let mut archive = tar::Builder::new(sealing);
        for (name, file, size) in files {
            let mut entry = tar::Header::new_ustar();
            entry.set_size(*size);
            entry.set_mode(0o600);
            archive.append_data(&mut entry, name, file.take(*size))?;
        }
        archive.into_inner()?.finish()
    }

    /// Unpacks a backup into a directory, each file under its name and `.restored`; none of them means anything before all
    /// have come and hold. Their names.
    ///
    /// # Errors
    /// [`BackupError`]; what was unpacked is gone then.
    pub fn unpack(&self, backup: Opened<impl BufRead>, into: &Path) -> Result<Vec<&'static str>, BackupError> {
        let mut unpacked = Vec::new();
        let done = self.unpack_each(backup, into, &mut unpacked);
        if done.is_err() {
            for name in &unpacked {
                let _ = std::fs::remove_file(restored(into, name));
            }
        }
        done.map(|()| unpacked)
    }

    fn unpack_each(
        &self,
        backup: Opened<impl BufRead>,
        into: &Path,
        unpacked: &mut Vec<&'static str>,
    ) -> Result<(), BackupError> {
        let decryptor = DecryptorBE32::from_aead(self.of_one(&backup.header)?, &nonce());
        let opening = Opening {
            decryptor: Some(decryptor),
            line: backup.line,
            input: backup.input,
            piece: Zeroizing::default(),
            read: 0,
        };
        let mut archive = tar::Archive::new(opening);
        let entries = archive.entries().map_err(changed)?;
        for entry in entries {
            let mut entry = entry.map_err(changed)?;
            let name = entry.path().map_err(changed)?.to_string_lossy().into_owned();
            let known = NAMES.into_iter().find(|known| *known == name && !unpacked.contains(known));
            let known = known.ok_or(BackupError::Stranger)?;
            let path = restored(into, known);
            let mut file = File::create_new(&path)?;
            unpacked.push(known);
            io::copy(&mut entry, &mut file).map_err(changed)?;
            file.sync_all()?;
        }
        // What follows the archive is its end, and the last piece says that it is.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(changed)?;
        Ok(())
    }
}

/// Where a file stands until all have come.
pub fn restored(into: &Path, name: &str) -> PathBuf {
    into.join(format!("{name}.restored"))
}

/// A backup whose header was read; nobody has vouched for it yet.
pub struct Opened<R> {
    /// The header.
    pub header: Header,
    line: String,
    input: R,
}

impl<R: BufRead> Opened<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn read(mut input: R) -> Result<Self, BackupError> {
        let mut magic = vec![0; MAGIC.len()];
        input.read_exact(&mut magic).map_err(|_| BackupError::Unknown)?;
        let mut line = String::new();
        input.by_ref().take(LONGEST).read_line(&mut line).map_err(|_| BackupError::Unknown)?;
        let line = line.strip_suffix('\n').ok_or(BackupError::Unknown)?.to_owned();
        let header: Header = serde_json::from_str(&line).map_err(|_| BackupError::Unknown)?;
        if magic != MAGIC.as_bytes() || header.version != 1 {
            return Err(BackupError::Unknown);
        }
        Ok(Self { header, line, input })
    }
}

/// Encrypts what is written to it, piece by piece.
struct Sealing<W> {
    encryptor: Option<EncryptorBE32<Aes256Gcm>>,
    line: String,
    piece: Zeroizing<Vec<u8>>,
    out: W,
}

impl<W: Write> Sealing<W> {
    fn finish(mut self) -> Result<(), BackupError> {
        let encryptor = self.encryptor.take().ok_or(BackupError::Changed)?;
        let last = Payload { msg: &self.piece, aad: self.line.as_bytes() };
        self.out.write_all(&encryptor.encrypt_last(last).map_err(|_| BackupError::Changed)?)?;
        Ok(self.out.flush()?)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            let encryptor = self.encryptor.as_mut().ok_or_else(|| io::Error::other("it is finished"))?;
            let next = Payload { msg: &self.piece, aad: self.line.as_bytes() };
            let sealed = encryptor.encrypt_next(next).map_err(|_| io::Error::other("it is too long"))?;
            self.out.write_all(&sealed)?;
            self.piece.clear();
        }
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decrypts what is read from it; gives out nothing of a piece that does not hold.
struct Opening<R> {
    decryptor: Option<DecryptorBE32<Aes256Gcm>>,
    line: String,
    input: R,
    piece: Zeroizing<Vec<u8>>,
    read: usize,
}

impl<R: BufRead> Read for Opening<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            let Some(mut decryptor) = self.decryptor.take() else { return Ok(0) };
            let mut sealed = Vec::with_capacity(PIECE + TAG);
            self.input.by_ref().take((PIECE + TAG) as u64).read_to_end(&mut sealed)?;
            let is_last = self.input.fill_buf()?.is_empty();
            let piece = Payload { msg: &sealed, aad: self.line.as_bytes() };
            let opened = if is_last {
                decryptor.decrypt_last(piece)
            } else {
                let opened = decryptor.decrypt_next(piece);
                self.decryptor = Some(decryptor);
                opened
            };
            self.piece = Zeroizing::new(opened.map_err(|_| io::Error::other(BackupError::Changed))?);
            self.read = 0;
        }
        let taken = into.len().min(self.piece.len() - self.read);
        into[..taken].copy_from_slice(&self.piece[self.read..self.read + taken]);
        self.read += taken;
        Ok(taken)
    }
}

/// Each backup has a key of its own, so all may count from the same.
fn nonce() -> Nonce<Aes256Gcm, StreamBE32<Aes256Gcm>> {
    Nonce::<Aes256Gcm, StreamBE32<Aes256Gcm>>::default()
}

fn derived(key: &Secret, context: &[u8]) -> io::Result<Secret> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).map_err(io::Error::other)?;
    mac.update(context);
    Ok(Secret::taking(mac.finalize().into_bytes().to_vec()))
}

/// What the archive's reader says of bytes that did not hold is of no use to anybody.
fn changed(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied => BackupError::Io(error),
        _ => BackupError::Changed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, content: &[u8]) -> (&'static str, File, u64) {
        std::fs::write(folder.join(name), content).unwrap();
        let known = NAMES.into_iter().find(|known| *known == name).unwrap();
        (known, File::open(folder.join(name)).unwrap(), content.len() as u64)
    }

    /// One that Python's tarfile and pycryptodome have made, by what stands at the top of this file.
    #[test]
    fn what_another_has_packed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let key = BackupKey::of(&Secret::copy_of(&[7; 32])).unwrap();
        let opened = Opened::read(&include_bytes!("../fuzz/corpus/backup/seed-python")[..]).unwrap();
        assert_eq!(key.unpack(opened, folder.path()).unwrap(), ["claviger.db", "audit.jsonl"]);
        assert_eq!(std::fs::read(restored(folder.path(), "claviger.db")).unwrap(), b"store".repeat(20_000));
    }

    /// Around the length of a piece, where the last one is full, empty or of a byte.
    #[test]
    fn what_was_packed_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let key = BackupKey::of(&Secret::copy_of(&[7; 32])).unwrap();
        for len in [0, 1, PIECE - 1024, PIECE - 513, PIECE - 512, PIECE, 3 * PIECE + 1] {
            let content = vec![len as u8; len];
            let files = [file(folder.path(), "audit.jsonl", b"{}\n"), file(folder.path(), "claviger.db", &content)];
            let header = Header::new("00".repeat(16), "seal".to_owned()).unwrap();
            let mut backup = Vec::new();
            key.write(&header, &files, &mut backup).unwrap();
            let into = folder.path().join(len.to_string());
            std::fs::create_dir(&into).unwrap();
            let opened = Opened::read(&backup[..]).unwrap();
            assert_eq!(opened.header, header);
            assert_eq!(key.unpack(opened, &into).unwrap(), ["audit.jsonl", "claviger.db"]);
            assert_eq!(std::fs::read(restored(&into, "claviger.db")).unwrap(), content);
            // The same key of another salt opens nothing, and nothing is left of it.
            let mut other = Opened::read(&backup[..]).unwrap();
            other.header.salt = "00".repeat(32);
            let empty = folder.path().join(format!("{len}-other"));
            std::fs::create_dir(&empty).unwrap();
            assert!(matches!(key.unpack(other, &empty), Err(BackupError::Changed)));
            assert!(std::fs::read_dir(&empty).unwrap().next().is_none());
        }
    }
}
