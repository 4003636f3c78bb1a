//! Whatever kind of key somebody has, in a file or in a token: it calls, and signs the transcript.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use claviger_key_ceremonies::{Event, SignatureError, Transcript};

use super::attacks::{open, order};
use super::{Player, Room, now};
use crate::daemon::{Daemon, cli, connection, words};
use crate::terminal::Terminal;
use crate::tokens::{PIN, SOFTHSM, Token};

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
    let request = daemon.data().join("request.pem");
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

/// Puts a person's key into a token and nowhere else; its URI.
fn move_to(token: &Token, key: &Path) -> String {
    let file = key.to_str().unwrap();
    token.util(&["--import", file, "--token", "城市卡", "--label", "witness", "--id", "01", "--pin", PIN]);
    std::fs::remove_file(key).unwrap();
    format!("pkcs11:token=%E5%9F%8E%E5%B8%82%E5%8D%A1;object=witness?module-path={SOFTHSM}")
}

#[test]
fn keys_of_every_kind_call_and_sign_from_files_and_tokens() {
    let daemon = Daemon::start();
    let folder = daemon.data().parent().unwrap().to_owned();
    for (number, kind) in [&RSA[..], &P256, &P384, &ED25519].into_iter().enumerate() {
        give_key(&daemon, "officer", kind);
        give_key(&daemon, "witness", kind);
        let token = Token::softhsm();
        let us = connection(&daemon.data(), "witness");
        let uri = move_to(&token, &us.key);
        let version = format!("{number:02}");
        let order = order(&daemon.data(), "generate-root", &[], &[("version", &version)]);
        let id = now(open(&daemon, &order)).unwrap().id;
        let (ca, certificate) = (us.ca.display().to_string(), us.certificate.display().to_string());
        let join =
            ["--url", &us.url, "--ca", &ca, "--cert", &certificate, "--key", &uri, "ceremony", "join", id.as_str()];
        let conf = token.path("softhsm2.conf").display().to_string();
        let found = [("SOFTHSM2_CONF", conf.as_str())];
        let mut witness =
            Player { terminal: Terminal::claviger_with(&join, &folder, &found), ..Player::at(&folder, &["--version"]) };
        witness.terminal.expect("PIN of token ");
        witness.terminal.type_in(&format!("{PIN}\r"));
        let room =
            Room { folder: folder.clone(), data: daemon.data(), id: id.clone(), plan: "generate-root".to_owned() };
        for (who, player) in &mut room.play([("witness".to_owned(), witness)].into()) {
            assert_eq!(player.terminal.end(), 0, "{kind:?} {who}: {}", player.terminal.everything_visible());
        }
        let transcript = folder.join(format!("{id}.jsonl"));
        let shown = daemon.cli("auditor", &["ceremony", "show", &id, "--transcript", transcript.to_str().unwrap()]);
        assert!(shown.status.success(), "{}", words(&shown));
        let binding = daemon.file("binding.toml", order.binding.as_bytes());
        let file = transcript.to_str().unwrap();
        let verified = cli(&["ceremony", "verify", file, "--binding", &binding]);
        assert_eq!(verified.status.code(), Some(0), "{kind:?}: {}", words(&verified));
        assert!(words(&verified).contains("witness signed"), "{}", words(&verified));
        // And holds for nothing else.
        let transcript = Transcript::parse(&std::fs::read_to_string(&transcript).unwrap()).unwrap();
        let signatures = transcript.entries().iter().filter_map(|entry| match &entry.event {
            Event::Signed { signed, .. } => Some(signed),
            _ => None,
        });
        let others: Vec<bool> =
            signatures.map(|signed| matches!(signed.verify(b"other"), Err(SignatureError::Wrong))).collect();
        assert_eq!(others, [true; 2], "{kind:?}");
    }
}
