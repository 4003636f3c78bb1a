//! The vector files of the card schemes, case by case: every one is some profile's known answer, or is run
//! here under a variant of a profile. Files are authoritative: a case that nobody runs fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use claviger_card_schemes::{CardScheme, Schemes};
use serde_json::Value;

/// Files whose cases are the schemes' business, with the cases each must have at least.
const FILES: &[(&str, usize)] = &[
    ("pboc-purse-3des.json", 11),
    ("pboc-purse-sm4.json", 7),
    ("pboc-grey-lock.json", 3),
    ("pboc-secure-messaging.json", 18),
    ("psam-purchase.json", 4),
    ("clearing-tac.json", 7),
    ("perso-keyset.json", 3),
];

fn file(name: &str) -> BTreeMap<String, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = document["cases"].as_array().unwrap().iter();
    cases.map(|case| (case["id"].as_str().unwrap().to_owned(), case.clone())).collect()
}

/// Every string in a case, in upper case.
fn strings(case: &Value, found: &mut BTreeSet<String>) {
    match case {
        Value::String(text) => drop(found.insert(text.to_uppercase())),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(members) => members.values().for_each(|member| strings(member, found)),
        _ => {}
    }
}

/// Cases that a profile runs as it is shipped.
fn covered_by_profiles() -> BTreeSet<String> {
    let schemes = Schemes::shipped().unwrap();
    schemes.iter().flat_map(|scheme| scheme.known_answers().iter().map(|answer| answer.vector.clone())).collect()
}

/// A profile in another variant, with one known answer more; loading it runs that answer.
fn variant(replace: &[(&str, &str)], answer: &str) {
    let mut text = include_str!("../../card-schemes/profiles/pboc.toml").to_owned();
    for (from, to) in replace {
        assert!(text.contains(from), "the profile has no `{from}`");
        text = text.replacen(from, to, 1);
    }
    // The shipped answers are for the shipped parameters.
    let end = text.find("# What the profile must reproduce.").unwrap();
    let text = format!("{}\n[[known_answer]]\n{answer}", &text[..end]);
    if let Err(error) = CardScheme::load(&text) {
        panic!("{error}\n{answer}");
    }
    // The same answer with its last digit changed is refused, so the case was really run.
    let at = text.rfind(|c: char| c.is_ascii_hexdigit()).unwrap();
    let other = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
    let mut wrong = text;
    wrong.replace_range(at..=at, other);
    assert!(CardScheme::load(&wrong).is_err(), "a wrong answer holds: {answer}");
}

fn hex_fen(case: &Value, name: &str) -> u32 {
    u32::from_str_radix(case[name].as_str().unwrap(), 16).unwrap()
}

fn text<'a>(case: &'a Value, name: &str) -> &'a str {
    case[name].as_str().unwrap_or_else(|| panic!("{case} has no {name}"))
}

/// Fields of a purse case, written as a profile writes them.
fn fields(case: &Value) -> String {
    let mut fields = vec![format!("amount = \"{}\"", hex_fen(case, "amount"))];
    for (ours, theirs) in [
        ("rand", "rand"),
        ("offline_sn", "offline_sn"),
        ("online_sn", "online_sn"),
        ("ttc", "ttc"),
        ("txn_type", "txn_type"),
        ("terminal_id", "terminal"),
        ("date", "date"),
        ("time", "time"),
        ("auth_id", "auth_id"),
    ] {
        if let Some(text) = case[theirs].as_str() {
            fields.push(format!("{ours} = \"{text}\""));
        }
    }
    if case["balance_before"].is_string() {
        let before = hex_fen(case, "balance_before");
        fields.push(format!("balance = \"{before}\""));
        fields.push(format!("balance_after = \"{}\"", before + hex_fen(case, "amount")));
    }
    fields.join(", ")
}

fn purse_answer(vector: &str, case: &Value, of: &str, key: &str, expect: &str) -> String {
    let algorithm = if text(case, "alg") == "SM4" { "sm4" } else { "3des" };
    format!(
        "vector = \"{vector}\"\nof = \"{of}\"\nalgorithm = \"{algorithm}\"\nkey = \"{}\"\nlevel = 1\nfields = {{ {} }}\nexpect = {{ {expect} }}\n",
        text(case, key),
        fields(case)
    )
}

/// `mac1_append_auth_id`.
fn authentication_id(vector: &str, case: &Value) {
    let on = [("mac1_append_auth_id = \"none\"", "mac1_append_auth_id = \"composite\"")];
    let expect = format!("mac1 = \"{}\"", text(case, "mac1"));
    variant(&on, &purse_answer(vector, case, "composite", "key", &expect));
}

/// A session key is never given out, so its published value is shown by what it makes: a MAC of the session
/// key itself equals that of the card's key down its session step.
fn session_key(vector: &str, case: &Value) {
    use claviger_hsm_api::{
        Algorithm, Batch, Column, Finish, Input, KeyPath, MacAlgorithm, MacSpec, Message, Padding, Recipe, Secret,
        Step, Truncation,
    };
    let mac = |key: &str, algorithm: Algorithm, steps: Vec<Step>| {
        let key = claviger_hsm_engine::PlainKey { algorithm, secret: Secret::from_hex(key).unwrap() };
        let (padding, truncation) = (Padding::One, Truncation::Left(8));
        let spec = MacSpec { algorithm: MacAlgorithm::CbcMac, second: None, padding, initial: None, truncation };
        let finish = Finish::Mac { spec, message: Message::column(0) };
        let recipe = Recipe::single(KeyPath { slot: 0, algorithm, steps, steps_left: 0 }, finish);
        let batch = Batch::one(vec![Column::one(*b"any message")], 1);
        let outcome =
            claviger_hsm_engine::run(&[&key], &recipe, &batch, &|_, _| Err(claviger_hsm_engine::EngineError::NoStore));
        outcome.unwrap().bytes(0, 0).unwrap().to_vec()
    };
    let input = Input::Constant(hex::decode(text(case, "sk_input")).unwrap());
    let derived = mac(text(case, "dlk"), Algorithm::TripleDes, vec![Step::Session { input }]);
    assert_eq!(derived, mac(text(case, "expected"), Algorithm::Des, Vec::new()), "{vector}");
}

/// The TACs that an SM4 card might make instead.
fn tac_alternatives(vector: &str, case: &Value) {
    let sm4 = |rule: &str| format!("tac_key = \"full\"\ntac_truncation = \"{rule}\"");
    let shipped = sm4("left4");
    let folded = shipped.replace("full", "fold_complement");
    let variants = [
        ("rightmost4", sm4("right4")),
        ("xor_fold_16_to_8_left4", sm4("fold8_left4")),
        ("xor_fold_16_to_4", sm4("fold4")),
        ("sm4_key_is_(L^R)||~(L^R)_left4", folded),
    ];
    let alternatives = case["tac_alternatives"].as_object().unwrap();
    assert_eq!(alternatives.len(), variants.len(), "{vector}");
    for (name, rules) in variants {
        let expect = format!("tac = \"{}\"", alternatives[name].as_str().unwrap());
        variant(&[(&shipped, &rules)], &purse_answer(vector, case, "tac", "dtk", &expect));
    }
}

/// An 8-byte maintenance key is single DES everywhere.
fn eight_byte_key(vector: &str, case: &Value) {
    let des = "[ciphers.des]\nkcv = { fn = \"ecb\", input = \"zero\", take = 3 }\n\n[parameters]";
    let answer = format!(
        "vector = \"{vector}\"\nof = \"command\"\nalgorithm = \"des\"\nkey = \"{}\"\nlevel = 1\nrequest = {{ command = \"block-application\", challenge = \"11223344\" }}\nexpect = {{ mac = \"{}\" }}\n",
        text(case, "key"),
        text(case, "expected_mac")
    );
    variant(&[("[parameters]", des)], &answer);
}

#[test]
fn every_case_is_run_and_none_is_dropped() {
    let mut covered = covered_by_profiles();
    for (name, least) in FILES {
        let cases = file(name);
        assert!(cases.len() >= *least, "{name} has lost cases");
        for (id, case) in &cases {
            let vector = format!("{name}#{id}");
            match id.as_str() {
                "3des-mohurd-mac1-authid" | "sm4-mohurd-mac1-authid" => authentication_id(&vector, case),
                "pub-load-sk" => session_key(&vector, case),
                "des8-app-block" => eight_byte_key(&vector, case),
                _ => {
                    assert!(covered.contains(&vector), "nobody runs {vector}");
                }
            }
            if case["tac_alternatives"].is_object() {
                tac_alternatives(&vector, case);
            }
            covered.insert(vector);
        }
    }
    let known: BTreeSet<String> =
        FILES.iter().flat_map(|(name, _)| file(name).into_keys().map(move |id| format!("{name}#{id}"))).collect();
    let elsewhere = |vector: &&String| !vector.starts_with("pboc-dispersion.json#");
    assert!(covered.iter().filter(elsewhere).all(|vector| known.contains(vector)), "a profile names an unknown case");
}

#[test]
fn known_answers_are_those_of_the_files() {
    let schemes = Schemes::shipped().unwrap();
    let mut files: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for answer in schemes.iter().flat_map(|scheme| scheme.known_answers()) {
        let (name, id) = answer.vector.split_once('#').unwrap();
        let cases = files.entry(name.to_owned()).or_insert_with(|| file(name));
        let case = cases.get(id).unwrap_or_else(|| panic!("{} does not exist", answer.vector));
        let mut there = BTreeSet::new();
        strings(case, &mut there);
        for (what, value) in answer.expect.iter().chain([(&"key".to_owned(), &answer.key)]) {
            // What a file gives in parts (an APDU as its covered part and its MAC) stands side by side in it.
            let given =
                there.contains(value) || there.iter().any(|part| part.len() >= 8 && value.ends_with(part.as_str()));
            let published = answer.vector.contains("#pub-");
            assert!(given || published, "{}: {what} {value} is not in the file", answer.vector);
        }
    }
}

/// What no vector covers: padding that is always added, and a session input of a whole block.
#[test]
fn open_rules_are_parameters() {
    let reference = |request: Value| hex::encode_upper(crate::reference::ask(request));
    let key = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAF";
    let padded = "07112233445566778000000000000000";
    let enciphered = reference(serde_json::json!({"op": "block", "alg": "3des", "key": key, "data": padded}));
    let covered = format!("04D6950014{enciphered}");
    let mac = reference(serde_json::json!({"op": "mac", "alg": "des", "algorithm": 3, "padding": 2, "key": &key[..16],
        "key2": &key[16..], "iv": "1122334400000000", "message": covered}));
    let answer = format!(
        "vector = \"none\"\nof = \"command\"\nalgorithm = \"3des\"\nkey = \"{key}\"\nlevel = 1\nrequest = {{ command = \"update-binary-enciphered\", p1p2 = \"9500\", challenge = \"11223344\", data = \"11223344556677\" }}\nexpect = {{ apdu = \"{covered}{}\" }}\n",
        &mac[..8]
    );
    variant(&[("encryption_padding = \"if_needed\"", "encryption_padding = \"always\"")], &answer);

    let session = reference(
        serde_json::json!({"op": "block", "alg": "sm4", "key": key, "data": "A1B2C3D4012CE240A1B2C3D4012CE240"}),
    );
    let mac1 = reference(
        serde_json::json!({"op": "purse_mac", "alg": "sm4", "session_key": session, "message": "000000C80611223344556620240315083015"}),
    );
    let answer = format!(
        "vector = \"none\"\nof = \"purchase\"\nalgorithm = \"sm4\"\nkey = \"{key}\"\nlevel = 1\nfields = {{ rand = \"A1B2C3D4\", offline_sn = \"012C\", ttc = \"0001E240\", amount = \"200\", txn_type = \"06\", terminal_id = \"112233445566\", date = \"20240315\", time = \"083015\" }}\nexpect = {{ mac1 = \"{mac1}\" }}\n"
    );
    let wide = "types = [\"05\", \"06\"]\nsession_wide = [\"rand\", \"offline_sn\", \"ttc[2..4]\", \"rand\", \"offline_sn\", \"ttc[2..4]\"]";
    variant(&[("types = [\"05\", \"06\"]", wide)], &answer);
}
