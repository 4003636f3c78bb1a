//! Files that others could change or read: a daemon does not go by them.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// A file that is too open.
#[derive(Debug, thiserror::Error)]
pub enum Loose {
    /// Cannot be looked at.
    #[error("{path}: {error}")]
    Look {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A pipe might never be read to its end, and a device is nobody's file.
    #[error("{path} is no plain file")]
    NoFile {
        /// What it should be.
        path: PathBuf,
    },
    /// Somebody else may write it.
    #[error("{path} can be changed by others: chmod go-w")]
    Written {
        /// The file.
        path: PathBuf,
    },
    /// It is somebody else's, who may open it to anybody.
    #[error("{path} belongs to user {owner}, who is neither root nor whom the daemon runs as")]
    Owned {
        /// The file.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
    },
    /// Somebody else may read it.
    #[error("{path} holds a secret that others can read: chmod 600, or 640 for a group of the daemon's own")]
    Read {
        /// The file.
        path: PathBuf,
    },
    /// It is one person's or the daemon's own, and others may read or write it.
    #[error("{path} holds a secret of its owner alone that others can read: chmod 600")]
    Shared {
        /// The file.
        path: PathBuf,
    },
}

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// A group may be let read, as Debian does with keys of certificates.
const OTHERS_READ: u32 = 0o027;

fn mode(path: &Path) -> Result<u32, Loose> {
    let about = std::fs::metadata(path).map_err(|error| Loose::Look { path: path.to_owned(), error })?;
    Ok(about.permissions().mode())
}

/// Refuses a file or directory that its group or others may write, or that belongs to somebody who is neither root nor the
/// process's user.
///
/// # Errors
/// [`Loose`].
pub fn only_we_write(path: &Path) -> Result<(), Loose> {
    held_to(path, OTHERS_WRITE)
}

/// Refuses what is no plain file, one that somebody else may change, and one in whose place somebody else may put another.
///
/// # Errors
/// [`Loose`].
pub fn only_we_change(file: &Path) -> Result<(), Loose> {
    let failed = |error| Loose::Look { path: file.to_owned(), error };
    // Of a link, where it stands and where it leads to.
    let led_to = file.canonicalize().map_err(failed)?;
    if !led_to.is_file() {
        return Err(Loose::NoFile { path: file.to_owned() });
    }
    only_we_write(file)?;
    let folder = |file: &Path| match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    for folder in [folder(file), folder(&led_to)] {
        // In a directory as /tmp nobody removes what is another's.
        let others_write = if mode(&folder)? & STICKY == 0 { OTHERS_WRITE } else { 0 };
        held_to(&folder, others_write)?;
    }
    Ok(())
}

/// Refuses a directory, and everything in it, that somebody else may write.
///
/// # Errors
/// [`Loose`].
pub fn only_we_write_in(directory: &Path) -> Result<(), Loose> {
    only_we_write(directory)?;
    let failed = |error| Loose::Look { path: directory.to_owned(), error };
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        only_we_write(&entry.map_err(failed)?.path())?;
    }
    Ok(())
}

fn held_to(path: &Path, others_write: u32) -> Result<(), Loose> {
    let about = std::fs::metadata(path).map_err(|error| Loose::Look { path: path.to_owned(), error })?;
    if ![0, geteuid().as_raw()].contains(&about.uid()) {
        return Err(Loose::Owned { path: path.to_owned(), owner: about.uid() });
    }
    if about.mode() & others_write == 0 { Ok(()) } else { Err(Loose::Written { path: path.to_owned() }) }
}

/// Refuses a secret file of one person, or of the daemon alone, that anybody else may read or write, of their group too.
///
/// # Errors
/// [`Loose`].
pub fn only_one_person_reads(path: &Path) -> Result<(), Loose> {
    if mode(path)? & 0o077 == 0 { Ok(()) } else { Err(Loose::Shared { path: path.to_owned() }) }
}

/// Refuses a secret file that others may read, or its group write.
///
/// # Errors
/// [`Loose`].
pub fn only_its_owner_reads(path: &Path) -> Result<(), Loose> {
    if mode(path)? & OTHERS_READ == 0 { Ok(()) } else { Err(Loose::Read { path: path.to_owned() }) }
}
