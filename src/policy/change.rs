//! One policy set in the place of another: who may have that done, and what it changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar_policy::PolicyId;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Authorizer, Circumstances, Kind, PolicyError, PolicySource, Principal, Resource};

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
    /// HMAC-SHA-256 over name and digest under a key of the storage master key, hexadecimal.
    tag: String,
}

impl Accepted {
    /// A set as it is kept, with a tag by the storage master key.
    pub fn of(policy: &Authorizer, storage_key: &[u8]) -> Self {
        let name = policy.in_force().name.clone();
        let texts = if shipped(&name).is_some() { Vec::new() } else { policy.texts().to_vec() };
        let tag = tag(&name, &texts, storage_key);
        Self { name, texts, tag }
    }

    /// Whether nobody has changed it where it is kept.
    pub fn is_authentic(&self, storage_key: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        let wanted = tag(&self.name, &self.texts, storage_key);
        bool::from(wanted.as_bytes().ct_eq(self.tag.as_bytes()))
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

fn shipped(name: &str) -> Option<PolicySource> {
    match name {
        "production" => Some(PolicySource::Production),
        "dev" => Some(PolicySource::Dev),
        _ => None,
    }
}

/// HMAC takes keys of any length.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn tag(name: &str, texts: &[(String, String)], storage_key: &[u8]) -> String {
    let mac = |key: &[u8]| Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    let mut derive = mac(storage_key);
    derive.update(CONTEXT);
    let mut mac = mac(&derive.finalize().into_bytes());
    for part in std::iter::once(name).chain(texts.iter().flat_map(|(file, text)| [file.as_str(), text.as_str()])) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    hex::encode(mac.finalize().into_bytes())
}

impl Authorizer {
    /// Whether whoever runs the host may put another set in the place of this one, by nobody else's word.
    pub fn lets_the_host_change_it(&self) -> bool {
        Principal::host().is_some_and(|host| self.may_change_it(&host, 0))
    }

    /// Whether anybody could ever have it changed: the host, an officer of no name, or one of these, with as many approvals as
    /// are ever asked for.
    pub fn can_be_changed(&self, principals: &[Arc<Principal>]) -> bool {
        let officer = Principal::from_uri("claviger://officer/any", ["officer".to_owned()], []).ok().map(Arc::new);
        let mut somebody = principals.iter().filter(|known| known.kind() == Kind::Officer).cloned().chain(officer);
        self.lets_the_host_change_it()
            || somebody.any(|who| (0..=MOST_APPROVALS).any(|approvals| self.may_change_it(&who, approvals)))
    }

    fn may_change_it(&self, who: &Arc<Principal>, approvals: u64) -> bool {
        let circumstances = Circumstances { approvals, ..Circumstances::default() };
        self.say(who, CHANGE, &Resource::Daemon, circumstances).allowed
    }

    /// What another set in its place would change, policy by policy: its name, and `added`, `changed` or `removed`.
    pub fn changes(&self, next: &Self) -> Vec<(String, &'static str)> {
        let (old, new) = (self.by_name(), next.by_name());
        let mut changes: Vec<(String, &'static str)> = Vec::new();
        for (name, text) in &new {
            match old.get(name) {
                None => changes.push((name.clone(), "added")),
                Some(before) if before != text => changes.push((name.clone(), "changed")),
                Some(_) => {}
            }
        }
        changes.extend(old.into_keys().filter(|name| !new.contains_key(name)).map(|name| (name, "removed")));
        changes.sort();
        changes
    }

    fn by_name(&self) -> BTreeMap<String, String> {
        let text = |id: &PolicyId| self.policies.policy(id).map(ToString::to_string).unwrap_or_default();
        self.policies.policies().map(|policy| (self.name_of(policy.id()), text(policy.id()))).collect()
    }
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
        let kept = serde_json::to_value(Accepted::of(&policy, KEY)).unwrap();
        let read = |value: &serde_json::Value| serde_json::from_value::<Accepted>(value.clone()).unwrap();
        assert!(read(&kept).is_authentic(KEY) && !read(&kept).is_authentic(b"another"));
        assert_eq!(read(&kept).load().unwrap().in_force(), policy.in_force());
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
        let kept = Accepted { name: "own".to_owned(), texts, tag: String::new() };
        assert_eq!(kept.load().unwrap().in_force().name, "production");
    }

    #[test]
    fn a_shipped_set_is_the_program_s() {
        let production = Authorizer::load(&PolicySource::Production).unwrap();
        let kept = Accepted::of(&production, KEY);
        assert!(kept.texts.is_empty() && kept.is_authentic(KEY));
        assert_eq!(kept.load().unwrap().in_force(), production.in_force());
        let dev = Authorizer::load(&PolicySource::Dev).unwrap();
        assert!(dev.lets_the_host_change_it() && !production.lets_the_host_change_it());
        assert!(production.can_be_changed(&[]));
        let added: Vec<_> = production.changes(&dev).into_iter().map(|(name, what)| format!("{what} {name}")).collect();
        assert_eq!(added, ["added dev.assign-role", "added dev.change-policies", "added dev.single-officer"]);
        assert!(dev.changes(&production).iter().all(|(_, what)| *what == "removed"));
    }
}
