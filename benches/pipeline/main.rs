//! Clearing's day, by format and size: a file to verdicts on one thread and on two, with what each step costs, and the
//! same through the command and a daemon over mutual TLS, with the peak memory of both.
//!
//!     cargo bench --bench pipeline
//!     cargo bench --bench pipeline -- --records 1000000,10000000 --formats csv,parquet --json
//!     cargo bench --bench pipeline -- --only in-process

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

#[path = "../clock/mod.rs"]
mod clock;
mod files;
mod in_process;
mod through_daemon;

use std::path::Path;
use std::time::Instant;

use in_process::{Day, Stage};

struct Options {
    records: Vec<usize>,
    formats: Vec<String>,
    only: Option<String>,
    json: bool,
}

fn main() {
    let options = options();
    let folder = tempfile::tempdir().unwrap();
    let (header, rows) = files::day();
    for records in &options.records {
        for format in &options.formats {
            let file = folder.path().join(format!("day.{format}"));
            files::write(&file, format, &header, &rows, *records);
            if options.only.as_deref() != Some("daemon") {
                steps(&file, format, *records, options.json);
                let half = folder.path().join(format!("half.{format}"));
                files::write(&half, format, &header, &rows, records / 2);
                threads(&file, &half, format, *records, options.json);
                std::fs::remove_file(&half).unwrap();
            }
            if options.only.as_deref() != Some("in-process") {
                through_daemon(folder.path(), &file, format, *records, options.json);
            }
            std::fs::remove_file(&file).unwrap();
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        records: vec![10_000, 1_000_000, 10_000_000, 20_000_000],
        formats: ["csv", "text", "binary", "parquet", "arrow"].map(str::to_owned).to_vec(),
        only: None,
        json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect("an option that takes a value has one");
        match argument.as_str() {
            "--records" => options.records = value().split(',').map(|number| number.parse().unwrap()).collect(),
            "--formats" => options.formats = value().split(',').map(str::to_owned).collect(),
            "--only" => options.only = Some(value()),
            "--json" => options.json = true,
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is not --records, --formats, --only (daemon or in-process) or --json"),
        }
    }
    options
}

/// What each step of a file's way costs, with those before it: the best of three runs, since the file is warm then.
fn steps(file: &Path, format: &str, records: usize, json: bool) {
    let day = Day::load();
    for (stage, name) in Stage::ALL {
        let spent = (0..3).map(|_| day.time(file, format, stage)).fold(f64::MAX, f64::min) / records as f64;
        let rate = (1e9 / spent) as u64;
        if json {
            let object = serde_json::json!({ "format": format, "records": records, "step": name,
                "ns_per_record": spent, "records_per_second": rate });
            println!("{object}");
        } else {
            println!("{format:<8} {records:>12} {name:<24} {spent:>8.1} ns/record {rate:>14} records/s/core");
        }
    }
}

/// The file on one thread, and as many records on two, of which each has half, by the clock on the wall.
fn threads(file: &Path, half: &Path, format: &str, records: usize, json: bool) {
    for (threads, file) in [(1, file), (2, half)] {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| Day::load().time(file, format, Stage::Lines));
            }
        });
        let rate = (records as f64 / begun.elapsed().as_secs_f64()) as u64;
        if json {
            let object = serde_json::json!({ "format": format, "records": records, "threads": threads,
                "records_per_second": rate });
            println!("{object}");
        } else {
            println!("{format:<8} {records:>12} {threads} thread(s) {rate:>14} records/s");
        }
    }
}

fn through_daemon(folder: &Path, file: &Path, format: &str, records: usize, json: bool) {
    let run = through_daemon::measure(folder, file, format);
    let rate = (records as f64 / run.seconds) as u64;
    if json {
        let object = serde_json::json!({ "format": format, "records": records, "records_per_second": rate,
            "seconds": run.seconds, "cli_peak_kib": run.cli, "daemon_peak_kib": run.daemon });
        println!("{object}");
    } else {
        println!(
            "{format:<8} {records:>12} through the daemon {rate:>14} records/s, peak {} KiB here, {} KiB there",
            run.cli, run.daemon
        );
    }
}
