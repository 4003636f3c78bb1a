//! Proofs that one record had one verdict, made by an auditor and checked by anybody.

use std::path::Path;

use serde_json::Value;

use crate::audit::{forged, until_it_is_signed};
use crate::daemon::{Daemon, cli, words};
use crate::main_job::{days, import_keys};

const DAY: &str = "cjt166-mixed";

/// Something done to a proof.
type Change = Box<dyn Fn(&mut Value)>;

struct Verified {
    daemon: Daemon,
    scheme: String,
    records: String,
    verdicts: String,
    log: String,
    job: String,
}

fn verified() -> Verified {
    let daemon = Daemon::start();
    let scheme = import_keys(&daemon, DAY);
    let records = days().join(format!("{DAY}-day.csv")).to_str().unwrap().to_owned();
    let at = |name: &str| daemon.folder.path().join(name).to_str().unwrap().to_owned();
    let (verdicts, log) = (at("verdicts.csv"), daemon.data().join("audit.jsonl").to_str().unwrap().to_owned());
    let job = verify(&daemon, &records, &scheme, &verdicts);
    // A root that nobody has signed yet proves nothing.
    until_it_is_signed(Path::new(&log));
    Verified { daemon, scheme, records, verdicts, log, job }
}

fn verify(daemon: &Daemon, records: &str, scheme: &str, verdicts: &str) -> String {
    let arguments = ["transactions", "verify", records, "--tenant", "demo", "--scheme", scheme, "--out", verdicts];
    let output = daemon.cli("clearing", &[&arguments[..], &["--json"]].concat());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)));
    summary["job"].as_str().unwrap().to_owned()
}

impl Verified {
    fn prove(&self, who: &str, record: &str, out: &str) -> std::process::Output {
        self.prove_of(who, record, &[], out)
    }

    fn prove_of(&self, who: &str, record: &str, several: &[&str], out: &str) -> std::process::Output {
        let files = ["--records", &self.records, "--verdicts", &self.verdicts, "--log", &self.log, "--out", out];
        let of = ["audit", "prove", record, "--job", &self.job, "--scheme", &self.scheme];
        self.daemon.cli(who, &[&of[..], &files, several].concat())
    }

    fn out(&self) -> String {
        self.daemon.folder.path().join("proof.json").to_str().unwrap().to_owned()
    }
}

fn check(proof: &str, log: &str) -> (Option<i32>, String) {
    let output = cli(&["audit", "check-proof", proof, "--log", log]);
    (output.status.code(), words(&output))
}

/// A record of each verdict, as the file of verdicts has it.
fn one_of_each(verdicts: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in std::fs::read_to_string(verdicts).unwrap().lines().skip(1) {
        let mut cells = line.split(',').map(str::to_owned);
        let (id, verdict) = (cells.next().unwrap(), cells.next().unwrap());
        if found.iter().all(|(_, known)| *known != verdict) {
            found.push((id, verdict));
        }
    }
    found
}

#[test]
fn one_record_of_each_verdict_is_proved_and_nothing_else() {
    let verified = verified();
    let (out, log) = (verified.out(), &verified.log);
    let wanted = one_of_each(&verified.verdicts);
    assert!(wanted.len() >= 4, "{wanted:?}");
    for (record, verdict) in &wanted {
        let output = verified.prove("auditor", record, &out);
        assert!(output.status.success(), "{}", words(&output));
        let (code, said) = check(&out, log);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("record {record} had the verdict {verdict} in job {}", verified.job)), "{said}");
        assert!(std::fs::metadata(&out).unwrap().len() < 4096, "a proof is short");
    }

    // An assessor is given those that hold, and no others.
    let evidence = |proof: &str, to: &str| {
        let (config, out) = (verified.daemon.data().join("claviger.toml"), verified.daemon.folder.path().join(to));
        let of = ["evidence", "--tenant", "demo", "--config", config.to_str().unwrap(), "--proof", proof];
        let output = verified.daemon.cli("auditor", &[&of[..], &["--out", out.to_str().unwrap()]].concat());
        (output.status.success(), words(&output), out)
    };
    let (done, said, given) = evidence(&out, "evidence");
    assert!(done, "{said}");
    let (copied, shown) = (given.join("proof-1.json"), given.join("audit.jsonl"));
    assert_eq!(check(copied.to_str().unwrap(), shown.to_str().unwrap()).0, Some(0));
    let changed = std::fs::read_to_string(&out).unwrap().replace(&verified.job, "0011223344556677");
    let (done, said, given) = evidence(&verified.daemon.file("changed.json", changed.as_bytes()), "no-evidence");
    assert!(!done && said.contains("changed.json: ") && !given.exists(), "{said}");

    // Nothing in it may be another.
    let whole: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    let last = |text: &Value| {
        let text = text.as_str().unwrap();
        Value::from(format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' }))
    };
    let verdict_in_leaf = |proof: &mut Value| {
        let leaf = proof["leaf"].as_str().unwrap().to_owned();
        proof["leaf"] = format!("{}01{}", &leaf[..32], &leaf[34..]).into();
        proof["verdict"] = "valid".into();
    };
    let (record, verdict) = wanted.last().unwrap();
    assert_ne!(verdict, "valid");
    let changes: [(&str, Change); 8] = [
        ("verdict", Box::new(|proof| proof["verdict"] = "valid".into())),
        ("leaf", Box::new(verdict_in_leaf)),
        ("record", Box::new(|proof| proof["record_id"] = "another".into())),
        ("index", Box::new(|proof| proof["index"] = (proof["index"].as_u64().unwrap() + 1).into())),
        ("items", Box::new(|proof| proof["items"] = (proof["items"].as_u64().unwrap() * 2).into())),
        ("path", Box::new(move |proof| proof["path"][0] = last(&proof["path"][0]))),
        ("root", Box::new(move |proof| proof["root"] = last(&proof["root"]))),
        ("job", Box::new(|proof| proof["job"] = "0011223344556677".into())),
    ];
    for (what, change) in changes {
        let mut changed = whole.clone();
        change(&mut changed);
        std::fs::write(&out, changed.to_string()).unwrap();
        let (code, said) = check(&out, log);
        assert_eq!(code, Some(1), "another {what}: {said}");
    }

    // The log as it was before the job knows nothing of it, and a changed one is named.
    let text = std::fs::read_to_string(log).unwrap();
    std::fs::write(&out, whole.to_string()).unwrap();
    let copy =
        verified.daemon.file("copy.jsonl", text.lines().next().map(|line| format!("{line}\n")).unwrap().as_bytes());
    assert!(check(&out, &copy).1.contains("no record of job"), "{:?}", check(&out, &copy));
    std::fs::write(&copy, text.replacen(&verified.job, "0011223344556677", 1)).unwrap();
    assert!(check(&out, &copy).1.contains("was changed after it was written"), "{:?}", check(&out, &copy));

    // A log that somebody wrote anew, who has no key: the root stands in it and nothing is signed.
    let told = |line: &str| line.replace("service/clearing", "service/mallory");
    std::fs::write(&copy, forged(Path::new(log), told)).unwrap();
    let (code, said) = check(&out, &copy);
    assert!(code == Some(1) && said.contains("no checkpoint after it is signed"), "{said}");
    let key = claviger::audit::verify(Path::new(log)).unwrap().keys.remove(0);
    for (key, code) in [(key, 0), ("00".repeat(32), 1)] {
        let output = cli(&["audit", "check-proof", &out, "--log", log, "--signed-by", &key]);
        assert_eq!(output.status.code(), Some(code), "{}", words(&output));
    }

    // Nobody but an auditor, and nothing but what was verified.
    let output = verified.prove("clearing", record, &out);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        words(&output).contains("readers.proofs") || words(&output).contains("no policy permits"),
        "{}",
        words(&output)
    );
    assert!(words(&verified.prove("auditor", "no such record", &out)).contains("verified no record"));
    let verdicts = std::fs::read_to_string(&verified.verdicts).unwrap();
    std::fs::write(&verified.verdicts, verdicts.replacen(",invalid,mac", ",valid,", 1)).unwrap();
    let output = verified.prove("auditor", record, &out);
    assert!(words(&output).contains("another root"), "{}", words(&output));
}

#[test]
fn what_was_verified_in_arrow_is_proved_too() {
    let verified = verified();
    let all = std::fs::read_to_string(&verified.verdicts).unwrap();
    let out = verified.out();
    let arrow = verified.daemon.folder.path().join("day.arrow");
    as_arrow(Path::new(&verified.records), &arrow);
    let arrow = arrow.to_str().unwrap().to_owned();
    let verdicts = verified.daemon.folder.path().join("arrow.csv").to_str().unwrap().to_owned();
    let job = verify(&verified.daemon, &arrow, &verified.scheme, &verdicts);
    assert_eq!(std::fs::read_to_string(&verdicts).unwrap(), all);
    let (record, verdict) = one_of_each(&verdicts).pop().unwrap();
    until_it_is_signed(Path::new(&verified.log));
    let of_arrow = Verified { records: arrow, verdicts, job, ..verified };
    let output = of_arrow.prove("auditor", &record, &out);
    assert!(output.status.success(), "{}", words(&output));
    assert!(check(&out, &of_arrow.log).1.contains(&format!("verdict {verdict}")));
}

/// Two records of a day with one id: nobody chooses for the auditor which of them is proved.
#[test]
fn of_several_records_with_one_id_the_auditor_says_which() {
    let verified = verified();
    let all = std::fs::read_to_string(&verified.verdicts).unwrap();
    let wanted = one_of_each(&verified.verdicts);
    let [(first, of_first), (second, of_second)] = &wanted[..2] else { panic!("{wanted:?}") };
    // The second verdict's record once more, under the first one's id.
    let day = std::fs::read_to_string(&verified.records).unwrap();
    let again = day.lines().find(|line| line.starts_with(second)).unwrap().replacen(second.as_str(), first, 1);
    let records = verified.daemon.file("twice.csv", format!("{day}{again}\n").as_bytes());
    let verdicts = verified.daemon.folder.path().join("twice-verdicts.csv").to_str().unwrap().to_owned();
    let job = verify(&verified.daemon, &records, &verified.scheme, &verdicts);
    until_it_is_signed(Path::new(&verified.log));
    let line = |of: &dyn Fn(&str) -> bool| day.lines().position(of).unwrap() + 1;
    let (at_first, at_last) = (line(&|line| line.starts_with(first.as_str())), day.lines().count() + 1);
    assert_eq!(all.lines().count() + 1, std::fs::read_to_string(&verdicts).unwrap().lines().count());

    let twice = Verified { records, verdicts, job, ..verified };
    let out = twice.out();
    let told = twice.prove("auditor", first, &out);
    assert_eq!(told.status.code(), Some(2), "{}", words(&told));
    let says = format!("2 records of the job have the id `{first}`, at {at_first}, {at_last}");
    assert!(words(&told).contains(&says) && !Path::new(&out).exists(), "{says}: {}", words(&told));
    for (sequence, verdict) in [(at_first, of_first), (at_last, of_second)] {
        let proved = twice.prove_of("auditor", first, &["--sequence", &sequence.to_string()], &out);
        assert!(proved.status.success(), "{}", words(&proved));
        let (code, said) = check(&out, &twice.log);
        assert!(
            code == Some(0) && said.contains(&format!("record {first} had the verdict {verdict} in job")),
            "{said}"
        );
    }
    let nowhere = twice.prove_of("auditor", first, &["--sequence", "1"], &out);
    assert!(words(&nowhere).contains("is at 1, but at"), "{}", words(&nowhere));
}

/// Of a job that was broken off what it answered is proved, though the file and its verdicts went on in another.
#[test]
fn what_a_job_answered_before_it_was_broken_off_is_proved() {
    let mut all = verified();
    let longer = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let more: String = text.lines().skip(1).take(5).map(|line| format!("more-{line}\n")).collect();
        all.daemon.file(name, (text + &more).as_bytes())
    };
    (all.records, all.verdicts) = (longer(&all.records, "longer.csv"), longer(&all.verdicts, "longer-verdicts.csv"));
    let (first, verdict) = one_of_each(&all.verdicts).remove(0);
    let out = all.out();
    let made = all.prove("auditor", &first, &out);
    assert!(made.status.success(), "{}", words(&made));
    let (code, said) = check(&out, &all.log);
    assert!(code == Some(0) && said.contains(&verdict), "{said}");
    let after = all.prove("auditor", &format!("more-{first}"), &format!("{out}-2"));
    assert!(words(&after).contains("the job verified no record"), "{}", words(&after));
}

/// The CSV as an Arrow file of texts.
fn as_arrow(csv: &Path, to: &Path) {
    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    let text = std::fs::read_to_string(csv).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let column = |at: usize| {
        let cells = rows.iter().map(|row| row.get(at).copied().filter(|cell| !cell.is_empty()));
        std::sync::Arc::new(cells.collect::<StringArray>()) as ArrayRef
    };
    let batch =
        RecordBatch::try_from_iter_with_nullable(names.iter().enumerate().map(|(at, name)| (*name, column(at), true)))
            .unwrap();
    let mut writer =
        arrow_ipc::writer::FileWriter::try_new(std::fs::File::create(to).unwrap(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
}

/// What was found of one item of a single call is proved like a record's verdict.
#[tokio::test(flavor = "multi_thread")]
async fn one_item_of_a_call_is_proved() {
    use claviger_client::{MacItem, MacVerify, Valid};

    use crate::load::{CMAC, MAC, MESSAGE, generic, into, reference};

    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let item = |mac: &str| MacItem { message: MESSAGE.to_lowercase(), mac: mac.to_owned() };
    let wrong = format!("00{}", &MAC[2..]);
    let call =
        MacVerify { key: reference(), padding: "none".to_owned(), items: vec![item(MAC), item(&wrong), item(MAC)] };
    let answer: Valid = daemon.client("clearing").post("/v1/mac/verify", &call).await.unwrap();
    assert_eq!(answer.valid, [true, false, true]);
    let sent = daemon.file("sent.json", &serde_json::to_vec(&call).unwrap());
    let answered = daemon.file("answered.json", &serde_json::to_vec(&answer).unwrap());
    let log = daemon.data().join("audit.jsonl").display().to_string();
    until_it_is_signed(Path::new(&log));
    let proof = daemon.data().join("proof.json").display().to_string();
    let prove = |who: &str, item: &str, answered: &str| {
        let of = ["audit", "prove-call", item, "--call", &sent, "--answer", answered, "--log", &log, "--out", &proof];
        daemon.cli(who, &of)
    };
    for (number, verdict, mac) in [("1", "valid", MAC), ("2", "invalid", &wrong)] {
        let proved = prove("auditor", number, &answered);
        assert!(proved.status.success(), "{}", words(&proved));
        let checked = cli(&["audit", "check-proof", &proof, "--log", &log]);
        let told = words(&checked);
        assert!(told.contains(&format!("{MESSAGE}:{mac} had the verdict {verdict}")), "{told}");
    }
    // Another answer, another item, another caller.
    let lie = Valid { valid: vec![true; 3], job: answer.job.clone() };
    let lied = daemon.file("lie.json", &serde_json::to_vec(&lie).unwrap());
    for (who, item, answered, says) in [
        ("auditor", "2", &lied, "the log holds another root over 3 verdicts"),
        ("auditor", "4", &answered, "the call has no item 4"),
        ("clearing", "1", &answered, "no policy permits"),
    ] {
        let refused = prove(who, item, answered);
        assert!(words(&refused).contains(says) && !refused.status.success(), "{}", words(&refused));
    }
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(!log.contains(MAC) && !log.contains(MESSAGE), "the log tells MACs");
}
