//! Personalisation: the key sets of a stream of cards, batch by batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use claviger_card_schemes::{CardScheme, Field, FieldSet, KeySetMaker, LineFault};
use claviger_hsm_api::{Algorithm, KeyName, Outcome};
use jiff::Timestamp;

use super::job::Record;
use super::perform::no_key;
use super::{Caller, Service, ServiceError};
use crate::audit::Written;
use crate::keyring::{Entry, Purpose};
use crate::operation::Personalisation;
use crate::policy::{Permit, Resource};

/// An open job. Its cards run on whatever thread drives it; it keeps one batch at a time.
pub struct PersonaliseJob {
    record: Record,
    permit: Permit,
    scheme: Arc<CardScheme>,
    sets: Vec<Set>,
    /// Why cards of the batch get no key set; the others are in their sets' places.
    cards: Vec<Result<(), CardFault>>,
    generation: u64,
    scratch: Vec<u8>,
}

/// One set of each card: keys of one algorithm.
struct Set {
    algorithm: Algorithm,
    /// Name of the layout.
    layout: String,
    /// For each role of the layout, the keys that there are: the root's, or those of cities and issuers.
    candidates: Vec<Vec<Arc<Entry>>>,
    transport: Arc<Entry>,
    groups: Vec<Group>,
    /// Which group cards with these factors above the card's belong to; none if a key is missing.
    group_of: HashMap<Vec<u8>, Option<usize>>,
    /// Group and row of each card of the batch that is made.
    places: Vec<(usize, usize)>,
}

/// Cards in a batch: their keys, dozens each, fit the caches.
const CARDS: usize = 2048;

/// Cities and issuers whose group is remembered: a file may name any number.
const REMEMBERED: usize = 10_000;

/// Cards whose keys descend from the same stored keys.
struct Group {
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
    /// The tenant has no keys of its city or issuer.
    Foreign,
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
        let entries: Vec<Arc<Entry>> = sets.iter().flat_map(Set::entries).cloned().collect();
        let resources: Vec<Resource> = entries.iter().map(|entry| Resource::of(entry)).collect();
        let permit = service.decide(caller, action, &resources, 0).await?;
        let record = Record::new(service, caller, action, &request.tenant, &entries, &permit)?;
        record.open().await?;
        Ok(Self { record, permit, scheme, sets, cards: Vec::with_capacity(CARDS), generation, scratch: Vec::new() })
    }

    /// The columns that a file of cards needs, beside its id.
    pub fn columns(&self) -> Vec<Field> {
        self.scheme.factor_fields()
    }

    /// Takes a card that could be read, or the fault of one that could not.
    pub fn push(&mut self, card: Result<&FieldSet, LineFault>, line: u64) {
        let taken = match card {
            Err(fault) => Err(CardFault::Line(fault, line)),
            Ok(fields) => self.place(fields),
        };
        self.cards.push(taken);
    }

    /// Puts a card into a group of every set, or into none.
    fn place(&mut self, fields: &FieldSet) -> Result<(), CardFault> {
        let Self { scheme, sets, scratch, .. } = self;
        scratch.clear();
        scheme.append_factors_above_card(fields, scratch).map_err(CardFault::Missing)?;
        let groups = sets.iter_mut().map(|set| set.group(scheme, fields, scratch).ok_or(CardFault::Foreign));
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        for (set, group) in sets.iter_mut().zip(groups) {
            let maker = &mut set.groups[group].maker;
            let row = maker.task().1.rows;
            maker.push(scheme, fields).map_err(CardFault::Missing)?;
            set.places.push((group, row));
        }
        Ok(())
    }

    /// Whether a batch is full and [`run`](Self::run) is due.
    pub fn is_full(&self) -> bool {
        self.cards.len() >= CARDS
    }

    /// Makes the key sets of the cards taken since the last time and hands them over in order; blocks.
    ///
    /// # Errors
    /// [`ServiceError`]; the job is then over.
    pub fn run(&mut self, mut each: impl FnMut(Result<&[u8], CardFault>)) -> Result<(), ServiceError> {
        self.record.admits(self.cards.len())?;
        let service = self.record.service();
        if service.keyring.generation() != self.generation {
            // A card is personalised whole or not at all, so a key that changed ends the job.
            self.generation = service.keyring.generation();
            let mut keys = self.sets.iter().flat_map(Set::entries);
            if let Some(changed) = keys.find(|key| !service.is_current(key)) {
                return Err(ServiceError::Changed(changed.record.label()));
            }
        }
        let router = service.router()?;
        // The outcome of each group of each set.
        let mut outcomes: Vec<Vec<Option<Outcome>>> = Vec::with_capacity(self.sets.len());
        for set in &self.sets {
            let run = |group: &Group| {
                let (recipe, batch) = group.maker.task();
                if batch.rows == 0 {
                    return Ok(None);
                }
                let ran = router.run(&self.permit, &group.keys, recipe, batch).map(Some);
                claviger_locked_memory::wipe_stack();
                ran
            };
            let ran = set.groups.iter().map(run).collect::<Result<Vec<_>, _>>()?;
            let backends = ran.iter().flatten().map(|ran| ran.on.clone());
            backends.collect::<Vec<_>>().into_iter().for_each(|on| self.record.ran_on(on));
            outcomes.push(ran.into_iter().map(|ran| ran.map(|ran| ran.outcome)).collect());
        }
        let (mut made, mut malformed) = (0_usize.., 0);
        for card in std::mem::take(&mut self.cards) {
            let Err(fault) = card else {
                let at = made.next().unwrap_or_default();
                self.scratch.clear();
                for (set, outcomes) in self.sets.iter().zip(&outcomes) {
                    let (group, row) = set.places.get(at).copied().ok_or(ServiceError::Internal)?;
                    let outcome = outcomes.get(group).and_then(Option::as_ref).ok_or(ServiceError::Internal)?;
                    let appended = set.groups[group].maker.append(outcome, row, &mut self.scratch);
                    appended.ok_or(ServiceError::Internal)?;
                }
                each(Ok(&self.scratch));
                continue;
            };
            malformed += 1;
            each(Err(fault));
        }
        // What was made is what the batch had places for.
        for (what, cards) in [("made", made.start as u64), ("malformed", malformed)] {
            if cards > 0 {
                self.record.count(what, cards);
            }
        }
        for set in &mut self.sets {
            set.places.clear();
            set.groups.iter_mut().for_each(|group| group.maker.clear());
        }
        Ok(())
    }

    /// Writes the counts so far down: what was made until now may leave when that is on disk.
    pub fn checkpoint(&self) -> Written {
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

impl Set {
    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.candidates.iter().flatten().chain([&self.transport])
    }

    /// The group of a card, made when its first card comes; `None` if a role has no key that the card descends
    /// from.
    fn group(&mut self, scheme: &CardScheme, fields: &FieldSet, above: &[u8]) -> Option<usize> {
        if let Some(known) = self.group_of.get(above) {
            return *known;
        }
        let number = self.new_group(scheme, fields).map(|group| {
            let same = |known: &Group| known.keys.iter().zip(&group.keys).all(|(a, b)| a.id() == b.id());
            self.groups.iter().position(same).unwrap_or_else(|| {
                self.groups.push(group);
                self.groups.len() - 1
            })
        });
        if self.group_of.len() >= REMEMBERED {
            self.group_of.clear();
        }
        self.group_of.insert(above.to_owned(), number);
        number
    }

    fn new_group(&self, scheme: &CardScheme, fields: &FieldSet) -> Option<Group> {
        let layout = scheme.key_set(Some(&self.layout)).ok()?;
        let roles = layout.roles().ok()?;
        let mut keys = Vec::with_capacity(roles.len() + 1);
        let mut on_way = Vec::with_capacity(roles.len());
        for (role, candidates) in roles.iter().zip(&self.candidates) {
            let factors: Vec<String> = scheme.factors(role, fields).ok()?.iter().map(hex::encode_upper).collect();
            let above = |key: &&Arc<Entry>| factors.starts_with(&key.record.key.factors);
            let key = candidates.iter().filter(above).max_by_key(|key| key.record.key.factors.len())?;
            on_way.push(role.key(self.algorithm, key.record.key.factors.len()));
            keys.push(Arc::clone(key));
        }
        let transport_role = scheme.role(self.transport.record.key.name.role()).ok()?;
        let transport = transport_role.key(self.algorithm, self.transport.record.key.factors.len());
        let maker = layout.maker(self.algorithm, &on_way, (&transport_role, transport)).ok()?;
        keys.push(Arc::clone(&self.transport));
        Some(Group { keys, maker })
    }
}

impl Service {
    /// The keys of one set. What cannot be made for any card is refused here.
    fn set(&self, scheme: &CardScheme, request: &Personalisation, algorithm: Algorithm) -> Result<Set, ServiceError> {
        let layout = scheme.key_set(request.key_set.as_deref())?;
        let transport_role = scheme.role(&request.transport_role)?;
        let tenant = &request.tenant;
        let transport = self.key_of_role(scheme, tenant, &transport_role, algorithm, request.transport_version, &[])?;
        let (roles, now) = (layout.roles()?, Timestamp::now());
        let candidates = roles.iter().map(|role| {
            let name = KeyName::new(tenant, scheme.id(), role.name())?;
            let mut candidates = self.keyring.named(&name);
            candidates.retain(|key| {
                let key = &key.record.key;
                // A card's own key does not leave: nothing would be dispersed on its way.
                key.attributes.algorithm == algorithm
                    && key.version == request.version
                    && key.factors.len() < role.levels().len()
            });
            // What may not be used now is as if it were not there; if nothing else is, it says why.
            let usable = |key: &&Arc<Entry>| key.record.admits(Purpose::Protect, now).is_ok();
            let of_now: Vec<Arc<Entry>> = candidates.iter().filter(usable).cloned().collect();
            match (candidates.is_empty(), of_now.is_empty()) {
                (true, _) => Err(no_key(&name)),
                (false, true) => Ok(candidates),
                (false, false) => Ok(of_now),
            }
        });
        let candidates = candidates.collect::<Result<Vec<_>, _>>()?;
        let on_way: Vec<_> = roles.iter().map(|role| role.key(algorithm, 0)).collect();
        layout.maker(algorithm, &on_way, (&transport_role, transport_role.key(algorithm, transport.held())))?;
        Ok(Set {
            algorithm,
            layout: layout.name().to_owned(),
            candidates,
            transport: transport.entry,
            groups: Vec::new(),
            group_of: HashMap::new(),
            places: Vec::with_capacity(CARDS),
        })
    }
}
