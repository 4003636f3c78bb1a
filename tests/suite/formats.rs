//! Clearing files in every format: the same day gets the same verdicts, and an interrupted job goes on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::builder::{FixedSizeBinaryBuilder, StringBuilder};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, StringViewArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::daemon::{Daemon, words};
use crate::main_job::import_keys;

const DAY: &str = "cjt166-mixed";
const SCHEME: &str = "cjt166";
/// Columns of the day, their width as text in a layout, and as bytes.
const COLUMNS: [(&str, usize, usize); 15] = [
    ("record_id", 32, 16),
    ("city_code", 4, 2),
    ("issuer_id", 16, 8),
    ("asn", 16, 8),
    ("txn_type", 2, 1),
    ("amount", 10, 4),
    ("balance_after", 10, 4),
    ("online_sn", 4, 2),
    ("terminal_id", 12, 6),
    ("ttc", 8, 4),
    ("date", 8, 4),
    ("time", 6, 3),
    ("key_version", 2, 1),
    ("alg_id", 2, 1),
    ("tac", 8, 4),
];

fn day(end: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/days/{DAY}-{end}.csv"));
    std::fs::read_to_string(path).unwrap()
}

/// The day's cells, and the line of each record's verdict.
fn records() -> Vec<(Vec<String>, String)> {
    let (day, truth) = (day("day"), day("truth"));
    let cells = day.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect());
    assert!(day.starts_with(&COLUMNS.map(|(name, ..)| name).join(",")));
    cells.zip(truth.lines().skip(1).map(str::to_owned)).collect()
}

fn verify(daemon: &Daemon, file: &str, more: &[&str]) -> (Vec<String>, serde_json::Value) {
    let out = daemon.folder.path().join("verdicts.csv");
    let arguments = ["transactions", "verify", file, "--tenant", "demo", "--scheme", SCHEME, "--json", "--out"];
    let output = daemon.cli("clearing", &[&arguments[..], &[out.to_str().unwrap()], more].concat());
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let verdicts = std::fs::read_to_string(out).unwrap();
    (verdicts.lines().skip(1).map(str::to_owned).collect(), serde_json::from_slice(&output.stdout).unwrap())
}

fn text_batch(records: &[(Vec<String>, String)]) -> RecordBatch {
    let schema = Schema::new(COLUMNS.map(|(name, ..)| Field::new(name, DataType::Utf8, true)).to_vec());
    let column = |at: usize| {
        let mut cells = StringBuilder::new();
        // Half of the empty cells are null, half are empty texts.
        for (row, (record, _)) in records.iter().enumerate() {
            cells.append_option(Some(&record[at]).filter(|cell| !cell.is_empty() || row % 2 == 0));
        }
        Arc::new(cells.finish()) as ArrayRef
    };
    RecordBatch::try_new(Arc::new(schema), (0..COLUMNS.len()).map(column).collect()).unwrap()
}

/// The same cells in columns of views, as polars writes them.
fn as_views(batch: &RecordBatch) -> RecordBatch {
    let view = |column: &ArrayRef| {
        let text = column.as_any().downcast_ref::<StringArray>().unwrap();
        Arc::new(text.iter().collect::<StringViewArray>()) as ArrayRef
    };
    let schema = Schema::new(COLUMNS.map(|(name, ..)| Field::new(name, DataType::Utf8View, true)).to_vec());
    RecordBatch::try_new(Arc::new(schema), batch.columns().iter().map(view).collect()).unwrap()
}

/// A cell as the card has it; `None` if it is empty or cannot be said in bytes.
fn bytes(at: usize, cell: &str) -> Option<Vec<u8>> {
    match COLUMNS[at].0 {
        "amount" | "balance_after" => cell.parse::<u32>().ok().map(|fen| fen.to_be_bytes().to_vec()),
        _ => hex::decode(cell).ok().filter(|bytes| bytes.len() == COLUMNS[at].2),
    }
}

/// Records every cell of which is empty or can be said in bytes.
fn sayable(records: Vec<(Vec<String>, String)>) -> Vec<(Vec<String>, String)> {
    let good = |(record, _): &(Vec<String>, String)| {
        (1..COLUMNS.len()).all(|at| record[at].is_empty() || bytes(at, &record[at]).is_some())
    };
    records.into_iter().filter(good).collect()
}

fn binary_batch(records: &[(Vec<String>, String)]) -> RecordBatch {
    let mut fields = vec![Field::new("record_id", DataType::Utf8, false)];
    let mut ids = StringBuilder::new();
    records.iter().for_each(|(record, _)| ids.append_value(&record[0]));
    let mut columns = vec![Arc::new(ids.finish()) as ArrayRef];
    for (at, (name, _, width)) in COLUMNS.iter().enumerate().skip(1) {
        fields.push(Field::new(*name, DataType::FixedSizeBinary(*width as i32), true));
        let mut cells = FixedSizeBinaryBuilder::new(*width as i32);
        for (record, _) in records {
            match bytes(at, &record[at]) {
                Some(bytes) => cells.append_value(bytes).unwrap(),
                None => cells.append_null(),
            }
        }
        columns.push(Arc::new(cells.finish()));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn truth(records: &[(Vec<String>, String)]) -> Vec<String> {
    records.iter().map(|(_, truth)| truth.clone()).collect()
}

#[test]
fn parquet_and_arrow_get_the_verdicts_of_csv() {
    let daemon = Daemon::start();
    import_keys(&daemon, DAY);
    let all = records();
    let batch = text_batch(&all);
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
    ] {
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut parquet = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        // Several row groups, none of which ends where a batch does.
        for start in (0..batch.num_rows()).step_by(1777) {
            parquet.write(&batch.slice(start, 1777.min(batch.num_rows() - start))).unwrap();
            parquet.flush().unwrap();
        }
        let parquet = parquet.into_inner().unwrap();
        let (found, summary) = verify(&daemon, &daemon.file("day.parquet", &parquet), &[]);
        assert_eq!(found, truth(&all), "{compression}");
        assert_eq!((&summary["records"], &summary["role"]), (&5000.into(), &"DTK".into()));
    }

    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    stream.write(&batch).unwrap();
    let stream = stream.into_inner().unwrap();
    assert_eq!(verify(&daemon, &daemon.file("day.arrows", &stream), &[]).0, truth(&all));

    // More rows than are read at once, in one batch that ends in the middle of a byte of null bits.
    let five = text_batch(&vec![all.clone(); 5].concat()).slice(0, 24_997);
    let mut truth_of_five = vec![truth(&all); 5].concat();
    truth_of_five.truncate(five.num_rows());
    for compression in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        for batch in [&five, &as_views(&five)] {
            let mut file = FileWriter::try_new_with_options(Vec::new(), &batch.schema(), options.clone()).unwrap();
            file.write(batch).unwrap();
            file.finish().unwrap();
            let file = daemon.file("day.arrow", &file.into_inner().unwrap());
            assert_eq!(verify(&daemon, &file, &[]).0, truth_of_five, "{compression:?}");
        }
    }

    let sayable = sayable(all);
    assert!(sayable.len() > 4900);
    let batch = binary_batch(&sayable);
    let mut file = FileWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    file.write(&batch).unwrap();
    file.finish().unwrap();
    let file = daemon.file("无名", &file.into_inner().unwrap());
    assert_eq!(verify(&daemon, &file, &[]).0, truth(&sayable), "the file itself tells what it is");
}

#[test]
fn layouts_get_the_verdicts_of_csv() {
    let daemon = Daemon::start();
    import_keys(&daemon, DAY);
    let fits =
        |(record, _): &(Vec<String>, String)| COLUMNS.iter().zip(record).all(|(column, cell)| cell.len() <= column.1);
    let fitting: Vec<_> = records().into_iter().filter(fits).collect();
    assert!(fitting.len() > 4950);
    let line = |(record, _): &(Vec<String>, String)| {
        let cells = COLUMNS.iter().zip(record).map(|((_, width, _), cell)| format!("{cell:<width$}"));
        cells.collect::<String>() + "\r\n"
    };
    let text: String = fitting.iter().map(line).collect();
    let file = daemon.file("day.txt", text.as_bytes());
    assert_eq!(verify(&daemon, &file, &["--format", "fixed-text"]).0, truth(&fitting));

    let sayable = sayable(records());
    let mut packed = Vec::new();
    for (record, _) in &sayable {
        packed.extend_from_slice(format!("{:<16}", record[0]).as_bytes());
        for (at, (_, _, width)) in COLUMNS.iter().enumerate().skip(1) {
            packed.extend(bytes(at, &record[at]).unwrap_or_else(|| vec![0xFF; *width]));
        }
    }
    // Some fields have no mark for absence in this layout: their records say so otherwise.
    let markable = |record: &[String]| {
        COLUMNS.iter().zip(record).all(|((name, ..), cell)| {
            !cell.is_empty() || matches!(*name, "issuer_id" | "balance_after" | "online_sn" | "city_code")
        })
    };
    packed.extend_from_slice(b"half a record");
    let (found, _) = verify(&daemon, &daemon.file("day.dat", &packed), &["--format", "packed-binary"]);
    assert_eq!(found.len(), sayable.len() + 1);
    for ((record, truth), found) in sayable.iter().zip(&found).filter(|((record, _), _)| markable(record)) {
        assert_eq!(truth, found, "{record:?}");
    }
    assert_eq!(found[sayable.len()], format!(",malformed,line:{}", sayable.len() + 1));
}

#[test]
fn files_that_are_not_what_they_seem_are_named() {
    let daemon = Daemon::start();
    import_keys(&daemon, DAY);
    let refused = |file: &str, more: &[&str], wanted: &str| {
        let arguments =
            ["transactions", "verify", file, "--tenant", "demo", "--scheme", SCHEME, "--out", "/nonexistent/v"];
        let out = daemon.folder.path().join("v.csv");
        let mut arguments = arguments.to_vec();
        arguments.pop();
        let output = daemon.cli("clearing", &[&arguments[..], &[out.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        assert!(words(&output).contains(wanted), "{wanted}: {}", words(&output));
        assert!(!out.exists() && !daemon.folder.path().join("v.csv.partial").exists(), "something is left behind");
    };
    refused(
        &daemon.file("day.dat", b"\x01\x02\x03"),
        &[],
        "name it with --format: csv, parquet, arrow, fixed-text, packed-binary",
    );
    refused(&daemon.file("day.dat", b"x"), &["--format", "excel"], "`excel` is no format");
    refused(&daemon.file("day.parquet", b"PAR1 and nothing more"), &[], "day.parquet");
    refused(&daemon.file("day.csv", b"record_id,asn\n"), &[], "column `city_code` is missing");
    refused(&daemon.file("day.csv", b"record_id\n"), &["--resume"], "nothing to resume");
    let batch = text_batch(&records()[..10]).project(&[0, 1, 2]).unwrap();
    let mut stream = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    stream.write(&batch).unwrap();
    let mut stream = stream.into_inner().unwrap();
    refused(&daemon.file("few.arrow", &stream), &[], "column `asn` is missing");
    stream.truncate(stream.len() / 2);
    refused(&daemon.file("cut.arrow", &stream), &[], "cut.arrow");
}

/// Starts a verification and ends it once its journal counts something.
fn interrupt(daemon: &Daemon, file: &str, out: &Path) {
    let data = daemon.data();
    let mut process = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["--data", data.to_str().unwrap(), "--as", "clearing", "transactions", "verify", file])
        .args(["--tenant", "demo", "--scheme", SCHEME, "--out", out.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = out.with_extension("csv.journal");
    let _ = std::fs::remove_file(&journal);
    let begun = Instant::now();
    while !journal.exists() {
        assert!(process.try_wait().unwrap().is_none(), "the file is too short to interrupt its verification");
        assert!(begun.elapsed() < Duration::from_secs(60), "no journal was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn an_interrupted_job_goes_on_without_losing_or_repeating_a_record() {
    let daemon = Daemon::start();
    import_keys(&daemon, DAY);
    let (header, body) =
        day("day").split_once('\n').map(|(header, body)| (header.to_owned(), body.to_owned())).unwrap();
    let truth: Vec<String> = day("truth").lines().skip(1).map(str::to_owned).collect();
    let times = 60;
    // Empty lines are no records, but an editor counts them.
    let text = format!("{header}\n\n{}\nbroken\n", body.repeat(times));
    let file = daemon.file("long.csv", text.as_bytes());
    let out = daemon.folder.path().join("verdicts.csv");
    std::fs::write(&out, "as it was").unwrap();
    interrupt(&daemon, &file, &out);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "as it was", "an interrupted job leaves the old verdicts");
    let resume = |more: &[&str]| {
        let arguments =
            ["transactions", "verify", &file, "--tenant", "demo", "--scheme", SCHEME, "--json", "--resume", "--out"];
        daemon.cli("clearing", &[&arguments[..], &[out.to_str().unwrap()], more].concat())
    };
    // Another input is refused, and so are other keys.
    std::fs::write(&file, text.replacen("06", "09", 1)).unwrap();
    assert!(words(&resume(&[])).contains("has changed since"), "{}", words(&resume(&[])));
    std::fs::write(&file, &text).unwrap();
    let key = ["--tenant", "demo", "--scheme", SCHEME, "--role", "DTK", "--version", "01", "--algorithm", "3des"];
    for verb in ["suspend", "resume"] {
        assert!(daemon.cli("officer", &[&["keys", verb], &key[..]].concat()).status.success());
    }
    let output = resume(&[]);
    assert!(words(&output).contains("the keys have changed since"), "{}", words(&output));

    interrupt(&daemon, &file, &out);
    let output = resume(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(summary["resumed"].as_u64().unwrap() > 0, "{summary}");
    let found = std::fs::read_to_string(&out).unwrap();
    let mut found: Vec<&str> = found.lines().collect();
    assert_eq!(found.remove(0), "record_id,verdict,reason");
    let lines = text.lines().count();
    assert_eq!(found.pop(), Some("broken,malformed,bad_field:city_code"), "{lines} lines");
    assert_eq!(found.len(), truth.len() * times);
    for (at, found) in found.iter().enumerate() {
        assert_eq!(*found, truth[at % truth.len()], "record {at}");
    }
    assert!(!out.with_extension("csv.partial").exists() && !out.with_extension("csv.journal").exists());

    // What the second job verified is proved by it, as if the first had not been.
    let (job, log) = (summary["job"].as_str().unwrap(), daemon.data().join("audit.jsonl"));
    let proof = daemon.folder.path().join("proof.json");
    let [out, log, proof] = [&out, &log, &proof].map(|path| path.to_str().unwrap());
    let of = ["audit", "prove", "broken", "--job", job, "--scheme", SCHEME, "--records", &file];
    let output = daemon.cli("auditor", &[&of[..], &["--verdicts", out, "--log", log, "--out", proof]].concat());
    assert!(output.status.success(), "{}", words(&output));
    let output = daemon.cli("auditor", &["audit", "check-proof", proof, "--log", log]);
    assert!(words(&output).contains("record broken had the verdict malformed"), "{}", words(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_replace_nothing_but_older_ones() {
    let daemon = Daemon::start();
    let day = daemon.file("day.csv", day("day").as_bytes());
    let folder = daemon.folder.path().to_str().unwrap();
    let link = daemon.folder.path().join("link.csv");
    std::os::unix::fs::symlink(&day, &link).unwrap();
    let hard = daemon.folder.path().join("hard.csv");
    std::fs::hard_link(&day, &hard).unwrap();
    let before = std::fs::read(&day).unwrap();
    for out in [day.as_str(), folder, link.to_str().unwrap(), hard.to_str().unwrap(), "/dev/null"] {
        for (name, command) in [
            ("clearing", &["transactions", "verify"][..]),
            ("card-management", &["cards", "personalise", "--transport-key", "TK/01"]),
        ] {
            let rest = [day.as_str(), "--tenant", "demo", "--scheme", SCHEME, "--out", out];
            let output = daemon.cli(name, &[command, &rest].concat());
            assert_eq!(output.status.code(), Some(2), "{out}: {}", words(&output));
            assert!(String::from_utf8_lossy(&output.stderr).contains("--out"), "{}", words(&output));
        }
    }
    assert!(std::fs::read(&day).unwrap() == before, "the day was replaced");
}
