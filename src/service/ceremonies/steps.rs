//! The steps of a ceremony, one person at a time.

use std::sync::Arc;

use claviger_hsm_api::{KeyState, Secret, WrappedKey};
use claviger_hsm_engine::check_wrapped;
use claviger_key_ceremonies::{Act, Ending, Event as Happened, Form, SENT, Step, Transcript, Turn};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::components::same_kcv;
use super::planned::{came, export_form, key_ref, key_request, move_step, own_factors, raise};
use super::{CeremonyError, Live};
use crate::audit::Event;
use crate::keyring::{Entry, Origin};
use crate::operation::{Operation, StepInput, UnwrapRequest};
use crate::service::asked::came_as;
use crate::service::keys::key_event;
use crate::service::{Caller, Service, ServiceError};

/// What came of a turn.
pub struct Taken {
    /// The transcript with it.
    pub transcript: Transcript,
    /// A component or share that is shown now and never again, and a component's check value.
    pub component: Option<Shown>,
}

/// As it is shown, and its check value.
type Shown = (Zeroizing<String>, Option<String>);

/// A turn that went well.
#[derive(Default)]
pub(super) struct Done {
    pub(super) lines: Vec<(String, String)>,
    pub(super) component: Option<Shown>,
}

impl Service {
    /// Takes the next turn of a ceremony, if it is the caller's.
    pub(super) async fn take_step(
        self: &Arc<Self>,
        caller: &Caller,
        action: &'static str,
        id: &str,
        input: StepInput,
    ) -> Result<Taken, ServiceError> {
        let (tenant, ceremony) = self.known_ceremony(caller, action, id).await?;
        let permit = self.decide(caller, action, &[ceremony], 1).await?;
        let mut component = None;
        let taking = async {
            // Nobody's try is taken by a daemon that cannot do it.
            self.router()?;
            let mut live = self.ceremonies.live.lock().await;
            let ceremony = self.live(&mut live, id).await?;
            component = self.turn(caller, ceremony, input).await?;
            Ok(ceremony.transcript.clone())
        };
        let taken = taking.await;
        let event = self.in_ceremony(&tenant, id, &taken);
        // What is shown leaves after it is written down that it was.
        let transcript = self.settle(caller, &permit, event, taken).await?;
        Ok(Taken { transcript, component })
    }

    async fn turn(
        self: &Arc<Self>,
        caller: &Caller,
        ceremony: &mut Live,
        input: StepInput,
    ) -> Result<Option<Shown>, ServiceError> {
        let course = ceremony.transcript.course();
        if let Some(ending) = course.ending() {
            return Err(CeremonyError::Over(ending.as_str()).into());
        }
        let by = caller.principal.to_string();
        if input.lost && course.sent_last().is_some_and(|sent| sent.label == input.turn) {
            return self.send_again(ceremony, input.turn, &by).await.map(|()| None);
        }
        let turn = course.next().cloned().ok_or(ServiceError::Internal)?;
        if turn.label != input.turn {
            return Err(CeremonyError::Order(format!("the next turn is {}", turn.label)).into());
        }
        if !turn.is_of(&by, ceremony.transcript.binding()) {
            return Err(CeremonyError::Order(format!("turn {} is another's", turn.label)).into());
        }
        self.join(caller, ceremony).await?;
        if input.lost && turn.act == Act::Prove {
            return self.draw_again(ceremony, &turn).await.map(|()| None);
        }
        let acted = self.act(caller, ceremony, &turn, input).await;
        // Whoever shows or takes a component waits for nothing: what it leaves on the stack is of this thread.
        claviger_locked_memory::wipe_stack();
        match acted {
            Ok(Done { lines, component }) => {
                self.add(ceremony, Happened::Done { turn: turn.label, by, lines }).await?;
                self.end_if_done(ceremony).await?;
                Ok(component)
            }
            Err(error) if ceremony.transcript.course().is_begun() => {
                let reason = error.to_string();
                let undone = Happened::Undone { turn: turn.label, by, reason: reason.clone() };
                self.add(ceremony, undone).await?;
                match &ceremony.transcript.plan().steps[turn.step] {
                    Step::JoinComponents { key, .. } if error.code() == "refused" => {
                        let key = key.clone();
                        Err(self.enter_again(ceremony, &key, reason).await)
                    }
                    _ => Err(error),
                }
            }
            Err(error) => Err(self.refuse(ceremony, turn.label, by, error).await),
        }
    }

    /// Ends a ceremony whose every step is done; whether it is.
    async fn end_if_done(&self, ceremony: &mut Live) -> Result<bool, ServiceError> {
        let is_done = ceremony.transcript.course().next().is_none();
        if is_done {
            let (by, reason) = (String::new(), String::new());
            self.add(ceremony, Happened::Ended { how: Ending::Finished, by, reason }).await?;
        }
        Ok(is_done)
    }

    /// Writes down that a turn was not good; after the third time, the ceremony has failed.
    async fn refuse(&self, ceremony: &mut Live, turn: String, by: String, error: ServiceError) -> ServiceError {
        let reason = error.to_string();
        let refused = Happened::Refused { turn, by, reason: reason.clone() };
        if let Err(error) = self.add(ceremony, refused).await {
            return error;
        }
        let left = ceremony.transcript.course().tries_left();
        if left == 0 {
            let reason = "a step was refused three times".to_owned();
            let failed = Happened::Ended { how: Ending::Failed, by: String::new(), reason };
            if let Err(error) = self.add(ceremony, failed).await {
                return error;
            }
        }
        CeremonyError::Refused { reason, left }.into()
    }

    /// Goes back to the turn in which a key went out: the answer that held it was lost.
    async fn send_again(&self, ceremony: &mut Live, turn: String, by: &str) -> Result<(), ServiceError> {
        let done = ceremony.transcript.entries().iter().rev().find_map(|entry| match &entry.event {
            Happened::Done { turn: done, by, .. } if *done == turn => Some(by),
            _ => None,
        });
        if done.is_none_or(|done| done != by) {
            return Err(CeremonyError::Order(format!("the key of turn {turn} went to another")).into());
        }
        let reason = format!("{by} has not received the key: it is given out again");
        self.add(ceremony, Happened::Back { to: turn, reason }).await
    }

    async fn draw_again(&self, ceremony: &mut Live, turn: &Turn) -> Result<(), ServiceError> {
        let turns = ceremony.transcript.course().turns();
        // Of shares all are made at once.
        let shown = match ceremony.transcript.plan().steps[turn.step] {
            Step::HandOutShares { .. } => turns.iter().find(|first| first.step == turn.step),
            _ => turns.get(ceremony.transcript.course().place().saturating_sub(1)),
        };
        let to = shown.map(|shown| shown.label.clone()).ok_or(ServiceError::Internal)?;
        let reason = match ceremony.transcript.plan().steps[turn.step] {
            Step::HandOutShares { .. } => "the custodian has not seen the share: all are drawn anew",
            _ => "the custodian has not seen the component: another is drawn",
        };
        let reason = reason.to_owned();
        self.add(ceremony, Happened::Back { to, reason }).await?;
        let key = ceremony.transcript.plan().steps[turn.step].key().unwrap_or_default().to_owned();
        ceremony.components.remove(&(key, turn.person.unwrap_or_default()));
        Ok(())
    }

    async fn act(
        self: &Arc<Self>,
        caller: &Caller,
        ceremony: &mut Live,
        turn: &Turn,
        input: StepInput,
    ) -> Result<Done, ServiceError> {
        let step = ceremony.transcript.plan().steps[turn.step].clone();
        match (&step, turn.act) {
            (Step::Confirm { .. }, _) => match input.confirm {
                Some(true) => Ok(Done::default()),
                Some(false) => Err(ServiceError::field("confirm", "says that it is not so")),
                None => Err(ServiceError::field("confirm", "is missing")),
            },
            (Step::HandOutShares { threshold, .. }, Act::Show) => self.show_share(ceremony, turn, *threshold),
            (Step::HandOutShares { .. }, _) => self.prove_share(ceremony, turn, &input),
            (Step::HandOutComponents { key, .. }, Act::Show) => self.show_component(ceremony, key, turn),
            (Step::HandOutComponents { key, .. }, _) => self.prove_component(ceremony, key, turn, &input),
            (Step::EnterComponents { key, written, odd_parity, .. }, _) => {
                self.enter_component(ceremony, key, turn, (*written, *odd_parity), &input)
            }
            (Step::CompareKcv { key, .. }, _) => {
                let entry = self.planned_entry(ceremony, key)?;
                same_kcv(&input, &entry.record.kcv.value)?;
                Ok(Done { lines: vec![line("kcv", &entry.record.kcv.value)], ..Done::default() })
            }
            _ => {
                let came = match &step {
                    Step::ReceiveKey { key, form, .. } => Some(self.brought(ceremony, key, form, &input)?),
                    _ => None,
                };
                let begun = Happened::Begun { turn: turn.label.clone(), by: caller.principal.to_string() };
                self.add(ceremony, begun).await?;
                let approvals = self.approvals_of(ceremony).await?;
                let caller = caller.in_ceremony(approvals);
                match (step, came) {
                    (Step::SealWithShares { .. }, _) => {
                        Ok(Done { lines: self.seal_with_shares(&caller, ceremony).await?, ..Done::default() })
                    }
                    (step @ (Step::ReplicateTenant { .. } | Step::MoveTenant { .. }), _) => {
                        Ok(Done { lines: self.tenant_step(&caller, ceremony, &step).await?, ..Done::default() })
                    }
                    (Step::SendKey { key, under, form, .. }, _) => {
                        self.send_key(&caller, ceremony, &key, under.as_deref(), &form).await
                    }
                    (Step::ReceiveKey { key, under, .. }, Some(came)) => {
                        self.receive_key(&caller, ceremony, &key, &under, came).await
                    }
                    (step, _) => {
                        let lines = lines_of(&*self.make_planned(&caller, ceremony, &step).await?);
                        Ok(Done { lines, ..Done::default() })
                    }
                }
            }
        }
    }

    /// What a step makes or changes, by the operations that everybody asks for.
    async fn make_planned(
        self: &Arc<Self>,
        caller: &Caller,
        ceremony: &mut Live,
        step: &Step,
    ) -> Result<Arc<Entry>, ServiceError> {
        let (plan, binding) = (ceremony.transcript.plan(), ceremony.transcript.binding());
        match step {
            Step::GenerateKey { key, .. } => {
                self.generate_key(caller, "generate_key", key_request(plan, binding, key)?).await
            }
            Step::JoinComponents { key, .. } => {
                let request = key_request(plan, binding, key)?;
                let parts = ceremony.components.iter().filter(|((of, _), _)| of == key);
                let parts = parts.map(|(_, component)| Secret::copy_of(component.expose())).collect();
                let joined = self.import_key(caller, "import_key", request, parts, None, false).await?;
                ceremony.components.retain(|(of, _), _| of != key);
                Ok(joined)
            }
            Step::DisperseKey { key, from, .. } => {
                let parent = key_ref(plan, binding, from)?;
                let factors = own_factors(&key_request(plan, binding, key)?, &parent)?;
                self.disperse_key(caller, "disperse_key", parent, factors).await
            }
            Step::ReplicateKey { key, to, under, .. } => {
                let entry = self.planned_entry(ceremony, key)?;
                let to = binding.backends.get(to).cloned().ok_or(ServiceError::Internal)?;
                let under = key_ref(plan, binding, under)?;
                self.replicate_key(caller, "replicate_key", entry.id(), to, under).await
            }
            Step::SetState { key, state, .. } => {
                let entry = self.planned_entry(ceremony, key)?;
                let state = state.parse().map_err(|error| ServiceError::field("state", error))?;
                let action = Operation::SetKeyState { id: String::new(), state }.action();
                self.set_key_state(caller, action, entry.id(), state).await
            }
            Step::MoveKey { key, step, to, .. } => {
                let entry = self.planned_entry(ceremony, key)?;
                let step = move_step(binding, step, to.as_deref())?;
                self.move_key(caller, "move_key", entry.id(), step).await?;
                self.planned_entry(ceremony, key)
            }
            Step::RaiseCeiling { key, ceiling, lasting, .. } => {
                let (entry, raise) = (self.planned_entry(ceremony, key)?, raise(ceiling, lasting)?);
                self.change_ceiling(caller, "raise_ceiling", entry.id(), Some(raise)).await
            }
            Step::LowerCeiling { key, .. } => {
                let entry = self.planned_entry(ceremony, key)?;
                self.change_ceiling(caller, "lower_ceiling", entry.id(), None).await
            }
            Step::AdoptKey { key, object, .. } => {
                let request = key_request(plan, binding, key)?;
                self.adopt_key(caller, "adopt_key", request, object.clone(), None, Vec::new()).await
            }
            _ => Err(ServiceError::Internal),
        }
    }

    /// A key as somebody brings it: what can become no such key is refused before anything is begun.
    fn brought(&self, ceremony: &Live, key: &str, form: &Form, input: &StepInput) -> Result<WrappedKey, ServiceError> {
        let wrapped = came(form, input)?;
        let request = key_request(ceremony.transcript.plan(), ceremony.transcript.binding(), key)?;
        let draft = self.draft(&request, Origin::Unwrapped)?;
        check_wrapped(&draft.record.key, &wrapped).map_err(|error| ServiceError::field("wrapped", error))?;
        Ok(wrapped)
    }

    /// Takes a key in that came from another party.
    async fn receive_key(
        &self,
        caller: &Caller,
        ceremony: &Live,
        key: &str,
        under: &str,
        wrapped: WrappedKey,
    ) -> Result<Done, ServiceError> {
        let (plan, binding) = (ceremony.transcript.plan(), ceremony.transcript.binding());
        let (request, under) = (key_request(plan, binding, key)?, key_ref(plan, binding, under)?);
        let came = came_as(&wrapped);
        let unwrap = UnwrapRequest { request, under, wrapped, kcv: None, held: None };
        let says = unwrap.says_what_it_is();
        let action = if says { "unwrap_key" } else { "assign_role" };
        let entry = self.unwrap_key(caller, action, unwrap).await?;
        let mut lines = lines_of(&entry);
        let role = if says { "said by what came" } else { "given by the plan: what came does not say it" };
        lines.extend([line("came as", &came), line("role", role)]);
        Ok(Done { lines, ..Done::default() })
    }

    /// Gives a key out to another party: whoever has it done gets it, and the transcript its digest.
    async fn send_key(
        &self,
        caller: &Caller,
        ceremony: &Live,
        key: &str,
        under: Option<&str>,
        form: &Form,
    ) -> Result<Done, ServiceError> {
        let (plan, binding) = (ceremony.transcript.plan(), ceremony.transcript.binding());
        let entry = self.planned_entry(ceremony, key)?;
        let form = export_form(plan, binding, under, form)?;
        let exported = self.export_key(caller, "export_key", entry.id(), form).await?;
        let text = Zeroizing::new(exported.text());
        let digest = hex::encode(Sha256::digest(text.as_bytes()));
        let mut lines = lines_of(&entry);
        lines.push(line(SENT, &digest));
        Ok(Done { lines, component: Some((text, Some(exported.kcv))) })
    }

    fn planned_entry(&self, ceremony: &Live, key: &str) -> Result<Arc<Entry>, ServiceError> {
        self.referenced(&key_ref(ceremony.transcript.plan(), ceremony.transcript.binding(), key)?)
    }

    /// Suspends keys from others whose check value nobody has compared: the ceremony ends, and nobody will. Which, in words.
    pub(super) async fn suspend_unproved(&self, ceremony: &Live) -> Result<String, ServiceError> {
        let mut suspended = String::new();
        for (_, key) in ceremony.transcript.unproved() {
            let _alone = self.copying.lock().await;
            let Ok(entry) = self.planned_entry(ceremony, key) else { continue };
            if entry.record.key.state != KeyState::Active {
                continue;
            }
            let changed = self.keyring.set_state(&entry, KeyState::Suspended).await?;
            if let Ok(router) = self.router() {
                tokio::task::block_in_place(|| router.purge(entry.id(), changed.record_version()));
                self.follow(&router, &changed).await;
            }
            let event = Event {
                event: "suspended".to_owned(),
                ceremony: ceremony.id.clone(),
                counts: [(KeyState::Suspended.to_string(), 1)].into(),
                ..key_event(&entry.record)
            };
            self.audit.append(event).await?;
            suspended += &format!("; key `{key}` is suspended, since nobody has confirmed its check value");
        }
        Ok(suspended)
    }

    /// How many of those who approved the ceremony still may.
    async fn approvals_of(&self, ceremony: &Live) -> Result<u64, ServiceError> {
        match ceremony.transcript.opening() {
            Some(opening) if !opening.approval.is_empty() => self.still_approve(&opening.approval).await,
            _ => Ok(0),
        }
    }

    /// Finds out where a ceremony is that another process held: what was begun is done or not, and components are lost.
    pub(super) async fn take_up_again(&self, ceremony: &mut Live) -> Result<(), ServiceError> {
        self.add(ceremony, Happened::Resumed {}).await?;
        if let Some(turn) = ceremony.transcript.course().next().filter(|_| ceremony.transcript.course().is_begun()) {
            let turn = turn.clone();
            let begun = ceremony.transcript.entries().iter().rev().find_map(|entry| match &entry.event {
                Happened::Begun { by, .. } => Some((by.clone(), entry.at)),
                _ => None,
            });
            let (by, since) = begun.ok_or(ServiceError::Internal)?;
            let step = ceremony.transcript.plan().steps[turn.step].clone();
            let done = match &step {
                Step::SealWithShares { .. } => self.is_sealed_with(ceremony).await,
                step => self.was_done(ceremony, step, since).map(|entry| lines_of(&entry)),
            };
            let event = match done {
                Some(lines) => Happened::Done { turn: turn.label, by, lines },
                None => Happened::Undone {
                    turn: turn.label,
                    by,
                    reason: "the daemon was started again before it was done".to_owned(),
                },
            };
            self.add(ceremony, event).await?;
        }
        if self.end_if_done(ceremony).await? {
            return Ok(());
        }
        let course = ceremony.transcript.course();
        if let Some(to) = course.components_from().and_then(|at| course.turns().get(at)) {
            let (to, reason) = (to.label.clone(), "the daemon was started again and has no components".to_owned());
            self.add(ceremony, Happened::Back { to, reason }).await?;
        }
        Ok(())
    }

    /// What a step has made or changed since then, if it has.
    fn was_done(&self, ceremony: &Live, step: &Step, since: jiff::Timestamp) -> Option<Arc<Entry>> {
        let entry = self.planned_entry(ceremony, step.key()?).ok()?;
        let done = match step {
            // What of it was done is not done again.
            Step::ReplicateTenant { .. } => false,
            Step::ReplicateKey { to, .. } => {
                let to = ceremony.transcript.binding().backends.get(to)?;
                entry.replica_on(to).is_some()
            }
            Step::SetState { state, .. } => entry.record.key.state.to_string() == *state,
            Step::MoveKey { step, to, .. } => {
                let to = to.as_ref().and_then(|to| ceremony.transcript.binding().backends.get(to));
                match (step.as_str(), entry.course.moving()) {
                    ("begin", Some(moving)) => Some(&moving.to) == to,
                    ("cut-over", Some(moving)) => moving.over,
                    ("finish", None) => true,
                    _ => false,
                }
            }
            Step::RaiseCeiling { ceiling, .. } => {
                entry.record.raised.is_some_and(|raised| raised.ceiling.as_str() == ceiling && raised.holds())
            }
            Step::LowerCeiling { .. } => entry.record.raised.is_none(),
            // What went out changed nothing.
            Step::SendKey { .. } => false,
            _ => entry.record.created >= since,
        };
        done.then_some(entry)
    }
}

pub(super) fn line(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn lines_of(entry: &Entry) -> Vec<(String, String)> {
    let record = &entry.record;
    vec![
        line("key", &record.label()),
        line("key id", entry.id()),
        line("kcv", &record.kcv.value),
        line("state", &record.key.state.to_string()),
        line("ceiling", &record.ceiling_in_words()),
        line("held by", &entry.backends().collect::<Vec<_>>().join(", ")),
    ]
}
