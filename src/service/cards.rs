//! Commands for cards in the field, and their answers.

use std::sync::Arc;

use claviger_card_schemes::{CommandRequest, Field, PreparedCommand};

use super::perform::{CardKey, algorithm_of};
use super::{Caller, Outcome, Service, ServiceError};
use crate::operation::{CardAnswer, CardCommand, WriteKey};
use crate::policy::{Permit, Resource};

impl Service {
    pub(super) async fn card_command(
        &self,
        caller: &Caller,
        action: &'static str,
        request: CardCommand,
    ) -> Result<Outcome, ServiceError> {
        let scheme = self.enter_scheme(caller, &request.tenant, &request.scheme).await?;
        let role = scheme.command_role(&request.command)?;
        let key = self.key_of_card(&scheme, &request.tenant, &role, &request.fields)?;
        let permit = self.decide(caller, action, &[Resource::of(&key.entry)], 1).await?;
        let asked = CommandRequest {
            command: &request.command,
            parameters: request.parameters,
            challenge: &request.challenge,
            data: request.data.expose(),
        };
        let prepared = scheme.command(asked, key.algorithm, key.held(), &request.fields);
        self.send(caller, permit, vec![key], prepared.map_err(ServiceError::from)).await
    }

    pub(super) async fn write_key(
        &self,
        caller: &Caller,
        action: &'static str,
        request: WriteKey,
    ) -> Result<Outcome, ServiceError> {
        let scheme = self.enter_scheme(caller, &request.tenant, &request.scheme).await?;
        let (role, protector_role) = (scheme.role(&request.role)?, scheme.role(&request.protector)?);
        let protector = self.key_of_card(&scheme, &request.tenant, &protector_role, &request.fields)?;
        let mut fields = request.fields;
        let one_byte = |_| ServiceError::field("fields", "cannot hold the new key's version");
        fields.set(Field::KeyVersion, &[request.version.0]).map_err(one_byte)?;
        fields.set(Field::AlgId, &[request.alg_id]).map_err(one_byte)?;
        algorithm_of(&scheme, request.alg_id)?;
        let new = self.key_of_card(&scheme, &request.tenant, &role, &fields)?;
        let resources = [Resource::of(&new.entry), Resource::of(&protector.entry)];
        let permit = self.decide(caller, action, &resources, 1).await?;
        let prepared = scheme.write_key(
            (&role, role.key(new.algorithm, new.held())),
            (&protector_role, protector_role.key(protector.algorithm, protector.held())),
            &request.challenge,
            &fields,
        );
        self.send(caller, permit, vec![new, protector], prepared.map_err(ServiceError::from)).await
    }

    pub(super) async fn authenticate_card(
        &self,
        caller: &Caller,
        action: &'static str,
        request: CardAnswer,
    ) -> Result<Outcome, ServiceError> {
        let scheme = self.enter_scheme(caller, &request.tenant, &request.scheme).await?;
        let role = scheme.authentication_role()?;
        let key = self.key_of_card(&scheme, &request.tenant, &role, &request.fields)?;
        let permit = self.decide(caller, action, &[Resource::of(&key.entry)], 1).await?;
        let CardAnswer { challenge, answer, fields, .. } = &request;
        let prepared = scheme.internal_authentication(challenge, answer, key.algorithm, key.held(), fields);
        let verdict = |outcome: &claviger_hsm_api::Outcome, job: &str| Outcome::Verdicts {
            valid: vec![outcome.verdicts(0) == Some(&[true])],
            job: job.to_owned(),
        };
        self.perform(caller, permit, vec![key.entry], prepared.map_err(ServiceError::from), verdict).await
    }

    /// Runs a prepared command and answers its APDU.
    async fn send(
        &self,
        caller: &Caller,
        permit: Permit,
        keys: Vec<CardKey>,
        prepared: Result<PreparedCommand, ServiceError>,
    ) -> Result<Outcome, ServiceError> {
        let keys = keys.into_iter().map(|key| Arc::clone(&key.entry)).collect();
        let (task, shape) = match prepared {
            Ok(PreparedCommand { recipe, batch, shape }) => (Ok((recipe, batch)), Some(shape)),
            Err(error) => (Err(error), None),
        };
        let apdu = |outcome: &claviger_hsm_api::Outcome, _: &str| shape.and_then(|shape| shape.apdu(outcome));
        let apdu = self.perform(caller, permit, keys, task, apdu).await?;
        apdu.map(Outcome::Bytes).ok_or(ServiceError::Internal)
    }
}
