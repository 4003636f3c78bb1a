//! Clearing's day through the CLI and a daemon over mutual TLS: records a second and peak memory, by format
//! and size.
//!
//!     cargo bench --bench pipeline
//!     cargo bench --bench pipeline -- --records 1000000,10000000 --formats csv,parquet --json

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::builder::StringBuilder;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

const DAY: &str = "tests/days/cjt166-3des";
/// Width of each column in the shipped layout of packed binary.
const WIDTHS: [usize; 15] = [16, 2, 8, 8, 1, 4, 4, 2, 6, 4, 4, 3, 1, 1, 4];

struct Options {
    records: Vec<usize>,
    formats: Vec<String>,
    json: bool,
}

fn main() {
    let options = options();
    let folder = tempfile::tempdir().unwrap();
    let (header, rows) = day();
    if !options.json {
        println!("{:<8} {:>12} {:>14} {:>12} {:>14}", "format", "records", "records/s", "CLI peak", "daemon peak");
    }
    for records in &options.records {
        for format in &options.formats {
            let file = folder.path().join(format!("day.{format}"));
            write(&file, format, &header, &rows, *records);
            let run = measure(folder.path(), &file, format);
            std::fs::remove_file(&file).unwrap();
            let rate = (*records as f64 / run.seconds) as u64;
            if options.json {
                let object = serde_json::json!({ "format": format, "records": records, "records_per_second": rate,
                    "seconds": run.seconds, "cli_peak_kib": run.cli, "daemon_peak_kib": run.daemon });
                println!("{object}");
            } else {
                println!("{format:<8} {records:>12} {rate:>14} {:>8} KiB {:>10} KiB", run.cli, run.daemon);
            }
        }
    }
}

fn options() -> Options {
    let mut options = Options {
        records: vec![1_000_000, 4_000_000],
        formats: ["csv", "binary", "parquet", "arrow"].map(str::to_owned).to_vec(),
        json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut list = || arguments.next().expect("a list, with commas between");
        match argument.as_str() {
            "--records" => options.records = list().split(',').map(|number| number.parse().unwrap()).collect(),
            "--formats" => options.formats = list().split(',').map(str::to_owned).collect(),
            "--json" => options.json = true,
            // Cargo says so to every benchmark.
            "--bench" => {}
            other => panic!("`{other}` is not --records, --formats or --json"),
        }
    }
    options
}

/// The header and the valid records of a day, cell by cell.
fn day() -> (String, Vec<Vec<String>>) {
    let read = |end: &str| std::fs::read_to_string(format!("{}/{DAY}-{end}.csv", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (day, truth) = (read("day"), read("truth"));
    let header = day.lines().next().unwrap().to_owned();
    let valid = day.lines().zip(truth.lines()).skip(1).filter(|(_, truth)| truth.ends_with(",valid,"));
    (header, valid.map(|(line, _)| line.split(',').map(str::to_owned).collect()).collect())
}

fn write(path: &Path, format: &str, header: &str, rows: &[Vec<String>], records: usize) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    let cycled = rows.iter().cycle().take(records);
    match format {
        "csv" => {
            writeln!(file, "{header}").unwrap();
            cycled.for_each(|row| writeln!(file, "{}", row.join(",")).unwrap());
        }
        "binary" => cycled.for_each(|row| file.write_all(&packed(row)).unwrap()),
        "parquet" => {
            let mut writer = ArrowWriter::try_new(file, Arc::new(schema(header)), None).unwrap();
            batches(header, rows, records, |batch| writer.write(&batch).unwrap());
            writer.close().unwrap();
        }
        "arrow" => {
            let mut writer = StreamWriter::try_new(file, &schema(header)).unwrap();
            batches(header, rows, records, |batch| writer.write(&batch).unwrap());
            writer.finish().unwrap();
        }
        other => panic!("`{other}` is not csv, binary, parquet or arrow"),
    }
}

fn packed(row: &[String]) -> Vec<u8> {
    let mut record = format!("{:<16}", row[0]).into_bytes();
    for (cell, width) in row.iter().zip(WIDTHS).skip(1) {
        match cell.parse::<u32>() {
            _ if cell.is_empty() => record.extend(vec![0xFF; width]),
            // Amounts are the only decimal columns; their text has no fixed length.
            Ok(fen) if width == 4 && cell.len() < 8 => record.extend(fen.to_be_bytes()),
            _ => record.extend(hex::decode(cell).unwrap()),
        }
    }
    record
}

fn schema(header: &str) -> Schema {
    Schema::new(header.split(',').map(|name| Field::new(name, DataType::Utf8, true)).collect::<Vec<_>>())
}

fn batches(header: &str, rows: &[Vec<String>], records: usize, mut each: impl FnMut(RecordBatch)) {
    let schema = Arc::new(schema(header));
    let columns = (0..schema.fields().len()).map(|at| {
        let mut cells = StringBuilder::new();
        rows.iter().for_each(|row| cells.append_option(Some(&row[at]).filter(|cell| !cell.is_empty())));
        Arc::new(cells.finish()) as ArrayRef
    });
    let whole = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
    let mut left = records;
    while left > 0 {
        let rows = left.min(whole.num_rows());
        each(whole.slice(0, rows));
        left -= rows;
    }
}

struct Run {
    seconds: f64,
    cli: u64,
    daemon: u64,
}

/// Verifies the file with a daemon of its own.
fn measure(folder: &Path, file: &Path, format: &str) -> Run {
    let data = folder.join("dev");
    let _ = std::fs::remove_dir_all(&data);
    let mut daemon = claviger(&["dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]).spawn().unwrap();
    let begun = Instant::now();
    while !data.join("dev.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the daemon did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    import_key(&data);
    let out = folder.join("verdicts.csv");
    let mut verify = as_name(&data, "clearing");
    verify.args(["transactions", "verify", file.to_str().unwrap(), "--tenant", "demo", "--scheme", "cjt166", "--json"]);
    verify.args(["--out", out.to_str().unwrap()]);
    if format == "binary" {
        verify.args(["--format", "packed-binary"]);
    }
    let mut cli = verify.stdout(Stdio::piped()).spawn().unwrap();
    let peak = watch(&mut cli);
    let output = cli.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).expect("the verification ended well");
    assert_eq!(summary["counts"]["valid"], summary["records"], "every record is valid");
    let daemon_peak = peak_of(daemon.id());
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    Run { seconds: summary["seconds"].as_f64().unwrap(), cli: peak, daemon: daemon_peak }
}

fn claviger(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn as_name(data: &Path, name: &str) -> Command {
    claviger(&["--data", data.to_str().unwrap(), "--as", name])
}

fn import_key(data: &Path) {
    let keys: Value =
        serde_json::from_slice(&std::fs::read(format!("{}/{DAY}-keys.json", env!("CARGO_MANIFEST_DIR"))).unwrap())
            .unwrap();
    let key = &keys["keys"][0];
    let mut import = as_name(data, "officer");
    import.args(["keys", "import", "--tenant", "demo", "--scheme", "cjt166", "--role", "DTK"]);
    import.args(["--version", key["version"].as_str().unwrap(), "--algorithm", key["algorithm"].as_str().unwrap()]);
    for (number, component) in key["components"].as_array().unwrap().iter().enumerate() {
        let file: PathBuf = data.join(format!("component-{number}"));
        std::fs::write(&file, component["value"].as_str().unwrap()).unwrap();
        import.args(["--component-file", file.to_str().unwrap()]);
    }
    assert!(import.status().unwrap().success(), "the key was not imported");
}

/// The most memory that a process had while it ran.
fn watch(process: &mut Child) -> u64 {
    let mut peak = 0;
    while process.try_wait().unwrap().is_none() {
        peak = peak.max(peak_of(process.id()));
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

/// `VmHWM`, in KiB.
fn peak_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
