//! The `[[backend]]` tables: what all have in common, and what only a table's driver understands.

use std::collections::HashSet;

use claviger_hsm_registry::Driver;
use serde::Deserialize;
use serde::de::{Deserializer, Unexpected, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::BackendConfig;

/// What any backend may have.
const COMMON: [&str; 5] = ["name", "driver", "place", "rate", "weight"];
/// What one whose driver runs in worker processes may have besides.
const OF_WORKERS: [&str; 5] = ["env", "user", "workers", "deadline_ms", "deadline_row_us"];

/// A table that is wrong: where, and what such a table looks like.
#[derive(Debug)]
pub struct WrongTable {
    /// Knows its place in the file.
    pub error: Error,
    /// Such a table, or nothing.
    pub help: String,
}

impl From<Error> for WrongTable {
    fn from(error: Error) -> Self {
        Self { error, help: String::new() }
    }
}

/// Takes the `[[backend]]` tables out of a configuration, each checked by its driver.
///
/// # Errors
/// [`WrongTable`] for the first.
pub fn take_backends(root: &mut DeTable<'_>) -> Result<Vec<BackendConfig>, WrongTable> {
    if let Some((key, value)) = root.iter().find(|(key, _)| matches!(key.get_ref().as_ref(), "backends" | "Backend")) {
        return Err(
            refuse(value.clone(), &format!("[[backend]], one table for each, instead of `{}`", key.get_ref())).into()
        );
    }
    let Some(tables) = root.remove("backend") else { return Ok(Vec::new()) };
    let DeValue::Array(tables) = tables.get_ref().clone() else {
        return Err(refuse(tables, "an array of tables: write [[backend]]").into());
    };
    let mut names = HashSet::new();
    let mut backends = Vec::new();
    for table in tables {
        let name = table.get_ref().get("name").cloned();
        let backend = one(table)?;
        if let (Some(value), false) = (name, names.insert(backend.name.clone())) {
            return Err(refuse(value, "a name that no other [[backend]] has").into());
        }
        backends.push(backend);
    }
    Ok(backends)
}

fn one(table: Spanned<DeValue<'_>>) -> Result<BackendConfig, WrongTable> {
    let span = table.span();
    let DeValue::Table(mut settings) = table.get_ref().clone() else {
        return Err(refuse(table, "a table: write [[backend]]").into());
    };
    let driver = match settings.get("driver").map(Spanned::get_ref) {
        Some(DeValue::String(name)) => claviger_hsm_registry::find(name),
        _ => None,
    };
    let known = |driver: Option<&Driver>| match driver {
        Some(driver) => {
            let of_workers = if driver.foreign_code { OF_WORKERS.as_slice() } else { &[] };
            let common = COMMON.iter().chain(of_workers).copied().collect::<Vec<_>>().join(", ");
            format!("\nevery table of this driver may also have {common}; one looks like this:\n\n{}", driver.example)
        }
        None => String::new(),
    };
    let wrong = |error| WrongTable { error, help: known(driver) };
    let mut common = DeTable::new();
    let of_workers = OF_WORKERS.iter().filter(|_| driver.is_none_or(|driver| driver.foreign_code));
    for name in COMMON.iter().chain(of_workers) {
        if let Some((key, value)) = settings.remove_entry(*name) {
            common.insert(key, value);
        }
    }
    let of = |table| ValueDeserializer::from(Spanned::new(span.clone(), DeValue::Table(table)));
    let mut backend = BackendConfig::deserialize(of(common)).map_err(wrong)?;
    backend.settings = toml::Table::deserialize(of(settings.clone())).map_err(wrong)?;
    if let Some(driver) = driver {
        (driver.check)(of(settings)).map_err(wrong)?;
    }
    Ok(backend)
}

/// A driver of this build.
pub(super) fn known_driver<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    if claviger_hsm_registry::find(&name).is_some() {
        return Ok(name);
    }
    let drivers: Vec<_> = claviger_hsm_registry::DRIVERS.iter().map(|driver| format!("`{}`", driver.name)).collect();
    let wanted = format!("a driver of this build, {}", drivers.join(" or "));
    Err(serde::de::Error::invalid_value(Unexpected::Str(&name), &wanted.as_str()))
}

/// The error of a value that should be something else, with its place in the file.
fn refuse(value: Spanned<DeValue<'_>>, wanted: &str) -> Error {
    struct Never<'a>(&'a str);
    impl Visitor<'_> for Never<'_> {
        type Value = ();
        fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            to.write_str(self.0)
        }
    }
    match ValueDeserializer::from(value).deserialize_any(Never(wanted)) {
        Err(error) => error,
        Ok(()) => serde::de::Error::custom(wanted),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_example_is_right() {
        for driver in claviger_hsm_registry::DRIVERS {
            let mut root = DeTable::parse(driver.example).unwrap();
            let backends = take_backends(root.get_mut()).unwrap();
            assert_eq!(backends[0].driver, driver.name);
        }
    }

    #[test]
    fn a_table_is_the_routers_part_and_the_drivers() {
        let text = r#"
            [[backend]]
            name = "room-1"
            driver = "pkcs11"
            workers = 2
            module = "/usr/lib/softhsm/libsofthsm2.so"
            token = { label = "city cards" }
            pin = { file = "room-1.pin" }
        "#;
        let mut root = DeTable::parse(text).unwrap();
        let room = take_backends(root.get_mut()).unwrap().remove(0);
        assert_eq!((room.workers, room.settings.len()), (2, 3));
        assert!(room.at(Path::new("/etc/claviger")).settings["pin"].to_string().contains("/etc/claviger/room-1.pin"));
    }
}
