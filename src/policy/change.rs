//! One policy set in the place of another: who may have that done, and what it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::PolicyId;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Authorizer, Circumstances, Kind, PolicyError, PolicySource, Principal, Resource, digest};
use crate::audit::InForce;

/// What is asked of a set before another takes its place.
pub const CHANGE: &str = "change_policies";
/// More than so many others are never asked for.
const MOST_APPROVALS: u64 = 9;
/// What the key of the tags is derived by.
const CONTEXT: &[u8] = b"claviger policies 1";

/// A set that is in force until others have agreed to another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    name: String,
    /// Of a shipped set none: it is the program's.
    texts: Vec<(String, String)>,
    /// Counts the sets that the store has had, from one: an older one is not taken for this one.
    number: u64,
    /// HMAC-SHA-256 over all this under a key of the storage master key, hexadecimal.
    tag: String,
}

impl Accepted {
    /// A set as it is kept, with a tag by the storage master key.
    pub fn of(policy: &Authorizer, number: u64, storage_key: &[u8]) -> Self {
        let name = policy.in_force().name.clone();
        let texts = if shipped(&name).is_some() { Vec::new() } else { policy.texts().to_vec() };
        let tag = tag(&name, &texts, number, storage_key);
        Self { name, texts, number, tag }
    }

    /// Whether nobody has changed it where it is kept.
    pub fn is_authentic(&self, storage_key: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        let wanted = tag(&self.name, &self.texts, self.number, storage_key);
        bool::from(wanted.as_bytes().ct_eq(self.tag.as_bytes()))
    }

    /// Whether it is the set that somebody else calls so. A shipped one is known by its name alone.
    pub fn is(&self, set: &InForce) -> bool {
        self.name == set.name && (shipped(&self.name).is_some() || digest(&self.texts) == set.sha256)
    }

    /// Which of the store's sets it is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The set itself. One that this version of the schema does not know any more is replaced by the strictest: nothing is
    /// permitted that it would not have to be permitted anyway.
    ///
    /// # Errors
    /// [`PolicyError`] if even that cannot be had.
    pub fn load(self) -> Result<Authorizer, PolicyError> {
        let Self { name, texts, .. } = self;
        if let Some(source) = shipped(&name) {
            return Authorizer::load(&source);
        }
        Authorizer::load(&PolicySource::Texts { name, texts }).or_else(|error| {
            tracing::error!(%error, "the policies in force are none of this version: `production` takes their place");
            Authorizer::load(&PolicySource::Production)
        })
    }
}

/// A policy that another set would have otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// Its name.
    pub policy: String,
    /// Its text today, on one line; none if it is new.
    pub was: Option<String>,
    /// Its text then; none if it is gone.
    pub now: Option<String>,
}

impl PolicyChange {
    /// `added`, `changed` or `removed`.
    pub fn what(&self) -> &'static str {
        match (&self.was, &self.now) {
            (None, _) => "added",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "removed",
        }
    }
}

fn shipped(name: &str) -> Option<PolicySource> {
    match name {
        "production" => Some(PolicySource::Production),
        "dev" => Some(PolicySource::Dev),
        _ => None,
    }
}

/// HMAC takes keys of any length.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn tag(name: &str, texts: &[(String, String)], number: u64, storage_key: &[u8]) -> String {
    let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    let mut derive = mac(storage_key);
    derive.update(CONTEXT);
    let mut mac = mac(&derive.finalize().into_bytes());
    mac.update(&number.to_be_bytes());
    for part in std::iter::once(name).chain(texts.iter().flat_map(|(file, text)| [file.as_str(), text.as_str()])) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    hex::encode(mac.finalize().into_bytes())
}

impl Authorizer {
    /// Whether whoever runs the host may put another set in the place of this one, by nobody else's word.
    pub fn lets_the_host_change_it(&self) -> bool {
        Principal::host().is_some_and(|host| self.permits(&host, CHANGE, 0))
    }

    /// What keeps everybody out under this set for ever, if anything does: that nobody could have it changed again, or the daemon
    /// unsealed. Asked of the officers whom the configuration has, and of some of no name, who may be enrolled.
    pub fn locks_out(&self, principals: &[Arc<Principal>]) -> Option<&'static str> {
        let nameless = |number: u64| {
            let duties = ["officer", "custodian"].map(str::to_owned);
            Principal::from_uri(&format!("claviger://officer/any-{number}"), duties, []).ok().map(Arc::new)
        };
        let known = principals.iter().filter(|known| known.kind() == Kind::Officer).cloned();
        let officers: Vec<_> = known.chain((0..=MOST_APPROVALS).filter_map(nameless)).collect();
        let may = |who: &Arc<Principal>, action| self.permits(who, action, 0);
        let votes = |who: &&Arc<Principal>| may(who, "vote") && may(who, "show_proposal");
        let others_of = |who: &Arc<Principal>| {
            let others = officers.iter().filter(|other| *other != who).filter(votes).count() as u64;
            others.min(MOST_APPROVALS)
        };
        // By a passphrase that others have approved, or by shares.
        let unseals = |who: &Arc<Principal>| {
            let shares = Circumstances { approvals: 1, ceremony: true, ..Circumstances::default() };
            self.say(who, "unseal", &Resource::Daemon, &shares).allowed
                || (0..=others_of(who)).any(|approvals| self.permits(who, "unseal", approvals))
        };
        if !officers.iter().any(unseals) {
            return Some("nobody could ever unseal a daemon: no policy permits `unseal` to an officer or custodian");
        }
        if self.lets_the_host_change_it() {
            return None;
        }
        let could = |who: &Arc<Principal>| (0..=others_of(who)).any(|approvals| self.permits(who, CHANGE, approvals));
        (!officers.iter().any(could)).then_some(
            "nobody could ever change it again: no policy permits `change_policies` to the host, or to an officer with as many \
             approvals as there are others who may `show_proposal` and `vote`",
        )
    }

    fn permits(&self, who: &Arc<Principal>, action: &'static str, approvals: u64) -> bool {
        let circumstances = Circumstances { approvals, ..Circumstances::default() };
        self.say(who, action, &Resource::Daemon, &circumstances).allowed
    }

    /// What another set in its place would change, policy by policy.
    pub fn changes(&self, next: &Self) -> Vec<PolicyChange> {
        let (old, mut new) = (self.by_name(), next.by_name());
        let change = |name: &String, was: Option<&String>, now: Option<String>| PolicyChange {
            policy: name.clone(),
            was: was.cloned(),
            now,
        };
        let mut changes: Vec<PolicyChange> =
            old.iter().map(|(name, was)| change(name, Some(was), new.remove(name))).collect();
        changes.extend(new.into_iter().map(|(name, now)| change(&name, None, Some(now))));
        changes.retain(|change| change.was != change.now);
        changes.sort_by(|one, other| one.policy.cmp(&other.policy));
        changes
    }

    /// Each policy's text as people sign it.
    fn by_name(&self) -> BTreeMap<String, String> {
        let text =
            |id: &PolicyId| self.policies.policy(id).map(|policy| plain(&policy.to_string())).unwrap_or_default();
        self.policies.policies().map(|policy| (self.name_of(policy.id()), text(policy.id()))).collect()
    }
}

/// A policy's text on one line, without comments, which could say what does not hold; letters that could pass for others stand
/// there by their numbers, and what is between quotes as it is.
fn plain(text: &str) -> String {
    let (mut line, mut quoted, mut gap) = (String::new(), false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if !quoted && chars.peek() == Some(&'/') => {
                gap = true;
                while chars.next_if(|next| *next != '\n').is_some() {}
                continue;
            }
            c if !quoted && c.is_whitespace() => {
                gap = true;
                continue;
            }
            _ => {}
        }
        if std::mem::take(&mut gap) && !line.is_empty() {
            line.push(' ');
        }
        match c {
            '\\' if quoted => {
                line.push(c);
                line.extend(chars.next());
            }
            c if c.is_ascii() && !c.is_ascii_control() => {
                quoted ^= c == '"';
                line.push(c);
            }
            c => line.extend(c.escape_unicode()),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"the storage master key of a test";

    fn texts(text: &str) -> PolicySource {
        PolicySource::Texts { name: "own".to_owned(), texts: vec![("own.cedar".to_owned(), text.to_owned())] }
    }

    #[test]
    fn what_is_kept_is_the_set_or_nothing() {
        let own = "@id(\"own\") @reason(\"a test\") permit (principal, action, resource);";
        let policy = Authorizer::load(&texts(own)).unwrap();
        let kept = serde_json::to_value(Accepted::of(&policy, 3, KEY)).unwrap();
        let read = |value: &serde_json::Value| serde_json::from_value::<Accepted>(value.clone()).unwrap();
        assert!(read(&kept).is_authentic(KEY) && !read(&kept).is_authentic(b"another"));
        assert_eq!(read(&kept).load().unwrap().in_force(), policy.in_force());
        let mut older = kept.clone();
        older["number"] = 2.into();
        assert!(!read(&older).is_authentic(KEY));
        for (at, text) in [("/name", "production"), ("/texts/0/0", "own.cedaR"), ("/texts/0/1", ""), ("/tag", "00")] {
            let mut changed = kept.clone();
            *changed.pointer_mut(at).unwrap() = text.into();
            assert!(!read(&changed).is_authentic(KEY), "{at}");
        }
    }

    /// A set of before may name actions that there are no more: nothing is permitted then that `production` does not.
    #[test]
    fn a_set_of_another_version_is_replaced_by_the_strictest() {
        let gone =
            "@id(\"own\") @reason(\"a test\") permit (principal, action == Claviger::Action::\"gone\", resource);";
        assert!(Authorizer::load(&texts(gone)).is_err());
        let texts = vec![("own.cedar".to_owned(), gone.to_owned())];
        let kept = Accepted { name: "own".to_owned(), texts, number: 1, tag: String::new() };
        assert_eq!(kept.load().unwrap().in_force().name, "production");
    }

    #[test]
    fn a_shipped_set_is_the_program_s() {
        let production = Authorizer::load(&PolicySource::Production).unwrap();
        let kept = Accepted::of(&production, 1, KEY);
        assert!(kept.texts.is_empty() && kept.is_authentic(KEY));
        assert_eq!(kept.load().unwrap().in_force(), production.in_force());
        let dev = Authorizer::load(&PolicySource::Dev).unwrap();
        assert!(dev.lets_the_host_change_it() && !production.lets_the_host_change_it());
        assert!(production.locks_out(&[]).is_none() && dev.locks_out(&[]).is_none());
        let one = |text: &str| Authorizer::load(&texts(&format!("@id(\"own\") @reason(\"a test\") {text}"))).unwrap();
        let always = one("permit(principal, action, resource) // when { context.approvals >= 2 }\n;");
        let change = one("permit(principal, action, resource) when { context.approvals >= 2 };").changes(&always);
        let [PolicyChange { was: Some(was), now: Some(now), .. }] = &change[..] else { panic!("{change:?}") };
        assert!(was.contains(">= 2") && !now.contains(">= 2"), "{was}\n{now}");
        // What is between quotes counts, letter by letter.
        let near = one("permit(principal, action, resource) when { context.network == \"a  \\\" //b\" };");
        let far = one("permit(principal, action, resource)   when { context.network == \"a \\\" //b\" };");
        let change = far.changes(&near);
        let [PolicyChange { now: Some(now), .. }] = &change[..] else { panic!("{change:?}") };
        assert!(now.ends_with("when { context.network == \"a  \\\" //b\" };"), "{now}");
        let other = one("permit(principal in Claviger::Role::\"\u{43e}fficer\", action, resource);");
        let shown = near.changes(&other)[0].now.clone().unwrap();
        assert!(shown.contains("\\u{43e}fficer"), "{shown}");
        // However long it is.
        let long =
            format!("permit(principal, action, resource) when {{ {}true }};", "context.approvals == 1 || ".repeat(150));
        assert_eq!(one(&long).changes(&near).len(), 1);
        let added: Vec<_> =
            production.changes(&dev).iter().map(|change| format!("{} {}", change.what(), change.policy)).collect();
        assert_eq!(added, ["added dev.assign-role", "added dev.change-policies", "added dev.single-officer"]);
        assert!(dev.changes(&production).iter().all(|change| change.what() == "removed"));
    }
}
