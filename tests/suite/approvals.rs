//! Operations that others must approve, and everything that somebody might try instead.

use std::path::Path;
use std::process::Command;

use claviger_client::{
    Client, DisperseKey, Key, KeyReference, NewKey, Problem, Proposal, ProposalFilter, ProposalList, SetKeyState,
    Vote as Said,
};
use claviger_key_ceremonies::{PersonalKey, Signed, Statement, Vote};

use crate::daemon::{Daemon, problem, words};
use crate::load::{CMAC, generic, into};
use crate::reload::{configuration, reload};

/// A daemon under the production policies, with a key that was made before.
async fn daemon() -> (Daemon, Key) {
    let daemon = Daemon::start();
    let key = into(&daemon, &[], generic("CMAC"), CMAC).await;
    let production = configuration(&daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(&daemon, &production).await.contains("done"));
    (daemon, key)
}

async fn set_state(client: &Client, key: &Key, state: &str) -> Result<Key, claviger_client::ClientError> {
    client.post(&format!("/v1/keys/{}/state", key.id), &SetKeyState { state: state.to_owned() }).await
}

/// Asks the officer's key to be destroyed under a proposal.
async fn destroy(daemon: &Daemon, key: &Key, under: &str) -> Result<Key, claviger_client::ClientError> {
    set_state(&daemon.client("officer").approved(Some(under.to_owned())), key, "destroyed").await
}

async fn refused(daemon: &Daemon, key: &Key, under: &str) -> Problem {
    problem(destroy(daemon, key, under).await)
}

/// Proposes that a key be destroyed.
async fn propose(daemon: &Daemon, key: &Key) -> String {
    let needed = problem(set_state(&daemon.client("officer"), key, "destroyed").await);
    assert_eq!((needed.status, needed.code.as_str()), (403, "approval_needed"), "{needed:?}");
    assert_eq!(needed.policy.as_deref(), Some("officers.approved"));
    needed.approval.unwrap()
}

pub(crate) async fn shown(daemon: &Daemon, id: &str) -> Proposal {
    daemon.client("auditor").get(&format!("/v1/approvals/{id}"), &()).await.unwrap()
}

fn statement(proposal: &Proposal) -> Statement {
    let Proposal { id, daemon, proposer, tenant, action, lines, approvals, expires, .. } = proposal.clone();
    let lines = lines.into_iter().map(|line| (line.name, line.value)).collect();
    Statement { id, daemon, proposer, tenant, action, lines, approvals, expires: expires.parse().unwrap() }
}

/// What somebody would say to a proposal.
pub(crate) async fn signed(daemon: &Daemon, id: &str, by: &str, vote: Vote) -> Said {
    let connection = daemon.connection(by);
    let key = PersonalKey::load(&connection.certificate, &connection.key).unwrap();
    let text = statement(&shown(daemon, id).await).signed_text(vote);
    let Signed { certificate, signature } = key.sign(text.as_bytes()).unwrap();
    Said { vote: vote.as_str().to_owned(), certificate, signature }
}

/// Brings a vote; an auditor may, since the signature says whose it is.
pub(crate) async fn bring(daemon: &Daemon, id: &str, said: &Said) -> Result<Proposal, claviger_client::ClientError> {
    daemon.client("auditor").post(&format!("/v1/approvals/{id}/votes"), said).await
}

pub(crate) async fn approve(daemon: &Daemon, id: &str, by: &str) -> Result<Proposal, claviger_client::ClientError> {
    bring(daemon, id, &signed(daemon, id, by, Vote::Approve).await).await
}

pub(crate) fn log(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap()
}

/// Whether the log says that this outcome came of the proposal.
fn logged(daemon: &Daemon, id: &str, outcome: &str) -> bool {
    let outcome = format!("\"outcome\":\"{outcome}\"");
    log(daemon).lines().any(|line| line.contains(id) && line.contains(&outcome))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_others_approve_and_it_is_done_once() {
    let (mut daemon, key) = daemon().await;
    let destroy_by_command = |more: &[&str]| {
        let key =
            ["--tenant", "demo", "--scheme", "generic", "--role", "CMAC", "--version", "01", "--algorithm", "aes128"];
        daemon.cli("officer", &[&["keys", "destroy", "--yes"], &key[..], more].concat())
    };
    let output = destroy_by_command(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", words(&output));
    let said = words(&output);
    let id = said.split("proposed as ").nth(1).unwrap()[..32].to_owned();
    assert_eq!(propose(&daemon, &key).await, id, "asked for again, it is the same proposal");
    // A program that asked by the command learns it too.
    let told: serde_json::Value = serde_json::from_slice(&destroy_by_command(&["--json"]).stdout).unwrap();
    assert_eq!((&told["error"]["code"], &told["error"]["approval"]), (&"approval_needed".into(), &id.as_str().into()));
    let denied = daemon.cli("clearing", &["--json", "keys", "list", "--tenant", "elsewhere"]);
    let told: serde_json::Value = serde_json::from_slice(&denied.stdout).unwrap();
    assert_eq!((&told["error"]["code"], &told["error"]["policy"]), (&"denied".into(), &"default".into()), "{told}");
    let listed = words(&daemon.cli("officer-2", &["approvals", "list", "--tenant", "demo"]));
    assert!(listed.contains(&id) && listed.contains("0 of 2") && listed.contains("destroy_key"), "{listed}");
    let details = words(&daemon.cli("officer-2", &["approvals", "show", &id]));
    for line in [
        "state: active -> destroyed",
        "key: demo/generic/CMAC aes128 01",
        "held by: embedded (the daemon's own memory, on-prem)",
        "proposer: claviger://officer/officer",
    ] {
        assert!(details.contains(line), "{details}");
    }
    let first = words(&daemon.cli("officer-2", &["approvals", "approve", "--yes", &id]));
    assert!(first.contains("1 of 2 have approved it"), "{first}");
    let early = words(&destroy_by_command(&["--approval", &id]));
    assert!(early.contains("2 others must approve this first"), "{early}");
    // The second signs on a machine that reaches no daemon, and an auditor brings the vote. Meanwhile the daemon restarts.
    let proposal = daemon.cli("auditor", &["--json", "approvals", "show", &id]);
    let proposal = daemon.file("proposal.json", &proposal.stdout);
    let connection = daemon.connection("officer-3");
    let files = ["--cert", connection.certificate.to_str().unwrap(), "--key", connection.key.to_str().unwrap()];
    let vote =
        crate::daemon::cli(&[&["approvals", "sign", "--yes", "--vote", "approve", &proposal], &files[..]].concat());
    assert!(vote.status.success(), "{}", words(&vote));
    let vote = daemon.file("vote.json", &vote.stdout);
    daemon.kill_and_restart();
    let second = words(&daemon.cli("auditor", &["approvals", "bring", &id, &vote]));
    assert!(second.contains("2 of 2 have approved it"), "{second}");
    let done = destroy(&daemon, &key, &id).await.unwrap();
    assert_eq!(done.state, "destroyed");
    let again = refused(&daemon, &key, &id).await;
    assert_eq!((again.code.as_str(), again.detail.as_str()), ("proposal_over", "the proposal was used"));
    let log = log(&daemon);
    let of_it: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
    assert!(
        of_it[0].contains("\"event\":\"proposal\"") && of_it[0].contains("state: active -> destroyed"),
        "{of_it:#?}"
    );
    assert!(
        of_it.iter().any(|line| line.contains("\"action\":\"destroy_key\"") && line.contains("\"outcome\":\"done\""))
    );
    assert_eq!(
        of_it.iter().filter(|line| line.contains("\"action\":\"vote\"") && line.contains("\"done\"")).count(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_should_not_speak_is_not_heard() {
    let (daemon, key) = daemon().await;
    let id = propose(&daemon, &key).await;
    // Whoever proposed it, with their own certificate.
    let own = problem(approve(&daemon, &id, "officer").await);
    assert_eq!((own.status, own.code.as_str()), (403, "no_approver"), "{own:?}");
    // No officers, neither to approve nor to cancel.
    for outsider in ["auditor", "clearing", "card-management"] {
        for vote in [Vote::Approve, Vote::Refuse] {
            let said = signed(&daemon, &id, outsider, vote).await;
            assert_eq!(problem(bring(&daemon, &id, &said).await).code, "no_approver", "{outsider}");
        }
    }
    // Who acts for no such tenant does not even learn that there is something; who may not read, not what it is.
    let clearing = daemon.client("clearing");
    assert_eq!(problem(clearing.get::<Proposal>(&format!("/v1/approvals/{id}"), &()).await).code, "denied");
    assert_eq!(problem(clearing.get::<Proposal>("/v1/approvals/0123", &()).await).code, "no_proposal");
    // A signature of another word, another proposal, another person, and a certificate of another authority.
    let yes = signed(&daemon, &id, "officer-2", Vote::Approve).await;
    let no = signed(&daemon, &id, "officer-2", Vote::Refuse).await;
    let theirs = signed(&daemon, &id, "officer-3", Vote::Approve).await;
    let stranger = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI("claviger://officer/officer-2".try_into().unwrap())];
    let forged = params.self_signed(&stranger).unwrap().pem();
    let forger = PersonalKey::from_pem(forged, &stranger.serialize_pem()).unwrap();
    let Signed { certificate, signature } =
        forger.sign(statement(&shown(&daemon, &id).await).signed_text(Vote::Approve).as_bytes()).unwrap();
    for (said, code) in [
        (Said { signature: no.signature.clone(), ..yes.clone() }, "bad_signature"),
        (Said { signature: theirs.signature.clone(), ..yes.clone() }, "bad_signature"),
        (Said { signature: "zz".to_owned(), ..yes.clone() }, "bad_signature"),
        (Said { certificate: "nothing".to_owned(), ..yes.clone() }, "bad_signature"),
        (Said { certificate, signature, ..yes.clone() }, "no_approver"),
        (Said { vote: "perhaps".to_owned(), ..yes.clone() }, "bad_field"),
    ] {
        assert_eq!(problem(bring(&daemon, &id, &said).await).code, code);
    }
    assert_eq!(shown(&daemon, &id).await.votes, []);
    // The same officer twice is one.
    bring(&daemon, &id, &yes).await.unwrap();
    for again in [&yes, &no] {
        assert_eq!(problem(bring(&daemon, &id, again).await).code, "proposal_over");
    }
    assert_eq!(refused(&daemon, &key, &id).await.code, "approval_needed");
    for outcome in ["no_approver", "bad_signature", "proposal_over"] {
        assert!(logged(&daemon, &id, outcome), "{outcome} is not in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_is_that_and_nothing_else() {
    let (daemon, key) = daemon().await;
    let other = NewKey { version: "02".to_owned(), ..generic("CMAC") };
    let other: Key = daemon.client("officer").post("/v1/keys", &other).await.unwrap();
    let id = propose(&daemon, &key).await;
    for officer in ["officer-2", "officer-3"] {
        approve(&daemon, &id, officer).await.unwrap();
    }
    // Of another key, by somebody else, or for another operation.
    let differs = refused(&daemon, &other, &id).await;
    assert_eq!((differs.status, differs.code.as_str()), (409, "approval_differs"), "{differs:?}");
    let by_another = daemon.client("officer-2").approved(Some(id.clone()));
    assert_eq!(problem(set_state(&by_another, &key, "destroyed").await).code, "no_proposal");
    let officer = daemon.client("officer").approved(Some(id.clone()));
    assert_eq!(problem(set_state(&officer, &key, "suspended").await).code, "approval_differs");
    assert_eq!(refused(&daemon, &key, "0123456789").await.code, "no_proposal");
    assert_eq!(shown(&daemon, &id).await.state, "open", "none of it has used the approval");
    // The key changes: what was approved is no longer what would be done.
    let unapproved = daemon.client("officer");
    set_state(&unapproved, &key, "suspended").await.unwrap();
    let changed = refused(&daemon, &key, &id).await;
    assert_eq!(changed.code, "approval_differs");
    assert!(changed.detail.contains("version of its record was `1` and is `2`"), "{}", changed.detail);
    assert!(logged(&daemon, &id, "approval_differs"));
    // It is neither used nor open: nobody waits for an approval that would be good for nothing.
    assert_eq!(shown(&daemon, &id).await.state, "changed");
    let listed = |more: &[&str]| {
        let of = ["approvals", "list", "--tenant", "demo"];
        words(&daemon.cli("officer-2", &[&of[..], more].concat()))
    };
    assert!(!listed(&[]).contains(&id) && listed(&["--all"]).contains(&format!("{id}  changed  2 of 2")));
    // Nor does anybody approve what has changed, though it may be refused.
    let id = propose(&daemon, &key).await;
    set_state(&unapproved, &key, "active").await.unwrap();
    let over = problem(approve(&daemon, &id, "officer-2").await);
    assert!(over.code == "proposal_over" && over.detail.contains("has changed since"), "{over:?}");
    assert!(logged(&daemon, &id, "proposal_over"));
    assert_eq!(
        bring(&daemon, &id, &signed(&daemon, &id, "officer-2", Vote::Refuse).await).await.unwrap().state,
        "refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_expiry_and_revoked_officers_end_it() {
    let (daemon, key) = daemon().await;
    let id = propose(&daemon, &key).await;
    approve(&daemon, &id, "officer-2").await.unwrap();
    let ended = bring(&daemon, &id, &signed(&daemon, &id, "officer-3", Vote::Refuse).await).await.unwrap();
    assert_eq!(ended.state, "refused");
    assert_eq!(refused(&daemon, &key, &id).await.detail, "the proposal was refused");

    // An officer who is let in no more is heard no more.
    let next = propose(&daemon, &key).await;
    assert_ne!(next, id);
    for officer in ["officer-2", "officer-3"] {
        approve(&daemon, &next, officer).await.unwrap();
    }
    let whole = configuration(&daemon);
    let without = whole.replace("claviger://officer/officer-3\"", "claviger://officer/nobody\"");
    assert!(reload(&daemon, &without).await.contains("done"));
    assert_eq!(refused(&daemon, &key, &next).await.code, "approval_needed");
    assert!(reload(&daemon, &whole).await.contains("done"));

    let expired = "import sqlite3, sys\n\
        d = sqlite3.connect(sys.argv[1], timeout=10)\n\
        d.execute(\"UPDATE proposals SET statement = json_set(statement, '$.expires', '2026-01-01T00:00:00Z') WHERE id = ?\", (sys.argv[2],))\n\
        d.commit()";
    let store = daemon.data().join("claviger.db");
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    let made = Command::new(python).args(["-c", expired, store.to_str().unwrap(), &next]).output().unwrap();
    assert!(made.status.success(), "{}", words(&made));
    assert_eq!(refused(&daemon, &key, &next).await.detail, "the proposal has expired");
    assert_eq!(shown(&daemon, &next).await.state, "expired");
    let late = signed(&daemon, &next, "officer-3", Vote::Approve).await;
    assert_eq!(problem(bring(&daemon, &next, &late).await).code, "proposal_over");
    assert!(logged(&daemon, &next, "proposal_over"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_counts() {
    let (daemon, key) = daemon().await;
    // Proposed by eight at once, it is one proposal.
    let officer = daemon.client("officer");
    let asked = futures_util::future::join_all((0..8).map(|_| set_state(&officer, &key, "destroyed"))).await;
    let ids: std::collections::BTreeSet<String> =
        asked.into_iter().map(|answer| problem(answer).approval.unwrap()).collect();
    assert_eq!(ids.len(), 1);
    let id = ids.first().unwrap();
    let said = signed(&daemon, id, "officer-2", Vote::Approve).await;
    let votes = futures_util::future::join_all((0..8).map(|_| bring(&daemon, id, &said))).await;
    assert_eq!(votes.iter().filter(|vote| vote.is_ok()).count(), 1);
    assert_eq!(shown(&daemon, id).await.votes.len(), 1);
    approve(&daemon, id, "officer-3").await.unwrap();
    let used = futures_util::future::join_all((0..8).map(|_| destroy(&daemon, &key, id))).await;
    assert_eq!(used.iter().filter(|used| used.is_ok()).count(), 1);
    let ProposalList { proposals } = daemon
        .client("auditor")
        .get("/v1/approvals", &ProposalFilter { tenant: Some("demo".to_owned()) })
        .await
        .unwrap();
    assert_eq!((proposals.len(), proposals[0].state.as_str()), (1, "used"));
}

/// A key above cards is not made in the daemon's memory, unless two others make the exception.
#[tokio::test(flavor = "multi_thread")]
async fn masters_stay_out_of_the_daemon_unless_two_others_say_so() {
    let (daemon, _) = daemon().await;
    let master = crate::token_keys::dtk();
    let officer = daemon.client("officer");
    let needed = problem(officer.post::<Key>("/v1/keys", &master).await);
    assert_eq!(needed.code, "approval_needed", "{needed:?}");
    assert_eq!(needed.policy.as_deref(), Some("officers.make-keys"));
    let id = needed.approval.unwrap();
    for by in ["officer-2", "officer-3"] {
        approve(&daemon, &id, by).await.unwrap();
    }
    let another = problem(daemon.client("officer-2").post::<Key>("/v1/keys", &master).await).approval.unwrap();
    let made: Key = officer.clone().approved(Some(id)).post("/v1/keys", &master).await.unwrap();
    assert_eq!(shown(&daemon, &another).await.state, "changed", "there is such a key now");
    assert_eq!((made.rank.as_str(), made.state.as_str()), ("dispersion", "active"));
    // Nor is its child for a city, which has cards below it; whoever approves that sees where it would be.
    let parent = KeyReference {
        tenant: master.tenant,
        scheme: master.scheme,
        role: master.role,
        algorithm: master.algorithm,
        version: master.version,
        factors: Vec::new(),
    };
    let city = DisperseKey { parent, factors: vec!["1150FF0000000000".to_owned()] };
    let needed = problem(officer.post::<Key>("/v1/keys/disperse", &city).await);
    assert_eq!(needed.code, "approval_needed", "{needed:?}");
    let id = needed.approval.unwrap();
    let proposed = shown(&daemon, &id).await;
    let kept = proposed.lines.iter().find(|line| line.name == "kept in").map(|line| line.value.as_str());
    assert_eq!(kept, Some("embedded (the daemon's own memory, on-prem)"));
    // Once the key above is gone, there is nothing to approve.
    assert_eq!(proposed.state, "open");
    let end = propose(&daemon, &made).await;
    for by in ["officer-2", "officer-3"] {
        approve(&daemon, &end, by).await.unwrap();
    }
    destroy(&daemon, &made, &end).await.unwrap();
    assert_eq!(shown(&daemon, &id).await.state, "changed");
}
