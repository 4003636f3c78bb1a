//! A daemon that several custodians unseal.

use claviger_client::{BringShare, SharesBrought};
use claviger_hsm_api::Secret;
use claviger_key_ceremonies::{SHARE_LEN, Written, read_component, write_component};
use zeroize::Zeroizing;

use super::attacks::{hold_all, open, order, show, take};
use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, generic, into, mac};
use crate::reload::configuration;
use crate::terminal::Terminal;

/// A daemon whose store was sealed with shares in a ceremony, and the shares.
async fn shared() -> (Daemon, Vec<String>) {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let id = open(&daemon, &order(&daemon.data(), "share-storage-key", &[], &[])).await.unwrap().id;
    let shares = hold_all(&daemon, &id).await;
    assert_eq!(shares.len(), 5);
    (daemon, shares)
}

/// The same daemon started again, as its configuration is to be from then on.
fn restarted(daemon: Daemon) -> Daemon {
    let without = configuration(&daemon).replace("[seal]\nkey_file = \"storage.key\"\n", "");
    assert!(!without.contains("key_file"));
    daemon.serve(&without)
}

async fn bring(daemon: &Daemon, who: usize, share: &str) -> Result<SharesBrought, claviger_client::ClientError> {
    let name = if who == 0 { "custodian".to_owned() } else { format!("custodian-{}", who + 1) };
    let share = BringShare { share: Zeroizing::new(share.to_owned()) };
    daemon.client(&name).post("/v1/unseal/shares", &share).await
}

/// The same share with another value in it, every check letter right.
fn forged(share: &str) -> String {
    let mut bytes = read_component(share, Written::Letters, SHARE_LEN, false).unwrap();
    bytes.expose_mut()[20] ^= 1;
    write_component(&Secret::copy_of(bytes.expose())).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_five_unseal_and_a_bad_share_is_named() {
    let (daemon, shares) = shared().await;
    mac(&daemon).await.unwrap();
    // While it is open there is nothing to bring.
    assert_eq!(problem(bring(&daemon, 0, &shares[0]).await).code, "seal_unusable");
    let daemon = restarted(daemon);
    assert_eq!(problem(mac(&daemon).await).code, "sealed");
    let first = bring(&daemon, 0, &shares[0]).await.unwrap();
    assert_eq!((first.found, first.wanted, first.unsealed), (1, 3, false));
    // A letter that is mistyped, a forged share, the same once more, and a second of the same custodian.
    let mut mistyped = shares[1].clone();
    let letter = if mistyped.starts_with('A') { 'C' } else { 'A' };
    mistyped.replace_range(0..1, &letter.to_string());
    let typo = problem(bring(&daemon, 1, &mistyped).await);
    assert_eq!(typo.field.as_deref(), Some("share"));
    assert!(typo.detail.contains("group 1"), "{typo:?}");
    let bad = problem(bring(&daemon, 1, &forged(&shares[1])).await);
    assert_eq!(bad.code, "wrong_share");
    assert!(bad.detail.contains("share 2 is not one of these"), "{bad:?}");
    assert_eq!(problem(bring(&daemon, 1, &shares[0]).await).code, "wrong_share");
    assert!(problem(bring(&daemon, 0, &shares[1]).await).detail.contains("second of the same custodian"));
    for outsider in ["clearing", "witness", "auditor"] {
        let share = BringShare { share: Zeroizing::new(shares[2].clone()) };
        let refused = daemon.client(outsider).post::<SharesBrought>("/v1/unseal/shares", &share).await;
        assert_eq!(problem(refused).code, "denied");
    }
    assert_eq!(bring(&daemon, 3, &shares[3]).await.unwrap().found, 2);
    assert_eq!(problem(mac(&daemon).await).code, "sealed", "two open nothing");
    assert!(bring(&daemon, 4, &shares[4]).await.unwrap().unsealed);
    mac(&daemon).await.unwrap();
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    assert!(log.contains("\"outcome\":\"wrong_share\"") && log.contains("2 of 3 shares"), "{log}");
    for share in &shares {
        assert!(!log.contains(&share[..11]));
    }
}

/// `claviger dev` starts what was sealed with shares, and waits for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_development_waits_for_shares() {
    let (mut daemon, shares) = shared().await;
    let id = open(&daemon, &order(&daemon.data(), "generate-root", &[], &[])).await.unwrap().id;
    daemon.kill_and_restart();
    assert_eq!(problem(mac(&daemon).await).code, "sealed");
    // Nor does a ceremony go on: nobody loses a try by it, and whoever has the next turn is told.
    assert_eq!(problem(take(&daemon, &id, &mut Vec::new()).await).code, "sealed");
    let data = daemon.data();
    let join = ["--data", data.to_str().unwrap(), "--as", "witness", "ceremony", "join", &id];
    let witness = Terminal::claviger(&join, daemon.folder.path());
    witness.expect_written("the daemon is sealed: unseal it");
    for who in [4, 0, 2] {
        bring(&daemon, who, &shares[who]).await.unwrap();
    }
    mac(&daemon).await.unwrap();
    witness.expect("Type yes if it is so");
    let transcript = show(&daemon, &id).await.transcript;
    assert!(!transcript.contains("\"refused\""), "{transcript}");
}

/// What opened the store before opens it no longer: neither the key file nor the shares of the last time.
#[tokio::test(flavor = "multi_thread")]
async fn sharing_again_ends_what_was_before() {
    let (daemon, old) = shared().await;
    let id = open(&daemon, &order(&daemon.data(), "share-storage-key", &[], &[])).await.unwrap().id;
    let new = hold_all(&daemon, &id).await;
    let data = daemon.data();
    let config = data.join("claviger.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let daemon = restarted(daemon);
    let of_before = problem(bring(&daemon, 0, &old[0]).await);
    assert!(of_before.detail.contains("share 1 is not one of these"), "{of_before:?}");
    for who in [2, 0, 1] {
        bring(&daemon, who, &new[who]).await.unwrap();
    }
    mac(&daemon).await.unwrap();
    drop(daemon.client("officer"));
    // The key file of before opens nothing.
    let daemon = daemon.stop();
    std::fs::write(&config, text).unwrap();
    let refused = cli(&["serve", "--config", config.to_str().unwrap()]);
    assert!(words(&refused).contains("sealed with a set of shares"), "{}", words(&refused));
    drop(daemon);
}

/// A daemon that dies in the middle of the ceremony, or just after it has sealed the store, knows which it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_while_it_shares_goes_on() {
    let mut daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let id = open(&daemon, &order(&daemon.data(), "share-storage-key", &[], &[])).await.unwrap().id;
    let mut shown = Vec::new();
    for _ in 0..4 {
        take(&daemon, &id, &mut shown).await.unwrap();
    }
    daemon.kill_and_restart();
    let again = hold_all(&daemon, &id).await;
    assert_eq!(again.len(), 5, "all are made anew");
    assert!(again.iter().all(|share| !shown.contains(share)));
    let daemon = restarted(daemon);
    for (who, share) in again.iter().enumerate().take(3) {
        bring(&daemon, who, share).await.unwrap();
    }
    mac(&daemon).await.unwrap();
}

/// Custodians on an empty machine, one after the other at its terminal; then at terminals of their own.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_with_shares_from_terminals() {
    let (daemon, shares) = shared().await;
    let backup = daemon.folder.path().join("shared.backup");
    let made = daemon.cli("officer", &["backup", "--out", backup.to_str().unwrap()]);
    assert!(made.status.success(), "{}", words(&made));
    let machine = daemon.folder.path().join("machine");
    std::fs::create_dir(&machine).unwrap();
    let text = configuration(&daemon)
        .replace("[seal]\nkey_file = \"storage.key\"\n", "")
        .replace("data = \".\"", "data = \"data\"")
        .replace("\"server", &format!("\"{}/server", daemon.data().display()))
        .replace("\"ca.pem", &format!("\"{}/ca.pem", daemon.data().display()));
    let config = machine.join("claviger.toml");
    std::fs::write(&config, &text).unwrap();
    let config = config.to_str().unwrap().to_owned();
    let mut terminal = Terminal::claviger(&["restore", backup.to_str().unwrap(), "--config", &config], &machine);
    // The second time it is a forged one, and the fourth one that is there: whoever types the next sees why. What is typed
    // before the question stands there is forgotten, so it is its own words that are waited for.
    let refused = ["REFUSED: share 3 is not one of these", "REFUSED: share 5 is there already"];
    let typed = [
        ("share 1 of", &shares[4]),
        ("share 2 of", &forged(&shares[2])),
        (refused[0], &shares[2]),
        ("share 3 of", &shares[4]),
        (refused[1], &shares[0]),
    ];
    for (asked, share) in typed {
        terminal.expect(asked);
        type_share(&mut terminal, share);
    }
    terminal.expect_times("is a good one", 3);
    assert_eq!(terminal.end(), 0, "{}", terminal.everything_visible());
    let visible = terminal.everything_visible();
    assert!(shares.iter().all(|share| !visible.contains(share.as_str())), "{visible}");
    let second = daemon.serve_elsewhere(&config, &text);
    for (who, share) in [(1, &shares[1]), (2, &shares[2]), (3, &shares[3])] {
        let (data, name) = (second.data(), format!("custodian-{}", who + 1));
        let arguments = ["--data", data.to_str().unwrap(), "--as", &name, "unseal", "--share"];
        let mut terminal = Terminal::claviger(&arguments, &machine);
        terminal.expect("Type the share");
        type_share(&mut terminal, share);
        assert_eq!(terminal.end(), 0, "{}", terminal.everything_visible());
        let said = ["1 of 3 shares are there", "2 of 3 shares are there", "the daemon is unsealed"][who - 1];
        assert!(terminal.everything_visible().contains(said), "{}", terminal.everything_visible());
        assert!(!terminal.everything_visible().contains(share.as_str()));
    }
    mac(&second).await.unwrap();
}

fn type_share(terminal: &mut Terminal, share: &str) {
    terminal.type_in(share);
    terminal.expect("Press Enter.");
    terminal.type_in("\r");
}
