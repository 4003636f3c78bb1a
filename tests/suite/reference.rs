//! The engine against an independent reference (pycryptodome, OpenSSL, psec) on random inputs.

mod cards;
mod ciphers;
mod keys;
mod macs;
mod signatures;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use claviger_hsm_api::{
    Algorithm, Batch, Column, Finish, KeyPath, MacAlgorithm, MacSpec, Message, Outcome, Padding, Recipe, Secret, Step,
    Truncation,
};
use claviger_hsm_engine::{EngineError, PlainKey, run};
use proptest::prelude::ProptestConfig;
use serde_json::Value;

/// The reference, one JSON object a line.
struct Reference {
    _process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

static REFERENCE: LazyLock<Mutex<Reference>> = LazyLock::new(|| {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut process = Command::new(root.join(".venv/bin/python"))
        .arg(root.join("tests/reference/key_blocks.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`./test --setup` installs the reference");
    let (requests, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
    Mutex::new(Reference { _process: process, requests, answers })
});

/// What the reference answers, or why it does not.
fn reply(request: &Value) -> Result<Value, String> {
    let mut reference = REFERENCE.lock().unwrap();
    writeln!(reference.requests, "{request}").unwrap();
    let mut line = String::new();
    reference.answers.read_line(&mut line).unwrap();
    let mut answer: Value = serde_json::from_str(&line).unwrap();
    if answer["ok"].is_null() { Err(answer["error"].to_string()) } else { Ok(answer["ok"].take()) }
}

/// What the reference must answer with.
pub(crate) fn ask_object(request: &Value) -> Value {
    reply(request).unwrap_or_else(|error| panic!("{request}: {error}"))
}

/// Text that it must answer with.
pub(crate) fn ask_for(request: &Value) -> String {
    ask_object(request).as_str().unwrap().to_owned()
}

/// Bytes that the reference must answer with.
pub(crate) fn ask(request: Value) -> Vec<u8> {
    hex::decode(ask_for(&request)).unwrap()
}

fn upper(bytes: impl AsRef<[u8]>) -> String {
    hex::encode_upper(bytes)
}

/// One row, each key in a slot of its own.
fn outcome(keys: &[(Algorithm, &[u8])], recipe: &Recipe, columns: Vec<Column>) -> Result<Outcome, EngineError> {
    let keys: Vec<PlainKey> =
        keys.iter().map(|(algorithm, key)| PlainKey { algorithm: *algorithm, secret: Secret::copy_of(key) }).collect();
    let keys: Vec<&PlainKey> = keys.iter().collect();
    run(&keys, recipe, &Batch::one(columns, keys.len() as u16), &|_, _| Err(EngineError::NoStore))
}

/// The bytes that one row under one key must give.
fn engine(algorithm: Algorithm, key: &[u8], recipe: &Recipe, columns: Vec<Column>) -> Vec<u8> {
    outcome(&[(algorithm, key)], recipe, columns).unwrap().bytes(0, 0).unwrap().to_vec()
}

fn word(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Des => "des",
        Algorithm::TripleDes | Algorithm::TripleDes3 => "3des",
        Algorithm::Sm4 => "sm4",
        _ => "aes",
    }
}

/// The stored key of a slot.
fn bare(slot: usize, algorithm: Algorithm) -> KeyPath {
    KeyPath { slot, algorithm, steps: Vec::new(), steps_left: 0 }
}

fn mac_recipe(steps: Vec<Step>, algorithm: Algorithm, mac: MacAlgorithm, padding: Padding, len: usize) -> Recipe {
    let spec = MacSpec { algorithm: mac, second: None, padding, initial: None, truncation: Truncation::Left(len) };
    let message = Message::column(steps.iter().filter(|step| !matches!(step, Step::FoldHalves { .. })).count());
    Recipe::single(KeyPath { slot: 0, algorithm, steps, steps_left: 0 }, Finish::Mac { spec, message })
}

/// That many random cases. Nothing is kept of a failure but what it prints.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
