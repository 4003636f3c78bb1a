//! Names of keys. What is not canonical is refused, not repaired.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not `[a-z0-9]` with single inner hyphens, at most 40.
    #[error("{part} `{word}` must be lower-case letters, digits and inner hyphens, at most 40 of them")]
    Lower {
        /// `tenant` or `scheme`.
        part: &'static str,
        /// What was given, shortened.
        word: String,
    },
    /// Not `[A-Z][A-Z0-9_]*`, at most 24.
    #[error(
        "role `{word}` must start with an upper-case letter and hold upper-case letters, digits and `_` only, at most 24"
    )]
    Role {
        /// What was given, shortened.
        word: String,
    },
    /// Not two upper-case hexadecimal digits.
    #[error("version `{word}` must be two upper-case hexadecimal digits")]
    Version {
        /// What was given, shortened.
        word: String,
    },
}

/// Tenant, scheme and role: whose key, of which card scheme, for what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyName {
    tenant: String,
    scheme: String,
    role: String,
}

impl KeyName {
    /// # Errors
    /// [`NameError`] for the first part that is not canonical.
    pub fn new(tenant: &str, scheme: &str, role: &str) -> Result<Self, NameError> {
        let good_role = role.starts_with(|c: char| c.is_ascii_uppercase())
            && role.len() <= 24
            && role.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
        if !good_role {
            return Err(NameError::Role { word: shortened(role) });
        }
        Ok(Self { tenant: lower("tenant", tenant)?, scheme: lower("scheme", scheme)?, role: role.to_owned() })
    }

    /// Whether there may be keys of a tenant of that name.
    ///
    /// # Errors
    /// [`NameError::Lower`].
    pub fn check_tenant(tenant: &str) -> Result<(), NameError> {
        lower("tenant", tenant).map(drop)
    }

    /// A city or operator.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// A card scheme's id.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What the scheme calls the key.
    pub fn role(&self) -> &str {
        &self.role
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.scheme, self.role)
    }
}

/// One byte, written as the card records write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyVersion(pub u8);

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02X}", self.0)
    }
}

impl FromStr for KeyVersion {
    type Err = NameError;
    fn from_str(word: &str) -> Result<Self, NameError> {
        let canonical = word.len() == 2 && word.bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c));
        let value = if canonical { u8::from_str_radix(word, 16).ok() } else { None };
        value.map(Self).ok_or_else(|| NameError::Version { word: shortened(word) })
    }
}

impl TryFrom<String> for KeyVersion {
    type Error = NameError;
    fn try_from(word: String) -> Result<Self, NameError> {
        word.parse()
    }
}

impl From<KeyVersion> for String {
    fn from(version: KeyVersion) -> Self {
        version.to_string()
    }
}

fn lower(part: &'static str, word: &str) -> Result<String, NameError> {
    let good = !word.is_empty()
        && word.len() <= 40
        && word.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && !word.starts_with('-')
        && !word.ends_with('-')
        && !word.contains("--");
    if good { Ok(word.to_owned()) } else { Err(NameError::Lower { part, word: shortened(word) }) }
}

fn shortened(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_pass() {
        assert!(KeyName::new("city-1150", "cjt166", "DTK").is_ok());
        for (tenant, scheme, role) in [
            ("", "cjt166", "DTK"),
            ("City", "cjt166", "DTK"),
            ("a--b", "cjt166", "DTK"),
            ("../a", "cjt166", "DTK"),
            ("a", "cjt166 ", "DTK"),
            ("a", "cjt166", "dtk"),
            ("a", "cjt166", "DTK/01"),
        ] {
            assert!(KeyName::new(tenant, scheme, role).is_err(), "{tenant}/{scheme}/{role}");
        }
    }

    #[test]
    fn versions_have_one_spelling() {
        assert_eq!("0A".parse::<KeyVersion>().unwrap().to_string(), "0A");
        for word in ["a0", "1", "001", "+1", "0g"] {
            assert!(word.parse::<KeyVersion>().is_err(), "{word}");
        }
    }
}
