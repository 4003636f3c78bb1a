//! An operation in words: what a person reads before they approve it is what they sign.

use std::fmt::{self, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One operation, asked for by one person, to be done once by one daemon before it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// 16 random bytes, hexadecimal: no two statements are one.
    pub id: String,
    /// The daemon that would do it, by the id that its store was made with.
    pub daemon: String,
    /// Who asked for it.
    pub proposer: String,
    /// Whose keys it is about.
    pub tenant: String,
    /// What would be done, as the policy schema names it.
    pub action: String,
    /// To what and how, a line each: name and value.
    pub lines: Vec<(String, String)>,
    /// Others who must approve it.
    pub approvals: u64,
    /// After which nobody may do it any more.
    pub expires: Timestamp,
}

/// What somebody says to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vote {
    /// It may be done.
    Approve,
    /// It may not be done, whoever has approved it.
    Refuse,
}

impl Vote {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Refuse => "refuse",
        }
    }
}

impl Statement {
    /// The words, a line each.
    pub fn text(&self) -> String {
        let mut text = String::from("claviger operation, version 1\n");
        let expires = self.expires.to_string();
        let needed = self.approvals.to_string();
        let head: [(&str, &str); 5] = [
            ("id", &self.id),
            ("daemon", &self.daemon),
            ("proposer", &self.proposer),
            ("tenant", &self.tenant),
            ("action", &self.action),
        ];
        let own = self.lines.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in head.into_iter().chain(own).chain([("approvals", needed.as_str()), ("expires", &expires)])
        {
            // A value ends with its line: what would end it earlier is written out.
            let _ = writeln!(text, "{name}: {}", OneLine(value));
        }
        text
    }

    /// What is signed to say this to it.
    pub fn signed_text(&self, vote: Vote) -> String {
        format!("{}\n{}", vote.as_str(), self.text())
    }

    /// By which two people make sure that they read the same.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(Sha256::digest(self.text()).into())
    }
}

/// SHA-256 of a text, written to be read aloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, pair) in self.0.chunks(2).enumerate() {
            let gap = if number == 0 { "" } else { " " };
            write!(f, "{gap}{}", hex::encode_upper(pair))?;
        }
        Ok(())
    }
}

struct OneLine<'t>(&'t str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') =>
            {
                write!(f, "{}", c.escape_unicode())
            }
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            id: "00112233445566778899aabbccddeeff".to_owned(),
            daemon: "ffeeddccbbaa99887766554433221100".to_owned(),
            proposer: "claviger://officer/li".to_owned(),
            tenant: "shenzhen".to_owned(),
            action: "adopt_key".to_owned(),
            lines: vec![("object".to_owned(), "主密钥".to_owned())],
            approvals: 2,
            expires: "2026-11-28T10:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_words_say_everything() {
        assert_eq!(
            statement().text(),
            "claviger operation, version 1\nid: 00112233445566778899aabbccddeeff\n\
             daemon: ffeeddccbbaa99887766554433221100\nproposer: claviger://officer/li\ntenant: shenzhen\n\
             action: adopt_key\nobject: 主密钥\napprovals: 2\nexpires: 2026-11-28T10:00:00Z\n"
        );
        assert!(statement().fingerprint().to_string().len() == 16 * 4 + 15);
    }

    #[test]
    fn no_value_passes_for_another_line() {
        let with = |value: &str| {
            let mut other = statement();
            other.lines[0].1 = value.to_owned();
            other.text()
        };
        let lines = statement().text().lines().count();
        for value in ["a\nexpires: 2099-01-01T00:00:00Z", "a\r\nb", "a\u{2028}b", "a\u{202E}b"] {
            assert_eq!(with(value).lines().count(), lines, "{value:?}");
            assert!(!with(value).contains(value), "{value:?}");
        }
        assert_ne!(with("\\u{a}"), with("\n"));
        assert_ne!(statement().signed_text(Vote::Approve), statement().signed_text(Vote::Refuse));
    }
}
