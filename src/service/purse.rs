//! Purse transactions: the host's side (load, unload, overdraft) and the terminal's (purchase), where the
//! service stands in for a PSAM.

use std::sync::Arc;

use claviger_card_schemes::{CardScheme, Field, FieldSet, PurseStep, Transaction};

use super::perform::{CardKey, event_of, missing};
use super::{Caller, Outcome, Service, ServiceError};
use crate::operation::{PsamRequest, PurseRequest};
use crate::policy::{Permit, Resource};

/// What a request selects.
struct Selected<'a> {
    transaction: Transaction<'a>,
    key: CardKey,
}

impl Service {
    /// Verifies what the card sent and, only then, makes the answer.
    pub(super) async fn purse(
        &self,
        caller: &Caller,
        action: &'static str,
        request: PurseRequest,
    ) -> Result<Outcome, ServiceError> {
        let scheme = self.enter_scheme(caller, &request.tenant, &request.scheme).await?;
        let selected = self.select(&scheme, &request.tenant, &request.transaction, &request.fields)?;
        let permit = self.decide(caller, action, &[Resource::of(&selected.key.entry)], 1).await?;
        let step = match &request.make {
            Some(make) => PurseStep::VerifyThenMake { verify: &request.verify, expected: &request.mac, make },
            None => PurseStep::Verify { verify: &request.verify, expected: &request.mac },
        };
        self.step(caller, permit, &scheme, &selected, step, &request.fields, |outcome| Outcome::Purse {
            valid: outcome.verdicts(0) == Some(&[true]),
            made: outcome.bytes(1, 0).map(<[u8]>::to_vec),
        })
        .await
    }

    /// Makes a purchase's MAC1 as a PSAM does: the terminal's next transaction number is on disk before the
    /// MAC is made, so that it is never used twice, whatever happens.
    pub(super) async fn psam_debit(
        &self,
        caller: &Caller,
        action: &'static str,
        mut request: PsamRequest,
    ) -> Result<Outcome, ServiceError> {
        let scheme = self.enter_scheme(caller, &request.tenant, &request.scheme).await?;
        let selected = self.select(&scheme, &request.tenant, &request.transaction, &request.fields)?;
        let permit = self.decide(caller, action, &[Resource::of(&selected.key.entry)], 1).await?;
        let terminal =
            request.fields.get(Field::TerminalId).map(hex::encode_upper).ok_or_else(|| missing(Field::TerminalId))?;
        let drawn = self.store.next_ttc(&request.tenant, &terminal).await.map_err(ServiceError::from);
        let ttc = match drawn {
            Ok(ttc) => ttc.to_be_bytes(),
            Err(error) => {
                let event = event_of(&[Arc::clone(&selected.key.entry)]);
                return self.settle(caller, &permit, event, Err(error)).await;
            }
        };
        if request.fields.set(Field::Ttc, &ttc).is_err() {
            return Err(missing(Field::Ttc));
        }
        let made = |outcome: &claviger_hsm_api::Outcome| outcome.bytes(0, 0).unwrap_or_default().to_vec();
        let step = PurseStep::Make { make: "mac1" };
        let mac = self.step(caller, permit, &scheme, &selected, step, &request.fields, made).await?;
        Ok(Outcome::Psam { ttc, mac })
    }

    fn select<'a>(
        &self,
        scheme: &'a CardScheme,
        tenant: &str,
        transaction: &str,
        fields: &FieldSet,
    ) -> Result<Selected<'a>, ServiceError> {
        let transaction = scheme.transaction(transaction)?;
        let txn_type = fields.byte(Field::TxnType).ok_or_else(|| missing(Field::TxnType))?;
        if scheme.transaction_of_type(txn_type).is_none_or(|found| found.name() != transaction.name()) {
            return Err(ServiceError::field("txn_type", format!("is no type of transaction `{}`", transaction.name())));
        }
        let key = self.key_of_card(scheme, tenant, &scheme.role(transaction.role())?, fields)?;
        Ok(Selected { transaction, key })
    }

    #[expect(clippy::too_many_arguments, reason = "one step of two operations, each argument its own thing")]
    async fn step<T>(
        &self,
        caller: &Caller,
        permit: Permit,
        scheme: &CardScheme,
        selected: &Selected<'_>,
        step: PurseStep<'_>,
        fields: &FieldSet,
        read: impl FnOnce(&claviger_hsm_api::Outcome) -> T,
    ) -> Result<T, ServiceError> {
        let key = &selected.key;
        let prepared = scheme.purse(selected.transaction, step, key.algorithm, key.held(), fields);
        let read = |outcome: &claviger_hsm_api::Outcome, _: &str| read(outcome);
        self.perform(caller, permit, vec![Arc::clone(&key.entry)], prepared.map_err(ServiceError::from), read).await
    }
}
