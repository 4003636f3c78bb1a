//! The keys' records: whose, for what, in which state, in which backends. Never key bytes.

mod course;
mod record;
mod seen;
mod shelf;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use claviger_hsm_api::{Algorithm, KeyName, KeyState, KeyVersion, NewKey, Raised, StoredKey};

use crate::store::{KeyRow, ReplicaRow, Store, StoreError};
pub use course::{Course, CourseError, Move, MoveStep};
pub use record::{KeyRecord, KeyUnusable, Origin, Place, Purpose, Replica, Validity, over_at};
use seen::Seen;
use shelf::Shelf;

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
    seen: Seen,
}

impl Entry {
    /// A key that no backend has made yet.
    pub fn draft(record: KeyRecord) -> Self {
        Self { record, replicas: Vec::new(), course: Course::default(), version: 0, seen: Seen::default() }
    }

    /// The key as a backend has it.
    pub fn stored(&self, replica: &Replica) -> StoredKey {
        let key = NewKey { state: replica.state, ..self.record.key.clone() };
        StoredKey { key, kcv: self.record.kcv.clone(), raised: replica.raised, opaque: replica.opaque.clone() }
    }

    /// The copy in a backend, if it is of use: there, in the key's state, and not under a ceiling that is higher.
    pub fn replica_on(&self, backend: &str) -> Option<&Replica> {
        let of_use = |replica: &&Replica| {
            let no_higher = replica.raised.is_none() || replica.raised == self.record.raised;
            replica.backend == backend
                && !replica.opaque.is_empty()
                && replica.state == self.record.key.state
                && no_higher
        };
        self.replicas.iter().find(of_use)
    }

    /// The backends that hold a copy.
    pub fn backends(&self) -> impl Iterator<Item = &str> {
        self.replicas.iter().filter(|replica| !replica.opaque.is_empty()).map(|replica| replica.backend.as_str())
    }

    /// The copies that have not followed the key to its state, or to its ceiling.
    pub fn behind(&self) -> Vec<&Replica> {
        let record = &self.record;
        let behind = |replica: &&Replica| {
            let gone = replica.opaque.is_empty() && replica.state == KeyState::Destroyed;
            replica.state != record.key.state || replica.raised != record.raised && !gone
        };
        self.replicas.iter().filter(behind).collect()
    }

    /// The same key on another course.
    pub fn on_course(&self, course: Course) -> Self {
        Self { course, ..self.clone() }
    }

    /// The same key as it would be in another state.
    pub fn in_state(&self, state: KeyState) -> Self {
        let mut next = self.clone();
        next.record.key.state = state;
        next
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
    keys: RwLock<Shelf>,
    generation: AtomicU64,
}

impl Keyring {
    /// Reads every record of the store.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn load(store: Store) -> Result<Self, KeyringError> {
        let mut replicas: HashMap<String, Vec<ReplicaRow>> = HashMap::new();
        for row in store.replicas().await? {
            replicas.entry(row.key_id.clone()).or_default().push(row);
        }
        let mut keys = Shelf::default();
        for row in store.keys().await? {
            let unreadable = |error| KeyringError::Record { id: row.id.clone(), error };
            let record = serde_json::from_str(&row.record).map_err(unreadable)?;
            let course = serde_json::from_str(&row.course).map_err(unreadable)?;
            let replica = |row: ReplicaRow| {
                let state = serde_json::from_value(row.state.into()).map_err(unreadable)?;
                let raised = serde_json::from_str(&row.raised).map_err(unreadable)?;
                Ok(Replica { backend: row.backend, opaque: row.opaque, state, raised })
            };
            let replicas = replicas.remove(&row.id).unwrap_or_default();
            let replicas = replicas.into_iter().map(replica).collect::<Result<Vec<_>, KeyringError>>()?;
            keys.put(Arc::new(Entry { record, replicas, course, version: row.record_version, seen: Seen::default() }));
        }
        Ok(Self { store, keys: RwLock::new(keys), generation: AtomicU64::new(0) })
    }

    /// Changes whenever any key does: what was read before may be stale.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Has everybody read again what they may do with keys.
    pub fn touch(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The key of that id.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.read().get(id).cloned()
    }

    /// Every key of a tenant, sorted by identity.
    pub fn of_tenant(&self, tenant: &str) -> Vec<Arc<Entry>> {
        let mut found: Vec<_> =
            self.read().all().filter(|entry| entry.record.key.name.tenant() == tenant).cloned().collect();
        found.sort_by_cached_key(|entry| entry.record.identity());
        found
    }

    /// Every key of one name, whatever its version and algorithm, sorted by identity.
    pub fn named(&self, name: &KeyName) -> Vec<Arc<Entry>> {
        self.read().named(name).cloned().collect()
    }

    /// The first key of one name, in that order, that is asked for.
    pub fn find_named(&self, name: &KeyName, wanted: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        self.read().named(name).find(|entry| wanted(entry)).cloned()
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
        let fits = |entry: &&Arc<Entry>| {
            let key = &entry.record.key;
            key.attributes.algorithm == algorithm && key.version == version && factors.starts_with(&key.factors)
        };
        self.read().named(name).filter(fits).max_by_key(|entry| entry.record.key.factors.len()).cloned()
    }

    /// Adds a key; it is on disk before this returns.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if its identity is taken.
    pub async fn insert(&self, record: KeyRecord, replicas: Vec<Replica>) -> Result<Arc<Entry>, KeyringError> {
        let entry = Entry { record, replicas, course: Course::default(), version: 1, seen: Seen::default() };
        let replicas: Vec<ReplicaRow> = entry.replicas.iter().map(|replica| replica_row(entry.id(), replica)).collect();
        self.store.insert_key(&row(&entry)?, &replicas).await?;
        Ok(self.publish(entry))
    }

    /// Gives a key another state. It counts from now on; the replicas follow, each by [`set_replica`](Self::set_replica).
    ///
    /// # Errors
    /// [`KeyringError`]; of [`StoreError::Conflict`] if the key changed since `entry` was read.
    pub async fn set_state(&self, entry: &Entry, state: KeyState) -> Result<Arc<Entry>, KeyringError> {
        let mut record = entry.record.clone();
        if !record.key.state.may_become(state) {
            return Err(KeyringError::State { from: record.key.state, to: state });
        }
        record.key.state = state;
        self.change(entry, record).await
    }

    /// Raises a key's ceiling for a time, or takes that back. It counts from now on; the replicas follow, each by
    /// [`set_replica`](Self::set_replica).
    ///
    /// # Errors
    /// [`KeyringError`]; of [`StoreError::Conflict`] if the key changed since `entry` was read.
    pub async fn set_raised(&self, entry: &Entry, raised: Option<Raised>) -> Result<Arc<Entry>, KeyringError> {
        self.change(entry, KeyRecord { raised, ..entry.record.clone() }).await
    }

    async fn change(&self, entry: &Entry, record: KeyRecord) -> Result<Arc<Entry>, KeyringError> {
        let changed = Entry { record, version: entry.version + 1, ..entry.clone() };
        self.store.replace_key(&row(&changed)?).await?;
        Ok(self.publish(changed))
    }

    /// Whether there are any, or were.
    pub fn has_keys(&self) -> bool {
        self.read().all().next().is_some()
    }

    /// The keys whose ceiling was raised for a time that is over.
    pub fn overdue(&self) -> Vec<Arc<Entry>> {
        let overdue = |entry: &&Arc<Entry>| entry.record.raised.is_some_and(|raised| !raised.holds());
        self.read().all().filter(overdue).cloned().collect()
    }

    /// Adds a copy of a key, or has one follow its state.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn set_replica(&self, key_id: &str, replica: Replica) -> Result<Option<Arc<Entry>>, KeyringError> {
        self.store.set_replica(&replica_row(key_id, &replica)).await?;
        Ok(self.amend(key_id, |entry| {
            let others = entry.replicas.iter().filter(|known| known.backend != replica.backend).cloned();
            Entry { replicas: others.chain([replica.clone()]).collect(), ..entry.clone() }
        }))
    }

    /// Gives a key another course. Its record stays as it is: what is open of it stays open.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub async fn set_course(&self, key_id: &str, course: Course) -> Result<(), KeyringError> {
        let text =
            serde_json::to_string(&course).map_err(|error| KeyringError::Record { id: key_id.to_owned(), error })?;
        self.store.set_course(key_id, &text).await?;
        self.amend(key_id, |entry| entry.on_course(course.clone()));
        Ok(())
    }

    /// Changes what of a key changes without its record.
    fn amend(&self, key_id: &str, change: impl Fn(&Entry) -> Entry) -> Option<Arc<Entry>> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let entry = Arc::new(change(keys.get(key_id)?));
        keys.put(Arc::clone(&entry));
        self.generation.fetch_add(1, Ordering::Release);
        Some(entry)
    }

    /// The keys that some backend has not followed to their state.
    pub fn behind(&self) -> Vec<Arc<Entry>> {
        self.read().all().filter(|entry| !entry.behind().is_empty()).cloned().collect()
    }

    /// The opaque parts of all keys in a backend.
    pub fn held(&self, backend: &str) -> Vec<Vec<u8>> {
        let keys = self.read();
        let replicas = keys.all().flat_map(|entry| &entry.replicas);
        replicas.filter(|replica| replica.backend == backend).map(|replica| replica.opaque.clone()).collect()
    }

    /// The store behind it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn publish(&self, mut entry: Entry) -> Arc<Entry> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // What was set beside the record since the entry was read stays.
        if let Some(known) = keys.get(entry.id()) {
            (entry.course, entry.replicas) = (known.course.clone(), known.replicas.clone());
        }
        let entry = Arc::new(entry);
        keys.put(Arc::clone(&entry));
        self.generation.fetch_add(1, Ordering::Release);
        entry
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Shelf> {
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

fn replica_row(key_id: &str, replica: &Replica) -> ReplicaRow {
    ReplicaRow {
        key_id: key_id.to_owned(),
        backend: replica.backend.clone(),
        opaque: replica.opaque.clone(),
        state: replica.state.to_string(),
        raised: serde_json::to_string(&replica.raised).unwrap_or_else(|_| "null".to_owned()),
    }
}
