//! Whatever kind of key somebody has, in a file or in a token: it calls, and signs the transcript.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger_key_ceremonies::{Event, SignatureError, Transcript};

use super::attacks::{open, order};
use super::{Player, Room, now};
use crate::daemon::{Daemon, cli, connection, words};
use crate::terminal::Terminal;
use crate::tokens::{NSS, PIN, SOFTHSM, Token, want_pin_each_time};

/// By OpenSSL's names, and how many bits its keys have.
const RSA: [&str; 3] = ["RSA", "-pkeyopt", "rsa_keygen_bits:3072"];
const P256: [&str; 3] = ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: [&str; 3] = ["EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const ED25519: [&str; 1] = ["ED25519"];

fn openssl(arguments: &[&str], files: &[(&str, &Path)]) {
    let mut command = Command::new("openssl");
    command.args(arguments);
    for (option, file) in files {
        command.arg(option).arg(file);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

/// Gives a person a key of another kind, and a certificate for it by the daemon's authority.
fn give_key(daemon: &Daemon, who: &str, kind: &[&str]) {
    let data = daemon.data();
    let (key, certificate) = (data.join(format!("clients/{who}-key.pem")), data.join(format!("clients/{who}.pem")));
    openssl(&[&["genpkey", "-algorithm"], kind].concat(), &[("-out", &key)]);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let request = data.join("request.pem");
    openssl(&["req", "-new", "-subj", &format!("/CN={who}")], &[("-key", &key), ("-out", &request)]);
    let names = daemon.file("names", format!("subjectAltName=URI:claviger://officer/{who}\n").as_bytes());
    openssl(
        &["x509", "-req", "-days", "30", "-set_serial", "77", "-extfile", &names],
        &[
            ("-in", &request),
            ("-CA", &data.join("ca.pem")),
            ("-CAkey", &data.join("ca-key.pem")),
            ("-out", &certificate),
        ],
    );
}

/// A key in a token, and nowhere else.
struct InToken {
    token: Token,
    uri: String,
    environment: Vec<(&'static str, String)>,
}

impl InToken {
    fn softhsm(key: &Path) -> Self {
        let token = Token::softhsm();
        let file = key.to_str().unwrap();
        token.util(&["--import", file, "--token", "城市卡", "--label", "witness", "--id", "01", "--pin", PIN]);
        std::fs::remove_file(key).unwrap();
        let conf = token.path("softhsm2.conf").display().to_string();
        let uri = format!("pkcs11:token=%E5%9F%8E%E5%B8%82%E5%8D%A1;object=witness?module-path={SOFTHSM}");
        Self { token, uri, environment: vec![("SOFTHSM2_CONF", conf)] }
    }

    /// NSS, whose module opens nothing before it is told its directory.
    fn nss(key: &Path, certificate: &Path) -> Self {
        let token = Token::nss();
        token.import(key, certificate, "witness");
        std::fs::remove_file(key).unwrap();
        let init = token.init().replace(' ', "%20");
        let uri = format!("pkcs11:token=NSS%20Certificate%20DB;object=witness?module-path={NSS}&x-init={init}");
        Self { token, uri, environment: vec![("NSS_MAX_MP_PBE_ITERATION_COUNT", "1".to_owned())] }
    }

    fn pin_source(&self) -> String {
        format!("{}&pin-source=file:{}", self.uri, self.token.path("pin").display())
    }

    /// The witness at a terminal, with the key that is in the token.
    fn witness(&self, daemon: &Daemon, uri: &str, command: &[&str]) -> Terminal {
        let us = connection(&daemon.data(), "witness");
        let (ca, certificate) = (us.ca.display().to_string(), us.certificate.display().to_string());
        let named = ["--url", &us.url, "--ca", &ca, "--cert", &certificate, "--key", uri];
        let environment: Vec<(&str, &str)> =
            self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Terminal::claviger_with(&[&named, command].concat(), &folder(daemon), &environment)
    }
}

fn folder(daemon: &Daemon) -> PathBuf {
    daemon.data().parent().unwrap().to_owned()
}

/// A ceremony where the witness calls and signs with the key in the token, and a transcript that holds for nothing else.
fn a_ceremony(daemon: &Daemon, version: &str, at: &InToken, uri: &str) {
    let folder = folder(daemon);
    let order = order(&daemon.data(), "generate-root", &[], &[("version", version)]);
    let id = now(open(daemon, &order)).unwrap().id;
    let mut terminal = at.witness(daemon, uri, &["ceremony", "join", id.as_str()]);
    if !uri.contains("pin-source") {
        terminal.expect("PIN of token ");
        terminal.type_in(&format!("{PIN}\r"));
    }
    let witness = Player { terminal, ..Player::at(&folder, &["--version"]) };
    let room = Room { folder: folder.clone(), data: daemon.data(), id: id.clone(), plan: "generate-root".to_owned() };
    for (who, player) in &mut room.play([("witness".to_owned(), witness)].into()) {
        assert_eq!(player.terminal.end(), 0, "{uri} {who}: {}", player.terminal.everything_visible());
    }
    let transcript = folder.join(format!("{id}.jsonl"));
    let shown = daemon.cli("auditor", &["ceremony", "show", &id, "--transcript", transcript.to_str().unwrap()]);
    assert!(shown.status.success(), "{}", words(&shown));
    let binding = daemon.file("binding.toml", order.binding.as_bytes());
    let verified = cli(&["ceremony", "verify", transcript.to_str().unwrap(), "--binding", &binding]);
    assert_eq!(verified.status.code(), Some(0), "{uri}: {}", words(&verified));
    assert!(words(&verified).contains("witness signed"), "{}", words(&verified));
    let transcript = Transcript::parse(&std::fs::read_to_string(&transcript).unwrap()).unwrap();
    let signatures = transcript.entries().iter().filter_map(|entry| match &entry.event {
        Event::Signed { signed, .. } => Some(signed),
        _ => None,
    });
    let others: Vec<bool> =
        signatures.map(|signed| matches!(signed.verify(b"other"), Err(SignatureError::Wrong))).collect();
    assert_eq!(others, [true; 2], "{uri}");
}

#[test]
fn keys_of_every_kind_call_and_sign_from_files_and_tokens() {
    let daemon = Daemon::start();
    for (number, kind) in [&RSA[..], &P256, &P384, &ED25519].into_iter().enumerate() {
        give_key(&daemon, "officer", kind);
        give_key(&daemon, "witness", kind);
        let us = connection(&daemon.data(), "witness");
        // Debian's NSS has no Ed25519.
        if kind != ED25519 {
            let copy = us.key.with_extension("copy");
            std::fs::copy(&us.key, &copy).unwrap();
            let nss = InToken::nss(&copy, &us.certificate);
            a_ceremony(&daemon, &format!("1{number}"), &nss, &nss.uri);
        }
        let softhsm = InToken::softhsm(&us.key);
        a_ceremony(&daemon, &format!("0{number}"), &softhsm, &softhsm.uri);
    }
}

/// Smart cards have keys for signatures that want the PIN for each of them.
#[test]
fn a_key_may_want_the_pin_for_each_signature() {
    let daemon = Daemon::start();
    let softhsm = InToken::softhsm(&connection(&daemon.data(), "witness").key);
    let wanting = softhsm.token.objects().iter().filter(|object| want_pin_each_time(object)).count();
    assert_eq!(wanting, 1, "the private key and nothing else");
    a_ceremony(&daemon, "01", &softhsm, &softhsm.pin_source());
    // For the login, and for the signature that TLS takes.
    let list = ["ceremony", "list", "--tenant", "demo"];
    let mut terminal = softhsm.witness(&daemon, &softhsm.uri, &list);
    for times in 1..=2 {
        terminal.expect_times("PIN of token 城市卡: ", times);
        terminal.type_in(&format!("{PIN}\r"));
    }
    assert_eq!(terminal.end(), 0, "{}", terminal.everything_visible());
    assert!(!terminal.written().contains(PIN));
    let mut terminal = softhsm.witness(&daemon, &softhsm.uri, &list);
    for (times, typed) in [(1, PIN), (2, "000000")] {
        terminal.expect_times("PIN of token 城市卡: ", times);
        terminal.type_in(&format!("{typed}\r"));
    }
    assert_ne!(terminal.end(), 0);
    let told = terminal.written();
    assert!(told.contains("refuses the PIN"), "{told}");
    assert_eq!(told.matches("PIN of token").count(), 2, "a token that refuses is not asked again: {told}");
}
