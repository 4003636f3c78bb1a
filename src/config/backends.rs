//! The `[[backend]]` tables: what all have in common, and what only a table's driver understands.

use std::collections::HashSet;

use claviger_hsm_registry::Driver;
use serde::Deserialize;
use serde::de::{Deserializer, Unexpected, Visitor};
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use crate::routing::BackendConfig;

/// What any backend may have.
const COMMON: [&str; 5] = ["name", "driver", "place", "rate", "weight"];
/// What one whose driver runs in worker processes may have besides.
const OF_WORKERS: [&str; 5] = ["env", "user", "workers", "deadline_ms", "deadline_row_us"];

/// A table that is wrong: where, and what such a table looks like.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) error: Error,
    pub(super) help: String,
}

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self { error, help: String::new() }
    }
}

/// Takes the `[[backend]]` tables out of a configuration, each checked by its driver.
pub(super) fn take(root: &mut DeTable<'_>) -> Result<Vec<BackendConfig>, Wrong> {
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

fn one(table: Spanned<DeValue<'_>>) -> Result<BackendConfig, Wrong> {
    let span = table.span();
    let DeValue::Table(mut settings) = table.get_ref().clone() else {
        return Err(refuse(table, "a table: write [[backend]]").into());
    };
    let driver = match settings.get("driver").map(Spanned::get_ref) {
        Some(DeValue::String(name)) => claviger_hsm_registry::find(name),
        _ => None,
    };
    let known = |driver: Option<&Driver>| match driver {
        Some(driver) => format!("\na table of this driver:\n\n{}", driver.example),
        None => String::new(),
    };
    let wrong = |error| Wrong { error, help: known(driver) };
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
pub(crate) fn known_driver<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
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

    use super::super::Config;

    const ROOM: &str = r#"[[backend]]
name = "room-1"
driver = "pkcs11"
place = "hosted"
workers = 2
module = "/usr/lib/softhsm/libsofthsm2.so"
token = { label = "city cards" }
pin = { file = "room-1.pin" }
"#;

    fn error(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claviger.toml");
        std::fs::write(&path, text).unwrap();
        Config::load_backends(&path).unwrap_err().to_string()
    }

    #[test]
    fn every_example_is_right() {
        for driver in claviger_hsm_registry::DRIVERS {
            let mut root = toml::de::DeTable::parse(driver.example).unwrap();
            let backends = super::take(root.get_mut()).unwrap();
            assert_eq!(backends[0].driver, driver.name);
        }
        let mut root = toml::de::DeTable::parse(ROOM).unwrap();
        let room = super::take(root.get_mut()).unwrap().remove(0);
        assert_eq!((room.workers, room.settings.len()), (2, 3));
        assert!(room.at(Path::new("/etc/claviger")).settings["pin"].to_string().contains("/etc/claviger/room-1.pin"));
    }

    #[test]
    fn a_wrong_table_is_explained_with_its_line_and_the_remedy() {
        let twice = format!("{ROOM}{ROOM}");
        let cases: [(&str, &str, String); 10] = [
            ("line 3, ", "`pkcs11`", ROOM.replace("pkcs11", "pkcs-11")),
            ("line 6, ", "expected one of `module`", ROOM.replace("module", "modul")),
            ("line 4, ", "`on-prem`", ROOM.replace("hosted", "here")),
            ("line 7, ", "`serial`", ROOM.replace("label", "slot")),
            ("line 7, ", "its `label`, its `serial`", ROOM.replace("label = \"city cards\"", "")),
            ("line 8, ", "`systemd-credential`", ROOM.replace("file =", "value =")),
            ("line 1, ", "missing field `pin`", ROOM.replace("pin =", "# pin =")),
            ("line 6, ", "at least 2", ROOM.replace("module =", "sessions = 1\nmodule =")),
            ("line 10, ", "no other [[backend]]", twice),
            ("line 1, ", "[[backend]]", ROOM.replace("[[backend]]", "[[backends]]")),
        ];
        for (place, remedy, text) in cases {
            let error = error(&text);
            assert!(error.contains(place) && error.contains(remedy), "{place}, {remedy}: {error}");
            assert!(error.contains("claviger.toml: "), "{error}");
        }
    }

    #[test]
    fn what_is_for_workers_is_not_for_the_embedded_backend() {
        let error = error("[[backend]]\nname = \"here\"\ndriver = \"software\"\nworkers = 2\n");
        assert!(error.contains("line 4, column 1") && error.contains("`workers`"), "{error}");
    }
}
