//! The engine against an independent reference (pycryptodome, OpenSSL, psec) on random inputs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use claviger_card_schemes::Schemes;
use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, KeyPath, MacAlgorithm, MacSpec, Message, Padding, Recipe, Secret, Step,
    Truncation,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The reference, one JSON object a line.
struct Reference {
    _process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

static REFERENCE: LazyLock<Mutex<Reference>> = LazyLock::new(|| {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut process = Command::new(root.join(".venv/bin/python"))
        .arg(root.join("tests/reference/reference.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`./test --setup` installs the reference");
    let (requests, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
    Mutex::new(Reference { _process: process, requests, answers })
});

fn ask(request: Value) -> Vec<u8> {
    let mut reference = REFERENCE.lock().unwrap();
    writeln!(reference.requests, "{request}").unwrap();
    let mut line = String::new();
    reference.answers.read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    hex::decode(answer["ok"].as_str().unwrap_or_else(|| panic!("{request}: {answer}"))).unwrap()
}

fn upper(bytes: impl AsRef<[u8]>) -> String {
    hex::encode_upper(bytes)
}

fn engine(algorithm: Algorithm, key: &[u8], recipe: &Recipe, columns: Vec<Column>) -> Vec<u8> {
    let key = PlainKey { algorithm, secret: Secret::copy_of(key) };
    let outcome = run(&[&key], recipe, &Batch::one(columns, 1), &|_, _| Err(EngineError::NoStore)).unwrap();
    outcome.bytes(0, 0).unwrap().to_vec()
}

fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Des => "des",
        Algorithm::TripleDes => "3des",
        Algorithm::Sm4 => "sm4",
        _ => "aes",
    }
}

fn mac_recipe(steps: Vec<Step>, algorithm: Algorithm, mac: MacAlgorithm, padding: Padding, len: usize) -> Recipe {
    let spec = MacSpec { algorithm: mac, second: None, padding, initial: None, truncation: Truncation::Left(len) };
    let message = Message::column(steps.iter().filter(|step| !matches!(step, Step::FoldHalves { .. })).count());
    Recipe::single(KeyPath { slot: 0, algorithm, steps, steps_left: 0 }, Finish::Mac { spec, message })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generic_macs_agree(key: [u8; 16], message in proptest::collection::vec(any::<u8>(), 0..80), padding in 1..=3usize) {
        let paddings = [Padding::Zeros, Padding::One, Padding::Length];
        for algorithm in [Algorithm::Des, Algorithm::TripleDes, Algorithm::Sm4, Algorithm::Aes128] {
            let key = &key[..algorithm.key_len()];
            let block = algorithm.block_len().unwrap();
            for (number, mac) in [(1, MacAlgorithm::CbcMac), (5, MacAlgorithm::Cmac)] {
                let found = engine(algorithm, key, &mac_recipe(Vec::new(), algorithm, mac, paddings[padding - 1], block), vec![Column::one(message.clone())]);
                let request = json!({"op": "mac", "alg": word(algorithm), "algorithm": number, "padding": padding, "key": upper(key), "message": upper(&message)});
                prop_assert_eq!(found, ask(request));
            }
        }
        let found = engine(Algorithm::TripleDes, &key, &mac_recipe(Vec::new(), Algorithm::TripleDes, MacAlgorithm::Retail, paddings[padding - 1], 8), vec![Column::one(message.clone())]);
        let request = json!({"op": "mac", "alg": "des", "algorithm": 3, "padding": padding, "key": upper(&key[..8]), "key2": upper(&key[8..]), "message": upper(&message)});
        prop_assert_eq!(found, ask(request));
    }

    #[test]
    fn tacs_agree_from_the_root_key_down(key: [u8; 16], city in 0..10_000u32, asn: u64, message: [u8; 22]) {
        let schemes = Schemes::shipped().unwrap();
        let scheme = schemes.find("cjt166").unwrap();
        let city = hex::decode(format!("{city:04}FF0000000000")).unwrap();
        let asn = asn.to_be_bytes();
        for (algorithm, rule) in [(Algorithm::TripleDes, "xor_halves"), (Algorithm::Sm4, "full")] {
            let recipe = scheme.tac_recipe(algorithm, 0).unwrap();
            let Finish::VerifyMac { spec, message: covered, .. } = &recipe.legs[0].finish else { panic!("a TAC is verified") };
            let recipe = Recipe::single(recipe.legs[0].path.clone(), Finish::Mac { spec: spec.clone(), message: covered.clone() });
            let columns = [&city[..], &asn, &message].map(Column::one).to_vec();
            let found = engine(algorithm, &key, &recipe, columns);
            let card_key = ask(json!({"op": "disperse", "alg": word(algorithm), "rule": "f_notf", "parity": "none", "key": upper(key), "factors": [upper(&city), upper(asn)]}));
            let tac = json!({"op": "tac", "alg": word(algorithm), "key_rule": rule, "truncate": "left4", "card_key": upper(card_key), "message": upper(message)});
            prop_assert_eq!(found, ask(tac));
        }
    }

    #[test]
    fn session_macs_agree(key: [u8; 16], session: [u8; 8], message in proptest::collection::vec(any::<u8>(), 1..40)) {
        for algorithm in [Algorithm::TripleDes, Algorithm::Sm4] {
            let steps = vec![Step::Session { input: claviger_hsm_api::Input::Column(0) }];
            let recipe = mac_recipe(steps, algorithm, MacAlgorithm::CbcMac, Padding::One, 4);
            let found = engine(algorithm, &key, &recipe, vec![Column::one(session), Column::one(message.clone())]);
            let session_key = ask(json!({"op": "session", "alg": word(algorithm), "key": upper(key), "input": upper(session)}));
            prop_assert_eq!(found, ask(json!({"op": "purse_mac", "alg": word(algorithm), "session_key": upper(session_key), "message": upper(&message)})));
        }
    }
}
