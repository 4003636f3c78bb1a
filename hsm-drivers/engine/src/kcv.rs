//! Key check values.

use claviger_bulk_mac::Mac;
use claviger_hsm_api::{
    Algorithm, Batch, Kcv, KcvFunction, KcvInput, KcvRule, MacAlgorithm, MacSpec, Message, Padding, Truncation,
};

use crate::blocks::{encipher, in_bulk};
use crate::derive::KeyRows;
use crate::input::Inputs;
use crate::mac::{Span, macs};
use crate::run::{EngineError, PlainKey};
use crate::signature::public_point;

/// The KCV of one plain key.
///
/// # Errors
/// If the rule does not fit the key's algorithm.
pub fn kcv(key: &PlainKey, rule: KcvRule) -> Result<Kcv, EngineError> {
    let rows = KeyRows::stored(&[key], vec![0], key.algorithm)?;
    let mut value = String::new();
    kcvs(&rows, &[0], rule, |_, kcv| value = hex_upper(kcv))?;
    Ok(Kcv { value, rule })
}

/// The KCVs of rows' keys, given to `each` in order.
pub(crate) fn kcvs(
    keys: &KeyRows,
    rows: &[u32],
    rule: KcvRule,
    mut each: impl FnMut(u32, &[u8]),
) -> Result<(), EngineError> {
    let algorithm = keys.algorithm();
    let take = usize::from(rule.take);
    let fill = match rule.input {
        KcvInput::Zero => 0,
        KcvInput::Ones => 1,
    };
    let mut kept = |row: u32, full: &[u8]| match full.get(..take) {
        Some(kept) if take > 0 => {
            each(row, kept);
            Ok(())
        }
        _ => Err(EngineError::KcvRule(algorithm)),
    };
    match (rule.function, algorithm.block_len()) {
        (KcvFunction::Ecb, Some(block)) => {
            let mut found = vec![0; rows.len() * block];
            encipher(keys, rows, &vec![fill; rows.len() * block], &mut found)?;
            rows.iter().zip(found.chunks_exact(block)).try_for_each(|(row, full)| kept(*row, full))
        }
        (KcvFunction::Cmac, Some(block)) => {
            let mut found = vec![0; rows.len() * block];
            if in_bulk(keys, rows, Mac::Cmac, &vec![fill; rows.len() * block], &mut found) {
                return rows.iter().zip(found.chunks_exact(block)).try_for_each(|(row, full)| kept(*row, full));
            }
            let truncation = Truncation::Left(block);
            let (algorithm, padding) = (MacAlgorithm::Cmac, Padding::None);
            let spec = MacSpec { algorithm, second: None, padding, initial: None, truncation };
            let message = Message(vec![claviger_hsm_api::Input::Constant(vec![fill; block])]);
            let batch = Batch::default();
            let inputs = Inputs { batch: &batch, outputs: &[] };
            macs(keys, None, &spec, &message, &Span { inputs: &inputs, first: 0, rows }, kept)
        }
        (KcvFunction::Hmac, None) if algorithm != Algorithm::Sm2 => {
            rows.iter().try_for_each(|row| kept(*row, &hmac_of_block(keys, *row, fill)?))
        }
        (KcvFunction::Fingerprint, None) if algorithm == Algorithm::Sm2 => {
            use sm3::Digest;
            rows.iter().try_for_each(|row| kept(*row, &sm3::Sm3::digest(public_point(keys, *row)?)))
        }
        _ => Err(EngineError::KcvRule(algorithm)),
    }
}

fn hmac_of_block(keys: &KeyRows, row: u32, fill: u8) -> Result<Vec<u8>, EngineError> {
    fn one<M: hmac::Mac + hmac::KeyInit>(key: &[u8], fill: u8) -> Result<Vec<u8>, EngineError> {
        let mut mac = <M as hmac::KeyInit>::new_from_slice(key).map_err(|_| EngineError::SecondKey)?;
        mac.update(&[fill; 16]);
        Ok(mac.finalize().into_bytes().to_vec())
    }
    match keys.algorithm() {
        Algorithm::HmacSm3 => one::<hmac::Hmac<sm3::Sm3>>(keys.key(row as usize), fill),
        _ => one::<hmac::Hmac<sha2::Sha256>>(keys.key(row as usize), fill),
    }
}

fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
