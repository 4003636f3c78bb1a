//! Reads a recipe's inputs row by row.

use claviger_hsm_api::{Batch, Cell, Column, Input, MalformedBatch, Message};

/// The batch, and what earlier legs put out.
pub(crate) struct Inputs<'a> {
    pub(crate) batch: &'a Batch,
    pub(crate) outputs: &'a [Option<Column>],
}

impl<'a> Inputs<'a> {
    /// One row of one input.
    pub(crate) fn cell(&self, input: &'a Input, row: usize) -> Result<Cell<'a>, MalformedBatch> {
        match input {
            Input::Constant(bytes) => Ok(bytes),
            Input::Column(column) => {
                let found = self.batch.columns.len();
                let content =
                    self.batch.columns.get(*column).ok_or(MalformedBatch::NoColumn { column: *column, found })?;
                Ok(content.cell(row))
            }
            Input::Output(leg) => match self.outputs.get(*leg) {
                Some(Some(column)) => Ok(column.cell(row)),
                _ => Err(MalformedBatch::NoColumn { column: *leg, found: self.outputs.len() }),
            },
        }
    }

    /// A column whose rows all have one width: that and its bytes.
    pub(crate) fn fixed(&self, input: &Input) -> Option<(usize, &'a [u8])> {
        let column = match input {
            Input::Constant(_) => None,
            Input::Column(column) => self.batch.columns.get(*column),
            Input::Output(leg) => self.outputs.get(*leg)?.as_ref(),
        };
        match column? {
            Column::Fixed { width, bytes } => Some((*width, bytes)),
            Column::Variable { .. } => None,
        }
    }

    /// One row of a message, appended to `to`.
    pub(crate) fn append(&self, message: &'a Message, row: usize, to: &mut Vec<u8>) -> Result<(), MalformedBatch> {
        for part in &message.0 {
            to.extend_from_slice(self.cell(part, row)?);
        }
        Ok(())
    }
}
