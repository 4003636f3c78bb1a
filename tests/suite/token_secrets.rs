//! Where nothing is said to leave a token, nothing does: neither what passes between the daemon and the worker nor the
//! memory of either holds a derived key.
//!
//! SoftHSM2 lives in its worker's memory, and so would an HSM's client; keys that it derives are its own to keep and wipe.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aes::Aes128;
use claviger_client::{
    CardApdu, Client, DisperseKey, Key, KeyReference, NewKey, Personalise, PersonaliseResult, PsamResult, PurseResult,
    Valid, VerifyRecords, VerifyResult,
};
use des::cipher::{BlockCipherEncrypt, KeyInit};
use des::{Des, TdesEde2};
use rustix::process::{Pid, Signal, kill_process};

use crate::cards::{answer, command};
use crate::daemon::Daemon;
use crate::load::{into, status};
use crate::purse::{card_key, load, purchase};
use crate::tokens::Token;

const MASTER: &str = "5B3D0A77C2914EF86CA3159E60D7B248";

/// What a key set of the scheme is made of, and what commands need besides.
const ROLES: [&str; 13] =
    ["DCCK", "DCMK", "DACK", "DAMK", "DPK", "DLK", "DTK", "DABK", "DPUK", "RECORD_ECASH", "RECORD_PURSE", "DAUK", "IK"];

/// Cards of one cipher. Those of AES are of schemes that a city makes of the shipped ones, in which SM4 is replaced by it.
#[derive(Clone, Copy)]
struct Cards {
    algorithm: &'static str,
    alg_id: &'static str,
    /// What the scheme's id has at its end.
    suffix: &'static str,
}

const CARDS: [Cards; 2] = [
    Cards { algorithm: "3des", alg_id: "00", suffix: "" },
    Cards { algorithm: "aes128", alg_id: "04", suffix: "-aes" },
];

impl Cards {
    fn scheme(self, of: &str) -> String {
        format!("{of}{}", self.suffix)
    }

    /// `f || ~f`, enciphered as the cipher does it: two blocks or one.
    fn disperse(self, key: &[u8], factor: &str) -> Vec<u8> {
        let factor = hex::decode(factor).unwrap();
        let complement: Vec<u8> = factor.iter().map(|byte| !byte).collect();
        let mut both = [factor, complement].concat();
        if self.algorithm == "aes128" {
            Aes128::new_from_slice(key).unwrap().encrypt_block(both.as_mut_slice().try_into().unwrap());
        } else {
            let cipher = TdesEde2::new_from_slice(key).unwrap();
            both.chunks_exact_mut(8).for_each(|block| cipher.encrypt_block(block.try_into().unwrap()));
        }
        both
    }

    /// Eight bytes for a key of DES, sixteen for one of AES.
    fn session(self, card: &[u8], input: &str) -> Vec<u8> {
        let len = if self.algorithm == "aes128" { 16 } else { 8 };
        self.disperse(card, input)[..len].to_vec()
    }

    fn card(self) -> Vec<u8> {
        let city = self.disperse(&hex::decode(MASTER).unwrap(), "1150FF0000000000");
        self.disperse(&city, "1150491934206620")
    }

    /// Every key on the way to the cards, and the session keys of the calls.
    fn derived(self) -> Vec<(String, Vec<u8>)> {
        let master = hex::decode(MASTER).unwrap();
        let card = self.card();
        let issuer = self.disperse(&master, "0123310000010000");
        let found = [
            ("the session key of a load", self.session(&card, "1122334400008000")),
            ("the session key of a purchase", self.session(&card, "1122334400000001")),
            ("a city's key", self.disperse(&master, "1150FF0000000000")),
            ("the key of an issuer's card", self.disperse(&issuer, "0000310012345678")),
            ("a card's key", card),
            ("an issuer's key", issuer),
        ];
        found.into_iter().map(|(name, key)| (format!("{name} ({})", self.algorithm), key)).collect()
    }

    /// The MAC1 that a card of the master key sends for the load: that it is right shows that the keys here are.
    fn mac1(self) -> String {
        let session = self.session(&self.card(), "1122334400008000");
        let data = hex::decode(concat!("00000000", "00001000", "01", "001122334455", "80")).unwrap();
        let mac = if self.algorithm == "aes128" {
            let mut block = <[u8; 16]>::try_from(data).unwrap().into();
            Aes128::new_from_slice(&session).unwrap().encrypt_block(&mut block);
            block.to_vec()
        } else {
            let cipher = Des::new_from_slice(&session).unwrap();
            let chained = data.chunks(8).fold([0; 8], |last, chunk| {
                let mut block = std::array::from_fn::<u8, 8, _>(|at| last[at] ^ chunk[at]).into();
                cipher.encrypt_block(&mut block);
                block.into()
            });
            chained.to_vec()
        };
        hex::encode_upper(&mac[..4])
    }
}

/// What the embedded backend derives from the master key for the calls of 3DES.
pub(crate) fn derived_by_3des() -> Vec<(String, Vec<u8>)> {
    CARDS[0].derived()
}

/// The shipped schemes with AES in the place of SM4.
fn schemes(into: &Path) {
    for id in ["cjt166", "jtt978"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("card-schemes/profiles").join(format!("{id}.toml"));
        let text = std::fs::read_to_string(path).unwrap();
        let mut parts = text.split("\n[[known_answer]]\n");
        let head = parts
            .next()
            .unwrap()
            .replace("sm4", "aes128")
            .replace(&format!("id = \"{id}\""), &format!("id = \"{id}-aes\""));
        let kept = parts.filter(|answer| !answer.contains("sm4")).map(|answer| format!("\n[[known_answer]]\n{answer}"));
        std::fs::write(into.join(format!("{id}-aes.toml")), head + &kept.collect::<String>()).unwrap();
    }
}

/// Which of these a memory holds, and whether a word that is known to be there is found.
pub(crate) fn found_in<'k>(process: u32, keys: &'k [(String, Vec<u8>)], word: &[u8]) -> (Vec<&'k str>, bool) {
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
                found.extend(keys.iter().filter(|(_, key)| here.starts_with(key)).map(|(name, _)| name.as_str()));
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
async fn call(of: Cards, cards: &Client, terminals: &Client) {
    let mut request = load(&of.mac1(), "4096");
    request.scheme = of.scheme("cjt166");
    request.fields.insert("alg_id".to_owned(), of.alg_id.to_owned());
    let found: PurseResult = cards.post("/v1/purse", &request).await.unwrap();
    assert!(found.valid && found.mac.is_some());
    let mut request = purchase();
    request.scheme = of.scheme("cjt166");
    request.fields.insert("alg_id".to_owned(), of.alg_id.to_owned());
    terminals.post::<PsamResult>("/v1/psam/debit", &request).await.unwrap();
    for (name, data) in [("unblock-pin", "123456"), ("block-application", "")] {
        let mut request = command(name, "11223344", data);
        request.scheme = of.scheme("jtt978");
        request.fields.insert("alg_id".to_owned(), of.alg_id.to_owned());
        cards.post::<CardApdu>("/v1/cards/command", &request).await.unwrap();
    }
    let mut request = answer("A84356DF5C390F80".repeat(if of.suffix.is_empty() { 1 } else { 2 }));
    request.scheme = of.scheme("jtt978");
    request.fields.insert("alg_id".to_owned(), of.alg_id.to_owned());
    if !of.suffix.is_empty() {
        request.challenge = request.challenge.repeat(2);
        request.answer.truncate(16);
    }
    let found: Valid = cards.post("/v1/cards/authenticate", &request).await.unwrap();
    assert!(!found.valid[0]);
}

/// A day's record under AES, which no TAC fits.
async fn clear(clearing: &Client) {
    let record = [
        ("record_id", "1"),
        ("issuer_id", "0123310000010000"),
        ("asn", "0000310012345678"),
        ("key_version", "01"),
        ("alg_id", "04"),
        ("amount", "300"),
        ("txn_type", "09"),
        ("terminal_id", "013100000001"),
        ("date", "20260702"),
        ("time", "180102"),
        ("ttc", "00011170"),
        ("tac", "18412CF1"),
    ];
    let record = record.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let path = "/v1/transactions/verify?tenant=demo&scheme=jtt978-aes";
    let found: VerifyResult = clearing.post(path, &VerifyRecords { records: vec![record] }).await.unwrap();
    assert_eq!(found.verdicts[0].verdict, "invalid", "{found:?}");
}

/// A card's key set, where the token wraps it too.
async fn personalise(of: Cards, cards: &Client) {
    let card = [("card_id", "1"), ("issuer_id", "0123310000010000"), ("asn", "0000310012345678")];
    let card = card.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let path = format!(
        "/v1/cards/personalise?tenant=demo&scheme={}&key_set=city-platform-12&algorithms={}&version=01&transport_key=TK/01",
        of.scheme("jtt978"),
        of.algorithm
    );
    let made: PersonaliseResult = cards.post(&path, &Personalise { cards: vec![card] }).await.unwrap();
    assert_eq!(made.cards[0].result, "made", "{made:?}");
}

/// A city's key of its own, which the token makes of the master key and keeps.
async fn disperse(of: Cards, officer: &Client) {
    let parent = KeyReference {
        tenant: "demo".to_owned(),
        scheme: of.scheme("cjt166"),
        role: "DLK".to_owned(),
        version: "01".to_owned(),
        algorithm: of.algorithm.to_owned(),
        factors: Vec::new(),
    };
    let request = DisperseKey { parent, factors: vec!["1150FF0000000000".to_owned()] };
    officer.post::<Key>("/v1/keys/disperse", &request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_leaves_no_frame_and_no_memory_holds_a_derived_key() {
    for (token, wraps) in [(Token::softhsm(), false), (Token::nss(), true)] {
        let profiles = tempfile::tempdir().unwrap();
        schemes(profiles.path());
        let daemon = Daemon::with_schemes(profiles.path(), &token.backend("room", "on-prem", ""));
        for of in CARDS {
            let root = |scheme: &str, role: &str| NewKey {
                scheme: of.scheme(scheme),
                role: role.to_owned(),
                algorithm: of.algorithm.to_owned(),
                factors: Vec::new(),
                ceiling: Some("nothing".to_owned()),
                ..card_key()
            };
            for (scheme, role) in [("cjt166", "DLK"), ("cjt166", "DPK")] {
                into(&daemon, &["room"], root(scheme, role), MASTER).await;
            }
            for role in ROLES {
                into(&daemon, &["room"], root("jtt978", role), MASTER).await;
            }
            into(&daemon, &["room"], root("jtt978", "TK"), "C1D2E3F4051627388899AABBCCDDEEFF").await;
        }
        let worker = status(&daemon, "room").await.workers[0];
        let frames = daemon.folder.path().join("frames");
        let tap = Tap::on(worker, &frames);
        let (cards, terminals) = (daemon.client("card-management"), daemon.client("terminals"));
        for _ in 0..20 {
            for of in CARDS {
                call(of, &cards, &terminals).await;
                if wraps {
                    personalise(of, &cards).await;
                }
            }
            clear(&daemon.client("clearing")).await;
        }
        for of in CARDS {
            disperse(of, &daemon.client("officer")).await;
        }
        tap.end();
        let frames = std::fs::read_to_string(&frames).unwrap();
        assert!(
            frames.contains(&escaped(&hex::decode("1150491934206620").unwrap())),
            "no frame with a factor was seen"
        );
        let derived: Vec<_> = CARDS.into_iter().flat_map(Cards::derived).collect();
        for (name, key) in &derived {
            assert!(!frames.contains(&escaped(key)), "{name} is in a frame");
        }
        for process in [worker, daemon.process()] {
            let (found, known) = found_in(process, &derived, b"claviger");
            assert!(known, "the search finds nothing at all");
            assert!(found.is_empty(), "{found:?} in the memory of process {process}");
        }
    }
}
