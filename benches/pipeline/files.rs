//! A clearing day of any length, in each format.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

const DAY: &str = "tests/days/cjt166-3des";
/// Width of each column in the shipped layout of packed binary.
const WIDTHS: [usize; 15] = [16, 2, 8, 8, 1, 4, 4, 2, 6, 4, 4, 3, 1, 1, 4];
/// Width of each column in the shipped layout of lines of fixed length.
const TEXT_WIDTHS: [usize; 15] = [32, 4, 16, 16, 2, 10, 10, 4, 12, 8, 8, 6, 2, 2, 8];

/// The shipped layout that a format is, if it is one.
pub(crate) fn layout(format: &str) -> Option<&'static str> {
    match format {
        "text" => Some("fixed-text"),
        "binary" => Some("packed-binary"),
        _ => None,
    }
}

/// The header and the valid records of a day, cell by cell.
pub(crate) fn day() -> (String, Vec<Vec<String>>) {
    let read = |end: &str| std::fs::read_to_string(format!("{}/{DAY}-{end}.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (day, truth) = (read("day"), read("truth"));
    let header = day.lines().next().unwrap().to_owned();
    let valid = day.lines().zip(truth.lines()).skip(1).filter(|(_, truth)| truth.ends_with(",valid,"));
    (header, valid.map(|(line, _)| line.split(',').map(str::to_owned).collect()).collect())
}

pub(crate) fn write(path: &Path, format: &str, header: &str, rows: &[Vec<String>], records: usize) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    let cycled = rows.iter().cycle().take(records);
    match format {
        "csv" => {
            writeln!(file, "{header}").unwrap();
            cycled.for_each(|row| writeln!(file, "{}", row.join(",")).unwrap());
        }
        "text" => cycled.for_each(|row| {
            row.iter().zip(TEXT_WIDTHS).for_each(|(cell, width)| write!(file, "{cell:<width$}").unwrap());
            writeln!(file).unwrap();
        }),
        "binary" => cycled.for_each(|row| file.write_all(&packed(row)).unwrap()),
        "parquet" => {
            let mut writer = ArrowWriter::try_new(file, Arc::new(schema(header)), None).unwrap();
            batches(header, rows, records, |batch| writer.write(&batch).unwrap());
            writer.close().unwrap();
        }
        "arrow" => {
            let mut writer = StreamWriter::try_new(file, &schema(header)).unwrap();
            batches(header, rows, records, |batch| writer.write(&batch).unwrap());
            writer.finish().unwrap();
        }
        other => panic!("`{other}` is not csv, text, binary, parquet or arrow"),
    }
}

fn packed(row: &[String]) -> Vec<u8> {
    let mut record = format!("{:<16}", row[0]).into_bytes();
    for (cell, width) in row.iter().zip(WIDTHS).skip(1) {
        match cell.parse::<u32>() {
            _ if cell.is_empty() => record.extend(vec![0xFF; width]),
            // Amounts are the only decimal columns; their text has no fixed length.
            Ok(fen) if width == 4 && cell.len() < 8 => record.extend(fen.to_be_bytes()),
            _ => record.extend(hex::decode(cell).unwrap()),
        }
    }
    record
}

fn schema(header: &str) -> Schema {
    Schema::new(header.split(',').map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>())
}

fn batches(header: &str, rows: &[Vec<String>], records: usize, mut each: impl FnMut(RecordBatch)) {
    let schema = Arc::new(schema(header));
    let columns = (0..schema.fields().len()).map(|at| {
        let mut cells = StringBuilder::new();
        rows.iter().for_each(|row| cells.append_option(Some(&row[at]).filter(|cell| !cell.is_empty())));
        Arc::new(cells.finish()) as ArrayRef
    });
    let whole = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    let mut left = records;
    while left > 0 {
        let rows = left.min(whole.num_rows());
        each(whole.slice(0, rows));
        left -= rows;
    }
}

/// The day's key: its version, its algorithm, its components.
pub(crate) fn key() -> (String, String, Vec<String>) {
    let path = format!("{}/{DAY}-keys.json", env!("CARGO_MANIFEST_DIR"));
    let keys: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let key = &keys["keys"][0];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let components = key["components"].as_array().unwrap().iter().map(|component| text(&component["value"]));
    (text(&key["version"]), text(&key["algorithm"]), components.collect())
}

/// The cities of the day's records, in BCD.
pub(crate) fn cities() -> Vec<Vec<u8>> {
    let cities: BTreeSet<String> = day().1.into_iter().map(|row| row[1].clone()).collect();
    cities.iter().map(|city| hex::decode(city).unwrap()).collect()
}

/// The key itself.
pub(crate) fn root_key() -> [u8; 16] {
    let mut key = [0; 16];
    for component in key_components() {
        key.iter_mut().zip(component).for_each(|(byte, part)| *byte ^= part);
    }
    key
}

fn key_components() -> impl Iterator<Item = Vec<u8>> {
    key().2.into_iter().map(|component| hex::decode(component).unwrap())
}
