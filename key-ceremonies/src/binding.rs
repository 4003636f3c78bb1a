//! A binding: what a plan leaves open. Which tenant, which backends of which daemon, and who the people are.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::plan::{Plan, PlanError, is_plain, table, wrong};

/// A binding as its file says it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// SHA-256 of the plan's file, hexadecimal.
    pub plan: String,
    /// Whose keys.
    pub tenant: String,
    /// A value for each of the plan's parameters.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// For each backend that the plan names, what the daemon's configuration calls it: there are its slot and its PIN.
    #[serde(default)]
    pub backends: BTreeMap<String, String>,
    /// Who takes part.
    #[serde(rename = "person")]
    pub people: Vec<Person>,
}

/// Somebody who takes part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The plan's role.
    pub role: String,
    /// As the daemon's configuration names them: `claviger://officer/li`.
    pub name: String,
    /// SHA-256 of their certificate, DER, hexadecimal: with its key they sign the transcript.
    pub certificate: String,
}

impl Binding {
    /// Reads a binding.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let binding: Self = table(text, "binding")?.try_into().map_err(|error: toml::de::Error| PlanError {
            at: "binding".to_owned(),
            reason: error.message().to_owned(),
        })?;
        let given = binding.parameters.iter().chain(&binding.backends);
        for (name, value) in given {
            is_plain(&format!("binding, `{}`", name.chars().take(40).collect::<String>()), value)?;
            // A value that looks like a name would be filled in itself, or not, by the order of names.
            if value.contains(['{', '}', '\n']) {
                return wrong(format!("binding, `{name}`"), "must have no braces and be one line");
            }
        }
        Ok(binding)
    }

    /// The people of a role, in order.
    pub fn people_of<'b>(&'b self, role: &'b str) -> impl Iterator<Item = &'b Person> {
        self.people.iter().filter(move |person| person.role == role)
    }

    /// Whoever has that name.
    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|person| person.name == name)
    }

    /// Whether it gives what that plan leaves open, and nothing else.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn fits(&self, plan: &Plan) -> Result<(), PlanError> {
        let asked: BTreeSet<&str> = plan.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        same("parameters", &asked, self.parameters.keys())?;
        let named: BTreeSet<&str> = plan.backend_names().collect();
        same("backends", &named, self.backends.keys())?;
        if let Some(person) = self.people.iter().find(|person| plan.count(&person.role) == 0) {
            return wrong("binding, `person`", format!("the plan has no role `{}`", person.role));
        }
        for role in &plan.roles {
            let found = self.people_of(&role.name).count();
            if found != role.count {
                return wrong(
                    "binding, `person`",
                    format!("there must be {} of role `{}`, and there are {found}", role.count, role.name),
                );
            }
        }
        let (mut names, mut certificates) = (BTreeSet::new(), BTreeSet::new());
        for person in &self.people {
            if hex::decode(&person.certificate).map_or(0, |bytes| bytes.len()) != 32 {
                return wrong(
                    format!("binding, person `{}`", person.name),
                    "`certificate` must be a SHA-256 in hexadecimal",
                );
            }
            // Nobody holds two parts of what several must hold.
            if !names.insert(&person.name) || !certificates.insert(person.certificate.to_ascii_uppercase()) {
                return wrong(format!("binding, person `{}`", person.name), "stands there twice");
            }
        }
        Ok(())
    }
}

fn same<'n>(what: &str, asked: &BTreeSet<&str>, given: impl Iterator<Item = &'n String>) -> Result<(), PlanError> {
    let given: BTreeSet<&str> = given.map(String::as_str).collect();
    if let Some(missing) = asked.difference(&given).next() {
        return wrong(format!("binding, `{what}`"), format!("`{missing}` is missing"));
    }
    match given.difference(asked).next() {
        Some(more) => wrong(format!("binding, `{what}`"), format!("the plan has no `{more}`")),
        None => Ok(()),
    }
}

impl Plan {
    /// The names that it has for backends.
    pub fn backend_names(&self) -> impl Iterator<Item = &str> {
        let of_keys = self.keys.iter().filter_map(|key| key.backend.as_deref());
        of_keys.chain(self.steps.iter().filter_map(|step| match step {
            crate::Step::ReplicateKey { to, .. }
            | crate::Step::ReplicateTenant { to, .. }
            | crate::Step::MoveKey { to: Some(to), .. }
            | crate::Step::MoveTenant { to: Some(to), .. } => Some(to.as_str()),
            _ => None,
        }))
    }
}
