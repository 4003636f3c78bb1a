//! The life of keys.

use std::sync::Arc;

use claviger_hsm_api::{
    Algorithm, Batch, Exportability, Finish, KcvFunction, KcvRule, KeyState, NewKey, Recipe, Secret,
};
use jiff::Timestamp;

use super::exchange::path;
use super::{Caller, Service, ServiceError, blocking};
use crate::audit::{Event, KEYS};
use crate::keyring::{Entry, KeyRecord, KeyringError, Origin};
use crate::operation::{KeyRef, KeyRequest};
use crate::policy::{Permit, Resource};
use crate::routing::Made;

impl Service {
    pub(super) async fn generate_key(
        &self,
        caller: &Caller,
        action: &'static str,
        request: KeyRequest,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        self.enter(caller, request.name.tenant()).await?;
        let draft = self.draft(&request, Origin::Generated)?;
        let there = router.destinations(&draft.record, &request.backends);
        let made = Resource::of(&draft).and_in(there.as_deref().unwrap_or_default());
        let permit = Arc::new(self.decide(caller, action, &[made], 1).await?);
        let backends = there?;
        if request.backends.len() > 1 {
            return Err(ServiceError::field("backends", "a key that is made inside is made in one: replicate it then"));
        }
        let (key, inside, there) = (draft.record.key.clone(), Arc::clone(&permit), backends.clone());
        let result = self.make(draft, &backends, move || Ok(router.generate(&inside, &key, &there)?)).await;
        self.settle_key(caller, &permit, &request, result).await
    }

    pub(super) async fn import_key(
        &self,
        caller: &Caller,
        action: &'static str,
        request: KeyRequest,
        components: Vec<Secret>,
        kcv: Option<String>,
        odd_parity: bool,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        self.enter(caller, request.name.tenant()).await?;
        let draft = self.draft(&request, Origin::Components)?;
        let there = router.destinations(&draft.record, &request.backends);
        let made = Resource::of(&draft).and_in(there.as_deref().unwrap_or_default());
        let permit = Arc::new(self.decide(caller, action, &[made], 1).await?);
        let backends = there?;
        // Which of two lengths is wrong says the algorithm, if it has one.
        let len = match request.algorithm {
            Algorithm::HmacSm3 | Algorithm::HmacSha256 => components.first().map_or(0, Secret::len),
            algorithm => algorithm.key_len(),
        };
        let joined = Secret::from_components(&components, len, odd_parity).map_err(ServiceError::from);
        let (key, inside, there) = (draft.record.key.clone(), Arc::clone(&permit), backends.clone());
        let each = !request.backends.is_empty();
        let import = move || {
            let made = router.import(&inside, &key, &joined?, &there, each)?;
            shows(&made, kcv.as_deref())?;
            Ok(made)
        };
        let result = self.make(draft, &backends, import).await;
        self.settle_key(caller, &permit, &request, result).await
    }

    pub(super) async fn list_keys(
        &self,
        caller: &Caller,
        action: &'static str,
        tenant: String,
    ) -> Result<Vec<Arc<Entry>>, ServiceError> {
        self.router()?;
        let entered = self.enter(caller, &tenant).await?;
        let entries = self.keyring.of_tenant(&tenant);
        if entries.is_empty() {
            // There is no key to decide about; that somebody looked is written down all the same.
            return self.settle(caller, &entered, Event { tenant, ..Event::default() }, Ok(entries)).await;
        }
        let resources: Vec<Resource> = entries.iter().map(|entry| Resource::of(entry)).collect();
        let permit = self.decide(caller, action, &resources, entries.len() as u64).await?;
        let event = Event { tenant, counts: [(KEYS.to_owned(), entries.len() as u64)].into(), ..Event::default() };
        self.settle(caller, &permit, event, Ok(entries)).await
    }

    pub(super) async fn show_key(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
    ) -> Result<Arc<Entry>, ServiceError> {
        self.router()?;
        let entry = self.known(caller, id).await?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        self.settle(caller, &permit, key_event(&entry.record), Ok(entry)).await
    }

    pub(super) async fn set_key_state(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        state: KeyState,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        let _alone = self.copying.lock().await;
        let entry = self.known(caller, id).await?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        let result = async {
            router.may_restate(&permit, id, state)?;
            if !entry.record.key.state.may_become(state) {
                return Err(KeyringError::State { from: entry.record.key.state, to: state }.into());
            }
            // A key that is to do something again is in its backends first: no call finds it usable and them behind.
            if state.may_protect() {
                self.follow(&router, &Arc::new(entry.in_state(state))).await;
            }
            // Otherwise the record is first: a backend that does not answer now follows later.
            let changed = self.keyring.set_state(&entry, state).await?;
            // Whatever is open of the key is gone before anybody hears of the change.
            tokio::task::block_in_place(|| router.purge(id, changed.record_version()));
            self.follow(&router, &changed).await;
            Ok(self.keyring.find(id).unwrap_or(changed))
        }
        .await;
        let event = Event { counts: [(state.to_string(), 1)].into(), ..key_event(&entry.record) };
        self.settle(caller, &permit, event, result).await
    }

    /// Keeps a child of a stored key inside, as a key of its own.
    pub(super) async fn disperse_key(
        &self,
        caller: &Caller,
        action: &'static str,
        parent: KeyRef,
        factors: Vec<String>,
    ) -> Result<Arc<Entry>, ServiceError> {
        let scheme = self.enter_scheme(caller, parent.name.tenant(), parent.name.scheme()).await?;
        let parent = self.referenced(&parent)?;
        let above = &parent.record.key;
        let request = KeyRequest {
            name: above.name.clone(),
            version: above.version,
            algorithm: above.attributes.algorithm,
            factors: above.factors.iter().chain(&factors).cloned().collect(),
            ceiling: Some(above.attributes.ceiling),
            validity: parent.record.validity.clone(),
            backends: Vec::new(),
            places: parent.record.places.clone(),
            movable: above.attributes.exportability != Exportability::None,
            sensitive: above.attributes.exportability == Exportability::Sensitive,
        };
        let draft = self.draft(&request, Origin::Dispersed)?;
        let backends: Vec<String> = parent.backends().map(str::to_owned).collect();
        let child = Resource::of(&draft).and_in(&backends);
        let permit = self.decide(caller, action, &[Resource::of(&parent), child], 1).await?;
        let prepared = scheme.disperse(&draft.record.key, above.factors.len()).map_err(ServiceError::from);
        let (router, from) = (self.router()?, Arc::clone(&parent));
        let permit = Arc::new(permit);
        let inside = Arc::clone(&permit);
        let derive = move || {
            let (recipe, batch) = prepared?;
            Ok(router.derive(&inside, &from, &recipe, &batch)?)
        };
        let result = self.make(draft, &backends, derive).await;
        self.settle_key(caller, &permit, &request, result).await
    }

    /// The key's check value by another rule than the one it is stored with.
    pub(super) async fn compute_kcv(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        rule: KcvRule,
    ) -> Result<Vec<u8>, ServiceError> {
        // All that is shown of a symmetric key: more would be a key of GCM, or a MAC that verifies.
        if rule.function != KcvFunction::Fingerprint && rule.take > KcvRule::ZEROS.take {
            return Err(ServiceError::field("take", "must be 1 to 3"));
        }
        let entry = self.known(caller, id).await?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        let recipe = Recipe::single(path(0, &entry.record.key.attributes), Finish::Kcv { rule });
        let read = |outcome: &claviger_hsm_api::Outcome, _: &str| outcome.bytes(0, 0).unwrap_or_default().to_vec();
        self.perform(caller, permit, vec![entry], Ok((recipe, Batch::one(Vec::new(), 1))), read).await
    }

    /// The key as it will be, before any backend has made it: what policy decides about.
    pub(super) fn draft(&self, request: &KeyRequest, origin: Origin) -> Result<Entry, ServiceError> {
        let scheme = self.scheme(request.name.scheme())?;
        let (mut attributes, kcv_rule) =
            scheme.attributes(request.name.role(), request.algorithm, request.factors.len())?;
        if let Some(ceiling) = request.ceiling {
            if ceiling > attributes.ceiling {
                return Err(ServiceError::field(
                    "ceiling",
                    format!("is above {}, which only a ceremony may raise", attributes.ceiling),
                ));
            }
            attributes.ceiling = ceiling;
        }
        if request.movable {
            attributes.exportability = Exportability::Trusted;
        }
        if request.sensitive {
            attributes.exportability = Exportability::Sensitive;
        }
        let role = scheme.role(request.name.role())?;
        for (level, factor) in request.factors.iter().enumerate() {
            if scheme.factor_width(&role, level) != Some(factor.len() / 2) {
                return Err(ServiceError::field(
                    "factors",
                    format!("number {} is not as long as the scheme's", level + 1),
                ));
            }
        }
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| ServiceError::Stopped)?;
        let key = NewKey {
            id: hex::encode(id),
            name: request.name.clone(),
            version: request.version,
            factors: request.factors.clone(),
            attributes,
            state: KeyState::Active,
            kcv_rule,
        };
        let kcv = claviger_hsm_api::Kcv { value: String::new(), rule: kcv_rule };
        let record = KeyRecord {
            key,
            kcv,
            origin,
            places: if request.places.is_empty() {
                self.router()?.places(&request.backends)?
            } else {
                request.places.clone()
            },
            validity: request.validity.clone(),
            created: Timestamp::now(),
            proof: None,
            raised: None,
        };
        Ok(Entry::draft(record))
    }

    /// Has backends make a key and keeps its record: both or neither. That they are about to is written down before
    /// they do, so that what a crash leaves half done can be undone.
    pub(super) async fn make(
        &self,
        draft: Entry,
        backends: &[String],
        make: impl FnOnce() -> Result<Made, ServiceError> + Send + 'static,
    ) -> Result<Arc<Entry>, ServiceError> {
        let id = draft.id().to_owned();
        let _under_way = self.under_way.begin(&id);
        self.store.intend(&id, backends).await?;
        let kept = match blocking(make).await {
            Ok(made) => {
                let record = KeyRecord { kcv: made.stored.kcv, proof: made.proof, ..draft.record };
                self.keyring.insert(record, made.replicas).await.map_err(ServiceError::from)
            }
            Err(error) => Err(error),
        };
        if kept.is_err() {
            self.undo(&id, backends).await;
        }
        kept
    }

    pub(super) async fn settle_key(
        &self,
        caller: &Caller,
        permit: &Permit,
        request: &KeyRequest,
        result: Result<Arc<Entry>, ServiceError>,
    ) -> Result<Arc<Entry>, ServiceError> {
        self.settle_key_as(caller, permit, request, Event::default(), result).await
    }

    /// The same, with more in its record.
    pub(super) async fn settle_key_as(
        &self,
        caller: &Caller,
        permit: &Permit,
        request: &KeyRequest,
        told: Event,
        result: Result<Arc<Entry>, ServiceError>,
    ) -> Result<Arc<Entry>, ServiceError> {
        let label = format!("{} {} {}", request.name, request.algorithm, request.version);
        let kcv = result.as_ref().map(|entry| format!("{label} kcv {}", entry.record.kcv.value)).unwrap_or(label);
        let mut event = Event { tenant: request.name.tenant().to_owned(), keys: vec![kcv], ..told };
        if event.statement.is_empty() {
            let times: Vec<String> = request.validity.times().map(|(name, at)| format!("{name} {at}")).collect();
            event.statement = times.join(", ");
        }
        self.settle(caller, permit, event, result).await
    }
}

/// Whether a key that was made shows the check value that it must.
pub(super) fn shows(made: &Made, kcv: Option<&str>) -> Result<(), ServiceError> {
    match kcv {
        Some(given) if !given.eq_ignore_ascii_case(&made.stored.kcv.value) => {
            Err(ServiceError::KcvMismatch { shown: made.stored.kcv.value.clone() })
        }
        _ => Ok(()),
    }
}

pub(super) fn key_event(record: &KeyRecord) -> Event {
    Event { tenant: record.key.name.tenant().to_owned(), keys: vec![record.label()], ..Event::default() }
}

/// A dispersion factor in its canonical spelling.
///
/// # Errors
/// [`ServiceError::Field`].
pub fn factor(text: &str) -> Result<String, ServiceError> {
    match hex::decode(text) {
        Ok(bytes) if hex::encode_upper(&bytes) == text => Ok(text.to_owned()),
        _ => Err(ServiceError::field("factors", "must be upper-case hexadecimal digits in pairs")),
    }
}
