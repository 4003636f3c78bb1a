//! Bulk MACs and dispersion on each platform against OpenSSL and RustCrypto: processor time a record, and how much
//! of what the core could do at most.
//!
//!     cargo bench --bench bulk_mac
//!     cargo bench --bench bulk_mac -- --workload w1 --rounds 21 --records 8192 --json
//!
//! `keys` is how much of the time the cards' keys alone take, the rest is the MACs. All are interleaved in one process, so that what disturbs one disturbs the others; figures are medians, and the
//! spread is the middle half. Every figure is of records whose verdicts were held to those of both peers before.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

#[path = "../clock/mod.rs"]
mod clock;
mod limit;
mod openssl;
mod rustcrypto;
mod work;

use std::hint::black_box;

use claviger_bulk_mac::{BulkMac, Platform};
use serde_json::json;

use clock::thread_time;
use limit::{cycles_per_ns, operations_per_ns};
use openssl::OpenSsl;
use rustcrypto::RustCrypto;
use work::{Load, Peer, Shape};

/// Records that a peer does in a round: they are slow, and their time does not depend on the batch.
const PEER_RECORDS: usize = 512;

struct Options {
    workload: String,
    rounds: usize,
    records: usize,
    json: bool,
}

fn main() {
    let options = options();
    if !options.json {
        println!("{}, {} records, {} rounds", processor(), options.records, options.rounds);
        println!(
            "{:<26} {:<10} {:>9} {:>15} {:>8} {:>10} {:>9} {:>11} {:>7} {:>9} {:>6}",
            "workload",
            "tier",
            "ns/record",
            "middle half",
            "cycles",
            "M rec/s",
            "x OpenSSL",
            "x RustCrypto",
            "x psec",
            "of limit",
            "keys"
        );
    }
    let peers = Peers { cycles_per_ns: cycles_per_ns(), psec: psec() };
    for shape in Shape::ALL.into_iter().filter(|shape| shape.name().contains(&options.workload)) {
        measure(shape, &options, &peers);
    }
}

fn options() -> Options {
    let mut options = Options { workload: String::new(), rounds: 21, records: 8192, json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("an option that takes a value has one");
        match argument.as_str() {
            "--workload" => options.workload = value(),
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--records" => options.records = value().parse().expect("a number of records"),
            "--json" => options.json = true,
            // What `cargo bench` itself adds.
            "--bench" => {}
            other => panic!("`{other}` is no option"),
        }
    }
    options
}

/// What is measured once for all workloads.
struct Peers {
    cycles_per_ns: Option<f64>,
    /// Nanoseconds a record of the Python library, of the workloads that it knows.
    psec: serde_json::Value,
}

/// psec in a process of its own, if `./test --setup` has installed it.
fn psec() -> serde_json::Value {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut python = std::process::Command::new(format!("{root}/.venv/bin/python"));
    let output = python.arg(format!("{root}/benches/bulk_mac/psec_peer.py")).output();
    output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default()
}

/// Fewer records do not fill the lanes by which the limit is counted, and may take another way.
const FULL: usize = 512;

fn measure(shape: Shape, options: &Options, peers: &Peers) {
    let master = *b"\xC4\xD6\x89\x15\x8A\xD9\xFB\x9D\x23\x10\x5B\x91\xCE\x04\x6D\x0E";
    let mut load = Load::new(shape, master, options.records);
    let (mut openssl, mut rustcrypto) = (OpenSsl::new(shape, master), RustCrypto::new(master));
    load.settle(&mut rustcrypto, &mut openssl);
    let tiers: Vec<BulkMac> = Platform::available().map(|platform| BulkMac::on(platform).unwrap()).collect();
    let mut keys = vec![[0; 16]; options.records];
    let mut times = vec![Vec::new(); tiers.len() + 2];
    let mut capacity = vec![Vec::new(); tiers.len()];
    let mut parts = vec![Vec::new(); tiers.len()];
    for _ in 0..options.rounds {
        for (number, tier) in tiers.iter().enumerate() {
            let started = thread_time();
            black_box(load.run(*tier, &mut keys));
            times[number].push((thread_time() - started) / options.records as f64);
            if load.has_parts() {
                let started = thread_time();
                load.disperse(*tier, &mut keys);
                black_box(&keys);
                parts[number].push((thread_time() - started) / options.records as f64);
            }
            capacity[number].extend(operations_per_ns(tier.platform()));
        }
        times[tiers.len()].push(of_peer(&mut openssl, &load));
        times[tiers.len() + 1].push(of_peer(&mut rustcrypto, &load));
    }
    let [.., openssl, rustcrypto] = times.iter_mut().map(|times| quartiles(times)).collect::<Vec<_>>()[..] else {
        return;
    };
    let ours = tiers.iter().zip(&mut times).zip(&mut capacity).zip(&mut parts);
    let ours = ours.map(|(((tier, times), capacity), part)| {
        let limit = shape.operations(tier.platform()) / quartiles(capacity)[1];
        let (time, part) = (quartiles(times), (!part.is_empty()).then(|| quartiles(part)[1]));
        let of_keys = part.map(|part| 100.0 * part / time[1]);
        let limit = (!capacity.is_empty() && options.records >= FULL).then_some(limit);
        (tier.platform().name(), time, limit, of_keys)
    });
    for (tier, time, limit, of_keys) in
        ours.chain([("openssl", openssl, None, None), ("rustcrypto", rustcrypto, None, None)])
    {
        let [low, median, high] = time;
        let percent = limit.map(|limit| 100.0 * limit / median);
        let (against_openssl, against_rustcrypto) = (openssl[1] / median, rustcrypto[1] / median);
        let cycles = peers.cycles_per_ns.map(|cycles| cycles * median);
        let against_psec = peers.psec[shape.name()].as_f64().map(|psec| psec / median);
        if options.json {
            let object = json!({ "workload": shape.name(), "tier": tier, "ns_per_record": median,
                "ns_low_quartile": low, "ns_high_quartile": high, "million_records_per_second": 1e3 / median,
                "ratio_openssl": against_openssl, "ratio_rustcrypto": against_rustcrypto,
                "percent_of_limit": percent, "percent_dispersion": of_keys, "cycles_per_record": cycles, "ratio_psec": against_psec, "records": options.records, "processor": processor() });
            println!("{object}");
        } else {
            let percent = percent.map_or_else(String::new, |percent| format!("{percent:.0} %"));
            let cycles = cycles.map_or_else(String::new, |cycles| format!("{cycles:.1}"));
            let of_keys = of_keys.map_or_else(String::new, |percent| format!("{percent:.0} %"));
            let against_psec = against_psec.map_or_else(String::new, |ratio| format!("{ratio:.0}"));
            println!(
                "{:<26} {tier:<10} {median:>9.2} {:>15} {cycles:>8} {:>10.2} {against_openssl:>9.1} {against_rustcrypto:>11.1} \
                 {against_psec:>7} {percent:>9} {of_keys:>6}",
                shape.name(),
                format!("{low:.2}-{high:.2}"),
                1e3 / median
            );
        }
    }
}

/// Nanoseconds a record.
fn of_peer(peer: &mut impl Peer, load: &Load) -> f64 {
    let records = &load.records[..PEER_RECORDS.min(load.records.len())];
    let started = thread_time();
    for record in records {
        black_box(peer.record(load.shape, black_box(record)));
    }
    (thread_time() - started) / records.len() as f64
}

/// The quartiles of some figures.
fn quartiles(figures: &mut [f64]) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| figures.get(figures.len() * quarter / 4).copied().unwrap_or(f64::NAN))
}

/// The processor's name, as `lscpu` gives it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let of = |name| field(name).unwrap_or_else(|| "unknown".to_owned());
    format!("{} (family {}, model {})", of("model name"), of("cpu family"), of("model\t"))
}
