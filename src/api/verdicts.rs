//! Verdicts on their way out: lines of CSV, or Arrow's IPC streaming format.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use claviger_card_schemes::{FieldSet, LineFault, Verified};

use super::stream::{Ids, Job};
use crate::audit::Written;
use crate::service::{ServiceError, VerifyJob};

/// A verification whose verdicts leave in one of the formats.
pub(super) struct Verification {
    job: VerifyJob,
    writer: Writer,
}

enum Writer {
    Csv,
    Arrow { schema: SchemaRef, stream: Box<StreamWriter<Vec<u8>>> },
}

impl Verification {
    /// With verdicts as `record_id,verdict,reason` lines; what goes before them comes along.
    pub(super) fn as_csv(job: VerifyJob) -> (Self, Vec<u8>) {
        (Self { job, writer: Writer::Csv }, b"record_id,verdict,reason\n".to_vec())
    }

    /// With verdicts in three columns of text.
    pub(super) fn as_arrow(job: VerifyJob) -> Result<(Self, Vec<u8>), ServiceError> {
        let column = |name| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(["record_id", "verdict", "reason"].map(column).to_vec()));
        let mut stream = StreamWriter::try_new(Vec::new(), &schema).map_err(broken)?;
        let first = std::mem::take(stream.get_mut());
        Ok((Self { job, writer: Writer::Arrow { schema, stream: Box::new(stream) } }, first))
    }
}

impl Job for Verification {
    fn push(&mut self, record: Result<&FieldSet, LineFault>, number: u64) {
        self.job.push(record, number);
    }

    fn is_full(&self) -> bool {
        self.job.is_full()
    }

    fn run(&mut self, ids: &Ids, out: &mut Vec<u8>) -> Result<(), ServiceError> {
        let ids = ids.iter();
        match &mut self.writer {
            Writer::Csv => self.job.run(ids, |id, verified| verified.append_line(id, out)),
            Writer::Arrow { schema, stream } => {
                let mut columns = VerdictColumns::default();
                self.job.run(ids, |id, verified| columns.push(id, verified))?;
                if let Some(batch) = columns.batch(schema).map_err(broken)? {
                    stream.write(&batch).map_err(broken)?;
                    out.append(stream.get_mut());
                }
                Ok(())
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), ServiceError> {
        if let Writer::Arrow { stream, .. } = &mut self.writer {
            stream.finish().map_err(broken)?;
            out.append(stream.get_mut());
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<Written, ServiceError> {
        self.job.checkpoint()
    }

    fn close(self, outcome: Result<(), &ServiceError>) -> Result<BTreeMap<String, u64>, ServiceError> {
        self.job.close(outcome)
    }
}

#[derive(Default)]
struct VerdictColumns {
    ids: StringBuilder,
    verdicts: StringBuilder,
    reasons: StringBuilder,
    rows: usize,
}

impl VerdictColumns {
    fn push(&mut self, id: &[u8], verified: Verified) {
        // Ids were checked when they were read.
        self.ids.append_value(std::str::from_utf8(id).unwrap_or_default());
        self.verdicts.append_value(verified.verdict.as_str());
        // A builder is written to as a string is; that cannot fail.
        let _ = write!(self.reasons, "{}", verified.reason);
        self.reasons.append_value("");
        self.rows += 1;
    }

    fn batch(mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns = [&mut self.ids, &mut self.verdicts, &mut self.reasons];
        let columns: Vec<ArrayRef> = columns.into_iter().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        RecordBatch::try_new(Arc::clone(schema), columns).map(Some)
    }
}

fn broken(error: ArrowError) -> ServiceError {
    ServiceError::field("body", format!("cannot be answered in Arrow: {error}"))
}
