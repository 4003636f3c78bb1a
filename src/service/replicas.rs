//! Copies of keys: adopted from a device, moved between backends, and what interruptions left of them.

use std::sync::Arc;

use claviger_card_schemes::{CardScheme, FieldSet, TacVerifier};
use claviger_hsm_api::{Batch, Exportability, Recipe, Verdict};

use super::keys::{key_event, shows};
use super::transactions::selectable;
use super::{Caller, Moving, Service, ServiceError, blocking};
use crate::audit::Event;
use crate::keyring::{Entry, KeyRecord, KeyringError, MoveStep, Origin};
use crate::operation::{KeyRef, KeyRequest};
use crate::policy::{Permit, Resource};
use crate::routing::{BackendStatus, Router};

impl Service {
    /// Registers a key that a device holds already.
    pub(super) async fn adopt_key(
        &self,
        caller: &Caller,
        action: &'static str,
        request: KeyRequest,
        object: String,
        kcv: Option<String>,
        records: Vec<FieldSet>,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        let scheme = Arc::clone(self.scheme(request.name.scheme())?);
        let makes_tacs = scheme.tac_role().is_some_and(|role| role.name() == request.name.role());
        if !records.is_empty() && !makes_tacs {
            return Err(ServiceError::field("records", "hold TACs, which keys of this role do not make"));
        }
        self.enter(caller, request.name.tenant()).await?;
        let draft = self.draft(&request, Origin::Adopted)?;
        let adopted = Resource::of(&draft).and_in(&request.backends);
        let permit = Arc::new(self.decide(caller, action, &[adopted], 1).await?);
        let [backend] = request.backends.as_slice() else {
            return Err(ServiceError::field("backends", "must name the one backend that holds the key"));
        };
        router.destinations(&draft.record, &request.backends)?;
        self.is_no_played_device(&router, backend)?;
        let (inside, there, record) = (Arc::clone(&permit), backend.clone(), draft.record);
        let others = self.keyring.held(backend);
        let adopted = blocking(move || {
            let made = router.adopt(&inside, &record.key, &there, &object, &others)?;
            shows(&made, kcv.as_deref())?;
            let record = KeyRecord { kcv: made.stored.kcv, proof: made.proof, ..record };
            let mut entry = Entry::draft(record);
            entry.replicas = made.replicas;
            // A key that is not kept stays open nowhere.
            replay(&router, &inside, scheme, &Arc::new(entry.clone()), &records)
                .inspect_err(|_| router.purge(entry.id(), 1))?;
            Ok(entry)
        });
        // Nothing is made in the device, so there is nothing to undo there.
        let result = match adopted.await {
            Ok(Entry { record, replicas, .. }) => {
                self.keyring.insert(record, replicas).await.map_err(ServiceError::from)
            }
            Err(error) => Err(error),
        };
        self.settle_key(caller, &permit, &request, result).await
    }

    /// Refuses to adopt what a rehearsal's device holds where it would be taken for a key.
    pub(super) fn is_no_played_device(&self, router: &Router, backend: &str) -> Result<(), ServiceError> {
        if router.plays_device(backend)? && !self.rules().is_rehearsal() {
            return Err(ServiceError::field("backends", "must hold the key: this one plays a device for rehearsals"));
        }
        Ok(())
    }

    /// Makes another backend a copy of a key, wrapped on its way under a key that both hold.
    pub(super) async fn replicate_key(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        to: String,
        under: KeyRef,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        let _alone = self.copying.lock().await;
        let _under_way = self.under_way.begin(id);
        let entry = self.known(caller, id).await?;
        let under = self.referenced(&under)?;
        let copied = Resource::of(&entry).and_in(std::slice::from_ref(&to));
        let permit = Arc::new(self.decide(caller, action, &[copied, Resource::of(&under)], 1).await?);
        let result = async {
            if entry.record.key.attributes.exportability == Exportability::None {
                return Err(ServiceError::field("key", "may not move: that was not said when it was made"));
            }
            if entry.replica_on(&to).is_some() {
                return Err(ServiceError::field("to", "holds the key already"));
            }
            router.destinations(&entry.record, std::slice::from_ref(&to))?;
            let destination = std::slice::from_ref(&to);
            self.store.intend(entry.id(), destination).await?;
            let (inside, key, there) = (Arc::clone(&permit), Arc::clone(&entry), to.clone());
            match blocking(move || Ok(router.replicate(&inside, &key, &under, &there)?)).await {
                Ok(replica) => match self.keyring.set_replica(id, replica).await? {
                    Some(copied) => Ok(copied),
                    None => Err(ServiceError::NoKey),
                },
                Err(error) => {
                    self.undo(entry.id(), destination).await;
                    Err(error)
                }
            }
        }
        .await;
        let event = Event { backends: vec![to.clone()], ..key_event(&entry.record) };
        self.settle(caller, &permit, event, result).await
    }

    /// Takes a step of a key's move from one backend to another.
    pub(super) async fn move_key(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        step: MoveStep,
    ) -> Result<Moving, ServiceError> {
        let router = self.router()?;
        let _alone = self.copying.lock().await;
        let entry = self.known(caller, id).await?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        let result = async {
            let now = router.first(&entry)?;
            if let MoveStep::Begin { to } = &step
                && entry.replica_on(to).is_none()
            {
                return Err(ServiceError::field("to", "does not hold the key: replicate it there first"));
            }
            let diverged = router.comparison(id).diverged;
            if step == MoveStep::CutOver && diverged > 0 {
                return Err(ServiceError::Diverged(diverged));
            }
            let course = entry.course.after(step.clone(), &now).map_err(KeyringError::from)?;
            if matches!(step, MoveStep::Begin { .. }) {
                router.forget_comparison(id);
            }
            self.keyring.set_course(id, course.clone()).await?;
            let changed = Arc::new(entry.on_course(course));
            let answers = router.first(&changed)?;
            tracing::info!(key = entry.record.label(), ?step, answers, "a key moves");
            Ok(Moving { answers, moving: changed.course.moving().cloned(), comparison: router.comparison(id) })
        }
        .await;
        self.settle(caller, &permit, key_event(&entry.record), result).await
    }

    /// How a key's move stands.
    pub(super) async fn show_move(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
    ) -> Result<Moving, ServiceError> {
        let router = self.router()?;
        let entry = self.known(caller, id).await?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        let answers = router.first(&entry).map_err(ServiceError::from);
        let moving = entry.course.moving().cloned();
        let result = answers.map(|answers| Moving { answers, moving, comparison: router.comparison(id) });
        self.settle(caller, &permit, key_event(&entry.record), result).await
    }

    pub(super) async fn list_backends(
        &self,
        caller: &Caller,
        action: &'static str,
    ) -> Result<Vec<BackendStatus>, ServiceError> {
        let router = self.router()?;
        let backends = self.rules().surroundings.backends();
        let permit = self.decide(caller, action, &backends, 1).await?;
        self.settle(caller, &permit, Event::default(), Ok(router.status())).await
    }

    /// Undoes what backends have made of a key that is not kept there. What cannot be undone now is undone later.
    pub(super) async fn undo(&self, key_id: &str, backends: &[String]) {
        for backend in backends {
            let Ok(router) = self.router() else { return };
            let (id, there, entry) = (key_id.to_owned(), backend.clone(), self.keyring.find(key_id));
            let abandoned = blocking(move || {
                let kept: Vec<&str> = entry.iter().flat_map(|entry| entry.backends()).collect();
                Ok(router.abandon(&id, &there, &kept)?)
            });
            let forgotten = match abandoned.await {
                Ok(()) => self.store.forget(key_id, backend).await.map_err(ServiceError::from),
                Err(error) => Err(error),
            };
            if let Err(error) = forgotten {
                tracing::warn!(key = key_id, backend, %error, "what was begun of a key is undone later");
            }
        }
    }

    /// Has the backends of a key follow it to its state and its ceiling. One that cannot now does later; why it cannot.
    pub(super) async fn follow(&self, router: &Arc<Router>, entry: &Arc<Entry>) -> Vec<ServiceError> {
        let mut failed = Vec::new();
        // All at once: one that does not answer keeps no other from following.
        let begun: Vec<_> = entry
            .behind()
            .into_iter()
            .map(|replica| {
                let (router, key, replica) = (Arc::clone(router), Arc::clone(entry), replica.clone());
                let backend = replica.backend.clone();
                (backend, tokio::spawn(blocking(move || Ok(router.follow(&key, &replica)?))))
            })
            .collect();
        for (backend, following) in begun {
            let followed = match following.await.unwrap_or(Err(ServiceError::Internal)) {
                Ok(replica) => self.keyring.set_replica(entry.id(), replica).await.map_err(ServiceError::from),
                Err(error) => Err(error),
            };
            if let Err(error) = followed {
                let (key, state) = (entry.record.label(), entry.record.key.state.as_str());
                tracing::warn!(key, backend, state, %error, "a backend follows a key to its state later");
                failed.push(error);
            }
        }
        failed
    }

    /// Finishes what was begun and could not be finished: copies that were never acknowledged are removed, and backends
    /// follow keys to their states. To be called from time to time.
    pub async fn tend(&self) {
        let Ok(router) = self.router() else { return };
        let _alone = self.copying.lock().await;
        self.lower_overdue().await;
        let intents = self.store.intents().await.unwrap_or_else(|error| {
            tracing::error!(%error, "what was begun before cannot be read");
            Vec::new()
        });
        for (key_id, backend) in intents.into_iter().filter(|(key_id, _)| !self.under_way.is_under_way(key_id)) {
            let is_here = |entry: Arc<Entry>| entry.backends().any(|here| here == backend);
            if self.keyring.find(&key_id).is_some_and(is_here) {
                let _ = self.store.forget(&key_id, &backend).await;
                continue;
            }
            tracing::info!(key = key_id, backend, "what was begun of a key and not kept is removed");
            self.undo(&key_id, std::slice::from_ref(&backend)).await;
        }
        for entry in self.keyring.behind() {
            self.follow(&router, &entry).await;
        }
    }
}

/// Verifies records of the past under a key that is to be taken over: each must be right.
fn replay(
    router: &Arc<Router>,
    permit: &Permit,
    scheme: Arc<CardScheme>,
    key: &Arc<Entry>,
    records: &[FieldSet],
) -> Result<(), ServiceError> {
    let mut verifier = TacVerifier::new(scheme, selectable(std::slice::from_ref(key)));
    records.iter().for_each(|record| verifier.push(record));
    let mut verdicts = Vec::with_capacity(records.len());
    let mut run = |recipe: &Recipe, batch: &Batch| {
        let ran = router.run(permit, std::slice::from_ref(key), recipe, batch)?;
        Ok::<_, ServiceError>(ran.outcome)
    };
    verifier.finish(&mut run, |verified| verdicts.push(verified))?;
    match (1..).zip(verdicts).find(|(_, verified)| verified.verdict != Verdict::Valid) {
        Some((number, verified)) => {
            Err(ServiceError::Replay { number, verdict: verified.verdict, reason: verified.reason })
        }
        None => Ok(()),
    }
}
