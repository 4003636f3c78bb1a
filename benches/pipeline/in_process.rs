//! A file to verdicts on one thread, without a daemon: what parsing, sorting, the engine and the lines of verdicts
//! cost, each with what goes before it.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatchReader;
use arrow_ipc::writer::StreamWriter;
use claviger::audit::{Blinding, Leaf, Salts, Tree};
use claviger_bulk_mac::{BulkMac, Cipher, Keys, LastStep, PerRow};
use claviger_card_schemes::{
    ArrowReader, CardScheme, Columns, CsvReader, FieldSet, LineFault, Reader, RecordSink, Schemes, SelectableKey,
    TacVerifier,
};
use claviger_hsm_api::{Algorithm, Batch, KeyVersion, LegOutcome, LegValue, Outcome, Recipe, Secret};
use claviger_hsm_engine::{EngineError, PlainKey, run};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::clock::thread_time;
use super::files;

/// Rows that are verified at once, as the daemon does.
const BATCH: usize = 4096;
/// Bytes that are read at once, as the command does.
const PIECE: usize = 256 << 10;
/// Rows of a batch of Arrow that the command makes.
const ROWS: usize = 8192;

/// How far the records go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Read,
    Parse,
    Sort,
    Verify,
    Lines,
    Tree,
}

impl Stage {
    pub(crate) const ALL: [(Self, &'static str); 6] = [
        (Self::Read, "read"),
        (Self::Parse, "and parse"),
        (Self::Sort, "and sort into columns"),
        (Self::Verify, "and verify"),
        (Self::Lines, "and write verdicts"),
        (Self::Tree, "and put them in a tree"),
    ];
}

/// The keys of a day's cities, so that one dispersion leads to a card's.
pub(crate) struct Day {
    scheme: Arc<CardScheme>,
    keys: Vec<PlainKey>,
    selectable: Vec<SelectableKey>,
}

impl Day {
    pub(crate) fn load() -> Self {
        let scheme = Arc::clone(Schemes::shipped().unwrap().find("cjt166").unwrap());
        let factors: Vec<[u8; 8]> =
            files::cities().iter().map(|city| [city[0], city[1], 0xFF, 0, 0, 0, 0, 0]).collect();
        let mut cities = vec![[0; 16]; factors.len()];
        let root = files::root_key();
        let keys = Keys {
            cipher: Cipher::TripleDes,
            masters: &[root],
            chosen: PerRow::Same(0),
            levels: &[&factors],
            last: LastStep::Whole,
        };
        BulkMac::new().disperse(&keys, &mut cities).unwrap();
        let algorithm = Algorithm::TripleDes;
        let key = |key: &[u8; 16]| PlainKey { algorithm, secret: Secret::copy_of(key) };
        let of = |factor: &[u8; 8]| SelectableKey { algorithm, version: KeyVersion(1), factors: vec![factor.to_vec()] };
        Self { scheme, keys: cities.iter().map(key).collect(), selectable: factors.iter().map(of).collect() }
    }

    /// Nanoseconds of processor time that the whole file takes.
    pub(crate) fn time(&self, file: &Path, format: &str, stage: Stage) -> f64 {
        let begun = thread_time();
        let mut pieces = Pieces::of(file, format);
        let mut reader = match (files::layout(format), format) {
            (Some(layout), _) => self.scheme.layout_reader(layout, 0).unwrap(),
            (None, "csv") => Reader::Csv(CsvReader::new(Columns::of_records(), 4096, 0)),
            _ => Reader::Arrow(ArrowReader::new(Columns::of_records(), 64 << 20, 0)),
        };
        let mut sink = Sink {
            verifier: TacVerifier::new(Arc::clone(&self.scheme), self.selectable.clone()),
            keys: self.keys.iter().collect(),
            stage,
            ids: Vec::new(),
            ends: Vec::new(),
            lines: Vec::new(),
            leaves: Vec::new(),
            salts: Blinding::from_hex(&"5A".repeat(32)).unwrap().salts(),
            tree: Tree::default(),
            valid: 0,
            records: 0,
        };
        let mut open = false;
        while let Some(piece) = pieces.next() {
            match stage {
                Stage::Read => drop(black_box(piece)),
                _ if open => reader.feed(piece, &mut sink).map_err(|_| "the file cannot be read").unwrap(),
                _ => open = reader.open(piece).unwrap(),
            }
        }
        if stage > Stage::Read {
            reader.end(&mut sink).map_err(|_| "the file cannot be read").unwrap();
            sink.run();
        }
        let spent = thread_time() - begun;
        if stage >= Stage::Verify {
            assert_eq!(sink.valid, sink.records, "every record is valid");
        }
        spent
    }
}

/// What a reader is fed with: the file as it is, or the rows of Parquet as Arrow, as the command sends them.
enum Pieces {
    File(File, Vec<u8>),
    Parquet { batches: ParquetRecordBatchReader, written: Box<StreamWriter<Vec<u8>>>, begun: bool },
}

impl Pieces {
    fn of(file: &Path, format: &str) -> Self {
        let file = File::open(file).unwrap();
        if format != "parquet" {
            return Self::File(file, vec![0; PIECE]);
        }
        let batches = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(ROWS).build().unwrap();
        let written = Box::new(StreamWriter::try_new(Vec::new(), &batches.schema()).unwrap());
        Self::Parquet { batches, written, begun: false }
    }

    fn next(&mut self) -> Option<&[u8]> {
        match self {
            Self::File(file, piece) => {
                let read = file.read(piece).unwrap();
                (read > 0).then(|| &piece[..read])
            }
            Self::Parquet { batches, written, begun } => {
                let batch = batches.next()?.unwrap();
                // The first piece begins with the schema.
                if std::mem::replace(begun, true) {
                    written.get_mut().clear();
                }
                written.write(&batch).unwrap();
                Some(written.get_ref())
            }
        }
    }
}

struct Sink<'a> {
    verifier: TacVerifier,
    keys: Vec<&'a PlainKey>,
    stage: Stage,
    ids: Vec<u8>,
    ends: Vec<usize>,
    lines: Vec<u8>,
    leaves: Vec<Leaf>,
    salts: Salts,
    tree: Tree,
    valid: usize,
    records: usize,
}

impl Sink<'_> {
    fn run(&mut self) {
        let (keys, stage) = (&self.keys, self.stage);
        let mut engine = |recipe: &Recipe, batch: &Batch| match stage {
            Stage::Sort => Ok(all_valid(batch.rows)),
            _ => run(keys, recipe, batch, &|_, _| Err(EngineError::NoStore)),
        };
        let mut from = 0;
        let mut ends = self.ends.iter();
        let mut leaves = self.leaves.iter_mut();
        let (ids, lines, valid) = (&self.ids, &mut self.lines, &mut self.valid);
        self.verifier
            .finish(&mut engine, |verified| {
                *valid += usize::from(verified.verdict.as_str() == "valid");
                let to = *ends.next().unwrap();
                if stage >= Stage::Lines {
                    verified.append_line(&ids[from..to], lines);
                }
                if let Some(leaf) = leaves.next() {
                    leaf.decide(&ids[from..to], verified.verdict);
                }
                from = to;
            })
            .unwrap();
        self.salts.blind(&mut self.leaves);
        self.tree.append(Leaf::bytes(&self.leaves));
        self.leaves.clear();
        black_box(&self.lines);
        self.lines.clear();
        self.ids.clear();
        self.ends.clear();
    }
}

impl RecordSink for Sink<'_> {
    type Error = ();

    fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> Result<(), ()> {
        if self.stage == Stage::Parse {
            black_box((id, fields.ok()));
            return Ok(());
        }
        match fields {
            Ok(fields) => self.verifier.push(fields),
            Err(fault) => self.verifier.push_fault(fault, number),
        }
        if self.stage == Stage::Tree {
            self.leaves.push(Leaf::of(fields.ok()));
        }
        self.ids.extend_from_slice(id);
        self.ends.push(self.ids.len());
        self.records += 1;
        if self.verifier.len() >= BATCH {
            self.run();
        }
        Ok(())
    }
}

/// What an engine that takes no time would answer.
fn all_valid(rows: usize) -> Outcome {
    Outcome { legs: vec![LegOutcome { ran: vec![true; rows], value: LegValue::Verdicts(vec![true; rows]) }] }
}
