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

#[derive(Clone)]
struct Choice {
    /// The bits that it was made by, zeros behind them.
    selector: [u64; MOST],
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

    /// The key that a record of the same bits selected, if that is remembered.
    #[inline]
    pub(super) fn find(&self, fields: &FieldSet) -> Option<Result<usize, Reason>> {
        for slot in self.places(fields) {
            match &self.slots[slot] {
                Some(Choice { selector, key }) => {
                    // Word by word, as they are in the record: put together first, they would be waited for.
                    let differ = |differ, (word, other): (u64, &u64)| differ | (word ^ other);
                    if self.selected_by(fields).zip(selector).fold(0, differ) == 0 {
                        return Some(*key);
                    }
                }
                None => break,
            }
        }
        None
    }

    /// Remembers a choice, in the place of another if there are many.
    pub(super) fn remember(&mut self, fields: &FieldSet, key: Result<usize, Reason>) {
        let mut selector = [0; MOST];
        self.selected_by(fields).zip(&mut selector).for_each(|(word, to)| *to = word);
        let empty = self.places(fields).find(|slot| self.slots[*slot].is_none());
        if let Some(slot) = empty.or_else(|| self.places(fields).next()) {
            self.slots[slot] = Some(Choice { selector, key });
        }
    }

    /// The slots in which a choice may be.
    #[inline]
    fn places(&self, fields: &FieldSet) -> impl Iterator<Item = usize> + use<> {
        let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
        let (first, slots) = (self.selected_by(fields).fold(0, mix) as usize, self.slots.len());
        (0..SLOTS.min(slots)).map(move |next| first.wrapping_add(next) & (slots - 1))
    }

    /// The bits that a record selects its key by.
    #[inline]
    fn selected_by(&self, fields: &FieldSet) -> impl Iterator<Item = u64> {
        let word =
            |(from, mask): &(usize, u64)| fields.chunk_at(*from).map_or(0, |bytes| u64::from_le_bytes(*bytes)) & mask;
        self.words.iter().map(word)
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
                let found = choices.find(&fields);
                assert!(found.is_none_or(|found| found == Ok(usize::from(city))), "{city}: {found:?}");
                choices.remember(&fields, Ok(usize::from(city)));
                assert_eq!(choices.find(&fields), Some(Ok(usize::from(city))));
            }
        }
    }

    #[test]
    fn too_many_places_are_not_remembered() {
        let mut choices = Choices::new(3, &Field::ALL.iter().map(|field| whole(*field)).collect::<Vec<_>>());
        choices.remember(&FieldSet::default(), Ok(1));
        assert_eq!(choices.find(&FieldSet::default()), None);
    }
}
