//! Attributes whose words are a closed list. A policy that compares one with another word says nothing, and a `forbid` of it
//! forbids nothing.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use claviger_hsm_api::{Algorithm, Exposure, KeyState};
use serde_json::Value;

use super::BatchSize;

/// What a policy compares an attribute with, and is none of its words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is no word of `{attribute}`, which has: {}", known.join(" "))]
pub(super) struct UnknownWord {
    attribute: String,
    word: String,
    known: Vec<&'static str>,
}

/// How a key came to be, as its record has it.
pub(crate) const ORIGINS: &[&str] = &["generated", "components", "dispersed", "adopted", "unwrapped"];
/// Where a key or a backend may be.
pub(crate) const PLACES: &[&str] = &["on-prem", "hosted", "cloud"];
const RANKS: &[&str] = &["dispersion", "card", "plain"];

/// The words of an attribute, if they are a closed list.
fn words_of(attribute: &str) -> Option<Vec<&'static str>> {
    Some(match attribute {
        "resource.state" => KeyState::ALL.iter().map(|state| state.as_str()).collect(),
        "resource.algorithm" => Algorithm::ALL.iter().map(|algorithm| algorithm.as_str()).collect(),
        "resource.ceiling" | "context.exposure" => Exposure::ALL.iter().map(|exposure| exposure.as_str()).collect(),
        "resource.origin" => ORIGINS.to_vec(),
        "resource.rank" => RANKS.to_vec(),
        "resource.place" | "context.places" => PLACES.to_vec(),
        "context.batch" => BatchSize::ALL.iter().map(|size| size.as_str()).collect(),
        _ => return None,
    })
}

/// Looks for the first word of a policy that cannot come.
///
/// # Errors
/// [`UnknownWord`].
pub(super) fn check(policy: &Policy) -> Result<(), UnknownWord> {
    for (attribute, word) in compared(&parsed(policy)) {
        if let Some(known) = words_of(&attribute).filter(|known| !known.contains(&word.as_str())) {
            return Err(UnknownWord { attribute, word: word.escape_debug().to_string(), known });
        }
    }
    Ok(())
}

/// Roles that policies speak of: no list has all that there may be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Of callers.
    pub callers: BTreeSet<String>,
    /// Of keys.
    pub keys: BTreeSet<String>,
}

impl Roles {
    pub(super) fn of<'p>(policies: impl Iterator<Item = &'p Policy>) -> Self {
        let mut roles = Self::default();
        for policy in policies {
            let parsed = parsed(policy);
            callers(&parsed, &mut roles.callers);
            let of_keys = compared(&parsed).into_iter().filter(|(attribute, _)| attribute == "resource.role");
            roles.keys.extend(of_keys.map(|(_, role)| role));
        }
        roles
    }
}

/// A policy in Cedar's JSON form. What Cedar itself has parsed it can write down again.
fn parsed(policy: &Policy) -> Value {
    policy.to_json().unwrap_or_default()
}

fn children(value: &Value) -> impl Iterator<Item = &Value> {
    let (list, object) = (value.as_array(), value.as_object());
    list.into_iter().flatten().chain(object.into_iter().flat_map(serde_json::Map::values))
}

fn callers(value: &Value, found: &mut BTreeSet<String>) {
    if value["type"] == "Claviger::Role" {
        found.extend(value["id"].as_str().map(str::to_owned));
    }
    children(value).for_each(|child| callers(child, found));
}

/// Attributes, each with a word that it is compared with: every comparison of the JSON form has its two sides in an object.
fn compared(value: &Value) -> Vec<(String, String)> {
    let sides = [(&value["left"], &value["right"]), (&value["right"], &value["left"])];
    let here = sides.into_iter().flat_map(|(attribute, literal)| {
        let access = &attribute["."];
        let name = access["left"]["Var"].as_str().zip(access["attr"].as_str());
        let name = name.map(|(variable, attribute)| format!("{variable}.{attribute}"));
        let items = literal["Set"].as_array().into_iter().flatten().chain([literal]);
        let words = items.filter_map(|item| item["Value"].as_str());
        words.filter_map(|word| Some((name.clone()?, word.to_owned()))).collect::<Vec<_>>()
    });
    here.chain(children(value).flat_map(compared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(condition: &str) -> Option<String> {
        let policy: Policy = format!("permit (principal, action, resource) when {{ {condition} }};").parse().unwrap();
        check(&policy).err().map(|error| error.to_string())
    }

    #[test]
    fn a_word_that_cannot_come_is_found_wherever_it_is_compared() {
        for wrong in [
            "resource.state == \"actve\"",
            "\"actve\" == resource.state",
            "!(context.approvals > 1 && resource.state != \"actve\")",
            "[\"active\", \"actve\"].contains(resource.state)",
            "if context.ceremony then resource.state == \"actve\" else true",
        ] {
            let error = said(wrong).unwrap_or_else(|| panic!("{wrong} is taken"));
            assert!(error.starts_with("`actve` is no word of `resource.state`, which has: pre-active "), "{error}");
        }
        for wrong in [
            "context.places.contains(\"onprem\")",
            "context.places.containsAny([\"cloud\", \"clowd\"])",
            "resource.rank == \"Card\"",
            "resource.algorithm == \"aes\"",
            "resource.ceiling == \"everything\"",
            "context.exposure == \"everything\"",
            "context.batch == \"big\"",
            "resource.origin == \"made\"",
        ] {
            assert!(said(wrong).is_some(), "{wrong} is taken");
        }
    }

    #[test]
    fn words_that_can_come_and_names_of_the_configuration_are_taken() {
        for right in [
            "resource.state == \"compromised\" || resource.origin == \"unwrapped\"",
            "context.exposure == \"nothing\" && context.places.containsAll([\"on-prem\", \"hosted\"])",
            "context.network == \"bureau\" && context.windows.contains(\"shift\")",
            "resource.role == \"DTK\" && context.batch == \"stream\" && resource.rank == \"plain\"",
        ] {
            assert_eq!(said(right), None);
        }
    }

    #[test]
    fn roles_are_found_in_scopes_and_conditions() {
        let policy = "permit (principal in Claviger::Role::\"clearing\", action, resource) \
            when { principal in Claviger::Role::\"auditor\" && [\"DTK\", \"DPK\"].contains(resource.role) };";
        let roles = Roles::of([&policy.parse().unwrap()].into_iter());
        assert_eq!(roles.callers, ["auditor", "clearing"].map(str::to_owned).into());
        assert_eq!(roles.keys, ["DPK", "DTK"].map(str::to_owned).into());
    }
}
