//! Which key a record selects: mostly that of an earlier one, and then found by comparing a few words.

use super::Reason;
use crate::fields::FieldSet;
use crate::piece::Piece;

/// What earlier records selected.
pub(super) struct Choices {
    /// Places in a row of fields, and which bits of the eight bytes there select a key.
    words: Vec<(usize, u64)>,
    slots: Vec<Option<Choice>>,
}

/// The bits that a record selects its key by, zeros behind them.
pub(super) type Selector = [u64; MOST];

#[derive(Clone)]
struct Choice {
    selector: Selector,
    key: Result<usize, Reason>,
}

/// Words of a row that may select a key: those of version, algorithm, city, issuer and card.
const MOST: usize = 4;
/// Slots for each key, and how many are looked at for a choice.
const SLOTS: usize = 8;

impl Choices {
    /// Of `keys` keys, which are selected by the bytes of fields. Nothing is remembered where these are in too many
    /// places.
    pub(super) fn new(keys: usize, by: &[Piece]) -> Self {
        let bytes = by.iter().filter_map(|piece| match piece {
            Piece::Field { field, from, to } => Some(field.place() + from..field.place() + to),
            Piece::Fixed(_) => None,
        });
        let mut words: Vec<(usize, u64)> = Vec::new();
        for at in bytes.flatten() {
            // The last word of a row ends with it.
            let from = (at / 8 * 8).min(FieldSet::BYTES - 8);
            let bits = 0xFF << (8 * (at - from));
            match words.iter_mut().find(|(known, _)| *known == from) {
                Some((_, mask)) => *mask |= bits,
                None => words.push((from, bits)),
            }
        }
        let slots = if words.len() > MOST { 0 } else { (SLOTS * keys).next_power_of_two() };
        Self { words, slots: vec![None; slots] }
    }

    /// What a record selects its key by.
    #[inline]
    pub(super) fn selector(&self, fields: &FieldSet) -> Selector {
        let mut selector = [0; MOST];
        for ((from, mask), word) in self.words.iter().zip(&mut selector) {
            *word = fields.chunk_at(*from).map_or(0, |bytes| u64::from_le_bytes(*bytes)) & mask;
        }
        selector
    }

    /// The key that was selected by the same, if that is remembered.
    #[inline]
    pub(super) fn find(&self, selector: &Selector) -> Option<Result<usize, Reason>> {
        for slot in self.places(selector) {
            match &self.slots[slot] {
                Some(choice) if choice.selector == *selector => return Some(choice.key),
                Some(_) => {}
                None => break,
            }
        }
        None
    }

    /// Remembers a choice, in the place of another if there are many.
    pub(super) fn remember(&mut self, selector: Selector, key: Result<usize, Reason>) {
        let empty = self.places(&selector).find(|slot| self.slots[*slot].is_none());
        if let Some(slot) = empty.or_else(|| self.places(&selector).next()) {
            self.slots[slot] = Some(Choice { selector, key });
        }
    }

    /// The slots in which a choice may be.
    #[inline]
    fn places(&self, selector: &Selector) -> impl Iterator<Item = usize> + use<> {
        let mix = |hash: u64, word: &u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
        let (first, slots) = (selector.iter().fold(0, mix) as usize, self.slots.len());
        (0..SLOTS.min(slots)).map(move |next| first.wrapping_add(next) & (slots - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Field;

    fn whole(field: Field) -> Piece {
        Piece::Field { field, from: 0, to: field.width() }
    }

    #[test]
    fn what_is_remembered_is_what_was_chosen() {
        let mut choices = Choices::new(3, &[whole(Field::KeyVersion), whole(Field::CityCode), whole(Field::Asn)]);
        for round in 0..3 {
            for city in 0..400u16 {
                let mut fields = FieldSet::default();
                fields.set(Field::CityCode, &city.to_be_bytes()).unwrap();
                // Selects nothing.
                fields.set(Field::Date, &[round; 4]).unwrap();
                let selector = choices.selector(&fields);
                let found = choices.find(&selector);
                assert!(found.is_none_or(|found| found == Ok(usize::from(city))), "{city}: {found:?}");
                choices.remember(selector, Ok(usize::from(city)));
                assert_eq!(choices.find(&choices.selector(&fields)), Some(Ok(usize::from(city))));
            }
        }
    }

    #[test]
    fn too_many_places_are_not_remembered() {
        let mut choices = Choices::new(3, &Field::ALL.iter().map(|field| whole(*field)).collect::<Vec<_>>());
        choices.remember([0; MOST], Ok(1));
        assert_eq!(choices.find(&[0; MOST]), None);
    }
}
