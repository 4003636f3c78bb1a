//! The Python library psec in a process of its own, which is asked for a round when it is its turn.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The workloads that it knows, as `psec_peer.py` names them.
const KNOWN: [&str; 4] = ["w1-3des-tac", "w4-retail-mac", "3des-fixed-key-mac", "3des-dispersion"];

pub(crate) struct Psec {
    process: Child,
    ask: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Psec {
    /// If `./test --setup` has installed it.
    pub(crate) fn start() -> Option<Self> {
        let root = env!("CARGO_MANIFEST_DIR");
        let mut python = Command::new(format!("{root}/.venv/bin/python"));
        python.arg(format!("{root}/benches/bulk_mac/psec_peer.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        // What it says of ciphers that are old is known.
        python.stderr(Stdio::null());
        let mut process = python.spawn().ok()?;
        let (ask, answers) = (process.stdin.take(), BufReader::new(process.stdout.take()?));
        Some(Self { process, ask, answers })
    }

    /// Nanoseconds of processor time a record, if it knows the workload.
    pub(crate) fn round(&mut self, workload: &str) -> Option<f64> {
        if !KNOWN.contains(&workload) {
            return None;
        }
        writeln!(self.ask.as_mut()?, "{workload}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        answer.trim().parse().ok()
    }
}

impl Drop for Psec {
    fn drop(&mut self) {
        // It ends when nobody asks any more.
        self.ask = None;
        let _ = self.process.wait();
    }
}
