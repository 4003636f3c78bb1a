//! Digits of clearing files to bytes, eight at a time in a word: a day has hundreds of millions of them.

/// One in every byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The most significant bit of every byte.
const HIGH: u64 = 0x80 * ONES;

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
#[inline]
pub(crate) fn are_decimal(packed: &[u8]) -> bool {
    packed.iter().fold(true, |all, byte| all & (byte >> 4 <= 9) & (byte & 15 <= 9))
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
    ((quads | quads >> 16) as u32, all && word & HIGH == 0)
}

/// The most significant bit of every byte that lies between two ASCII characters, if all bytes are ASCII.
#[inline]
fn within(word: u64, first: u8, last: u8) -> u64 {
    let above = (word | HIGH) - u64::from(first) * ONES;
    let beyond = (word | HIGH) - u64::from(last + 1) * ONES;
    above & !beyond & HIGH
}

/// A decimal number of at most ten digits that fits into 32 bits.
#[inline]
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 {
        return None;
    }
    let add = |number: u64, digit: &u8| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'));
    u32::try_from(text.iter().try_fold(0, add)?).ok()
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
