//! `claviger backends`.

use std::process::ExitCode;

use clap::Args;
use claviger_client::{Backend, BackendList};

use super::Global;
use super::output::Output;

/// Say how the daemon's backends are, the preferred one first
#[derive(Args)]
#[command(after_help = "Example:\n  claviger --data ./dev --as officer backends")]
pub(super) struct Backends {}

impl Backends {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let BackendList { backends } = global.client()?.get("/v1/backends", &()).await?;
        for backend in &backends {
            output.result(backend, || line(backend));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn line(backend: &Backend) -> String {
    let how = if backend.resting { "resting" } else { "ok" };
    let p95 = backend.p95_ms.map(|p95| format!("  p95 {p95:.2} ms")).unwrap_or_default();
    let workers = if backend.workers.is_empty() { String::new() } else { format!("  workers {:?}", backend.workers) };
    let quarantined = match backend.quarantined.len() {
        0 => String::new(),
        keys => format!("  {keys} keys quarantined"),
    };
    format!("{}  {}  {how}{p95}{workers}{quarantined}", backend.name, backend.place)
}
