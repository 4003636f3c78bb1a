//! What people might try in a ceremony that are not to, and daemons that are killed in the middle of one.

use std::path::Path;
use std::time::Duration;

use claviger_client::{
    CancelCeremony, Ceremony, Client, ClientError, Key, KeyFilter, KeyList, NewKey, OpenCeremony, SignCeremony,
    StepTaken, TakeStep, Vote as Said,
};
use claviger_key_ceremonies::{
    Act, Binding, Event, Form, PLANS, PersonalKey, Plan, Signed, Statement, Step, Transcript, Turn, Vote, digest,
    shipped,
};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::kcv;
use crate::daemon::{Daemon, problem};
use crate::exchange::{EXCHANGE, KBPK};
use crate::load::into;
use crate::reference::{ask, ask_for, ask_object};
use crate::reload::{configuration, reload};
use crate::token_keys::{DTK, dtk};

/// A plan and a binding with the people of a development daemon.
pub(crate) struct Order {
    pub(super) plan: &'static str,
    pub(super) binding: String,
}

fn names(role: &str, count: usize) -> Vec<String> {
    // Whoever is new is somebody whom the directory of development has.
    if role == "newcomer" {
        return vec!["officer-3".to_owned()];
    }
    (1..=count).map(|n| if n == 1 { role.to_owned() } else { format!("{role}-{n}") }).collect()
}

pub(crate) fn order(data: &Path, id: &str, backends: &[(&str, &str)], parameters: &[(&str, &str)]) -> Order {
    let plan = shipped(id).unwrap();
    let parsed = Plan::parse(plan).unwrap();
    let mut binding = format!("plan = \"{}\"\ntenant = \"demo\"\n[parameters]\n", hex::encode(digest(plan)));
    for asked in &parsed.parameters {
        let given = parameters.iter().find(|(name, _)| *name == asked.name).map_or(asked.example.as_str(), |(_, v)| *v);
        binding += &format!("{} = \"{given}\"\n", asked.name);
    }
    binding += "[backends]\n";
    for name in parsed.backend_names().collect::<std::collections::BTreeSet<_>>() {
        let given = backends.iter().find(|(known, _)| *known == name).map_or("embedded", |(_, backend)| *backend);
        binding += &format!("{name} = \"{given}\"\n");
    }
    for role in &parsed.roles {
        for name in names(&role.name, role.count) {
            let pem = std::fs::read(data.join(format!("clients/{name}.pem"))).unwrap();
            let der = x509_parser::pem::parse_x509_pem(&pem).unwrap().1.contents;
            binding += &format!(
                "[[person]]\nrole = \"{}\"\nname = \"claviger://officer/{name}\"\ncertificate = \"{}\"\n",
                role.name,
                hex::encode(Sha256::digest(der))
            );
        }
    }
    Order { plan, binding }
}

impl Order {
    pub(super) fn request(&self) -> OpenCeremony {
        OpenCeremony { plan: self.plan.to_owned(), binding: self.binding.clone() }
    }
}

/// The client of whoever has that URI.
pub(super) fn client(daemon: &Daemon, name: &str) -> Client {
    daemon.client(name.rsplit('/').next().unwrap())
}

pub(super) async fn show(daemon: &Daemon, id: &str) -> Ceremony {
    daemon.client("auditor").get(&format!("/v1/ceremonies/{id}"), &()).await.unwrap()
}

/// What a careful person brings to the next turn; components are those of `sheets`.
async fn input(daemon: &Daemon, ceremony: &Ceremony, held: &[String]) -> (String, TakeStep) {
    let next = ceremony.next.clone().unwrap();
    let transcript = Transcript::parse(&ceremony.transcript).unwrap();
    let turn = transcript.course().next().unwrap().clone();
    let step = &transcript.plan().steps[turn.step];
    let mut input = TakeStep { turn: next.turn.clone(), ..TakeStep::default() };
    match (step, turn.act) {
        (Step::Confirm { .. }, _) => input.confirm = Some(true),
        (Step::EnterComponents { key, .. }, _) => {
            let algorithm = &transcript.plan().key(key).unwrap().algorithm;
            let bytes = if algorithm == "aes256" { 32 } else { 16 };
            let seed = turn.person.unwrap();
            let component: Vec<u8> = (0..bytes).map(|at| (29 + seed * 61 + at * (5 + 2 * seed)) as u8 | 1).collect();
            let component = hex::encode_upper(component);
            input.kcv = Some(kcv(algorithm, &component));
            input.component = Some(Zeroizing::new(component));
        }
        (Step::ReceiveKey { form, .. }, _) => input.wrapped = Some(sent(form)),
        (Step::HandOutComponents { .. } | Step::HandOutShares { .. }, Act::Prove) => {
            input.component = held.last().cloned().map(Zeroizing::new);
            // Whoever has not seen theirs says so.
            input.lost = input.component.is_none();
        }
        (Step::CompareKcv { key, .. }, _) => {
            let planned = transcript.plan().key(key).unwrap();
            let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
            let KeyList { keys } = daemon.client("auditor").get("/v1/keys", &filter).await.unwrap();
            let is = |found: &&Key| {
                (&found.role, &found.version, &found.factors) == (&planned.role, &planned.version, &planned.factors)
            };
            input.kcv = Some(keys.iter().find(is).unwrap().kcv.clone());
        }
        _ => {}
    }
    (next.people[0].clone(), input)
}

/// What another party sends: a key of derivation by psec, or an envelope by an SM2 of its own.
fn sent(form: &Form) -> String {
    if matches!(form, Form::KeyBlock { .. }) {
        let header = "D0000B3TX00N0000";
        return ask_for(&json!({"op": "key_block_wrap", "kbpk": KBPK, "header": header, "key": DTK}));
    }
    let public = hex::encode(ask(json!({"op": "sm2_public", "private_key": EXCHANGE})));
    let envelope = ask_object(&json!({"op": "sm2_encrypt", "public_key": public, "message": DTK}));
    let part = |name: &str| envelope[name].as_str().unwrap().to_owned();
    let zeros = "00".repeat(32);
    [&zeros, &*part("x"), &zeros, &part("y"), &part("hash"), "10000000", &part("ciphertext")].concat()
}

/// Brings in the keys that a plan takes to be there.
pub(super) async fn make_what_is_there(daemon: &Daemon, plan: &Plan) {
    for key in plan.keys.iter().filter(|key| key.exists) {
        let (value, backends): (&str, &[&str]) = match key.role.as_str() {
            "KBPK" => (KBPK, &["embedded"]),
            "EXCHANGE" => (EXCHANGE, &["embedded"]),
            "KEK" => (KBPK, &["embedded", "second"]),
            _ => (DTK, &["embedded"]),
        };
        let new = NewKey {
            scheme: key.scheme.clone(),
            role: key.role.clone(),
            algorithm: key.algorithm.clone(),
            version: key.version.clone(),
            movable: key.movable,
            sensitive: key.sensitive,
            ceiling: key.ceiling.clone(),
            ..dtk()
        };
        into(daemon, backends, new, value).await;
    }
}

/// Takes the next turn.
pub(crate) async fn take(daemon: &Daemon, id: &str, held: &mut Vec<String>) -> Result<StepTaken, ClientError> {
    let ceremony = show(daemon, id).await;
    let (who, input) = input(daemon, &ceremony, held).await;
    let taken: Result<StepTaken, _> = client(daemon, &who).post(&format!("/v1/ceremonies/{id}/turns"), &input).await;
    if let Ok(StepTaken { component: Some(component), .. }) = &taken {
        held.push(component.to_string());
    }
    taken
}

async fn sign(daemon: &Daemon, id: &str, name: &str) -> Result<Ceremony, ClientError> {
    let transcript = Transcript::parse(&show(daemon, id).await.transcript).unwrap();
    let connection = daemon.connection(name);
    let key = PersonalKey::load(&connection.certificate, &connection.key).unwrap();
    let at = Timestamp::now().max(transcript.entries().last().unwrap().at);
    let text = transcript.closing(&format!("claviger://officer/{name}"), key.certificate(), at).unwrap_or_default();
    let Signed { certificate, signature } = key.sign(text.as_bytes()).unwrap();
    let signed = SignCeremony { time: at.to_string(), certificate, signature };
    daemon.client(name).post(&format!("/v1/ceremonies/{id}/signatures"), &signed).await
}

pub(crate) async fn open(daemon: &Daemon, order: &Order) -> Result<Ceremony, ClientError> {
    daemon.client("officer").post("/v1/ceremonies", &order.request()).await
}

async fn hold(daemon: &Daemon, id: &str) {
    hold_all(daemon, id).await;
}

/// Takes every turn that is left; what was shown.
pub(crate) async fn hold_all(daemon: &Daemon, id: &str) -> Vec<String> {
    let mut held = Vec::new();
    while show(daemon, id).await.next.is_some() {
        take(daemon, id, &mut held).await.unwrap();
    }
    held
}

async fn approve(daemon: &Daemon, proposal: &str, name: &str) {
    let client = daemon.client(name);
    let shown: claviger_client::Proposal = client.get(&format!("/v1/approvals/{proposal}"), &()).await.unwrap();
    let statement = Statement {
        id: shown.id,
        daemon: shown.daemon,
        proposer: shown.proposer,
        tenant: shown.tenant,
        action: shown.action,
        lines: shown.lines.into_iter().map(|line| (line.name, line.value)).collect(),
        approvals: shown.approvals,
        expires: shown.expires.parse().unwrap(),
    };
    let connection = daemon.connection(name);
    let key = PersonalKey::load(&connection.certificate, &connection.key).unwrap();
    let Signed { certificate, signature } = key.sign(statement.signed_text(Vote::Approve).as_bytes()).unwrap();
    let vote = Said { vote: "approve".to_owned(), certificate, signature };
    let _: claviger_client::Proposal = client.post(&format!("/v1/approvals/{proposal}/votes"), &vote).await.unwrap();
}

async fn production(daemon: &Daemon) {
    let production = configuration(daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(daemon, &production).await.contains("done"));
}

/// In production a plan is approved before it is held, and what it makes rests on that; nobody joins components elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn in_production_two_others_approve_the_plan_and_nothing_else_is_held() {
    let daemon = Daemon::start();
    production(&daemon).await;
    let order = order(&daemon.data(), "receive-components", &[], &[]);
    let needed = problem(open(&daemon, &order).await);
    assert_eq!(needed.code, "approval_needed", "{needed:?}");
    let proposal = needed.approval.unwrap();
    let shown: claviger_client::Proposal =
        daemon.client("officer-2").get(&format!("/v1/approvals/{proposal}"), &()).await.unwrap();
    let line = |name: &str| shown.lines.iter().find(|line| line.name == name).unwrap().value.clone();
    assert_eq!((shown.state.as_str(), line("plan")), ("open", "receive-components version 1".to_owned()));
    assert_eq!(line("key received"), "demo/cjt166/DTK 3des 01");
    assert_eq!(line("step 3"), "officer has the components joined to key received");
    assert_eq!(line("plan hash").split(' ').count(), 24);
    let bound = Binding::parse(&order.binding).unwrap();
    let officer = bound.people_of("officer").next().unwrap();
    assert_eq!(line("officer"), format!("{}, certificate {}", officer.name, officer.certificate));
    for name in ["officer-2", "officer-3"] {
        approve(&daemon, &proposal, name).await;
    }
    // Another binding, by one value, is another ceremony.
    let officer = daemon.client("officer").approved(Some(proposal.clone()));
    let other = super::attacks::order(&daemon.data(), "receive-components", &[], &[("version", "02")]);
    let differs = problem(officer.post::<Ceremony>("/v1/ceremonies", &other.request()).await);
    assert_eq!(differs.code, "approval_differs", "{differs:?}");
    let opened: Ceremony = officer.post("/v1/ceremonies", &order.request()).await.unwrap();
    assert!(!opened.rehearsal);
    // And it is opened once.
    let again = problem(officer.post::<Ceremony>("/v1/ceremonies", &order.request()).await);
    assert_eq!(again.code, "proposal_over", "{again:?}");
    hold(&daemon, &opened.id).await;
    let ended = show(&daemon, &opened.id).await;
    assert_eq!(ended.state, "finished");
    let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
    let KeyList { keys } = daemon.client("auditor").get("/v1/keys", &filter).await.unwrap();
    assert_eq!((keys.len(), keys[0].origin.as_str(), keys[0].rank.as_str()), (1, "components", "dispersion"));
    // Every line of the transcript that a step wrote is anchored in the daemon's own log.
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    let anchored = log.lines().filter(|line| line.contains(&format!("\"ceremony\":\"{}\"", opened.id))).count();
    assert!(anchored > 7 && log.contains(&ended.head), "{anchored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ceremonies_end_early_only_with_approval() {
    let daemon = Daemon::start();
    let order = order(&daemon.data(), "generate-root", &[], &[]);
    let opened = open(&daemon, &order).await.unwrap();
    production(&daemon).await;
    let path = format!("/v1/ceremonies/{}/cancel", opened.id);
    let reason = CancelCeremony { reason: "the room is on fire".to_owned() };
    let needed = problem(daemon.client("officer").post::<Ceremony>(&path, &reason).await);
    assert_eq!(needed.code, "approval_needed", "{needed:?}");
    for outsider in ["clearing", "custodian", "auditor"] {
        assert_eq!(problem(daemon.client(outsider).post::<Ceremony>(&path, &reason).await).code, "denied");
    }
    let proposal = needed.approval.unwrap();
    let other = CancelCeremony { reason: "nobody came".to_owned() };
    let left = problem(daemon.client("officer").post::<Ceremony>(&path, &other).await).approval.unwrap();
    approve(&daemon, &proposal, "officer-2").await;
    let officer = daemon.client("officer").approved(Some(proposal));
    let cancelled: Ceremony = officer.post(&path, &reason).await.unwrap();
    assert_eq!((cancelled.state.as_str(), cancelled.next), ("cancelled", None));
    // What is over is nobody's to end, and what would have ended it waits for nobody.
    assert_eq!(problem(daemon.client("officer").post::<Ceremony>(&path, &other).await).code, "ceremony_over");
    let left: claviger_client::Proposal =
        daemon.client("auditor").get(&format!("/v1/approvals/{left}"), &()).await.unwrap();
    assert_eq!(left.state, "changed");
    let late = TakeStep { turn: "1".to_owned(), confirm: Some(true), ..TakeStep::default() };
    let late = daemon.client("witness").post::<StepTaken>(&format!("/v1/ceremonies/{}/turns", opened.id), &late).await;
    assert_eq!(problem(late).code, "ceremony_over");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_anothers_turn_and_three_wrong_ones_end_it() {
    let daemon = Daemon::start();
    let order = order(&daemon.data(), "receive-components", &[], &[]);
    let id = open(&daemon, &order).await.unwrap().id;
    let path = format!("/v1/ceremonies/{id}/turns");
    let confirm = || TakeStep { turn: "1".to_owned(), confirm: Some(true), ..TakeStep::default() };
    for other in ["officer", "custodian", "witness-2", "auditor"] {
        let code = problem(daemon.client(other).post::<StepTaken>(&path, &confirm()).await).code;
        assert_eq!(code, "ceremony_order", "{other}");
    }
    assert_eq!(problem(daemon.client("clearing").post::<StepTaken>(&path, &confirm()).await).code, "denied");
    take(&daemon, &id, &mut Vec::new()).await.unwrap();
    // The same again, and another's part.
    assert_eq!(problem(daemon.client("witness").post::<StepTaken>(&path, &confirm()).await).code, "ceremony_order");
    let (_, mine) = input(&daemon, &show(&daemon, &id).await, &[]).await;
    assert_eq!(problem(daemon.client("custodian-2").post::<StepTaken>(&path, &mine).await).code, "ceremony_order");
    let component = mine.component.clone().unwrap();
    let mistyped = format!("{}{}", &component[..30], if component.ends_with("00") { "11" } else { "00" });
    for (left, wrong) in [(2, "ZZ".to_owned()), (1, component[..30].to_owned()), (0, mistyped)] {
        let wrong = TakeStep {
            turn: "2.1".to_owned(),
            component: Some(Zeroizing::new(wrong.clone())),
            kcv: mine.kcv.clone(),
            ..TakeStep::default()
        };
        let said = problem(daemon.client("custodian").post::<StepTaken>(&path, &wrong).await);
        assert_eq!(said.code, "step_refused", "{said:?}");
        assert!(said.detail.contains(&format!("tries left: {left}")), "{said:?}");
        // Neither the error nor the transcript says what was typed.
        let transcript = show(&daemon, &id).await.transcript;
        assert!(!said.detail.contains(&component[..8]) && !transcript.contains(&component[..8]));
    }
    let ended = show(&daemon, &id).await;
    assert_eq!((ended.state.as_str(), ended.next), ("failed", None));
    let again = problem(daemon.client("custodian").post::<StepTaken>(&path, &mine).await);
    assert_eq!(again.code, "ceremony_over", "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_those_of_people_who_were_there() {
    let daemon = Daemon::start();
    let order = order(&daemon.data(), "generate-root", &[], &[]);
    let id = open(&daemon, &order).await.unwrap().id;
    take(&daemon, &id, &mut Vec::new()).await.unwrap();
    assert_eq!(problem(sign(&daemon, &id, "witness").await).code, "ceremony_order", "it is not over");
    hold(&daemon, &id).await;
    assert_eq!(show(&daemon, &id).await.unsigned.len(), 2);
    sign(&daemon, &id, "witness").await.unwrap();
    assert_eq!(problem(sign(&daemon, &id, "witness").await).code, "ceremony_order", "twice");
    assert_eq!(problem(sign(&daemon, &id, "witness-2").await).code, "bad_signature", "nobody of the binding");
    let signed = sign(&daemon, &id, "officer").await.unwrap();
    assert!(signed.unsigned.is_empty());
}

/// Two components that are the same are none, and of three one would be the key.
#[tokio::test(flavor = "multi_thread")]
async fn equal_components_are_refused() {
    let daemon = Daemon::start();
    let id = open(&daemon, &order(&daemon.data(), "receive-components", &[], &[])).await.unwrap().id;
    let mut held = Vec::new();
    take(&daemon, &id, &mut held).await.unwrap();
    let (_, first) = input(&daemon, &show(&daemon, &id).await, &held).await;
    take(&daemon, &id, &mut held).await.unwrap();
    let again = TakeStep { turn: "2.2".to_owned(), component: first.component, kcv: first.kcv, ..TakeStep::default() };
    let path = format!("/v1/ceremonies/{id}/turns");
    let refused = problem(daemon.client("custodian-2").post::<StepTaken>(&path, &again).await);
    assert!(refused.detail.contains("the same as another custodian's"), "{refused:?}");
    let same = vec![Zeroizing::new("11".repeat(16)), Zeroizing::new("22".repeat(16)), Zeroizing::new("11".repeat(16))];
    let import = claviger_client::ImportKey { key: dtk(), components: same, kcv: None, odd_parity: false };
    let refused = problem(daemon.client("officer").post::<Key>("/v1/keys/import", &import).await);
    assert!(refused.detail.contains("component 3 is the same as another"), "{refused:?}");
}

/// Terminals that wait are told at once, and do not fill the log meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_hears_of_a_change_and_asks_once() {
    let daemon = Daemon::start();
    let opened = open(&daemon, &order(&daemon.data(), "generate-root", &[], &[])).await.unwrap();
    let asked = |daemon: &Daemon| {
        let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
        log.lines().filter(|line| line.contains("\"show_ceremony\"")).count()
    };
    let before = asked(&daemon);
    let (path, after) = (format!("/v1/ceremonies/{}", opened.id), json!({ "after": opened.head }));
    let officer = daemon.client("officer");
    let waiting = tokio::spawn(async move { officer.get::<Ceremony>(&path, &after).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!waiting.is_finished(), "nothing has happened yet");
    let begun = std::time::Instant::now();
    let confirm = TakeStep { turn: "1".to_owned(), confirm: Some(true), ..TakeStep::default() };
    let turns = format!("/v1/ceremonies/{}/turns", opened.id);
    let _: StepTaken = daemon.client("witness").post(&turns, &confirm).await.unwrap();
    let changed = waiting.await.unwrap();
    assert!(changed.head != opened.head && begun.elapsed() < Duration::from_secs(5));
    assert_eq!(asked(&daemon), before + 1);
}

/// A plan that this daemon cannot hold is refused before it begins, and the step is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_be_held_is_refused_by_its_step() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    let check = async |order: &Order| {
        problem(officer.post::<claviger_client::Health>("/v1/ceremonies/check", &order.request()).await).detail
    };
    let data = daemon.data();
    for (plan, backends, parameters, detail) in [
        (
            "generate-root",
            &[("home", "room-7")][..],
            &[][..],
            "binding, backend `home`: the configuration has no `room-7`",
        ),
        ("generate-root", &[], &[("scheme", "cjt167")], "step 2: there is no card scheme `cjt167`"),
        ("generate-root", &[], &[("algorithm", "rot13")], "step 2: "),
        ("receive-components", &[], &[("role", "XYZ")], "step 2: "),
        ("disperse-city", &[], &[], "step 2: tenant `demo` has no active key of role DTK"),
        ("disperse-city", &[], &[("city", "1150")], "step 2: "),
        ("compromise-and-destroy", &[], &[], "step 1: "),
        // The daemon's own memory is no device that was given keys by others.
        ("adopt-key", &[], &[], "step 2: backend embedded: driver: adopt: this backend holds no keys"),
    ] {
        let told = check(&order(&data, plan, backends, parameters)).await;
        assert!(told.starts_with(detail), "{plan}: {told}");
    }
    let mut strangers = order(&data, "generate-root", &[], &[]);
    strangers.binding = strangers.binding.replace("officer/witness", "officer/nobody");
    assert!(check(&strangers).await.contains("is no principal of the configuration"));
    // Who is known, and has no part in ceremonies.
    let mut others = order(&data, "generate-root", &[], &[]);
    others.binding = others.binding.replace("claviger://officer/witness\"", "claviger://service/clearing\"");
    let told = check(&others).await;
    assert!(told.starts_with("binding, person `claviger://service/clearing`: may take no step"), "{told}");
}

/// A daemon that dies between any two turns of any plan, or in the middle of one, goes on where it was: no key is made twice
/// or half, and no component is shown twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_at_any_turn_goes_on() {
    // A store that is sealed anew is tried by itself.
    for (plan, _) in PLANS.iter().filter(|(plan, _)| *plan != "share-storage-key") {
        let turns = Turn::all(&Plan::parse(shipped(plan).unwrap()).unwrap()).len();
        let second = "[[backend]]\nname = \"second\"\ndriver = \"software\"\n";
        let first = [&second.replace("second", "embedded"), "plays_device = true\n"].concat();
        let mut daemon = Daemon::with_backends(&[&first, second].concat());
        let order = order(&daemon.data(), plan, &[("other", "second")], &[]);
        let bound = Plan::bound(order.plan, &Binding::parse(&order.binding).unwrap()).unwrap();
        make_what_is_there(&daemon, &bound).await;
        let id = open(&daemon, &order).await.unwrap().id;
        let mut shown: Vec<String> = Vec::new();
        let (mut died, mut went_on) = (0, 0);
        // Each turn is cut off once, at a moment of chance, and once it is done.
        let mut at = 0;
        while show(&daemon, &id).await.next.is_some() {
            let mut held = shown.clone();
            let before = held.len();
            let label = show(&daemon, &id).await.next.unwrap().turn;
            if at < 2 * turns && at.is_multiple_of(2) {
                let cut = tokio::time::timeout(
                    Duration::from_millis(3 + (at as u64 * 7) % 23),
                    take(&daemon, &id, &mut held),
                );
                let _ = cut.await;
                daemon.kill_and_restart();
                died += 1;
                went_on += usize::from(show(&daemon, &id).await.next.is_some());
            } else {
                // After a restart components are asked for again, from the first.
                let taken = take(&daemon, &id, &mut held).await;
                if let Err(error) = taken {
                    panic!("{plan}, turn {label}: {error}");
                }
            }
            for component in &held[before..] {
                assert!(!shown.contains(component), "{plan}: a component was shown twice");
                shown.push(component.clone());
            }
            at += 1;
            assert!(at < 12 * turns, "{plan} does not end: {}", show(&daemon, &id).await.transcript);
        }
        let ended = show(&daemon, &id).await;
        assert_eq!(ended.state, "finished", "{plan}: {}", ended.transcript);
        assert!(died >= turns.div_ceil(2), "{plan}: {died}");
        let transcript = Transcript::parse(&ended.transcript).unwrap();
        let resumed = transcript.entries().iter().filter(|entry| entry.event == Event::Resumed {}).count();
        // The last may have found out that all was done.
        assert!((went_on..=died).contains(&resumed), "{plan}: {}", ended.transcript);
        // What the plan makes is there once.
        let made = transcript.plan().keys.iter().filter(|key| !key.exists).count();
        let KeyList { keys } = daemon
            .client("auditor")
            .get("/v1/keys", &KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() })
            .await
            .unwrap();
        let there = transcript.plan().keys.iter().filter(|key| key.exists).count();
        assert_eq!(keys.len(), made + there, "{plan}");
        let components = transcript
            .plan()
            .steps
            .iter()
            .any(|step| matches!(step, Step::HandOutComponents { .. } | Step::EnterComponents { .. }));
        let back = transcript.entries().iter().any(|entry| matches!(entry.event, Event::Back { .. }));
        assert_eq!(components, back, "{plan}: what was lost is in the transcript");
    }
}
