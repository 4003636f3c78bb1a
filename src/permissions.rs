//! Files that others could change or read: a daemon does not go by them.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

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
    /// Others may look into it.
    #[error("{path} is open to others: chmod 700, or 750 for a group of the daemon's own")]
    Entered {
        /// The directory.
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
/// As the kernel follows at most.
const MOST_LINKS: usize = 40;

fn look<T>(path: &Path, found: std::io::Result<T>) -> Result<T, Loose> {
    found.map_err(|error| Loose::Look { path: path.to_owned(), error })
}

fn mode(path: &Path) -> Result<u32, Loose> {
    Ok(look(path, std::fs::metadata(path))?.permissions().mode())
}

/// Walks to a file or directory from the root on, as the kernel does, and refuses it if anything on the way belongs to somebody
/// who is neither root nor the process's user, nor another who is trusted, or can be written by others: they could lead to another. Of
/// itself the same holds.
fn walked(path: &Path, also: Option<u32>) -> Result<Metadata, Loose> {
    let whole = look(path, std::path::absolute(path))?;
    let mut ahead: Vec<PathBuf> = steps(&whole);
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut about = look(&at, std::fs::symlink_metadata(&at))?;
    loop {
        if ![0, geteuid().as_raw()].contains(&about.uid()) && also != Some(about.uid()) {
            return Err(Loose::Owned { path: at, owner: about.uid() });
        }
        if about.is_symlink() {
            links += 1;
            if links > MOST_LINKS {
                return Err(Loose::Look { path: path.to_owned(), error: std::io::ErrorKind::TooManyLinks.into() });
            }
            let target = look(&at, std::fs::read_link(&at))?;
            at.pop();
            ahead.extend(steps(&target));
        } else {
            // In a directory as /tmp nobody removes what is another's.
            let is_on_the_way = !ahead.is_empty();
            if about.mode() & OTHERS_WRITE != 0 && !(is_on_the_way && about.mode() & STICKY != 0) {
                return Err(Loose::Written { path: at });
            }
        }
        let Some(step) = ahead.pop() else { return Ok(about) };
        // Of an absolute link the root is a step, and takes the place of what was before.
        if step == Path::new("..") {
            at.pop()
        } else {
            at.push(step);
            true
        };
        about = look(&at, std::fs::symlink_metadata(&at))?;
    }
}

/// The steps of a path, the first one last.
fn steps(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().filter(|step| *step != Component::CurDir);
    steps.rev().map(|step| PathBuf::from(step.as_os_str())).collect()
}

/// Refuses what is no plain file, one that somebody else may change, and one in whose place somebody else may put another.
///
/// # Errors
/// [`Loose`].
pub fn only_we_change(file: &Path) -> Result<(), Loose> {
    only_they_change(file, None)
}

/// The same of a file that another user may own as well.
///
/// # Errors
/// [`Loose`].
pub fn only_they_change(file: &Path, also: Option<u32>) -> Result<(), Loose> {
    if walked(file, also)?.is_file() { Ok(()) } else { Err(Loose::NoFile { path: file.to_owned() }) }
}

/// Refuses a directory that somebody else may write or put another in the place of, and one in which anything is that somebody
/// else may write, or that is neither a plain file nor a directory.
///
/// # Errors
/// [`Loose`].
pub fn only_we_write_in(directory: &Path) -> Result<(), Loose> {
    walked(directory, None)?;
    for entry in look(directory, std::fs::read_dir(directory))? {
        let path = look(directory, entry)?.path();
        let about = walked(&path, None)?;
        if !about.is_file() && !about.is_dir() {
            return Err(Loose::NoFile { path });
        }
    }
    Ok(())
}

/// Refuses a directory that others than a group may look into.
///
/// # Errors
/// [`Loose`].
pub fn only_we_enter(directory: &Path) -> Result<(), Loose> {
    if mode(directory)? & OTHERS_READ == 0 { Ok(()) } else { Err(Loose::Entered { path: directory.to_owned() }) }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }

    /// Wherever the way to a file can be turned, by a directory or by a link in one, it is looked at.
    #[test]
    fn every_step_of_the_way_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("real/deep")).unwrap();
        std::fs::create_dir_all(at("links/own")).unwrap();
        std::fs::write(at("real/deep/file"), "").unwrap();
        symlink(at("real"), at("links/absolute")).unwrap();
        symlink("../links/./absolute/deep", at("links/relative")).unwrap();
        symlink("round", at("links/round")).unwrap();
        let ways = ["real/deep/file", "links/absolute/deep/file", "links/relative/file", "links/own/../relative/file"];
        for way in ways {
            only_we_change(&at(way)).unwrap_or_else(|error| panic!("{way}: {error}"));
        }
        assert!(matches!(only_we_change(&at("links/round/file")), Err(Loose::Look { .. })));
        assert!(matches!(only_we_change(&at("real/deep/none")), Err(Loose::Look { .. })));
        assert!(matches!(only_we_change(&at("real/deep")), Err(Loose::NoFile { .. })));
        for (open, led_by) in
            [("real", &ways[..]), ("real/deep", &ways[..]), ("links", &ways[1..]), ("links/own", &ways[3..])]
        {
            set(&at(open), 0o775);
            for way in ways {
                let refused = matches!(only_we_change(&at(way)), Err(Loose::Written { path }) if path == at(open));
                assert_eq!(refused, led_by.contains(&way), "{open} is open, by way of {way}");
            }
            // As in /tmp, others may make what is theirs and move nothing that is ours.
            set(&at(open), 0o1777);
            assert!(ways.iter().all(|way| only_we_change(&at(way)).is_ok()), "{open}");
            set(&at(open), 0o755);
        }
    }

    #[test]
    fn a_directory_that_we_write_is_nobody_elses_to_the_last_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        only_we_write_in(folder.path()).unwrap();
        for (mode, open) in [(0o700, false), (0o750, false), (0o751, true), (0o704, true), (0o770, true)] {
            set(folder.path(), mode);
            assert_eq!(matches!(only_we_enter(folder.path()), Err(Loose::Entered { .. })), open, "{mode:o}");
        }
        // What lies in it, others do not write either, whatever a directory as /tmp protects.
        set(folder.path(), 0o1777);
        assert!(matches!(only_we_write_in(folder.path()), Err(Loose::Written { .. })));
        set(folder.path(), 0o755);
        set(&file, 0o602);
        assert!(matches!(only_we_write_in(folder.path()), Err(Loose::Written { path }) if path == file));
    }
}
