//! Key check values, always together with the rule that made them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::UnknownWord;
use crate::attributes::words;

words! {
    /// What the key enciphers to show itself.
    KcvInput {
        /// A block of zeros.
        Zero = "zero",
        /// A block of bytes 01 (GlobalPlatform, AES).
        Ones = "ones",
    }
}

words! {
    /// How.
    KcvFunction {
        /// One block in ECB.
        Ecb = "ecb",
        /// CMAC of one block (X9.24-1:2017 annex A).
        Cmac = "cmac",
        /// HMAC of one block of 16 bytes, for HMAC keys.
        Hmac = "hmac",
        /// SM3 of the uncompressed public point `04 || X || Y`, for SM2.
        Fingerprint = "fingerprint",
    }
}

/// A KCV rule: `card-crypto` calls it `{algo_input, fn, take}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KcvRule {
    /// ECB, CMAC or a hash.
    #[serde(rename = "fn")]
    pub function: KcvFunction,
    /// The block that is enciphered.
    pub input: KcvInput,
    /// Leftmost bytes that are kept.
    pub take: u8,
}

impl KcvRule {
    /// The rule of card schemes: the first three bytes of the zero block enciphered.
    pub const ZEROS: Self = Self { function: KcvFunction::Ecb, input: KcvInput::Zero, take: 3 };
}

/// A key check value and its rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kcv {
    /// Upper-case hexadecimal digits, two a byte.
    pub value: String,
    /// How it was made.
    pub rule: KcvRule,
}
