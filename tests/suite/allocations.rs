//! No record of a file asks for memory of its own, from its line to the line of its verdict.

use std::sync::Arc;

use allocation_counter::measure;
use claviger_card_schemes::{
    Columns, CsvReader, FieldSet, LineFault, Reader, RecordSink, Schemes, SelectableKey, TacVerifier, Verified,
};
use claviger_hsm_api::{Algorithm, Batch, KeyVersion, Recipe, Secret};
use claviger_hsm_engine::{EngineError, PlainKey, run};

use crate::main_job::days;

/// Rows that are verified at once, as the daemon does.
const BATCH: usize = 4096;

struct Sink<'k> {
    verifier: TacVerifier,
    keys: Vec<&'k PlainKey>,
    lines: Vec<u8>,
    verdicts: usize,
}

impl Sink<'_> {
    fn run(&mut self) {
        let mut engine =
            |recipe: &Recipe, batch: &Batch| run(&self.keys, recipe, batch, &|_, _| Err(EngineError::NoStore));
        let (lines, verdicts) = (&mut self.lines, &mut self.verdicts);
        lines.clear();
        let told = |verified: Verified| {
            *verdicts += 1;
            verified.append_line(b"R000000000", lines);
        };
        self.verifier.finish(&mut engine, told).unwrap();
    }
}

impl RecordSink for Sink<'_> {
    type Error = ();

    fn record(&mut self, _: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> Result<(), ()> {
        match fields {
            Ok(fields) => self.verifier.push(fields),
            Err(fault) => self.verifier.push_fault(fault, number),
        }
        if self.verifier.len() >= BATCH {
            self.run();
        }
        Ok(())
    }
}

/// How often memory is asked for to verify so many records of a day.
fn asked_for(key: &PlainKey, records: usize) -> u64 {
    let day = std::fs::read_to_string(days().join("cjt166-3des-day.csv")).unwrap();
    let (header, lines) = day.split_once('\n').unwrap();
    // The day over and over.
    let lines = lines.lines().cycle().take(records);
    let text = std::iter::once(header).chain(lines).flat_map(|line| [line, "\n"]).collect::<String>();
    let scheme = Arc::clone(Schemes::shipped().unwrap().find("cjt166").unwrap());
    let of = SelectableKey { algorithm: Algorithm::TripleDes, version: KeyVersion(1), factors: Vec::new() };
    let verifier = TacVerifier::new(scheme, vec![of]);
    let mut sink = Sink { verifier, keys: vec![key], lines: Vec::with_capacity(1 << 20), verdicts: 0 };
    let asked = measure(|| {
        let mut reader = Reader::Csv(CsvReader::new(Columns::of_records(), 4096, 0));
        let mut open = false;
        for piece in text.as_bytes().chunks(64 << 10) {
            match open {
                true => assert!(reader.feed(piece, &mut sink).is_ok()),
                false => open = reader.open(piece).unwrap(),
            }
        }
        assert!(reader.end(&mut sink).is_ok());
        sink.run();
    });
    assert_eq!(sink.verdicts, records);
    asked.count_total
}

#[test]
fn a_record_asks_for_no_memory_of_its_own() {
    let secret = Secret::copy_of(&hex::decode("EFBA26C2CF1C18BC5494A3BF609AF474").unwrap());
    let key = PlainKey { algorithm: Algorithm::TripleDes, secret };
    let [few, many] = [2, 20].map(|batches| asked_for(&key, batches * BATCH));
    // What a batch asks for is its columns and the kernels' rows, some hundred times, whatever its size.
    let of_a_batch = (many - few) / 18;
    assert!(of_a_batch < BATCH as u64 / 20, "{of_a_batch} for each batch of {BATCH} ({few}, {many})");
    // And it is counted at all.
    assert!(few > 10 && measure(|| drop(std::hint::black_box(vec![0_u8; 64]))).count_total == 1);
}
