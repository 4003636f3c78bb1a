//! Verdicts as they come, in CSV or Arrow, written as CSV and counted.

use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, bail};
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use claviger_card_schemes::append_record_id;

use crate::cli::upload::{Answers, PIECE};

/// The file of verdicts.
pub(super) struct Verdicts {
    file: BufWriter<File>,
    bytes: u64,
    answers: Answers,
    /// For verdicts that come in Arrow.
    decoder: Option<StreamDecoder>,
    /// Whether the file has its header: the daemon sends one with every answer.
    resumed: bool,
    scratch: Vec<u8>,
}

const HEADER: &[u8] = b"record_id,verdict,reason\n";

impl Verdicts {
    pub(super) fn new(file: File, answers: Answers, content_type: &str) -> anyhow::Result<Self> {
        let bytes = file.metadata()?.len();
        let resumed = bytes > 0;
        let decoder =
            (content_type != "text/csv" && content_type != "application/octet-stream").then(StreamDecoder::new);
        let mut verdicts =
            Self { file: BufWriter::with_capacity(PIECE, file), bytes, answers, decoder, resumed, scratch: Vec::new() };
        if verdicts.decoder.is_some() && !resumed {
            verdicts.write(HEADER)?;
        }
        Ok(verdicts)
    }

    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    pub(super) fn file(&self) -> &File {
        self.file.get_ref()
    }

    /// Takes a piece of the daemon's answer.
    pub(super) fn take(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        if self.decoder.is_some() {
            return self.take_arrow(piece);
        }
        if !self.resumed {
            return self.write(piece);
        }
        // The header stands in the file already.
        self.scratch.extend_from_slice(piece);
        if self.scratch.len() < HEADER.len() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.scratch);
        self.resumed = false;
        self.write(piece.strip_prefix(HEADER).context("the daemon's answer is not what was asked for")?)
    }

    /// Whether what came ended where it should.
    pub(super) fn end(&mut self) -> anyhow::Result<()> {
        if let Some(decoder) = &mut self.decoder {
            decoder.finish()?;
        }
        self.file.flush()?;
        Ok(())
    }

    /// Puts on disk what has come; bytes of the file that hold whole verdicts.
    pub(super) fn sync(&mut self) -> anyhow::Result<u64> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        Ok(self.bytes - self.answers.unfinished() as u64)
    }

    fn write(&mut self, text: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        self.answers.take(text)
    }

    fn take_arrow(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        let mut buffer = Buffer::from(piece);
        while !buffer.is_empty() {
            let Some(decoder) = &mut self.decoder else { return Ok(()) };
            let left = buffer.len();
            match decoder.decode(&mut buffer)? {
                Some(batch) => self.write_batch(&batch)?,
                None if buffer.len() == left => bail!("the daemon's answer goes on after its end"),
                None => {}
            }
        }
        Ok(())
    }

    fn write_batch(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let column = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<StringArray>());
            column.with_context(|| format!("the daemon's answer has no column `{name}`"))
        };
        let (ids, verdicts, reasons) = (column("record_id")?, column("verdict")?, column("reason")?);
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        for row in 0..batch.num_rows() {
            append_record_id(ids.value(row).as_bytes(), &mut text);
            writeln!(text, ",{},{}", verdicts.value(row), reasons.value(row))?;
        }
        self.write(&text)?;
        self.scratch = text;
        Ok(())
    }
}
