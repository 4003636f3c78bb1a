//! Keys that move between backends, and keys that a token held before.

use claviger_client::{ImportKey, Key, KeyReference, NewKey, ReplicateKey};
use serde_json::json;

use crate::daemon::{Daemon, components, problem};
use crate::purse::card_key;
use crate::tokens::Token;

pub(crate) const DTK: &str = "EFBA26C2CF1C18BC5494A3BF609AF474";
const EMBEDDED: &str = "[[backend]]\nname = \"embedded\"\ndriver = \"software\"\n";

pub(crate) async fn import(daemon: &Daemon, key: NewKey, value: &str) -> Key {
    let import = ImportKey { key, components: components(value), kcv: None, odd_parity: false };
    daemon.client("officer").post("/v1/keys/import", &import).await.unwrap()
}

pub(crate) fn dtk() -> NewKey {
    NewKey { role: "DTK".to_owned(), factors: Vec::new(), ..card_key() }
}

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_moves_from_the_embedded_backend_to_softhsm_to_nss() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [EMBEDDED.to_owned(), room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")];
    let daemon = Daemon::with_backends(&tables.concat());
    let officer = daemon.client("officer");
    let kek = NewKey {
        scheme: "generic".to_owned(),
        role: "KEK".to_owned(),
        algorithm: "aes256".to_owned(),
        factors: Vec::new(),
        backends: words(&["embedded", "room", "hosted"]),
        ..card_key()
    };
    let NewKey { tenant, scheme, role, version, algorithm, factors, .. } = kek.clone();
    let under = || KeyReference {
        tenant: tenant.clone(),
        scheme: scheme.clone(),
        role: role.clone(),
        version: version.clone(),
        algorithm: algorithm.clone(),
        factors: factors.clone(),
    };
    import(&daemon, kek, &DTK.repeat(2)).await;
    let places = words(&["on-prem", "hosted"]);
    let moves = NewKey { places: places.clone(), movable: true, backends: words(&["embedded"]), ..dtk() };
    let key = import(&daemon, moves, DTK).await;
    let to = |to: &str| ReplicateKey { to: to.to_owned(), under: under() };
    let at = format!("/v1/keys/{}/replicas", key.id);
    for (backend, holders) in [("room", 2), ("hosted", 3)] {
        let copied: Key = officer.post(&at, &to(backend)).await.unwrap();
        assert_eq!((copied.backends.len(), &copied.kcv), (holders, &key.kcv));
        let again = problem(officer.post::<Key>(&at, &to(backend)).await);
        assert_eq!((again.code.as_str(), again.field.as_deref()), ("bad_field", Some("to")));
    }
    // A key that may move is no finding of the doctor's.
    let file = room.path("backends.toml");
    std::fs::write(&file, &tables[1]).unwrap();
    let output = crate::daemon::cli(&["doctor", "--config", file.to_str().unwrap()]);
    assert!(!crate::daemon::words(&output).contains("object-beyond-ceiling"), "{}", crate::daemon::words(&output));
    let unknown = problem(officer.post::<Key>(&at, &to("attic")).await);
    assert_eq!(unknown.code, "no_backend");

    let stays = NewKey { version: "02".to_owned(), places, backends: words(&["embedded"]), ..dtk() };
    let stays = import(&daemon, stays, DTK).await;
    let refused = problem(officer.post::<Key>(&format!("/v1/keys/{}/replicas", stays.id), &to("room")).await);
    assert_eq!((refused.code.as_str(), refused.field.as_deref()), ("bad_field", Some("key")));
    let bound = NewKey { version: "03".to_owned(), movable: true, backends: words(&["embedded"]), ..dtk() };
    let bound = import(&daemon, bound, DTK).await;
    let refused = problem(officer.post::<Key>(&format!("/v1/keys/{}/replicas", bound.id), &to("hosted")).await);
    assert_eq!(refused.code, "place", "on-prem is all that it was made for");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_copy_the_same_key_do_not_undo_each_other() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "on-prem", "")];
    let daemon = Daemon::with_backends(&tables.concat());
    let kek = NewKey {
        scheme: "generic".to_owned(),
        role: "KEK".to_owned(),
        algorithm: "aes128".to_owned(),
        factors: Vec::new(),
        backends: words(&["room", "hosted"]),
        ..card_key()
    };
    import(&daemon, kek, DTK).await;
    let key = NewKey { algorithm: "aes128".to_owned(), scheme: "generic".to_owned(), role: "CMAC".to_owned(), ..dtk() };
    let key = import(&daemon, NewKey { movable: true, backends: words(&["room"]), ..key }, DTK).await;
    let body = json!({ "to": "hosted", "under": {
        "tenant": "demo", "scheme": "generic", "role": "KEK", "version": "01", "algorithm": "aes128" } });
    let at = format!("/v1/keys/{}/replicas", key.id);
    let (one, other) = (daemon.client("officer"), daemon.client("officer"));
    let (one, other) = tokio::join!(one.post::<Key>(&at, &body), other.post::<Key>(&at, &body));
    assert_eq!([one.is_ok(), other.is_ok()].iter().filter(|ok| **ok).count(), 1);
    // The copy that was acknowledged is there: its state can be changed in both tokens.
    let suspended: Key = daemon
        .client("officer")
        .post(&format!("/v1/keys/{}/state", key.id), &json!({ "state": "suspended" }))
        .await
        .unwrap();
    assert_eq!((suspended.state.as_str(), suspended.backends.len()), ("suspended", 2));
}

/// A record of the first day of `cjt166-3des`, and one whose TAC was changed.
pub(crate) fn record(right: bool) -> serde_json::Value {
    let days = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/days");
    let day = std::fs::read_to_string(days.join("cjt166-3des-day.csv")).unwrap();
    let truth = std::fs::read_to_string(days.join("cjt166-3des-truth.csv")).unwrap();
    let mut lines = day.lines().zip(truth.lines());
    let (header, _) = lines.next().unwrap();
    let (line, _) = lines.find(|(_, truth)| truth.contains(",valid,")).unwrap();
    let mut record: serde_json::Map<_, _> =
        header.split(',').map(str::to_owned).zip(line.split(',').map(|cell| json!(cell))).collect();
    if !right {
        record["tac"] = json!("00000000");
    }
    record.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_adopts_what_a_token_holds() {
    for token in [Token::softhsm(), Token::nss()] {
        let backend = token.backend("room", "on-prem", "");
        let first = Daemon::with_backends(&backend);
        let made = import(&first, dtk(), DTK).await;
        drop(first);
        let daemon = Daemon::with_backends(&backend);
        let officer = daemon.client("officer");
        let adopt = |object: &str, ceiling: Option<&str>, kcv: &str| {
            let key = NewKey { backends: words(&["room"]), ceiling: ceiling.map(str::to_owned), ..dtk() };
            json!({ "key": key, "object": object, "kcv": kcv })
        };
        let label = "demo/cjt166/DTK 3des 01 ceiling card-key";
        let refused = async |body| problem(officer.post::<Key>("/v1/keys/adopt", &body).await);
        assert_eq!(refused(adopt(label, None, "000000")).await.code, "kcv_mismatch");
        let absent = refused(adopt("nobody", None, &made.kcv)).await;
        assert!(absent.code == "refused" && absent.detail.contains("none of this label or id"), "{}", absent.detail);
        // The object enciphers, since it was made for card keys that may leave.
        let too_much = refused(adopt(label, Some("nothing"), &made.kcv)).await;
        assert!(too_much.code == "refused" && too_much.detail.contains("CKA_ENCRYPT"), "{}", too_much.detail);
        // A record that another key has made says that this is not the key of those days.
        let mut other = adopt(label, None, &made.kcv);
        other["records"] = json!([record(false)]);
        let told = refused(other).await;
        assert!(told.code == "replay_failed" && told.detail.contains("number 1 is invalid"), "{}", told.detail);
        let mut right = adopt(label, None, &made.kcv);
        right["records"] = json!([record(true), record(true)]);
        let adopted: Key = officer.post("/v1/keys/adopt", &right).await.unwrap();
        assert_eq!((adopted.origin.as_str(), &adopted.kcv), ("adopted", &made.kcv));
        // One object is one key, and the token's record key is none.
        let mut again = adopt(label, None, &made.kcv);
        again["key"]["version"] = json!("02");
        let twice = refused(again).await;
        assert!(twice.code == "refused" && twice.detail.contains("in use here already"), "{}", twice.detail);
        let mut ours = adopt("claviger record key", Some("nothing"), &made.kcv);
        ours["key"]["scheme"] = json!("generic");
        ours["key"]["role"] = json!("HMAC");
        ours["key"]["algorithm"] = json!("hmac-sha256");
        let ours = refused(ours).await;
        assert!(ours.code == "refused" && ours.detail.contains("in use here already"), "{}", ours.detail);
    }
}
