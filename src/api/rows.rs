//! Rows of a JSON list, read where they stand: a row's texts are copied nowhere before they are bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use claviger_card_schemes::{Field, FieldSet, LineFault};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use crate::service::ServiceError;

/// More members than any row has columns.
const MOST_MEMBERS: usize = 64;

/// `{"column": "text", ..}`.
pub(super) struct Row<'b>(Vec<(Text<'b>, Text<'b>)>);

impl Row<'_> {
    /// Its members, each once.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (&*name.0, &*text.0))
    }
}

impl<'de: 'b, 'b> Deserialize<'de> for Row<'b> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Row<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("columns and their texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Text<'de>, Text<'de>)> = Vec::with_capacity(Field::OF_RECORDS.len() + 1);
                while let Some(member) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    if members.len() == MOST_MEMBERS {
                        return Err(A::Error::invalid_length(MOST_MEMBERS + 1, &self));
                    }
                    // The last one of a name counts, as in most readers of JSON.
                    match members.iter_mut().find(|(name, _)| name.0 == member.0.0) {
                        Some(known) => *known = member,
                        None => members.push(member),
                    }
                }
                Ok(Row(members))
            }
        }
        from.deserialize_map(Members)
    }
}

/// A text of the body itself, or a copy if it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

/// The members of a row that was copied.
pub(super) fn members(row: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    row.iter().map(|(name, text)| (name.as_str(), text.as_str()))
}

/// A row as a file would have it, and its id. The outer error is the request's (no such column), the inner one the row's own.
pub(super) fn read_row<'r>(
    members: impl Iterator<Item = (&'r str, &'r str)>,
    id: &str,
    columns: &[Field],
    list: &str,
) -> Result<(&'r str, Result<FieldSet, LineFault>), ServiceError> {
    let mut fields = FieldSet::default();
    let (mut its_id, mut first) = ("", None::<Field>);
    for (name, text) in members {
        if name == id {
            its_id = text;
            continue;
        }
        let field = Field::named(name).filter(|field| columns.contains(field));
        let field = field.ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            ServiceError::field(format!("{list}[].{name}"), "is not a column")
        })?;
        if fields.parse(field, text.as_bytes()).is_err() {
            first = Some(first.map_or(field, |known| known.min(field)));
        }
    }
    let row = match (its_id.is_empty(), first) {
        (true, _) => Err(LineFault::NoId),
        (false, Some(field)) => Err(LineFault::Field(field)),
        (false, None) => Ok(fields),
    };
    Ok((its_id, row))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<BTreeMap<String, String>, serde_json::Error> {
        let row: Row<'_> = serde_json::from_str(json)?;
        Ok(row.members().map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
    }

    proptest! {
        #[test]
        fn a_row_has_the_members_of_its_map(map in prop::collection::btree_map(".{0,20}", ".{0,20}", 0..20)) {
            let json = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(read(&json).unwrap(), map);
        }
    }

    #[test]
    fn the_last_of_a_name_counts_and_what_is_no_row_is_none() {
        let row = read(r#"{"tac": "00", "asn": "\u57ce", "tac": "FF"}"#).unwrap();
        assert_eq!(
            row.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect::<Vec<_>>(),
            [("asn", "城"), ("tac", "FF")]
        );
        for wrong in [r#"{"tac": 1}"#, r#"["tac"]"#, r#"{"tac": null}"#, r#"{"tac": "00""#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let many: BTreeMap<String, String> = (0..=MOST_MEMBERS).map(|n| (n.to_string(), String::new())).collect();
        assert!(read(&serde_json::to_string(&many).unwrap()).unwrap_err().to_string().contains("invalid length 65"));
    }
}
