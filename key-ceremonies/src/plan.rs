//! A plan: who does what in which order, and which keys come of it. It names no device, no slot and no person.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::MOST_SHARES;
use crate::binding::Binding;
use crate::step::Step;

/// Stands for the shares among keys' components; no key has that name.
const SHARES: &str = "(shares)";

/// The longest plan or binding, in bytes.
pub const LONGEST: usize = 64 * 1024;

/// What is wrong with a plan or a binding, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct PlanError {
    /// As `step 3` or `binding, backends`.
    pub at: String,
    /// In words.
    pub reason: String,
}

pub(crate) fn wrong<T>(at: impl Into<String>, reason: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError { at: at.into(), reason: reason.into() })
}

/// A plan as its file says it; `{names}` in it stand for what the binding gives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Small letters, digits and hyphens.
    pub id: String,
    /// Of this plan; counts up.
    pub version: u32,
    /// A line.
    pub title: String,
    /// When it is held and what it ends with.
    pub purpose: String,
    /// Hours from its opening after which nothing more is done.
    pub hours: u16,
    /// What the binding must give.
    #[serde(default, rename = "parameter")]
    pub parameters: Vec<Parameter>,
    /// Who takes part.
    #[serde(rename = "role")]
    pub roles: Vec<Role>,
    /// What it is about.
    #[serde(default, rename = "key")]
    pub keys: Vec<PlannedKey>,
    /// In order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// A value that the binding gives.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// As it stands between braces.
    pub name: String,
    /// What it means.
    pub about: String,
    /// What a rehearsal takes.
    pub example: String,
}

/// People with one task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// `officer`, `custodian`, `witness` ...
    pub name: String,
    /// How many.
    pub count: usize,
}

/// A key that the ceremony makes or touches. Texts are as the service takes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the attribute of that name of a key")]
pub struct PlannedKey {
    pub id: String,
    pub scheme: String,
    pub role: String,
    pub algorithm: String,
    pub version: String,
    #[serde(default)]
    pub factors: Vec<String>,
    #[serde(default)]
    pub ceiling: Option<String>,
    #[serde(default)]
    pub movable: bool,
    #[serde(default)]
    pub sensitive: bool,
    #[serde(default)]
    pub places: Vec<String>,
    #[serde(default)]
    pub protect_from: Option<String>,
    #[serde(default)]
    pub protect_until: Option<String>,
    #[serde(default)]
    pub verify_until: Option<String>,
    /// The name that the binding gives a backend; the daemon's choice if absent.
    #[serde(default)]
    pub backend: Option<String>,
    /// Whether it is there before.
    #[serde(default)]
    pub exists: bool,
}

/// SHA-256 of a plan or a binding: of its file's bytes, whatever they say.
pub fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl Plan {
    /// Reads a plan and looks whether it holds together.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let plan = Self::read(toml::Value::Table(table(text, "plan")?))?;
        let examples = plan.parameters.iter().map(|given| (given.name.clone(), given.example.clone())).collect();
        let mut value = toml::Value::Table(table(text, "plan")?);
        fill(&mut value, &examples);
        match open_name(&value) {
            Some(name) => wrong("plan", format!("`{name}` stands for nothing: there is no such parameter")),
            None => Ok(plan),
        }
    }

    /// The same with the binding's values in place of their names.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn bound(text: &str, binding: &Binding) -> Result<Self, PlanError> {
        // First: of a plan that was changed, that it was is what matters.
        if !binding.plan.eq_ignore_ascii_case(&hex::encode(digest(text))) {
            return wrong("binding, `plan`", "is the SHA-256 of another plan than this");
        }
        binding.fits(&Self::parse(text)?)?;
        let mut value = toml::Value::Table(table(text, "plan")?);
        fill(&mut value, &binding.parameters);
        Self::read(value)
    }

    fn read(value: toml::Value) -> Result<Self, PlanError> {
        // Piece by piece first, so that what is wrong in one is said with its number.
        each::<Parameter>(&value, "parameter")?;
        each::<Role>(&value, "role")?;
        each::<PlannedKey>(&value, "key")?;
        each::<Step>(&value, "step")?;
        let plan: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let at = if path == "." { "plan".to_owned() } else { format!("plan, `{path}`") };
            PlanError { at, reason: error.inner().message().to_owned() }
        })?;
        plan.check()?;
        Ok(plan)
    }

    /// The key of an id.
    pub fn key(&self, id: &str) -> Option<&PlannedKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// How many hold a role.
    pub(crate) fn count(&self, role: &str) -> usize {
        self.roles.iter().find(|known| known.name == role).map_or(0, |role| role.count)
    }

    fn check(&self) -> Result<(), PlanError> {
        is_word("`id`", &self.id)?;
        if !(1..=168).contains(&self.hours) {
            return wrong("`hours`", "must be 1 to 168");
        }
        if self.steps.is_empty() || self.steps.len() > 100 {
            return wrong("`step`", "there must be 1 to 100");
        }
        for (at, text) in [("`title`", &self.title), ("`purpose`", &self.purpose)] {
            is_plain(at, text)?;
        }
        unique("role", self.roles.iter().map(|role| role.name.as_str()))?;
        unique("key", self.keys.iter().map(|key| key.id.as_str()))?;
        unique("parameter", self.parameters.iter().map(|parameter| parameter.name.as_str()))?;
        if let Some(role) = self.roles.iter().find(|role| !(1..=9).contains(&role.count)) {
            return wrong(format!("role `{}`", role.name), "must be 1 to 9 people");
        }
        self.check_steps()
    }

    fn check_steps(&self) -> Result<(), PlanError> {
        let mut there: BTreeSet<&str> = self.keys.iter().filter(|key| key.exists).map(|key| key.id.as_str()).collect();
        let mut collected = BTreeSet::new();
        for (number, step) in (1..).zip(&self.steps) {
            let at = format!("step {number}");
            let people = self.count(step.role());
            if people == 0 {
                return wrong(at, format!("there is no role `{}`", step.role()));
            }
            if let Step::Confirm { say, .. } = step {
                is_plain(&at, say)?;
            }
            if let Some(reason) = step.wrong() {
                return wrong(at, reason);
            }
            check_shares(&at, step, people, &mut collected)?;
            let keys = step.keys();
            if let Some(unknown) = keys.iter().find(|key| self.key(key).is_none()) {
                return wrong(at, format!("there is no key `{unknown}`"));
            }
            let Some((own, others)) = keys.split_first() else { continue };
            let of_new = step.makes_key() || step.takes_components();
            if of_new && there.contains(own) {
                return wrong(at, format!("key `{own}` is there already"));
            }
            if let Some(missing) = others.iter().chain((!of_new).then_some(own)).find(|key| !there.contains(**key)) {
                return wrong(at, format!("key `{missing}` is not there yet"));
            }
            if step.takes_components() {
                if !(2..=9).contains(&people) {
                    return wrong(at, "components are for two to nine custodians");
                }
                if !collected.insert(*own) {
                    return wrong(at, format!("key `{own}` has its components already"));
                }
            }
            if matches!(step, Step::JoinComponents { .. }) && !collected.remove(own) {
                return wrong(at, format!("nobody has brought components of key `{own}`"));
            }
            if step.makes_key() {
                there.insert(own);
            }
        }
        match collected.first() {
            Some(&SHARES) => wrong("`step`", "the shares are never sealed with"),
            Some(key) => wrong("`step`", format!("the components of key `{key}` are never joined")),
            None => Ok(()),
        }
    }

    /// What is not wrong, and yet no good ceremony would have: for whoever reviews the plan.
    pub fn lint(&self) -> Vec<String> {
        let mut found = Vec::new();
        let by: BTreeSet<&str> = self.steps.iter().map(Step::role).collect();
        for role in self.roles.iter().filter(|role| !by.contains(role.name.as_str())) {
            found.push(format!("role `{}` does nothing", role.name));
        }
        if self.roles.iter().map(|role| role.count).sum::<usize>() < 2 {
            found.push("one person alone holds this ceremony".to_owned());
        }
        let watches = |step: &Step| matches!(step, Step::Confirm { .. } | Step::CompareKcv { .. });
        let acts: BTreeSet<&str> = self.steps.iter().filter(|step| !watches(step)).map(Step::role).collect();
        if !self.steps.iter().any(|step| watches(step) && !acts.contains(step.role())) {
            found.push("nobody watches who does nothing else".to_owned());
        }
        for (number, step) in (1..).zip(&self.steps) {
            if let Step::RaiseCeiling { key, .. } = step
                && !self
                    .steps
                    .iter()
                    .skip(number)
                    .any(|later| matches!(later, Step::LowerCeiling { key: same, .. } if same == key))
            {
                found.push(format!("step {number}: the ceiling of key `{key}` comes down by the clock alone"));
            }
            if matches!(step, Step::SendKey { .. }) && !self.steps[..number - 1].iter().any(watches) {
                found.push(format!("step {number}: a key goes out before anybody has confirmed to whom"));
            }
        }
        let spoken: BTreeSet<&str> = self.steps.iter().flat_map(Step::keys).collect();
        let compared =
            |id: &str| self.steps.iter().any(|step| matches!(step, Step::CompareKcv { key, .. } if key == id));
        for key in &self.keys {
            if !spoken.contains(key.id.as_str()) {
                found.push(format!("no step speaks of key `{}`", key.id));
            }
            let from_others = |step: &Step| match step {
                Step::JoinComponents { key: made, .. } | Step::ReceiveKey { key: made, .. } => *made == key.id,
                _ => false,
            };
            if self.steps.iter().any(from_others) && !compared(&key.id) {
                found.push(format!("nobody compares the check value of key `{}`, which comes from others", key.id));
            }
        }
        for parameter in &self.parameters {
            let name = format!("{{{}}}", parameter.name);
            let used = |text: &str| text.contains(&name);
            let in_key = |key: &PlannedKey| {
                let texts = [&key.scheme, &key.role, &key.algorithm, &key.version].into_iter();
                let optional = [&key.ceiling, &key.protect_from, &key.protect_until, &key.verify_until];
                texts.chain(&key.factors).chain(optional.into_iter().flatten()).any(|text| used(text))
            };
            if !self.keys.iter().any(in_key) && !self.steps.iter().any(|step| used(&step.words())) {
                found.push(format!("parameter `{}` is given and never used", parameter.name));
            }
        }
        found
    }
}

fn check_shares(at: &str, step: &Step, people: usize, collected: &mut BTreeSet<&str>) -> Result<(), PlanError> {
    match step {
        Step::HandOutShares { threshold, .. } => {
            if !(2..=usize::from(MOST_SHARES)).contains(&people) || !(2..=people).contains(&usize::from(*threshold)) {
                return wrong(at, "shares are for two to nine custodians, of whom two or more suffice");
            }
            if collected.insert(SHARES) { Ok(()) } else { wrong(at, "the shares are handed out already") }
        }
        Step::SealWithShares { .. } if !collected.remove(SHARES) => wrong(at, "nobody has shares"),
        _ => Ok(()),
    }
}

/// Whether each table of a name reads as what it should be.
fn each<T: DeserializeOwned>(plan: &toml::Value, name: &str) -> Result<(), PlanError> {
    let tables = plan.get(name).and_then(toml::Value::as_array);
    for (number, table) in (1..).zip(tables.into_iter().flatten()) {
        let read = T::deserialize(table.clone());
        read.map_err(|error| PlanError { at: format!("{name} {number}"), reason: error.message().to_owned() })?;
    }
    Ok(())
}

pub(crate) fn table(text: &str, what: &str) -> Result<toml::Table, PlanError> {
    if text.trim().is_empty() {
        return wrong(what, "is empty");
    }
    if text.len() > LONGEST {
        return wrong(what, format!("is longer than {LONGEST} bytes"));
    }
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        PlanError { at: format!("{what}, line {line}"), reason: error.message().to_owned() }
    })
}

fn fill(value: &mut toml::Value, parameters: &BTreeMap<String, String>) {
    match value {
        toml::Value::String(text) => {
            for (name, given) in parameters {
                *text = text.replace(&format!("{{{name}}}"), given);
            }
        }
        toml::Value::Array(values) => values.iter_mut().for_each(|value| fill(value, parameters)),
        toml::Value::Table(table) => table.iter_mut().for_each(|(_, value)| fill(value, parameters)),
        _ => {}
    }
}

/// A name between braces that nothing was filled in for.
fn open_name(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => text.find('{').map(|at| {
            let rest = &text[at..];
            rest[..rest.find('}').map_or(rest.len(), |end| end + 1)].chars().take(40).collect()
        }),
        toml::Value::Array(values) => values.iter().find_map(open_name),
        toml::Value::Table(table) => table.iter().find_map(|(_, value)| open_name(value)),
        _ => None,
    }
}

fn is_word(at: &str, word: &str) -> Result<(), PlanError> {
    let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if word.is_empty() || word.len() > 64 || !word.bytes().all(fits) {
        return wrong(at, "must be 1 to 64 small letters, digits and hyphens");
    }
    Ok(())
}

/// What people read is what stands there: nothing in it moves a cursor or turns the direction of writing.
pub(crate) fn is_plain(at: &str, text: &str) -> Result<(), PlanError> {
    let hides = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}')
    };
    if text.trim().is_empty() || text.chars().any(hides) {
        return wrong(at, "must be text, with nothing invisible in it");
    }
    Ok(())
}

fn unique<'n>(what: &str, names: impl Iterator<Item = &'n str>) -> Result<(), PlanError> {
    let mut seen = BTreeSet::new();
    for name in names {
        is_word(&format!("{what} `{}`", name.chars().take(40).collect::<String>()), name)?;
        if !seen.insert(name) {
            return wrong(format!("{what} `{name}`"), "stands there twice");
        }
    }
    Ok(())
}
