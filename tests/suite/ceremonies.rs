//! Ceremonies as people hold them: each in a terminal of their own, against a real daemon.

pub(crate) mod attacks;
mod joining;
mod moves;
mod offline;
mod on_tokens;
mod personal_keys;
mod pictures;
mod played;
mod printed;
mod sending;
mod shares;
mod signers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use claviger_client::{Ceremony, CeremonyList, Client, Key, KeyFilter, KeyList};
use claviger_key_ceremonies::{PLANS, Plan, Transcript, Turn};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::daemon::{cli, connection, until_it_serves, words};
use crate::reference::ask;
use crate::terminal::Terminal;

/// A component that comes from elsewhere, and its check value.
type Sheet = (String, String);

/// Somebody at a terminal who does whatever it asks, as a careful person would.
struct Player {
    terminal: Terminal,
    /// Where what other parties send is found, and where what they get is left.
    post: (PathBuf, PathBuf),
    /// Where their sheets come out, if they have a printer.
    printer: Option<PathBuf>,
    /// What they bring, or have written down.
    sheet: Option<Sheet>,
    /// Answers given, by question.
    answered: BTreeMap<&'static str, usize>,
    /// What they saw that nobody else may see.
    secrets: Vec<String>,
}

const QUESTIONS: [&str; 3] =
    ["Type yes if it is so, no if it is not: ", "Type yes to have it done: ", "Type yes to sign that: "];

const FROM: &str = "Type the name of the file that it came in, and press Enter: ";
const TO: &str = "Type the name of a file that it is to be written to, and press Enter: ";

impl Player {
    fn join(folder: &Path, data: &Path, who: &str, id: &str) -> Self {
        let arguments = ["--data", data.to_str().unwrap(), "--as", who, "ceremony", "join", id];
        Self { post: (data.join("received.key"), folder.join("sent.key")), ..Self::at(folder, &arguments) }
    }

    fn at(folder: &Path, arguments: &[&str]) -> Self {
        Self {
            terminal: Terminal::claviger(arguments, folder),
            post: (folder.join("received.key"), folder.join("sent.key")),
            printer: None,
            sheet: None,
            answered: BTreeMap::new(),
            secrets: Vec::new(),
        }
    }

    /// Answers the question that stands on the screen, if one does.
    fn act(&mut self, given: &dyn Fn(&str) -> String) {
        let (from, to) = (self.post.0.display().to_string(), self.post.1.display().to_string());
        let answers = QUESTIONS.iter().map(|question| (*question, "yes")).chain([(FROM, &*from), (TO, &*to)]);
        for (question, answer) in answers {
            let asked = self.terminal.written().matches(question).count();
            let answered = self.answered.entry(question).or_default();
            if asked > *answered {
                *answered = asked;
                self.terminal.type_in(&format!("{answer}\r"));
                return;
            }
        }
        let screen = self.terminal.screen();
        if screen.contains("Press Enter when it is written down") {
            let groups = screen.lines().filter(|line| line.starts_with("    ") && !line.contains("check value"));
            let component = groups.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
            let kcv = screen.lines().find_map(|line| line.trim().strip_prefix("check value ")).unwrap_or_default();
            self.secrets.push(component.clone());
            self.sheet = Some((component, kcv.to_owned()));
            self.leave("\r", "Press Enter when it is written down");
        } else if screen.contains("Press Enter when you hold the sheet") {
            let paper = std::fs::read_to_string(self.printer.as_ref().unwrap()).unwrap();
            let sheet = printed::last_sheet(&paper);
            self.secrets.push(sheet.0.clone());
            self.sheet = Some(sheet);
            self.leave("\r", "Press Enter when you hold the sheet");
        } else if screen.contains("; blanks are of no matter.") {
            let (component, _) = self.sheet.clone().unwrap();
            self.secrets.push(component.clone());
            self.terminal.type_in(&component);
            self.terminal.expect("Press Enter.");
            self.leave("\r", "; blanks are of no matter.");
        } else if screen.contains("Type the component's check value") {
            let (_, kcv) = self.sheet.clone().unwrap();
            self.leave(&format!("{kcv}\r"), "Type the component's check value");
        } else if let Some(at) = screen.find("types the check value of key ")
            && screen.contains("Type the check value that was given")
        {
            let key: String = screen[at + 29..].chars().take_while(|c| !c.is_whitespace()).collect();
            self.leave(&format!("{}\r", given(&key)), "Type the check value that was given");
        }
    }

    /// Types, and waits until what asked for it is gone.
    fn leave(&mut self, keys: &str, shown: &str) {
        self.terminal.type_in(keys);
        let begun = Instant::now();
        while self.terminal.screen().contains(shown) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.terminal.screen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A ceremony that is open, and where everybody finds it.
struct Room {
    folder: PathBuf,
    data: PathBuf,
    id: String,
    plan: String,
}

/// A rehearsal that is running, with its daemon.
struct Rehearsal {
    daemon: Terminal,
    room: Room,
    folder: tempfile::TempDir,
}

impl Rehearsal {
    fn start(plan: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let arguments = ["ceremony", "rehearse", plan, "--dir", data.to_str().unwrap(), "--out", "transcript.jsonl"];
        let daemon = Terminal::claviger(&arguments, folder.path());
        until_it_serves(&data);
        daemon.expect("waiting for ");
        let id = daemon.written().split("ceremony join ").nth(1).unwrap()[..32].to_owned();
        let room = Room { folder: folder.path().to_owned(), data, id, plan: plan.to_owned() };
        Self { daemon, room, folder }
    }

    /// Everybody plays their part until it is over; who they were.
    fn play(&mut self) -> BTreeMap<String, Player> {
        let players = self.room.play(BTreeMap::new());
        assert_eq!(self.daemon.end(), 0, "{}", self.daemon.everything_visible());
        players
    }
}

impl Room {
    fn client(&self, who: &str) -> Client {
        Client::new(&connection(&self.data, who)).unwrap()
    }

    /// The names of those who take part, as the directory calls them.
    fn cast(&self) -> Vec<String> {
        let plan = Plan::parse(claviger_key_ceremonies::shipped(&self.plan).unwrap()).unwrap();
        let names = |role: &claviger_key_ceremonies::Role| {
            (1..=role.count)
                .map(|n| match (role.name.as_str(), n) {
                    ("newcomer", _) => "officer-3".to_owned(),
                    (name, 1) => name.to_owned(),
                    (name, n) => format!("{name}-{n}"),
                })
                .collect::<Vec<_>>()
        };
        plan.roles.iter().flat_map(names).collect()
    }

    fn join(&self, who: &str) -> Player {
        Player::join(&self.folder, &self.data, who, &self.id)
    }

    fn transcript(&self) -> Transcript {
        let auditor = self.client("auditor");
        let ceremony: Ceremony = now(auditor.get(&format!("/v1/ceremonies/{}", self.id), &())).unwrap();
        Transcript::parse(&ceremony.transcript).unwrap()
    }

    /// The check value of a key of the plan, as whoever made it would have written it on a letter.
    fn given(&self, key: &str, sheets: &[Sheet]) -> String {
        let transcript = self.transcript();
        let planned = transcript.plan().key(key).unwrap();
        if !sheets.is_empty() {
            let bytes: Vec<Vec<u8>> = sheets.iter().map(|(hex, _)| hex::decode(hex).unwrap()).collect();
            let joined: Vec<u8> =
                (0..bytes[0].len()).map(|at| bytes.iter().fold(0, |sum, part| sum ^ part[at])).collect();
            return kcv(&planned.algorithm, &hex::encode_upper(joined));
        }
        let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
        let KeyList { keys } = now(self.client("auditor").get("/v1/keys", &filter)).unwrap();
        let is = |found: &&Key| {
            (&found.scheme, &found.role, &found.version, &found.algorithm, &found.factors)
                == (&planned.scheme, &planned.role, &planned.version, &planned.algorithm, &planned.factors)
        };
        keys.iter().find(is).unwrap_or_else(|| panic!("{key} is not there")).kcv.clone()
    }

    /// Sheets for those who bring components.
    fn sheets(&self) -> Vec<Sheet> {
        let transcript = self.transcript();
        let entering =
            Turn::all(transcript.plan()).into_iter().filter(|turn| turn.act == claviger_key_ceremonies::Act::Enter);
        let algorithm = transcript.plan().keys.first().map(|key| key.algorithm.clone()).unwrap_or_default();
        let bytes = if algorithm == "aes256" { 32 } else { 16 };
        let sheet = |seed: usize| {
            let component: Vec<u8> = (0..bytes).map(|at| (17 + seed * 91 + at * (7 + 2 * seed)) as u8 | 1).collect();
            let component = hex::encode_upper(component);
            (component.clone(), kcv(&algorithm, &component))
        };
        entering.enumerate().map(|(seed, _)| sheet(seed)).collect()
    }

    /// Everybody plays their part until the ceremony is over, some of whom are there; who they were.
    fn play(&self, mut players: BTreeMap<String, Player>) -> BTreeMap<String, Player> {
        let sheets = self.sheets();
        let mut bringing = sheets.iter().cloned();
        for who in self.cast() {
            let mut player = players.remove(&who).unwrap_or_else(|| self.join(&who));
            if who.starts_with("custodian") {
                player.sheet = bringing.next();
            }
            players.insert(who, player);
        }
        let begun = Instant::now();
        while players.values_mut().any(|player| !player.terminal.is_over()) {
            let given = |key: &str| self.given(key, &sheets);
            players.values_mut().for_each(|player| player.act(&given));
            if begun.elapsed() > Duration::from_secs(60) {
                let screens: Vec<String> =
                    players.iter().map(|(who, player)| format!("--- {who}\n{}", player.terminal.screen())).collect();
                panic!("{}: it does not end\n{}", self.plan, screens.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        players
    }
}

/// Waits for an answer, on a thread that is no runtime's.
fn now<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn kcv(algorithm: &str, key: &str) -> String {
    let alg = if algorithm.starts_with("aes") { "aes" } else { algorithm };
    // As the standards have it: by CMAC for AES, by ECB for the older ciphers.
    let (rule, take) = if alg == "aes" { ("cmac", 5) } else { ("ecb", 3) };
    let value = ask(json!({"op": "kcv", "alg": alg, "key": key, "fn": rule, "input": "zero", "take": take}));
    hex::encode_upper(value)
}

/// What stands in every file below a folder.
fn all_files(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            all_files(&entry, found);
        } else {
            let bytes = std::fs::read(&entry).unwrap();
            found.push((entry, bytes));
        }
    }
}

/// Every plan, everybody at a terminal of their own.
#[test]
fn every_shipped_plan_is_rehearsed_from_terminals() {
    let mut looked_for = 0;
    for (plan, text) in PLANS {
        let mut rehearsal = Rehearsal::start(plan);
        let players = rehearsal.play();
        let path = rehearsal.folder.path().join("transcript.jsonl");
        let checked = cli(&["ceremony", "verify", path.to_str().unwrap(), "--plan", plan]);
        assert_eq!(checked.status.code(), Some(0), "{plan}: {}", words(&checked));
        let transcript = Transcript::parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(transcript.is_rehearsal() && transcript.opening().unwrap().plan == *text);
        // What went out is what the transcript has the digest of.
        if text.contains("send-key") {
            let sent = std::fs::read_to_string(rehearsal.folder.path().join("sent.key")).unwrap();
            let digest = hex::encode(Sha256::digest(&sent));
            assert!(sent.len() > 100 && transcript.text().contains(&digest), "{plan}: {sent}");
        }
        // What one custodian saw or typed is on nobody else's terminal, in no file, and no longer on their own.
        let mut files = Vec::new();
        all_files(rehearsal.folder.path(), &mut files);
        for (who, player) in &players {
            looked_for += player.secrets.len();
            for secret in &player.secrets {
                let plain = secret.replace(' ', "");
                let first = secret.split(' ').next().unwrap();
                let visible = player.terminal.everything_visible();
                assert!(!visible.contains(secret.as_str()) && !visible.contains(&plain), "{plan}: {who} left it there");
                for (other, player) in players.iter().filter(|(other, _)| *other != who) {
                    let written = player.terminal.written();
                    assert!(
                        !written.contains(&plain) && !written.contains(secret.as_str()),
                        "{plan}: {other} saw {who}'s"
                    );
                }
                for (file, bytes) in &files {
                    for text in [secret.as_str(), &plain, first] {
                        let held =
                            first.len() >= 5 && bytes.windows(text.len()).any(|window| window == text.as_bytes());
                        assert!(!held, "{plan}: {} holds a component of {who}", file.display());
                    }
                }
            }
        }
    }
    // Three that are entered, two that are exchanged, two of an offline ceremony, three that are shown and typed back, and five shares.
    assert_eq!(looked_for, 3 + 2 + 2 + 2 * 3 + 2 * 5);
}

/// A terminal that is told to end wipes what only its custodian may see, whoever tells it.
#[test]
fn a_terminal_that_is_told_to_end_keeps_nothing() {
    use rustix::process::Signal;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let rehearsal = Rehearsal::start("hand-out-root");
        let mut witness = rehearsal.room.join("witness");
        witness.terminal.expect(QUESTIONS[0]);
        witness.terminal.type_in("yes\r");
        let mut custodian = rehearsal.room.join("custodian");
        custodian.terminal.expect("Press Enter when it is written down");
        let screen = custodian.terminal.screen();
        let shown: Vec<&str> = screen.lines().filter(|line| line.starts_with("    ")).collect();
        let groups: Vec<&str> = shown.iter().flat_map(|line| line.split_whitespace()).collect();
        assert!(groups.len() > 4, "{screen}");
        custodian.terminal.signal(signal);
        assert_eq!(custodian.terminal.end(), 128 + signal.as_raw() as u32);
        let left = custodian.terminal.everything_visible();
        assert!(groups.iter().filter(|group| group.len() == 5).all(|group| !left.contains(group)), "{left}");
    }
}

/// Whoever types while others are at work has answered nothing, signed nothing, and shown nothing.
#[test]
fn what_is_typed_while_nobody_is_asked_is_forgotten() {
    let rehearsal = Rehearsal::start("generate-root");
    let mut officer = rehearsal.room.join("officer");
    officer.terminal.expect("waiting for ");
    officer.terminal.type_in("0123456789ABCDEF\ryes\r");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!officer.terminal.everything_visible().contains("0123456789"), "{}", officer.terminal.screen());
    let mut witness = rehearsal.room.join("witness");
    witness.terminal.expect(QUESTIONS[0]);
    witness.terminal.type_in("yes\r");
    officer.terminal.expect(QUESTIONS[1]);
    std::thread::sleep(Duration::from_millis(700));
    let course = rehearsal.room.transcript();
    assert_eq!(course.course().next().unwrap().label, "2", "it waits for an answer that was asked for");
    assert!(!course.course().is_begun());
    officer.terminal.type_in("yes\r");
    witness.terminal.expect("types the check value of key");
    // A rehearsal that is ended in the middle leaves nothing.
    let mut alone = Terminal::claviger(&["ceremony", "rehearse", "generate-root", "--alone"], &rehearsal.room.folder);
    alone.expect(QUESTIONS[0]);
    let folder = std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(|entry| {
        let path = entry.unwrap().path().join("rehearsal");
        path.join("dev.json").exists().then_some(path)
    });
    let before: Vec<PathBuf> = folder.collect();
    alone.type_in("\u{3}");
    assert_eq!(alone.end(), 130);
    assert!(before.iter().any(|path| !path.exists()), "{before:?}");
}

#[test]
fn a_ceremony_is_listed_and_reported() {
    let mut rehearsal = Rehearsal::start("generate-root");
    let CeremonyList { ceremonies } =
        now(rehearsal.room.client("auditor").get("/v1/ceremonies", &json!({"tenant": "demo"}))).unwrap();
    assert_eq!((ceremonies.len(), ceremonies[0].state.as_str()), (1, "open"));
    rehearsal.play();
    let path = rehearsal.folder.path().join("transcript.jsonl");
    let out = rehearsal.folder.path().join("report.html");
    let report = cli(&["ceremony", "report", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert!(report.status.success(), "{}", words(&report));
    let page = std::fs::read_to_string(&out).unwrap();
    for text in ["REHEARSAL", "Generate a tenant&#39;s root key", "claviger://officer/witness", "signed by"] {
        assert!(page.contains(&text.replace("&#39;", "'")), "{text}");
    }
    // A page or a transcript that is there is not written over.
    let again = cli(&["ceremony", "report", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2));
}
