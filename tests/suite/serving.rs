//! A daemon by its configuration, as operators run it: sealed start, production policies, an orderly end.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use claviger_client::{Client, ClientError, Connection, Health, ImportKey, Key, KeyFilter, KeyList, NewKey};
use futures_util::StreamExt;
use zeroize::Zeroizing;

use crate::daemon::{Daemon, cli, problem, words};

const PASSPHRASE: &str = "不要告诉任何人 these words";

/// A served daemon; ends with its value.
struct Served {
    process: Child,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Lets nobody but its owner read a file.
fn private(file: &Path) {
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
}

/// The same, under policies by which one officer makes keys.
fn relax(config: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    std::fs::write(config, format!("policies = \"dev\"\n{text}")).unwrap();
}

/// A configuration in `folder` with the certificates of a development daemon.
pub(crate) fn configure(folder: &Path, certificates: &Daemon, seal: &str) -> String {
    let pem = |name: &str| certificates.data().join(name).display().to_string();
    let principals: String =
        [("service", "clearing", "clearing"), ("officer", "officer", "officer"), ("officer", "officer-2", "officer")]
            .map(|(kind, name, role)| {
                format!(
                    "[[principal]]\nuri = \"claviger://{kind}/{name}\"\nroles = [\"{role}\"]\ntenants = [\"demo\"]\n"
                )
            })
            .concat();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndata = \"data\"\n[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n{seal}\n\
         [limits]\nrequest_seconds = 5\ndrain_seconds = 20\n[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n{principals}",
        pem("server.pem"),
        pem("server-key.pem"),
        pem("ca.pem")
    );
    let path = folder.join("claviger.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn serve(config: &str) -> Served {
    let mut process = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["serve", "--config", config])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let url = loop {
        let line = lines.next().expect("the daemon says where it serves").unwrap();
        if let Some((_, rest)) = line.split_once("claviger serves ") {
            break rest.split(' ').next().unwrap().to_owned();
        }
    };
    // Somebody must read on, or the daemon waits for its own log.
    std::thread::spawn(move || lines.for_each(drop));
    Served { process, url }
}

fn client(served: &Served, certificates: &Daemon, name: &str) -> Client {
    Client::new(&Connection { url: served.url.clone(), ..certificates.connection(name) }).unwrap()
}

fn key() -> NewKey {
    NewKey {
        tenant: "demo".to_owned(),
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
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_daemon_serves_nothing_until_an_officer_opens_it() {
    let (certificates, folder) = (Daemon::start(), tempfile::tempdir().unwrap());
    let config = configure(folder.path(), &certificates, "");
    let file = |name: &str, words: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, words).unwrap();
        private(&path);
        path.to_str().unwrap().to_owned()
    };
    let open = folder.path().join("open");
    std::fs::write(&open, PASSPHRASE).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o644)).unwrap();
    let open = cli(&["init", "--config", &config, "--passphrase-file", open.to_str().unwrap()]);
    assert!(words(&open).contains("open holds a secret of its owner alone"), "{}", words(&open));
    let short = cli(&["init", "--config", &config, "--passphrase-file", &file("short", "short")]);
    assert!(words(&short).contains("at least 12 characters"), "{}", words(&short));
    let sealed = cli(&["init", "--config", &config, "--passphrase-file", &file("words", PASSPHRASE)]);
    assert!(sealed.status.success(), "{}", words(&sealed));
    let again = cli(&["init", "--config", &config, "--passphrase-file", &file("words", PASSPHRASE)]);
    assert!(words(&again).contains("sealed already"), "{}", words(&again));

    let served = serve(&config);
    let officer = client(&served, &certificates, "officer");
    assert!(
        matches!(officer.get::<Health>("/readyz", &()).await, Err(ClientError::Answer(text)) if text.contains("503"))
    );
    let refused = problem(officer.post::<Key>("/v1/keys", &key()).await);
    assert_eq!((refused.status, refused.code.as_str()), (503, "sealed"));
    let filter = KeyFilter { tenant: "shanghai".to_owned(), ..KeyFilter::default() };
    assert_eq!(problem(officer.get::<KeyList>("/v1/keys", &filter).await).code, "sealed");
    let unseal = |words: &str| claviger_client::Unseal { passphrase: Zeroizing::new(words.to_owned()) };
    // No officer alone, however right the words; another approves it, of a daemon that is sealed.
    let needed = problem(officer.post::<Health>("/v1/unseal", &unseal(PASSPHRASE)).await);
    assert_eq!((needed.code.as_str(), needed.policy.as_deref()), ("approval_needed", Some("officers.unseal")));
    let proposal = needed.approval.unwrap();
    let agree = || {
        let other = certificates.connection("officer-2");
        let [ca, certificate, key] = [&other.ca, &other.certificate, &other.key].map(|path| path.display().to_string());
        let us = ["--url", &served.url, "--ca", &ca, "--cert", &certificate, "--key", &key];
        cli(&[&us[..], &["approvals", "approve", "--yes", &proposal]].concat())
    };
    let agreed = agree();
    assert!(agreed.status.success() && words(&agreed).contains("its passphrase"), "{}", words(&agreed));
    let officer = officer.approved(Some(proposal.clone()));
    // Words that were mistyped take the approval with them no more than they open anything.
    let wrong = problem(officer.post::<Health>("/v1/unseal", &unseal("not these words at all")).await);
    assert_eq!((wrong.status, wrong.code.as_str()), (403, "wrong_passphrase"));
    let clearing = client(&served, &certificates, "clearing");
    assert_eq!(problem(clearing.post::<Health>("/v1/unseal", &unseal(PASSPHRASE)).await).code, "denied");
    let health: Health = officer.post("/v1/unseal", &unseal(PASSPHRASE)).await.unwrap();
    assert_eq!(health.status, "ok");
    // Approved once, it is done once.
    assert_eq!(problem(officer.post::<Health>("/v1/unseal", &unseal(PASSPHRASE)).await).code, "proposal_over");
    let officer = officer.approved(None);
    // Nor does one officer put a master key into the daemon's memory.
    assert_eq!(problem(officer.post::<Key>("/v1/keys", &key()).await).code, "approval_needed");
    let made: Key = officer.post("/v1/keys", &crate::load::generic("CMAC")).await.unwrap();
    assert_eq!(made.state, "active");
    // In production no officer brings in a key alone.
    let components = ["01".repeat(16), "23".repeat(16)].map(Zeroizing::new).to_vec();
    let import =
        ImportKey { key: NewKey { role: "DLK".to_owned(), ..key() }, components, kcv: None, odd_parity: false };
    assert_eq!(problem(officer.post::<Key>("/v1/keys/import", &import).await).code, "denied");
    // A principal that the configuration does not name is nobody, however good its certificate.
    let nobody = client(&served, &certificates, "auditor");
    assert_eq!(problem(nobody.post::<Key>("/v1/keys", &key()).await).code, "unknown_principal");
    let log = std::fs::read_to_string(folder.path().join("data/audit.jsonl")).unwrap();
    assert!(log.contains("wrong_passphrase") && !log.contains("these words"), "{log}");
}

#[test]
fn a_key_file_that_others_can_read_opens_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let (certificates, folder) = (Daemon::start(), tempfile::tempdir().unwrap());
    let config = configure(folder.path(), &certificates, "[seal]\nkey_file = \"storage.key\"");
    assert!(cli(&["init", "--config", &config]).status.success());
    let key_file = folder.path().join("storage.key");
    std::fs::set_permissions(&key_file, PermissionsExt::from_mode(0o644)).unwrap();
    let refused = cli(&["serve", "--config", &config]);
    assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
    assert!(words(&refused).contains("chmod 600"), "{}", words(&refused));
    std::fs::set_permissions(&key_file, PermissionsExt::from_mode(0o600)).unwrap();
    drop(serve(&config));
    let wrong = config.replace("claviger.toml", "wrong.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&wrong, text.replace("request_seconds", "request_secnods")).unwrap();
    let refused = cli(&["serve", "--config", &wrong]);
    assert!(
        words(&refused).contains("request_secnods") && words(&refused).contains("wrong.toml"),
        "{}",
        words(&refused)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_runs_when_the_daemon_is_told_to_stop_is_finished() {
    let (certificates, folder) = (Daemon::start(), tempfile::tempdir().unwrap());
    let config = configure(folder.path(), &certificates, "[seal]\nkey_file = \"storage.key\"");
    relax(&config);
    assert!(cli(&["init", "--config", &config]).status.success());
    let mut served = serve(&config);
    let officer = client(&served, &certificates, "officer");
    let _: Key = officer.post("/v1/keys", &key()).await.unwrap();
    let day = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/days/cjt166-3des-day.csv")).unwrap();
    let pieces: Vec<bytes::Bytes> = day.as_bytes().chunks(8000).map(bytes::Bytes::copy_from_slice).collect();
    let middle = pieces.len() / 2;
    let process = served.process.id().to_string();
    let body = futures_util::stream::iter(pieces.into_iter().enumerate()).then(move |(number, piece)| {
        let process = process.clone();
        async move {
            if number == middle {
                let told = Command::new("kill").args(["-TERM", &process]).status().unwrap();
                assert!(told.success());
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Ok(piece)
        }
    });
    let parameters = crate::main_job::a_day();
    let clearing = client(&served, &certificates, "clearing");
    let answer = clearing.stream("/v1/transactions/verify", &parameters, "text/csv", body).await.unwrap();
    let mut verdicts = Vec::new();
    let mut pieces = std::pin::pin!(answer.pieces);
    while let Some(piece) = pieces.next().await {
        verdicts.extend_from_slice(&piece.expect("the job is finished, not broken off"));
    }
    assert_eq!(verdicts.iter().filter(|byte| **byte == b'\n').count(), 5001);
    drop(clearing);
    let begun = Instant::now();
    let status = loop {
        match served.process.try_wait().unwrap() {
            Some(status) => break status,
            None if begun.elapsed() > Duration::from_secs(25) => panic!("the daemon does not stop"),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stands_still_is_given_up() {
    let (certificates, folder) = (Daemon::start(), tempfile::tempdir().unwrap());
    let config = configure(folder.path(), &certificates, "[seal]\nkey_file = \"storage.key\"");
    relax(&config);
    let text = std::fs::read_to_string(&config).unwrap().replace("request_seconds = 5", "request_seconds = 1");
    std::fs::write(&config, text).unwrap();
    assert!(cli(&["init", "--config", &config]).status.success());
    let served = serve(&config);
    let officer = client(&served, &certificates, "officer");
    let _: Key = officer.post("/v1/keys", &key()).await.unwrap();
    let parameters = crate::main_job::a_day();
    let clearing = client(&served, &certificates, "clearing");
    let refused =
        clearing.stream("/v1/transactions/verify", &parameters, "text/csv", futures_util::stream::pending()).await;
    assert_eq!(problem(refused.map(drop)).code, "too_slow");
}

/// Whoever is still sending when a request is refused learns why, whatever refused it.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_arrive_while_a_body_is_still_going_up() {
    let daemon = Daemon::start();
    let large = "x".repeat(600_000);
    for _ in 0..5 {
        let officer = daemon.client("officer");
        assert_eq!(problem(officer.post::<Key>("/v1/nothing", &large).await).code, "no_route");
        assert_eq!(problem(officer.post::<Key>("/v1/schemes/cjt166", &large).await).code, "no_method");
        let clearing = daemon.client("clearing");
        let verify = "/v1/transactions/verify?tenant=demo";
        assert_eq!(problem(clearing.post::<Key>(verify, &large).await).code, "bad_query");
        let body = futures_util::stream::iter(vec![bytes::Bytes::from(large.clone()); 4].into_iter().map(Ok));
        let parameters = [("tenant", "demo"), ("scheme", "cjt166")];
        let refused = clearing.stream("/v1/transactions/verify", &parameters, "text/plain", body).await;
        assert_eq!(problem(refused.map(drop)).code, "unknown_format");
    }
}

/// What others could change, a daemon does not go by; and a key that others can read is none.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_too_open_are_refused() {
    let (certificates, folder) = (Daemon::start(), tempfile::tempdir().unwrap());
    let config = configure(folder.path(), &certificates, "[seal]\nkey_file = \"storage.key\"");
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let policy = own.join("own.cedar");
    std::fs::write(&policy, "@id(\"own\") @reason(\"a test\") permit (principal, action, resource);").unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("policies = \"own\"\n{text}")).unwrap();
    assert!(cli(&["init", "--config", &config]).status.success());
    let pem = |name: &str| certificates.data().join(name);
    for (file, mode, says) in [
        (Path::new(&config).to_owned(), 0o666, "can be changed by others"),
        (Path::new(&config).to_owned(), 0o620, "can be changed by others"),
        (policy, 0o664, "can be changed by others"),
        (own, 0o777, "can be changed by others"),
        (pem("ca.pem"), 0o602, "can be changed by others"),
        (folder.path().to_owned(), 0o777, "can be changed by others"),
        (certificates.data().to_owned(), 0o720, "can be changed by others"),
        (folder.path().join("data/claviger.db"), 0o664, "can be changed by others"),
        (folder.path().join("data"), 0o770, "can be changed by others"),
        (folder.path().join("data"), 0o702, "can be changed by others"),
        (folder.path().join("data"), 0o755, "is open to others"),
        (pem("server-key.pem"), 0o644, "others can read"),
        (folder.path().join("storage.key"), 0o640, "chmod 600"),
    ] {
        let before = std::fs::metadata(&file).unwrap().permissions();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let refused = cli(&["serve", "--config", &config]);
        let told = words(&refused);
        assert_eq!(refused.status.code(), Some(2), "{}: {told}", file.display());
        assert!(told.contains(says) && told.contains(file.file_name().unwrap().to_str().unwrap()), "{says}: {told}");
        std::fs::set_permissions(&file, before).unwrap();
    }
    // Nor by what is somebody else's, who could open it to anybody; only root can make such.
    let others = [folder.path().join("data"), folder.path().join("data/claviger.db"), pem("ca.pem"), (&config).into()];
    for file in others.iter().filter(|_| rustix::process::geteuid().is_root()) {
        std::os::unix::fs::chown(file, Some(65534), None).unwrap();
        let refused = cli(&["serve", "--config", &config]);
        assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
        let says = format!("{} belongs to user 65534", file.file_name().unwrap().display());
        assert!(words(&refused).contains(&says), "{}", words(&refused));
        std::os::unix::fs::chown(file, Some(0), None).unwrap();
    }
    // A pipe that nobody writes to holds nobody up.
    let kept = folder.path().join("kept");
    for file in [pem("ca.pem"), folder.path().join("storage.key"), folder.path().join("data/audit.jsonl")] {
        std::fs::rename(&file, &kept).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let refused = cli(&["serve", "--config", &config]);
        assert!(words(&refused).contains(&format!("{} is no plain file", file.display())), "{}", words(&refused));
        std::fs::rename(&kept, &file).unwrap();
    }
    // And with all as it was, it serves.
    drop(serve(&config));
}

/// The storage key as systemd hands it over: a file in a directory that it names, and no other file.
#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_systemd_opens_the_seal() {
    let (certificates, folder) = (Daemon::start(), tempfile::tempdir().unwrap());
    let config = configure(folder.path(), &certificates, "[seal]\nkey_file = \"storage.key\"");
    assert!(cli(&["init", "--config", &config]).status.success());
    let credentials = folder.path().join("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::rename(folder.path().join("storage.key"), credentials.join("storage.key")).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let name = |name: &str| {
        let text = text.replace("key_file = \"storage.key\"", &format!("systemd_credential = \"{name}\""));
        std::fs::write(&config, text).unwrap();
    };
    name("storage.key");
    let bare = cli(&["serve", "--config", &config]);
    assert!(words(&bare).contains("LoadCredentialEncrypted"), "{}", words(&bare));
    let mut process = Command::new(env!("CARGO_BIN_EXE_claviger"))
        .args(["serve", "--config", &config])
        .env("CREDENTIALS_DIRECTORY", &credentials)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let serves = lines.find_map(|line| line.ok().filter(|line| line.contains("claviger serves"))).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(!serves.contains("sealed"), "{serves}");
    let log = std::fs::read_to_string(folder.path().join("data/audit.jsonl")).unwrap();
    assert!(log.contains("\"principal\":\"systemd credential\""), "{log}");
    name("../storage.key");
    let elsewhere = cli(&["serve", "--config", &config]);
    assert!(words(&elsewhere).contains("has no `/`"), "{}", words(&elsewhere));
}

/// Whoever asks for an answer over HTTP/2 and opens no window for it is left, though its connection is as lively as any.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_taken_ends_its_connection() {
    let daemon = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), &daemon, "");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("request_seconds = 5", "request_seconds = 2")).unwrap();
    let file = folder.path().join("words");
    std::fs::write(&file, PASSPHRASE).unwrap();
    private(&file);
    let sealed = cli(&["init", "--config", &config, "--passphrase-file", file.to_str().unwrap()]);
    assert!(sealed.status.success(), "{}", words(&sealed));
    let served = serve(&config);
    let to = Connection { url: served.url.clone(), ..daemon.connection("clearing") };
    let pem = [std::fs::read(&to.certificate).unwrap(), std::fs::read(&to.key).unwrap()].concat();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&std::fs::read(&to.ca).unwrap()).unwrap()])
        .identity(reqwest::Identity::from_pem(&pem).unwrap())
        .http2_initial_stream_window_size(1024)
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let get = || client.get(format!("{}/openapi.json", to.url)).send();
    assert!(get().await.unwrap().bytes().await.unwrap().len() > 100_000, "one who takes it gets it");
    let answer = get().await.unwrap();
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(answer.bytes().await.is_err(), "it was kept for {:?}", begun.elapsed());
}

/// When a key may be used is said wherever the key is shown, and in the record of its making.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_says_when_it_may_be_used() {
    let daemon = Daemon::start();
    let times = ["2026-01-01T00:00:00Z", "2096-01-01T00:00:00Z", "2097-01-01T00:00:00Z"];
    let [from, until, verify] = times.map(|time| Some(time.to_owned()));
    let asked =
        NewKey { protect_from: from.clone(), protect_until: until.clone(), verify_until: verify.clone(), ..key() };
    let made: Key = daemon.client("officer").post("/v1/keys", &asked).await.unwrap();
    assert_eq!((made.protect_from, made.protect_until, made.verify_until), (from, until, verify));
    let shown = words(&daemon.cli("officer", &["keys", "show", &made.id]));
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    let record =
        log.lines().find(|line| line.contains("\"action\":\"generate_key\"") && !line.contains("\"begun\"")).unwrap();
    for (word, time) in ["protects from", "protects until", "verifies until"].into_iter().zip(times) {
        let said = format!("{word} {time}");
        assert!(shown.contains(&said) && record.contains(&said), "{said}: {shown} {record}");
    }
}
