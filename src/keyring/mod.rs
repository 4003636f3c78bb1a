//! The keys' records: whose, for what, in which state, in which backends. Never key bytes.

mod course;
mod record;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use claviger_hsm_api::{Algorithm, KeyName, KeyState, KeyVersion, StoredKey};

use crate::store::{KeyRow, ReplicaRow, Store, StoreError};
pub use course::{Course, CourseError, Move, MoveStep};
pub use record::{KeyRecord, KeyUnusable, Origin, Place, Purpose, Replica, Validity};

/// A key as it is now. Changing it makes a new one.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its record.
    pub record: KeyRecord,
    /// Its copies.
    pub replicas: Vec<Replica>,
    /// Where calls for it go first.
    pub course: Course,
    version: i64,
}

impl Entry {
    /// A key that no backend has made yet.
    pub fn draft(record: KeyRecord) -> Self {
        Self { record, replicas: Vec::new(), course: Course::default(), version: 0 }
    }

    /// The key as a backend is asked to open it.
    pub fn stored(&self, replica: &Replica) -> StoredKey {
        StoredKey { key: self.record.key.clone(), kcv: self.record.kcv.clone(), opaque: replica.opaque.clone() }
    }

    /// The same key on another course.
    pub fn on_course(&self, course: Course) -> Self {
        Self { course, ..self.clone() }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.key.id
    }

    /// Counts changes of the record.
    pub fn record_version(&self) -> i64 {
        self.version
    }
}

/// A failure of the keyring.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record of the store cannot be read.
    #[error("the record of key {id} cannot be read: {error}")]
    Record {
        /// The key.
        id: String,
        /// Why.
        error: serde_json::Error,
    },
    /// The step of a move is not the next one.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// SP 800-57 does not allow the step.
    #[error("a key that is {from} cannot become {to}")]
    State {
        /// Its state.
        from: KeyState,
        /// The state asked for.
        to: KeyState,
    },
}

/// All keys, in memory as in the store.
pub struct Keyring {
    store: Store,
    keys: RwLock<HashMap<String, Arc<Entry>>>,
    generation: AtomicU64,
}

impl Keyring {
    /// Reads every record of the store.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn load(store: Store) -> Result<Self, KeyringError> {
        let mut replicas: HashMap<String, Vec<Replica>> = HashMap::new();
        for row in store.replicas().await? {
            replicas.entry(row.key_id).or_default().push(Replica { backend: row.backend, opaque: row.opaque });
        }
        let mut keys = HashMap::new();
        for row in store.keys().await? {
            let unreadable = |error| KeyringError::Record { id: row.id.clone(), error };
            let record = serde_json::from_str(&row.record).map_err(unreadable)?;
            let course = serde_json::from_str(&row.course).map_err(unreadable)?;
            let replicas = replicas.remove(&row.id).unwrap_or_default();
            keys.insert(row.id, Arc::new(Entry { record, replicas, course, version: row.record_version }));
        }
        Ok(Self { store, keys: RwLock::new(keys), generation: AtomicU64::new(0) })
    }

    /// Changes whenever any key does: what was read before may be stale.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The key of that id.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.read().get(id).cloned()
    }

    /// Every key of a tenant, sorted by identity.
    pub fn of_tenant(&self, tenant: &str) -> Vec<Arc<Entry>> {
        let mut found: Vec<_> =
            self.read().values().filter(|entry| entry.record.key.name.tenant() == tenant).cloned().collect();
        found.sort_by_cached_key(|entry| entry.record.identity());
        found
    }

    /// Every key of one name, whatever its version and algorithm.
    pub fn named(&self, name: &KeyName) -> Vec<Arc<Entry>> {
        let mut found: Vec<_> = self.read().values().filter(|entry| entry.record.key.name == *name).cloned().collect();
        found.sort_by_cached_key(|entry| entry.record.identity());
        found
    }

    /// The one key of a name, algorithm and version whose held factors lead where `factors` lead (a prefix
    /// of them); the one that holds most.
    pub fn select(
        &self,
        name: &KeyName,
        algorithm: Algorithm,
        version: KeyVersion,
        factors: &[String],
    ) -> Option<Arc<Entry>> {
        let fits = |entry: &Arc<Entry>| {
            let key = &entry.record.key;
            key.attributes.algorithm == algorithm && key.version == version && factors.starts_with(&key.factors)
        };
        self.named(name).into_iter().filter(fits).max_by_key(|entry| entry.record.key.factors.len())
    }

    /// Adds a key; it is on disk before this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if its identity is taken.
    pub async fn insert(&self, record: KeyRecord, replicas: Vec<Replica>) -> Result<Arc<Entry>, KeyringError> {
        let entry = Entry { record, replicas, course: Course::default(), version: 1 };
        self.store.insert_key(&row(&entry)?, &replica_rows(&entry)).await?;
        Ok(self.publish(entry))
    }

    /// Gives a key another state; the new replicas carry it.
    ///
    /// # Errors
    /// [`KeyringError`]; of [`StoreError::Conflict`] if the key changed since `entry` was read.
    pub async fn set_state(
        &self,
        entry: &Entry,
        state: KeyState,
        replicas: Vec<Replica>,
    ) -> Result<Arc<Entry>, KeyringError> {
        let mut record = entry.record.clone();
        if !record.key.state.may_become(state) {
            return Err(KeyringError::State { from: record.key.state, to: state });
        }
        record.key.state = state;
        let changed = Entry { record, replicas, version: entry.version + 1, course: entry.course.clone() };
        self.store.replace_key(&row(&changed)?, &replica_rows(&changed)).await?;
        Ok(self.publish(changed))
    }

    /// Adds a copy of a key.
    ///
    /// # Errors
    /// [`KeyringError`]; of [`StoreError::Conflict`] if the key changed since `entry` was read.
    pub async fn add_replica(&self, entry: &Entry, replica: Replica) -> Result<Arc<Entry>, KeyringError> {
        let others = entry.replicas.iter().filter(|known| known.backend != replica.backend).cloned();
        let replicas = others.chain([replica.clone()]).collect();
        let changed = Entry { replicas, version: entry.version + 1, ..entry.clone() };
        self.store.replace_key(&row(&changed)?, &replica_rows(&changed)).await?;
        Ok(self.publish(changed))
    }

    /// Gives a key another course. Its record stays as it is: what is open of it stays open.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn set_course(&self, key_id: &str, course: Course) -> Result<(), KeyringError> {
        let text = serde_json::to_string(&course)
            .map_err(|error| KeyringError::Record { id: key_id.to_owned(), error })?;
        self.store.set_course(key_id, &text).await?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = keys.get_mut(key_id) {
            *entry = Arc::new(entry.on_course(course));
        }
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn publish(&self, mut entry: Entry) -> Arc<Entry> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // A course that was set since the entry was read stays.
        if let Some(known) = keys.get(entry.id()) {
            entry.course = known.course.clone();
        }
        let entry = Arc::new(entry);
        keys.insert(entry.id().to_owned(), Arc::clone(&entry));
        self.generation.fetch_add(1, Ordering::Release);
        entry
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<String, Arc<Entry>>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row(entry: &Entry) -> Result<KeyRow, KeyringError> {
    let id = entry.id().to_owned();
    let record =
        serde_json::to_string(&entry.record).map_err(|error| KeyringError::Record { id: id.clone(), error })?;
    let course =
        serde_json::to_string(&entry.course).map_err(|error| KeyringError::Record { id: id.clone(), error })?;
    Ok(KeyRow { id, identity: entry.record.identity(), record_version: entry.version, record, course })
}

fn replica_rows(entry: &Entry) -> Vec<ReplicaRow> {
    let row = |replica: &Replica| ReplicaRow {
        key_id: entry.id().to_owned(),
        backend: replica.backend.clone(),
        opaque: replica.opaque.clone(),
    };
    entry.replicas.iter().map(row).collect()
}
