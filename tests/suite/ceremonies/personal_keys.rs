//! Keys of people under passphrases: OpenSSL has put them there.

use std::path::Path;
use std::process::Command;

use super::{Player, Rehearsal};
use crate::daemon::{Daemon, words};

const PASSPHRASE: &str = "correct horse 电池 staple";

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
    assert!(!written.contains("horse") && !written.contains("staple"), "{written}");
    assert_eq!(rehearsal.daemon.end(), 0);
}
