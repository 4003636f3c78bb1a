//! The embedded store: SQLite, write-ahead log, `synchronous=FULL`.
//!
//! It keeps records as opaque text beside the few columns that must be unique or compared; what the
//! records mean is the keyring's business. What an `await` here has answered survives a power cut.

mod ceremonies;
mod proposals;
mod terminals;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, Sqlite, SqliteConnection, Transaction};

pub use proposals::{ProposalRow, VoteRow};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do it.
    #[error("the store failed: {0}")]
    Database(#[from] sqlx::Error),
    /// A key of that identity is already there, in whatever state.
    #[error("a key of this name, algorithm, version and factors exists already")]
    Exists,
    /// Somebody changed the record in between.
    #[error("the record was changed by somebody else in the meantime")]
    Conflict,
    /// A terminal of a restored store, whose counter nobody has set yet.
    #[error("the store was restored from a backup: an officer must first say the last number that the terminal used")]
    Held,
    /// Somebody took the file away, or put another in its place.
    #[error("{0} is not the file that was opened any more: stop the daemon, and see to it")]
    Gone(PathBuf),
    /// The file cannot be looked at.
    #[error("the store's file: {0}")]
    File(#[from] std::io::Error),
    /// Written by a newer Claviger.
    #[error("the store has schema {found}, this version knows up to {known}")]
    TooNew {
        /// Of the file.
        found: i64,
        /// Of this program.
        known: i64,
    },
}

/// A key's row: what must be unique, the version that compare-and-swap goes by, and the record.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// Unique for ever.
    pub id: String,
    /// Canonical text of name, algorithm, version and factors.
    pub identity: String,
    /// Counts changes, from one.
    pub record_version: i64,
    /// The record, as the keyring writes it.
    pub record: String,
    /// Which backend is asked first, as the keyring writes it; it changes by itself.
    pub course: String,
}

/// One backend's copy of a key.
#[derive(Debug, Clone)]
pub struct ReplicaRow {
    /// The key.
    pub key_id: String,
    /// The backend's configured name.
    pub backend: String,
    /// The backend's own; never a plain key.
    pub opaque: Vec<u8>,
    /// The key's state as the backend has it.
    pub state: String,
    /// The ceiling as it is raised for a time in the backend, as the keyring writes it.
    pub raised: String,
}

/// The open database.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
    /// Which file that was when it was opened.
    file: (u64, u64),
}

const SCHEMA: i64 = 7;
const MIGRATIONS: [&str; SCHEMA as usize] = [
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        identity TEXT NOT NULL UNIQUE,
        record_version INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE TABLE replicas (
        key_id TEXT NOT NULL REFERENCES keys (id),
        backend TEXT NOT NULL,
        opaque BLOB NOT NULL,
        PRIMARY KEY (key_id, backend)
    ) STRICT;
    CREATE TABLE terminals (
        tenant TEXT NOT NULL,
        terminal_id TEXT NOT NULL,
        ttc INTEGER NOT NULL,
        PRIMARY KEY (tenant, terminal_id)
    ) STRICT;
",
    "
    CREATE TABLE intents (
        key_id TEXT NOT NULL,
        backend TEXT NOT NULL,
        PRIMARY KEY (key_id, backend)
    ) STRICT;
",
    "
    ALTER TABLE keys ADD COLUMN course TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE replicas ADD COLUMN state TEXT NOT NULL DEFAULT 'active';
    UPDATE replicas SET state = (SELECT json_extract(record, '$.key.state') FROM keys WHERE id = key_id);
",
    "
    CREATE TABLE proposals (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        proposer TEXT NOT NULL,
        statement TEXT NOT NULL,
        state TEXT NOT NULL
    ) STRICT;
    CREATE TABLE votes (
        proposal_id TEXT NOT NULL REFERENCES proposals (id),
        officer TEXT NOT NULL,
        vote TEXT NOT NULL,
        signed TEXT NOT NULL,
        PRIMARY KEY (proposal_id, officer)
    ) STRICT;
",
    "
    CREATE TABLE ceremonies (id TEXT PRIMARY KEY, tenant TEXT NOT NULL) STRICT;
    CREATE TABLE ceremony_lines (
        ceremony_id TEXT NOT NULL REFERENCES ceremonies (id),
        n INTEGER NOT NULL,
        line TEXT NOT NULL,
        PRIMARY KEY (ceremony_id, n)
    ) STRICT;
",
    "
    ALTER TABLE terminals ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
",
    "
    ALTER TABLE replicas ADD COLUMN raised TEXT NOT NULL DEFAULT 'null';
",
];

/// Which file it is, whatever it is called.
fn which(path: &Path) -> std::io::Result<(u64, u64)> {
    let about = std::fs::metadata(path)?;
    Ok((about.dev(), about.ino()))
}

impl Store {
    /// Opens or makes the database and brings it to this version's schema.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str("sqlite:")?
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            .pragma("secure_delete", "ON");
        // One whose transaction could be neither committed nor taken back, as when the disk was full, is of no use any more.
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
        let pool = pool.connect_with(options).await?;
        let store = Self { pool, path: path.to_owned(), file: which(path)? };
        store.migrate().await?;
        Ok(store)
    }

    /// Writes a copy of the whole database to a file that is not there yet, as it is in one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        sqlx::query("VACUUM INTO ?").bind(path.display().to_string()).execute(self.writable()?).await?;
        Ok(())
    }

    /// Where changes are made; nowhere, once the file was taken away or replaced: nobody would find them after the next start.
    fn writable(&self) -> Result<&SqlitePool, StoreError> {
        match which(&self.path) {
            Ok(file) if file == self.file => Ok(&self.pool),
            _ => Err(StoreError::Gone(self.path.clone())),
        }
    }

    /// Begins a change of several steps, both or none of which are done.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writable()?.begin_with("BEGIN IMMEDIATE").await?)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let found: i64 = sqlx::query("PRAGMA user_version").fetch_one(&mut *transaction).await?.try_get(0)?;
        if found > SCHEMA {
            return Err(StoreError::TooNew { found, known: SCHEMA });
        }
        for step in MIGRATIONS.iter().skip(found as usize) {
            sqlx::raw_sql(*step).execute(&mut *transaction).await?;
        }
        // A number of ours, and no text of anybody's.
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {SCHEMA}")))
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Writes a named value over another.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replace_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE meta SET value = ? WHERE name = ?")
            .bind(value)
            .bind(name)
            .execute(self.writable()?)
            .await?;
        // What it was before opens something.
        self.scrub_log().await;
        Ok(())
    }

    /// A named value that was written once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT value FROM meta WHERE name = ?").bind(name).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Writes a named value, whether it is there or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let write = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value";
        sqlx::query(write).bind(name).bind(value).execute(self.writable()?).await?;
        Ok(())
    }

    /// Writes a named value unless it is there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is.
    pub async fn write_meta_once(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let done = sqlx::query("INSERT OR IGNORE INTO meta (name, value) VALUES (?, ?)")
            .bind(name)
            .bind(value)
            .execute(self.writable()?)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// What this store was made with, to tell it from every other: 16 random bytes, hexadecimal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn installation(&self) -> Result<String, StoreError> {
        sqlx::query("INSERT OR IGNORE INTO meta (name, value) VALUES ('installation', lower(hex(randomblob(16))))")
            .execute(self.writable()?)
            .await?;
        let found = sqlx::query("SELECT value FROM meta WHERE name = 'installation'").fetch_one(&self.pool).await?;
        Ok(found.try_get(0)?)
    }

    /// Every key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let rows = sqlx::query("SELECT id, identity, record_version, record, course FROM keys ORDER BY identity")
            .fetch_all(&self.pool)
            .await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(KeyRow {
                id: row.try_get(0)?,
                identity: row.try_get(1)?,
                record_version: row.try_get(2)?,
                record: row.try_get(3)?,
                course: row.try_get(4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Every replica.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        let rows =
            sqlx::query("SELECT key_id, backend, opaque, state, raised FROM replicas").fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(ReplicaRow {
                key_id: row.try_get(0)?,
                backend: row.try_get(1)?,
                opaque: row.try_get(2)?,
                state: row.try_get(3)?,
                raised: row.try_get(4)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Adds a key and its replicas, both or neither.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if a key of this identity is there.
    pub async fn insert_key(&self, key: &KeyRow, replicas: &[ReplicaRow]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let inserted =
            sqlx::query("INSERT INTO keys (id, identity, record_version, record, course) VALUES (?, ?, ?, ?, ?)")
                .bind(&key.id)
                .bind(&key.identity)
                .bind(key.record_version)
                .bind(&key.record)
                .bind(&key.course)
                .execute(&mut *transaction)
                .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(StoreError::Exists),
            other => other?,
        };
        for replica in replicas {
            write_replica(&mut transaction, replica).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Writes down that a backend is about to make a copy of a key, before it does. What is not settled by that copy,
    /// or by [`forget`](Self::forget), was interrupted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn intend(&self, key_id: &str, backends: &[String]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for backend in backends {
            sqlx::query("INSERT OR IGNORE INTO intents (key_id, backend) VALUES (?, ?)")
                .bind(key_id)
                .bind(backend)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// What was begun and neither settled nor forgotten: keys' ids and backends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn intents(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = sqlx::query("SELECT key_id, backend FROM intents").fetch_all(&self.pool).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Forgets what was begun of a key in a backend: nothing of it is left there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget(&self, key_id: &str, backend: &str) -> Result<(), StoreError> {
        let forget = sqlx::query("DELETE FROM intents WHERE key_id = ? AND backend = ?");
        forget.bind(key_id).bind(backend).execute(self.writable()?).await?;
        Ok(())
    }

    /// Replaces a key's record if it still is at the version before `key.record_version`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is not.
    pub async fn replace_key(&self, key: &KeyRow) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE keys SET record = ?, record_version = ? WHERE id = ? AND record_version = ?")
            .bind(&key.record)
            .bind(key.record_version)
            .bind(&key.id)
            .bind(key.record_version - 1)
            .execute(self.writable()?)
            .await?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// Adds or replaces a copy of a key; that it was to be made is settled.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_replica(&self, replica: &ReplicaRow) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        write_replica(&mut transaction, replica).await?;
        transaction.commit().await?;
        if replica.opaque.is_empty() {
            self.scrub_log().await;
        }
        Ok(())
    }

    /// Writes a key's course.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_course(&self, key_id: &str, course: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE keys SET course = ? WHERE id = ?")
            .bind(course)
            .bind(key_id)
            .execute(self.writable()?)
            .await?;
        Ok(())
    }

    /// Writes the log into the database and cuts it off, so that a sealed key of before does not stay behind in it.
    /// The change itself is done, whatever becomes of this.
    async fn scrub_log(&self) {
        for _ in 0..20 {
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool).await;
            match row.and_then(|row| row.try_get::<i64, _>(0)) {
                Ok(0) => return,
                // Somebody reads or writes just now.
                Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => {
                    tracing::error!(%error, "the store's log could not be cut off");
                    return;
                }
            }
        }
        tracing::warn!("the store's log is busy: a destroyed key stays in it, sealed, until the next start");
    }
}

async fn write_replica(connection: &mut SqliteConnection, replica: &ReplicaRow) -> Result<(), StoreError> {
    let write = "INSERT INTO replicas (key_id, backend, opaque, state, raised) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET opaque = excluded.opaque, state = excluded.state, raised = excluded.raised";
    sqlx::query(write)
        .bind(&replica.key_id)
        .bind(&replica.backend)
        .bind(&replica.opaque)
        .bind(&replica.state)
        .bind(&replica.raised)
        .execute(&mut *connection)
        .await?;
    // That a backend was about to make it is settled; what others have begun of the key is not.
    sqlx::query("DELETE FROM intents WHERE key_id = ? AND backend = ?")
        .bind(&replica.key_id)
        .bind(&replica.backend)
        .execute(connection)
        .await?;
    Ok(())
}
