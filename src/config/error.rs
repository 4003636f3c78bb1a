//! What is wrong with a configuration, and where; never a secret that was put in the wrong place.

use std::path::{Path, PathBuf};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not TOML, or not what a configuration holds.
    #[error("{path}: {}{help}", shown(error, *line, *secret))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: Option<usize>,
        /// With line and key.
        error: Box<toml::de::Error>,
        /// Whether a PIN or a passphrase may stand in that line: then it is not shown.
        secret: bool,
        /// What belongs there, if more is known.
        help: String,
    },
    /// The audit log is to be signed by a backend that is not there.
    #[error("{path}: `signed_by` of [audit]: there is no [[backend]] with the name `{name}`")]
    NoSuchBackend {
        /// The file.
        path: PathBuf,
        /// As it was written.
        name: String,
    },
}

/// An error that shows the line.
pub(super) fn syntax(text: &str, path: &Path) -> impl Fn(toml::de::Error) -> ConfigError {
    move |mut error| {
        error.set_input(Some(text));
        let line = error.span().and_then(|span| Some(text.get(..span.start)?.matches('\n').count() + 1));
        let words = line.and_then(|line| text.lines().nth(line - 1)).unwrap_or_default().to_ascii_lowercase();
        let secret = line.is_some_and(|line| is_in_seal(text, line)) || SECRETS.iter().any(|word| words.contains(word));
        ConfigError::Syntax { path: path.to_owned(), line, error: Box::new(error), secret, help: String::new() }
    }
}

/// Words beside which something may stand that is nobody's to read.
const SECRETS: [&str; 4] = ["pin", "passphrase", "password", "secret"];

/// What is wrong with a credential's name, and says nothing of what it is.
pub(super) const CREDENTIAL: &str = "a credential's name has no `/` and does not begin with `.`";

/// Whether a line is of the table in which any may hold the storage key.
fn is_in_seal(text: &str, line: usize) -> bool {
    let bare = |line: &str| line.replace([' ', '\t'], "");
    let mut lines: Vec<String> = text.lines().take(line).map(bare).collect();
    let own = lines.pop().unwrap_or_default();
    let table = lines.iter().rev().find(|line| line.starts_with('['));
    own.starts_with("seal=") || own.starts_with("seal.") || table.is_some_and(|table| table.starts_with("[seal]"))
}

/// The error with its line; of one that may hold a secret, only what is wrong with a name in it.
fn shown(error: &toml::de::Error, line: Option<usize>, secret: bool) -> String {
    match line.filter(|_| secret) {
        Some(line) => {
            let message = error.message();
            let of_a_name = message.starts_with("unknown field ") || message.starts_with("missing field ");
            let what = match message.split_once(", expected ") {
                _ if of_a_name || message == CREDENTIAL => message.to_owned(),
                // What stands there instead may be the PIN.
                Some((_, expected)) => format!("expected {expected}"),
                None => "it is of the wrong kind".to_owned(),
            };
            format!("line {line}, which is not shown since a PIN, a passphrase or a key may stand in it: {what}")
        }
        None => error.to_string(),
    }
}

impl ConfigError {
    /// Where it is, without the words that stand there: one may be a PIN that was put in the wrong place.
    pub fn place(&self) -> String {
        match self {
            Self::Syntax { path, line: Some(line), .. } => format!("{}: line {line} is wrong", path.display()),
            Self::Syntax { path, .. } => format!("{} is wrong", path.display()),
            Self::Read { .. } | Self::NoSuchBackend { .. } => self.to_string(),
        }
    }
}
