//! Commands for cards and personalisation, through the API and the CLI, against the vector files.

use std::collections::BTreeMap;

use claviger_client::{
    AuthenticateCard, CardApdu, CardCommand, Client, DisperseKey, ImportKey, Key, KeyList, KeyReference, NewKey,
    Personalise, PersonaliseResult, SetKeyState, Valid, WriteKey,
};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::daemon::{Daemon, components, problem, words};

const KEY: &str = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAF";
const ASN: &str = "0000310012345678";
const ISSUER: &str = "0123310000010000";

/// Imports a key; `factors` are already in it.
pub(crate) async fn import(officer: &Client, scheme: &str, role: &str, algorithm: &str, key: &str, factors: &[&str]) {
    let new = NewKey {
        tenant: "demo".to_owned(),
        scheme: scheme.to_owned(),
        role: role.to_owned(),
        version: "01".to_owned(),
        algorithm: algorithm.to_owned(),
        factors: factors.iter().map(|factor| (*factor).to_owned()).collect(),
        ceiling: None,
        protect_from: None,
        protect_until: None,
        verify_until: None,
        backends: Vec::new(),
        places: Vec::new(),
        movable: false,
        sensitive: false,
    };
    let components = components(key);
    let import = ImportKey { key: new, components, kcv: None, odd_parity: false };
    let _: Key = officer.post("/v1/keys/import", &import).await.unwrap();
}

fn card() -> BTreeMap<String, String> {
    [("issuer_id", ISSUER), ("asn", ASN), ("key_version", "01"), ("alg_id", "00")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

pub(crate) fn command(name: &str, challenge: &str, data: &str) -> CardCommand {
    CardCommand {
        tenant: "demo".to_owned(),
        scheme: "jtt978".to_owned(),
        command: name.to_owned(),
        fields: card(),
        p1p2: None,
        challenge: challenge.to_owned(),
        data: Zeroizing::new(data.to_owned()),
    }
}

/// A card's answer to a challenge.
pub(crate) fn answer(answer: String) -> AuthenticateCard {
    AuthenticateCard {
        tenant: "demo".to_owned(),
        scheme: "jtt978".to_owned(),
        fields: card(),
        challenge: "1122334455667788".to_owned(),
        answer,
    }
}

fn vectors(file: &str) -> BTreeMap<String, Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let cases = document["cases"].as_array().unwrap();
    cases.iter().map(|case| (case["id"].as_str().unwrap().to_owned(), case.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_those_of_the_vectors() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    for role in ["DPUK", "DABK", "UK", "IK", "DACK"] {
        import(&officer, "jtt978", role, "3des", KEY, &[ISSUER, ASN]).await;
    }
    import(&officer, "jtt978", "DRPK", "3des", "1F3E5D7C9BBAD9F846287A9CBED0E2F4", &[ISSUER, ASN]).await;
    let cards = daemon.client("card-management");
    let cases = vectors("pboc-secure-messaging.json");
    let send = async |command: CardCommand| cards.post::<CardApdu>("/v1/cards/command", &command).await.unwrap().apdu;
    let expected = |id: &str, member: &str| cases[id][member].as_str().unwrap().to_owned();
    assert_eq!(send(command("unblock-pin", "11223344", "123456")).await, expected("3des-pin-unblock", "apdu"));
    let pin = daemon.file("pin.txt", b"123456\n");
    let asn = format!("asn={ASN}");
    let issuer = format!("issuer_id={ISSUER}");
    let output =
        daemon.cli(
            "card-management",
            &[
                &[
                    "cards",
                    "command",
                    "unblock-pin",
                    "--tenant",
                    "demo",
                    "--scheme",
                    "jtt978",
                    "--challenge",
                    "11223344",
                ][..],
                &["--field", &asn, "--field", &issuer, "--field", "key_version=01", "--field", "alg_id=00"],
                &["--data-file", &pin],
            ]
            .concat(),
        );
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.contains(&expected("3des-pin-unblock", "apdu")), "{}", words(&output));
    let blocked = send(command("block-application", "11223344", "")).await;
    assert_eq!(blocked, format!("841E000004{}", expected("3des-app-block", "expected_mac")));
    assert!(send(command("reload-pin", "", "123456")).await.ends_with(&expected("3des-pin-reload", "expected_mac")));
    let external =
        CardCommand { p1p2: Some("0001".to_owned()), ..command("external-authentication", "1122334455667788", "") };
    assert_eq!(send(external).await, format!("0082000108{}", expected("3des-ext-auth-8", "expected")));

    let right = answer(expected("3des-ext-auth-8", "expected"));
    let wrong = answer("A84356DF5C390F80".to_owned());
    for (request, valid) in [(right, true), (wrong, false)] {
        let found: Valid = cards.post("/v1/cards/authenticate", &request).await.unwrap();
        assert_eq!(found.valid, [valid]);
    }
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    assert!(!log.contains("\"123456") && !log.contains("8CB1A395"), "a PIN or MAC stands in the audit log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_leaves_under_the_cards_own_only() {
    let daemon = Daemon::start();
    let officer = daemon.client("officer");
    import(&officer, "jtt978", "DACK", "3des", KEY, &[ISSUER, ASN]).await;
    // The new key is dispersed to the card: its master's vector value is in perso-keyset.json.
    let set = &vectors("perso-keyset.json")["tk-keyset-3des"];
    let consume = set["keys"].as_array().unwrap().iter().find(|key| key["name"] == "consume").unwrap();
    import(&officer, "jtt978", "DPK", "3des", consume["master_key"].as_str().unwrap(), &[]).await;
    let request = WriteKey {
        tenant: "demo".to_owned(),
        scheme: "jtt978".to_owned(),
        fields: card(),
        protector: "DACK".to_owned(),
        role: "DPK".to_owned(),
        version: "01".to_owned(),
        alg_id: "00".to_owned(),
        challenge: "11223344".to_owned(),
    };
    let cards = daemon.client("card-management");
    let made: CardApdu = cards.post("/v1/cards/write-key", &request).await.unwrap();
    // LD, header 3E 01 00, the card's key, padding: enciphered by an independent implementation.
    let card_key = consume["card_key"].as_str().unwrap();
    let plain = format!("133E0100{card_key}80000000");
    let wrapped = crate::reference::ask(serde_json::json!({"op": "block", "alg": "3des", "key": KEY, "data": plain}));
    let covered = format!("84D400001C{}", hex::encode_upper(wrapped));
    let mac = crate::reference::ask(serde_json::json!({"op": "mac", "alg": "des", "algorithm": 3, "padding": 2,
        "key": &KEY[..16], "key2": &KEY[16..], "iv": "1122334400000000", "message": covered}));
    assert_eq!(made.apdu, format!("{covered}{}", &hex::encode_upper(mac)[..8]));
    for (protector, why) in [("DPK", "is one of DCCK, DACK"), ("TK", "is one of"), ("DTK", "no key of role DTK")] {
        let request = WriteKey { protector: protector.to_owned(), ..request.clone() };
        let refused = problem(cards.post::<CardApdu>("/v1/cards/write-key", &request).await);
        assert!(refused.detail.contains(why) || refused.code == "no_role_key", "{protector}: {}", refused.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_do_not_fit_are_named() {
    let daemon = Daemon::start();
    import(&daemon.client("officer"), "jtt978", "DPUK", "3des", KEY, &[ISSUER, ASN]).await;
    let cards = daemon.client("card-management");
    let refused = async |client: &Client, command: CardCommand| {
        let refused = problem(client.post::<CardApdu>("/v1/cards/command", &command).await);
        assert!(!refused.detail.contains("1234"), "a PIN is told: {}", refused.detail);
        (refused.code, refused.field.unwrap_or_default())
    };
    let field = |field: &str| ("bad_field".to_owned(), field.to_owned());
    assert_eq!(refused(&cards, command("unblock-pin", "112233", "123456")).await, field("challenge"));
    assert_eq!(refused(&cards, command("unblock-pin", "11223344", "12345F")).await, field("data"));
    assert_eq!(refused(&cards, command("unblock-pin", "11223344", "12")).await, field("data"));
    assert_eq!(refused(&cards, command("unblock-pin", "11223344", "12345")).await, field("data"));
    assert_eq!(refused(&cards, command("open-sesame", "11223344", "")).await, field("command"));
    let fixed = CardCommand { p1p2: Some("0000".to_owned()), ..command("unblock-pin", "11223344", "123456") };
    assert_eq!(refused(&cards, fixed).await, field("p1p2"));
    for name in ["clearing", "terminals", "officer", "auditor"] {
        let (code, _) = refused(&daemon.client(name), command("unblock-pin", "11223344", "123456")).await;
        assert_eq!(code, "denied", "{name} sent a card command");
    }
}

/// Imports every key of a vector's set, and its transport key.
async fn import_set(officer: &Client, set: &Value, algorithm: &str) {
    let roles =
        ["DCCK", "DCMK", "DACK", "DAMK", "DPK", "DLK", "DTK", "DABK", "DPUK", "RECORD_ECASH", "RECORD_PURSE", "DAUK"];
    let keys = set["keys"].as_array().unwrap();
    assert_eq!(keys.len(), roles.len());
    for (key, role) in keys.iter().zip(roles) {
        import(officer, "jtt978", role, algorithm, key["master_key"].as_str().unwrap(), &[]).await;
    }
    import(officer, "jtt978", "TK", algorithm, set["tk"].as_str().unwrap(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_sets_are_those_of_the_vectors() {
    let daemon = Daemon::start();
    let (officer, cards) = (daemon.client("officer"), daemon.client("card-management"));
    let sets = vectors("perso-keyset.json");
    let mut both = String::new();
    for (algorithm, id) in [("3des", "tk-keyset-3des"), ("sm4", "tk-keyset-sm4")] {
        import_set(&officer, &sets[id], algorithm).await;
        both += sets[id]["expected_blob_16_plus_3"].as_str().unwrap();
    }
    let one = |id: &str, asn: &str| {
        [("card_id", id), ("issuer_id", ISSUER), ("asn", asn)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let request = Personalise { cards: vec![one("卡一", ASN), one("bad", "12"), one("C2", "0000310012345679")] };
    let path = "/v1/cards/personalise?tenant=demo&scheme=jtt978&key_set=city-platform-12&algorithms=3des,sm4&version=01&transport_key=TK/01";
    let made: PersonaliseResult = cards.post(path, &request).await.unwrap();
    assert_eq!(made.cards[0].key_set, both);
    assert_eq!((made.cards[0].card_id.as_str(), made.cards[0].result.as_str()), ("卡一", "made"));
    assert_eq!((made.cards[1].result.as_str(), made.cards[1].reason.as_str()), ("malformed", "bad_field:asn"));
    assert!(made.cards[1].key_set.is_empty());
    assert_ne!(made.cards[2].key_set, both);
    for name in ["clearing", "terminals", "officer", "auditor"] {
        let refused = problem(daemon.client(name).post::<PersonaliseResult>(path, &request).await);
        assert_eq!(refused.code, "denied", "{name} personalised a card");
    }
    // Keys that verify are no transport keys.
    let other = path.replace("transport_key=TK", "transport_key=DTK");
    assert_eq!(problem(cards.post::<PersonaliseResult>(&other, &request).await).field.as_deref(), Some("role"));

    // An issuer that holds its own keys only gets the same, and cards of others are foreign to it.
    let KeyList { keys } = officer.get("/v1/keys", &[("tenant", "demo")]).await.unwrap();
    for key in keys.iter().filter(|key| key.role != "TK") {
        let parent = KeyReference {
            tenant: "demo".to_owned(),
            scheme: key.scheme.clone(),
            role: key.role.clone(),
            version: key.version.clone(),
            algorithm: key.algorithm.clone(),
            factors: Vec::new(),
        };
        let request = DisperseKey { parent, factors: vec![ISSUER.to_owned()] };
        let _: Key = officer.post("/v1/keys/disperse", &request).await.unwrap();
        let end = SetKeyState { state: "destroyed".to_owned() };
        let _: Key = officer.post(&format!("/v1/keys/{}/state", key.id), &end).await.unwrap();
    }
    let mut foreign: BTreeMap<String, String> = one("C3", ASN);
    foreign.insert("issuer_id".to_owned(), "0123310000010001".to_owned());
    let request = Personalise { cards: vec![foreign, one("C4", ASN)] };
    let made: PersonaliseResult = cards.post(path, &request).await.unwrap();
    assert_eq!((made.cards[0].result.as_str(), made.cards[0].reason.as_str()), ("malformed", "foreign_issuer"));
    assert_eq!(made.cards[1].key_set, both);

    let mut file = "card_id,issuer_id,asn\n".to_owned();
    for card in 0..10_000 {
        file += &format!("C{card},{ISSUER},{card:016}\n");
    }
    file += &format!("\"公交,一\",{ISSUER},{ASN}\n,{ISSUER},{ASN}\nX,{ISSUER},12AB\n");
    let (file, out) = (daemon.file("cards.csv", file.as_bytes()), daemon.folder.path().join("keysets.csv"));
    let arguments =
        ["cards", "personalise", &file, "--tenant", "demo", "--scheme", "jtt978", "--transport-key", "TK/01"];
    let rest = ["--key-set", "city-platform-12", "--algorithm", "3des,sm4", "--out", out.to_str().unwrap(), "--json"];
    let output = daemon.cli("card-management", &[&arguments[..], &rest].concat());
    assert_eq!(output.status.code(), Some(1), "two cards are malformed: {}", words(&output));
    let made = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = made.lines().collect();
    assert_eq!(lines.len(), 10_004);
    assert_eq!(lines[10_001], format!("\"公交,一\",made,,{both}"));
    assert_eq!(&lines[10_002..], [",malformed,line:10003,", "X,malformed,bad_field:asn,"]);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["cards"], &summary["counts"]["made"]), (&Value::from(10_003), &Value::from(10_001)));
}
