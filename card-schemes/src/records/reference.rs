//! Readers compared with the plainest reading of the same records: byte by byte and field by field.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_ipc::writer::StreamWriter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::string::string_regex;

use super::{ArrowReader, Columns, CsvReader, LayoutReader, LineFault, ReadError, Reader, RecordSink};
use crate::fields::{Field, FieldSet};
use crate::profile::{LayoutKind, Place, PlaceEncoding, RecordLayout};

/// What a sink was given: id, fields or fault, number.
type Given = (Vec<u8>, Result<(u16, Vec<u8>), LineFault>, u64);

#[derive(Default)]
struct Sink(Vec<Given>);

impl RecordSink for Sink {
    type Error = ();
    fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> Result<(), ()> {
        self.0.push((id.to_vec(), fields.map(given), number));
        Ok(())
    }
}

fn given(fields: &FieldSet) -> (u16, Vec<u8>) {
    let (present, bytes) = fields.of_record();
    (present, bytes.to_vec())
}

/// What a reader gives, of a file in pieces of some size.
fn read(mut reader: Reader, file: &[u8], piece: usize) -> Vec<Given> {
    let mut sink = Sink::default();
    let mut open = false;
    for piece in file.chunks(piece) {
        if open {
            reader.feed(piece, &mut sink).map_err(words).unwrap();
        } else {
            open = reader.open(piece).unwrap();
        }
    }
    reader.end(&mut sink).map_err(words).unwrap();
    sink.0
}

fn words(error: ReadError<()>) -> String {
    format!("{error:?}")
}

/// A record of cells, `None` where there is none or nobody can say what it holds, as the sink should get it.
fn record(id: Option<Vec<u8>>, cells: &[(Field, Option<Vec<u8>>)], blamed: Option<Field>, number: u64) -> Given {
    let text = |id: &Vec<u8>| {
        let text = std::str::from_utf8(id).ok()?;
        (!text.trim().is_empty() && text.len() <= 64 && !text.chars().any(char::is_control)).then(|| id.clone())
    };
    let Some(id) = id.as_ref().and_then(text) else { return (Vec::new(), Err(LineFault::NoId), number) };
    let mut fields = FieldSet::default();
    let wrong = cells.iter().filter_map(|(field, cell)| match cell {
        Some(cell) => fields.parse(*field, cell).err().map(|error| error.field),
        None => Some(*field),
    });
    match wrong.chain(blamed).min() {
        Some(field) => (id, Err(LineFault::Field(field)), number),
        None => (id, Ok(given(&fields)), number),
    }
}

/// The cells of a line of CSV; `None` where quotes are wrong, and then nothing comes after it.
fn split(line: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let Some(quoted) = rest.strip_prefix(b"\"") else {
            let end = rest.iter().position(|c| *c == b',');
            cells.push(Some(rest[..end.unwrap_or(rest.len())].to_vec()));
            let Some(end) = end else { return cells };
            rest = &rest[end + 1..];
            continue;
        };
        let (mut cell, mut at) = (Vec::new(), 0);
        loop {
            match (quoted.get(at), quoted.get(at + 1)) {
                (Some(b'"'), Some(b'"')) => {
                    cell.push(b'"');
                    at += 2;
                }
                (Some(b'"'), Some(b',')) => break,
                (Some(b'"'), None) => {
                    cells.push(Some(cell));
                    return cells;
                }
                (Some(b'"'), Some(_)) | (None, _) => {
                    cells.push(None);
                    return cells;
                }
                (Some(c), _) => {
                    cell.push(*c);
                    at += 1;
                }
            }
        }
        cells.push(Some(cell));
        rest = &quoted[at + 2..];
    }
}

/// A file of CSV without its header.
fn read_csv(columns: &[Option<Field>], lines: &[u8], longest: usize) -> Vec<Given> {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let mut found = Vec::new();
    for (line, number) in lines.split(|c| *c == b'\n').zip(2..) {
        if line.len() > longest {
            found.push((Vec::new(), Err(LineFault::NoId), number));
            continue;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let mut cells = split(line);
        let blamed = if cells.len() > columns.len() { columns.iter().flatten().copied().max() } else { None };
        cells.resize(columns.len(), None);
        let mut id = None;
        let mut of_fields = Vec::new();
        for (column, cell) in columns.iter().zip(cells) {
            match column {
                Some(field) => of_fields.push((*field, cell)),
                None => id = cell,
            }
        }
        found.push(record(id, &of_fields, blamed, number));
    }
    found
}

/// A text that may stand in a field's column, mostly one that should.
fn cell(field: Field) -> BoxedStrategy<String> {
    let digits = format!("[0-9A-Fa-f]{{{}}}", 2 * field.width());
    let good = match field {
        Field::CityCode => "[0-9]{4}".to_owned(),
        Field::Asn => "[0-9]{16}|[0-9]{13}[Ff]{3}|F{4}[0-9]{12}".to_owned(),
        Field::Amount | Field::BalanceAfter => "[0-9]{1,9}|4294967295".to_owned(),
        Field::Date => "20[0-9]{2}(0[1-9]|1[0-2])([01][0-9]|2[0-9]|3[01])".to_owned(),
        Field::Time => "[01][0-9][0-5][0-9][0-5][0-9]".to_owned(),
        _ => digits.clone(),
    };
    let [good, digits] = [good, digits].map(|text| string_regex(&text).unwrap());
    let other = prop_oneof![Just(String::new()), digits, "[0-9A-G,\"x ]{0,20}", "[0-9]{9,17}"];
    prop_oneof![20 => good, 3 => Just(String::new()), 1 => other].boxed()
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![20 => "[!-+.-~]{1,20}", 1 => "[ -~]{0,70}", 1 => "\\PC{0,30}", 1 => "\"[^\"\n]{0,9}\""]
}

/// The cells of records, the id first.
fn rows() -> impl Strategy<Value = Vec<Vec<String>>> {
    let cells: Vec<_> = Field::OF_RECORDS.iter().map(|field| cell(*field)).collect();
    vec((id(), cells).prop_map(|(id, cells)| std::iter::once(id).chain(cells).collect()), 0..150)
}

/// Bytes that are put into a file at some places, over what is there or between.
fn damage() -> impl Strategy<Value = Vec<(Index, bool, u8)>> {
    let byte = prop_oneof![select(b"\n\r\",0F \xFF\x80".to_vec()), any::<u8>()];
    prop_oneof![2 => Just(Vec::new()), 1 => vec((any::<Index>(), any::<bool>(), byte), 0..6)]
}

fn damaged(mut file: Vec<u8>, damage: Vec<(Index, bool, u8)>) -> Vec<u8> {
    for (at, over, byte) in damage {
        let at = at.index(file.len() + 1);
        match file.get_mut(at).filter(|_| over) {
            Some(there) => *there = byte,
            None => file.insert(at, byte),
        }
    }
    file
}

/// Bytes of the record id in a layout, and of each field that is there as text.
const ID_BYTES: usize = 24;
const TEXT_BYTES: usize = 20;
const ENCODINGS: [PlaceEncoding; 3] = [PlaceEncoding::Text, PlaceEncoding::Bytes, PlaceEncoding::BytesReversed];

/// Fails with the first record that is not the same.
fn same(found: &[Given], expected: &[Given]) -> Result<(), TestCaseError> {
    for (found, expected) in found.iter().zip(expected) {
        prop_assert_eq!(found, expected);
    }
    prop_assert_eq!(found.len(), expected.len());
    Ok(())
}

proptest! {
    #[test]
    fn lines_of_csv_are_what_they_say(
        rows in rows(),
        order in prop_oneof![
            Just((0..=Field::OF_RECORDS.len()).collect::<Vec<_>>()),
            Just((0..=Field::OF_RECORDS.len()).collect::<Vec<_>>()).prop_shuffle(),
        ],
        end in select(vec!["\n", "\r\n"]),
        damage in damage(),
        piece in prop_oneof![1usize..300, Just(1 << 20)],
        longest in prop_oneof![Just(4096usize), 90usize..200],
    ) {
        let columns: Vec<Option<Field>> = order.iter().map(|at| at.checked_sub(1).map(|at| Field::OF_RECORDS[at])).collect();
        let names: Vec<&str> = columns.iter().map(|field| field.map_or("record_id", Field::as_str)).collect();
        let header = names.join(",") + "\n";
        let line = |row: &Vec<String>| order.iter().map(|at| row[*at].as_str()).collect::<Vec<_>>().join(",") + end;
        let lines = damaged(rows.iter().map(line).collect::<String>().into_bytes(), damage);
        let reader = Reader::Csv(CsvReader::new(Columns::of_records(), longest.max(header.len()), 0));
        let expected = read_csv(&columns, &lines, longest.max(header.len()));
        same(&read(reader, &[header.as_bytes(), &lines].concat(), piece), &expected)?;
    }

    #[test]
    fn cells_of_arrow_are_what_they_say(rows in rows(), null in any::<bool>(), bytes in any::<bool>(), piece in 100usize..9000) {
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        let text = |cell: &String| Some(cell.clone()).filter(|cell| !null || !cell.is_empty());
        columns.push(("record_id", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row[0])))));
        let mut expected: Vec<Vec<(Field, Option<Vec<u8>>)>> = vec![Vec::new(); rows.len()];
        for (at, field) in (1..).zip(Field::OF_RECORDS) {
            let as_bytes = bytes && *field != Field::Amount && *field != Field::BalanceAfter;
            let decoded = |row: &Vec<String>| hex::decode(&row[at]).ok().filter(|bytes| !bytes.is_empty());
            for (row, expected) in rows.iter().zip(&mut expected) {
                let cell = if as_bytes { decoded(row).map(hex::encode).unwrap_or_default() } else { row[at].clone() };
                expected.push((*field, Some(cell.into_bytes())));
            }
            columns.push((field.as_str(), match as_bytes {
                true => Arc::new(BinaryArray::from_iter(rows.iter().map(decoded))),
                false => Arc::new(StringArray::from_iter(rows.iter().map(|row| text(&row[at])))),
            }));
        }
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
        let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        stream.write(&batch).unwrap();
        stream.finish().unwrap();
        let reader = Reader::Arrow(ArrowReader::new(Columns::of_records(), 1 << 20, 0));
        let found = read(reader, stream.get_ref(), piece);
        let expected = rows.iter().zip(&expected).zip(1..);
        let expected: Vec<Given> =
            expected.map(|((row, cells), number)| record(Some(row[0].clone().into_bytes()), cells, None, number)).collect();
        same(&found, &expected)?;
    }

    #[test]
    fn places_of_a_layout_are_what_they_say(
        rows in rows(),
        order in prop_oneof![Just(Field::OF_RECORDS.to_vec()), Just(Field::OF_RECORDS.to_vec()).prop_shuffle()],
        encodings in prop_oneof![Just(vec![PlaceEncoding::Bytes; 14]), vec(select(ENCODINGS.to_vec()), 14)],
        absent in vec(any::<bool>(), 14),
        damage in damage(),
        piece in prop_oneof![1usize..300, Just(1 << 20)],
    ) {
        let place = |field: &str, offset, length, encoding, absent| {
            Place { field: field.to_owned(), offset, length, encoding, absent }
        };
        let mut layout = vec![place("record_id", 0, ID_BYTES, PlaceEncoding::Text, None)];
        let (mut length, mut places) = (ID_BYTES, Vec::new());
        for ((field, encoding), absent) in order.iter().zip(encodings).zip(absent) {
            let bytes = if encoding == PlaceEncoding::Text { TEXT_BYTES } else { field.width() };
            layout.push(place(field.as_str(), length, bytes, encoding, absent.then(|| "FF".repeat(bytes))));
            places.push((*field, length..length + bytes, encoding, absent));
            length += bytes;
        }
        let packed = |row: &Vec<String>| {
            let mut record = row[0].clone().into_bytes();
            record.resize(ID_BYTES, b' ');
            for (field, bytes, encoding, _) in &places {
                let cell = &row[1 + *field as usize];
                let fen = cell.parse::<u32>().map(|fen| fen.to_be_bytes().to_vec()).ok();
                let is_fen = matches!(field, Field::Amount | Field::BalanceAfter);
                let mut there = match encoding {
                    PlaceEncoding::Text => Some(cell.clone().into_bytes()),
                    _ if is_fen => fen,
                    _ => hex::decode(cell).ok().filter(|found| found.len() == field.width()),
                }
                .unwrap_or(vec![0xFF; field.width()]);
                there.resize(bytes.len(), b' ');
                if *encoding == PlaceEncoding::BytesReversed {
                    there.reverse();
                }
                record.extend(there);
            }
            record
        };
        let file = damaged(rows.iter().flat_map(packed).collect(), damage);
        let mut expected: Vec<Given> = Vec::new();
        for (bytes, number) in file.chunks(length).zip(1..) {
            if bytes.len() < length {
                expected.push((Vec::new(), Err(LineFault::NoId), number));
                continue;
            }
            let cell = |(field, place, encoding, absent): &(Field, Range<usize>, PlaceEncoding, bool)| {
                let mut cell = bytes[place.clone()].to_vec();
                if *encoding == PlaceEncoding::BytesReversed {
                    cell.reverse();
                }
                let is_fen = matches!(field, Field::Amount | Field::BalanceAfter);
                let text = match encoding {
                    _ if *absent && cell.iter().all(|byte| *byte == 0xFF) => Vec::new(),
                    PlaceEncoding::Text => cell.trim_ascii().to_vec(),
                    _ if is_fen => u32::from_be_bytes(cell.try_into().unwrap()).to_string().into_bytes(),
                    _ => hex::encode(cell).into_bytes(),
                };
                (*field, Some(text))
            };
            let cells: Vec<_> = places.iter().map(cell).collect();
            expected.push(record(Some(bytes[..ID_BYTES].trim_ascii().to_vec()), &cells, None, number));
        }
        let (kind, named) = (LayoutKind::Binary, String::new);
        let layout = RecordLayout { name: named(), title: named(), kind, length, places: layout, defaults: BTreeMap::new() };
        let reader = Reader::Layout(LayoutReader::new(layout, 0));
        same(&read(reader, &file, piece), &expected)?;
    }

    /// Lines that come together are read together, and one by one where they do not; whatever their ends are.
    #[test]
    fn lines_of_a_layout_are_the_same_in_pieces_of_any_size(
        lines in vec((select(vec!["", "R1  1150", "R2  ", "R3  1150x", "R4  11 0", "R\r  1150", "R5  115\r", "    1150"]),
            select(vec!["\n", "\r\n", "\r\r\n"]), 1usize..5), 0..40),
        ended in any::<bool>(),
        piece in prop_oneof![2usize..40, Just(1 << 20)],
    ) {
        let mut file: Vec<u8> =
            lines.iter().flat_map(|(line, end, times)| format!("{line}{end}").repeat(*times).into_bytes()).collect();
        if !ended {
            file.pop();
        }
        let place = |field: &str, offset| {
            let (field, encoding) = (field.to_owned(), PlaceEncoding::Text);
            Place { field, offset, length: 4, encoding, absent: None }
        };
        let reader = || {
            let (kind, named) = (LayoutKind::Text, String::new);
            let places = vec![place("record_id", 0), place("city_code", 4)];
            let layout = RecordLayout { name: named(), title: named(), kind, length: 8, places, defaults: BTreeMap::new() };
            Reader::Layout(LayoutReader::new(layout, 0))
        };
        same(&read(reader(), &file, piece), &read(reader(), &file, 1))?;
    }
}
