//! Purse transactions: MAC1, MAC2 and MAC3 under session keys.

use claviger_hsm_api::{Algorithm, Batch, Column, Finish, Input, Leg, Message, Recipe, Step, When};

use crate::fields::{Field, FieldSet};
use crate::profile::{AppendAuthId, RoleFinish};
use crate::scheme::{CardScheme, SchemeError, Transaction};

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

/// Why a purse recipe could not be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PurseError {
    /// The scheme does not know it.
    #[error(transparent)]
    Scheme(#[from] SchemeError),
    /// A field that a factor, the session key or a MAC needs.
    #[error("field `{0}` is missing")]
    Missing(Field),
    /// The transaction has no such MAC, or the other side makes it.
    #[error("transaction `{transaction}` has no `{mac}` to {what}")]
    NoMac {
        /// The transaction.
        transaction: String,
        /// The MAC.
        mac: String,
        /// `verify` or `make`.
        what: &'static str,
    },
    /// The MAC given has another length.
    #[error("field `{mac}` is not {wanted} bytes long")]
    Length {
        /// The MAC.
        mac: String,
        /// Bytes it should have.
        wanted: usize,
    },
}

impl CardScheme {
    /// A recipe and a batch of one row for a step of a transaction, under a key with `held` levels in it.
    ///
    /// # Errors
    /// [`PurseError`].
    pub fn purse(
        &self,
        transaction: Transaction<'_>,
        step: PurseStep<'_>,
        algorithm: Algorithm,
        held: usize,
        fields: &FieldSet,
    ) -> Result<(Recipe, Batch), PurseError> {
        let role = self.role(&transaction.rules.role)?;
        let no_algorithm =
            || SchemeError::NoAlgorithm { scheme: self.id().to_owned(), role: role.name().to_owned(), algorithm };
        let truncation = self.cipher(algorithm).ok_or_else(no_algorithm)?.mac_truncation.rule();
        let mut columns: Vec<Column> =
            self.factors(held, fields).map_err(PurseError::Missing)?.into_iter().map(Column::one).collect();
        let mut path = self.path_to_card(0, algorithm, held, 0);
        for session in [&transaction.rules.session, &transaction.rules.second_session]
            .into_iter()
            .filter(|pieces| !pieces.is_empty())
        {
            path.steps.push(Step::Session { input: Input::Column(columns.len()) });
            columns.push(Column::one(self.assemble(session, fields)?));
        }
        let spec = self.purse_mac(truncation);
        let verify = |columns: &mut Vec<Column>, mac: &str, expected: &[u8]| -> Result<Finish, PurseError> {
            role.admit(RoleFinish::VerifyMac)?;
            if expected.len() != truncation.len() {
                return Err(PurseError::Length { mac: mac.to_owned(), wanted: truncation.len() });
            }
            let message = Message::column(columns.len());
            columns.push(Column::one(self.mac_input(transaction, mac, false, fields)?));
            columns.push(Column::one(expected));
            Ok(Finish::VerifyMac { spec: spec.clone(), message, expected: Input::Column(columns.len() - 1) })
        };
        let make = |columns: &mut Vec<Column>, mac: &str| -> Result<Finish, PurseError> {
            role.admit(RoleFinish::Mac)?;
            let message = Message::column(columns.len());
            columns.push(Column::one(self.mac_input(transaction, mac, true, fields)?));
            Ok(Finish::Mac { spec: spec.clone(), message })
        };
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
    ) -> Result<Vec<u8>, PurseError> {
        let (list, what) = if make { (&transaction.rules.make, "make") } else { (&transaction.rules.verify, "verify") };
        let no_mac = || PurseError::NoMac { transaction: transaction.name().to_owned(), mac: mac.to_owned(), what };
        let mut input = self.assemble(list.get(mac).ok_or_else(no_mac)?, fields)?;
        let composite = fields.byte(Field::TxnType) == Some(0x09);
        let appended = match self.parameters().mac1_append_auth_id {
            AppendAuthId::None => false,
            AppendAuthId::Composite => composite,
            AppendAuthId::All => true,
        };
        if make && mac == "mac1" && appended {
            input.extend_from_slice(fields.get(Field::AuthId).ok_or(PurseError::Missing(Field::AuthId))?);
        }
        Ok(input)
    }

    pub(crate) fn assemble(&self, pieces: &[crate::Piece], fields: &FieldSet) -> Result<Vec<u8>, PurseError> {
        let mut bytes = Vec::new();
        pieces.iter().try_for_each(|piece| piece.append(fields, &mut bytes)).map_err(PurseError::Missing)?;
        Ok(bytes)
    }
}
