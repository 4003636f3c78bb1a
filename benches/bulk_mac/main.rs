//! Bulk MACs and dispersion on each platform against OpenSSL and RustCrypto: processor time a record, and how much
//! of what the core could do at most.
//!
//!     cargo bench --bench bulk_mac
//!     cargo bench --bench bulk_mac -- --workload w1 --rounds 21 --records 8192 --json
//!
//! `keys` is how much of the time the records' keys take alone, `MACs` what their texts take under one key for all; the rest
//! is schedules of the keys and what the two parts save each other. All contenders run in turns, so that what disturbs one
//! disturbs the others; figures are medians, and the spread is the middle half. Every figure is of records whose verdicts
//! were held to those of OpenSSL and RustCrypto before.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

#[path = "../clock/mod.rs"]
mod clock;
mod limit;
mod openssl;
mod psec;
mod rustcrypto;
mod work;

use std::hint::black_box;

use claviger_bulk_mac::{BulkMac, Platform};
use serde_json::json;

use clock::thread_time;
use limit::{cycles_per_ns, operations_per_ns};
use openssl::OpenSsl;
use psec::Psec;
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
            "{:<26} {:<10} {:>9} {:>15} {:>8} {:>10} {:>9} {:>11} {:>7} {:>9} {:>6} {:>6}",
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
            "keys",
            "MACs"
        );
    }
    let cycles_per_ns = cycles_per_ns();
    let mut psec = Psec::start();
    if psec.is_none() {
        eprintln!("psec is not compared: `./test --setup` installs it");
    }
    let known = |shape: &Shape| shape.name.contains(&options.workload);
    assert!(Shape::ALL.iter().any(known), "`{}` is in no workload's name", options.workload);
    for shape in Shape::ALL.into_iter().filter(known) {
        report(measure(shape, &options, psec.as_mut()), &options, cycles_per_ns);
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
            other => panic!("`{other}` is not --workload, --rounds, --records or --json"),
        }
    }
    assert!(options.rounds > 0 && options.records > 0, "there must be rounds and records");
    options
}

/// Fewer records do not fill the lanes by which the limit is counted, and may take another way.
const FULL: usize = 512;

/// Nanoseconds of processor time a record, round by round.
#[derive(Default)]
struct Times {
    whole: Vec<f64>,
    keys: Vec<f64>,
    macs: Vec<f64>,
    /// What the core did at most meanwhile, in operations a nanosecond.
    capacity: Vec<f64>,
}

struct Measured {
    shape: Shape,
    tiers: Vec<(Platform, Times)>,
    openssl: Vec<f64>,
    rustcrypto: Vec<f64>,
    psec: Vec<f64>,
}

fn measure(shape: Shape, options: &Options, mut psec: Option<&mut Psec>) -> Measured {
    let master = *b"\xC4\xD6\x89\x15\x8A\xD9\xFB\x9D\x23\x10\x5B\x91\xCE\x04\x6D\x0E";
    let mut load = Load::new(shape, master, options.records);
    let (mut openssl, mut rustcrypto) = (OpenSsl::new(shape, master), RustCrypto::new(master));
    load.settle(&mut rustcrypto, &mut openssl);
    let mut keys = vec![[0; 16]; options.records];
    let tiers = Platform::available().map(|platform| (platform, Times::default())).collect();
    let mut measured = Measured { shape, tiers, openssl: Vec::new(), rustcrypto: Vec::new(), psec: Vec::new() };
    for _ in 0..options.rounds {
        for (platform, times) in &mut measured.tiers {
            let tier = BulkMac::on(*platform).unwrap();
            times.whole.push(each(options.records, || _ = black_box(load.run(tier, &mut keys))));
            if load.has_parts() {
                times.keys.push(each(options.records, || load.disperse(tier, black_box(&mut keys))));
                times.macs.push(each(options.records, || drop(black_box(load.verify_under_one_key(tier)))));
            }
            times.capacity.extend(operations_per_ns(*platform));
        }
        measured.openssl.push(of_peer(&mut openssl, &load));
        measured.rustcrypto.push(of_peer(&mut rustcrypto, &load));
        measured.psec.extend(psec.as_mut().and_then(|psec| psec.round(shape.name)));
    }
    measured
}

/// Time a record, of a second run: the first brings into the caches what others have driven out of them.
fn each(records: usize, mut work: impl FnMut()) -> f64 {
    work();
    let started = thread_time();
    work();
    (thread_time() - started) / records as f64
}

fn of_peer(peer: &mut impl Peer, load: &Load) -> f64 {
    let records = &load.records[..PEER_RECORDS.min(load.records.len())];
    let mut made = [[0; 16]; PEER_RECORDS];
    each(records.len(), || peer.records(load.shape, black_box(records), black_box(&mut made[..records.len()])))
}

/// One contender's line.
struct Line {
    tier: &'static str,
    /// Quartiles.
    time: [f64; 3],
    of_limit: Option<f64>,
    /// Medians of the parts.
    keys: Option<f64>,
    macs: Option<f64>,
}

impl Line {
    fn of_peer(tier: &'static str, mut times: Vec<f64>) -> Option<Self> {
        let time = quartiles(&mut times)?;
        Some(Self { tier, time, of_limit: None, keys: None, macs: None })
    }

    fn of_tier(shape: Shape, platform: Platform, mut times: Times, full: bool) -> Option<Self> {
        let time = quartiles(&mut times.whole)?;
        let median = |times: &mut Vec<f64>| Some(quartiles(times)?[1]);
        let capacity = median(&mut times.capacity).filter(|_| full);
        Some(Self {
            tier: platform.name(),
            time,
            of_limit: capacity.map(|capacity| shape.operations(platform) / capacity / time[1]),
            keys: median(&mut times.keys),
            macs: median(&mut times.macs),
        })
    }
}

fn report(measured: Measured, options: &Options, cycles_per_ns: Option<f64>) {
    let shape = measured.shape;
    let full = options.records >= FULL;
    let tiers = measured.tiers.into_iter().map(|(platform, times)| Line::of_tier(shape, platform, times, full));
    let peers = [("openssl", measured.openssl), ("rustcrypto", measured.rustcrypto), ("psec", measured.psec)];
    let peers = peers.map(|(name, times)| Line::of_peer(name, times));
    let median_of = |peer: &Option<Line>| peer.as_ref().map(|line| line.time[1]);
    let [openssl, rustcrypto, psec] = peers.each_ref().map(median_of);
    for line in tiers.chain(peers).flatten() {
        let [low, median, high] = line.time;
        let ratio = |peer: Option<f64>| peer.map(|peer| peer / median);
        let percent = |part: Option<f64>| part.map(|part| 100.0 * part / median);
        let (of_limit, of_keys, of_macs) =
            (line.of_limit.map(|part| 100.0 * part), percent(line.keys), percent(line.macs));
        let cycles = cycles_per_ns.map(|cycles| cycles * median);
        if options.json {
            let object = json!({ "workload": shape.name, "tier": line.tier, "ns_per_record": median,
                "ns_low_quartile": low, "ns_high_quartile": high, "million_records_per_second": 1e3 / median,
                "ratio_openssl": ratio(openssl), "ratio_rustcrypto": ratio(rustcrypto), "ratio_psec": ratio(psec),
                "percent_of_limit": of_limit, "percent_keys": of_keys, "percent_macs": of_macs,
                "cycles_per_record": cycles, "records": options.records, "processor": processor() });
            println!("{object}");
            continue;
        }
        let text = |figure: Option<f64>, digits: usize| figure.map_or_else(String::new, |f| format!("{f:.digits$}"));
        println!(
            "{:<26} {:<10} {median:>9.2} {:>15} {:>8} {:>10.2} {:>9} {:>11} {:>7} {:>9} {:>6} {:>6}",
            shape.name,
            line.tier,
            format!("{low:.2}-{high:.2}"),
            text(cycles, 1),
            1e3 / median,
            text(ratio(openssl), 1),
            text(ratio(rustcrypto), 1),
            text(ratio(psec), 0),
            text(of_limit, 0) + if of_limit.is_some() { " %" } else { "" },
            text(of_keys, 0) + if of_keys.is_some() { " %" } else { "" },
            text(of_macs, 0) + if of_macs.is_some() { " %" } else { "" },
        );
    }
}

/// The quartiles of some figures, if there are any.
fn quartiles(figures: &mut [f64]) -> Option<[f64; 3]> {
    figures.sort_by(f64::total_cmp);
    let [low, median, high] = [1, 2, 3].map(|quarter| figures.get(figures.len() * quarter / 4).copied());
    Some([low?, median?, high?])
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
