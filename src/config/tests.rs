//! What a configuration may say.

use super::Config;

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
fn a_pin_in_the_wrong_place_is_not_told_again() {
    for wrong in ["pin = \"4711\"", "pim = 4711 # the PIN", "pin = { flie = \"4711\" }"] {
        let error = error(&ROOM.replace("pin = { file = \"room-1.pin\" }", wrong));
        assert!(error.contains("line 8, ") && !error.contains("4711"), "{error}");
    }
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

/// What each table knows, by its own words about a setting that it does not know, stands on the page.
#[test]
fn every_setting_stands_in_the_documentation() {
    const PAGE: &str = include_str!("../../docs/configuration.md");
    let example = PAGE.split("```").nth(1).unwrap().strip_prefix("toml\n").unwrap();
    let parse = |text: &str| Config::parse(text, std::path::Path::new("claviger.toml"));
    parse(example).unwrap();
    let headers = example.match_indices("\n[").map(|(at, _)| at + 1 + example[at + 1..].find('\n').unwrap() + 1);
    let mut known = 0;
    for at in [0].into_iter().chain(headers) {
        let wrong = format!("{}no_such_setting = 1\n{}", &example[..at], &example[at..]);
        let error = parse(&wrong).unwrap_err().to_string();
        let names = error.split_once(", expected ").and_then(|(_, names)| names.lines().next());
        for name in names.unwrap_or_default().split('`').skip(1).step_by(2) {
            let stands = |line: &str| line.trim_start_matches("# ").trim_matches(['[', ']']).starts_with(name);
            assert!(example.lines().any(stands), "`{name}` is not on the page: {error}");
            known += 1;
        }
    }
    assert!(known > 45, "{known} settings");
}

#[test]
fn bounds_of_none_and_two_quotas_of_a_tenant_are_named_and_modules_run_as_the_daemon() {
    const WHOLE: &str = r#"listen = "127.0.0.1:0"
data = "data"
user = "nobody"
tls = { certificate = "a", key = "b", client_ca = "c" }
limits = { body_bytes = 1, line_bytes = 2, request_seconds = 3, connections = 4 }
[[quota]]
tenant = "one"
items_per_day = 5
[[quota]]
tenant = "two"
items_per_day = 6
[[principal]]
uri = "claviger://service/one"
calls_at_once = 7
"#;
    let parse = |text: &str| Config::parse(text, std::path::Path::new("claviger.toml"));
    let whole = parse(&format!("{WHOLE}{ROOM}")).unwrap();
    assert_eq!(whole.routing().backends[0].user.as_deref(), Some("nobody"));
    let own = parse(&format!("{WHOLE}{ROOM}user = \"hsm\"\n")).unwrap();
    assert_eq!(own.routing().backends[0].user.as_deref(), Some("hsm"));
    for (right, wrong, words) in [
        ("body_bytes = 1", "body_bytes = 0", "at least 1"),
        ("line_bytes = 2", "line_bytes = 0", "at least 1"),
        ("request_seconds = 3", "request_seconds = 0", "at least 1"),
        ("connections = 4", "connections = 0", "at least 1"),
        ("calls_at_once = 7", "calls_at_once = 0", "nonzero"),
        ("\"two\"", "\"one\"", "tenant `one` has two [[quota]] tables"),
        ("\"two\"", "\"Two\"", "tenant `Two` must be lower-case"),
        ("service/one", "servant/one", "service, officer, auditor or node"),
        ("service/one", "node/host", "whoever runs the host, and no caller"),
        ("calls_at_once = 7", "tenants = [\"demo\", \"\"]", "tenant `` must be lower-case"),
    ] {
        let error = parse(&WHOLE.replace(right, wrong)).unwrap_err().to_string();
        assert!(error.contains("line ") && error.contains(words), "{wrong}: {error}");
    }
}

#[test]
fn networks_and_windows_that_are_none_are_named_with_their_line() {
    const WHOLE: &str = r#"listen = "127.0.0.1:0"
data = "data"
tls = { certificate = "a", key = "b", client_ca = "c" }
[[network]]
name = "depot"
addresses = ["10.1.0.0/16"]
[[window]]
name = "night"
days = ["friday"]
from = "22:00"
until = "05:00"
clock = "+08:00"
"#;
    let parse = |text: &str| Config::parse(text, std::path::Path::new("claviger.toml"));
    let surroundings = parse(WHOLE).unwrap().surroundings();
    assert_eq!((surroundings.networks.len(), surroundings.windows.len()), (1, 1));
    for (line, right, wrong) in [
        (5, "depot", "elsewhere"),
        (5, "depot", ""),
        (6, "\"10.1.0.0/16\"", ""),
        (6, "10.1.0.0/16", "10.1.0.0/99"),
        (9, "\"friday\"", ""),
        (9, "friday", "freitag"),
        (10, "22:00", "25:00"),
        (12, "+08:00", "Asia/Shanghai"),
        (11, "until", "untill"),
    ] {
        let error = parse(&WHOLE.replace(right, wrong)).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}, ")), "{wrong}: {error}");
    }
    for (name, table) in [("depot", 4..7), ("night", 7..13)] {
        let lines: Vec<&str> = WHOLE.lines().collect();
        let twice = format!("{WHOLE}{}\n", lines[table.start - 1..table.end - 1].join("\n"));
        let error = parse(&twice).unwrap_err().to_string();
        assert!(error.contains(&format!("tables have the name `{name}`")), "{error}");
    }
}

/// Whoever writes the storage key itself into the file does not find it in a log.
#[test]
fn a_key_in_the_place_of_its_file_is_not_shown() {
    const KEY: &str = "00112233445566778899AABBCCDDEEFF";
    for seal in [
        "[seal]\nkey = \"KEY\"",
        "[seal]\n\nkey_file = 0xKEY",
        "seal = { storage = \"KEY\" }",
        "[ seal ]\nkey_hex = [\"KEY\"]",
    ] {
        let whole = "listen = \"127.0.0.1:0\"\ndata = \"data\"\ntls = { certificate = \"a\", key = \"b\", client_ca = \"c\" }\n";
        let text = format!("{whole}{}\n", seal.replace("KEY", KEY));
        let error = Config::parse(&text, std::path::Path::new("claviger.toml")).unwrap_err().to_string();
        assert!(error.contains("is not shown") && !error.contains("00112233"), "{error}");
    }
}

#[test]
fn what_is_for_workers_is_not_for_the_embedded_backend() {
    let error = error("[[backend]]\nname = \"here\"\ndriver = \"software\"\nworkers = 2\n");
    assert!(error.contains("line 4, column 1") && error.contains("`workers`"), "{error}");
}
