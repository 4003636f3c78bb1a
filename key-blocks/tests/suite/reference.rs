//! The independent reference: psec for versions A to D, OpenSSL below the rest, and an SM2 of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use serde_json::Value;

/// The reference, one JSON object a line.
struct Reference {
    _process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

static REFERENCE: LazyLock<Mutex<Reference>> = LazyLock::new(|| {
    let project = super::project();
    let mut process = Command::new(project.join(".venv/bin/python"))
        .arg(project.join("tests/reference/key_blocks.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`./test --setup` installs the reference");
    let (requests, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
    Mutex::new(Reference { _process: process, requests, answers })
});

/// What the reference answers.
pub(crate) fn ask(request: &Value) -> Value {
    let mut reference = REFERENCE.lock().unwrap();
    writeln!(reference.requests, "{request}").unwrap();
    let mut line = String::new();
    reference.answers.read_line(&mut line).unwrap();
    let mut answer: Value = serde_json::from_str(&line).unwrap();
    assert!(!answer["ok"].is_null(), "{request}: {answer}");
    answer["ok"].take()
}

/// The same where the answer is one string.
pub(crate) fn ask_text(request: &Value) -> String {
    ask(request).as_str().unwrap().to_owned()
}
