//! Key check values, by the rule that a partner has.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::cipher::BlockKey;
use crate::error::{Field, KeyBlockError};

/// What is computed under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KcvFunction {
    /// One block encrypted.
    Ecb,
    /// The CMAC of one block (ANSI X9.24-1:2017, Annex A).
    Cmac,
}

/// What it is computed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KcvInput {
    /// A block of zeros.
    Zero,
    /// A block of bytes 01 (GlobalPlatform, AES).
    Ones,
}

/// A rule for check values. Which one holds is between partners: `tests/vectors/kcv.json` has those that are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KcvRule {
    /// What is computed.
    pub function: KcvFunction,
    /// Over what.
    pub input: KcvInput,
    /// How many of its leftmost bytes, from 3 to one block.
    pub take: usize,
}

/// Fewer bytes than any rule has would let wrong keys through.
const SHORTEST: usize = 3;

/// The check value of a key.
///
/// # Errors
/// `kcv`, if the rule takes fewer than 3 bytes or more than a block.
pub fn kcv(key: &BlockKey<'_>, rule: KcvRule) -> Result<Vec<u8>, KeyBlockError> {
    let fill = match rule.input {
        KcvInput::Zero => 0,
        KcvInput::Ones => 1,
    };
    let mut block = Zeroizing::new(vec![fill; key.block_len()]);
    match rule.function {
        KcvFunction::Ecb => key.encrypt(&mut block)?,
        KcvFunction::Cmac => block = key.cmac(&[&block])?,
    }
    match block.get(..rule.take) {
        Some(value) if rule.take >= SHORTEST => Ok(value.to_vec()),
        _ => Err(KeyBlockError::new(Field::Kcv, "is 3 bytes at least and one block at most")),
    }
}

/// Whether a key is the one that a check value was sent for, compared in constant time.
///
/// # Errors
/// `kcv`, if it is another's, or not as long as the rule says.
pub fn check_kcv(key: &BlockKey<'_>, rule: KcvRule, sent: &[u8]) -> Result<(), KeyBlockError> {
    if kcv(key, rule)?.ct_eq(sent).into() {
        Ok(())
    } else {
        Err(KeyBlockError::new(Field::Kcv, "is not this key's: another transport key, or a damaged one"))
    }
}
