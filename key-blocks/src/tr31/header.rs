//! The header of a key block: 16 characters and optional blocks.

use crate::error::{Field, KeyBlockError};
use crate::tr31::fields::{Exportability, KeyAlgorithm, KeyContext, KeyVersion, ModeOfUse};
use crate::tr31::optional::{OptionalBlock, PADDING};
use crate::tr31::purse_key::PurseKey;
use crate::tr31::usage::Usage;
use crate::tr31::version::{Form, Version};

/// Characters before the optional blocks.
const FIXED: usize = 16;

/// What a block says of its key, and authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// What the key is for.
    pub usage: Usage,
    /// What it is of.
    pub algorithm: KeyAlgorithm,
    /// What it may do.
    pub mode: ModeOfUse,
    /// Its version, or that it is a component.
    pub key_version: KeyVersion,
    /// Whether it may leave again.
    pub exportability: Exportability,
    /// What the block is for.
    pub context: KeyContext,
    /// In their order, no id twice, the padding block last if it is there. Writing adds or renews the padding block where
    /// the others are not whole blocks of the KBPK's cipher.
    pub optional_blocks: Vec<OptionalBlock>,
}

impl Header {
    /// The optional block with that id.
    pub fn optional_block(&self, id: &str) -> Option<&OptionalBlock> {
        self.optional_blocks.iter().find(|block| block.id() == id)
    }

    /// Which purse key it is, if Claviger wrote that down.
    pub fn purse_key(&self) -> Option<&PurseKey> {
        self.optional_blocks.iter().find_map(OptionalBlock::purse_key)
    }

    /// Whether it says which key it is: by one of the standard's usages, or by scheme, role and level. Keys for deriving others
    /// and proprietary usages say nothing alone.
    pub fn says_what_it_is(&self) -> bool {
        self.purse_key().is_some() || !matches!(self.usage, Usage::Proprietary(_) | Usage::KeyDerivation)
    }

    /// The header at the start of a whole block, its version and its characters.
    pub(super) fn parse(block: &str, form: Form) -> Result<(Version, Self, usize), KeyBlockError> {
        let Some(fixed) = block.as_bytes().first_chunk::<FIXED>() else {
            return Err(KeyBlockError::new(Field::Length, "is less than a header's"));
        };
        let [version, l1, l2, l3, l4, u1, u2, algorithm, mode, v1, v2, exportability, n1, n2, c1, c2] = *fixed;
        let version = Version::parse(version)?;
        form.cipher(version)?;
        if decimal(&[l1, l2, l3, l4]) != Some(block.len()) {
            return Err(KeyBlockError::new(Field::Length, "is not four digits with the block's length"));
        }
        let mut header = Self {
            usage: Usage::parse([u1, u2])?,
            algorithm: KeyAlgorithm::parse(algorithm, form.is_sm4_local())?,
            mode: ModeOfUse::parse(mode)?,
            key_version: KeyVersion::parse([v1, v2])?,
            exportability: Exportability::parse(exportability)?,
            context: KeyContext::parse([c1, c2])?,
            optional_blocks: Vec::new(),
        };
        let no_count = KeyBlockError::new(Field::OptionalBlocks, "are not counted in two digits");
        let count = decimal(&[n1, n2]).ok_or(no_count)?;
        let mut at = FIXED;
        for number in 1..=count {
            let rest = block.get(at..).unwrap_or_default();
            let (read, len) = OptionalBlock::parse(rest, form.extended_length(), number)?;
            header.optional_blocks.push(read);
            at += len;
        }
        // ISO 20038 does not say that they are padded.
        if version != Version::E && !(at - FIXED).is_multiple_of(version.block_len()) {
            return Err(KeyBlockError::new(Field::OptionalBlocks, "are not whole blocks of the cipher together"));
        }
        header.check_optional_blocks()?;
        Ok((version, header, at))
    }

    /// The header of a block with so many characters of payload and MAC.
    pub(super) fn text(&self, version: Version, form: Form, after: usize) -> Result<String, KeyBlockError> {
        let blocks = self.padded_blocks(version, form)?;
        let texts: Result<String, _> = blocks.iter().map(|block| block.text(form.extended_length())).collect();
        let texts = texts?;
        if blocks.len() > 99 {
            return Err(KeyBlockError::new(Field::OptionalBlocks, "are more than 99"));
        }
        let length = FIXED + texts.len() + after;
        if length > 9999 {
            return Err(KeyBlockError::new(Field::Length, "is more than four digits can say"));
        }
        Ok(format!(
            "{}{length:04}{}{}{}{}{}{:02}{}{texts}",
            version.letter(),
            // A number above 99 that was put into the variant by hand is refused here.
            match self.usage {
                Usage::Proprietary(number) => Usage::proprietary(number)?.code(),
                known => known.code(),
            },
            self.algorithm.letter(form.is_sm4_local())?,
            self.mode.letter()?,
            self.key_version.text()?,
            self.exportability.letter()?,
            blocks.len(),
            self.context.text(),
        ))
    }

    /// X9.143:2021 6.3.6, and Claviger's own rule.
    fn check_optional_blocks(&self) -> Result<(), KeyBlockError> {
        for (at, block) in self.optional_blocks.iter().enumerate() {
            let refused = |reason| Err(KeyBlockError::new(Field::OptionalBlock(at + 1), reason));
            if self.optional_blocks.iter().take(at).any(|before| before.id() == block.id()) {
                return refused("has the id of another");
            }
            if block.id() == PADDING && at + 1 != self.optional_blocks.len() {
                return refused("is padding, which stands last");
            }
            if block.purse_key().is_some() && !matches!(self.usage, Usage::Proprietary(_)) {
                return refused("names a purse key, whose usage is proprietary");
            }
        }
        Ok(())
    }

    /// The optional blocks, filled up to whole blocks of the cipher.
    fn padded_blocks(&self, version: Version, form: Form) -> Result<Vec<OptionalBlock>, KeyBlockError> {
        self.check_optional_blocks()?;
        let unit = version.block_len();
        let len = |blocks: &[OptionalBlock]| -> Result<usize, KeyBlockError> {
            blocks.iter().map(|block| Ok(block.text(form.extended_length())?.len())).sum()
        };
        let mut blocks = self.optional_blocks.clone();
        if len(&blocks)?.is_multiple_of(unit) {
            return Ok(blocks);
        }
        blocks.retain(|block| block.id() != PADDING);
        let bare = len(&blocks)?;
        if !bare.is_multiple_of(unit) {
            // Id and length are four characters themselves. What fills the rest has no meaning; zeros are legible.
            let fill = (bare + 4).next_multiple_of(unit) - (bare + 4);
            blocks.push(OptionalBlock::new(PADDING, &"0".repeat(fill))?);
        }
        Ok(blocks)
    }
}

fn decimal(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + usize::from(digit - b'0')))
}
