//! Wrong input gets a clear error that names the field and never a secret.

use crate::daemon::{Daemon, cli, problem, words};
use crate::main_job::import_keys;

const A: &str = "BFEFDF8AADEF759E1C378001FB1CCEF8";
const B: &str = "5055F94862F36D2248A323BE9B863A8C";

struct Import<'a> {
    scheme: &'a str,
    role: &'a str,
    algorithm: &'a str,
    components: &'a [&'a str],
    more: &'a [&'a str],
}

impl Import<'_> {
    /// Runs the import, which must fail, and gives what it said.
    fn refused(&self, daemon: &Daemon) -> String {
        let files: Vec<String> = self
            .components
            .iter()
            .enumerate()
            .map(|(at, text)| daemon.file(&format!("c{at}"), text.as_bytes()))
            .collect();
        let mut arguments = vec![
            "keys",
            "import",
            "--tenant",
            "demo",
            "--scheme",
            self.scheme,
            "--role",
            self.role,
            "--version",
            "01",
            "--algorithm",
            self.algorithm,
        ];
        arguments.extend(files.iter().flat_map(|file| ["--component-file", file]));
        arguments.extend(self.more);
        let output = daemon.cli("officer", &arguments);
        assert_eq!(output.status.code(), Some(2), "{}", words(&output));
        let said = words(&output);
        for component in self.components.iter().filter(|component| component.len() > 8) {
            assert!(!said.to_uppercase().contains(&component[..8]), "a component is told: {said}");
        }
        said
    }
}

#[test]
fn imports_that_do_not_fit_are_named() {
    let daemon = Daemon::start();
    let good = Import { scheme: "cjt166", role: "DTK", algorithm: "3des", components: &[A, B], more: &[] };
    let said = Import { more: &["--kcv", "000000"], ..good }.refused(&daemon);
    assert!(said.contains("kcv") && said.contains("B8743B"), "the KCV shown helps to find the mistake: {said}");
    let said = Import { more: &["--odd-parity"], ..good }.refused(&daemon);
    assert!(said.contains("component 2") && said.contains("even parity"), "{said}");
    let said = Import { scheme: "metro", ..good }.refused(&daemon);
    assert!(said.contains("no card scheme `metro`"), "{said}");
    let said = Import { role: "XYZ", ..good }.refused(&daemon);
    assert!(said.contains("no role `XYZ`"), "{said}");
    let said = Import { algorithm: "aes128", ..good }.refused(&daemon);
    assert!(said.contains("`algorithm`") && said.contains("aes128"), "{said}");
    let said = Import { components: &[A], ..good }.refused(&daemon);
    assert!(said.contains("at least two components"), "{said}");
    let said = Import { components: &[A, "0011"], ..good }.refused(&daemon);
    assert!(said.contains("component 2"), "{said}");
    let said = Import { components: &[A, "QQ55F94862F36D2248A323BE9B863A8C"], ..good }.refused(&daemon);
    assert!(said.contains("number 2"), "{said}");
    let said = Import { more: &["--level", "1"], ..good }.refused(&daemon);
    assert!(said.contains("--factor"), "{said}");
    let said = Import { more: &["--factor", "1150FF"], ..good }.refused(&daemon);
    assert!(said.contains("factors"), "{said}");
    let said = Import { more: &["--ceiling", "master-key"], ..good }.refused(&daemon);
    assert!(said.contains("ceiling") && said.contains("ceremony"), "{said}");
    let keys = daemon.cli("officer", &["keys", "list", "--tenant", "demo"]);
    assert!(keys.stdout.is_empty(), "nothing that was refused exists: {}", words(&keys));
}

#[test]
fn a_key_exists_once() {
    let daemon = Daemon::start();
    import_keys(&daemon, "cjt166-3des");
    let said =
        Import { scheme: "cjt166", role: "DTK", algorithm: "3des", components: &[A, B], more: &[] }.refused(&daemon);
    assert!(said.contains("exists already"), "{said}");
}

#[test]
fn a_wrong_column_is_a_problem_and_not_a_broken_stream() {
    let daemon = Daemon::start();
    import_keys(&daemon, "pboc-3des");
    for (header, wanted) in
        [("record_id,kwh", "`kwh`"), ("record_id,asn,asn", "twice"), ("record_id,asn", "missing"), ("", "empty")]
    {
        let file = daemon.file("wrong.csv", header.as_bytes());
        let out = daemon.file("verdicts.csv", b"as it was");
        let output = daemon
            .cli("clearing", &["transactions", "verify", &file, "--tenant", "demo", "--scheme", "pboc", "--out", &out]);
        assert_eq!(output.status.code(), Some(2));
        assert!(words(&output).contains(wanted), "{}", words(&output));
        assert_eq!(std::fs::read(&out).unwrap(), b"as it was");
    }
}

#[test]
fn a_tenant_without_keys_is_told_so() {
    let daemon = Daemon::start();
    let out = daemon.folder.path().join("verdicts.csv");
    let out = out.to_str().unwrap();
    let file = daemon.file("day.csv", b"record_id\n");
    let output = daemon
        .cli("clearing", &["transactions", "verify", &file, "--tenant", "demo", "--scheme", "cjt166", "--out", out]);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("column"), "{}", words(&output));
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/cjt166-3des-day.csv")).unwrap();
    let file = daemon.file("day.csv", file.as_bytes());
    let output = daemon
        .cli("clearing", &["transactions", "verify", &file, "--tenant", "demo", "--scheme", "cjt166", "--out", out]);
    assert!(words(&output).contains("no active key of role DTK"), "{}", words(&output));
}

#[test]
fn duties_are_separate() {
    let daemon = Daemon::start();
    import_keys(&daemon, "pboc-3des");
    let generate = [
        "keys",
        "generate",
        "--tenant",
        "demo",
        "--scheme",
        "pboc",
        "--role",
        "DPK",
        "--version",
        "01",
        "--algorithm",
        "3des",
    ];
    for name in ["clearing", "card-management", "terminals", "auditor"] {
        let output = daemon.cli(name, &generate);
        assert_eq!(output.status.code(), Some(2), "{name} made a key");
        assert!(words(&output).contains("no policy permits"), "{}", words(&output));
    }
    let day = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/pboc-3des-day.csv");
    for name in ["officer", "card-management", "terminals", "auditor"] {
        let out = daemon.folder.path().join("verdicts.csv");
        let output = daemon.cli(
            name,
            &["transactions", "verify", day, "--tenant", "demo", "--scheme", "pboc", "--out", out.to_str().unwrap()],
        );
        assert_eq!(output.status.code(), Some(2), "{name} verified a day");
    }
    let output = daemon.cli("officer", &["keys", "list", "--tenant", "shanghai"]);
    assert_eq!(output.status.code(), Some(2), "nobody learns of another tenant: {}", words(&output));
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    assert!(log.contains("\"decision\":\"deny\""), "refusals are written down");
}

/// One daemon, two tenants: the id of another's key is as unknown as one that was never given.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_tenant_do_not_exist() {
    use claviger_client::{Client, ComputeKcv, KcvResult, Key, NewKey};
    let daemon = Daemon::with_tenant("shanghai");
    let new = |tenant: &str| NewKey {
        tenant: tenant.to_owned(),
        scheme: "cjt166".to_owned(),
        role: "DTK".to_owned(),
        version: "01".to_owned(),
        algorithm: "3des".to_owned(),
        factors: Vec::new(),
        ceiling: None,
        protect_from: None,
        protect_until: None,
        verify_until: None,
        backends: Vec::new(),
        places: Vec::new(),
        movable: false,
        sensitive: false,
    };
    let officer = daemon.client("officer");
    let theirs: Key = officer.post("/v1/keys", &new("shanghai")).await.unwrap();
    // The auditor is taken off that tenant, and the daemon started again.
    let path = daemon.data().join("claviger.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, tail) = text.split_at(text.find("claviger://auditor/auditor").unwrap());
    let tail = tail.replacen("tenants = [\"demo\", \"shanghai\"]", "tenants = [\"demo\"]", 1);
    let daemon = daemon.serve(&format!("{head}{tail}"));
    let auditor: Client = daemon.client("auditor");
    let rule = ComputeKcv { function: "ecb".to_owned(), input: "zero".to_owned(), take: 3 };
    for id in [theirs.id.as_str(), "00000000000000000000000000000000"] {
        let shown = problem(auditor.get::<Key>(&format!("/v1/keys/{id}"), &()).await);
        assert_eq!((shown.status, shown.code.as_str(), shown.policy), (404, "no_key", None));
        let shown = problem(auditor.post::<KcvResult>(&format!("/v1/keys/{id}/kcv"), &rule).await);
        assert_eq!((shown.status, shown.code.as_str(), shown.policy), (404, "no_key", None));
    }
    let known: Key = daemon.client("officer").get(&format!("/v1/keys/{}", theirs.id), &()).await.unwrap();
    assert_eq!(known.id, theirs.id);
}

#[test]
fn a_suspended_key_verifies_nothing_and_a_resumed_one_all() {
    let daemon = Daemon::start();
    import_keys(&daemon, "pboc-3des");
    let day = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/pboc-3des-day.csv");
    let out = daemon.folder.path().join("verdicts.csv");
    let verify = [
        "transactions",
        "verify",
        day,
        "--tenant",
        "demo",
        "--scheme",
        "pboc",
        "--out",
        out.to_str().unwrap(),
        "--json",
    ];
    let key = ["--tenant", "demo", "--scheme", "pboc", "--role", "DTK", "--version", "01", "--algorithm", "3des"];
    let set = |verb: &str| daemon.cli("officer", &[&["keys", verb], &key[..]].concat());
    assert!(set("suspend").status.success());
    let output = daemon.cli("clearing", &verify);
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    assert!(set("resume").status.success());
    assert_eq!(daemon.cli("clearing", &verify).status.code(), Some(1));
    assert!(set("deactivate").status.success());
    assert_eq!(daemon.cli("clearing", &verify).status.code(), Some(1), "a deactivated key still verifies");
    assert_eq!(set("destroy").status.code(), Some(2), "nobody was asked");
    assert!(daemon.cli("officer", &[&["keys", "destroy", "--yes"], &key[..]].concat()).status.success());
    assert_eq!(daemon.cli("clearing", &verify).status.code(), Some(2));
    let output = set("resume");
    assert!(words(&output).contains("destroyed cannot become active"), "{}", words(&output));
}

#[test]
fn certificates_that_are_not_ours_do_not_get_in() {
    let (daemon, other) = (Daemon::start(), Daemon::start());
    let ours = daemon.connection("officer");
    let theirs = other.connection("officer");
    let call = |ca: &std::path::Path, cert: &std::path::Path, key: &std::path::Path| {
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        cli(&[
            "--url",
            &ours.url,
            "--ca",
            &path(ca),
            "--cert",
            &path(cert),
            "--key",
            &path(key),
            "keys",
            "list",
            "--tenant",
            "demo",
        ])
    };
    assert!(call(&ours.ca, &ours.certificate, &ours.key).status.success());
    let output = call(&ours.ca, &theirs.certificate, &theirs.key);
    assert_eq!(output.status.code(), Some(2));
    assert!(words(&output).contains("refuses the client certificate"), "{}", words(&output));
    let output = call(&theirs.ca, &ours.certificate, &ours.key);
    assert!(words(&output).contains("certificate"), "{}", words(&output));
    let output = call(&ours.ca, &ours.certificate, &theirs.key);
    assert_eq!(output.status.code(), Some(2), "a key of another certificate");
    // Who was not let in is in the audit log, once a second at most.
    let begun = std::time::Instant::now();
    let log = daemon.data().join("audit.jsonl");
    let turned_away =
        || std::fs::read_to_string(&log).unwrap().contains("\"event\":\"failed-login\",\"principal\":\"127.0.0.1\"");
    while !turned_away() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "nobody wrote it down");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let expired = expired_certificate(&daemon);
    let output = call(&ours.ca, &expired.0, &expired.1);
    assert!(
        words(&output).contains("CertificateExpired") || words(&output).contains("certificate expired"),
        "{}",
        words(&output)
    );
}

/// A certificate of the daemon's own authority that ended long ago.
fn expired_certificate(daemon: &Daemon) -> (std::path::PathBuf, std::path::PathBuf) {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
    let read = |name: &str| std::fs::read_to_string(daemon.data().join(name)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca-key.pem")).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("claviger://officer/officer".try_into().unwrap())];
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 2, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    (
        daemon.file("expired.pem", certificate.pem().as_bytes()).into(),
        daemon.file("expired-key.pem", key.serialize_pem().as_bytes()).into(),
    )
}
