//! Key check values.

use claviger_bulk_mac::LANES;
use claviger_hsm_api::{
    Algorithm, Batch, Kcv, KcvFunction, KcvInput, KcvRule, MacAlgorithm, MacSpec, Message, Padding, Truncation,
};

use crate::derive::KeyRows;
use crate::group::Blocks;
use crate::input::Inputs;
use crate::mac::{Span, macs};
use crate::run::{EngineError, PlainKey};
use crate::signature::public_point;

/// The KCV of one plain key.
///
/// # Errors
/// If the rule does not fit the key's algorithm.
pub fn kcv(key: &PlainKey, rule: KcvRule) -> Result<Kcv, EngineError> {
    let rows = KeyRows::stored(&[key], std::iter::once(0), key.algorithm)?;
    Ok(Kcv { value: hex_upper(&kcv_of_row(&rows, 0, rule)?), rule })
}

/// The KCV of one row's key.
pub(crate) fn kcv_of_row(keys: &KeyRows, row: u32, rule: KcvRule) -> Result<Vec<u8>, EngineError> {
    let algorithm = keys.algorithm();
    let fill = match rule.input {
        KcvInput::Zero => 0,
        KcvInput::Ones => 1,
    };
    let full = match (rule.function, algorithm.block_len()) {
        (KcvFunction::Ecb, Some(block)) => {
            let mut blocks: Blocks = [[fill; 16]; LANES];
            keys.group(&[row], algorithm, 0..algorithm.key_len())?.encrypt(&mut blocks);
            blocks[0][..block].to_vec()
        }
        (KcvFunction::Cmac, Some(block)) => {
            let spec = MacSpec {
                algorithm: MacAlgorithm::Cmac,
                second: None,
                padding: Padding::None,
                initial: None,
                truncation: Truncation::Left(block),
            };
            let message = Message(vec![claviger_hsm_api::Input::Constant(vec![fill; block])]);
            let batch = Batch::default();
            let inputs = Inputs { batch: &batch, outputs: &[] };
            let span = Span { inputs: &inputs, first: 0, rows: &[row] };
            let mut full = Vec::new();
            macs(keys, None, &spec, &message, &span, |_, mac| {
                full.extend_from_slice(mac);
                Ok(())
            })?;
            full
        }
        (KcvFunction::Hmac, None) if algorithm != Algorithm::Sm2 => hmac_of_block(keys, row, fill)?,
        (KcvFunction::Fingerprint, None) if algorithm == Algorithm::Sm2 => {
            use sm3::Digest;
            sm3::Sm3::digest(public_point(keys, row)?).to_vec()
        }
        _ => return Err(EngineError::KcvRule(algorithm)),
    };
    full.get(..usize::from(rule.take))
        .filter(|kept| !kept.is_empty())
        .map(<[u8]>::to_vec)
        .ok_or(EngineError::KcvRule(algorithm))
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
