//! Purse transactions: the host's side (load, unload, overdraft) and the terminal's (purchase), where the
//! service stands in for a PSAM.

use std::sync::Arc;

use claviger_card_schemes::{CardScheme, Field, FieldSet, PurseStep, Transaction};
use claviger_hsm_api::{Algorithm, KeyName, KeyVersion};

use super::{Caller, Outcome, Service, ServiceError, blocking};
use crate::audit::Event;
use crate::keyring::Entry;
use crate::operation::{PsamRequest, PurseRequest};
use crate::policy::{Permit, Resource};

/// What a request selects.
struct Selected<'a> {
    transaction: Transaction<'a>,
    algorithm: Algorithm,
    key: Arc<Entry>,
}

impl Service {
    /// Verifies what the card sent and, only then, makes the answer.
    pub(super) async fn purse(
        &self,
        caller: &Caller,
        action: &'static str,
        request: PurseRequest,
    ) -> Result<Outcome, ServiceError> {
        self.router()?;
        self.enter(caller, &request.tenant).await?;
        let scheme = Arc::clone(self.scheme(&request.scheme)?);
        let selected = self.select(&scheme, &request.tenant, &request.transaction, &request.fields)?;
        let permit = self.decide(caller, action, &[Resource::of(&selected.key)], 1).await?;
        let step = match &request.make {
            Some(make) => PurseStep::VerifyThenMake { verify: &request.verify, expected: &request.mac, make },
            None => PurseStep::Verify { verify: &request.verify, expected: &request.mac },
        };
        let (result, event, permit) = self.run_step(&scheme, &selected, step, &request.fields, permit).await?;
        let result = result.map(|outcome| Outcome::Purse {
            valid: outcome.verdicts(0) == Some(&[true]),
            made: outcome.bytes(1, 0).map(<[u8]>::to_vec),
        });
        self.settle(caller, &permit, event, result).await
    }

    /// Makes a purchase's MAC1 as a PSAM does: the terminal's next transaction number is on disk before the
    /// MAC is made, so that it is never used twice, whatever happens.
    pub(super) async fn psam_debit(
        &self,
        caller: &Caller,
        action: &'static str,
        mut request: PsamRequest,
    ) -> Result<Outcome, ServiceError> {
        self.router()?;
        self.enter(caller, &request.tenant).await?;
        let scheme = Arc::clone(self.scheme(&request.scheme)?);
        let selected = self.select(&scheme, &request.tenant, &request.transaction, &request.fields)?;
        let permit = self.decide(caller, action, &[Resource::of(&selected.key)], 1).await?;
        let terminal =
            request.fields.get(Field::TerminalId).map(hex::encode_upper).ok_or_else(|| missing(Field::TerminalId))?;
        let drawn = self.store.next_ttc(&request.tenant, &terminal).await.map_err(ServiceError::from);
        let ttc = match drawn {
            Ok(ttc) => ttc.to_be_bytes(),
            Err(error) => return self.settle(caller, &permit, key_event(&selected.key), Err(error)).await,
        };
        if request.fields.set(Field::Ttc, &ttc).is_err() {
            return Err(missing(Field::Ttc));
        }
        let (result, event, permit) =
            self.run_step(&scheme, &selected, PurseStep::Make { make: "mac1" }, &request.fields, permit).await?;
        let result = result.map(|outcome| Outcome::Psam { ttc, mac: outcome.bytes(0, 0).unwrap_or_default().to_vec() });
        self.settle(caller, &permit, event, result).await
    }

    fn select<'a>(
        &self,
        scheme: &'a CardScheme,
        tenant: &str,
        transaction: &str,
        fields: &FieldSet,
    ) -> Result<Selected<'a>, ServiceError> {
        let transaction = scheme.transaction(transaction)?;
        let alg_id = fields.byte(Field::AlgId).ok_or_else(|| missing(Field::AlgId))?;
        let algorithm = scheme
            .algorithm(alg_id)
            .ok_or_else(|| ServiceError::field("alg_id", "is not an algorithm of this scheme"))?;
        let version = KeyVersion(fields.byte(Field::KeyVersion).ok_or_else(|| missing(Field::KeyVersion))?);
        let txn_type = fields.byte(Field::TxnType).ok_or_else(|| missing(Field::TxnType))?;
        if scheme.transaction_of_type(txn_type).is_none_or(|found| found.name() != transaction.name()) {
            return Err(ServiceError::field("txn_type", format!("is no type of transaction `{}`", transaction.name())));
        }
        let factors: Vec<String> = scheme.factors(0, fields).map_err(missing)?.iter().map(hex::encode_upper).collect();
        let name = KeyName::new(tenant, scheme.id(), transaction.role())?;
        let key = self.keyring.select(&name, algorithm, version, &factors).ok_or_else(|| ServiceError::NoRoleKey {
            tenant: name.tenant().to_owned(),
            scheme: name.scheme().to_owned(),
            role: name.role().to_owned(),
        })?;
        Ok(Selected { transaction, algorithm, key })
    }

    /// Runs a step; what it gave is not let out before it is settled with the event.
    async fn run_step(
        &self,
        scheme: &CardScheme,
        selected: &Selected<'_>,
        step: PurseStep<'_>,
        fields: &FieldSet,
        permit: Permit,
    ) -> Result<(Result<claviger_hsm_api::Outcome, ServiceError>, Event, Permit), ServiceError> {
        let router = self.router()?;
        let held = selected.key.record.key.factors.len();
        let prepared =
            scheme.purse(selected.transaction, step, selected.algorithm, held, fields).map_err(ServiceError::from);
        let keys = vec![Arc::clone(&selected.key)];
        let (result, permit) = blocking(move || {
            let ran = prepared.and_then(|(recipe, batch)| Ok(router.run(&permit, &keys, &recipe, &batch)?));
            Ok((ran, permit))
        })
        .await?;
        let mut event = key_event(&selected.key);
        let result = result.map(|ran| {
            let counted = match ran.outcome.verdicts(0) {
                Some([true]) => "valid",
                Some(_) => "invalid",
                None => "made",
            };
            event.counts = [(counted.to_owned(), 1)].into();
            event.backends = vec![ran.on];
            ran.outcome
        });
        Ok((result, event, permit))
    }
}

fn missing(field: Field) -> ServiceError {
    ServiceError::field(field.as_str(), "is missing")
}

fn key_event(key: &Entry) -> Event {
    Event { tenant: key.record.key.name.tenant().to_owned(), keys: vec![key.record.label()], ..Event::default() }
}
