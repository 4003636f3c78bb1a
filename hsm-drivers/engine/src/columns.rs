//! Messages of many rows as columns of blocks, padded.

use claviger_hsm_api::{Input, MacAlgorithm, MacSpec, Message, Padding};
use zeroize::{Zeroizing, optimization_barrier};

use crate::input::Inputs;
use crate::mac::Span;
use crate::padding::pad;

/// Padded messages, block by block.
pub(crate) struct Columns {
    pub(crate) columns: Vec<Vec<u8>>,
    /// Blocks of each row.
    pub(crate) blocks: Vec<u32>,
    /// Whether each row's last block was padded.
    pub(crate) padded: Vec<bool>,
}

impl Columns {
    /// The messages of the rows that run; `None` if one cannot be padded.
    pub(crate) fn gather(spec: &MacSpec, message: &Message, span: &Span<'_>, block: usize) -> Option<Self> {
        let Span { inputs, first, rows } = *span;
        let cmac = spec.algorithm == MacAlgorithm::Cmac;
        let padding = if cmac { Padding::OneIfNeeded } else { spec.padding };
        if padding != Padding::Length
            && let Some(parts) = message.0.iter().map(|input| Part::of(input, inputs)).collect::<Option<Vec<_>>>()
        {
            return Self::of_one_length(&parts, padding, span, block);
        }
        let mut found = Self {
            columns: Vec::new(),
            blocks: Vec::with_capacity(rows.len()),
            padded: Vec::with_capacity(rows.len()),
        };
        let mut text = Zeroizing::new(Vec::new());
        for (number, row) in rows.iter().enumerate() {
            text.clear();
            inputs.append(message, first + *row as usize, &mut text).ok()?;
            found.padded.push(text.is_empty() || !text.len().is_multiple_of(block));
            pad_one(&mut text, padding, block)?;
            for (at, block_of_text) in text.chunks_exact(block).enumerate() {
                if at == found.columns.len() {
                    found.columns.push(Vec::with_capacity(rows.len() * block));
                }
                let column = &mut found.columns[at];
                // Shorter messages before this one left a gap.
                column.resize(number * block, 0);
                column.extend_from_slice(block_of_text);
            }
            found.blocks.push((text.len() / block) as u32);
        }
        found.columns.iter_mut().for_each(|column| column.resize(rows.len() * block, 0));
        Some(found)
    }

    /// Where every part has one width, so has the message: its blocks are one template with the parts' bytes put in,
    /// part by part.
    fn of_one_length(parts: &[Part<'_>], padding: Padding, span: &Span<'_>, block: usize) -> Option<Self> {
        let rows = span.rows;
        let mut template: Vec<u8> = Vec::new();
        for part in parts {
            match part {
                Part::Constant(bytes) => template.extend_from_slice(bytes),
                Part::Column { width, .. } => template.resize(template.len() + width, 0),
            }
        }
        let padded = template.is_empty() || !template.len().is_multiple_of(block);
        if rows.is_empty() {
            return Some(Self { columns: Vec::new(), blocks: Vec::new(), padded: Vec::new() });
        }
        pad_one(&mut template, padding, block)?;
        let mut columns: Vec<Vec<u8>> = template.chunks_exact(block).map(|chunk| chunk.repeat(rows.len())).collect();
        let mut at = 0;
        for part in parts {
            let (width, bytes) = match part {
                Part::Constant(bytes) => {
                    at += bytes.len();
                    continue;
                }
                Part::Column { width, bytes } => (*width, &bytes[span.first * width..]),
            };
            let mut taken = 0;
            while taken < width {
                let offset = at % block;
                let len = (block - offset).min(width - taken);
                let whole = span.is_whole();
                let piece = Piece { bytes: &bytes[taken..], width, rows, whole, block, offset };
                piece.put(len, &mut columns[at / block]);
                taken += len;
                at += len;
            }
        }
        Some(Self {
            columns,
            blocks: vec![(template.len() / block) as u32; rows.len()],
            padded: vec![padded; rows.len()],
        })
    }
}

/// A part of a message whose width is known.
enum Part<'a> {
    Constant(&'a [u8]),
    Column { width: usize, bytes: &'a [u8] },
}

impl<'a> Part<'a> {
    fn of(input: &'a Input, inputs: &Inputs<'a>) -> Option<Self> {
        if let Input::Constant(bytes) = input {
            return Some(Self::Constant(bytes));
        }
        let (width, bytes) = inputs.fixed(input)?;
        Some(Self::Column { width, bytes })
    }
}

/// Bytes of a column's cells that go to one place in a block.
struct Piece<'a> {
    /// From the first cell's piece on.
    bytes: &'a [u8],
    /// From one cell to the next.
    width: usize,
    rows: &'a [u32],
    /// Whether these are all rows there are up to the last.
    whole: bool,
    block: usize,
    offset: usize,
}

impl Piece<'_> {
    /// Copies pieces of `len` bytes, by a loop for each length that occurs in records: what the compiler knows the
    /// length of costs a move, not a call.
    fn put(&self, len: usize, column: &mut [u8]) {
        match len {
            1 => self.put_exactly::<1>(column),
            2 => self.put_exactly::<2>(column),
            3 => self.put_exactly::<3>(column),
            4 => self.put_exactly::<4>(column),
            6 => self.put_exactly::<6>(column),
            7 => self.put_exactly::<7>(column),
            8 => self.put_exactly::<8>(column),
            16 => self.put_exactly::<16>(column),
            _ => {
                for (row, block) in self.rows.iter().zip(column.chunks_exact_mut(self.block)) {
                    let piece = &self.bytes[*row as usize * self.width..][..len];
                    block[self.offset..self.offset + len].copy_from_slice(piece);
                }
            }
        }
    }

    fn put_exactly<const LEN: usize>(&self, column: &mut [u8]) {
        let blocks = column.chunks_exact_mut(self.block);
        if self.whole {
            put_each::<LEN>(self.bytes.chunks(self.width), blocks, self.offset);
        } else {
            let pieces = self.rows.iter().map(|row| &self.bytes[*row as usize * self.width..]);
            put_each::<LEN>(pieces, blocks, self.offset);
        }
    }
}

#[inline]
fn put_each<'a, const LEN: usize>(
    pieces: impl Iterator<Item = &'a [u8]>,
    blocks: impl Iterator<Item = &'a mut [u8]>,
    offset: usize,
) {
    for (piece, block) in pieces.zip(blocks) {
        if let (Some(piece), Some(place)) = (piece.first_chunk::<LEN>(), block[offset..].first_chunk_mut()) {
            *place = *piece;
        }
    }
}

/// Pads one message; `None` if it cannot be, or nothing is left to MAC.
fn pad_one(text: &mut Vec<u8>, padding: Padding, block: usize) -> Option<()> {
    // An empty message is not whole either.
    if padding == Padding::OneIfNeeded && text.is_empty() {
        text.push(0x80);
        text.resize(block, 0);
    }
    pad(text, 0, padding, block).ok()?;
    (!text.is_empty()).then_some(())
}

impl Drop for Columns {
    fn drop(&mut self) {
        // At the machine's width: byte by byte, as `Zeroize` does it, this would cost as much as the MACs.
        for column in &mut self.columns {
            column.fill(0);
            optimization_barrier(column.as_slice());
        }
    }
}
