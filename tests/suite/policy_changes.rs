//! Another policy set in the place of the one in force: by the word of others, whoever writes on the host's disk.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_client::{ChangePolicies, ClientError, Policies, PolicyChange, Proposal, ProposalFilter, ProposalList};

use crate::approvals::{approve, log, shown};
use crate::daemon::{Daemon, cli, problem, words};
use crate::load::{CMAC, generic, into, mac};
use crate::reload::{configuration, reload};

fn named(configuration: &str, set: &str) -> String {
    let mut lines: Vec<String> = configuration.lines().map(str::to_owned).collect();
    let at = lines.iter().position(|line| line.starts_with("policies = ")).unwrap();
    lines[at] = format!("policies = \"{set}\"");
    lines.join("\n") + "\n"
}

/// A daemon that goes by the production set, and has a key.
async fn daemon() -> Daemon {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    assert!(reload(&daemon, &named(&configuration(&daemon), "production")).await.contains("done"));
    daemon
}

/// The production set and a policy more, as an operator would have it.
fn own(daemon: &Daemon, more: &str) {
    let own = daemon.data().join("own");
    std::fs::create_dir_all(&own).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/production");
    for file in std::fs::read_dir(shipped).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    std::fs::write(own.join("own.cedar"), more).unwrap();
}

const NO_MACS: &str = "@id(\"own.no-macs\") @reason(\"the works are closed\")\n\
    forbid (principal, action == Claviger::Action::\"generate_mac\", resource);\n";

async fn status(daemon: &Daemon) -> Policies {
    daemon.client("auditor").get("/v1/policies", &()).await.unwrap()
}

async fn change(daemon: &Daemon, sha256: &str, under: Option<&str>) -> Result<Policies, ClientError> {
    let officer = daemon.client("officer").approved(under.map(str::to_owned));
    officer.post("/v1/policies", &ChangePolicies { sha256: sha256.to_owned() }).await
}

async fn waiting(daemon: &Daemon) -> String {
    status(daemon).await.waiting.unwrap().sha256
}

async fn proposed(daemon: &Daemon, sha256: &str) -> String {
    let needed = problem(change(daemon, sha256, None).await);
    assert_eq!((needed.code.as_str(), needed.policy.as_deref()), ("approval_needed", Some("officers.change-policies")));
    needed.approval.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_policies_wait_until_two_others_agree() {
    let daemon = daemon().await;
    assert_eq!((status(&daemon).await.in_force.name.as_str(), status(&daemon).await.waiting), ("production", None));
    own(&daemon, NO_MACS);
    let told = reload(&daemon, &named(&configuration(&daemon), "own")).await;
    assert!(told.contains("wait for officers to agree") && told.contains("\"name\":\"production\""), "{told}");
    mac(&daemon).await.unwrap();
    let Policies { in_force, waiting: next, changes } = status(&daemon).await;
    assert_eq!(in_force.name, "production");
    let [PolicyChange { policy, change: what, was: None, now: Some(then) }] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((policy.as_str(), what.as_str()), ("own.no-macs", "added"));
    assert!(then.contains("forbid (") && then.contains("generate_mac"), "{then}");
    let next = next.unwrap();
    assert!(next.name.ends_with("own"), "{next:?}");
    // What the files themselves say, by the tool that everybody has.
    let by_hand = format!("cd {} && LC_ALL=C sha256sum *.cedar | sha256sum", daemon.data().join("own").display());
    let sum = Command::new("sh").args(["-c", &by_hand]).output().unwrap().stdout;
    assert_eq!(next.sha256, String::from_utf8(sum).unwrap()[..64]);

    // A daemon that starts again goes by what was in force, whatever its configuration names.
    let text = configuration(&daemon);
    let daemon = daemon.serve(&text);
    mac(&daemon).await.unwrap();
    assert_eq!((status(&daemon).await.in_force.name.as_str(), &*waiting(&daemon).await), ("production", &*next.sha256));

    let other = "0".repeat(64);
    let unknown = problem(change(&daemon, &other, None).await);
    assert_eq!(unknown.field.as_deref(), Some("sha256"), "nobody can approve what is not there");
    let id = proposed(&daemon, &next.sha256).await;
    assert_eq!(proposed(&daemon, &next.sha256).await, id, "who asks again proposes nothing new");
    let words_signed = shown(&daemon, &id).await;
    let line = |name: &str| words_signed.lines.iter().find(|line| line.name == name).map(|line| line.value.as_str());
    assert_eq!(
        (line("policies in force"), line("policy own.no-macs, then")),
        (Some("production"), Some(then.as_str()))
    );
    assert_eq!((words_signed.tenant.as_str(), line("instead, SHA-256")), ("", Some(next.sha256.as_str())));
    let of_the_daemon = ProposalFilter { tenant: None };
    let ProposalList { proposals } = daemon.client("officer-2").get("/v1/approvals", &of_the_daemon).await.unwrap();
    assert_eq!(proposals.iter().map(|proposal| proposal.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    let outsider: Result<ProposalList, _> = daemon.client("clearing").get("/v1/approvals", &of_the_daemon).await;
    assert_eq!(problem(outsider).code, "denied");

    assert_eq!(problem(approve(&daemon, &id, "officer").await).code, "no_approver");
    approve(&daemon, &id, "officer-2").await.unwrap();
    let needed = problem(change(&daemon, &next.sha256, Some(&id)).await);
    assert_eq!((needed.code.as_str(), needed.approval.as_deref()), ("approval_needed", Some(id.as_str())));
    approve(&daemon, &id, "officer-3").await.unwrap();
    let changed = change(&daemon, &next.sha256, Some(&id)).await.unwrap();
    assert_eq!((&changed.in_force, changed.waiting), (&next, None));
    assert_eq!(problem(mac(&daemon).await).policy.as_deref(), Some("own.no-macs"));
    assert_eq!(problem(change(&daemon, &next.sha256, Some(&id)).await).field.as_deref(), Some("sha256"));
    let done = log(&daemon);
    let done = done.lines().rfind(|line| line.contains("\"change_policies\"") && line.contains("in_force")).unwrap();
    assert!(done.contains(&next.sha256) && done.contains(&id), "{done}");

    let daemon = daemon.serve(&text);
    assert_eq!(problem(mac(&daemon).await).policy.as_deref(), Some("own.no-macs"));
    assert_eq!(status(&daemon).await.waiting, None);
    // The way back is another change.
    assert!(reload(&daemon, &named(&text, "production")).await.contains("wait for officers"));
    let back = waiting(&daemon).await;
    assert_eq!(problem(change(&daemon, &back, Some(&id)).await).code, "proposal_over");
    assert_eq!(problem(mac(&daemon).await).policy.as_deref(), Some("own.no-macs"));
}

/// A backup made at any moment is restored to a daemon that opens: store and log are of one mind about the policies.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_while_policies_change_is_restored() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let text = configuration(&daemon);
    own(&daemon, NO_MACS);
    let more = "@id(\"own.host\") @reason(\"a test\")\n\
        permit (principal == Claviger::Node::\"host\", action == Claviger::Action::\"change_policies\", resource);\n";
    std::fs::write(daemon.data().join("own/host.cedar"), more).unwrap();
    let daemon = Arc::new(daemon);
    let at = |daemon: &Daemon, number: usize| daemon.folder.path().join(format!("{number}.backup"));
    let maker = Arc::clone(&daemon);
    let making = tokio::task::spawn_blocking(move || {
        for number in 0..10 {
            let made = maker.cli("officer", &["backup", "--out", at(&maker, number).to_str().unwrap()]);
            assert!(made.status.success(), "{}", words(&made));
        }
    });
    let mut turn = 0;
    while !making.is_finished() {
        turn += 1;
        reload(&daemon, &named(&text, if turn % 2 == 0 { "dev" } else { "own" })).await;
    }
    making.await.unwrap();
    assert!(turn > 3, "{turn}");
    for number in 0..10 {
        let machine = daemon.folder.path().join(format!("machine-{number}"));
        std::fs::create_dir(&machine).unwrap();
        let beside = |name: &str| format!("\"{}/{name}", daemon.data().display());
        let there = named(&text, "dev").replace("data = \".\"", "data = \"data\"");
        let there = ["server", "storage", "ca.pem"]
            .iter()
            .fold(there, |there, name| there.replace(&format!("\"{name}"), &beside(name)));
        let config = machine.join("claviger.toml");
        std::fs::write(&config, there).unwrap();
        let config = config.to_str().unwrap();
        let restored = cli(&["restore", at(&daemon, number).to_str().unwrap(), "--config", config]);
        assert!(restored.status.success(), "{}", words(&restored));
        let opened = || {
            let log = std::fs::read_to_string(machine.join("data/audit.jsonl")).unwrap();
            log.lines().filter(|line| line.contains("\"event\":\"unseal\"") && line.contains("\"unsealed\"")).count()
        };
        let before = opened();
        let mut process =
            Command::new(env!("CARGO_BIN_EXE_claviger")).args(["serve", "--config", config]).spawn().unwrap();
        let begun = Instant::now();
        while opened() == before {
            assert!(process.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(20), "{number}");
            std::thread::sleep(Duration::from_millis(20));
        }
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

/// What was approved is that set; one that looks like it is another.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_changes_after_it_was_approved_waits_again() {
    let daemon = daemon().await;
    own(&daemon, NO_MACS);
    reload(&daemon, &named(&configuration(&daemon), "own")).await;
    let first = waiting(&daemon).await;
    let id = proposed(&daemon, &first).await;
    for by in ["officer-2", "officer-3"] {
        approve(&daemon, &id, by).await.unwrap();
    }
    own(&daemon, &NO_MACS.replace("generate_mac", "verify_mac"));
    reload(&daemon, &configuration(&daemon)).await;
    let second = waiting(&daemon).await;
    assert_ne!(first, second);
    assert_eq!(shown(&daemon, &id).await.state, "changed");
    assert_eq!(problem(change(&daemon, &second, Some(&id)).await).code, "approval_differs");
    assert_eq!(problem(change(&daemon, &first, Some(&id)).await).field.as_deref(), Some("sha256"));
    mac(&daemon).await.unwrap();
    // The one in force is what the configuration may name again at any time.
    assert!(!reload(&daemon, &named(&configuration(&daemon), "production")).await.contains("wait"));
    assert_eq!(status(&daemon).await.waiting, None);
    let listed: ProposalList = daemon.client("auditor").get("/v1/approvals", &()).await.unwrap();
    assert!(listed.proposals.iter().all(|Proposal { state, .. }| state == "changed"));
    // Development policies are no way around.
    assert!(reload(&daemon, &named(&configuration(&daemon), "dev")).await.contains("wait for officers"));
    let told = daemon.cli("auditor", &["policy", "show"]);
    assert!(words(&told).contains("production") && words(&told).contains("added    dev.single-officer"), "{told:?}");
}

/// An operator's own set may ask for others where the shipped ones do not.
#[tokio::test(flavor = "multi_thread")]
async fn what_officers_do_to_the_daemon_can_wait_for_others_too() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let more = "@id(\"own.recovery\") @reason(\"two agree\")\n\
        forbid (principal, action in [Claviger::Action::\"back_up\", Claviger::Action::\"set_terminal\"], resource)\n\
        unless { context.approvals >= 1 };\n";
    own(&daemon, more);
    assert!(reload(&daemon, &named(&configuration(&daemon), "own")).await.contains("done"));
    let out = daemon.folder.path().join("claviger.backup");
    let terminal = ["terminals", "set", "--tenant", "demo", "--terminal", "115366392864", "--last", "7"];
    for asked in [&["backup", "--out", out.to_str().unwrap()][..], &terminal] {
        let told = words(&daemon.cli("officer", asked));
        let id = told.split("proposed as ").nth(1).unwrap_or_else(|| panic!("{told}"));
        let id: String = id.chars().take_while(char::is_ascii_hexdigit).collect();
        approve(&daemon, &id, "officer-2").await.unwrap();
        let done = daemon.cli("officer", &[asked, &["--approval", &id]].concat());
        assert!(done.status.success(), "{}", words(&done));
        let again = words(&daemon.cli("officer", &[asked, &["--approval", &id]].concat()));
        assert!(again.contains("was used") || again.contains("File exists"), "{again}");
    }
    assert!(out.metadata().unwrap().len() > 1000);
}

/// What would keep everybody out for ever, and what would show others than it does, is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_locks_everybody_out_is_not_taken() {
    let daemon = daemon().await;
    let forbid = |actions: &str, unless: &str| {
        format!("@id(\"own\") @reason(\"a test\") forbid (principal, action in [{actions}], resource) {unless};")
    };
    let action = |name: &str| format!("Claviger::Action::\"{name}\"");
    for (more, says) in [
        (forbid(&action("change_policies"), ""), "nobody could ever change it"),
        (forbid(&action("vote"), ""), "nobody could ever change it"),
        (forbid(&action("show_proposal"), ""), "nobody could ever change it"),
        // More are never asked for.
        (forbid(&action("change_policies"), "unless { context.approvals >= 10 }"), "nobody could ever change it"),
        (forbid(&action("unseal"), ""), "nobody could ever unseal"),
        (NO_MACS.replace("own.no-macs", "own\\napprovals: 2"), "letters, digits"),
        (NO_MACS.replace("own.no-macs", "own\\u{1b}[8m"), "letters, digits"),
    ] {
        own(&daemon, &more);
        let told = reload(&daemon, &named(&configuration(&daemon), "own")).await;
        assert!(told.contains(says), "{more}: {told}");
        assert_eq!(status(&daemon).await.waiting, None);
    }
    // Nor by a start.
    own(&daemon, &forbid(&action("unseal"), ""));
    let text = configuration(&daemon);
    let daemon = daemon.stop();
    let config = daemon.data().join("claviger.toml");
    let refused = words(&cli(&["serve", "--config", config.to_str().unwrap()]));
    assert!(refused.contains("nobody could ever unseal"), "{refused}");
    own(&daemon, &forbid(&action("change_policies"), "unless { context.approvals >= 2 }"));
    let daemon = daemon.serve(&text);
    assert!(reload(&daemon, &named(&configuration(&daemon), "own")).await.contains("wait for officers"));
    // A pipe among the files keeps nobody waiting.
    let pipe = daemon.data().join("own/pipe.cedar");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(reload(&daemon, &configuration(&daemon)).await.contains("pipe.cedar is no plain file"));
    mac(&daemon).await.unwrap();
}

/// Whoever writes in the database puts no policies there: the storage master key vouches for them, and the log for which were last.
#[tokio::test(flavor = "multi_thread")]
async fn policies_that_were_put_into_the_store_open_nothing() {
    let first = Daemon::start();
    into(&first, &[], generic("CMAC"), CMAC).await;
    let config = first.data().join("claviger.toml");
    let row = |daemon: &Daemon, change: &str, value: &str| {
        let script = "import sqlite3, sys\n\
            d = sqlite3.connect(sys.argv[1], timeout=10)\n\
            print(d.execute(\"SELECT value FROM meta WHERE name = 'policies'\").fetchone()[0])\n\
            d.execute(sys.argv[2], sys.argv[3:])\n\
            d.commit()";
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
        let store = daemon.data().join("claviger.db");
        let mut arguments = vec!["-c", script, store.to_str().unwrap(), change];
        arguments.extend(Some(value).filter(|value| !value.is_empty()));
        let done = Command::new(python).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", words(&done));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    let put = "UPDATE meta SET value = ? WHERE name = 'policies'";
    let of_development = row(&first, "SELECT 1", "");
    assert!(reload(&first, &named(&configuration(&first), "production")).await.contains("done"));
    let daemon = first.stop();
    let of_production = row(&daemon, "SELECT 1", "");
    for (change, value, says) in [
        (
            "UPDATE meta SET value = json_set(value, '$.name', ?) WHERE name = 'policies'",
            "dev",
            "changed by somebody else",
        ),
        // One that was in force before, and is authentic.
        (put, of_development.as_str(), "not those that were taken last"),
        ("DELETE FROM meta WHERE name = 'policies'", "", "are gone"),
    ] {
        row(&daemon, change, value);
        // Twice: what the daemon writes down when it starts is no way in.
        for _ in 0..2 {
            let refused = cli(&["serve", "--config", config.to_str().unwrap()]);
            assert_eq!(refused.status.code(), Some(2), "{}", words(&refused));
            assert!(words(&refused).contains(says), "{says}: {}", words(&refused));
        }
        if change.starts_with("DELETE") {
            let again = "import sqlite3, sys\n\
                d = sqlite3.connect(sys.argv[1], timeout=10)\n\
                d.execute(\"INSERT INTO meta (name, value) VALUES ('policies', ?)\", (sys.argv[2],))\n\
                d.commit()";
            let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
            let store = daemon.data().join("claviger.db");
            let done =
                Command::new(python).args(["-c", again, store.to_str().unwrap(), &of_production]).output().unwrap();
            assert!(done.status.success(), "{}", words(&done));
        } else {
            row(&daemon, put, &of_production);
        }
    }
    // As it was, it opens; without the log that knows of it, it does not.
    let text = configuration(&daemon);
    let daemon = daemon.serve(&text);
    mac(&daemon).await.unwrap();
    let daemon = daemon.stop();
    for file in ["audit.jsonl", "audit.head"] {
        // A log that was never signed has no head beside it.
        let _ = std::fs::rename(daemon.data().join(file), daemon.data().join(format!("{file}.away")));
    }
    let refused = cli(&["serve", "--config", config.to_str().unwrap()]);
    assert!(words(&refused).contains("not those that were taken last"), "{}", words(&refused));
}
