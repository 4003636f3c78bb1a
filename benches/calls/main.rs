//! Single calls and small batches to a daemon over mutual TLS, beside the emptiest handler of the same stack: calls a
//! second, calls for each second of the daemon's processor time, and how long they take.
//!
//!     cargo bench --bench calls
//!     cargo bench --bench calls -- --seconds 10 --callers 8 --json
//!     cargo bench --bench calls -- --only "one MAC"
//!
//! Callers run on the same machine, so calls a second are of both; the daemon's own time is what compares.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::{Client, Method};
use serde_json::{Value, json};

const DAY: &str = "tests/days/cjt166-3des";
/// Calls under way at once, unless another number is given.
const CALLERS: usize = 32;
/// Ticks of `/proc` in a second.
const TICKS: f64 = 100.0;

struct Call {
    name: &'static str,
    method: Method,
    path: &'static str,
    body: Value,
    records: usize,
}

fn main() {
    let (mut seconds, mut callers, mut json, mut only) = (5, CALLERS, false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => seconds = arguments.next().unwrap().parse().unwrap(),
            "--callers" => callers = arguments.next().unwrap().parse().unwrap(),
            "--json" => json = true,
            "--only" => only = arguments.next(),
            "--bench" => {}
            other => panic!("`{other}` is not --seconds, --callers, --only or --json"),
        }
    }
    rustls::crypto::ring::default_provider().install_default().expect("nobody else has");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("dev");
    let mut daemon = start(&data);
    make_keys(&data);
    let (median, worst) = sync_times(folder.path());
    if !json {
        println!("putting 4 KiB on this disk takes {median:.2} ms, one time in a hundred {worst:.2} ms");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for version in ["HTTP/2", "HTTP/1.1"] {
        let client = client(&data, version == "HTTP/2");
        let mut empty = 0.0;
        let asked_for = |call: &Call| call.records == 0 || only.as_ref().is_none_or(|only| call.name == only);
        for call in calls().into_iter().filter(asked_for) {
            let run = runtime.block_on(measure(&client, &data, call, (callers, seconds), daemon.id()));
            if empty == 0.0 {
                empty = run.per_core;
            }
            run.report(version, run.per_core / empty, (median, worst), json);
        }
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// What is called, the emptiest first.
fn calls() -> Vec<Call> {
    let key = json!({ "tenant": "demo", "scheme": "generic", "role": "CMAC", "version": "01", "algorithm": "aes128" });
    let mac = json!({ "key": key, "items": [{ "message": "6BC1BEE22E409F96E93D7E117393172A", "mac": "00000000" }] });
    let verify = "/v1/transactions/verify?tenant=demo&scheme=cjt166";
    let records = |count: usize| json!({ "records": records(count) });
    vec![
        Call { name: "nothing", method: Method::GET, path: "/healthz", body: Value::Null, records: 0 },
        Call { name: "one MAC", method: Method::POST, path: "/v1/mac/verify", body: mac, records: 1 },
        Call { name: "one TAC", method: Method::POST, path: verify, body: records(1), records: 1 },
        Call { name: "16 TACs", method: Method::POST, path: verify, body: records(16), records: 16 },
    ]
}

fn records(count: usize) -> Vec<Value> {
    let day = std::fs::read_to_string(format!("{}/{DAY}-day.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut lines = day.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let record =
        |line: &str| header.iter().zip(line.split(',')).map(|(name, cell)| ((*name).to_owned(), json!(cell))).collect();
    lines.take(count).map(record).map(Value::Object).collect()
}

struct Run {
    name: &'static str,
    per_second: f64,
    /// For each second of the daemon's processor time.
    per_core: f64,
    records: usize,
    /// Milliseconds.
    median: f64,
    p99: f64,
}

impl Run {
    fn report(&self, version: &str, of_empty: f64, (sync, sync_p99): (f64, f64), json: bool) {
        let Self { name, per_second, per_core, records, median, p99 } = self;
        let records_per_core = per_core * *records as f64;
        if json {
            let object = json!({ "version": version, "call": name, "calls_per_second": per_second,
                "calls_per_core_second": per_core, "of_empty": of_empty, "records_per_core_second": records_per_core,
                "p50_ms": median, "p99_ms": p99, "sync_p50_ms": sync, "sync_p99_ms": sync_p99 });
            println!("{object}");
        } else {
            println!(
                "{version:<9} {name:<8} {per_second:>8.0} calls/s {per_core:>8.0} /s/core ({:>4.0} % of nothing) \
                 {records_per_core:>9.0} records/s/core  p50 {median:>6.2} ms  p99 {p99:>6.2} ms",
                100.0 * of_empty
            );
        }
    }
}

async fn measure(client: &Client, data: &Path, call: Call, (callers, seconds): (usize, u64), daemon: u32) -> Run {
    let url = format!("{}{}", url(data), call.path);
    let body: Arc<Vec<u8>> =
        Arc::new(if call.body.is_null() { Vec::new() } else { serde_json::to_vec(&call.body).unwrap() });
    let begun = Instant::now();
    let spent = processor_time(daemon);
    let until = begun + Duration::from_secs(seconds);
    let calling = (0..callers).map(|_| {
        let (client, url, body, method) = (client.clone(), url.clone(), Arc::clone(&body), call.method.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let request = client.request(method.clone(), &url).header("content-type", "application/json");
                let answer = request.body(body.to_vec()).send().await.unwrap();
                assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
                answer.bytes().await.unwrap();
                times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
            times
        })
    });
    let mut times = Vec::new();
    for caller in calling.collect::<Vec<_>>() {
        times.extend(caller.await.unwrap());
    }
    let (wall, spent) = (begun.elapsed().as_secs_f64(), processor_time(daemon) - spent);
    times.sort_by(f64::total_cmp);
    let calls = times.len() as f64;
    Run {
        name: call.name,
        per_second: calls / wall,
        per_core: calls / spent,
        records: call.records,
        median: times[times.len() / 2],
        p99: times[times.len() * 99 / 100],
    }
}

/// Seconds of processor time that a process has had.
fn processor_time(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / TICKS
}

/// How long it takes to put a little on the disk, in milliseconds: the median, and the ninety-ninth in a hundred.
fn sync_times(folder: &Path) -> (f64, f64) {
    use std::io::Write;
    let mut file = tempfile::tempfile_in(folder).unwrap();
    let mut time = || {
        let begun = Instant::now();
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = (0..300).map(|_| time()).collect();
    times.sort_by(f64::total_cmp);
    (times[150], times[297])
}

fn url(data: &Path) -> String {
    let address: Value = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
    address["url"].as_str().unwrap().to_owned()
}

fn client(data: &Path, http2: bool) -> Client {
    let read = |name: &str| std::fs::read(data.join(name)).unwrap();
    let identity = [read("clients/clearing.pem"), read("clients/clearing-key.pem")].concat();
    let builder = Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&read("ca.pem")).unwrap()])
        .identity(reqwest::Identity::from_pem(&identity).unwrap())
        .no_proxy();
    if http2 { builder.http2_prior_knowledge() } else { builder.http1_only() }.build().unwrap()
}

fn start(data: &Path) -> Child {
    let daemon = claviger(&["dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]).spawn().unwrap();
    let begun = Instant::now();
    while !data.join("dev.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the daemon did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    daemon
}

fn make_keys(data: &Path) {
    for (scheme, role, algorithm) in [("generic", "CMAC", "aes128"), ("cjt166", "DTK", "3des")] {
        let at = [
            "--data",
            data.to_str().expect("a name in UTF-8"),
            "--as",
            "officer",
            "keys",
            "generate",
            "--tenant",
            "demo",
        ];
        let key = ["--scheme", scheme, "--role", role, "--version", "01", "--algorithm", algorithm];
        assert!(claviger(&[&at[..], &key[..]].concat()).status().unwrap().success(), "{role} was not made");
    }
}

fn claviger(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
