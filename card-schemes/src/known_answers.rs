//! Known answers: what a profile must reproduce before it is used.

use std::collections::BTreeMap;

use claviger_hsm_api::{Algorithm, Batch, Column, Finish, LegValue, Recipe, Secret, WrapFormat};
use claviger_hsm_engine::{PlainKey, run};
use serde::Deserialize;

use crate::fields::{Field, FieldSet};
use crate::purse::PurseStep;
use crate::scheme::CardScheme;

/// One case: a test key, fields, and what must come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownAnswer {
    /// The vector it is, as `file.json#case`.
    pub vector: String,
    /// `disperse`, `tac`, or the name of a transaction.
    pub of: String,
    /// Of the test key.
    pub algorithm: Algorithm,
    /// The test key, hexadecimal.
    pub key: String,
    /// Dispersion levels already in it.
    #[serde(default)]
    pub level: usize,
    /// Fields by name, written as in CSV columns.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// What must come out, by name: `card_key`, `tac`, `mac1` ...
    pub expect: BTreeMap<String, String>,
}

/// A known answer that was not reproduced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("known answer `{vector}` is not reproduced: {reason}")]
pub struct KnownAnswerFailed {
    /// The vector.
    pub vector: String,
    /// Which output, or what stood in the way.
    pub reason: String,
}

impl KnownAnswer {
    pub(crate) fn check(&self, scheme: &CardScheme) -> Result<(), KnownAnswerFailed> {
        self.run(scheme).map_err(|reason| KnownAnswerFailed { vector: self.vector.clone(), reason })
    }

    fn run(&self, scheme: &CardScheme) -> Result<(), String> {
        let fields = self.field_set()?;
        let key = Secret::from_hex(&self.key).ok_or("`key` is not hexadecimal")?;
        if key.len() != self.algorithm.key_len() || self.level > scheme.level_count() {
            return Err("`key` or `level` does not fit".to_owned());
        }
        let key = PlainKey { algorithm: self.algorithm, secret: key };
        for (name, expected) in &self.expect {
            let expected = hex::decode(expected).map_err(|_| format!("`{name}` is not hexadecimal"))?;
            let good = match self.of.as_str() {
                "disperse" => self.disperse(scheme, &key, &fields)? == expected,
                "tac" => self.tac(scheme, &key, &fields, &expected)?,
                transaction => self.purse(scheme, &key, &fields, transaction, name, &expected)?,
            };
            if !good {
                return Err(format!("`{name}` comes out otherwise"));
            }
        }
        Ok(())
    }

    fn field_set(&self) -> Result<FieldSet, String> {
        let mut fields = FieldSet::default();
        for (name, text) in &self.fields {
            let field = Field::named(name).ok_or_else(|| format!("`{name}` is not a field"))?;
            fields.parse(field, text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(fields)
    }

    /// No recipe gives out a card key in plain, so it is wrapped under a known key and opened with that.
    fn disperse(&self, scheme: &CardScheme, key: &PlainKey, fields: &FieldSet) -> Result<Vec<u8>, String> {
        let factors = scheme.factors(self.level, fields).map_err(|field| format!("`{field}` is missing"))?;
        let under =
            claviger_hsm_api::KeyPath { slot: 1, algorithm: Algorithm::Aes128, steps: Vec::new(), steps_left: 0 };
        let finish = Finish::Wrap {
            under: under.clone(),
            format: WrapFormat::Ecb { prefix: claviger_hsm_api::Message(Vec::new()) },
        };
        let recipe = Recipe::single(scheme.path_to_card(0, self.algorithm, self.level, 0), finish);
        let columns: Vec<Column> = factors.into_iter().map(Column::one).collect();
        let wrapper = PlainKey { algorithm: Algorithm::Aes128, secret: Secret::copy_of(&[0x11; 16]) };
        let wrapped = one(&[key, &wrapper], &recipe, &Batch::one(columns, 2))?;
        let opened =
            Finish::Decrypt { mode: claviger_hsm_api::CipherMode::Ecb, data: claviger_hsm_api::Message::column(0) };
        let recipe = Recipe::single(claviger_hsm_api::KeyPath { slot: 0, ..under }, opened);
        one(&[&wrapper], &recipe, &Batch::one(vec![Column::one(wrapped)], 1))
    }

    fn tac(&self, scheme: &CardScheme, key: &PlainKey, fields: &FieldSet, expected: &[u8]) -> Result<bool, String> {
        let recipe = scheme.tac_recipe(self.algorithm, self.level).ok_or("the scheme has no TAC for this algorithm")?;
        let txn_type = fields.byte(Field::TxnType).ok_or("`txn_type` is missing")?;
        let transaction = scheme.transaction_of_type(txn_type).ok_or("no transaction has this type")?;
        let factors = scheme.factors(self.level, fields).map_err(|field| format!("`{field}` is missing"))?;
        let message = scheme.assemble(&transaction.rules.tac, fields).map_err(|error| error.to_string())?;
        let columns = factors.into_iter().chain([message, expected.to_vec()]).map(Column::one).collect();
        verdict(&[key], &recipe, &Batch::one(columns, 1))
    }

    fn purse(
        &self,
        scheme: &CardScheme,
        key: &PlainKey,
        fields: &FieldSet,
        transaction: &str,
        mac: &str,
        expected: &[u8],
    ) -> Result<bool, String> {
        let transaction = scheme.transaction(transaction).map_err(|error| error.to_string())?;
        let made = transaction.rules.make.contains_key(mac);
        let step = if made { PurseStep::Make { make: mac } } else { PurseStep::Verify { verify: mac, expected } };
        let (recipe, batch) =
            scheme.purse(transaction, step, self.algorithm, self.level, fields).map_err(|error| error.to_string())?;
        if made { Ok(one(&[key], &recipe, &batch)? == expected) } else { verdict(&[key], &recipe, &batch) }
    }
}

fn execute(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<claviger_hsm_api::Outcome, String> {
    let store = |_: &_, _: PlainKey| Err(claviger_hsm_engine::EngineError::NoStore);
    run(keys, recipe, batch, &store).map_err(|error| error.to_string())
}

fn one(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<Vec<u8>, String> {
    let outcome = execute(keys, recipe, batch)?;
    outcome.bytes(0, 0).map(<[u8]>::to_vec).ok_or_else(|| "nothing came out".to_owned())
}

fn verdict(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<bool, String> {
    match execute(keys, recipe, batch)?.legs.first().map(|leg| &leg.value) {
        Some(LegValue::Verdicts(verdicts)) => Ok(verdicts == &[true]),
        _ => Err("nothing was verified".to_owned()),
    }
}
