//! What the targets share: records as they come out of a reader.

#![forbid(unsafe_code)]

use claviger_card_schemes::{FieldSet, LineFault, ReadError, Reader, RecordSink};

/// Everything that a reader gave, written down so that two runs can be compared.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Records(Vec<(Vec<u8>, String, u64)>);

impl RecordSink for Records {
    type Error = ();
    fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> Result<(), ()> {
        self.0.push((id.to_vec(), format!("{fields:?}"), number));
        Ok(())
    }
}

/// Reads `data` in pieces that `split` says; the format error, if there was one.
pub fn read(mut reader: Reader, data: &[u8], split: usize) -> (Records, Option<String>) {
    let mut records = Records::default();
    let mut pieces = data.chunks(split.max(1));
    let mut open = false;
    while !open {
        let Some(piece) = pieces.next() else { break };
        match reader.open(piece) {
            Ok(opened) => open = opened,
            Err(error) => return (records, Some(error.to_string())),
        }
    }
    if !open && let Err(error) = reader.open_at_end() {
        return (records, Some(error.to_string()));
    }
    for piece in pieces {
        if let Err(error) = reader.feed(piece, &mut records) {
            return (records, Some(words(error)));
        }
    }
    let ended = reader.end(&mut records).err().map(words);
    (records, ended)
}

fn words(error: ReadError<()>) -> String {
    match error {
        ReadError::Format(error) => error.to_string(),
        ReadError::Sink(()) => "sink".to_owned(),
    }
}
