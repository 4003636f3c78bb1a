//! Operations in words: those that others may have to approve.

use std::sync::Arc;

use claviger_hsm_api::{KeyState, WrappedKey};
use claviger_key_ceremonies::{Binding, Person, Plan, Statement, digest, words};
use sha2::{Digest as _, Sha256};

use super::approvals::ApprovalError;
use super::backups::below;
use super::{PolicyStatus, Service, ServiceError};
use crate::keyring::{Entry, KeyringError, MoveStep, Origin};
use crate::operation::{CeremonyRequest, ExportForm, KeyRef, KeyRequest, Operation, UnwrapRequest};
use crate::policy::EMBEDDED;
use crate::seal::SealError;
use crate::store::StoreError;

/// Actions that others may approve: what officers do to keys, but for components, which are no words to sign; ceremonies; and what
/// officers do to the daemon itself.
pub(super) const PROPOSED: [&str; 21] = [
    "generate_key",
    "adopt_key",
    "replicate_key",
    "unwrap_key",
    "assign_role",
    "export_key",
    "move_key",
    "raise_ceiling",
    "lower_ceiling",
    "disperse_key",
    "activate_key",
    "suspend_key",
    "deactivate_key",
    "compromise_key",
    "destroy_key",
    "open_ceremony",
    "cancel_ceremony",
    "change_policies",
    "back_up",
    "set_terminal",
    "unseal",
];

/// What is asked for, as a statement says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// As the policy schema names it.
    pub(super) action: &'static str,
    /// Whose keys it is about.
    pub(super) tenant: String,
    /// To what and how, with all that the operation does by.
    pub(super) lines: Lines,
    /// The stored key that it is about, as often as its record had changed when this was put into words.
    pub(super) key: Option<(String, i64)>,
    /// The proposal that others have approved, and how many of them.
    pub(super) approved: Option<(String, u64)>,
}

/// Name and value of each line.
pub(super) type Lines = Vec<(String, String)>;

fn line(name: &str, value: impl ToString) -> (String, String) {
    (name.to_owned(), value.to_string())
}

impl Service {
    /// The operation in words; none for one that is never approved, or whose key is not there.
    pub(super) fn in_words(&self, operation: &Operation) -> Option<Asked> {
        let mut about = None;
        let mut of_key = |id: &str| {
            let entry = self.keyring.find(id)?;
            about = Some((id.to_owned(), entry.record_version()));
            Some((tenant(&entry), self.key(&entry)))
        };
        let (tenant, lines) = match operation {
            Operation::GenerateKey(request) => {
                (request.name.tenant().to_owned(), self.new_key(request, Origin::Generated)?)
            }
            Operation::AdoptKey { request, object, kcv, records } => {
                let mut lines = self.new_key(request, Origin::Adopted)?;
                lines.extend([line("object", object), line("records to verify", records.len())]);
                lines.extend(kcv.iter().map(|kcv| line("kcv", kcv)));
                (request.name.tenant().to_owned(), lines)
            }
            Operation::ReplicateKey { id, to, under } => {
                let (tenant, mut lines) = of_key(id)?;
                let to = self.in_backends([to.as_str()]);
                lines.extend([line("copy to", to), line("wrapped under", reference(under))]);
                (tenant, lines)
            }
            Operation::UnwrapKey(UnwrapRequest { request, under, wrapped, kcv, held }) => {
                let mut lines = self.new_key(request, Origin::Unwrapped)?;
                lines.extend([line("wrapped under", reference(under)), line("came as", came_as(wrapped))]);
                lines.extend(kcv.iter().map(|kcv| line("must show kcv", kcv)));
                if let Some(held) = held {
                    lines.push(line("made in ceremony", hex::encode(held.ceremony)));
                    lines.push(line("its transcript, SHA-256", hex::encode(held.transcript)));
                }
                (request.name.tenant().to_owned(), lines)
            }
            // Of custodians' shares several are needed as it is.
            Operation::Unseal { .. } => {
                let lines = vec![line("daemon", &self.installation), line("opened by", "its passphrase")];
                (String::new(), lines)
            }
            Operation::ExportKey { id, form } => {
                let (tenant, mut lines) = of_key(id)?;
                lines.push(line("leaves as", form.words()));
                lines.extend(form.under().map(|under| line("wrapped under", reference(under))));
                if let ExportForm::Envelope { recipient, .. } = form {
                    lines.push(line("for the public key", hex::encode_upper(recipient)));
                }
                (tenant, lines)
            }
            Operation::MoveKey { id, step } => {
                let (tenant, mut lines) = of_key(id)?;
                lines.push(line("step", step_in_words(step)));
                (tenant, lines)
            }
            Operation::SetKeyState { id, state } => {
                let (tenant, mut lines) = of_key(id)?;
                let now = lines.iter().position(|(name, _)| name == "state")?;
                lines[now].1 = format!("{} -> {state}", lines[now].1);
                (tenant, lines)
            }
            Operation::RaiseCeiling { id, raise } => {
                raise.check().ok()?;
                let (tenant, mut lines) = of_key(id)?;
                let ceiling = self.keyring.find(id)?.record.ceiling_in_words();
                lines.push(line("ceiling", format!("{ceiling} -> {} for {:#}", raise.ceiling, raise.lasting)));
                (tenant, lines)
            }
            Operation::LowerCeiling { id } => {
                let (tenant, mut lines) = of_key(id)?;
                lines.push(line("ceiling", "what it was made with"));
                (tenant, lines)
            }
            Operation::DisperseKey { parent, factors } => {
                let above = self.referenced(parent).ok()?;
                let kept = self.in_backends(above.backends());
                let lines =
                    vec![line("key", reference(parent)), line("factors", factors.join(" ")), line("kept in", kept)];
                (parent.name.tenant().to_owned(), lines)
            }
            Operation::BackUp => {
                (String::new(), vec![line("backup of", "the store and the audit log, as they are then")])
            }
            Operation::SetTerminal { tenant, terminal, last } => {
                (tenant.clone(), vec![line("terminal", terminal), line("last number that it used", last)])
            }
            Operation::ChangePolicies { sha256 } => (String::new(), self.new_policies(sha256)?),
            Operation::Ceremony(CeremonyRequest::Open { plan, binding }) => ceremony(plan, binding)?,
            _ => return None,
        };
        debug_assert!(PROPOSED.contains(&operation.action()), "{} can be proposed", operation.action());
        Some(Asked { action: operation.action(), tenant, lines, key: about, approved: None })
    }

    /// Refuses what can be done no more, or not as its words say: nobody's approval helps it.
    ///
    /// # Errors
    /// [`ServiceError`], as whoever did it would be told.
    pub(super) async fn still_stands(&self, statement: &Statement) -> Result<(), ServiceError> {
        let says = |line: &str| statement.lines.iter().find(|(name, _)| name == line).map(|(_, value)| value.as_str());
        let known = self.keyring.of_tenant(&statement.tenant);
        let labelled = |label: &str| known.iter().find(|entry| entry.record.label() == label);
        let is_new = |label: &str| match labelled(label) {
            Some(_) => Err(KeyringError::Store(StoreError::Exists).into()),
            None => Ok(()),
        };
        let as_said = |is: bool, what: &str| match is {
            true => Ok(()),
            false => Err(ApprovalError::Differs(format!("{what} changed since")).into()),
        };
        let key = says("key").unwrap_or_default();
        match statement.action.as_str() {
            "unseal" if self.is_unsealed() => Err(SealError::Open.into()),
            "unseal" if self.shares_that_open().await.is_some() => Err(SealError::OtherKind("set of shares").into()),
            "unseal" => Ok(()),
            // What a ceremony needs is looked for when it is opened.
            "open_ceremony" | "back_up" => Ok(()),
            "cancel_ceremony" => self.is_open_ceremony(says("ceremony").unwrap_or_default()).await,
            "set_terminal" => {
                let last = self.store.last_ttc(&statement.tenant, says("terminal").unwrap_or_default()).await?;
                let wanted = says("last number that it used").and_then(|number| number.parse::<u32>().ok());
                if wanted.is_some_and(|wanted| wanted >= last) { Ok(()) } else { Err(below()) }
            }
            "change_policies" => {
                let digest = says("instead, SHA-256").unwrap_or_default();
                as_said(self.new_policies(digest).is_some_and(|lines| lines == statement.lines), "the policies were")
            }
            "generate_key" | "adopt_key" | "unwrap_key" | "assign_role" => is_new(key),
            "disperse_key" => {
                let factors = says("factors").unwrap_or_default();
                let child = match key.strip_suffix(']') {
                    Some(above) => format!("{above} {factors}]"),
                    None => format!("{key} [{factors}]"),
                };
                let kept = labelled(key).map(|above| self.in_backends(above.backends()));
                as_said(kept.as_deref() == says("kept in"), "where the key is kept was").and_then(|()| is_new(&child))
            }
            action => {
                let entry = says("key id").and_then(|id| self.keyring.find(id)).ok_or(ServiceError::NoKey)?;
                let from = entry.record.key.state;
                if action == "destroy_key" && !from.may_become(KeyState::Destroyed) {
                    return Err(KeyringError::State { from, to: KeyState::Destroyed }.into());
                }
                // In some words the state stands beside what it is to become. None changes without the record's version.
                let lines = self.key(&entry);
                as_said(lines.iter().all(|line| line.0 == "state" || statement.lines.contains(line)), "the key was")
            }
        }
    }

    /// The policies that wait, beside those in force; none if no such set waits.
    fn new_policies(&self, sha256: &str) -> Option<Lines> {
        let PolicyStatus { in_force, waiting } = self.waiting_policies(sha256)?;
        let (next, changes) = waiting?;
        let mut lines = vec![
            line("policies in force", in_force.name),
            line("in force, SHA-256", in_force.sha256),
            line("instead", next.name),
            line("instead, SHA-256", next.sha256),
        ];
        for change in changes {
            let name = |word: &str| format!("policy {}, {word}", change.policy);
            lines.extend(change.was.as_ref().map(|text| line(&name("today"), text)));
            lines.push(line(&name("then"), change.now.as_deref().unwrap_or("gone")));
        }
        Some(lines)
    }

    /// A stored key as it is now: changed in the meantime, it is no longer what was approved.
    fn key(&self, entry: &Arc<Entry>) -> Lines {
        let record = &entry.record;
        vec![
            line("key", record.label()),
            line("kcv", &record.kcv.value),
            line("key id", entry.id()),
            line("version of its record", entry.record_version()),
            line("held by", self.in_backends(entry.backends())),
            line("state", record.key.state),
        ]
    }

    /// A key that is not there yet; none if it could not be made.
    fn new_key(&self, request: &KeyRequest, origin: Origin) -> Option<Lines> {
        let record = self.draft(request, origin).ok()?.record;
        let backends = self.router().ok()?.destinations(&record, &request.backends).ok()?;
        let attributes = &record.key.attributes;
        let mut lines = vec![
            line("key", record.label()),
            line("rank", attributes.rank.as_str()),
            line("ceiling", attributes.ceiling),
        ];
        lines.extend(request.validity.times().map(|(name, at)| line(name, at)));
        let made_in = if origin == Origin::Adopted { "held by" } else { "made in the first that can of" };
        lines.push(line(made_in, self.in_backends(backends.iter().map(String::as_str))));
        let places: Vec<&str> = record.places.iter().map(|place| place.as_str()).collect();
        lines.push(line("may live", places.join(", ")));
        lines.push(line("may move", if request.movable || request.sensitive { "yes, wrapped" } else { "no" }));
        if request.sensitive {
            lines.push(line("may leave", "in forms that do not carry what it is, too"));
        }
        Some(lines)
    }

    /// Backends, each with what it is: whoever approves sees where a key would be.
    fn in_backends<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> String {
        let rules = self.rules();
        let what = |name: &str| match rules.surroundings.backends.get(name) {
            Some((driver, place)) if driver == EMBEDDED => format!("{name} (the daemon's own memory, {place})"),
            Some((driver, place)) => format!("{name} ({driver}, {place})"),
            None => format!("{name} (not configured)"),
        };
        names.into_iter().map(what).collect::<Vec<_>>().join(", ")
    }
}

/// What came, by its form, what its header says, and its digest: whoever approves sees that it is what they were sent.
pub(super) fn came_as(wrapped: &WrappedKey) -> String {
    let (form, bytes) = match wrapped {
        WrappedKey::KeyWrap(blob) => ("RFC 3394".to_owned(), blob.as_slice()),
        WrappedKey::KeyBlock { text, .. } => {
            (format!("key block {}", text.chars().take(16).collect::<String>()), text.as_bytes())
        }
        WrappedKey::Ecb { ciphertext, .. } => ("ECB and a check value".to_owned(), ciphertext.as_slice()),
        WrappedKey::Envelope { form, bytes } => (format!("SM2 envelope in layout {}", form.layout), bytes.as_slice()),
    };
    format!("{form}, SHA-256 {}", hex::encode(Sha256::digest(bytes)))
}

fn tenant(entry: &Arc<Entry>) -> String {
    entry.record.key.name.tenant().to_owned()
}

fn reference(key: &KeyRef) -> String {
    let held = if key.factors.is_empty() { String::new() } else { format!(" [{}]", key.factors.join(" ")) };
    format!("{} {} {}{held}", key.name, key.algorithm, key.version)
}

/// A ceremony as its plan says it, with the binding's values in it.
fn ceremony(plan_text: &str, binding_text: &str) -> Option<(String, Lines)> {
    let binding = Binding::parse(binding_text).ok()?;
    let plan = Plan::bound(plan_text, &binding).ok()?;
    let mut lines = vec![
        line("plan", format!("{} version {}", plan.id, plan.version)),
        line("plan hash", words(&digest(plan_text))),
        line("binding hash", words(&digest(binding_text))),
    ];
    // With the certificate that signs in the end: a name alone may be given to another key.
    let person = |person: &Person| format!("{}, certificate {}", person.name, person.certificate);
    lines.extend(binding.people.iter().map(|who| line(&who.role, person(who))));
    lines.extend(binding.backends.iter().map(|(name, backend)| line(&format!("backend {name}"), backend)));
    for key in &plan.keys {
        let held = if key.factors.is_empty() { String::new() } else { format!(" [{}]", key.factors.join(" ")) };
        let ceiling = key.ceiling.as_ref().map_or(String::new(), |ceiling| format!(", ceiling {ceiling}"));
        let movable = match (key.exists, key.sensitive, key.movable) {
            (false, true, _) => ", may move, and leave in forms that do not carry what it is",
            (false, false, true) => ", may move",
            _ => "",
        };
        let what = format!("{}/{}/{} {} {}{held}", binding.tenant, key.scheme, key.role, key.algorithm, key.version);
        lines.push(line(&format!("key {}", key.id), format!("{what}{ceiling}{movable}")));
    }
    lines.extend((1..).zip(&plan.steps).map(|(number, step)| line(&format!("step {number}"), step.words())));
    Some((binding.tenant, lines))
}

fn step_in_words(step: &MoveStep) -> String {
    match step {
        MoveStep::Begin { to } => format!("begin, to {to}"),
        MoveStep::CutOver => "cut-over".to_owned(),
        MoveStep::RollBack => "roll-back".to_owned(),
        MoveStep::Finish => "finish".to_owned(),
    }
}
