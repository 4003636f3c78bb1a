//! Backups of a running daemon, and what a restored one must be told.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::{Caller, Service, ServiceError, blocking};
use crate::audit::Event;
use crate::backup::{BackupError, BackupKey, Header, NAMES};
use crate::policy::Resource;
use crate::seal;
use crate::store::StoreError;

/// A backup that is ready to be written.
pub struct Backup {
    key: Arc<BackupKey>,
    header: Header,
    files: Vec<(&'static str, File, u64)>,
}

impl Backup {
    /// Writes it.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn write(self, out: impl Write) -> Result<(), BackupError> {
        self.key.write(&self.header, &self.files, out)
    }
}

impl Service {
    /// Takes hold of everything that a backup has, as it is now; the daemon goes on.
    pub(super) async fn back_up(&self, caller: &Caller, action: &'static str) -> Result<Backup, ServiceError> {
        let permit = self.decide(caller, action, &[Resource::Daemon], 1).await?;
        let taken = self.take_backup().await;
        let statement = taken.as_ref().map(|backup| format!("backup of {}", backup.header.created)).unwrap_or_default();
        self.settle(caller, &permit, Event { statement, ..Event::default() }, taken).await
    }

    async fn take_backup(&self) -> Result<Backup, ServiceError> {
        let key = self.backup_key.get().cloned().ok_or(ServiceError::Sealed)?;
        let header = Header::new(self.installation.clone(), seal::text_of(&self.store).await?)?;
        let mut name = [0; 8];
        getrandom::fill(&mut name).map_err(|_| ServiceError::Internal)?;
        let copy = self.data.join(format!("backup-{}.db", hex::encode(name)));
        // No policy set is taken between the one and the other: which it was would not be known.
        let _same = self.waiting.lock().await;
        let copied = self.store.copy_to(&copy).await;
        let data = self.data.clone();
        // The log is taken after the store: it may know more, and never less.
        let files = blocking(move || {
            let opened = File::open(&copy);
            let _ = std::fs::remove_file(&copy);
            copied?;
            Ok(files(opened.map_err(BackupError::from)?, &data)?)
        });
        Ok(Backup { key, header, files: files.await? })
    }

    /// Sets the last number that a terminal has used, as its own records or the clearing's say.
    pub(super) async fn set_terminal(
        &self,
        caller: &Caller,
        action: &'static str,
        tenant: String,
        terminal: &str,
        last: u32,
    ) -> Result<(), ServiceError> {
        self.enter(caller, &tenant).await?;
        let permit = self.decide(caller, action, &[Resource::Tenant(tenant.clone())], 1).await?;
        let set = self.store.set_ttc(&tenant, terminal, last).await.map_err(|error| match error {
            StoreError::Conflict => below(),
            error => error.into(),
        });
        let statement = format!("terminal {terminal} has used {last}");
        self.settle(caller, &permit, Event { tenant, statement, ..Event::default() }, set).await
    }
}

/// What a terminal's number is that would be given again.
pub(super) fn below() -> ServiceError {
    ServiceError::field("last", "is below a number that the terminal has used")
}

/// The files of a backup, each open and as long as it is now.
fn files(copy: File, data: &Path) -> Result<Vec<(&'static str, File, u64)>, BackupError> {
    let [store, log, head] = NAMES;
    let len = copy.metadata()?.len();
    let mut files = vec![(store, copy, len)];
    // The signed end before the log: what it signs is in it then.
    if let Ok(file) = File::open(data.join(head)) {
        let len = file.metadata()?.len();
        files.push((head, file, len));
    }
    let mut file = File::open(data.join(log))?;
    let len = whole_lines(&mut file)?;
    files.push((log, file, len));
    Ok(files)
}

/// Bytes of a log up to the end of its last line: another may be half written.
fn whole_lines(log: &mut File) -> std::io::Result<u64> {
    let mut end = log.metadata()?.len();
    let mut piece = [0; 4096];
    while end > 0 {
        let from = end.saturating_sub(piece.len() as u64);
        let bytes = &mut piece[..(end - from) as usize];
        log.seek(SeekFrom::Start(from))?;
        log.read_exact(bytes)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            end = from + at as u64 + 1;
            break;
        }
        end = from;
    }
    log.seek(SeekFrom::Start(0))?;
    Ok(end)
}
