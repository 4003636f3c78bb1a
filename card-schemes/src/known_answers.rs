//! Known answers: what a profile must reproduce before it is used.

use std::collections::BTreeMap;

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Finish, KcvRule, KeyPath, LegValue, Message, NewKey, Padding, Recipe, Secret,
    WrapFormat,
};
use claviger_hsm_engine::{PlainKey, run};
use serde::Deserialize;

use crate::command::{CommandRequest, PreparedCommand};
use crate::fields::{Field, FieldSet};
use crate::purse::PurseStep;
use crate::role::Role;
use crate::scheme::CardScheme;

/// One case: a test key, fields, and what must come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownAnswer {
    /// The vector it is, as `file.json#case`.
    pub vector: String,
    /// `disperse`, `tac`, `command`, `write-key`, `key-set-entry`, or the name of a transaction.
    pub of: String,
    /// Of the test key.
    pub algorithm: Algorithm,
    /// The test key, hexadecimal; for `write-key` that of the protector.
    pub key: String,
    /// Dispersion levels already in it.
    #[serde(default)]
    pub level: usize,
    /// Fields by name, written as in CSV columns.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Role of the key, for `disperse` and `key-set-entry`; of the new key, for `write-key`.
    pub role: Option<String>,
    /// For `command`, and the challenge of `write-key`.
    pub request: Option<CommandAnswer>,
    /// The transport key, for `key-set-entry`, as it leaves its own dispersion.
    pub under: Option<String>,
    /// A card's new key, for `write-key`.
    pub new_key: Option<String>,
    /// What must come out, by name: `card_key`, `tac`, `mac1`, `apdu`, `mac` (its last four bytes) ...
    pub expect: BTreeMap<String, String>,
}

/// What is asked of a command.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommandAnswer {
    /// As the scheme names it.
    pub command: String,
    /// Hexadecimal, where the command leaves them open.
    pub p1p2: Option<String>,
    /// Hexadecimal.
    pub challenge: String,
    /// Hexadecimal.
    pub data: String,
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
        let key = plain(self.algorithm, &self.key)?;
        for (name, expected) in &self.expect {
            let expected = hex::decode(expected).map_err(|_| format!("`{name}` is not hexadecimal"))?;
            let good = match self.of.as_str() {
                "disperse" => self.disperse(scheme, &key, &fields)? == expected,
                "tac" => self.tac(scheme, &key, &fields, &expected)?,
                "command" => ends_of(&self.command(scheme, &key, &fields)?, name)? == expected,
                "write-key" => ends_of(&self.write_key(scheme, &key, &fields)?, name)? == expected,
                "key-set-entry" => self.key_set_entry(scheme, &key, &fields, name)? == expected,
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

    /// The role that the case is about; schemes of one kind of key need not say it.
    fn role<'a>(&self, scheme: &'a CardScheme) -> Result<Role<'a>, String> {
        match &self.role {
            Some(name) => scheme.role(name).map_err(|error| error.to_string()),
            None => scheme.tac_role().ok_or_else(|| "`role` is missing".to_owned()),
        }
    }

    /// No recipe gives out a card key in plain, so it is wrapped under a known key and opened with that.
    fn disperse(&self, scheme: &CardScheme, key: &PlainKey, fields: &FieldSet) -> Result<Vec<u8>, String> {
        let wrapper = PlainKey { algorithm: Algorithm::Aes128, secret: Secret::copy_of(&[0x11; 16]) };
        let wrapped = self.wrapped(scheme, key, &wrapper, fields)?;
        let opened = Finish::Decrypt { mode: CipherMode::Ecb, data: Message::column(0) };
        let recipe = Recipe::single(bare(0, Algorithm::Aes128), opened);
        one(&[&wrapper], &recipe, &Batch::one(vec![Column::one(wrapped)], 1))
    }

    fn wrapped(
        &self,
        scheme: &CardScheme,
        key: &PlainKey,
        under: &PlainKey,
        fields: &FieldSet,
    ) -> Result<Vec<u8>, String> {
        let card_key = self.role(scheme)?.key(self.algorithm, self.level);
        let columns = scheme.factor_columns(&[card_key], fields).map_err(missing)?;
        let format = WrapFormat::Ecb { prefix: Message(Vec::new()), padding: Padding::OneIfNeeded };
        let finish = Finish::Wrap { under: bare(1, under.algorithm), format };
        let recipe = Recipe::single(scheme.path(0, card_key, |level| level), finish);
        one(&[key, under], &recipe, &Batch::one(columns, 2))
    }

    fn key_set_entry(
        &self,
        scheme: &CardScheme,
        key: &PlainKey,
        fields: &FieldSet,
        name: &str,
    ) -> Result<Vec<u8>, String> {
        if name == "wrapped" {
            let under = plain(self.algorithm, self.under.as_deref().ok_or("`under` is missing")?)?;
            return self.wrapped(scheme, key, &under, fields);
        }
        let take = match name {
            "kcv3" => 3,
            "kcv8" => 8,
            _ => return Err(format!("`{name}` is not `wrapped`, `kcv3` or `kcv8`")),
        };
        let rule = scheme.cipher(self.algorithm).ok_or("the scheme has no such cipher")?.kcv;
        let card_key = self.role(scheme)?.key(self.algorithm, self.level);
        let columns = scheme.factor_columns(&[card_key], fields).map_err(missing)?;
        let finish = Finish::Kcv { rule: KcvRule { take, ..rule } };
        one(&[key], &Recipe::single(scheme.path(0, card_key, |level| level), finish), &Batch::one(columns, 1))
    }

    fn command(&self, scheme: &CardScheme, key: &PlainKey, fields: &FieldSet) -> Result<Vec<u8>, String> {
        let request = self.request.as_ref().ok_or("`request` is missing")?;
        let parameters = request.p1p2.as_deref().map(bytes).transpose()?;
        let parameters = parameters.map(|p1p2| p1p2.try_into().map_err(|_| "`p1p2` is not two bytes")).transpose()?;
        let (challenge, data) = (bytes(&request.challenge)?, bytes(&request.data)?);
        let asked = CommandRequest { command: &request.command, parameters, challenge: &challenge, data: &data };
        let prepared = scheme.command(asked, self.algorithm, self.level, fields).map_err(|error| error.to_string())?;
        apdu(&prepared, &[key])
    }

    fn write_key(&self, scheme: &CardScheme, protector: &PlainKey, fields: &FieldSet) -> Result<Vec<u8>, String> {
        let request = self.request.as_ref().ok_or("`request` is missing")?;
        let new = plain(self.algorithm, self.new_key.as_deref().ok_or("`new_key` is missing")?)?;
        let role = self.role(scheme)?;
        // Both keys are given as they are on the card: all their levels are in them.
        let on_card = |role: &Role<'_>| role.levels.len();
        let protector_role = scheme.write_key_protectors().next().ok_or("the scheme has no WRITE KEY")?;
        let protector_role = scheme.role(protector_role).map_err(|error| error.to_string())?;
        let prepared = scheme.write_key(
            (&role, role.key(self.algorithm, on_card(&role))),
            (&protector_role, protector_role.key(self.algorithm, on_card(&protector_role))),
            &bytes(&request.challenge)?,
            fields,
        );
        apdu(&prepared.map_err(|error| error.to_string())?, &[&new, protector])
    }

    fn tac(&self, scheme: &CardScheme, key: &PlainKey, fields: &FieldSet, expected: &[u8]) -> Result<bool, String> {
        let recipe = scheme.tac_recipe(self.algorithm, self.level).ok_or("the scheme has no TAC for this algorithm")?;
        // Alternatives are for cards of the past; a known answer is of the scheme itself.
        let recipe = Recipe { legs: recipe.legs.into_iter().take(1).collect() };
        let txn_type = fields.byte(Field::TxnType).ok_or("`txn_type` is missing")?;
        let transaction = scheme.transaction_of_type(txn_type).ok_or("no transaction has this type")?;
        let message = scheme.assemble(&transaction.rules.tac, fields).map_err(|error| error.to_string())?;
        let key_of_role = self.role(scheme)?.key(self.algorithm, self.level);
        let factors = scheme.factor_columns(&[key_of_role], fields).map_err(missing)?;
        let needed = factors.into_iter().filter(|column| column.width() > 0);
        let columns = needed.chain([message, expected.to_vec()].map(Column::one)).collect();
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
        let first = transaction.rules.after.get(mac);
        let proof = first.map(|first| bytes(self.expect.get(first).map_or("", String::as_str))).transpose()?;
        let step = match (made, first, &proof) {
            (true, Some(verify), Some(expected)) => PurseStep::VerifyThenMake { verify, expected, make: mac },
            (true, ..) => PurseStep::Make { make: mac },
            (false, ..) => PurseStep::Verify { verify: mac, expected },
        };
        let (recipe, batch) =
            scheme.purse(transaction, step, self.algorithm, self.level, fields).map_err(|error| error.to_string())?;
        match made {
            true => Ok(last(&[key], &recipe, &batch)? == expected),
            false => verdict(&[key], &recipe, &batch),
        }
    }
}

fn missing(field: Field) -> String {
    format!("`{field}` is missing")
}

fn bytes(digits: &str) -> Result<Vec<u8>, String> {
    hex::decode(digits).map_err(|_| format!("`{digits}` is not hexadecimal"))
}

fn plain(algorithm: Algorithm, digits: &str) -> Result<PlainKey, String> {
    let secret = Secret::from_hex(digits).filter(|secret| secret.len() == algorithm.key_len());
    Ok(PlainKey { algorithm, secret: secret.ok_or("a key is not hexadecimal or of another length")? })
}

fn bare(slot: usize, algorithm: Algorithm) -> KeyPath {
    KeyPath { slot, algorithm, steps: Vec::new(), steps_left: 0 }
}

fn apdu(prepared: &PreparedCommand, keys: &[&PlainKey]) -> Result<Vec<u8>, String> {
    let outcome = execute(keys, &prepared.recipe, &prepared.batch)?;
    prepared.shape.apdu(&outcome).ok_or_else(|| "nothing came out".to_owned())
}

/// The part of an APDU that a case names.
fn ends_of<'a>(apdu: &'a [u8], name: &str) -> Result<&'a [u8], String> {
    match name {
        "apdu" => Ok(apdu),
        "mac" => Ok(&apdu[apdu.len().saturating_sub(4)..]),
        "cryptogram" => Ok(apdu.get(5..).unwrap_or_default()),
        _ => Err(format!("`{name}` is not `apdu`, `mac` or `cryptogram`")),
    }
}

fn execute(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<claviger_hsm_api::Outcome, String> {
    let store = |_: &NewKey, _: PlainKey| Err(claviger_hsm_engine::EngineError::NoStore);
    run(keys, recipe, batch, &store).map_err(|error| error.to_string())
}

fn one(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<Vec<u8>, String> {
    let outcome = execute(keys, recipe, batch)?;
    outcome.bytes(0, 0).map(<[u8]>::to_vec).ok_or_else(|| "nothing came out".to_owned())
}

/// What the last leg gives.
fn last(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<Vec<u8>, String> {
    let outcome = execute(keys, recipe, batch)?;
    let leg = outcome.legs.len().saturating_sub(1);
    outcome.bytes(leg, 0).map(<[u8]>::to_vec).ok_or_else(|| "nothing came out".to_owned())
}

fn verdict(keys: &[&PlainKey], recipe: &Recipe, batch: &Batch) -> Result<bool, String> {
    match execute(keys, recipe, batch)?.legs.first().map(|leg| &leg.value) {
        Some(LegValue::Verdicts(verdicts)) => Ok(verdicts == &[true]),
        _ => Err("nothing was verified".to_owned()),
    }
}
