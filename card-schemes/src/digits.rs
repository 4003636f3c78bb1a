//! Digits of clearing files to bytes, many at a time in a word or a vector: a day has hundreds of millions of them.

use wide::bytemuck::cast;
use wide::{i16x8, u8x16};

use crate::ascii::{HIGH, ONES, within};
use crate::fields::{FieldSet, PACKED};

/// Which digits a text may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digits {
    /// 0 to 9.
    Decimal,
    /// 0 to 9, A to F in either case.
    Hexadecimal,
}

/// Two digits a byte; `None` if the text is not `2 * LEN` such digits.
#[inline]
pub(crate) fn pack<const LEN: usize>(text: &[u8], digits: Digits) -> Option<[u8; LEN]> {
    if text.len() != 2 * LEN {
        return None;
    }
    let mut packed = [0; LEN];
    let (fours, last) = packed.as_chunks_mut::<4>();
    let (eights, rest) = text.as_chunks::<8>();
    let mut good = true;
    for (eight, four) in eights.iter().zip(fours) {
        let (bytes, all) = pack_word(u64::from_le_bytes(*eight), digits);
        *four = bytes.to_le_bytes();
        good &= all;
    }
    if !last.is_empty() {
        let (bytes, all) = pack_word(word(rest), digits);
        last.copy_from_slice(&bytes.to_le_bytes()[..last.len()]);
        good &= all;
    }
    good.then_some(packed)
}

/// Two, four or six digits before zeros.
#[inline]
fn word(digits: &[u8]) -> u64 {
    let mut word = [b'0'; 8];
    match digits.len() {
        2 => word[..2].copy_from_slice(digits),
        4 => word[..4].copy_from_slice(digits),
        _ => word[..6].copy_from_slice(digits),
    }
    u64::from_le_bytes(word)
}

/// Whether bytes hold two decimal digits each.
#[inline(always)]
pub(crate) fn are_decimal(packed: &[u8]) -> bool {
    packed.chunks(8).all(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u64::from_ne_bytes(word);
        // A digit above nine has its highest bit and one of the two next to it.
        word & (word << 1 | word << 2) & (8 * (ONES << 4 | ONES)) == 0
    })
}

/// Four bytes from eight digits, the first in the least significant byte, and whether all are digits.
#[inline]
fn pack_word(word: u64, digits: Digits) -> (u32, bool) {
    let decimal = within(word, b'0', b'9');
    let (nibbles, all) = match digits {
        Digits::Decimal => (word & (0x0F * ONES), decimal == HIGH),
        Digits::Hexadecimal => {
            // A bit that digits have, and that makes capitals small.
            let letters = within(word | (0x20 * ONES), b'a', b'f');
            ((word & (0x0F * ONES)) + 9 * (letters >> 7), decimal | letters == HIGH)
        }
    };
    let pairs = (nibbles << 4 | nibbles >> 8) & 0x00FF_00FF_00FF_00FF;
    let quads = (pairs | pairs >> 8) & 0x0000_FFFF_0000_FFFF;
    ((quads | quads >> 16) as u32, all)
}

/// A decimal number of at most ten digits that fits into 32 bits.
#[inline]
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    let (high, low) = text.split_at(text.len().saturating_sub(8));
    if text.is_empty() || high.len() > 2 {
        return None;
    }
    let end = u64::BITS - 8 * low.len() as u32;
    let word = match (low.first_chunk(), low.last_chunk()) {
        // The two may have bytes in common.
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) << end | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => low.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) << end,
    };
    let low = eight_digits(word | zeros_before(low.len()))?;
    let add = |number: u64, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'));
    u32::try_from(high.iter().try_fold(0, add)? * 100_000_000 + low).ok()
}

/// As [`number`], of the first `len` bytes of some.
#[inline]
pub(crate) fn number_in(bytes: &[u8; 16], len: usize) -> Option<u32> {
    match (len, bytes.first_chunk()) {
        (1..=8, Some(eight)) => {
            let word = u64::from_le_bytes(*eight) << (u64::BITS - 8 * len as u32);
            eight_digits(word | zeros_before(len)).map(|number| number as u32)
        }
        _ => number(bytes.get(..len)?),
    }
}

/// The zeros that make eight digits of `len`, which stand at the end.
#[inline]
fn zeros_before(len: usize) -> u64 {
    (u64::from(b'0') * ONES).unbounded_shr(8 * len as u32)
}

/// The number that eight decimal digits are, the first in the least significant byte.
#[inline]
fn eight_digits(word: u64) -> Option<u64> {
    if within(word, b'0', b'9') != HIGH {
        return None;
    }
    // Neighbours are added up, the left one ten, a hundred, ten thousand times: all of a step in one product.
    let pairs = (word & (0x0F * ONES)).wrapping_mul(10 << 8 | 1) >> 8 & 0x00FF_00FF_00FF_00FF;
    let quads = pairs.wrapping_mul(100 << 16 | 1) >> 16 & 0x0000_FFFF_0000_FFFF;
    Some(quads.wrapping_mul(10_000 << 32 | 1) >> 32)
}

/// Digits of a row's fields: two for each byte of [`FieldSet::of_record`](crate::FieldSet::of_record), `0` where
/// there are none.
#[derive(Clone)]
pub(crate) struct DigitRow([u8; Self::LEN]);

impl DigitRow {
    /// Those of all fields, and what is laid beyond the last.
    const LEN: usize = 2 * PACKED + 16;
    /// Of no field.
    pub(crate) const EMPTY: Self = Self([b'0'; Self::LEN]);

    /// The digits of the bytes from `at` on.
    #[inline]
    pub(crate) fn set<const LEN: usize>(&mut self, at: usize, digits: [u8; LEN]) {
        if let Some(place) = self.0.get_mut(2 * at..).and_then(<[u8]>::first_chunk_mut) {
            *place = digits;
        }
    }

    /// As [`set`](Self::set), with what may be beyond the digits: whoever sets fields in their order covers it.
    #[inline]
    pub(crate) fn lay(&mut self, at: usize, digits: &[u8; 16]) {
        if let Some(place) = self.0[2 * at % (2 * PACKED)..].first_chunk_mut() {
            *place = *digits;
        }
    }

    /// As [`set`](Self::set), of any length.
    pub(crate) fn copy(&mut self, at: usize, digits: &[u8]) {
        if let Some(place) = self.0.get_mut(2 * at..2 * at + digits.len()) {
            place.copy_from_slice(digits);
        }
    }

    /// Covers what was laid beyond the last field.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.0[2 * FieldSet::RECORD_BYTES..].fill(b'0');
    }

    /// The digits of `len` bytes from `at` on.
    pub(crate) fn get(&self, at: usize, len: usize) -> &[u8] {
        &self.0[2 * at..2 * (at + len)]
    }

    /// Two digits a byte, and whether all are hexadecimal.
    #[inline]
    pub(crate) fn pack(&self) -> ([u8; PACKED], bool) {
        let mut packed = [0; PACKED];
        let mut all = u8x16::splat(0xFF);
        for (texts, to) in self.0.as_chunks::<32>().0.iter().zip(packed.as_chunks_mut::<16>().0) {
            let [first, second] = [0, 16].map(|at| {
                let text = texts[at..].first_chunk().map_or(u8x16::ZERO, |text| u8x16::new(*text));
                let decimal = at_most(text - u8x16::splat(b'0'), 9);
                // A bit that digits have, and that makes capitals small.
                let letters = at_most((text | u8x16::splat(0x20)) - u8x16::splat(b'a'), 5);
                all &= decimal | letters;
                let nibbles: i16x8 = cast((text & u8x16::splat(0x0F)) + (letters & u8x16::splat(9)));
                (nibbles << 4 | nibbles >> 8) & i16x8::splat(0xFF)
            });
            *to = u8x16::narrow_i16x8(first, second).to_array();
        }
        (packed, all.to_bitmask() == 0xFFFF)
    }
}

/// All ones in each byte of at most that value.
#[inline]
pub(crate) fn at_most(bytes: u8x16, most: u8) -> u8x16 {
    bytes.min(u8x16::splat(most)).simd_eq(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_pair_of<const LEN: usize>() {
        for at in 0..LEN {
            for pair in 0..=u16::MAX {
                let mut text = vec![b'7'; 2 * LEN];
                text[2 * at..2 * at + 2].copy_from_slice(&pair.to_be_bytes());
                let expected = hex::decode(&text).ok();
                assert_eq!(pack::<LEN>(&text, Digits::Hexadecimal).map(|packed| packed.to_vec()), expected, "{text:?}");
                let decimal = expected.filter(|_| text.iter().all(u8::is_ascii_digit));
                assert_eq!(pack::<LEN>(&text, Digits::Decimal).map(|packed| packed.to_vec()), decimal, "{text:?}");
            }
        }
    }

    #[test]
    fn every_pair_of_bytes_is_packed_as_hex_does() {
        every_pair_of::<1>();
        every_pair_of::<2>();
        every_pair_of::<3>();
        every_pair_of::<4>();
        every_pair_of::<6>();
        every_pair_of::<8>();
        every_pair_of::<9>();
    }

    #[test]
    fn another_length_is_refused() {
        for len in 0..=20 {
            let text = vec![b'1'; len];
            assert_eq!(pack::<1>(&text, Digits::Decimal).is_some(), len == 2);
            assert_eq!(pack::<3>(&text, Digits::Decimal).is_some(), len == 6);
            assert_eq!(pack::<8>(&text, Digits::Hexadecimal).is_some(), len == 16);
        }
    }

    #[test]
    fn numbers_fit_into_a_word() {
        assert_eq!((number(b"0"), number(b"4294967295")), (Some(0), Some(u32::MAX)));
        for bad in ["", "4294967296", "00000000001", "-1", "+1", "1.0", " 1", "12a4"] {
            assert_eq!(number(bad.as_bytes()), None, "{bad}");
        }
    }
}
