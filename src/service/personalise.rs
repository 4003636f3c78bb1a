//! Personalisation: the key sets of a stream of cards, batch by batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_card_schemes::{CardScheme, Field, FieldSet, KeySetMaker, LineFault};
use claviger_hsm_api::Algorithm;

use super::job::{BATCH, Record};
use super::perform::CardKey;
use super::{Caller, Service, ServiceError};
use crate::keyring::Entry;
use crate::operation::Personalisation;
use crate::policy::{Permit, Resource};

/// An open job. Its cards run on whatever thread drives it; it keeps one batch at a time.
pub struct PersonaliseJob {
    record: Record,
    permit: Permit,
    scheme: Arc<CardScheme>,
    sets: Vec<Set>,
    /// What became of each card of the batch: its row, or the reason why it has none.
    cards: Vec<Result<usize, CardFault>>,
    generation: u64,
    scratch: Vec<u8>,
}

/// One set of each card: keys of one algorithm and what makes it from them.
struct Set {
    /// As the recipe numbers them; the transport key is the last.
    keys: Vec<Arc<Entry>>,
    maker: KeySetMaker,
}

/// Why a card gets no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardFault {
    /// The line cannot be read.
    Line(LineFault, u64),
    /// Its keys cannot be dispersed without this field.
    Missing(Field),
}

impl PersonaliseJob {
    pub(super) async fn open(
        service: &Arc<Service>,
        caller: &Caller,
        action: &'static str,
        request: Personalisation,
    ) -> Result<Self, ServiceError> {
        let scheme = service.enter_scheme(caller, &request.tenant, &request.scheme).await?;
        if request.algorithms.is_empty() {
            return Err(ServiceError::field("algorithm", "is missing"));
        }
        let generation = service.keyring.generation();
        let sets = request.algorithms.iter().map(|algorithm| service.set(&scheme, &request, *algorithm));
        let sets = sets.collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<Arc<Entry>> = sets.iter().flat_map(|set| set.keys.iter().cloned()).collect();
        let resources: Vec<Resource> = entries.iter().map(|entry| Resource::of(entry)).collect();
        let permit = service.decide(caller, action, &resources, 0).await?;
        let record = Record::open(service, caller, action, &request.tenant, &entries, &permit).await?;
        Ok(Self { record, permit, scheme, sets, cards: Vec::with_capacity(BATCH), generation, scratch: Vec::new() })
    }

    /// The columns that a file of cards needs, beside its id.
    pub fn columns(&self) -> Vec<Field> {
        self.scheme.factor_fields()
    }

    /// Takes a card that could be read, or the fault of one that could not.
    pub fn push(&mut self, card: Result<&FieldSet, LineFault>, line: u64) {
        let row = self.sets.first().map_or(0, |set| set.maker.task().1.rows);
        let taken = match card {
            Err(fault) => Err(CardFault::Line(fault, line)),
            // The sets need the same fields: the first that takes a card speaks for all.
            Ok(fields) => self
                .sets
                .iter_mut()
                .try_for_each(|set| set.maker.push(&self.scheme, fields))
                .map(|()| row)
                .map_err(CardFault::Missing),
        };
        self.cards.push(taken);
    }

    /// Whether a batch is full and [`run`](Self::run) is due.
    pub fn is_full(&self) -> bool {
        self.cards.len() >= BATCH
    }

    /// Makes the key sets of the cards taken since the last time and hands them over in order; blocks.
    ///
    /// # Errors
    /// [`ServiceError`]; the job is then over.
    pub fn run(&mut self, mut each: impl FnMut(Result<&[u8], CardFault>)) -> Result<(), ServiceError> {
        let service = self.record.service();
        if service.keyring.generation() != self.generation {
            // A card is personalised whole or not at all, so a key that changed ends the job.
            self.generation = service.keyring.generation();
            let keys = self.sets.iter().flat_map(|set| &set.keys);
            if let Some(changed) = keys.clone().find(|key| !service.is_current(key)) {
                return Err(ServiceError::Changed(changed.record.label()));
            }
        }
        let router = service.router()?;
        let mut outcomes = Vec::with_capacity(self.sets.len());
        for set in &self.sets {
            let (recipe, batch) = set.maker.task();
            if batch.rows == 0 {
                continue;
            }
            let ran = router.run(&self.permit, &set.keys, recipe, batch)?;
            self.record.ran_on(ran.on);
            outcomes.push(ran.outcome);
        }
        for card in std::mem::take(&mut self.cards) {
            self.scratch.clear();
            let made = card.map(|row| {
                let sets = self.sets.iter().zip(&outcomes);
                sets.into_iter().all(|(set, outcome)| set.maker.append(outcome, row, &mut self.scratch).is_some())
            });
            match made {
                Ok(true) => {
                    self.record.count("made");
                    each(Ok(&self.scratch));
                }
                Ok(false) => return Err(ServiceError::Internal),
                Err(fault) => {
                    self.record.count("malformed");
                    each(Err(fault));
                }
            }
        }
        self.sets.iter_mut().for_each(|set| set.maker.clear());
        Ok(())
    }

    /// Puts the counts so far on disk: what was made until now may leave when this returns.
    ///
    /// # Errors
    /// If the audit log does not take the record.
    pub fn checkpoint(&self) -> Result<(), ServiceError> {
        self.record.checkpoint()
    }

    /// Ends the job: its closing record is on disk when this returns.
    ///
    /// # Errors
    /// If the audit log does not take the record; then the last key sets must not leave.
    pub fn close(self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError> {
        self.record.close(outcome)
    }
}

impl Service {
    /// The keys of one set, and what makes it.
    fn set(&self, scheme: &CardScheme, request: &Personalisation, algorithm: Algorithm) -> Result<Set, ServiceError> {
        let layout = scheme.key_set(request.key_set.as_deref())?;
        let transport_role = scheme.role(&request.transport_role)?;
        let (tenant, version) = (&request.tenant, request.version);
        let of = |role: &_, version| self.key_of_role(scheme, tenant, role, algorithm, version, &[]);
        let roles = layout.roles()?;
        let keys = roles.iter().map(|role| of(role, version)).collect::<Result<Vec<CardKey>, _>>()?;
        let transport = of(&transport_role, request.transport_version)?;
        let on_way: Vec<_> = roles.iter().zip(&keys).map(|(role, key)| role.key(algorithm, key.held())).collect();
        let transport_key = transport_role.key(algorithm, transport.held());
        let maker = layout.maker(algorithm, &on_way, (&transport_role, transport_key))?;
        let keys = keys.into_iter().chain([transport]).map(|key| key.entry).collect();
        Ok(Set { keys, maker })
    }
}
