//! Keys of people under passphrases: OpenSSL has put them there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::{Player, Rehearsal};
use crate::daemon::{Daemon, cli, connection, words};
use crate::terminal::Terminal;
use crate::tokens::{PIN, SOFTHSM, Token};

/// No word of it is among those that fingerprints are read out in.
const PASSPHRASE: &str = "kühlschrank 电池 trambahn";

/// Puts a key under a passphrase, by a derivation of OpenSSL's.
fn lock(key: &Path, derivation: &[&str]) {
    let locked = key.with_extension("locked");
    let output = Command::new("openssl")
        .args(["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-passout", &format!("pass:{PASSPHRASE}"), "-in"])
        .arg(key)
        .arg("-out")
        .arg(&locked)
        .args(derivation)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", words(&output));
    std::fs::rename(locked, key).unwrap();
}

#[test]
fn a_key_under_a_passphrase_calls_and_signs() {
    let daemon = Daemon::start();
    for derivation in [&["-v2prf", "hmacWithSHA256"][..], &["-scrypt"]] {
        let key = daemon.data().join("clients/officer-2-key.pem");
        let plain = std::fs::read(&key).unwrap();
        lock(&key, derivation);
        assert!(std::fs::read_to_string(&key).unwrap().contains("ENCRYPTED PRIVATE KEY"));
        let list = |more: &[&str]| daemon.cli("officer-2", &[&["keys", "list", "--tenant", "demo"], more].concat());
        // Nobody sits at a terminal here.
        let asked = words(&list(&[]));
        assert!(asked.contains("under a passphrase") && asked.contains("--key-passphrase-file"), "{asked}");
        let right = daemon.file("passphrase", format!("{PASSPHRASE}\n").as_bytes());
        let told = list(&["--key-passphrase-file", &right]);
        assert!(told.status.success(), "{}", words(&told));
        let wrong = daemon.file("wrong", b"incorrect horse");
        let told = words(&list(&["--key-passphrase-file", &wrong]));
        assert!(told.contains("does not open with this passphrase") && !told.contains("incorrect"), "{told}");
        std::fs::write(&key, plain).unwrap();
    }
    // What others could read is not read: neither the key nor what opens it.
    let key = daemon.data().join("clients/officer-2-key.pem");
    let plain = std::fs::read(&key).unwrap();
    lock(&key, &["-scrypt"]);
    let open = daemon.file("passphrase", format!("{PASSPHRASE}\n").as_bytes());
    let list = || {
        let ask = ["keys", "list", "--tenant", "demo", "--key-passphrase-file", &open];
        words(&daemon.cli("officer-2", &ask))
    };
    for file in [Path::new(&open), &key] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(list().contains("others can read"), "{}", list());
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    }
    assert!(list().contains("no such keys"), "{}", list());
    // Forms that are no PKCS#8, or are weak, are named, with what mends them.
    std::fs::write(&key, plain).unwrap();
    for (form, says) in
        [(&["ec", "-aes256"][..], "traditional form"), (&["pkcs8", "-topk8", "-v1", "PBE-SHA1-3DES"], "not by PBES2")]
    {
        let (plain, other) = (std::fs::read(&key).unwrap(), key.with_extension("other"));
        let made = Command::new("openssl")
            .args(form)
            .args(["-passout", &format!("pass:{PASSPHRASE}"), "-in"])
            .args([&key, Path::new("-out"), &other])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", words(&made));
        std::fs::rename(&other, &key).unwrap();
        assert!(list().contains(says) && list().contains("openssl pkcs8 -topk8"), "{}", list());
        std::fs::write(&key, plain).unwrap();
    }
}

/// Whoever takes part types it once, for the connection and for the signature, and nobody sees it.
#[test]
fn a_passphrase_is_typed_once_and_not_shown() {
    let mut rehearsal = Rehearsal::start("generate-root");
    let room = &rehearsal.room;
    lock(&room.data.join("clients/witness-key.pem"), &["-scrypt"]);
    let join = ["--data", room.data.to_str().unwrap(), "--as", "witness", "ceremony", "join", &room.id];
    let mut witness = Player::at(&room.folder, &join);
    witness.terminal.expect("Passphrase of ");
    witness.terminal.type_in(&format!("{PASSPHRASE}\r"));
    let players = room.play([("witness".to_owned(), witness)].into());
    let written = players["witness"].terminal.written();
    assert_eq!(written.matches("Passphrase of ").count(), 1, "{written}");
    assert!(PASSPHRASE.split(' ').all(|word| !written.contains(word)), "{written}");
    assert_eq!(rehearsal.daemon.end(), 0);
}

/// A key that is in a token and in no file lets its owner in, takes part, and signs the transcript.
#[test]
fn a_key_in_a_token_calls_and_signs() {
    let token = Token::softhsm();
    let conf = token.path("softhsm2.conf").display().to_string();
    let mut rehearsal = Rehearsal::start("generate-root");
    let room = &rehearsal.room;
    let connection = connection(&room.data, "witness");
    token.util(&[
        "--import",
        connection.key.to_str().unwrap(),
        "--token",
        "城市卡",
        "--label",
        "witness",
        "--id",
        "01",
        "--pin",
        PIN,
    ]);
    std::fs::remove_file(&connection.key).unwrap();
    let uri = format!("pkcs11:token=%E5%9F%8E%E5%B8%82%E5%8D%A1;object=witness;type=private?module-path={SOFTHSM}");
    let (ca, certificate) = (connection.ca.display().to_string(), connection.certificate.display().to_string());
    let us = |uri: &str| {
        let named = ["--url", &connection.url, "--ca", &ca, "--cert", &certificate, "--key"].map(str::to_owned);
        named.into_iter().chain([uri.to_owned()]).collect::<Vec<_>>()
    };
    let run = |uri: &str| {
        let list = ["ceremony", "list", "--tenant", "demo"].map(str::to_owned);
        Command::new(env!("CARGO_BIN_EXE_claviger"))
            .args(us(uri).into_iter().chain(list))
            .env("SOFTHSM2_CONF", &conf)
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    };
    // By a file with the PIN, where nobody sits at a terminal.
    let pin = token.path("pin").display().to_string();
    let told = run(&format!("{uri}&pin-source=file:{pin}"));
    assert!(told.status.success() && words(&told).contains("generate-root"), "{}", words(&told));
    std::fs::write(token.path("wrong"), "000000").unwrap();
    let open = run(&format!("{uri}&pin-source={}", token.path("wrong").display()));
    assert!(words(&open).contains("others can read"), "{}", words(&open));
    std::fs::set_permissions(token.path("wrong"), PermissionsExt::from_mode(0o600)).unwrap();
    let refused = run(&format!("{uri}&pin-source={}", token.path("wrong").display()));
    assert!(words(&refused).contains("refuses the PIN") && !words(&refused).contains("000000"), "{}", words(&refused));
    let nobody = run(&format!("{uri}&pin-source={pin}").replace("object=witness", "object=nobody"));
    assert!(words(&nobody).contains("no such private key"), "{}", words(&nobody));

    let join = us(&uri).into_iter().chain(["ceremony", "join", &room.id].map(str::to_owned)).collect::<Vec<_>>();
    let join: Vec<&str> = join.iter().map(String::as_str).collect();
    let mut witness = Player {
        terminal: Terminal::claviger_with(&join, &room.folder, &[("SOFTHSM2_CONF", &conf)]),
        ..Player::at(&room.folder, &["--version"])
    };
    witness.terminal.expect("PIN of token 城市卡: ");
    witness.terminal.type_in(&format!("{PIN}\r"));
    let players = room.play([("witness".to_owned(), witness)].into());
    let written = players["witness"].terminal.written();
    assert_eq!(written.matches("PIN of token").count(), 1, "{written}");
    assert!(!written.contains(PIN), "{written}");
    assert_eq!(rehearsal.daemon.end(), 0);
    let transcript = rehearsal.folder.path().join("transcript.jsonl");
    let verified = cli(&["ceremony", "verify", transcript.to_str().unwrap()]);
    assert!(words(&verified).contains("witness signed"), "{}", words(&verified));
}
