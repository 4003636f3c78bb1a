//! Components that are each good, and make no key together.

use claviger_client::{ClientError, KeyFilter, KeyList, StepTaken, TakeStep};
use claviger_key_ceremonies::shipped;
use zeroize::Zeroizing;

use super::attacks::{client, open, order, show, take};
use super::{QUESTIONS, Rehearsal, Room, kcv, now};
use crate::daemon::{Daemon, problem};

const FIRST: &str = "0123456789ABCDEFFEDCBA9876543210";
const SECOND: &str = "89B07B35A1B3F47E8A3C5D6E7F102132";
/// The two together: the key would be all zeros.
const BOTH: &str = "88933E522818399174E0E7F609441322";
const GOOD: &str = "1F2E3D4C5B6A79880796A5B4C3D2E1F0";

/// Takes what comes before the components, then brings these, and has the officer join them.
async fn bring(daemon: &Daemon, id: &str, components: [&str; 3]) -> Result<StepTaken, ClientError> {
    let mut components = components.into_iter();
    loop {
        let next = show(daemon, id).await.next.unwrap();
        match next.act.as_str() {
            "enter" => {
                let component = components.next().unwrap();
                let step = TakeStep {
                    turn: next.turn,
                    component: Some(Zeroizing::new(component.to_owned())),
                    kcv: Some(kcv("3des", component)),
                    ..TakeStep::default()
                };
                let turns = format!("/v1/ceremonies/{id}/turns");
                client(daemon, &next.people[0]).post::<StepTaken>(&turns, &step).await.unwrap();
            }
            "make" => return take(daemon, id, &mut Vec::new()).await,
            _ => drop(take(daemon, id, &mut Vec::new()).await.unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn components_that_make_no_key_are_brought_again() {
    let daemon = Daemon::start();
    let id = open(&daemon, &order(&daemon.data(), "receive-components", &[], &[])).await.unwrap().id;
    let refused = problem(bring(&daemon, &id, [FIRST, SECOND, BOTH]).await);
    assert_eq!(refused.code, "step_refused");
    assert!(refused.detail.contains("all zeros") && refused.detail.contains("tries left: 2"), "{}", refused.detail);
    assert_eq!(show(&daemon, &id).await.next.unwrap().act, "enter");
    // Where they are entered it is said why.
    let (data, folder) = (daemon.data(), daemon.folder.path().to_owned());
    let room = Room { folder, data, id: id.clone(), plan: "receive-components".to_owned() };
    let mut custodian = room.join("custodian");
    custodian.terminal.expect("AGAIN: the components make no key");
    custodian.terminal.type_in("\u{1b}");
    custodian.terminal.end();
    bring(&daemon, &id, [FIRST, SECOND, GOOD]).await.unwrap();
    while show(&daemon, &id).await.next.is_some() {
        take(&daemon, &id, &mut Vec::new()).await.unwrap();
    }
    let ended = show(&daemon, &id).await;
    assert_eq!(ended.state, "finished");
    assert!(ended.transcript.contains("the components make no key: they are brought again"), "{}", ended.transcript);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_sets_that_make_no_key_end_a_ceremony() {
    let daemon = Daemon::start();
    let id = open(&daemon, &order(&daemon.data(), "receive-components", &[], &[])).await.unwrap().id;
    for left in [2, 1, 0] {
        let refused = problem(bring(&daemon, &id, [FIRST, SECOND, BOTH]).await);
        assert!(refused.detail.contains(&format!("tries left: {left}")), "{}", refused.detail);
    }
    assert_eq!(show(&daemon, &id).await.state, "failed");
}

/// A key from others that nobody confirms to be theirs is of no use to anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_check_value_is_not_confirmed_is_suspended() {
    let daemon = Daemon::start();
    let id = open(&daemon, &order(&daemon.data(), "receive-components", &[], &[])).await.unwrap().id;
    let (path, mut held) = (format!("/v1/ceremonies/{id}/turns"), Vec::new());
    while show(&daemon, &id).await.next.unwrap().act != "compare" {
        take(&daemon, &id, &mut held).await.unwrap();
    }
    let key = async || {
        let filter = KeyFilter { tenant: "demo".to_owned(), ..KeyFilter::default() };
        let KeyList { mut keys } = daemon.client("auditor").get("/v1/keys", &filter).await.unwrap();
        keys.pop().unwrap()
    };
    assert_eq!(key().await.state, "active");
    let turn = show(&daemon, &id).await.next.unwrap().turn;
    for _ in 0..3 {
        let wrong = TakeStep { turn: turn.clone(), kcv: Some("000000".to_owned()), ..TakeStep::default() };
        assert_eq!(problem(daemon.client("witness").post::<StepTaken>(&path, &wrong).await).code, "step_refused");
    }
    let ended = show(&daemon, &id).await;
    assert_eq!(ended.state, "failed");
    assert!(
        ended.transcript.contains("key `received` is suspended, since nobody has confirmed"),
        "{}",
        ended.transcript
    );
    assert_eq!(key().await.state, "suspended");
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    assert!(log.lines().any(|line| line.contains("\"event\":\"suspended\"") && line.contains(&id)), "{log}");
}

/// Where a plan demands odd parity, no byte is taken without it: not as it is typed, nor from whoever types elsewhere.
#[test]
fn a_byte_of_even_parity_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("odd.toml");
    let demanding = "written = \"hex\"\nodd_parity = true";
    let text = shipped("receive-components").unwrap().replacen("written = \"hex\"", demanding, 1);
    std::fs::write(&plan, &text).unwrap();
    assert!(text.contains(demanding));
    let rehearsal = Rehearsal::start(plan.to_str().unwrap());
    let mut witness = rehearsal.room.join("witness").terminal;
    witness.expect(QUESTIONS[0]);
    witness.type_in("yes\r");
    let mut custodian = rehearsal.room.join("custodian").terminal;
    custodian.expect("Type the component");
    custodian.type_in("0100");
    custodian.expect("Not taken: ");
    custodian.expect("even parity");
    // The byte is typed again, and the one before is still there.
    custodian.type_in("02");
    custodian.expect("0102");
    let even = "0102".repeat(7) + "0103";
    let step = TakeStep {
        turn: "2.1".to_owned(),
        component: Some(Zeroizing::new(even.clone())),
        kcv: Some(kcv("3des", &even)),
        ..TakeStep::default()
    };
    let path = format!("/v1/ceremonies/{}/turns", rehearsal.room.id);
    let refused = problem(now(rehearsal.room.client("custodian").post::<StepTaken>(&path, &step)));
    assert!(refused.code == "step_refused" && refused.detail.contains("even parity"), "{refused:?}");
}
