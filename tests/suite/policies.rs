//! What the shipped policies decide: named cases, every cell of a matrix, and that no route does without a decision.

use std::collections::BTreeSet;

use std::sync::Arc;

use claviger::policy::{
    ACTIONS, Authorizer, CHANGES, Circumstances, KeyResource, PolicySource, Principal, Resource, USES,
};
use serde_json::{Value, json};

use crate::daemon::{Daemon, words};
use crate::load::{CMAC, generic, into};
use crate::policy_cases::shipped;
use crate::purse::{DLK, card_key};
use crate::reload;

#[test]
fn every_action_of_the_schema_is_known() {
    let schema = std::fs::read_to_string(shipped().join("claviger.cedarschema")).unwrap();
    let groups = ["manage_keys", "use_keys", "read"];
    let mut found = BTreeSet::new();
    for statement in schema.split("\n    action ").skip(1) {
        let names = statement.split([';', '[']).next().unwrap();
        let names = names.split(" in ").next().unwrap().split("appliesTo").next().unwrap();
        found.extend(names.split(',').map(|name| name.trim().to_owned()));
        // What manages keys is written down before it is done, and what uses them counts in quotas.
        for name in names.split(',').map(str::trim).filter(|name| !groups.contains(name)) {
            assert!(!statement.contains("in [manage_keys]") || CHANGES.contains(&name), "{name} changes something");
            assert_eq!(statement.contains("in [use_keys]"), USES.contains(&name), "{name}");
        }
    }
    found.retain(|name| !groups.contains(&name.as_str()));
    assert_eq!(found, ACTIONS.iter().map(|action| (*action).to_owned()).collect());
}

const DUTIES: [&str; 6] = ["card-management", "clearing", "terminals", "officer", "auditor", ""];
const STATES: [&str; 6] = ["pre-active", "active", "suspended", "deactivated", "compromised", "destroyed"];
const ROLES: [(&str, &str); 14] = [
    ("cjt166", "DTK"),
    ("cjt166", "DLK"),
    ("cjt166", "DULK"),
    ("cjt166", "DUK"),
    ("cjt166", "DPK"),
    ("jtt978", "DGK"),
    ("jtt978", "DUGK"),
    ("jtt978", "DAMK"),
    ("jtt978", "DPUK"),
    ("jtt978", "IK"),
    ("jtt978", "CARD"),
    ("generic", "CMAC"),
    ("generic", "DATA"),
    ("generic", "KEK"),
];

/// Who may do what, written down a second time: by duty, not by policy.
fn expected(duty: &str, action: &str, (scheme, role): (&str, &str), state: &str, own: bool, approvals: u64) -> bool {
    let generic = scheme == "generic";
    let by_duty = match duty {
        "card-management" => match action {
            "authorise_purse" | "verify_purse" => ["DLK", "DULK", "DUK", "DUGK"].contains(&role),
            "personalise_cards" | "write_key" => !generic,
            "card_command" | "authenticate_card" => ["DAMK", "DPUK", "IK"].contains(&role),
            "generate_mac" | "verify_mac" | "encrypt" | "decrypt" | "sign" | "verify_signature" => generic,
            _ => false,
        },
        "clearing" => match action {
            "verify_transactions" => role == "DTK",
            "verify_mac" | "decrypt" | "verify_signature" => generic,
            _ => false,
        },
        "terminals" => matches!(action, "psam_debit" | "verify_purse") && ["DPK", "DGK"].contains(&role),
        "officer"
            if matches!(
                action,
                "destroy_key"
                    | "replicate_key"
                    | "move_key"
                    | "raise_ceiling"
                    | "export_key"
                    | "unwrap_key"
                    | "assign_role"
            ) =>
        {
            approvals >= 2
        }
        "officer" => matches!(
            action,
            "generate_key"
                | "disperse_key"
                | "adopt_key"
                | "activate_key"
                | "suspend_key"
                | "deactivate_key"
                | "compromise_key"
                | "lower_ceiling"
                | "list_keys"
                | "show_key"
                | "show_public_key"
                | "show_move"
                | "compute_kcv"
                | "who_can"
        ),
        "auditor" => {
            matches!(action, "list_keys" | "show_key" | "show_public_key" | "show_move" | "compute_kcv" | "who_can")
        }
        _ => false,
    };
    let uses = ACTIONS[16..30].contains(&action);
    by_duty && own && !(state == "compromised" && uses && action != "verify_transactions")
}

#[test]
fn every_duty_may_do_what_it_should_and_nothing_else() {
    let authorizer = Authorizer::load(&PolicySource::Production).unwrap();
    // Those that are not about a key come last.
    let of_keys = &ACTIONS[..36];
    assert_eq!(
        (of_keys[0], of_keys[16], of_keys[29], of_keys[35]),
        ("generate_key", "verify_transactions", "verify_signature", "who_can")
    );
    let mut cells = 0;
    for duty in DUTIES {
        let kind = if matches!(duty, "officer" | "auditor") { duty } else { "service" };
        let roles = Some(duty.to_owned()).filter(|duty| !duty.is_empty());
        let principal = Principal::from_uri(&format!("claviger://{kind}/x"), roles, ["a".to_owned()]).unwrap();
        let principal = Arc::new(principal);
        for action in of_keys {
            for (scheme, role) in ROLES {
                for state in STATES {
                    for tenant in ["a", "b"] {
                        let text = str::to_owned;
                        let key = Resource::Key(Arc::new(KeyResource {
                            id: text("0"),
                            tenant: text(tenant),
                            scheme: text(scheme),
                            role: text(role),
                            algorithm: text("3des"),
                            version: text("01"),
                            state: text(state),
                            ceiling: text("card-key"),
                            origin: text("components"),
                            rank: text(if scheme == "generic" { "plain" } else { "dispersion" }),
                            backends: BTreeSet::new(),
                        }));
                        for approvals in [0, 2] {
                            let circumstances = Circumstances { approvals, ..Circumstances::default() };
                            let said = authorizer.say(&principal, action, &key, &circumstances);
                            let wanted = expected(duty, action, (scheme, role), state, tenant == "a", approvals);
                            assert_eq!(
                                said.allowed, wanted,
                                "{duty} {action} {scheme}/{role} {state} of {tenant}, {approvals} approve: {said:?}"
                            );
                            cells += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cells, 6 * 36 * 14 * 6 * 2 * 2);
}

/// Every route, asked by somebody without a duty and of another tenant: refused, and written down, but for the few that are anybody's.
#[tokio::test(flavor = "multi_thread")]
async fn no_route_does_without_a_decision() {
    let daemon = Daemon::start();
    let key = into(&daemon, &[], card_key(), DLK).await;
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let officer = daemon.client("officer");
    let document: Value = officer.get("/openapi.json", &()).await.unwrap();
    let configuration = reload::configuration(&daemon);
    let stripped: Vec<String> = configuration
        .split("[[principal]]")
        .map(|table| match table.contains("/officer") {
            true => table.replace("\"officer\"", "\"nothing\"").replace("\"demo\"", "\"nowhere\""),
            false => table.to_owned(),
        })
        .collect();
    assert!(reload::reload(&daemon, &stripped.join("[[principal]]")).await.contains("done"));
    let anybodys = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/random", "/v1/schemes/{id}"];
    let decisions = || {
        let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
        log.lines().filter(|line| line.contains("\"event\":\"decision\"")).count()
    };
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let example = operation["requestBody"]["content"]["application/json"]["example"].clone();
            let query: Vec<String> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "query" && parameter["required"] == json!(true))
                .map(|parameter| {
                    format!("{}={}", parameter["name"].as_str().unwrap(), parameter["example"].as_str().unwrap())
                })
                .collect();
            let at = format!("{}?{}", path.replace("{id}", &key.id), query.join("&"));
            if anybodys.contains(&path.as_str()) {
                continue;
            }
            let before = decisions();
            let answer = match method.as_str() {
                "get" => officer.get::<Value>(&at, &()).await,
                "delete" => officer.delete::<Value>(&at).await,
                _ => officer.post::<Value>(&at, &example).await,
            };
            let problem = crate::daemon::problem(answer);
            // Of another tenant's key nobody learns that it is there.
            assert!(
                ["denied", "no_key", "no_proposal", "no_ceremony"].contains(&problem.code.as_str()),
                "{method} {at}: {problem:?}"
            );
            assert!(decisions() > before, "{method} {path} was decided without a record");
            asked += 1;
        }
    }
    assert!(asked >= 25, "{asked} routes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_asks_who_can_and_what_a_change_grants() {
    let daemon = Daemon::start();
    let dtk = into(&daemon, &[], crate::token_keys::dtk(), crate::token_keys::DTK).await;
    let output = daemon.cli("auditor", &["policy", "who-can", "verify_transactions", &dtk.id]);
    let told = words(&output);
    assert!(output.status.success(), "{told}");
    let line = |name: &str| told.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{told}"));
    assert!(line("service/clearing").contains("may      clearing.verify"), "{told}");
    assert!(line("service/card-management").contains("may not"), "{told}");
    assert!(line("officer/officer ").contains("officers hold ceremonies and use no key"), "{told}");
    // The development set grants one officer what takes several, or an HSM, in production.
    let output = daemon.cli("auditor", &["policy", "diff", "production", "dev", "--tenant", "demo"]);
    let told = words(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("+ claviger://officer/officer  import_key  demo/cjt166/DTK"), "{told}");
    assert!(told.contains("dev.single-officer") && told.contains("45 grants change"), "{told}");
    // And one that asks fewer others, or lets in what comes as a stream, grants something too.
    let own = daemon.data().join("own");
    std::fs::create_dir(&own).unwrap();
    for file in std::fs::read_dir(shipped().join("production")).unwrap().map(Result::unwrap) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(own.join(file.file_name()), text.replace("context.approvals >= 2", "context.approvals >= 1"))
            .unwrap();
    }
    std::fs::write(own.join("stream.cedar"), "@id(\"own.stream\") @reason(\"a test\") permit (principal in Claviger::Role::\"auditor\", action == Claviger::Action::\"verify_transactions\", resource) when { context.batch == \"stream\" };").unwrap();
    let told =
        words(&daemon.cli("auditor", &["policy", "diff", "production", own.to_str().unwrap(), "--tenant", "demo"]));
    let tells = |of: &str, how: &str| {
        told.lines()
            .any(|line| line.starts_with(&format!("+ claviger://{of}  demo/cjt166/DTK ")) && line.ends_with(how))
    };
    assert!(
        tells("officer/officer  destroy_key", ", with 1 approval and before with 2 approvals  (officers.approved)"),
        "{told}"
    );
    assert!(tells("auditor/auditor  verify_transactions", ", as a stream  (own.stream)"), "{told}");
    let same = daemon.cli("auditor", &["policy", "diff", "dev", "dev", "--tenant", "demo"]);
    assert_eq!(same.status.code(), Some(0), "{}", words(&same));
    let clearing = daemon.cli("clearing", &["policy", "who-can", "verify_transactions", &dtk.id]);
    assert_eq!(clearing.status.code(), Some(2), "{}", words(&clearing));
}

/// What takes others is not what nobody may; and what is not done to keys is not asked of one.
#[tokio::test(flavor = "multi_thread")]
async fn who_can_says_whose_approval_it_takes() {
    let daemon = Daemon::start();
    let key = into(&daemon, &[], generic("CMAC"), CMAC).await;
    let own = daemon.data().join("own");
    std::fs::create_dir(&own).unwrap();
    for file in std::fs::read_dir(shipped().join("production")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    let text = "@id(\"own.suspend\") @reason(\"nine others\")\n\
        forbid (principal, action == Claviger::Action::\"suspend_key\", resource) unless { context.approvals >= 9 };\n\
        @id(\"own.mac\") @reason(\"an approval that nobody can give\")\n\
        forbid (principal, action == Claviger::Action::\"generate_mac\", resource) unless { context.approvals >= 1 };\n\
        @id(\"own.activate\") @reason(\"ten are too many\")\n\
        forbid (principal, action == Claviger::Action::\"activate_key\", resource) unless { context.approvals >= 10 };\n";
    std::fs::write(own.join("own.cedar"), text).unwrap();
    let whole = reload::configuration(&daemon).replace("policies = \"dev\"", "policies = \"own\"");
    assert!(reload::reload(&daemon, &whole).await.contains("done"));
    let ask = |action: &str, who: &str| {
        let told = words(&daemon.cli("auditor", &["policy", "who-can", action, &key.id]));
        told.lines().find(|line| line.contains(who)).unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    for (action, who, says) in [
        ("destroy_key", "officer/officer ", "only with the approval of 2 others  officers.approved"),
        ("destroy_key", "service/clearing", "may not"),
        ("suspend_key", "officer/officer-2", "only with the approval of 9 others  officers.keys"),
        ("activate_key", "officer/officer-2", "may not  own.activate"),
        ("compromise_key", "officer/officer-2", "may      officers.keys"),
        // What cannot be proposed is not approved by anybody.
        ("generate_mac", "service/card-management", "may not  own.mac"),
    ] {
        let line = ask(action, who);
        assert!(line.contains(says), "{action}: {line}");
    }
    // Where a policy forbids it until others have approved, that one is named, and not whichever permits it then.
    let suspend = claviger_client::SetKeyState { state: "suspended".to_owned() };
    let asked = daemon.client("officer").post::<Value>(&format!("/v1/keys/{}/state", key.id), &suspend).await;
    let needed = crate::daemon::problem(asked);
    assert_eq!((needed.code.as_str(), needed.policy.as_deref()), ("approval_needed", Some("own.suspend")));
    let told = daemon.cli("auditor", &["--json", "policy", "who-can", "destroy_key", &key.id]);
    let officer = String::from_utf8(told.stdout).unwrap();
    let officer = officer.lines().find(|line| line.contains("officer/officer\"")).unwrap();
    let officer: Value = serde_json::from_str(officer).unwrap();
    assert_eq!((&officer["allowed"], &officer["approvals"]), (&false.into(), &2.into()));
    for action in ["unseal", "enter_tenant", "vote"] {
        let refused = daemon.cli("auditor", &["policy", "who-can", action, &key.id]);
        let told = words(&refused);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("field `action` is `{action}`, which is not done to keys")), "{told}");
    }
}

/// An operator's own policies, by what the configuration calls networks and times.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_and_a_time_of_day_decide() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    let own = daemon.data().join("own");
    std::fs::create_dir(&own).unwrap();
    for file in std::fs::read_dir(shipped().join("production")).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    let text = "@id(\"own.shift\") @reason(\"MACs are made at the depot, and while the shift lasts\")\n\
        forbid (principal, action == Claviger::Action::\"generate_mac\", resource)\n\
        unless { context.network == \"depot\" && context.windows.contains(\"shift\") };\n";
    std::fs::write(own.join("own.cedar"), text).unwrap();
    let whole = reload::configuration(&daemon).replace("policies = \"dev\"", "policies = \"own\"");
    let with = |range: &str, from: &str, until: &str| {
        format!(
            "{whole}\n[[network]]\nname = \"depot\"\naddresses = [\"{range}\"]\n[[window]]\nname = \"shift\"\n\
             from = \"{from}\"\nuntil = \"{until}\"\n"
        )
    };
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).time();
    let at = |hours: i64| now.wrapping_add(jiff::SignedDuration::from_hours(hours)).strftime("%H:%M").to_string();
    for (configuration, allowed) in [
        (with("127.0.0.0/8", &at(-1), &at(1)), true),
        (with("127.0.0.0/8", &at(1), &at(2)), false),
        (with("10.0.0.0/8", &at(-1), &at(1)), false),
        (with("127.0.0.1/32", &at(-2), &at(1)), true),
    ] {
        assert!(reload::reload(&daemon, &configuration).await.contains("done"));
        match crate::load::mac(&daemon).await {
            Ok(()) => assert!(allowed, "{configuration}"),
            Err(error) => {
                assert!(!allowed && error.to_string().contains("while the shift lasts"), "{error}");
                assert_eq!(crate::daemon::problem::<()>(Err(error)).policy.as_deref(), Some("own.shift"));
            }
        }
    }
    // A set that is not of the schema changes nothing.
    std::fs::write(own.join("own.cedar"), text.replace("context.network", "context.planet")).unwrap();
    assert!(reload::reload(&daemon, &with("10.0.0.0/8", "00:00", "23:59")).await.contains("wrong_configuration"));
    // Nor does one that holds nothing, or a policy that says nothing to whoever is refused.
    std::fs::write(own.join("own.cedar"), text.replace("@reason", "@because")).unwrap();
    assert!(reload::reload(&daemon, &whole).await.contains("wrong_configuration"));
    std::fs::create_dir(daemon.data().join("empty")).unwrap();
    let empty = whole.replace("policies = \"own\"", "policies = \"empty\"");
    assert!(reload::reload(&daemon, &empty).await.contains("wrong_configuration"));
    crate::load::mac(&daemon).await.unwrap();
}
