//! Records as files hold them: CSV, layouts that a profile describes, Arrow. Readers take a file in pieces,
//! in memory that does not grow with it, and one bad record costs nothing to the good ones.

mod arrow;
mod block;
mod csv;
mod layout;
mod line;
mod packed;
#[cfg(test)]
mod reference;

use crate::ascii::is_graphic;
use crate::fields::{Field, FieldSet};
use crate::scheme::CardScheme;

pub use arrow::ArrowReader;
pub use csv::{CsvReader, append_record_id};
pub(crate) use layout::LayoutReader;

/// Longest record id, in bytes.
const LONGEST_ID: usize = 64;

/// Which columns a file has.
#[derive(Debug, Clone)]
pub struct Columns {
    id: &'static str,
    allowed: Vec<Field>,
    required: Vec<Field>,
}

/// What is wrong with a record as a whole, or with one field of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFault {
    /// No readable record id.
    NoId,
    /// The first field, in column order, that is not what it should be.
    Field(Field),
}

/// A file that is not what it was said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Nothing came.
    #[error("the file is empty")]
    Empty,
    /// The first line is not UTF-8 text.
    #[error("the header line is not UTF-8 text")]
    NotText,
    /// No line break where the header should end.
    #[error("the first line is too long for a header")]
    LongHeader,
    /// A column of another name.
    #[error("column `{name}` is not one of {allowed}")]
    Unknown {
        /// What was found.
        name: String,
        /// What there may be.
        allowed: String,
    },
    /// Ends of lines as nobody writes them any more.
    #[error("lines end with CR alone; LF and CR LF are read")]
    LineEnds,
    /// Twice the same.
    #[error("column `{0}` stands twice in the header")]
    Twice(String),
    /// Not there.
    #[error("column `{0}` is missing from the header")]
    Missing(&'static str),
    /// A column of a type that holds no field.
    #[error("column `{name}` has type {found}; text and binary are read")]
    ColumnType {
        /// The column.
        name: String,
        /// Its type.
        found: String,
    },
    /// Not an Arrow stream.
    #[error("the Arrow stream cannot be read: {0}")]
    Arrow(String),
    /// A part that cannot be read in bounded memory.
    #[error("one part of the stream has more than {0} bytes")]
    TooLarge(usize),
}

/// Where records go as they are read.
pub trait RecordSink {
    /// Why it takes no more.
    type Error;

    /// Takes a record: its id, its fields or what is wrong with them, and its number as an editor shows it.
    ///
    /// # Errors
    /// If it takes no more; reading then ends.
    fn record(&mut self, id: &[u8], fields: Result<&FieldSet, LineFault>, number: u64) -> Result<(), Self::Error>;
}

/// Why reading ended before the file did.
#[derive(Debug)]
pub enum ReadError<E> {
    /// The file.
    Format(FormatError),
    /// The sink.
    Sink(E),
}

/// A reader of one of the formats.
pub enum Reader {
    /// RFC 4180.
    Csv(CsvReader),
    /// Fixed places.
    Layout(LayoutReader),
    /// Arrow IPC, the streaming format.
    Arrow(ArrowReader),
}

impl Reader {
    /// Takes the beginning of the file, piece by piece, until what the file says of itself is known; says
    /// whether it is.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn open(&mut self, piece: &[u8]) -> Result<bool, FormatError> {
        match self {
            Self::Csv(reader) => reader.open(piece),
            Self::Layout(reader) => Ok(reader.open(piece)),
            Self::Arrow(reader) => reader.open(piece),
        }
    }

    /// The file ended while [`open`](Self::open) was waiting for more.
    ///
    /// # Errors
    /// [`FormatError`], if what has come is no whole file.
    pub fn open_at_end(&mut self) -> Result<(), FormatError> {
        match self {
            Self::Csv(reader) => reader.open_at_end(),
            Self::Layout(_) => Ok(()),
            Self::Arrow(_) => Err(FormatError::Empty),
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn feed<S: RecordSink>(&mut self, piece: &[u8], sink: &mut S) -> Result<(), ReadError<S::Error>> {
        match self {
            Self::Csv(reader) => reader.feed(piece, sink).map_err(ReadError::Sink),
            Self::Layout(reader) => reader.feed(piece, sink).map_err(ReadError::Sink),
            Self::Arrow(reader) => reader.feed(piece, sink),
        }
    }

    /// The file has ended.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn end<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), ReadError<S::Error>> {
        match self {
            Self::Csv(reader) => reader.end(sink).map_err(ReadError::Sink),
            Self::Layout(reader) => reader.end(sink).map_err(ReadError::Sink),
            Self::Arrow(reader) => reader.end(sink),
        }
    }
}

impl Columns {
    /// Those of clearing records: all must be there.
    pub fn of_records() -> Self {
        Self { id: "record_id", allowed: Field::OF_RECORDS.to_vec(), required: Field::OF_RECORDS.to_vec() }
    }

    /// Those of cards: what the scheme's factors are made of must be there.
    pub fn of_cards(scheme: &CardScheme) -> Self {
        let allowed = vec![Field::CityCode, Field::IssuerId, Field::Asn];
        Self { id: "card_id", allowed, required: scheme.factor_fields() }
    }

    /// Finds the column of the record id, and the field of each other.
    fn match_names<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<(usize, Vec<Option<Field>>), FormatError> {
        let mut record_id = None;
        let mut columns = Vec::new();
        for (at, name) in names.enumerate() {
            let field = match Field::named(name).filter(|field| self.allowed.contains(field)) {
                None if name == self.id => None,
                None => return Err(self.unknown(name)),
                field => field,
            };
            let twice = if field.is_none() { record_id.replace(at).is_some() } else { columns.contains(&field) };
            if twice {
                return Err(FormatError::Twice(name.to_owned()));
            }
            columns.push(field);
        }
        if let Some(field) = self.required.iter().find(|field| !columns.contains(&Some(**field))) {
            return Err(FormatError::Missing(field.as_str()));
        }
        Ok((record_id.ok_or(FormatError::Missing(self.id))?, columns))
    }

    fn unknown(&self, name: &str) -> FormatError {
        let allowed: Vec<&str> =
            std::iter::once(self.id).chain(self.allowed.iter().map(|field| field.as_str())).collect();
        FormatError::Unknown { name: name.chars().take(40).collect(), allowed: allowed.join(", ") }
    }
}

/// Whether bytes may stand as a record id: UTF-8 without control characters, 1 to 64 bytes.
fn is_record_id(cell: &[u8]) -> bool {
    if !(1..=LONGEST_ID).contains(&cell.len()) {
        return false;
    }
    // Most are plain; only others are worth a closer look.
    is_graphic(cell)
        || std::str::from_utf8(cell).is_ok_and(|text| !text.chars().any(char::is_control) && !text.trim().is_empty())
}
