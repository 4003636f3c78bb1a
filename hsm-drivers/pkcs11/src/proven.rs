//! What the token was proved to do, and what of a recipe follows from it.

use std::collections::BTreeSet;

use claviger_hsm_api::{
    Algorithm, CipherMode, DispersionRule, DriverError, Finish, KcvFunction, MacAlgorithm, MacSpec, Padding, Parity,
    Step, WrapFormat,
};
use claviger_hsm_engine::lowering::{Capabilities, End, Reach};

use crate::config::Sm4;
use crate::driver::NAME;
use crate::mechanisms::Mechanisms;

/// One thing that a token does with keys of one algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Skill {
    /// Holds a key that is brought in.
    Hold,
    /// Makes one.
    Generate,
    /// Enciphers in ECB.
    Ecb,
    /// Deciphers in ECB.
    EcbBack,
    /// Enciphers in CBC.
    Cbc,
    /// Deciphers in CBC.
    CbcBack,
    /// Makes CMACs.
    Cmac,
    /// Makes HMACs.
    Hmac,
    /// Derives a key that stays inside by enciphering a block.
    Derive,
    /// Shows the key check value as an attribute.
    CheckValue,
    /// Wraps a dispersed key in ECB as it was computed.
    WrapEcb,
    /// Wraps a key by RFC 3394.
    KeyWrap,
}

impl Skill {
    pub(crate) const ALL: [Self; 12] = [
        Self::Hold,
        Self::Generate,
        Self::Ecb,
        Self::EcbBack,
        Self::Cbc,
        Self::CbcBack,
        Self::Cmac,
        Self::Hmac,
        Self::Derive,
        Self::CheckValue,
        Self::WrapEcb,
        Self::KeyWrap,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "import",
            Self::Generate => "generate",
            Self::Ecb => "ecb",
            Self::EcbBack => "ecb decrypt",
            Self::Cbc => "cbc",
            Self::CbcBack => "cbc decrypt",
            Self::Cmac => "cmac",
            Self::Hmac => "hmac",
            Self::Derive => "derive inside",
            Self::CheckValue => "check value",
            Self::WrapEcb => "wrap a derived key in ecb",
            Self::KeyWrap => "aes key wrap",
        }
    }
}

/// Everything that known answers have shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proven {
    skills: BTreeSet<(Algorithm, Skill)>,
    sm4: Option<Sm4>,
}

impl Proven {
    pub(crate) fn new(sm4: Option<Sm4>) -> Self {
        Self { skills: BTreeSet::new(), sm4 }
    }

    pub(crate) fn add(&mut self, algorithm: Algorithm, skill: Skill) {
        self.skills.insert((algorithm, skill));
    }

    pub(crate) fn has(&self, algorithm: Algorithm, skill: Skill) -> bool {
        self.skills.contains(&(algorithm, skill))
    }

    /// The numbers of an algorithm, whether or not the token has it.
    ///
    /// # Errors
    /// If it has none.
    pub(crate) fn mechanisms(&self, algorithm: Algorithm) -> Result<Mechanisms, DriverError> {
        let none = || {
            let reason = match algorithm {
                Algorithm::Sm4 => "PKCS#11 has no numbers for sm4: set the vendor's in `sm4`".to_owned(),
                other => format!("PKCS#11 has no {other}"),
            };
            DriverError::unsupported(NAME, "run", reason)
        };
        Mechanisms::of(algorithm, self.sm4).ok_or_else(none)
    }

    fn mac(&self, end: End<'_>, other: Option<End<'_>>, spec: &MacSpec) -> bool {
        let has = |skill| self.has(end.algorithm, skill);
        match (spec.algorithm, other) {
            (MacAlgorithm::CbcMac | MacAlgorithm::TrCbc, None) => has(Skill::Cbc),
            (MacAlgorithm::Cmac, None) => has(Skill::Cmac),
            (MacAlgorithm::Hmac, None) => has(Skill::Hmac),
            (MacAlgorithm::Emac, Some(other)) => other.algorithm == end.algorithm && has(Skill::Cbc) && has(Skill::Ecb),
            (MacAlgorithm::Retail, None) => match end.algorithm {
                Algorithm::Des => has(Skill::Cbc),
                // The other object is the child by the factor twice.
                Algorithm::TripleDes => has(Skill::Cbc) && end.last.is_none_or(|last| by_factor(last).is_some()),
                _ => false,
            },
            _ => false,
        }
    }

    fn wraps(&self, end: End<'_>, under: End<'_>, format: &WrapFormat) -> bool {
        // A key that was derived must leave as it was computed, whatever its parity.
        let as_computed = end.last.is_none_or(|last| by_factor(last) == Some(Parity::AsComputed));
        match format {
            WrapFormat::Ecb { prefix, padding } => {
                let bare = prefix.0.is_empty() && matches!(padding, Padding::None | Padding::OneIfNeeded);
                let fits = end.algorithm.key_len() == 16 && end.last.is_some();
                bare && fits && as_computed && self.has(under.algorithm, Skill::WrapEcb)
            }
            WrapFormat::KeyBlock(_) => false,
            WrapFormat::KeyWrap => {
                // Of HMAC keys nobody knows the length here, and single DES is kept twice as long as it is.
                let known = end.algorithm.block_len().is_some() && end.algorithm != Algorithm::Des;
                let fits = known && end.last.is_none();
                let derived = end.last.is_some() && end.algorithm.key_len() == 16 && as_computed;
                (fits || derived) && self.has(under.algorithm, Skill::KeyWrap)
            }
        }
    }
}

fn by_factor(step: &Step) -> Option<Parity> {
    match step {
        Step::Disperse { rule: DispersionRule::FactorAndComplement, parity, .. } => Some(*parity),
        _ => None,
    }
}

impl Capabilities for Proven {
    fn step(&self, algorithm: Algorithm, step: &Step) -> Reach {
        let sixteen = matches!(algorithm, Algorithm::TripleDes | Algorithm::Aes128 | Algorithm::Sm4);
        let known = match step {
            Step::Disperse { .. } => sixteen,
            Step::Session { .. } => sixteen || algorithm == Algorithm::Des,
            Step::FoldHalves { .. } => false,
        };
        Reach {
            inside: known && self.has(algorithm, Skill::Derive),
            comes_out: known && self.has(algorithm, Skill::Ecb),
        }
    }

    fn finish(&self, end: End<'_>, other: Option<End<'_>>, finish: &Finish) -> bool {
        let has = |skill| self.has(end.algorithm, skill);
        match finish {
            Finish::Mac { spec, .. } | Finish::VerifyMac { spec, .. } => self.mac(end, other, spec),
            Finish::Encrypt { mode, .. } => match mode {
                CipherMode::Ecb => has(Skill::Ecb),
                CipherMode::Cbc { .. } => has(Skill::Cbc),
                CipherMode::Gcm { .. } => false,
            },
            Finish::Decrypt { mode, .. } => match mode {
                CipherMode::Ecb => has(Skill::EcbBack),
                CipherMode::Cbc { .. } => has(Skill::CbcBack),
                CipherMode::Gcm { .. } => false,
            },
            Finish::Kcv { rule } => match rule.function {
                KcvFunction::Ecb => has(Skill::Ecb),
                KcvFunction::Cmac => has(Skill::Cmac),
                KcvFunction::Hmac => has(Skill::Hmac),
                KcvFunction::Fingerprint => false,
            },
            Finish::Wrap { format, .. } => other.is_some_and(|under| self.wraps(end, under, format)),
            Finish::Store { .. } => end.last.is_some() && has(Skill::Derive),
            Finish::Sign { .. } | Finish::VerifySignature { .. } | Finish::Envelop { .. } | Finish::PublicKey => false,
        }
    }

    fn enciphers(&self, algorithm: Algorithm) -> bool {
        self.has(algorithm, Skill::Ecb)
    }
}
