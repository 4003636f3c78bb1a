//! Text, eight bytes at a time in a word.

/// One in every byte of a word.
pub(crate) const ONES: u64 = 0x0101_0101_0101_0101;
/// The most significant bit of every byte.
pub(crate) const HIGH: u64 = 0x80 * ONES;

/// The most significant bit of every byte that lies between two ASCII characters.
#[inline]
pub(crate) fn within(word: u64, first: u8, last: u8) -> u64 {
    let above = (word | HIGH) - u64::from(first) * ONES;
    let beyond = (word | HIGH) - u64::from(last + 1) * ONES;
    above & !beyond & !word & HIGH
}

/// Whether all bytes are printing ASCII characters, and no blanks.
#[inline]
pub(crate) fn is_graphic(text: &[u8]) -> bool {
    words(text, b'0').fold(true, |graphic, word| graphic & (within(word, b'!', b'~') == HIGH))
}

/// Whether one of two characters is among the bytes.
#[inline]
pub(crate) fn has_either(text: &[u8], one: u8, other: u8) -> bool {
    words(text, 0).fold(0, |found, word| found | within(word, one, one) | within(word, other, other)) != 0
}

/// The words of a text; some of its bytes may be in two, and one that is shorter than a word is filled up.
#[inline]
fn words(text: &[u8], fill: u8) -> impl Iterator<Item = u64> {
    let (eights, rest) = text.as_chunks::<8>();
    let last = match text.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(u64::from(fill) * ONES, |word, byte| word << 8 | u64::from(*byte)),
    };
    eights.iter().map(|eight| u64::from_le_bytes(*eight)).chain(std::iter::once(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_bytes_say() {
        for len in 0..=20 {
            for byte in 0..=u8::MAX {
                for at in 0..len {
                    let mut text = vec![b'7'; len];
                    text[at] = byte;
                    assert_eq!(is_graphic(&text), byte.is_ascii_graphic(), "{text:?}");
                    assert_eq!(has_either(&text, b',', b'"'), matches!(byte, b',' | b'"'), "{text:?}");
                }
            }
        }
    }
}
