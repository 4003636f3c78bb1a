//! What kind of file it is, and how it goes up: as it is, or, for Parquet and Arrow, batch by batch.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use claviger_client::Scheme;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::arrow_file::{Rows, plain_batch, plain_schema};
use crate::cli::upload::{Records, Upload};

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Format {
    Csv,
    Parquet,
    /// Arrow IPC: the file format or the streaming format.
    Arrow,
    /// A layout of the scheme: text lines, or blocks of so many bytes.
    Layout {
        name: String,
        block: Option<usize>,
    },
}

/// Rows of a batch that goes up.
const ROWS: usize = 8192;

impl Format {
    /// As it is named, or as the file's first bytes tell.
    pub(in crate::cli) fn of(path: &Path, named: Option<&str>, scheme: &Scheme) -> anyhow::Result<Self> {
        if let Some(name) = named {
            return Self::named(name, scheme);
        }
        let shown = || path.display().to_string();
        if !std::fs::metadata(path).with_context(shown)?.is_file() {
            bail!("{} is no plain file: one that may have to be read again is needed", path.display());
        }
        let mut first = Vec::new();
        File::open(path).with_context(shown)?.take(4096).read_to_end(&mut first)?;
        let first_line = first.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if first.starts_with(b"PAR1") {
            Ok(Self::Parquet)
        } else if first.starts_with(b"ARROW1") || first.starts_with(&[0xFF; 4]) {
            Ok(Self::Arrow)
        } else if first.is_empty() || memchr::memmem::find(first_line, b"record_id").is_some() {
            // What is wrong with a header is the daemon's to say.
            Ok(Self::Csv)
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
            Ok(Self::Csv)
        } else {
            bail!("cannot tell what {} is; name it with --format: {}", path.display(), known(scheme))
        }
    }

    fn named(name: &str, scheme: &Scheme) -> anyhow::Result<Self> {
        match name {
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            "arrow" => Ok(Self::Arrow),
            _ => {
                let layout = scheme.layouts.iter().find(|layout| layout.name == name);
                let layout = layout.with_context(|| format!("`{name}` is no format; known are {}", known(scheme)))?;
                Ok(Self::Layout { name: name.to_owned(), block: layout.record_bytes })
            }
        }
    }

    /// As the journal writes it.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Layout { name, .. } => name,
        }
    }

    /// How it goes over the wire.
    pub(super) fn content_type(&self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Parquet | Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Layout { .. } => "application/octet-stream",
        }
    }
}

fn known(scheme: &Scheme) -> String {
    let layouts = scheme.layouts.iter().map(|layout| layout.name.as_str());
    ["csv", "parquet", "arrow"].into_iter().chain(layouts).collect::<Vec<_>>().join(", ")
}

/// A file from its first record that was not verified yet.
pub(in crate::cli) struct Source {
    path: PathBuf,
    format: Format,
    /// Records that were verified before.
    done: u64,
    /// Where the next record begins, in a file that goes up as it is.
    position: u64,
    /// What goes before: the header of CSV, if the next record does not follow it.
    header: Vec<u8>,
    /// What the daemon is told of lines or records that were sent before.
    pub(super) before: u64,
}

impl Source {
    /// Finds the record after the first `done` ones.
    pub(in crate::cli) fn open(path: &Path, format: Format, done: u64) -> anyhow::Result<Self> {
        let mut source = Self { path: path.to_owned(), format, done, position: 0, header: Vec::new(), before: done };
        match source.format {
            Format::Csv if done > 0 => source.skip_lines(true)?,
            Format::Layout { block: None, .. } if done > 0 => source.skip_lines(false)?,
            Format::Layout { block: Some(length), .. } => source.position = done * length as u64,
            _ => {}
        }
        Ok(source)
    }

    /// Passes over lines until `done` have held something.
    fn skip_lines(&mut self, with_header: bool) -> anyhow::Result<()> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(&self.path)?);
        self.before = 0;
        if with_header {
            file.read_until(b'\n', &mut self.header)?;
            self.position = self.header.len() as u64;
            self.before = 1;
        }
        let (mut line, mut records) = (Vec::new(), 0);
        while records < self.done {
            line.clear();
            let read = file.read_until(b'\n', &mut line)?;
            if read == 0 {
                bail!("{} ends before the record that was verified last", self.path.display());
            }
            self.position += read as u64;
            self.before += 1;
            records += u64::from(holds(&line));
        }
        Ok(())
    }

    /// Sends what is left.
    pub(in crate::cli) fn send(self, upload: &mut Upload) -> anyhow::Result<()> {
        let file = File::open(&self.path)?;
        match self.format {
            Format::Csv => {
                if self.header.is_empty() {
                    upload.send_file(file, 0, Records::Lines)?;
                    // The header is a line as well, and no record.
                    return upload.uncount_header(&self.path);
                }
                upload.send(self.header)?;
                upload.send_file(file, self.position, Records::Lines)
            }
            Format::Layout { block, .. } => {
                upload.send_file(file, self.position, block.map_or(Records::Lines, Records::Blocks))
            }
            Format::Parquet => {
                let batches = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(ROWS).build()?;
                let schema = plain_schema(&batches.schema());
                let batches = batches.map(|batch| plain_batch(&batch?, Arc::clone(&schema)));
                send_batches(upload, &schema, batches, self.done)
            }
            Format::Arrow => {
                let rows = Rows::open(file)?;
                send_batches(upload, &rows.schema(), rows, self.done)
            }
        }
    }
}

impl Upload {
    fn uncount_header(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut header = Vec::new();
        BufReader::new(File::open(path)?).read_until(b'\n', &mut header)?;
        if holds(&header) {
            self.uncount();
        }
        Ok(())
    }
}

/// Whether a line, with its end, holds something.
fn holds(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    !line.strip_suffix(b"\r").unwrap_or(line).is_empty()
}

fn send_batches(
    upload: &mut Upload,
    schema: &SchemaRef,
    batches: impl Iterator<Item = anyhow::Result<RecordBatch>>,
    mut skip: u64,
) -> anyhow::Result<()> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        let batch = batch?;
        let rows = batch.num_rows() as u64;
        if skip >= rows {
            skip -= rows;
            continue;
        }
        let batch = batch.slice(skip as usize, (rows - skip) as usize);
        skip = 0;
        for start in (0..batch.num_rows()).step_by(ROWS) {
            let part = batch.slice(start, ROWS.min(batch.num_rows() - start));
            writer.write(&part)?;
            let piece = std::mem::take(writer.get_mut());
            upload.count(part.num_rows() as u64, piece.len() as u64);
            upload.send(piece)?;
        }
    }
    writer.finish()?;
    let last = std::mem::take(writer.get_mut());
    upload.send(last)
}
