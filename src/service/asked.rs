//! Operations in words: those that others may have to approve.

use std::sync::Arc;

use claviger_hsm_api::Algorithm;

use super::Service;
use crate::keyring::{Entry, MoveStep, Place};
use crate::operation::{KeyRef, KeyRequest, Operation};

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
            Some((tenant(&entry), key(&entry)))
        };
        let (tenant, lines) = match operation {
            Operation::GenerateKey(request) => (request.name.tenant().to_owned(), new_key(request)),
            Operation::AdoptKey { request, object, kcv, records } => {
                let mut lines = new_key(request);
                lines.extend([line("object", object), line("records to verify", records.len())]);
                lines.extend(kcv.iter().map(|kcv| line("kcv", kcv)));
                (request.name.tenant().to_owned(), lines)
            }
            Operation::ReplicateKey { id, to, under } => {
                let (tenant, mut lines) = of_key(id)?;
                lines.extend([line("copy to", to), line("wrapped under", reference(under))]);
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
            Operation::DisperseKey { parent, factors } => {
                let lines = vec![line("key", reference(parent)), line("factors", factors.join(" "))];
                (parent.name.tenant().to_owned(), lines)
            }
            _ => return None,
        };
        Some(Asked { action: operation.action(), tenant, lines, key: about, approved: None })
    }
}

fn tenant(entry: &Arc<Entry>) -> String {
    entry.record.key.name.tenant().to_owned()
}

/// A stored key as it is now: changed in the meantime, it is no longer what was approved.
fn key(entry: &Arc<Entry>) -> Lines {
    let record = &entry.record;
    vec![
        line("key", record.label()),
        line("kcv", &record.kcv.value),
        line("key id", entry.id()),
        line("version of its record", entry.record_version()),
        line("held by", entry.backends().collect::<Vec<_>>().join(", ")),
        line("state", record.key.state),
    ]
}

fn reference(key: &KeyRef) -> String {
    in_short(&key.name.to_string(), key.algorithm, &key.version.to_string(), &key.factors)
}

fn in_short(name: &str, algorithm: Algorithm, version: &str, factors: &[String]) -> String {
    let held = if factors.is_empty() { String::new() } else { format!(" [{}]", factors.join(" ")) };
    format!("{name} {algorithm} {version}{held}")
}

fn new_key(request: &KeyRequest) -> Lines {
    let name = request.name.to_string();
    let mut lines =
        vec![line("key", in_short(&name, request.algorithm, &request.version.to_string(), &request.factors))];
    lines.extend(request.ceiling.map(|ceiling| line("ceiling", ceiling)));
    let validity = &request.validity;
    let periods = [
        ("protects from", validity.protect_from),
        ("protects until", validity.protect_until),
        ("verifies until", validity.verify_until),
    ];
    lines.extend(periods.into_iter().filter_map(|(name, at)| Some(line(name, at?))));
    let backends =
        if request.backends.is_empty() { "the first that can".to_owned() } else { request.backends.join(", ") };
    lines.push(line("made in", backends));
    let places: Vec<&str> = request.places.iter().map(|place: &Place| place.as_str()).collect();
    lines.push(line("may live", if places.is_empty() { "where it is made".to_owned() } else { places.join(", ") }));
    lines.push(line("may move", if request.movable { "yes, wrapped" } else { "no" }));
    lines
}

fn step_in_words(step: &MoveStep) -> String {
    match step {
        MoveStep::Begin { to } => format!("begin, to {to}"),
        MoveStep::CutOver => "cut-over".to_owned(),
        MoveStep::RollBack => "roll-back".to_owned(),
        MoveStep::Finish => "finish".to_owned(),
    }
}
