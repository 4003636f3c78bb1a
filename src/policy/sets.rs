//! Policy sets: those that come with Claviger, or a directory.

use std::path::PathBuf;

use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};

/// Where policies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// Shipped, for production: duties are separate and a key is imported by a ceremony.
    Production,
    /// Shipped, for development: production and what one person alone needs.
    Dev,
    /// Every `*.cedar` file of a directory.
    Directory(PathBuf),
    /// Every `*.cedar` file of several.
    Directories(Vec<PathBuf>),
    /// Texts at hand, each with its name.
    Texts(Vec<(String, String)>),
}

/// Policies that are not used, and why.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file cannot be read.
    #[error("cannot read policies from {path}: {error}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not Cedar.
    #[error("{file}: {error}")]
    Syntax {
        /// The file.
        file: String,
        /// The parser's words.
        error: String,
    },
    /// Cedar, but not of the schema.
    #[error("policies do not fit the schema: {0}")]
    Schema(String),
}

/// The published schema.
pub(super) const SCHEMA: &str = include_str!("../../policies/claviger.cedarschema");

macro_rules! policies {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../policies/", $name, ".cedar")))),*] };
}

const PRODUCTION: &[(&str, &str)] = policies![
    "production/card-management",
    "production/ceremonies",
    "production/clearing",
    "production/compromised",
    "production/generic-keys",
    "production/officers",
    "production/readers",
    "production/tenants",
    "production/terminals",
];
const DEV: &[(&str, &str)] = policies!["dev/single-officer"];

/// Shipped cases, each file with its name: what the shipped sets decide.
pub const CASES: &[(&str, &str)] = &[
    ("tests/administration.toml", include_str!("../../policies/tests/administration.toml")),
    ("tests/cards.toml", include_str!("../../policies/tests/cards.toml")),
    ("tests/clearing.toml", include_str!("../../policies/tests/clearing.toml")),
];

impl PolicySource {
    /// Its policies, each file with its name.
    ///
    /// # Errors
    /// [`PolicyError::Read`].
    pub fn texts(&self) -> Result<Vec<(String, String)>, PolicyError> {
        Ok(match self {
            Self::Production => owned(PRODUCTION).collect(),
            Self::Dev => owned(PRODUCTION).chain(owned(DEV)).collect(),
            Self::Directory(path) => read_directory(path)?,
            Self::Directories(paths) => paths.iter().map(read_directory).collect::<Result<Vec<_>, _>>()?.concat(),
            Self::Texts(texts) => texts.clone(),
        })
    }
}

pub(super) fn load(source: &PolicySource) -> Result<(PolicySet, Schema), PolicyError> {
    let texts = source.texts()?;
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| PolicyError::Schema(error.to_string()))?;
    let mut policies = PolicySet::new();
    for (file, text) in &texts {
        let syntax = |error: String| PolicyError::Syntax { file: file.clone(), error };
        let parsed: PolicySet = text.parse().map_err(|error: cedar_policy::ParseErrors| syntax(error.to_string()))?;
        for policy in parsed.policies() {
            // The name that a refusal gives is the policy's own, so it must be there and unique.
            let name =
                policy.annotation("id").ok_or_else(|| syntax("every policy needs an @id annotation".to_owned()))?;
            policies.add(policy.new_id(PolicyId::new(name))).map_err(|error| syntax(error.to_string()))?;
        }
    }
    let result = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    if let Some(error) = result.validation_errors().next() {
        return Err(PolicyError::Schema(error.to_string()));
    }
    Ok((policies, schema))
}

fn owned(texts: &'static [(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    texts.iter().map(|(name, text)| (format!("{name}.cedar"), (*text).to_owned()))
}

fn read_directory(path: &PathBuf) -> Result<Vec<(String, String)>, PolicyError> {
    let failed = |error| PolicyError::Read { path: path.clone(), error };
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(path).map_err(failed)?.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cedar"));
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text =
                std::fs::read_to_string(&file).map_err(|error| PolicyError::Read { path: file.clone(), error })?;
            Ok((file.display().to_string(), text))
        })
        .collect()
}
