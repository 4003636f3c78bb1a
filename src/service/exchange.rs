//! Keys from other parties and to them.

use std::sync::Arc;

use claviger_hsm_api::{
    Algorithm, Batch, BlockHeader, Finish, KeyAttributes, KeyPadding, KeyPath, KeyRank, Message, Padding, PurseLabel,
    Recipe, WrapFormat, WrappedKey,
};

use claviger_hsm_engine::check_wrapped;

use super::keys::shows;
use super::{Caller, Service, ServiceError};
use crate::audit::Event;
use crate::keyring::{Entry, KeyRecord, Origin};
use crate::operation::{ExportForm, UnwrapRequest};
use crate::policy::Resource;
use crate::routing::RouteError;

/// A key as it goes out.
pub struct Exported {
    /// A key block is text.
    pub wrapped: Vec<u8>,
    /// Whether it is one.
    pub is_text: bool,
    /// The key's check value.
    pub kcv: String,
}

impl Exported {
    /// A key block as it is, anything else in hexadecimal.
    pub fn text(&self) -> String {
        match std::str::from_utf8(&self.wrapped) {
            Ok(block) if self.is_text => block.to_owned(),
            _ => hex::encode_upper(&self.wrapped),
        }
    }
}

impl Service {
    /// Takes a key in that another party has wrapped under a key which a backend holds.
    pub(super) async fn unwrap_key(
        &self,
        caller: &Caller,
        action: &'static str,
        UnwrapRequest { request, under, wrapped, kcv, held }: UnwrapRequest,
    ) -> Result<Arc<Entry>, ServiceError> {
        let router = self.router()?;
        self.enter(caller, request.name.tenant()).await?;
        let draft = self.draft(&request, Origin::Unwrapped)?;
        // What can become no such key is nobody's to approve, and nothing of it is written down.
        check_wrapped(&draft.record.key, &wrapped).map_err(|error| ServiceError::field("wrapped", error))?;
        let under = self.referenced(&under)?;
        let of = under.record.key.attributes.algorithm;
        let measured = matches!(wrapped, WrappedKey::Ecb { .. } | WrappedKey::Envelope { .. });
        if measured && of.is_weaker_than(draft.record.key.attributes.algorithm) {
            return Err(ServiceError::field("under", format!("is a key of {of}, which is weaker than what came")));
        }
        let there = router.destinations(&draft.record, &request.backends);
        let made = Resource::of(&draft).and_in(there.as_deref().unwrap_or_default());
        let permit = Arc::new(self.decide(caller, action, &[made, Resource::of(&under)], 1).await?);
        let backends = there?;
        let (key, inside, there) = (draft.record.key.clone(), Arc::clone(&permit), backends.clone());
        let unwrap = move || {
            let made = router.unwrap(&inside, &key, &under, &wrapped, &there).map_err(|error| match error {
                RouteError::Refused(refused) => ServiceError::field("wrapped", refused.reason),
                error => error.into(),
            })?;
            shows(&made, kcv.as_deref())?;
            Ok(made)
        };
        let result = self.make(draft, &backends, unwrap).await;
        let told = held.map_or_else(Event::default, |held| Event {
            ceremony: hex::encode(held.ceremony),
            statement: format!("transcript {}", hex::encode(held.transcript)),
            ..Event::default()
        });
        self.settle_key_as(caller, &permit, &request, told, result).await
    }

    /// Gives a key out to another party.
    pub(super) async fn export_key(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
        form: ExportForm,
    ) -> Result<Exported, ServiceError> {
        let entry = self.known(caller, id).await?;
        let under = form.under().map(|under| self.referenced(under)).transpose()?;
        if under.as_ref().is_some_and(|under| under.id() == entry.id()) {
            return Err(ServiceError::field("under", "is the key itself"));
        }
        let keys: Vec<Arc<Entry>> = std::iter::once(Arc::clone(&entry)).chain(under).collect();
        let resources: Vec<Resource> = keys.iter().map(|key| Resource::of(key)).collect();
        let permit = self.decide(caller, action, &resources, 1).await?;
        let recipe = export_recipe(&keys, &form);
        let batch = Batch::one(Vec::new(), keys.len() as u16);
        let is_text = matches!(form, ExportForm::KeyBlock { .. });
        let kcv = entry.record.kcv.value.clone();
        let read = |outcome: &claviger_hsm_api::Outcome, _: &str| outcome.bytes(0, 0).map(<[u8]>::to_vec);
        let wrapped = self.perform(caller, permit, keys, Ok((recipe, batch)), read).await?;
        Ok(Exported { wrapped: wrapped.ok_or(ServiceError::Internal)?, is_text, kcv })
    }

    /// The public half of an SM2 key, `X || Y`, 64 bytes, big endian.
    pub(super) async fn show_public_key(
        &self,
        caller: &Caller,
        action: &'static str,
        id: &str,
    ) -> Result<Vec<u8>, ServiceError> {
        let entry = self.known(caller, id).await?;
        let permit = self.decide(caller, action, &[Resource::of(&entry)], 1).await?;
        let attributes = &entry.record.key.attributes;
        let recipe = match attributes.algorithm {
            Algorithm::Sm2 => Ok((Recipe::single(path(0, attributes), Finish::PublicKey), Batch::one(Vec::new(), 1))),
            other => Err(ServiceError::field("id", format!("is of a key of {other}, which has no public half"))),
        };
        let read = |outcome: &claviger_hsm_api::Outcome, _: &str| outcome.bytes(0, 0).unwrap_or_default().to_vec();
        self.perform(caller, permit, vec![entry], recipe, read).await
    }
}

/// How the first of these keys goes out, under the second if there is one.
pub(super) fn export_recipe(keys: &[Arc<Entry>], form: &ExportForm) -> Recipe {
    let attributes = |slot: usize| keys.get(slot).map(|key| &key.record.key.attributes);
    match keys.first() {
        Some(key) => Recipe::single(path(0, &key.record.key.attributes), finish(&key.record, attributes(1), form)),
        None => Recipe { legs: Vec::new() },
    }
}

/// What a key leaves by.
fn finish(record: &KeyRecord, under: Option<&KeyAttributes>, form: &ExportForm) -> Finish {
    let format = match form {
        ExportForm::Envelope { recipient, form } => {
            return Finish::Envelop { recipient: recipient.clone(), form: *form };
        }
        ExportForm::KeyBlock { version, mode, exportability, .. } => {
            let attributes = &record.key.attributes;
            let name = &record.key.name;
            // The standard's usages say what a key is; the schemes' numbers do not.
            let is_purse = attributes.usage.as_str().bytes().all(|c| c.is_ascii_digit());
            let label = || PurseLabel {
                scheme: name.scheme().to_owned(),
                role: name.role().to_owned(),
                level: record.key.factors.len() as u8,
            };
            WrapFormat::KeyBlock(Box::new(BlockHeader {
                version: *version,
                usage: attributes.usage,
                mode: mode.unwrap_or(attributes.mode),
                exportability: *exportability,
                key_version: record.key.version.to_string(),
                purse: is_purse.then(label),
            }))
        }
        ExportForm::Ecb { padding, .. } => WrapFormat::Ecb {
            prefix: Message(Vec::new()),
            padding: match padding {
                KeyPadding::None => Padding::None,
                KeyPadding::OneIfPartial => Padding::OneIfNeeded,
                KeyPadding::ZerosIfPartial => Padding::Zeros,
            },
        },
    };
    let under = path(1, under.unwrap_or(&record.key.attributes));
    Finish::Wrap { under, format }
}

/// A stored key as it is.
pub(super) fn path(slot: usize, of: &KeyAttributes) -> KeyPath {
    let steps_left = match of.rank {
        KeyRank::Dispersion { steps_left } => steps_left,
        KeyRank::Card | KeyRank::Plain => 0,
    };
    KeyPath { slot, algorithm: of.algorithm, steps: Vec::new(), steps_left }
}
