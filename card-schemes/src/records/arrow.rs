//! Records in Arrow's IPC streaming format: columns by name, as text or as bytes of fixed size.

use arrow_array::{Array, FixedSizeBinaryArray, LargeStringArray, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{DataType, Schema};

use super::{Columns, FormatError, LineFault, ReadError, RecordSink, is_record_id};
use crate::fields::{Field, FieldSet};

/// Record batches as they come, in pieces of any size.
pub struct ArrowReader {
    decoder: StreamDecoder,
    columns: Columns,
    /// Column of the record id, and field of each other column.
    plan: Option<(usize, Vec<Option<Field>>)>,
    /// What came together with the schema.
    first: Vec<u8>,
    /// Bytes since the last batch was whole.
    since: usize,
    largest_part: usize,
    number: u64,
}

/// A column as the batch has it.
enum Cells<'a> {
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    Bytes(&'a FixedSizeBinaryArray),
}

impl ArrowReader {
    /// A reader of batches of at most `largest_part` bytes; `before` records of the file are somewhere else.
    pub fn new(columns: Columns, largest_part: usize, before: u64) -> Self {
        Self {
            decoder: StreamDecoder::new(),
            columns,
            plan: None,
            first: Vec::new(),
            since: 0,
            largest_part,
            number: before,
        }
    }

    pub(super) fn open(&mut self, piece: &[u8]) -> Result<bool, FormatError> {
        self.first.extend_from_slice(piece);
        // Until the schema is whole it is tried again from the start, which is short.
        let mut trial = StreamDecoder::new();
        let mut buffer = Buffer::from(self.first.as_slice());
        trial.decode(&mut buffer).map_err(unreadable)?;
        match trial.schema() {
            Some(schema) => {
                self.plan = Some(self.columns.match_schema(&schema)?);
                Ok(true)
            }
            None if self.first.len() > self.largest_part => Err(FormatError::TooLarge(self.largest_part)),
            None => Ok(false),
        }
    }

    pub(super) fn feed<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), ReadError<S::Error>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            self.decode(&first, sink)?;
        }
        self.decode(piece, sink)
    }

    pub(super) fn end<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), ReadError<S::Error>> {
        self.feed(&[], sink)?;
        self.decoder.finish().map_err(|error| ReadError::Format(unreadable(error)))
    }

    fn decode<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), ReadError<S::Error>> {
        let mut buffer = Buffer::from(piece);
        while !buffer.is_empty() {
            let before = buffer.len();
            let batch = self.decoder.decode(&mut buffer).map_err(|error| ReadError::Format(unreadable(error)))?;
            self.since += before - buffer.len();
            if self.since > self.largest_part {
                return Err(ReadError::Format(FormatError::TooLarge(self.largest_part)));
            }
            match batch {
                Some(batch) => {
                    self.since = 0;
                    self.records(&batch, sink)?;
                }
                // Nothing was taken: the stream said that it had ended.
                None if buffer.len() == before => break,
                None => {}
            }
        }
        Ok(())
    }

    fn records<S: RecordSink>(&mut self, batch: &RecordBatch, sink: &mut S) -> Result<(), ReadError<S::Error>> {
        let Some((record_id, fields)) = &self.plan else { return Ok(()) };
        let cells: Vec<Option<Cells<'_>>> = batch.columns().iter().map(|column| Cells::of(column)).collect();
        for row in 0..batch.num_rows() {
            self.number += 1;
            let mut set = FieldSet::default();
            let mut fault: Option<Field> = None;
            for (field, cells) in fields.iter().zip(&cells) {
                let (Some(field), Some(cells)) = (field, cells) else { continue };
                if !cells.read(row, *field, &mut set) {
                    fault = Some(fault.map_or(*field, |first| first.min(*field)));
                }
            }
            let id = cells.get(*record_id).and_then(Option::as_ref).and_then(|cells| cells.text(row));
            let id = id.filter(|id| is_record_id(id)).unwrap_or_default();
            let read = match (id.is_empty(), fault) {
                (true, _) => Err(LineFault::NoId),
                (false, Some(field)) => Err(LineFault::Field(field)),
                (false, None) => Ok(&set),
            };
            sink.record(id, read, self.number).map_err(ReadError::Sink)?;
        }
        Ok(())
    }
}

impl<'a> Cells<'a> {
    fn of(column: &'a dyn Array) -> Option<Self> {
        let any = column.as_any();
        any.downcast_ref()
            .map(Self::Text)
            .or_else(|| any.downcast_ref().map(Self::LargeText))
            .or_else(|| any.downcast_ref().map(Self::Bytes))
    }

    fn text(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Text(cells) => cells.is_valid(row).then(|| cells.value(row).as_bytes()),
            Self::LargeText(cells) => cells.is_valid(row).then(|| cells.value(row).as_bytes()),
            Self::Bytes(_) => None,
        }
    }

    /// Whether the cell is what the field should be; one that is null leaves it absent.
    fn read(&self, row: usize, field: Field, fields: &mut FieldSet) -> bool {
        match self {
            Self::Bytes(cells) => cells.is_null(row) || fields.set_checked(field, cells.value(row)).is_ok(),
            _ => self.text(row).is_none_or(|text| fields.parse(field, text).is_ok()),
        }
    }
}

impl Columns {
    fn match_schema(&self, schema: &Schema) -> Result<(usize, Vec<Option<Field>>), FormatError> {
        let (record_id, fields) = self.match_names(schema.fields().iter().map(|column| column.name().as_str()))?;
        for (column, field) in schema.fields().iter().zip(&fields) {
            let good = match (column.data_type(), field) {
                (DataType::Utf8 | DataType::LargeUtf8, _) => true,
                (DataType::FixedSizeBinary(width), Some(field)) => usize::try_from(*width) == Ok(field.width()),
                _ => false,
            };
            if !good {
                let found = column.data_type().to_string();
                return Err(FormatError::ColumnType { name: column.name().clone(), found });
            }
        }
        Ok((record_id, fields))
    }
}

fn unreadable(error: impl ToString) -> FormatError {
    FormatError::Arrow(error.to_string())
}
