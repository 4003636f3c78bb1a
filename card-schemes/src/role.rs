//! Key roles: what a scheme calls a key, by which levels it is dispersed, and what it admits.

use claviger_hsm_api::{Algorithm, Exposure, KeyUsage, ModeOfUse};

use crate::profile::{RoleFinish, RoleRules};

/// What a scheme calls a key, and what it admits.
pub struct Role<'a> {
    pub(crate) name: &'a str,
    pub(crate) rules: &'a RoleRules,
    /// Numbers of the scheme's levels by which keys of the role are dispersed, root first.
    pub(crate) levels: &'a [usize],
}

/// A stored key on its way to a card: its role, its algorithm, and how many of the role's levels are in it.
#[derive(Clone, Copy)]
pub struct CardKey<'a> {
    pub(crate) levels: &'a [usize],
    /// Its cipher.
    pub algorithm: Algorithm,
    /// Levels already in it.
    pub held: usize,
}

impl<'a> CardKey<'a> {
    /// Numbers of the scheme's levels that are still to be taken, root first.
    pub(crate) fn remaining(&self) -> &'a [usize] {
        self.levels.get(self.held..).unwrap_or_default()
    }
}

/// A request that the scheme does not know how to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    /// No such role.
    #[error("scheme `{scheme}` has no role `{role}`")]
    NoRole {
        /// The scheme.
        scheme: String,
        /// The role.
        role: String,
    },
    /// The role exists but not with this algorithm.
    #[error("role `{role}` of scheme `{scheme}` is not used with {algorithm}")]
    NoAlgorithm {
        /// The scheme.
        scheme: String,
        /// The role.
        role: String,
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The role does not admit it.
    #[error("role `{role}` may not {finish}")]
    RoleRefuses {
        /// The role.
        role: String,
        /// What was to be done.
        finish: RoleFinish,
    },
    /// More levels than the scheme has.
    #[error("scheme `{scheme}` has {has} dispersion levels, the key claims {claims}")]
    Levels {
        /// The scheme.
        scheme: String,
        /// Its levels.
        has: usize,
        /// Those claimed.
        claims: usize,
    },
    /// No such transaction, command, key set or layout.
    #[error("scheme `{scheme}` has no {what} `{name}`")]
    Unknown {
        /// The scheme.
        scheme: String,
        /// `transaction`, `command`, `key set`, `layout`.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
}

impl<'a> Role<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// For people.
    pub fn title(&self) -> &'a str {
        &self.rules.title
    }

    /// X9.143 usage.
    pub fn usage(&self) -> KeyUsage {
        self.rules.usage
    }

    /// X9.143 mode of use.
    pub fn mode(&self) -> ModeOfUse {
        self.rules.mode
    }

    /// Its default ceiling.
    pub fn ceiling(&self) -> Exposure {
        self.rules.ceiling
    }

    /// What it admits.
    pub fn finishes(&self) -> &'a [RoleFinish] {
        &self.rules.finishes
    }

    /// Numbers of the scheme's levels by which keys of the role are dispersed, root first.
    pub fn levels(&self) -> &'a [usize] {
        self.levels
    }

    /// A key of the role with the first `held` of its levels in it.
    pub fn key(&self, algorithm: Algorithm, held: usize) -> CardKey<'a> {
        CardKey { levels: self.levels, algorithm, held }
    }

    /// Whether it admits a finish.
    ///
    /// # Errors
    /// [`SchemeError::RoleRefuses`].
    pub fn admit(&self, finish: RoleFinish) -> Result<(), SchemeError> {
        if self.rules.finishes.contains(&finish) {
            return Ok(());
        }
        Err(SchemeError::RoleRefuses { role: self.name.to_owned(), finish })
    }
}
