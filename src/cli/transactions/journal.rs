//! What an interrupted verification leaves beside its verdicts, so that `--resume` can go on with it.
//!
//! Verdicts that have come stand in `OUT.partial`; `OUT.journal` says how many of them are safe on disk, of
//! which input and under which keys. Only what the journal counts is kept.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::VERDICTS;
use crate::cli::upload::{Answers, PIECE, same_file};

/// Of the journals that this program writes, and goes on with.
pub(super) const VERSION: u8 = 2;

/// What `OUT.journal` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    pub(super) version: u8,
    /// BLAKE3 of the whole input, hexadecimal.
    pub(super) input: String,
    pub(super) tenant: String,
    pub(super) scheme: String,
    pub(super) format: String,
    /// The keys that verified, with how often their records had changed.
    pub(super) keys: String,
    /// Records whose verdicts are safe.
    pub(super) records: u64,
    /// Bytes of `OUT.partial` that hold them, its header included.
    pub(super) bytes: u64,
}

/// The files of a job beside its output.
pub(super) struct Paths {
    out: PathBuf,
    partial: PathBuf,
    journal: PathBuf,
}

impl Paths {
    pub(super) fn beside(out: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = out.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self { out: out.to_owned(), partial: with(".partial"), journal: with(".journal") }
    }

    /// An empty file for the verdicts of a job from its start; what an earlier one left is gone.
    pub(super) fn begin(&self) -> anyhow::Result<File> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.partial);
        let file = file.with_context(|| self.partial.display().to_string())?;
        self.lock(&file)?;
        file.set_len(0)?;
        match std::fs::remove_file(&self.journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(self.journal.display().to_string());
            }
            _ => {}
        }
        Ok(file)
    }

    /// One job at a time writes these verdicts. Another may have put them in their place since they were opened.
    fn lock(&self, file: &File) -> anyhow::Result<()> {
        let locked = match file.try_lock() {
            Err(TryLockError::Error(error)) => return Err(error).context(self.partial.display().to_string()),
            other => other.is_ok(),
        };
        let opened = file.metadata()?;
        if !locked || !std::fs::metadata(&self.partial).is_ok_and(|found| same_file(&found, &opened)) {
            bail!("another job is writing {}: wait for its end, or give another --out", self.partial.display());
        }
        Ok(())
    }

    /// The journal of an interrupted job, its verdicts cut to what the journal counts, and those counted.
    pub(super) fn resume(&self) -> anyhow::Result<(Journal, File, Answers)> {
        let text = match std::fs::read(&self.journal) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is nothing to resume ({} does not exist): start without --resume", self.journal.display())
            }
            other => other.with_context(|| self.journal.display().to_string())?,
        };
        let journal: Journal =
            serde_json::from_slice(&text).with_context(|| format!("{} cannot be read", self.journal.display()))?;
        let file = OpenOptions::new().read(true).write(true).open(&self.partial);
        let mut file = file.with_context(|| self.partial.display().to_string())?;
        self.lock(&file)?;
        if journal.version != VERSION || file.metadata()?.len() < journal.bytes {
            bail!("{} does not fit {}: start again without --resume", self.partial.display(), self.journal.display());
        }
        file.set_len(journal.bytes)?;
        let mut answers = Answers::new(1, VERDICTS, true);
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece)?;
            if read == 0 {
                break;
            }
            answers.take(&piece[..read])?;
        }
        if !answers.is_whole() || answers.total() != journal.records {
            bail!("{} does not fit {}: start again without --resume", self.partial.display(), self.journal.display());
        }
        file.seek(SeekFrom::End(0))?;
        Ok((journal, file, answers))
    }

    /// Replaces the journal. The verdicts that it counts must be on disk.
    pub(super) fn write(&self, journal: &Journal) -> anyhow::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(self.folder())?;
        serde_json::to_writer(&mut temporary, journal)?;
        temporary.write_all(b"\n")?;
        temporary.as_file().sync_all()?;
        temporary.persist(&self.journal).with_context(|| self.journal.display().to_string())?;
        Ok(())
    }

    /// Puts the verdicts in place of the old ones.
    pub(super) fn finish(&self, file: &File) -> anyhow::Result<()> {
        file.sync_all()?;
        std::fs::rename(&self.partial, &self.out).with_context(|| self.out.display().to_string())?;
        File::open(self.folder())?.sync_all()?;
        match std::fs::remove_file(&self.journal) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Leaves nothing behind of a job that never began.
    pub(super) fn abandon(&self) {
        if !self.journal.exists() {
            // It may never have been there.
            let _ = std::fs::remove_file(&self.partial);
        }
    }

    pub(super) fn has_journal(&self) -> bool {
        self.journal.exists()
    }

    fn folder(&self) -> &Path {
        self.out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}

/// BLAKE3 of a file, hexadecimal: the quickest there is, since it is made of every day's file.
pub(super) fn digest(path: &Path) -> anyhow::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(hasher.finalize().to_string());
        }
        hasher.update(&piece[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_job_at_a_time_writes_to_an_output() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("verdicts.csv"));
        let mut first = paths.begin().unwrap();
        first.write_all(b"record_id,verdict,reason\n").unwrap();
        assert!(paths.begin().is_err(), "a second job began");
        assert_eq!(first.metadata().unwrap().len(), 25, "a second job took away what the first had written");
        paths.finish(&first).unwrap();
        let again = paths.begin().unwrap();
        assert_eq!(std::fs::read(folder.path().join("verdicts.csv")).unwrap(), b"record_id,verdict,reason\n");
        drop(again);
    }
}
