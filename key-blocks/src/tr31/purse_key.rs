//! Claviger's own optional block.

use crate::error::{Field, KeyBlockError};

/// Which purse key a block holds. X9.143 has no usages for the roles of a purse, so such keys have a proprietary usage,
/// and this says what it means: a load key does not become a purchase key on its way.
///
/// It is optional block `91`, of the range that X9.143 leaves to proprietary use, with the data
/// `CLAVIGER/1/SCHEME/ROLE/LEVEL`, as in `CLAVIGER/1/cjt166/DTK/1`. The block stands in the header, so it is authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurseKey {
    scheme: String,
    role: String,
    level: u8,
}

const MARK: &str = "CLAVIGER/1/";
const WRONG: KeyBlockError = KeyBlockError::new(
    Field::PurseKey,
    "is a scheme (lower-case letters, digits, inner hyphens), a role (upper-case letters, digits, `_`) and a level",
);

impl PurseKey {
    /// The id of the optional block.
    pub const ID: &str = "91";

    /// `scheme` and `role` as in the name of a key, at most 40 and 24 characters; `level` is how many dispersion steps are
    /// already in the key, 0 at the root.
    ///
    /// # Errors
    /// `purse key`, for words that no scheme or role has.
    pub fn new(scheme: &str, role: &str, level: u8) -> Result<Self, KeyBlockError> {
        let lower = |word: &str| !word.is_empty() && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let good_scheme = scheme.len() <= 40 && scheme.split('-').all(lower);
        let good_role = role.starts_with(|c: char| c.is_ascii_uppercase())
            && role.len() <= 24
            && role.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
        if good_scheme && good_role {
            Ok(Self { scheme: scheme.to_owned(), role: role.to_owned(), level })
        } else {
            Err(WRONG)
        }
    }

    /// The card scheme.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The key role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// How many dispersion steps are already in the key.
    pub fn level(&self) -> u8 {
        self.level
    }

    pub(super) fn data(&self) -> String {
        format!("{MARK}{}/{}/{}", self.scheme, self.role, self.level)
    }

    /// None if the block is somebody else's: others may use the same number.
    pub(super) fn parse(data: &str) -> Option<Result<Self, KeyBlockError>> {
        let mut words = data.strip_prefix(MARK)?.split('/');
        let (Some(scheme), Some(role), Some(level), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Some(Err(WRONG));
        };
        let read = level.parse().map_err(|_| WRONG).and_then(|level| Self::new(scheme, role, level));
        // What is not canonical is refused: there is one way to write each.
        Some(read.and_then(|read| if read.data() == data { Ok(read) } else { Err(WRONG) }))
    }
}
