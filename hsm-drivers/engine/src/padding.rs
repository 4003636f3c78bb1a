//! Padding: ISO/IEC 9797-1 methods 1 to 3, and the conditional 80 of secure-messaging encryption.

use claviger_hsm_api::{MalformedBatch, Padding};

/// Pads `message[start..]` to whole blocks of `block` bytes.
///
/// # Errors
/// With [`Padding::None`], if it is not whole already.
pub(crate) fn pad(message: &mut Vec<u8>, start: usize, padding: Padding, block: usize) -> Result<(), MalformedBatch> {
    let len = message.len() - start;
    let fill = |message: &mut Vec<u8>| message.resize(start + (message.len() - start).next_multiple_of(block), 0);
    match padding {
        Padding::None => {
            if !len.is_multiple_of(block) {
                return Err(MalformedBatch::Length { what: "message", found: len, wanted: "whole blocks" });
            }
        }
        Padding::Zeros => {
            if len == 0 {
                message.resize(start + block, 0);
            }
            fill(message);
        }
        Padding::One => {
            message.push(0x80);
            fill(message);
        }
        Padding::OneIfNeeded => {
            if !len.is_multiple_of(block) {
                message.push(0x80);
                fill(message);
            }
        }
        Padding::Length => {
            if len == 0 {
                message.resize(start + block, 0);
            }
            fill(message);
            // The length in bits, right-justified in a block of its own, in front.
            let mut first = vec![0; block];
            first[block - 8..].copy_from_slice(&(len as u64 * 8).to_be_bytes());
            message.splice(start..start, first);
        }
        Padding::Pkcs7 => {
            let missing = block - len % block;
            message.resize(start + len + missing, missing as u8);
        }
    }
    Ok(())
}
