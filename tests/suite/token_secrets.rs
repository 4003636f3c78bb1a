//! Where nothing is said to leave a token, nothing does: neither what passes between the daemon and the worker nor the
//! memory of either holds a derived key.
//!
//! SoftHSM2 lives in its worker's memory, and so would an HSM's client; keys that it derives are its own to keep and wipe.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use claviger_client::{CardApdu, Client, NewKey, PsamResult, PurseResult, Valid};
use des::cipher::{BlockCipherEncrypt, KeyInit};
use des::{Des, TdesEde2};
use rustix::process::{Pid, Signal, kill_process};

use crate::cards::{answer, command};
use crate::daemon::Daemon;
use crate::load::{into, status};
use crate::purse::{card_key, load, purchase};
use crate::tokens::Token;

const MASTER: &str = "5B3D0A77C2914EF86CA3159E60D7B248";

fn block(key: &[u8], block: &[u8]) -> Vec<u8> {
    let mut block = <[u8; 8]>::try_from(block).unwrap().into();
    TdesEde2::new_from_slice(key).unwrap().encrypt_block(&mut block);
    block.to_vec()
}

/// `E(K, f) || E(K, ~f)`.
fn disperse(key: &[u8], factor: &str) -> Vec<u8> {
    let factor = hex::decode(factor).unwrap();
    let complement: Vec<u8> = factor.iter().map(|byte| !byte).collect();
    [block(key, &factor), block(key, &complement)].concat()
}

/// Every key on the way to the cards, and the session keys of the calls.
fn derived() -> Vec<(&'static str, Vec<u8>)> {
    let master = hex::decode(MASTER).unwrap();
    let city = disperse(&master, "1150FF0000000000");
    let card = disperse(&city, "1150491934206620");
    let issuer = disperse(&master, "0123310000010000");
    let of_issuer = disperse(&issuer, "0000310012345678");
    let session = |input: &str| block(&card, &hex::decode(input).unwrap());
    vec![
        ("the session key of a load", session("1122334400008000")),
        ("the session key of a purchase", session("1122334400000001")),
        ("a city's key", city),
        ("a card's key", card.clone()),
        ("an issuer's key", issuer),
        ("the key of an issuer's card", of_issuer),
    ]
}

/// The MAC1 that a card of the master key sends for the load: that it is right shows that the keys here are.
fn mac1() -> String {
    let keys = derived();
    let session = Des::new_from_slice(&keys[0].1).unwrap();
    let data = hex::decode(concat!("00000000", "00001000", "01", "001122334455", "80")).unwrap();
    let chained = data.chunks(8).fold([0; 8], |last, chunk| {
        let mut block = std::array::from_fn::<u8, 8, _>(|at| last[at] ^ chunk[at]).into();
        session.encrypt_block(&mut block);
        block.into()
    });
    hex::encode_upper(&chained[..4])
}

/// Which of these a memory holds, and whether a word that is known to be there is found.
fn found_in(process: u32, keys: &[(&'static str, Vec<u8>)], word: &[u8]) -> (Vec<&'static str>, bool) {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = File::open(format!("/proc/{process}/mem")).unwrap_or_else(|error| panic!("{error}: run as root"));
    let (mut found, mut known) = (Vec::new(), false);
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; (to - from) as usize];
        // Secret memory is read by nobody.
        if memory.read_exact_at(&mut bytes, from).is_err() {
            continue;
        }
        let mut first = [false; 256];
        keys.iter().map(|(_, key)| key.as_slice()).chain([word]).for_each(|word| first[usize::from(word[0])] = true);
        for at in 0..bytes.len() {
            if first[usize::from(bytes[at])] {
                let here = &bytes[at..];
                found.extend(keys.iter().filter(|(_, key)| here.starts_with(key)).map(|(name, _)| *name));
                known |= here.starts_with(word);
            }
        }
    }
    (found, known)
}

/// Notes what a process reads and writes, as long as this lives.
struct Tap(std::process::Child);

impl Tap {
    fn on(process: u32, to: &Path) -> Self {
        let tap = Command::new("strace")
            .args(["-f", "-xx", "-s", "1000000", "-e", "trace=read,write,recvfrom,sendto,recvmsg,sendmsg", "-p"])
            .arg(process.to_string())
            .arg("-o")
            .arg(to)
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("strace: {error}; `./test --setup` installs it"));
        let traced = |status: &str| status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
        let begun = Instant::now();
        while !traced(&std::fs::read_to_string(format!("/proc/{process}/status")).unwrap()) {
            assert!(begun.elapsed() < Duration::from_secs(10), "strace does not attach");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self(tap)
    }

    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).unwrap();
        self.0.wait().unwrap();
    }
}

/// As `strace -xx` writes bytes.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// One call of each kind that derives keys and says that nothing leaves.
async fn call(cards: &Client, terminals: &Client) {
    let found: PurseResult = cards.post("/v1/purse", &load(&mac1(), "4096")).await.unwrap();
    assert!(found.valid && found.mac.is_some());
    terminals.post::<PsamResult>("/v1/psam/debit", &purchase()).await.unwrap();
    cards.post::<CardApdu>("/v1/cards/command", &command("unblock-pin", "11223344", "123456")).await.unwrap();
    cards.post::<CardApdu>("/v1/cards/command", &command("block-application", "11223344", "")).await.unwrap();
    let found: Valid = cards.post("/v1/cards/authenticate", &answer("A84356DF5C390F80".to_owned())).await.unwrap();
    assert!(!found.valid[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_leaves_no_frame_and_no_memory_holds_a_derived_key() {
    for token in [Token::softhsm(), Token::nss()] {
        let daemon = Daemon::with_backends(&token.backend("room", "on-prem", ""));
        let root = |scheme: &str, role: &str| NewKey {
            scheme: scheme.to_owned(),
            role: role.to_owned(),
            factors: Vec::new(),
            ceiling: Some("nothing".to_owned()),
            ..card_key()
        };
        for (scheme, role) in [
            ("cjt166", "DLK"),
            ("cjt166", "DPK"),
            ("jtt978", "DPUK"),
            ("jtt978", "DABK"),
            ("jtt978", "IK"),
            ("jtt978", "DACK"),
        ] {
            into(&daemon, &["room"], root(scheme, role), MASTER).await;
        }
        let worker = status(&daemon, "room").await.workers[0];
        let frames = daemon.folder.path().join("frames");
        let tap = Tap::on(worker, &frames);
        let (cards, terminals) = (daemon.client("card-management"), daemon.client("terminals"));
        for _ in 0..20 {
            call(&cards, &terminals).await;
        }
        tap.end();
        let frames = std::fs::read_to_string(&frames).unwrap();
        assert!(
            frames.contains(&escaped(&hex::decode("1150491934206620").unwrap())),
            "no frame with a factor was seen"
        );
        for (name, key) in derived() {
            assert!(!frames.contains(&escaped(&key)), "{name} is in a frame");
        }
        for process in [worker, daemon.process()] {
            let (found, known) = found_in(process, &derived(), b"claviger");
            assert!(known, "the search finds nothing at all");
            assert!(found.is_empty(), "{found:?} in the memory of process {process}");
        }
    }
}
