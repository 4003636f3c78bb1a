//! What keys admit, whatever the backend: checked before any driver runs a recipe.
//!
//! - A key above card level is never an oracle for messages: until every dispersion step that it lacks
//!   stands in the path it admits wrapping, storing and a KCV of at most three bytes.
//! - The mode of use says in which direction a finish may run, the usage of generic keys which finish.
//! - A key leaves wrapped only if it is exportable, or once it has become one card's.

use crate::{
    Batch, DriverError, Exportability, Exposure, Finish, KeyAttributes, KeyColumn, KeyHandle, KeyPath, KeyRank, Leg,
    ModeOfUse, NewKey, Recipe, Step, When, WrapFormat,
};

/// Why keys do not admit a recipe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeRefused {
    /// A leg refers to a leg that is not before it, that does not verify where a verdict is needed, or that puts no
    /// bytes out where bytes are.
    #[error("leg {leg} depends on leg {on}, which is not an earlier leg of the right kind")]
    Order {
        /// The leg.
        leg: usize,
        /// What it refers to.
        on: usize,
    },
    /// The key given is of another algorithm than the recipe.
    #[error("the recipe is for {wanted}, the key is {found}")]
    Algorithm {
        /// Of the recipe.
        wanted: crate::Algorithm,
        /// Of the key.
        found: crate::Algorithm,
    },
    /// Too many, too few or misplaced dispersion steps for the key's level.
    #[error("the path has {found} dispersion steps where the key's level leaves {wanted}")]
    Level {
        /// In the path.
        found: usize,
        /// That the key lacks.
        wanted: usize,
    },
    /// A finish that a key above card level does not admit.
    #[error("a dispersion key above card level does not admit `{finish}`")]
    Oracle {
        /// The finish's verb.
        finish: &'static str,
    },
    /// A finish that the mode of use or the usage does not admit.
    #[error("a key of usage {usage} and mode {mode} does not admit `{finish}`")]
    Usage {
        /// X9.143 usage.
        usage: crate::KeyUsage,
        /// X9.143 mode of use.
        mode: ModeOfUse,
        /// The finish's verb.
        finish: &'static str,
    },
    /// A child that would be more than its parent.
    #[error(
        "a stored child must have its parent's algorithm, usage and mode, the rank of its path, and no wider ceiling or exportability"
    )]
    Child,
    /// The key may not leave, or not in that form.
    #[error("the key is not exportable in that form: its `exportability` was fixed when it was made")]
    NotExportable,
    /// A key that would leave under a weaker one.
    #[error("a key of {under} is weaker than the key of {key} that would leave under it")]
    Weaker {
        /// What it would be under.
        under: crate::Algorithm,
        /// Of the key.
        key: crate::Algorithm,
    },
    /// A key block that would not say what the key is, or would allow more than the key may.
    #[error("field {field} of the key block is not the key's")]
    Block {
        /// Of its header.
        field: &'static str,
    },
}

impl NewKey {
    /// Whether the key's check value may be public: one of more than three bytes under a key above card level
    /// is part of a child.
    ///
    /// # Errors
    /// [`RecipeRefused::Oracle`].
    pub fn check_kcv(&self) -> Result<(), RecipeRefused> {
        match self.attributes.rank {
            KeyRank::Dispersion { .. } if self.kcv_rule.take > 3 => Err(RecipeRefused::Oracle { finish: "kcv" }),
            _ => Ok(()),
        }
    }
}

impl Recipe {
    /// Whether a key with these attributes admits all that the recipe does in `slot`.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check_slot(&self, slot: usize, key: &KeyAttributes) -> Result<(), RecipeRefused> {
        for (index, leg) in self.legs.iter().enumerate() {
            self.check_order(index, leg)?;
            if leg.path.slot == slot {
                leg.path.check(key)?;
                leg.check_finish(&leg.path, key)?;
            }
            if let Some(path) = leg.finish.other_path().filter(|path| path.slot == slot) {
                path.check(key)?;
                match &leg.finish {
                    Finish::Wrap { format, .. } => check_wrapper(key, path, format)?,
                    _ => leg.check_finish(path, key)?,
                }
            }
        }
        Ok(())
    }

    /// Whether a batch fits the recipe and every key that one of its rows names admits it: what each driver
    /// asks first.
    ///
    /// # Errors
    /// A [`DriverError`] of [`Fault::Caller`](crate::Fault::Caller).
    pub fn check_batch(&self, keys: &[KeyHandle], batch: &Batch) -> Result<(), DriverError> {
        batch.check(self.slots(), keys.len())?;
        // A key column beyond the recipe's slots was not looked at, and is of no use.
        for (slot, column) in batch.keys.iter().enumerate().take(self.slots()) {
            let mut used: Vec<u16> = column.used().to_vec();
            used.sort_unstable();
            used.dedup();
            for key in used {
                self.check_slot(slot, &keys[usize::from(key)].attributes)?;
            }
        }
        Ok(())
    }

    /// For each slot the lowest ceiling of the keys that its rows name, of which each number's is `of`: no run may let
    /// out more.
    pub fn ceilings(&self, batch: &Batch, of: impl Fn(u16) -> Option<Exposure>) -> Vec<Exposure> {
        let lowest = |slot: usize| {
            let used = batch.keys.get(slot).map(KeyColumn::used).unwrap_or_default();
            used.iter().filter_map(|number| of(*number)).min().unwrap_or(Exposure::MasterKey)
        };
        (0..self.slots()).map(lowest).collect()
    }

    fn check_order(&self, index: usize, leg: &Leg) -> Result<(), RecipeRefused> {
        let earlier = &self.legs[..index];
        let verifies = |on: usize| earlier.get(on).is_some_and(|leg| leg.finish.verifies());
        let puts_out = |on: usize| earlier.get(on).is_some_and(|leg| leg.finish.puts_out());
        let condition = match leg.when {
            When::AfterValid(on) | When::AfterInvalid(on) if !verifies(on) => Some(on),
            _ => None,
        };
        match condition.or_else(|| leg.reads().into_iter().find(|on| !puts_out(*on))) {
            Some(on) => Err(RecipeRefused::Order { leg: index, on }),
            None => Ok(()),
        }
    }
}

impl KeyPath {
    /// How many dispersion steps the path takes.
    pub fn dispersions(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Disperse { .. })).count()
    }

    fn check(&self, key: &KeyAttributes) -> Result<(), RecipeRefused> {
        if key.algorithm != self.algorithm {
            return Err(RecipeRefused::Algorithm { wanted: self.algorithm, found: key.algorithm });
        }
        let wanted = match key.rank {
            KeyRank::Dispersion { steps_left } => usize::from(steps_left),
            KeyRank::Card | KeyRank::Plain => 0,
        };
        let found = self.dispersions();
        let leading = self.steps.iter().take_while(|step| matches!(step, Step::Disperse { .. })).count();
        let below_card = self.steps.len() > found;
        let left = usize::from(self.steps_left);
        if found + left != wanted || leading != found || (below_card && left > 0) {
            return Err(RecipeRefused::Level { found, wanted });
        }
        Ok(())
    }
}

impl Leg {
    fn check_finish(&self, path: &KeyPath, key: &KeyAttributes) -> Result<(), RecipeRefused> {
        use ModeOfUse as M;
        let finish = self.finish.verb();
        let at_card = path.steps_left == 0;
        match &self.finish {
            Finish::Kcv { rule } if at_card || rule.take <= 3 => return Ok(()),
            Finish::Store { child } => return check_child(key, path, &child.attributes),
            Finish::Wrap { format, .. } => {
                let in_a_block = matches!(format, WrapFormat::KeyBlock(_));
                let of_a_card = at_card && path.dispersions() > 0 && !in_a_block;
                if of_a_card {
                    return Ok(());
                }
                let under = self.finish.other_path().map(|under| under.algorithm);
                // What goes into a block is measured where blocks are made.
                let under = under.filter(|_| matches!(format, WrapFormat::Ecb { .. }));
                under.map_or(Ok(()), |under| check_strength(under, key))?;
                return check_leaving(key, format);
            }
            Finish::Envelop { .. } if key.exportability == Exportability::Sensitive => {
                return check_strength(crate::Algorithm::Sm2, key);
            }
            Finish::Envelop { .. } => return Err(RecipeRefused::NotExportable),
            Finish::PublicKey => return Ok(()),
            _ if !at_card => return Err(RecipeRefused::Oracle { finish }),
            _ => {}
        }
        let by_mode = match &self.finish {
            Finish::Mac { .. } => matches!(key.mode, M::GenerateOnly | M::GenerateAndVerify | M::Any),
            Finish::VerifyMac { .. } => matches!(key.mode, M::VerifyOnly | M::GenerateAndVerify | M::Any),
            Finish::Encrypt { .. } => matches!(key.mode, M::EncryptOnly | M::Both | M::Any),
            Finish::Decrypt { .. } => matches!(key.mode, M::DecryptOnly | M::Both | M::Any),
            Finish::Sign { .. } => matches!(key.mode, M::SignOnly | M::GenerateAndVerify | M::Any),
            Finish::VerifySignature { .. } => {
                matches!(key.mode, M::SignOnly | M::VerifyOnly | M::GenerateAndVerify | M::Any)
            }
            Finish::Kcv { .. }
            | Finish::Store { .. }
            | Finish::Wrap { .. }
            | Finish::Envelop { .. }
            | Finish::PublicKey => false,
        };
        let by_usage = match key.usage.as_str().as_bytes() {
            // The standard's own letters; its numbers are the schemes' roles, which profiles restrict.
            [b'M', _] => matches!(self.finish, Finish::Mac { .. } | Finish::VerifyMac { .. }),
            [b'D', _] => matches!(self.finish, Finish::Encrypt { .. } | Finish::Decrypt { .. }),
            [b'S', _] => matches!(self.finish, Finish::Sign { .. } | Finish::VerifySignature { .. }),
            [first, _] => first.is_ascii_digit(),
            _ => false,
        };
        if by_mode && by_usage {
            Ok(())
        } else {
            Err(RecipeRefused::Usage { usage: key.usage, mode: key.mode, finish })
        }
    }
}

/// A child may do no more than its parent, and stands where its path ends.
fn check_child(key: &KeyAttributes, path: &KeyPath, child: &KeyAttributes) -> Result<(), RecipeRefused> {
    let rank = match path.steps_left {
        0 => KeyRank::Card,
        steps_left => KeyRank::Dispersion { steps_left },
    };
    let dispersed = path.dispersions() > 0 && path.dispersions() == path.steps.len();
    let same = child.algorithm == key.algorithm && child.usage == key.usage && child.mode == key.mode;
    let no_wider = child.ceiling <= key.ceiling
        && (child.exportability == key.exportability || child.exportability == Exportability::None);
    if dispersed && same && no_wider && child.rank == rank { Ok(()) } else { Err(RecipeRefused::Child) }
}

/// No key leaves under a weaker one.
fn check_strength(under: crate::Algorithm, key: &KeyAttributes) -> Result<(), RecipeRefused> {
    match under.is_weaker_than(key.algorithm) {
        true => Err(RecipeRefused::Weaker { under, key: key.algorithm }),
        false => Ok(()),
    }
}

/// A stored key leaves in a form that its exportability allows; a block says of it what it is, or less.
fn check_leaving(key: &KeyAttributes, format: &WrapFormat) -> Result<(), RecipeRefused> {
    match format {
        // What is not authenticated with the key is no key block.
        WrapFormat::Ecb { .. } if key.exportability != Exportability::Sensitive => Err(RecipeRefused::NotExportable),
        _ if key.exportability == Exportability::None => Err(RecipeRefused::NotExportable),
        WrapFormat::KeyBlock(header) if header.usage != key.usage => Err(RecipeRefused::Block { field: "usage" }),
        WrapFormat::KeyBlock(header) if !key.mode.allows(header.mode) => Err(RecipeRefused::Block { field: "mode" }),
        WrapFormat::KeyBlock(header) if !key.exportability.allows(header.exportability) => {
            Err(RecipeRefused::Block { field: "exportability" })
        }
        _ => Ok(()),
    }
}

/// A wrapping key is a key-encryption key, or a scheme's role (a card's master protects WRITE KEY); one for key blocks
/// makes blocks and nothing else.
fn check_wrapper(key: &KeyAttributes, under: &KeyPath, format: &WrapFormat) -> Result<(), RecipeRefused> {
    let by_usage = match format {
        WrapFormat::KeyBlock(_) => key.usage.as_str() == "K1",
        WrapFormat::Ecb { .. } | WrapFormat::KeyWrap => {
            key.usage.as_str() == "K0" || matches!(key.usage.as_str().as_bytes(), [b'0'..=b'9', _])
        }
    };
    let by_mode = matches!(key.mode, ModeOfUse::EncryptOnly | ModeOfUse::Both | ModeOfUse::Any);
    if under.steps_left > 0 {
        return Err(RecipeRefused::Oracle { finish: "wrap" });
    }
    if by_usage && by_mode {
        Ok(())
    } else {
        Err(RecipeRefused::Usage { usage: key.usage, mode: key.mode, finish: "wrap under" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, Column, Input, KcvRule, MacAlgorithm, MacSpec, Message, Padding, Truncation};

    fn key() -> KeyHandle {
        let attributes = KeyAttributes {
            algorithm: Algorithm::Sm4,
            usage: "M0".parse().unwrap(),
            mode: ModeOfUse::Any,
            exportability: Exportability::None,
            rank: KeyRank::Plain,
            ceiling: Exposure::Nothing,
        };
        KeyHandle { object: 0, epoch: 0, attributes, raised: None }
    }

    fn leg(finish: Finish) -> Leg {
        let path = KeyPath { slot: 0, algorithm: Algorithm::Sm4, steps: Vec::new(), steps_left: 0 };
        Leg { path, finish, when: When::Always }
    }

    fn spec() -> MacSpec {
        MacSpec {
            algorithm: MacAlgorithm::CbcMac,
            second: None,
            padding: Padding::One,
            initial: None,
            truncation: Truncation::Left(4),
        }
    }

    #[test]
    fn a_leg_reads_only_what_an_earlier_one_puts_out() {
        let mac = |from| leg(Finish::Mac { spec: spec(), message: Message(vec![from]) });
        let constant = || Input::Constant(vec![1]);
        let verify = Finish::VerifyMac { spec: spec(), message: Message(vec![constant()]), expected: constant() };
        let recipe = Recipe { legs: vec![mac(constant()), leg(verify), mac(Input::Output(0))] };
        let check = |recipe: &Recipe| recipe.check_slot(0, &key().attributes);
        assert_eq!(check(&recipe), Ok(()));
        for on in [1, 2, 3] {
            let mut recipe = recipe.clone();
            recipe.legs[2] = mac(Input::Output(on));
            assert_eq!(check(&recipe), Err(RecipeRefused::Order { leg: 2, on }));
        }
        let backwards = Recipe { legs: vec![mac(Input::Output(1)), mac(constant())] };
        assert_eq!(check(&backwards), Err(RecipeRefused::Order { leg: 0, on: 1 }));
    }

    #[test]
    fn a_key_column_that_no_slot_needs_is_not_looked_at() {
        let recipe = Recipe { legs: vec![leg(Finish::Kcv { rule: KcvRule::ZEROS })] };
        let columns = vec![Column::one([0; 8])];
        let batch = Batch { rows: 1, columns, keys: vec![KeyColumn::Same(0), KeyColumn::Same(9)] };
        assert!(recipe.check_batch(&[key()], &batch).is_ok());
        assert!(recipe.check_batch(&[], &batch).is_err());
    }
}
