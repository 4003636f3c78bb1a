//! The main job, as its users do it: keys from components, a clearing day through a running daemon.

use std::path::PathBuf;

use serde::Deserialize;

use crate::daemon::{Daemon, cli, words};

/// `NAME-keys.json`.
#[derive(Deserialize)]
struct DayKeys {
    scheme: String,
    role: String,
    keys: Vec<DayKey>,
}

#[derive(Deserialize)]
struct DayKey {
    algorithm: String,
    version: String,
    level: usize,
    factors: Vec<String>,
    kcv: String,
    components: Vec<DayComponent>,
}

#[derive(Deserialize)]
struct DayComponent {
    value: String,
}

pub(crate) fn days() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/days")
}

/// A file of scheme `cjt166`, from its first line.
pub(crate) fn a_day() -> claviger_client::VerifyParameters {
    claviger_client::VerifyParameters {
        tenant: "demo".to_owned(),
        scheme: "cjt166".to_owned(),
        layout: None,
        before: None,
        keys: None,
    }
}

/// Imports a day's keys with the CLI and returns the scheme.
pub(crate) fn import_keys(daemon: &Daemon, day: &str) -> String {
    let keys: DayKeys =
        serde_json::from_slice(&std::fs::read(days().join(format!("{day}-keys.json"))).unwrap()).unwrap();
    for (number, key) in keys.keys.iter().enumerate() {
        let mut arguments: Vec<String> =
            ["keys", "import", "--tenant", "demo", "--scheme", &keys.scheme, "--role", &keys.role]
                .map(str::to_owned)
                .into();
        arguments
            .extend(["--version", &key.version, "--algorithm", &key.algorithm, "--kcv", &key.kcv].map(str::to_owned));
        for (part, component) in key.components.iter().enumerate() {
            let file = daemon.file(&format!("component-{number}-{part}"), component.value.as_bytes());
            arguments.extend(["--component-file".to_owned(), file]);
        }
        if key.level > 0 {
            arguments.extend(["--level".to_owned(), key.level.to_string()]);
            arguments.extend(key.factors.iter().flat_map(|factor| ["--factor".to_owned(), factor.clone()]));
        }
        let output = daemon.cli("officer", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", words(&output));
    }
    keys.scheme
}

fn verify_day(day: &str) {
    verify_day_on(&Daemon::start(), day);
}

/// Verifies a day by a daemon that has none of its keys yet: every verdict and reason must be the right one.
pub(crate) fn verify_day_on(daemon: &Daemon, day: &str) {
    let scheme = import_keys(daemon, day);
    let out = daemon.folder.path().join("verdicts.csv");
    let file = days().join(format!("{day}-day.csv"));
    let arguments = [
        "transactions",
        "verify",
        file.to_str().unwrap(),
        "--tenant",
        "demo",
        "--scheme",
        &scheme,
        "--out",
        out.to_str().unwrap(),
        "--json",
    ];
    let output = daemon.cli("clearing", &arguments);
    assert_eq!(output.status.code(), Some(1), "some records are spoilt: {}", words(&output));
    let truth = std::fs::read_to_string(days().join(format!("{day}-truth.csv"))).unwrap();
    let found = std::fs::read_to_string(&out).unwrap();
    assert_eq!(truth.lines().count(), 5001);
    for (number, (truth, found)) in truth.lines().zip(found.lines()).enumerate() {
        assert_eq!(truth, found, "{day}, line {}", number + 1);
    }
    assert_eq!(truth.lines().count(), found.lines().count());
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["records"], 5000);
    let log = claviger::audit::verify(&daemon.data().join("audit.jsonl")).unwrap();
    assert!(log.head.records() > 4, "start, unsealing, import, job opened and closed");
}

macro_rules! days {
    ($($test:ident $day:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            verify_day($day);
        }
    )*};
}

days! {
    pboc_3des "pboc-3des",
    cjt166_3des "cjt166-3des",
    cjt166_sm4 "cjt166-sm4",
    cjt166_mixed "cjt166-mixed",
    cjt166_city_held "cjt166-city-held",
    jtt978_3des "jtt978-3des",
    jtt978_sm4 "jtt978-sm4",
}

/// A caller that sends half a day and waits has the verdicts of that half.
#[tokio::test(flavor = "multi_thread")]
async fn verdicts_come_while_the_file_is_still_going_up() {
    use futures_util::StreamExt;
    let daemon = Daemon::start();
    import_keys(&daemon, "cjt166-3des");
    let day = std::fs::read(days().join("cjt166-3des-day.csv")).unwrap();
    let (first, rest) = day.split_at(day.len() / 2);
    let whole_lines = first.iter().filter(|byte| **byte == b'\n').count();
    let [first, rest] = [first, rest].map(bytes::Bytes::copy_from_slice);
    let (go_on, wait) = tokio::sync::oneshot::channel::<()>();
    let body = futures_util::stream::once(async { Ok(first) }).chain(futures_util::stream::once(async {
        wait.await.unwrap();
        Ok(rest)
    }));
    let parameters = a_day();
    let answer =
        daemon.client("clearing").stream("/v1/transactions/verify", &parameters, "text/csv", body).await.unwrap();
    let mut pieces = std::pin::pin!(answer.pieces);
    let (mut verdicts, mut go_on) = (Vec::new(), Some(go_on));
    while let Some(piece) = pieces.next().await {
        verdicts.extend_from_slice(&piece.unwrap());
        if verdicts.iter().filter(|byte| **byte == b'\n').count() == whole_lines
            && let Some(go_on) = go_on.take()
        {
            go_on.send(()).unwrap();
        }
    }
    assert!(go_on.is_none(), "the verdicts of the first half came only at the end");
    assert_eq!(verdicts, std::fs::read(days().join("cjt166-3des-truth.csv")).unwrap());
}

#[test]
fn demo_tells_the_whole_job() {
    let output = cli(&["demo", "--records", "5000", "--json"]);
    assert!(output.status.success(), "{}", words(&output));
    let steps: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verified = steps.iter().find(|step| step["facts"]["records"] == 5000).expect("a step verifies the day");
    assert_eq!(verified["facts"]["counts"]["valid"], 4900);
}

#[test]
fn columns_may_stand_in_any_order_and_ids_may_be_chinese() {
    let daemon = Daemon::start();
    let scheme = import_keys(&daemon, "pboc-3des");
    let day = std::fs::read_to_string(days().join("pboc-3des-day.csv")).unwrap();
    let turned: String = day
        .lines()
        .take(200)
        .map(|line| {
            let mut cells: Vec<&str> = line.split(',').collect();
            cells.reverse();
            cells.join(",").replace(",R00", ",\"公交,R00")
                + if line.starts_with("record_id") { "\r\n" } else { "\"\r\n" }
        })
        .collect();
    let file = daemon.file("倒序.csv", turned.as_bytes());
    let out = daemon.folder.path().join("结果.csv");
    let output = daemon.cli(
        "clearing",
        &["transactions", "verify", &file, "--tenant", "demo", "--scheme", &scheme, "--out", out.to_str().unwrap()],
    );
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", words(&output));
    let truth = std::fs::read_to_string(days().join("pboc-3des-truth.csv")).unwrap();
    let expected: Vec<String> = truth
        .lines()
        .take(200)
        .map(|line| line.replace("R00", "\"公交,R00").replacen(',', "\",", usize::from(line.starts_with('R'))))
        .collect();
    let found: Vec<String> = std::fs::read_to_string(&out).unwrap().lines().map(str::to_owned).collect();
    for (expected, found) in expected.iter().zip(&found).skip(1) {
        assert_eq!(
            expected.replace("\"公交\",", "\"公交,").split(',').skip(2).collect::<Vec<_>>(),
            found.split(',').skip(2).collect::<Vec<_>>()
        );
        assert!(found.starts_with("\"公交,R00"), "{found}");
    }
    assert_eq!(found.len(), 200);
}

#[test]
fn bad_lines_cost_nothing_to_the_good_ones() {
    let daemon = Daemon::start();
    let scheme = import_keys(&daemon, "pboc-3des");
    let day = std::fs::read_to_string(days().join("pboc-3des-day.csv")).unwrap();
    let mut lines = day.lines();
    let (header, good) = (lines.next().unwrap(), lines.next().unwrap());
    let id = good.split(',').next().unwrap();
    let long = "x".repeat(100_000);
    let unnamed = good.replacen(id, "", 1);
    let open_quote = good.replacen(id, &format!("\"{id}"), 1);
    let text = [header, good, &long, "", &unnamed, &open_quote, "\u{1}\u{2}", good, &format!("{id},1000")].join("\n");
    let file = daemon.file("day.csv", &[text.as_bytes(), b"\n\xff\xfe,1,2\n", good.as_bytes()].concat());
    let out = daemon.folder.path().join("verdicts.csv");
    let output = daemon.cli(
        "clearing",
        &["transactions", "verify", &file, "--tenant", "demo", "--scheme", &scheme, "--out", out.to_str().unwrap()],
    );
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    let found = std::fs::read_to_string(&out).unwrap();
    let expected = [
        "record_id,verdict,reason",
        &format!("{id},valid,"),
        ",malformed,line:3",
        ",malformed,line:4",
        ",malformed,line:5",
        ",malformed,line:6",
        &format!("{id},valid,"),
        &format!("{id},malformed,bad_field:issuer_id"),
        ",malformed,line:9",
        &format!("{id},valid,"),
    ];
    // Line numbers count lines that hold something and the empty one; see what the file says.
    let without_numbers = |text: &str| text.split(":").next().unwrap_or_default().to_owned();
    assert_eq!(
        found.lines().map(without_numbers).collect::<Vec<_>>(),
        expected.iter().map(|line| without_numbers(line)).collect::<Vec<_>>()
    );
    assert!(found.contains(",malformed,line:3\n"), "the long line is the third of the file:\n{found}");
    assert!(found.contains(",malformed,line:5\n"), "the empty line counts as a line:\n{found}");
}

/// A city whose records carry neither key version nor algorithm id, some of whose cards were made with another
/// city factor: all in its profile, none in code.
#[test]
fn a_citys_variant_is_a_profile() {
    use claviger_card_schemes::{CardScheme, CsvReader, FieldSet, Reader, RecordSink, SelectableKey, TacVerifier};
    use claviger_hsm_api::{Algorithm, KeyVersion, Secret};
    use claviger_hsm_engine::{EngineError, PlainKey, run};
    use std::sync::Arc;

    struct Sink(TacVerifier);
    impl RecordSink for Sink {
        type Error = ();
        fn record(
            &mut self,
            _: &[u8],
            fields: Result<&FieldSet, claviger_card_schemes::LineFault>,
            number: u64,
        ) -> Result<(), ()> {
            match fields {
                Ok(fields) => self.0.push(fields),
                Err(fault) => self.0.push_fault(fault, number),
            }
            Ok(())
        }
    }
    // The scheme as it is verifies the day; read with another factor first, the day's own is the alternative.
    let shipped = include_str!("../../card-schemes/profiles/cjt166.toml");
    let past = shipped
        .replacen("factor = [\"city_code\", \"hex:FF0000000000\"]", "factor = [\"city_code\", \"hex:000000000000\"]", 1)
        .replacen(
            "role = \"DTK\"\n",
            "role = \"DTK\"\n\n[[tac.default]]\ncities = [\"0000\", \"9999\"]\nkey_version = \"01\"\nalg_id = \"00\"\n\n\
             [[tac.alternative]]\nlevel = \"city\"\nfactor = [\"city_code\", \"hex:FF0000000000\"]\n",
            1,
        );
    let past = &past[..past.find("# What the profile must reproduce.").unwrap()];
    assert!(CardScheme::load(past).is_err(), "a profile without a known answer is not used");
    // Below the city's level nothing differs, so an answer of a card's own key holds.
    let answer =
        shipped.split("[[known_answer]]").find(|answer| answer.contains("#3des-load-ep\"\nof = \"load\"")).unwrap();
    let scheme = Arc::new(CardScheme::load(&format!("{past}[[known_answer]]{answer}")).unwrap());
    let keys: DayKeys = serde_json::from_slice(&std::fs::read(days().join("cjt166-3des-keys.json")).unwrap()).unwrap();
    let parts: Vec<Vec<u8>> = keys.keys[0].components.iter().map(|part| hex::decode(&part.value).unwrap()).collect();
    let key: Vec<u8> = parts[0].iter().zip(&parts[1]).map(|(a, b)| a ^ b).collect();
    let key = PlainKey { algorithm: Algorithm::TripleDes, secret: Secret::copy_of(&key) };
    let selectable = SelectableKey { algorithm: Algorithm::TripleDes, version: KeyVersion(1), factors: Vec::new() };
    let mut sink = Sink(TacVerifier::new(scheme, vec![selectable]));
    let day = std::fs::read_to_string(days().join("cjt166-3des-day.csv")).unwrap();
    // Key version and algorithm id are taken out of every line.
    let bare: String = day
        .lines()
        .enumerate()
        .map(|(number, line)| {
            let mut cells: Vec<&str> = line.split(',').collect();
            if number > 0 {
                (cells[12], cells[13]) = ("", "");
            }
            cells.join(",") + "\n"
        })
        .collect();
    let mut reader = Reader::Csv(CsvReader::new(claviger_card_schemes::Columns::of_records(), 4096, 0));
    assert!(reader.open(bare.as_bytes()).unwrap());
    reader.end(&mut sink).unwrap();
    let mut verdicts = Vec::new();
    let mut engine = |recipe: &_, batch: &_| run(&[&key], recipe, batch, &|_, _| Err(EngineError::NoStore));
    sink.0
        .finish(&mut engine, |verified| verdicts.push((verified.verdict.to_string(), verified.reason.to_string())))
        .unwrap();
    let truth = std::fs::read_to_string(days().join("cjt166-3des-truth.csv")).unwrap();
    let mut compared = 0;
    for (truth, found) in truth.lines().skip(1).zip(&verdicts) {
        let cells: Vec<&str> = truth.split(',').collect();
        match cells[1] {
            "valid" => assert_eq!(found, &("valid".to_owned(), "matched_alternative:1".to_owned()), "{truth}"),
            "invalid" => assert_eq!(found, &("invalid".to_owned(), "mac".to_owned()), "{truth}"),
            // A version or algorithm that the line no longer says is the default's.
            _ => continue,
        }
        compared += 1;
    }
    assert!(compared > 4800, "{compared}");
}
