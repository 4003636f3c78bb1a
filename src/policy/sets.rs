//! Policy sets: those that come with Claviger, or a directory.

use std::path::{Path, PathBuf};

use cedar_policy::{PolicyId, PolicySet, Schema, ValidationMode, Validator};
use miette::Diagnostic;
use sha2::{Digest, Sha256};

use super::{DEFAULT, vocabulary};
use crate::audit::InForce;

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
    /// Texts at hand.
    Texts {
        /// What the set is called.
        name: String,
        /// Each with its file's name.
        texts: Vec<(String, String)>,
    },
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
    /// A policy that a refusal could not name, or that says nothing to whoever is refused.
    #[error("{file}: {policy} has no @{annotation}")]
    Bare {
        /// The file.
        file: String,
        /// Its id, or its place in the file.
        policy: String,
        /// What it lacks.
        annotation: &'static str,
    },
    /// Nobody may do anything by it.
    #[error("there is no policy in {0}")]
    Empty(String),
    /// Cedar, but not of the schema.
    #[error("policies do not fit the schema: {0}")]
    Schema(String),
}

/// Bytes of a policy's name.
const LONGEST_NAME: usize = 80;

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
    /// What it is called: `production`, `dev`, or its directory.
    pub fn name(&self) -> String {
        match self {
            Self::Production => "production".to_owned(),
            Self::Dev => "dev".to_owned(),
            Self::Directory(path) => path.display().to_string(),
            Self::Directories(paths) => {
                paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and ")
            }
            Self::Texts { name, .. } => name.clone(),
        }
    }

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
            Self::Texts { texts, .. } => texts.clone(),
        })
    }
}

/// The digest of a set by its files: what `sha256sum *.cedar | sha256sum` says where they are, if names are sorted byte by byte.
pub fn digest(texts: &[(String, String)]) -> String {
    let name = |file: &str| Path::new(file).file_name().map(|name| name.to_string_lossy().into_owned());
    let mut files: Vec<(String, &str)> =
        texts.iter().map(|(file, text)| (name(file).unwrap_or_default(), text.as_str())).collect();
    files.sort();
    let lines = files.iter().map(|(name, text)| format!("{}  {name}\n", hex::encode(Sha256::digest(text))));
    hex::encode(Sha256::digest(lines.collect::<String>()))
}

/// A set that fits the schema.
pub(super) struct Loaded {
    pub(super) policies: PolicySet,
    pub(super) schema: Schema,
    pub(super) in_force: InForce,
    pub(super) texts: Vec<(String, String)>,
}

pub(super) fn load(source: &PolicySource) -> Result<Loaded, PolicyError> {
    let texts = source.texts()?;
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| PolicyError::Schema(error.to_string()))?;
    let mut policies = PolicySet::new();
    for (file, text) in &texts {
        let syntax = |error: String| PolicyError::Syntax { file: file.clone(), error };
        let parsed: PolicySet = text.parse().map_err(|errors| syntax(first_of(&errors, text)))?;
        // Nobody fills one in, and a rule that is taken for one in force would be none.
        if let Some(template) = parsed.templates().next() {
            return Err(syntax(format!("{} is a template, and no policy", place(template.id()))));
        }
        for policy in parsed.policies() {
            let bare = |policy: String, annotation| PolicyError::Bare { file: file.clone(), policy, annotation };
            let said = |annotation| policy.annotation(annotation).filter(|text| !text.trim().is_empty());
            // The name that a refusal gives is the policy's own, so it must be there and unique.
            let name = said("id").ok_or_else(|| bare(place(policy.id()), "id"))?;
            // It stands in words that people sign, and on their screens.
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            if name.len() > LONGEST_NAME || !name.chars().all(plain) {
                let named = place(policy.id());
                return Err(syntax(format!(
                    "the @id of {named} is not up to {LONGEST_NAME} bytes of letters, digits, `.-_`"
                )));
            }
            if name == DEFAULT {
                return Err(syntax(format!("the @id `{DEFAULT}` is what refusals name that no policy made")));
            }
            said("reason").ok_or_else(|| bare(format!("policy `{name}`"), "reason"))?;
            vocabulary::check(policy).map_err(|error| syntax(format!("policy `{name}`: {error}")))?;
            policies.add(policy.new_id(PolicyId::new(name))).map_err(|error| syntax(error.to_string()))?;
        }
    }
    if policies.is_empty() {
        return Err(PolicyError::Empty(source.name()));
    }
    let result = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
    if let Some(error) = result.validation_errors().next() {
        return Err(PolicyError::Schema(error.to_string()));
    }
    let in_force = InForce { name: source.name(), sha256: digest(&texts) };
    Ok(Loaded { policies, schema, in_force, texts })
}

/// The first thing that is wrong with a text, and in which line, if Cedar says where.
fn first_of(errors: &cedar_policy::ParseErrors, text: &str) -> String {
    let labels = errors.iter().find_map(Diagnostic::labels).into_iter().flatten();
    let before = labels.filter_map(|label| text.get(..label.offset())).next();
    let line = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    format!("{}{errors}", line.unwrap_or_default())
}

/// Which policy of its file it is, counted from one: Cedar calls them `policy0` and so on.
fn place(id: &PolicyId) -> String {
    let text = id.to_string();
    let number = text.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok());
    number.map_or(text, |number| format!("policy {} of it", number + 1))
}

fn owned(texts: &'static [(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    texts.iter().map(|(name, text)| (format!("{name}.cedar"), (*text).to_owned()))
}

fn read_directory(path: &PathBuf) -> Result<Vec<(String, String)>, PolicyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| PolicyError::Read { path, error }
    };
    let entries = std::fs::read_dir(path).map_err(failed(path))?;
    let files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>();
    let mut files = files.map_err(failed(path))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "cedar"));
    files.sort();
    let read = |file: PathBuf| {
        // A pipe might never be read to its end; and what was meant as a policy is not passed over.
        if !std::fs::metadata(&file).map_err(failed(&file))?.is_file() {
            return Err(failed(&file)(std::io::Error::other("it is no plain file")));
        }
        let text = std::fs::read_to_string(&file).map_err(failed(&file))?;
        Ok((file.display().to_string(), text))
    };
    files.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_policy_is_told_by_its_line() {
        let load = |text: &str| {
            let texts = vec![("own.cedar".to_owned(), text.to_owned())];
            load(&PolicySource::Texts { name: "own".to_owned(), texts }).err().unwrap().to_string()
        };
        let good = "@id(\"a\")\n@reason(\"b\")\n";
        for (text, line) in [
            ("permit (principal, action, resource)\nwhen { context.batch = \"one\" };", 4),
            ("permit (principal, action, resource)\nwhen { principal in };", 4),
            ("\npermit (wer, action, resource);", 4),
            ("permit (principal, action, resource)", 3),
            ("permit (principal, action, resource) when { \"市\" == 1 && };", 3),
        ] {
            let error = load(&format!("{good}{text}"));
            assert!(error.starts_with(&format!("own.cedar: line {line}: ")), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_called_a_policy_and_cannot_be_read_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let texts = || PolicySource::Directory(folder.path().to_owned()).texts();
        std::fs::write(at("a.cedar"), "").unwrap();
        std::fs::create_dir(at("tests")).unwrap();
        assert_eq!(texts().unwrap().len(), 1);
        std::fs::create_dir(at("b.cedar")).unwrap();
        assert!(texts().unwrap_err().to_string().ends_with("b.cedar: it is no plain file"));
        std::fs::remove_dir(at("b.cedar")).unwrap();
        std::os::unix::fs::symlink(at("nowhere"), at("c.cedar")).unwrap();
        assert!(texts().unwrap_err().to_string().contains("c.cedar: "));
    }
}
