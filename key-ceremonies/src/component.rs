//! Components as people write and type them: sixteen letters that nobody takes for another or for a digit, in groups of
//! four that each end with a check letter; or plain hexadecimal, for what comes from elsewhere.

use claviger_hsm_api::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Each letter is four bits.
const LETTERS: &[u8; 16] = b"ACDEFHJKMNPRTWXY";
/// Letters of a group before its check letter: two bytes.
const GROUP: usize = 4;

/// How a component stands on its sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    /// Groups of four letters and a check letter.
    Letters,
    /// Hexadecimal digits.
    Hex,
}

/// What is wrong with a component that somebody types; never what was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TypedWrong {
    /// No letter or digit of the alphabet.
    #[error("character {0} is none of the alphabet's")]
    Alphabet(usize),
    /// The check letter is another.
    #[error("group {0} does not have this check letter: something in it is mistyped")]
    Check(usize),
    /// Odd parity was demanded.
    #[error("byte {0} has even parity")]
    EvenParity(usize),
    /// More than the key has.
    #[error("it is too long: it has {0} bytes")]
    TooLong(usize),
    /// Less than the key has.
    #[error("it is too short: it has {0} bytes")]
    TooShort(usize),
    /// Nothing but zeros.
    #[error("it is all zeros: whoever has the others would have the key")]
    Zero,
}

/// A component while it is typed: each character is checked as it comes.
pub struct TypedComponent {
    written: Written,
    len: usize,
    odd_parity: bool,
    /// Values of four bits, check letters among them.
    typed: Zeroizing<Vec<u8>>,
}

impl TypedComponent {
    /// An empty one of `len` bytes.
    pub fn new(written: Written, len: usize, odd_parity: bool) -> Self {
        // With its whole length from the start: a vector that grows leaves pieces behind.
        Self { written, len, odd_parity, typed: Zeroizing::new(Vec::with_capacity(len * 5 / 2 + GROUP + 1)) }
    }

    /// Takes a character; blanks and hyphens between groups are of no matter.
    ///
    /// # Errors
    /// [`TypedWrong`]; then the character, or the group that it would have ended, is not taken.
    pub fn push(&mut self, c: char) -> Result<(), TypedWrong> {
        if matches!(c, ' ' | '-') {
            return Ok(());
        }
        let known = match self.written {
            Written::Letters => LETTERS.iter().position(|letter| char::from(*letter) == c.to_ascii_uppercase()),
            Written::Hex => c.to_digit(16).map(|digit| digit as usize),
        };
        let value = known.ok_or(TypedWrong::Alphabet(self.typed.len() + 1))?;
        if self.is_complete() {
            return Err(TypedWrong::TooLong(self.len));
        }
        self.typed.push(value as u8);
        self.check_last()
    }

    fn check_last(&mut self) -> Result<(), TypedWrong> {
        let count = self.typed.len();
        let wrong = match self.written {
            Written::Letters if count.is_multiple_of(GROUP + 1) => {
                let number = count / (GROUP + 1);
                let group = &self.typed[count - GROUP - 1..];
                let even = self.odd_parity.then(|| even_parity(group, (number - 1) * 2)).flatten();
                if group[GROUP] != check(&group[..GROUP], number) { Some(TypedWrong::Check(number)) } else { even }
            }
            Written::Hex if count.is_multiple_of(2) && self.odd_parity => {
                even_parity(&self.typed[count - 2..], count / 2 - 1)
            }
            _ => None,
        };
        let group = if self.written == Written::Letters { GROUP + 1 } else { 2 };
        wrong.map_or(Ok(()), |wrong| {
            self.typed.truncate(count - group);
            Err(wrong)
        })
    }

    /// Takes the last character back.
    pub fn pop(&mut self) {
        self.typed.pop();
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.typed.len() == symbols(self.written, self.len)
    }

    /// As it is to stand on the screen: groups apart.
    pub fn shown(&self) -> Zeroizing<String> {
        let group = if self.written == Written::Letters { GROUP + 1 } else { GROUP };
        let mut text = Zeroizing::new(String::with_capacity(self.typed.len() * 2));
        for (at, value) in self.typed.iter().enumerate() {
            if at > 0 && at.is_multiple_of(group) {
                text.push(' ');
            }
            text.push(symbol(self.written, *value));
        }
        text
    }

    /// The bytes.
    ///
    /// # Errors
    /// [`TypedWrong`].
    pub fn finish(self) -> Result<Secret, TypedWrong> {
        if !self.is_complete() {
            return Err(TypedWrong::TooShort(self.len));
        }
        let every = if self.written == Written::Letters { GROUP + 1 } else { usize::MAX };
        let data = || self.typed.iter().enumerate().filter(|(at, _)| (at + 1) % every != 0).map(|(_, value)| *value);
        if data().fold(0, |sum, value| sum | value) == 0 {
            return Err(TypedWrong::Zero);
        }
        Ok(Secret::init(self.len, |bytes| {
            let mut values = data();
            for byte in bytes {
                *byte = values.next().unwrap_or_default() << 4 | values.next().unwrap_or_default();
            }
        }))
    }
}

/// Reads a whole component.
///
/// # Errors
/// [`TypedWrong`].
pub fn read_component(text: &str, written: Written, len: usize, odd_parity: bool) -> Result<Secret, TypedWrong> {
    let mut typed = TypedComponent::new(written, len, odd_parity);
    text.chars().try_for_each(|c| typed.push(c))?;
    typed.finish()
}

/// Writes a component in letters.
pub fn write_component(component: &Secret) -> Zeroizing<String> {
    let bytes = component.expose();
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 4));
    for (number, pair) in (1..).zip(bytes.chunks(2)) {
        if number > 1 {
            text.push(' ');
        }
        let group = [pair[0] >> 4, pair[0] & 15, pair.get(1).map_or(0, |b| b >> 4), pair.get(1).map_or(0, |b| b & 15)];
        let group = Zeroizing::new(group);
        for value in group.iter().chain([&check(&*group, number)]) {
            text.push(symbol(Written::Letters, *value));
        }
    }
    text
}

/// Characters of a component of so many bytes.
fn symbols(written: Written, len: usize) -> usize {
    match written {
        Written::Letters => len.div_ceil(2) * (GROUP + 1),
        Written::Hex => len * 2,
    }
}

fn symbol(written: Written, value: u8) -> char {
    match written {
        Written::Letters => char::from(LETTERS[usize::from(value & 15)]),
        Written::Hex => char::from(b"0123456789ABCDEF"[usize::from(value & 15)]),
    }
}

/// The first byte of even parity among pairs of values, counted from one.
fn even_parity(values: &[u8], before: usize) -> Option<TypedWrong> {
    let pairs = values.chunks_exact(2);
    let even = pairs.enumerate().find(|(_, pair)| (pair[0] << 4 | pair[1]).count_ones() % 2 == 0);
    even.map(|(at, _)| TypedWrong::EvenParity(before + at + 1))
}

/// The check value of a group: a sum over GF(16) in which each place has a weight of its own, so that one wrong letter and
/// two that changed places are found, and the group's number, so that two groups that changed places are.
fn check(group: &[u8], number: usize) -> u8 {
    let start = (number % 16) as u8;
    group.iter().zip([2, 4, 8, 3]).fold(start, |sum, (value, weight)| sum ^ times(*value, weight))
}

/// Multiplication in GF(16) modulo x^4 + x + 1, without a branch on the values.
fn times(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut shifted = a;
    for bit in 0..4 {
        product ^= shifted & (b >> bit & 1).wrapping_neg();
        shifted = (shifted << 1) ^ (0b1_0011 & (shifted >> 3 & 1).wrapping_neg());
    }
    product & 15
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, len: usize) -> Result<Vec<u8>, TypedWrong> {
        read_component(text, Written::Letters, len, false).map(|secret| secret.expose().to_vec())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(bytes in proptest::collection::vec(1_u8.., 1..40)) {
            let text = write_component(&Secret::copy_of(&bytes));
            prop_assert_eq!(read(&text.to_lowercase(), bytes.len()).unwrap(), bytes);
        }

        #[test]
        fn one_wrong_letter_is_found(bytes in proptest::collection::vec(1_u8.., 16), at in 0_usize..40, by in 1_usize..16) {
            let text = write_component(&Secret::copy_of(&bytes)).replace(' ', "");
            let mut letters = text.into_bytes();
            let value = LETTERS.iter().position(|letter| *letter == letters[at]).unwrap();
            letters[at] = LETTERS[(value + by) % 16];
            let found = read(std::str::from_utf8(&letters).unwrap(), 16);
            prop_assert_eq!(found, Err(TypedWrong::Check(at / 5 + 1)));
        }

        #[test]
        fn two_letters_that_changed_places_are_found(bytes in proptest::collection::vec(1_u8.., 16), at in 0_usize..39) {
            let mut letters = write_component(&Secret::copy_of(&bytes)).replace(' ', "").into_bytes();
            prop_assume!(letters[at] != letters[at + 1]);
            letters.swap(at, at + 1);
            prop_assert!(read(std::str::from_utf8(&letters).unwrap(), 16).is_err());
        }

        #[test]
        fn groups_that_changed_places_are_found(bytes in proptest::collection::vec(1_u8.., 16), one in 0_usize..8, other in 0_usize..8) {
            prop_assume!(one != other);
            let text = write_component(&Secret::copy_of(&bytes));
            let mut groups: Vec<&str> = text.split(' ').collect();
            groups.swap(one, other);
            prop_assert!(read(&groups.concat(), 16).is_err());
        }
    }

    #[test]
    fn hexadecimal_is_checked_as_it_is_typed() {
        let typed = |text: &str| {
            let mut typed = TypedComponent::new(Written::Hex, 2, true);
            text.chars().map(|c| typed.push(c)).collect::<Vec<_>>()
        };
        assert_eq!(typed("01 g"), [Ok(()), Ok(()), Ok(()), Err(TypedWrong::Alphabet(3))]);
        assert_eq!(typed("0103"), [Ok(()), Ok(()), Ok(()), Err(TypedWrong::EvenParity(2))]);
        assert_eq!(typed("01010"), [Ok(()), Ok(()), Ok(()), Ok(()), Err(TypedWrong::TooLong(2))]);
        let whole = |text: &str| read_component(text, Written::Hex, 2, false).map(|secret| secret.expose().to_vec());
        assert_eq!(whole("0a-1B"), Ok(vec![0x0A, 0x1B]));
        assert_eq!(whole("0a1"), Err(TypedWrong::TooShort(2)));
        assert_eq!(whole("0000"), Err(TypedWrong::Zero));
    }

    #[test]
    fn a_group_that_is_wrong_is_typed_again() {
        let mut typed = TypedComponent::new(Written::Letters, 4, false);
        let text = write_component(&Secret::copy_of(&[1, 2, 3, 4]));
        let (first, second) = text.split_once(' ').unwrap();
        first.chars().for_each(|c| typed.push(c).unwrap());
        let other = if second.ends_with('A') { 'C' } else { 'A' };
        let mistyped = format!("{}{other}", &second[..4]);
        assert_eq!(mistyped.chars().map(|c| typed.push(c)).last(), Some(Err(TypedWrong::Check(2))));
        assert_eq!(*typed.shown(), *first);
        second.chars().for_each(|c| typed.push(c).unwrap());
        assert_eq!(typed.finish().unwrap().expose(), [1, 2, 3, 4]);
    }
}
