//! Lines of a clearing file in CSV (RFC 4180), one record a line.
//!
//! A record never holds a line break, so a quote that is left open harms its own line only.

use std::borrow::Cow;

use crate::fields::{Field, FieldError, FieldSet};

/// Longest record id, in bytes.
const LONGEST_ID: usize = 64;

/// Which column holds what.
#[derive(Debug, Clone)]
pub struct CsvHeader {
    /// Column of the record id.
    record_id: usize,
    /// Field of each column; `None` for the record id.
    columns: Vec<Option<Field>>,
}

/// A header line that does not describe clearing records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The first line is not UTF-8 text.
    #[error("the header line is not UTF-8 text")]
    NotText,
    /// A column of another name.
    #[error(
        "column `{0}` is not one of record_id, city_code, issuer_id, asn, txn_type, amount, balance_after, online_sn, terminal_id, ttc, date, time, key_version, alg_id, tac"
    )]
    Unknown(String),
    /// Twice the same.
    #[error("column `{0}` stands twice in the header")]
    Twice(String),
    /// Not there.
    #[error("column `{0}` is missing from the header")]
    Missing(&'static str),
}

/// What is wrong with a line as a whole, or with one field of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// No readable record id.
    NoId,
    /// The first field, in column order, that is not what it should be.
    Field(Field),
}

impl CsvHeader {
    /// Reads the header line.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn parse(line: &[u8]) -> Result<Self, HeaderError> {
        let line = std::str::from_utf8(line).map_err(|_| HeaderError::NotText)?;
        let line = line.strip_prefix('\u{FEFF}').unwrap_or(line);
        let mut record_id = None;
        let mut columns = Vec::new();
        for (at, name) in line.trim_end_matches(['\r', '\n']).split(',').enumerate() {
            let name = name.trim().trim_matches('"');
            let field = match Field::named(name).filter(|field| Field::OF_RECORDS.contains(field)) {
                None if name == "record_id" => None,
                None => return Err(HeaderError::Unknown(name.chars().take(40).collect())),
                field => field,
            };
            let twice = if field.is_none() { record_id.replace(at).is_some() } else { columns.contains(&field) };
            if twice {
                return Err(HeaderError::Twice(name.to_owned()));
            }
            columns.push(field);
        }
        for field in Field::OF_RECORDS {
            if !columns.contains(&Some(*field)) {
                return Err(HeaderError::Missing(field.as_str()));
            }
        }
        Ok(Self { record_id: record_id.ok_or(HeaderError::Missing("record_id"))?, columns })
    }

    /// Reads one line into `id` and `fields`. Every field is looked at, so that the fault reported is the
    /// first in column order whatever the order in the file.
    ///
    /// # Errors
    /// [`LineFault`].
    pub fn read(&self, line: &[u8], id: &mut Vec<u8>, fields: &mut FieldSet) -> Result<(), LineFault> {
        id.clear();
        *fields = FieldSet::default();
        let mut fault: Option<Field> = None;
        let mut blame = |field: Field| fault = Some(fault.map_or(field, |first| first.min(field)));
        let mut cells = Cells { rest: Some(line) };
        for (at, column) in self.columns.iter().enumerate() {
            let cell = cells.next();
            match (column, cell) {
                (None, Some(Some(cell))) if at == self.record_id && is_record_id(&cell) => id.extend_from_slice(&cell),
                (None, _) => {}
                (Some(field), Some(Some(cell))) => {
                    if let Err(FieldError { field, .. }) = fields.parse(*field, &cell) {
                        blame(field);
                    }
                }
                (Some(field), _) => blame(*field),
            }
        }
        if cells.next().is_some() {
            // More cells than columns: nobody can say which are right.
            blame(self.columns.iter().flatten().copied().max().unwrap_or(Field::Tac));
        }
        match (id.is_empty(), fault) {
            (true, _) => Err(LineFault::NoId),
            (false, Some(field)) => Err(LineFault::Field(field)),
            (false, None) => Ok(()),
        }
    }
}

/// Whether text may stand as a record id: UTF-8 without control characters, 1 to 64 bytes.
fn is_record_id(cell: &[u8]) -> bool {
    (1..=LONGEST_ID).contains(&cell.len())
        && std::str::from_utf8(cell).is_ok_and(|text| !text.chars().any(char::is_control) && !text.trim().is_empty())
}

/// A record id as it is written into a CSV of verdicts.
pub fn record_id_of(id: &[u8]) -> Cow<'_, [u8]> {
    if id.iter().any(|c| matches!(c, b',' | b'"')) {
        let mut quoted = vec![b'"'];
        for c in id {
            if *c == b'"' {
                quoted.push(b'"');
            }
            quoted.push(*c);
        }
        quoted.push(b'"');
        return Cow::Owned(quoted);
    }
    Cow::Borrowed(id)
}

/// The cells of a line; `Some(None)` is a cell whose quotes are wrong.
struct Cells<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Option<Cow<'a, [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        if rest.first() == Some(&b'"') {
            return Some(self.quoted(&rest[1..]));
        }
        let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
        self.rest = rest.get(end + 1..);
        Some(Some(Cow::Borrowed(&rest[..end])))
    }
}

impl<'a> Cells<'a> {
    fn quoted(&mut self, mut rest: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let mut cell = Vec::new();
        loop {
            let Some(end) = memchr::memchr(b'"', rest) else {
                self.rest = None;
                return None;
            };
            cell.extend_from_slice(&rest[..end]);
            match rest.get(end + 1) {
                Some(b'"') => {
                    cell.push(b'"');
                    rest = &rest[end + 2..];
                }
                Some(b',') => {
                    self.rest = Some(&rest[end + 2..]);
                    return Some(Cow::Owned(cell));
                }
                None => {
                    self.rest = None;
                    return Some(Cow::Owned(cell));
                }
                Some(_) => {
                    self.rest = None;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "record_id,city_code,issuer_id,asn,txn_type,amount,balance_after,online_sn,terminal_id,ttc,date,time,key_version,alg_id,tac";
    const LINE: &str =
        "R1,1150,1009115000010000,1150491934206620,06,544,,,115366392864,00000001,20261121,071014,01,00,BA231E81";

    fn read(line: &str) -> Result<String, LineFault> {
        let (mut id, mut fields) = (Vec::new(), FieldSet::default());
        CsvHeader::parse(HEADER.as_bytes()).unwrap().read(line.as_bytes(), &mut id, &mut fields)?;
        Ok(String::from_utf8(id).unwrap())
    }

    #[test]
    fn a_good_line_reads() {
        assert_eq!(read(LINE).unwrap(), "R1");
        assert_eq!(read(&LINE.replace("R1", "\"公交, \"\"1\"\"号\"")).unwrap(), "公交, \"1\"号");
    }

    #[test]
    fn the_first_fault_in_column_order_is_named() {
        assert_eq!(
            read(&LINE.replace("544", "x").replace("20261121", "20261341")),
            Err(LineFault::Field(Field::Amount))
        );
        assert_eq!(read("R1,1150"), Err(LineFault::Field(Field::IssuerId)));
        assert_eq!(read(&format!("{LINE},more")), Err(LineFault::Field(Field::Tac)));
        assert_eq!(read(&LINE.replace("1150,", "\"1150,")), Err(LineFault::Field(Field::CityCode)));
    }

    #[test]
    fn a_line_without_a_readable_id_says_so() {
        for id in ["", "\"R1", " ", "R\u{7}", &"x".repeat(65)] {
            assert_eq!(read(&LINE.replacen("R1", id, 1)), Err(LineFault::NoId), "{id:?}");
        }
    }

    #[test]
    fn columns_come_in_any_order_but_all_once() {
        let turned: Vec<&str> = HEADER.split(',').rev().collect();
        assert!(CsvHeader::parse(turned.join(",").as_bytes()).is_ok());
        assert_eq!(CsvHeader::parse(b"record_id,asn,asn").unwrap_err(), HeaderError::Twice("asn".to_owned()));
        assert_eq!(CsvHeader::parse(b"record_id,rand").unwrap_err(), HeaderError::Unknown("rand".to_owned()));
        assert_eq!(CsvHeader::parse(b"record_id,asn").unwrap_err(), HeaderError::Missing("city_code"));
    }
}
