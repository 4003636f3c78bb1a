//! Records in Arrow's IPC streaming format: columns by name, as text or as bytes.

use std::ops::Range;

use arrow_array::{
    Array, BinaryArray, FixedSizeBinaryArray, GenericStringArray, LargeBinaryArray, LargeStringArray, OffsetSizeTrait,
    RecordBatch, StringArray,
};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::{Message, MessageHeader, root_as_message};
use arrow_schema::{DataType, Schema};

use super::block::{self, Block};
use super::{Columns, FormatError, ReadError, RecordSink};
use crate::fields::Field;

/// Record batches as they come, in pieces of any size.
pub struct ArrowReader {
    decoder: StreamDecoder,
    columns: Columns,
    /// Column of the record id, and field of each other column.
    plan: Option<(usize, Vec<Option<Field>>)>,
    /// Bytes of an offset into each column's text; 0 for columns of fixed size.
    offset_widths: Vec<usize>,
    /// What has come and is no whole message yet.
    pending: Vec<u8>,
    /// How many bytes of it the decoder has seen already.
    ahead: usize,
    largest_part: usize,
    number: u64,
    block: Block,
}

/// A message of the stream as its frame describes it, with all lengths checked: the decoder is handed nothing that
/// it would have to trust.
struct Frame {
    /// Bytes in all.
    len: usize,
}

/// Bytes that may describe a schema or a batch.
const MOST_METADATA: usize = 64 << 10;
const CONTINUATION: [u8; 4] = [0xFF; 4];
/// What a file begins with that is no stream.
const FILE: &[u8] = b"ARROW1";

/// A column as the batch has it.
enum Cells<'a> {
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    Fixed(&'a FixedSizeBinaryArray),
    Bytes(&'a BinaryArray),
    LargeBytes(&'a LargeBinaryArray),
}

impl ArrowReader {
    /// A reader of batches of at most `largest_part` bytes; `before` records of the file are somewhere else.
    pub fn new(columns: Columns, largest_part: usize, before: u64) -> Self {
        let (decoder, pending) = (StreamDecoder::new(), Vec::new());
        let offset_widths = Vec::new();
        let block = Block::default();
        Self { decoder, columns, plan: None, offset_widths, pending, ahead: 0, largest_part, number: before, block }
    }

    pub(super) fn open(&mut self, piece: &[u8]) -> Result<bool, FormatError> {
        self.pending.extend_from_slice(piece);
        if self.pending.starts_with(FILE) {
            return Err(unreadable("it is an Arrow file; send the stream format"));
        }
        let frame = match Frame::read(&self.pending, self.largest_part, &[]) {
            Err(FormatError::TooLarge(MOST_METADATA)) => Err(unreadable("it does not begin with a schema")),
            read => read,
        };
        let Some(frame) = frame? else { return Ok(false) };
        // The decoder looks at a message without a body only when it sees what follows.
        if self.pending.len() == frame.len {
            return Ok(false);
        }
        self.decode(frame.len)?;
        self.ahead = 1;
        self.decoder.decode(&mut Buffer::from(&self.pending[..1])).map_err(unreadable)?;
        let schema = self.decoder.schema().ok_or_else(|| unreadable("it does not begin with a schema"))?;
        self.plan = Some(self.columns.match_schema(&schema)?);
        self.offset_widths = schema.fields().iter().map(|column| offset_width(column.data_type())).collect();
        Ok(true)
    }

    pub(super) fn feed<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), ReadError<S::Error>> {
        self.pending.extend_from_slice(piece);
        loop {
            let frame = Frame::read(&self.pending, self.largest_part, &self.offset_widths);
            let Some(frame) = frame.map_err(ReadError::Format)? else { return Ok(()) };
            if let Some(batch) = self.decode(frame.len).map_err(ReadError::Format)? {
                self.records(&batch, sink)?;
            }
        }
    }

    pub(super) fn end<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), ReadError<S::Error>> {
        self.feed(&[], sink)?;
        if !self.pending.is_empty() {
            return Err(ReadError::Format(unreadable("it ends in the middle of a message")));
        }
        self.decoder.finish().map_err(|error| ReadError::Format(unreadable(error)))
    }

    /// Takes one whole message out of what has come.
    fn decode(&mut self, len: usize) -> Result<Option<RecordBatch>, FormatError> {
        let mut buffer = Buffer::from(&self.pending[std::mem::take(&mut self.ahead)..len]);
        self.pending.drain(..len);
        let mut batch = None;
        while !buffer.is_empty() {
            let left = buffer.len();
            batch = self.decoder.decode(&mut buffer).map_err(unreadable)?;
            if batch.is_none() && buffer.len() == left {
                return Err(unreadable("it goes on after its end"));
            }
        }
        Ok(batch)
    }

    fn records<S: RecordSink>(&mut self, batch: &RecordBatch, sink: &mut S) -> Result<(), ReadError<S::Error>> {
        let Some((record_id, fields)) = &self.plan else { return Ok(()) };
        let cells: Vec<Option<Cells<'_>>> = batch.columns().iter().map(|column| Cells::of(column)).collect();
        for first in (0..batch.num_rows()).step_by(block::MOST) {
            let rows = first..batch.num_rows().min(first + block::MOST);
            read(fields, &cells, rows.clone(), &mut self.block);
            let ids = cells.get(*record_id).and_then(Option::as_ref);
            let ids = rows.map(|row| ids.and_then(|ids| ids.text(row)).unwrap_or_default());
            let number = self.number + first as u64 + 1;
            self.block.give(ids.zip(number..), sink).map_err(ReadError::Sink)?;
        }
        self.number += batch.num_rows() as u64;
        Ok(())
    }
}

impl Frame {
    /// The frame of the first message in `bytes`; `None` while it is not whole. Batches have columns of these offset
    /// widths.
    fn read(bytes: &[u8], largest: usize, offset_widths: &[usize]) -> Result<Option<Self>, FormatError> {
        let marked = bytes.starts_with(&CONTINUATION);
        let start = if marked { 8 } else { 4 };
        let Some(size) = bytes.get(start - 4..start).and_then(|size| size.try_into().ok()) else { return Ok(None) };
        let metadata = u32::from_le_bytes(size) as usize;
        if metadata == 0 {
            return Ok(Some(Self { len: start }));
        }
        if metadata > MOST_METADATA {
            return Err(FormatError::TooLarge(MOST_METADATA));
        }
        let Some(described) = bytes.get(start..start + metadata) else { return Ok(None) };
        let message = root_as_message(described).map_err(unreadable)?;
        let body = usize::try_from(message.bodyLength()).map_err(|_| unreadable("a length is negative"))?;
        if body > largest {
            return Err(FormatError::TooLarge(largest));
        }
        check_body(&message, body, offset_widths)?;
        let len = start + metadata + body;
        Ok((bytes.len() >= len).then_some(Self { len }))
    }
}

/// Bytes of an offset into a column's text; 0 for columns of fixed size.
fn offset_width(column: &DataType) -> usize {
    match column {
        DataType::Utf8 | DataType::Binary => 4,
        DataType::LargeUtf8 | DataType::LargeBinary => 8,
        _ => 0,
    }
}

/// Whether every part of a batch lies within its body, and offsets are whole.
fn check_body(message: &Message<'_>, body: usize, offset_widths: &[usize]) -> Result<(), FormatError> {
    match message.header_type() {
        MessageHeader::Schema => return Ok(()),
        MessageHeader::RecordBatch => {}
        _ => return Err(unreadable("it holds something other than a schema and batches of plain columns")),
    }
    let batch = message.header_as_record_batch().ok_or_else(|| unreadable("a batch is not described"))?;
    if batch.compression().is_some() {
        return Err(unreadable("compressed batches are not read"));
    }
    let within = |offset: i64, len: i64| {
        let end = usize::try_from(offset).ok().zip(usize::try_from(len).ok()).and_then(|(a, b)| a.checked_add(b));
        end.is_some_and(|end| end <= body)
    };
    let buffers = batch.buffers().is_some_and(|parts| parts.iter().all(|part| within(part.offset(), part.length())));
    // A cell of a column takes at least a bit.
    let rows = |count: i64| usize::try_from(count).is_ok_and(|count| count <= 8 * body);
    let nodes =
        batch.nodes().is_some_and(|nodes| nodes.iter().all(|node| rows(node.length()) && rows(node.null_count())));
    if !(buffers && nodes && rows(batch.length())) {
        return Err(unreadable("a batch says more than it holds"));
    }
    // A column is which cells are null, offsets if it is text, and what the cells hold.
    let mut parts = batch.buffers().into_iter().flatten().map(arrow_ipc::Buffer::length);
    for width in offset_widths {
        parts.next();
        let offsets = if *width > 0 { parts.next() } else { None };
        if offsets.is_some_and(|len| len % *width as i64 != 0) {
            return Err(unreadable("a column's offsets are not whole"));
        }
        parts.next();
    }
    Ok(())
}

/// Reads the fields of some rows.
fn read(fields: &[Option<Field>], cells: &[Option<Cells<'_>>], rows: Range<usize>, block: &mut Block) {
    block.begin(rows.len());
    for (field, cells) in fields.iter().zip(cells) {
        if let (Some(field), Some(cells)) = (field, cells) {
            cells.read(rows.clone(), *field, block);
        }
    }
    block.settle();
}

impl<'a> Cells<'a> {
    fn of(column: &'a dyn Array) -> Option<Self> {
        let any = column.as_any();
        any.downcast_ref()
            .map(Self::Text)
            .or_else(|| any.downcast_ref().map(Self::LargeText))
            .or_else(|| any.downcast_ref().map(Self::Fixed))
            .or_else(|| any.downcast_ref().map(Self::Bytes))
            .or_else(|| any.downcast_ref().map(Self::LargeBytes))
    }

    fn text(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Text(cells) => cells.is_valid(row).then(|| cells.value(row).as_bytes()),
            Self::LargeText(cells) => cells.is_valid(row).then(|| cells.value(row).as_bytes()),
            Self::Fixed(_) | Self::Bytes(_) | Self::LargeBytes(_) => None,
        }
    }

    /// Reads a field of some rows; a cell that is null leaves it absent.
    fn read(&self, rows: Range<usize>, field: Field, block: &mut Block) {
        match self {
            Self::Fixed(cells) => block.set(field, rows.map(|row| cells.is_valid(row).then(|| cells.value(row)))),
            Self::Bytes(cells) => block.set(field, rows.map(|row| cells.is_valid(row).then(|| cells.value(row)))),
            Self::LargeBytes(cells) => {
                block.set(field, rows.map(|row| cells.is_valid(row).then(|| cells.value(row))));
            }
            Self::Text(cells) => block.parse(field, texts(cells, rows)),
            Self::LargeText(cells) => block.parse(field, texts(cells, rows)),
        }
    }
}

/// The texts of some rows, empty where a cell is null.
#[inline]
fn texts<O: OffsetSizeTrait>(cells: &GenericStringArray<O>, rows: Range<usize>) -> impl Iterator<Item = Option<&[u8]>> {
    let (bytes, nulls) = (cells.value_data(), cells.nulls());
    let offsets = &cells.value_offsets()[rows.start..=rows.end];
    rows.zip(offsets.windows(2)).map(move |(row, ends)| match nulls {
        Some(nulls) if nulls.is_null(row) => Some(&[][..]),
        // The decoder has checked them.
        _ => bytes.get(ends[0].as_usize()..ends[1].as_usize()),
    })
}

impl Columns {
    fn match_schema(&self, schema: &Schema) -> Result<(usize, Vec<Option<Field>>), FormatError> {
        let (record_id, fields) = self.match_names(schema.fields().iter().map(|column| column.name().as_str()))?;
        for (column, field) in schema.fields().iter().zip(&fields) {
            let good = match (column.data_type(), field) {
                (DataType::Utf8 | DataType::LargeUtf8, _) => true,
                (DataType::Binary | DataType::LargeBinary, Some(_)) => true,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_stream_is_told_by_its_beginning() {
        let words = |text: &[u8]| {
            let mut reader = ArrowReader::new(Columns::of_records(), 1 << 20, 0);
            reader.open(text).unwrap_err().to_string()
        };
        assert!(words(b"ARROW1\0\0 and so on").contains("an Arrow file; send the stream format"));
        assert!(words(b"record_id,city_code").contains("does not begin with a schema"));
    }
}
