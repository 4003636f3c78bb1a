//! Known secrets are sent every way that secrets go, and then looked for everywhere that they should not be.

use std::process::Command;

use claviger_client::{
    CardApdu, CardCommand, CipherItem, CipherResult, Client, ClientError, Connection, Encrypt, ImportKey, Key,
    KeyReference, NewKey, PurseResult,
};
use zeroize::Zeroizing;

use crate::cards::command;
use crate::daemon::{Daemon, components, connection};
use crate::load::{generic, reference};
use crate::purse::{card_key, load};
use crate::token_secrets::{derived_by_3des, found_in};

const ROOT: &str = "5B3D0A77C2914EF86CA3159E60D7B248";
/// Of the embedded backend, so that the published worked example holds.
const CARD: &str = "11223344556677888877665544332211";
const GENERIC: &str = "9C4E71D0A86F2B35E7184FC60D92B53A";
const PIN: &str = "739204";
const TEXT: &str = "C0FFEE0BADC0DE5EC2E75A17ED0F00D5";
/// Of the published load: what came and what went.
const MACS: [&str; 2] = ["2988AE5A", "3A845BF0"];

async fn metrics(to: &Connection) -> String {
    let pem = [std::fs::read(&to.certificate).unwrap(), std::fs::read(&to.key).unwrap()].concat();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(&to.ca).unwrap()).unwrap();
    // The daemon's own client names its provider of ciphers; this one takes the process's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .tls_certs_only([authority])
        .identity(reqwest::Identity::from_pem(&pem).unwrap())
        .build()
        .unwrap();
    client.get(format!("{}/metrics", to.url)).send().await.unwrap().text().await.unwrap()
}

/// What was answered, as far as words go.
fn said<T>(answer: Result<T, ClientError>, told: &mut Vec<String>) {
    if let Err(error) = answer {
        told.push(format!("{error} {error:?}"));
    }
}

fn import(key: NewKey, value: &str) -> ImportKey {
    ImportKey { key, components: components(value), kcv: None, odd_parity: false }
}

/// Sends the secrets every way, right and wrong.
async fn send(client: impl Fn(&str) -> Client, told: &mut Vec<String>) {
    let (officer, cards) = (client("officer"), client("card-management"));
    let role =
        |role: &str| NewKey { scheme: "jtt978".to_owned(), role: role.to_owned(), factors: Vec::new(), ..card_key() };
    officer.post::<Key>("/v1/keys/import", &import(card_key(), CARD)).await.unwrap();
    for name in ["DPUK", "DACK", "DTK"] {
        officer.post::<Key>("/v1/keys/import", &import(role(name), ROOT)).await.unwrap();
    }
    officer.post::<Key>("/v1/keys/import", &import(generic("DATA"), GENERIC)).await.unwrap();
    // The same again, with another check value, and with a component that is none.
    said(officer.post::<Key>("/v1/keys/import", &import(card_key(), CARD)).await, told);
    let wrong = ImportKey { kcv: Some("FFFFFF".to_owned()), ..import(role("IK"), ROOT) };
    said(officer.post::<Key>("/v1/keys/import", &wrong).await, told);
    let odd =
        ImportKey { components: vec![Zeroizing::new(format!("{ROOT}0")), Zeroizing::new(CARD.to_owned())], ..wrong };
    said(officer.post::<Key>("/v1/keys/import", &odd).await, told);
    let found: PurseResult = cards.post("/v1/purse", &load(MACS[0], "4096")).await.unwrap();
    assert_eq!(found.mac.as_deref(), Some(MACS[1]));
    said(cards.post::<PurseResult>("/v1/purse", &load("2988AE5", "4096")).await, told);
    let pin = |challenge: &str, pin: &str| -> CardCommand { command("unblock-pin", challenge, pin) };
    cards.post::<CardApdu>("/v1/cards/command", &pin("11223344", PIN)).await.unwrap();
    said(cards.post::<CardApdu>("/v1/cards/command", &pin("112233", PIN)).await, told);
    said(cards.post::<CardApdu>("/v1/cards/command", &pin("11223344", &format!("{PIN}F"))).await, told);
    said(client("clearing").post::<CardApdu>("/v1/cards/command", &pin("11223344", PIN)).await, told);
    let encrypt = |mode: &str| Encrypt {
        key: KeyReference { role: "DATA".to_owned(), ..reference() },
        mode: mode.to_owned(),
        padding: "none".to_owned(),
        items: vec![CipherItem { data: TEXT.to_owned(), iv: None, associated: String::new() }],
    };
    cards.post::<CipherResult>("/v1/encrypt", &encrypt("ecb")).await.unwrap();
    said(cards.post::<CipherResult>("/v1/encrypt", &encrypt("backwards")).await, told);
}

/// Where a secret stands in a text: as bytes, or as digits of either case.
fn holds(bytes: &[u8], secret: &str) -> bool {
    let raw = hex::decode(secret).unwrap_or_default();
    let words = [secret.as_bytes().to_vec(), secret.to_lowercase().into_bytes(), raw];
    words.iter().any(|word| word.len() > 3 && memchr::memmem::find(bytes, word).is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_logs_errors_audit_metrics_or_files() {
    let daemon = Daemon::talkative();
    let data = daemon.data();
    let mut told = Vec::new();
    send(|name| daemon.client(name), &mut told).await;
    assert!(told.len() >= 8, "{told:?}");
    let mut places: Vec<(String, Vec<u8>)> = vec![("an error".to_owned(), told.join("\n").into_bytes())];
    let metrics = metrics(&connection(&data, "officer")).await;
    assert!(metrics.contains("claviger_requests_total"));
    places.push(("the metrics".to_owned(), metrics.into_bytes()));
    let daemon = daemon.stop();
    for path in std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    let log = daemon.said();
    assert!(log.len() > 10_000, "the daemon did not say much: {} bytes", log.len());
    places.push(("the log".to_owned(), log));
    let parts = [ROOT, CARD, GENERIC].map(components);
    let shares = parts.iter().flatten().map(|part| part.to_uppercase()).filter(|part| !part.starts_with("5A5A"));
    let secrets: Vec<String> =
        [ROOT, CARD, GENERIC, PIN, TEXT, MACS[0], MACS[1]].map(str::to_owned).into_iter().chain(shares).collect();
    for (place, bytes) in &places {
        for secret in &secrets {
            assert!(!holds(bytes, secret), "{secret} is in {place}");
        }
    }
}

/// What can be read of the daemon's memory from outside: not the locked pages, which is where stored keys are.
#[tokio::test(flavor = "multi_thread")]
async fn no_stored_and_no_derived_key_is_in_memory_that_can_be_read() {
    let daemon = Daemon::start();
    send(|name| daemon.client(name), &mut Vec::new()).await;
    let secret = |name: &str, value: &str| (name.to_owned(), hex::decode(value).unwrap());
    let stored = [secret("the root key", ROOT), secret("the card's own key", CARD), secret("the generic key", GENERIC)];
    let keys: Vec<_> = stored.into_iter().chain(derived_by_3des()).collect();
    let (found, known) = found_in(daemon.process(), &keys, b"claviger");
    assert!(known, "the search finds nothing at all");
    assert!(found.is_empty(), "{found:?}");
}

/// Of a daemon that breaks the kernel writes no core, and in one that root forces out of it with a debugger no key is found.
#[tokio::test(flavor = "multi_thread")]
async fn no_core_holds_a_key() {
    let mut daemon = Daemon::talkative();
    send(|name| daemon.client(name), &mut Vec::new()).await;
    let core = daemon.folder.path().join("core");
    let forced = Command::new("gdb")
        .args(["--batch", "--nx", "--pid", &daemon.process().to_string()])
        .args(["-ex", &format!("generate-core-file {}", core.display()), "-ex", "detach"])
        .output()
        .unwrap();
    let bytes =
        std::fs::read(&core).unwrap_or_else(|_| panic!("no core was forced: {}", crate::daemon::words(&forced)));
    assert!(bytes.len() > 1 << 20 && memchr::memmem::find(&bytes, b"claviger").is_some(), "{} bytes", bytes.len());
    let stored = [ROOT, CARD, GENERIC].map(|key| (key.to_owned(), hex::decode(key).unwrap()));
    for (name, key) in stored.into_iter().chain(derived_by_3des()) {
        assert!(memchr::memmem::find(&bytes, &key).is_none(), "{name} is in the core");
    }
    let ended = daemon.abort();
    assert!(std::os::unix::process::ExitStatusExt::signal(&ended).is_some());
    assert!(!std::os::unix::process::ExitStatusExt::core_dumped(&ended), "the kernel wrote a core");
}

/// What custodians see and type is in no log, and neither a component or share nor the key that they became is in memory that
/// can be read. Their text is not looked for there: it passes through buffers of the HTTP and TLS libraries, which give them
/// back as they are (docs/limits.md).
#[tokio::test(flavor = "multi_thread")]
async fn ceremonies_leave_no_component() {
    use crate::ceremonies::attacks::{hold_all, open, order};
    use claviger_key_ceremonies::{SHARE_LEN, Written, read_component};

    let daemon = Daemon::talkative();
    let mut keys: Vec<(String, Vec<u8>)> = Vec::new();
    let mut written = Vec::new();
    for (plan, len) in [("hand-out-root", 16), ("share-storage-key", SHARE_LEN)] {
        let id = open(&daemon, &order(&daemon.data(), plan, &[], &[])).await.unwrap().id;
        let shown = hold_all(&daemon, &id).await;
        let mut joined = vec![0; len];
        for (number, text) in shown.iter().enumerate() {
            let component = read_component(text, Written::Letters, len, false).unwrap();
            joined.iter_mut().zip(component.expose()).for_each(|(sum, byte)| *sum ^= byte);
            // A share's first two bytes are no secret.
            keys.push((format!("{plan} {number}, bytes"), component.expose()[len - 16..].to_vec()));
            // Three groups are enough to know it by.
            let groups = text[text.len() - 17..].to_owned();
            keys.push((format!("{plan} {number}, as it was shown and typed"), groups.clone().into_bytes()));
            written.push(groups);
        }
        if plan == "hand-out-root" {
            keys.push(("the key".to_owned(), joined));
        }
    }
    let log = String::from_utf8_lossy(&daemon.said()).into_owned();
    assert!(log.contains("claviger") && !written.iter().any(|text| log.contains(text.as_str())));
    let (found, known) = found_in(daemon.process(), &keys, b"claviger");
    assert!(known && found.is_empty(), "{found:?}");
}
