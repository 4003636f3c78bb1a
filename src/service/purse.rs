//! The host's side of purse transactions: load, unload, overdraft.

use std::sync::Arc;

use claviger_card_schemes::{Field, PurseStep};
use claviger_hsm_api::{KeyName, KeyVersion};

use super::{Caller, Outcome, Service, ServiceError, blocking};
use crate::audit::Event;
use crate::keyring::Entry;
use crate::operation::PurseRequest;
use crate::policy::Resource;

impl Service {
    pub(super) async fn purse(
        &self,
        caller: &Caller,
        action: &'static str,
        request: PurseRequest,
    ) -> Result<Outcome, ServiceError> {
        let router = self.router()?;
        self.enter(caller, &request.tenant).await?;
        let scheme = Arc::clone(self.scheme(&request.scheme)?);
        let transaction = scheme.transaction(&request.transaction)?;
        let missing = |field: Field| ServiceError::field(field.as_str(), "is missing");
        let alg_id = request.fields.byte(Field::AlgId).ok_or_else(|| missing(Field::AlgId))?;
        let algorithm = scheme
            .algorithm(alg_id)
            .ok_or_else(|| ServiceError::field("alg_id", "is not an algorithm of this scheme"))?;
        let version = KeyVersion(request.fields.byte(Field::KeyVersion).ok_or_else(|| missing(Field::KeyVersion))?);
        let txn_type = request.fields.byte(Field::TxnType).ok_or_else(|| missing(Field::TxnType))?;
        if scheme.transaction_of_type(txn_type).is_none_or(|found| found.name() != transaction.name()) {
            return Err(ServiceError::field("txn_type", format!("is no type of transaction `{}`", transaction.name())));
        }
        let factors = scheme.factors(0, &request.fields).map_err(missing)?;
        let factors: Vec<String> = factors.iter().map(hex::encode_upper).collect();
        let name = KeyName::new(&request.tenant, scheme.id(), transaction.role())?;
        let key = self.keyring.select(&name, algorithm, version, &factors).ok_or_else(|| ServiceError::NoRoleKey {
            tenant: name.tenant().to_owned(),
            scheme: name.scheme().to_owned(),
            role: name.role().to_owned(),
        })?;
        let permit = self.decide(caller, action, &[Resource::of(&key)], 1).await?;
        let step = match &request.make {
            Some(make) => PurseStep::VerifyThenMake { verify: &request.verify, expected: &request.mac, make },
            None => PurseStep::Verify { verify: &request.verify, expected: &request.mac },
        };
        let held = key.record.key.factors.len();
        let prepared = scheme.purse(transaction, step, algorithm, held, &request.fields).map_err(ServiceError::from);
        let keys = vec![Arc::clone(&key)];
        let (result, permit) = blocking(move || {
            let ran = prepared.and_then(|(recipe, batch)| Ok(router.run(&permit, &keys, &recipe, &batch)?));
            Ok((ran, permit))
        })
        .await?;
        let mut event = purse_event(&key);
        let result = result.map(|ran| {
            let valid = ran.outcome.verdicts(0) == Some(&[true]);
            event.counts = [(if valid { "valid" } else { "invalid" }.to_owned(), 1)].into();
            event.backends = vec![ran.on];
            Outcome::Purse { valid, made: ran.outcome.bytes(1, 0).map(<[u8]>::to_vec) }
        });
        self.settle(caller, &permit, event, result).await
    }
}

fn purse_event(key: &Entry) -> Event {
    Event { tenant: key.record.key.name.tenant().to_owned(), keys: vec![key.record.label()], ..Event::default() }
}
