//! Purse transactions: MAC1, MAC2 and MAC3 under session keys.

use claviger_hsm_api::{Algorithm, Batch, Column, Finish, Input, Leg, Message, Recipe, Step, When};

use crate::fields::{Field, FieldSet};
use crate::profile::{AppendAuthId, RoleFinish};
use crate::request_error::RequestError;
use crate::scheme::{CardScheme, Transaction};

/// What is asked of a transaction's session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PurseStep<'a> {
    /// Verify the MAC of that name, and only then make the other.
    VerifyThenMake {
        /// As the profile names it.
        verify: &'a str,
        /// The MAC to compare with.
        expected: &'a [u8],
        /// As the profile names it.
        make: &'a str,
    },
    /// Verify only.
    Verify {
        /// As the profile names it.
        verify: &'a str,
        /// The MAC to compare with.
        expected: &'a [u8],
    },
    /// Make only.
    Make {
        /// As the profile names it.
        make: &'a str,
    },
}

impl CardScheme {
    /// A recipe and a batch of one row for a step of a transaction, under a key with `held` levels in it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn purse(
        &self,
        transaction: Transaction<'_>,
        step: PurseStep<'_>,
        algorithm: Algorithm,
        held: usize,
        fields: &FieldSet,
    ) -> Result<(Recipe, Batch), RequestError> {
        let role = self.role(&transaction.rules.role)?;
        let rules = self.cipher(algorithm).ok_or_else(|| self.no_algorithm(&role, algorithm))?;
        let truncation = rules.mac_truncation.rule();
        let key = role.key(algorithm, held);
        let mut columns = self.factor_columns(&[key], fields).map_err(RequestError::Missing)?;
        let mut path = self.path(0, key, |level| level);
        let wide = algorithm.block_len() == Some(16) && !transaction.rules.session_wide.is_empty();
        let session = if wide { &transaction.rules.session_wide } else { &transaction.rules.session };
        for session in [session, &transaction.rules.second_session].into_iter().filter(|pieces| !pieces.is_empty()) {
            path.steps.push(Step::Session { input: Input::Column(columns.len()) });
            columns.push(Column::one(self.assemble(session, fields)?));
        }
        let spec = self.purse_mac(truncation);
        let verify = |columns: &mut Vec<Column>, mac: &str, expected: &[u8]| -> Result<Finish, RequestError> {
            role.admit(RoleFinish::VerifyMac)?;
            if expected.len() != truncation.len() {
                return Err(RequestError::wrong(mac, format!("must have {} hexadecimal digits", 2 * truncation.len())));
            }
            let message = Message::column(columns.len());
            columns.push(Column::one(self.mac_input(transaction, mac, false, fields)?));
            columns.push(Column::one(expected));
            Ok(Finish::VerifyMac { spec: spec.clone(), message, expected: Input::Column(columns.len() - 1) })
        };
        let make = |columns: &mut Vec<Column>, mac: &str| -> Result<Finish, RequestError> {
            role.admit(RoleFinish::Mac)?;
            let message = Message::column(columns.len());
            columns.push(Column::one(self.mac_input(transaction, mac, true, fields)?));
            Ok(Finish::Mac { spec: spec.clone(), message })
        };
        in_order(transaction, step)?;
        let leg = |finish, when| Leg { path: path.clone(), finish, when };
        let legs = match step {
            PurseStep::VerifyThenMake { verify: checked, expected, make: made } => vec![
                leg(verify(&mut columns, checked, expected)?, When::Always),
                leg(make(&mut columns, made)?, When::AfterValid(0)),
            ],
            PurseStep::Verify { verify: checked, expected } => {
                vec![leg(verify(&mut columns, checked, expected)?, When::Always)]
            }
            PurseStep::Make { make: made } => vec![leg(make(&mut columns, made)?, When::Always)],
        };
        Ok((Recipe { legs }, Batch::one(columns, 1)))
    }

    /// What a MAC covers.
    fn mac_input(
        &self,
        transaction: Transaction<'_>,
        mac: &str,
        make: bool,
        fields: &FieldSet,
    ) -> Result<Vec<u8>, RequestError> {
        let (list, what) = if make { (&transaction.rules.make, "make") } else { (&transaction.rules.verify, "verify") };
        let no_mac =
            || RequestError::wrong(mac, format!("is no MAC that transaction `{}` has to {what}", transaction.name()));
        let mut input = self.assemble(list.get(mac).ok_or_else(no_mac)?, fields)?;
        let composite = fields.byte(Field::TxnType) == Some(0x09);
        let appended = match self.parameters().mac1_append_auth_id {
            AppendAuthId::None => false,
            AppendAuthId::Composite => composite,
            AppendAuthId::All => true,
        };
        if make && mac == "mac1" && appended {
            input.extend_from_slice(fields.get(Field::AuthId).ok_or(RequestError::Missing(Field::AuthId))?);
        }
        Ok(input)
    }

    pub(crate) fn assemble(&self, pieces: &[crate::Piece], fields: &FieldSet) -> Result<Vec<u8>, RequestError> {
        let mut bytes = Vec::new();
        pieces.iter().try_for_each(|piece| piece.append(fields, &mut bytes)).map_err(RequestError::Missing)?;
        Ok(bytes)
    }
}

/// What the profile says is made only after another MAC was found right is made in no other way.
fn in_order(transaction: Transaction<'_>, step: PurseStep<'_>) -> Result<(), RequestError> {
    let (verified, made) = match step {
        PurseStep::VerifyThenMake { verify, make, .. } => (Some(verify), make),
        PurseStep::Make { make } => (None, make),
        PurseStep::Verify { .. } => return Ok(()),
    };
    match (transaction.rules.after.get(made), verified) {
        (Some(first), _) if Some(first.as_str()) != verified => {
            Err(RequestError::wrong(made, format!("is made only after `{first}` was found right")))
        }
        // A MAC that follows nothing is a terminal's to make, with a transaction number of its own.
        (None, Some(_)) => Err(RequestError::wrong(made, "is not made in answer to another MAC")),
        _ => Ok(()),
    }
}
