//! Arrow files and streams, some rows at a time: a writer may put a whole day into one batch.
//!
//! Both kinds of file are messages one after another. Of a batch of plain columns only the rows at hand are read; one
//! that is compressed, or has columns of views, is read whole.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail, ensure};
use arrow_array::types::{BinaryType, ByteArrayType, LargeBinaryType, LargeUtf8Type, Utf8Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, GenericByteArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, NullBuffer, OffsetBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::{Block, Message, MessageHeader, root_as_footer, root_as_message};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

/// Rows that are read at once: whole bytes of a column's null bits.
const ROWS: usize = 8192;
/// Bytes that may describe a schema or a batch.
const MOST_METADATA: usize = 16 << 20;
/// Bytes of one column in the rows at hand.
const MOST_BYTES: usize = 64 << 20;
/// Bytes of a batch that is read whole, as it stands in the file and once it is open.
const MOST_WHOLE: u64 = 128 << 20;
/// What a file, not a stream, begins and ends with.
const MAGIC: &[u8; 6] = b"ARROW1";

/// The rows of a file.
pub struct Rows<F> {
    file: F,
    /// As the file has it.
    schema: SchemaRef,
    /// Where the next message of a stream begins.
    next: u64,
    /// Of a file, where its batches begin, as its footer says.
    batches: Option<std::vec::IntoIter<u64>>,
    batch: Option<Batch>,
    /// The next row of the batch.
    row: usize,
    /// Whether a batch may be read whole, by a reader that panics on some damaged ones.
    whole: bool,
}

enum Batch {
    /// A batch's description, and where its body begins.
    InFile {
        description: Vec<u8>,
        body: u64,
        rows: usize,
    },
    InMemory(RecordBatch),
}

impl<F: Read + Seek> Rows<F> {
    /// Reads what the file says of itself.
    ///
    /// # Errors
    /// If it is no Arrow file or stream.
    pub fn open(mut file: F) -> anyhow::Result<Self> {
        let mut first = [0; MAGIC.len()];
        file.read_exact(&mut first).context("it is too short for an Arrow file")?;
        let mut rows =
            Self { file, schema: Arc::new(Schema::empty()), next: 0, batches: None, batch: None, row: 0, whole: true };
        if first == *MAGIC {
            rows.read_footer()?;
            return Ok(rows);
        }
        let (description, _) = rows.message()?.context("it has no schema")?;
        let message = described(&description)?;
        let schema = message.header_as_schema().context("it does not begin with a schema")?;
        rows.schema = Arc::new(try_fb_to_schema(schema)?);
        Ok(rows)
    }

    /// Refuses batches that cannot be read in part.
    #[must_use]
    pub fn in_part_only(mut self) -> Self {
        self.whole = false;
        self
    }

    /// What a file says of itself at its end.
    fn read_footer(&mut self) -> anyhow::Result<()> {
        let cut = "it is cut off: an Arrow file ends with a footer";
        let end = self.file.seek(SeekFrom::End(0))?;
        let tail = (4 + MAGIC.len()) as u64;
        let last = self.read(end.checked_sub(tail).context(cut)?, 4 + MAGIC.len())?;
        ensure!(last.ends_with(MAGIC), cut);
        let len = last.iter().take(4).rev().fold(0, |len, byte| len << 8 | usize::from(*byte));
        ensure!(len <= MOST_METADATA, "its footer has more than {MOST_METADATA} bytes");
        let footer = self.read((end - tail).checked_sub(len as u64).context(cut)?, len)?;
        let footer = root_as_footer(&footer).map_err(|error| anyhow!("its footer cannot be read: {error}"))?;
        self.schema = Arc::new(try_fb_to_schema(footer.schema().context("its footer has no schema")?)?);
        ensure!(footer.dictionaries().is_none_or(|dictionaries| dictionaries.is_empty()), "it has dictionary columns");
        let begin = |block: &Block| u64::try_from(block.offset()).context("an offset is negative");
        let batches = footer.recordBatches().into_iter().flatten().map(begin).collect::<Result<Vec<_>, _>>()?;
        self.batches = Some(batches.into_iter());
        Ok(())
    }

    /// The schema of the batches that come.
    pub fn schema(&self) -> SchemaRef {
        plain_schema(&self.schema)
    }

    /// The next message and where its body begins; `None` at the end.
    fn message(&mut self) -> anyhow::Result<Option<(Vec<u8>, u64)>> {
        if let Some(batches) = &mut self.batches {
            let Some(next) = batches.next() else { return Ok(None) };
            self.next = next;
        }
        self.file.seek(SeekFrom::Start(self.next))?;
        let mut word = [0; 4];
        if self.file.read(&mut word[..1])? == 0 {
            return Ok(None);
        }
        self.file.read_exact(&mut word[1..])?;
        let mut head = 4;
        if word == [0xFF; 4] {
            self.file.read_exact(&mut word)?;
            head = 8;
        }
        let len = u32::from_le_bytes(word) as usize;
        if len == 0 {
            return Ok(None);
        }
        ensure!(len <= MOST_METADATA, "a part of it is described by more than {MOST_METADATA} bytes");
        let mut description = vec![0; len];
        self.file.read_exact(&mut description)?;
        let body = self.next + head + len as u64;
        let message = described(&description)?;
        let length = u64::try_from(message.bodyLength()).context("a length is negative")?;
        self.next = body.checked_add(length).context("a length is too great")?;
        Ok(Some((description, body)))
    }

    /// Goes to the next batch; whether there is one.
    fn advance(&mut self) -> anyhow::Result<bool> {
        let Some((description, body)) = self.message()? else { return Ok(false) };
        let message = described(&description)?;
        if message.header_type() != MessageHeader::RecordBatch {
            bail!("it holds something other than a schema and batches of plain columns");
        }
        let batch = message.header_as_record_batch().context("a batch is not described")?;
        let plain = batch.compression().is_none() && self.schema.fields().iter().all(|field| is_plain(field));
        self.row = 0;
        self.batch = Some(if plain {
            let rows = usize::try_from(batch.length()).context("a length is negative")?;
            Batch::InFile { description, body, rows }
        } else {
            ensure!(self.whole, "a batch is compressed, or has columns of views");
            let len = usize::try_from(self.next - body)?;
            let end = self.file.seek(SeekFrom::End(0))?;
            ensure!(self.next <= end, "it ends in the middle of a batch");
            let parts = Parts::of(&message, self.next - body)?;
            let opened = if batch.compression().is_some() { self.opened(parts, body)? } else { len as u64 };
            ensure!(
                opened.saturating_add(len as u64) <= MOST_WHOLE,
                "a batch is compressed, or has columns of views, and takes more than {} MiB when it is read whole: write \
                 smaller batches, or plain columns without compression",
                MOST_WHOLE >> 20
            );
            let bytes = Buffer::from(self.read(body, len)?);
            let read =
                read_record_batch(&bytes, batch, Arc::clone(&self.schema), &HashMap::new(), None, &message.version())?;
            Batch::InMemory(plain_batch(&read, self.schema())?)
        });
        Ok(true)
    }

    /// Bytes of a compressed batch once it is open: each of its parts begins with how many it will have, or -1 if it is as it is.
    fn opened(&mut self, parts: Parts, body: u64) -> anyhow::Result<u64> {
        let mut opened = 0_u64;
        for (at, len) in parts.0.filter(|(_, len)| *len >= size_of::<i64>()) {
            let said = self.read(body + at, size_of::<i64>())?;
            let said = said.try_into().map_or(-1, i64::from_le_bytes);
            opened = opened.saturating_add(u64::try_from(said).unwrap_or(len as u64));
        }
        Ok(opened)
    }

    fn read(&mut self, from: u64, len: usize) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.seek(SeekFrom::Start(from))?;
        self.file.read_exact(&mut bytes).context("it ends in the middle of a batch")?;
        Ok(bytes)
    }

    fn rows_at_hand(&mut self) -> anyhow::Result<Option<RecordBatch>> {
        loop {
            let left = match &self.batch {
                Some(Batch::InFile { rows, .. }) => rows - self.row,
                Some(Batch::InMemory(batch)) => batch.num_rows() - self.row,
                None => 0,
            };
            if left > 0 {
                let (first, rows) = (self.row, left.min(ROWS));
                self.row += rows;
                return self.window(first, rows).map(Some);
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    fn window(&mut self, first: usize, rows: usize) -> anyhow::Result<RecordBatch> {
        let (description, body) = match &mut self.batch {
            Some(Batch::InMemory(batch)) => return Ok(batch.slice(first, rows)),
            Some(Batch::InFile { description, body, .. }) => (std::mem::take(description), *body),
            None => bail!("there is no batch"),
        };
        let message = described(&description)?;
        let mut parts = Parts::of(&message, self.next - body)?;
        let schema = Arc::clone(&self.schema);
        let mut columns: Vec<ArrayRef> = Vec::new();
        for field in schema.fields() {
            let nulls = self.nulls(&mut parts, body, first, rows)?;
            columns.push(match field.data_type() {
                DataType::Utf8 => Arc::new(self.cells::<Utf8Type>(&mut parts, body, first, rows, nulls)?),
                DataType::LargeUtf8 => Arc::new(self.cells::<LargeUtf8Type>(&mut parts, body, first, rows, nulls)?),
                DataType::Binary => Arc::new(self.cells::<BinaryType>(&mut parts, body, first, rows, nulls)?),
                DataType::LargeBinary => Arc::new(self.cells::<LargeBinaryType>(&mut parts, body, first, rows, nulls)?),
                DataType::FixedSizeBinary(width) => {
                    let bytes = usize::try_from(*width).context("a width is negative")?;
                    let (at, len) = parts.part()?;
                    ensure!((first + rows) * bytes <= len, "a batch says more than it holds");
                    let cells = self.read(body + at + (first * bytes) as u64, rows * bytes)?;
                    Arc::new(FixedSizeBinaryArray::try_new(*width, cells.into(), nulls)?)
                }
                other => bail!("a column has type {other}"),
            });
        }
        let read = RecordBatch::try_new(schema, columns)?;
        if let Some(Batch::InFile { description: place, .. }) = &mut self.batch {
            *place = description;
        }
        Ok(read)
    }

    /// Which of some rows are null; nothing is written of a column that has none.
    fn nulls(&mut self, parts: &mut Parts, body: u64, first: usize, rows: usize) -> anyhow::Result<Option<NullBuffer>> {
        let (at, len) = parts.part()?;
        if len == 0 {
            return Ok(None);
        }
        let (from, to) = (first / 8, (first + rows).div_ceil(8));
        ensure!(to <= len, "a batch says more than it holds");
        let bits = self.read(body + at + from as u64, to - from)?;
        Ok(Some(NullBuffer::new(BooleanBuffer::new(bits.into(), 0, rows))))
    }

    /// Cells of their own lengths.
    fn cells<T: ByteArrayType>(
        &mut self,
        parts: &mut Parts,
        body: u64,
        first: usize,
        rows: usize,
        nulls: Option<NullBuffer>,
    ) -> anyhow::Result<GenericByteArray<T>> {
        let width = size_of::<T::Offset>();
        let (at, len) = parts.part()?;
        ensure!((first + rows + 1) * width <= len, "a batch says more than it holds");
        let offsets = self.read(body + at + (first * width) as u64, (rows + 1) * width)?;
        // Little-endian; a negative one is greater than any column.
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
        let offsets: Vec<usize> = offsets.chunks_exact(width).map(number).collect();
        let (at, len) = parts.part()?;
        let (from, to) = (offsets[0], offsets[rows]);
        ensure!(offsets.is_sorted() && to <= len, "a column's offsets are wrong");
        ensure!(to - from <= MOST_BYTES, "{rows} cells of a column have more than {MOST_BYTES} bytes");
        let cells = self.read(body + at + from as u64, to - from)?;
        let offsets: Vec<T::Offset> = offsets.iter().map(|offset| T::Offset::usize_as(offset - from)).collect();
        Ok(GenericByteArray::try_new(OffsetBuffer::new(offsets.into()), cells.into(), nulls)?)
    }
}

impl<F: Read + Seek> Iterator for Rows<F> {
    type Item = anyhow::Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows_at_hand().transpose()
    }
}

fn described(bytes: &[u8]) -> anyhow::Result<Message<'_>> {
    root_as_message(bytes).map_err(|error| anyhow!("a part of it is not described as it should be: {error}"))
}

/// The parts of a batch's body, in order: where each begins there, and its bytes.
struct Parts(std::vec::IntoIter<(u64, usize)>);

impl Parts {
    fn of(message: &Message<'_>, body: u64) -> anyhow::Result<Self> {
        let batch = message.header_as_record_batch().context("a batch is not described")?;
        let mut parts = Vec::new();
        for part in batch.buffers().into_iter().flatten() {
            let (at, len) = (u64::try_from(part.offset())?, u64::try_from(part.length())?);
            ensure!(at.checked_add(len).is_some_and(|end| end <= body), "a batch says more than it holds");
            parts.push((at, usize::try_from(len)?));
        }
        Ok(Self(parts.into_iter()))
    }

    fn part(&mut self) -> anyhow::Result<(u64, usize)> {
        self.0.next().context("a batch has fewer parts than its schema")
    }
}

fn is_plain(field: &Field) -> bool {
    use DataType::{Binary, FixedSizeBinary, LargeBinary, LargeUtf8, Utf8};
    matches!(field.data_type(), Utf8 | LargeUtf8 | Binary | LargeBinary | FixedSizeBinary(_))
}

/// A column of views as one of plain cells; others as they are.
fn plain_field(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    };
    Field::new(field.name(), data_type, field.is_nullable())
}

/// A batch whose columns of views are plain ones.
pub(super) fn plain_batch(batch: &RecordBatch, schema: SchemaRef) -> anyhow::Result<RecordBatch> {
    let plain = |column: &ArrayRef| -> ArrayRef {
        let any = column.as_any();
        if let Some(views) = any.downcast_ref::<StringViewArray>() {
            Arc::new(views.iter().collect::<StringArray>())
        } else if let Some(views) = any.downcast_ref::<BinaryViewArray>() {
            Arc::new(views.iter().collect::<BinaryArray>())
        } else {
            Arc::clone(column)
        }
    };
    Ok(RecordBatch::try_new(schema, batch.columns().iter().map(plain).collect())?)
}

/// The schema of [`plain_batch`]es.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(|field| plain_field(field)).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use arrow_ipc::CompressionType;
    use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

    use super::*;

    #[test]
    fn a_batch_that_would_be_too_large_once_it_is_open_is_not_opened() {
        let schema = Arc::new(Schema::new(vec![Field::new("record_id", DataType::Utf8, false)]));
        let zstd = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
        let read = |bytes: usize| {
            let cells: ArrayRef = Arc::new(StringArray::from(vec!["7".repeat(bytes)]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![cells]).unwrap();
            let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, zstd.clone()).unwrap();
            writer.write(&batch).unwrap();
            let file = writer.into_inner().unwrap();
            assert!(file.len() < bytes / 100);
            Rows::open(Cursor::new(file)).unwrap().next().unwrap()
        };
        assert_eq!(read(1 << 20).unwrap().num_rows(), 1);
        assert!(read(129 << 20).unwrap_err().to_string().contains("more than 128 MiB"));
    }
}
