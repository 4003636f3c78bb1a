//! Keys from other parties and to them, by the API: psec and an SM2 of its own are the others.

use claviger_client::{
    ClientError, ExportKey, ExportedKey, Key, KeyReference, MacGenerate, MacResult, NewKey, PublicKey, UnwrapKey,
};
use serde_json::{Value, json};

use crate::daemon::{Daemon, problem, words};
use crate::load::{CMAC, MAC, MESSAGE, generic, into};
use crate::reference::{ask, ask_for};
use crate::reload::{configuration, reload};
use crate::token_keys::{DTK, dtk};
use crate::tokens::Token;

/// That of the example in the served document, too.
pub(crate) const KBPK: &str = "88E1AB2A2E3DD38C1FA039A536500CC8A87AB9D62DC92C01058FA79F44657DE6";
/// Of GB/T 32918.5's example: the private key and its public half.
pub(crate) const EXCHANGE: &str = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8";

fn kbpk() -> NewKey {
    NewKey { algorithm: "aes256".to_owned(), ..generic("KBPK") }
}

fn reference(key: &NewKey) -> KeyReference {
    let NewKey { tenant, scheme, role, version, algorithm, factors, .. } = key.clone();
    KeyReference { tenant, scheme, role, version, algorithm, factors }
}

fn movable(key: NewKey) -> NewKey {
    NewKey { movable: true, ..key }
}

fn sensitive(key: NewKey) -> NewKey {
    NewKey { sensitive: true, ..key }
}

async fn with_kbpk() -> Daemon {
    let daemon = Daemon::start();
    into(&daemon, &[], kbpk(), KBPK).await;
    daemon
}

/// A block that psec makes.
fn psecs(header: &str, key: &str) -> String {
    ask_for(&json!({"op": "key_block_wrap", "kbpk": KBPK, "header": header, "key": key}))
}

/// The key of a block, by psec.
fn by_psec(block: &str) -> String {
    ask_for(&json!({"op": "key_block_unwrap", "kbpk": KBPK, "block": block}))
}

async fn unwrap(daemon: &Daemon, key: NewKey, under: &NewKey, wrapped: Value) -> Result<Key, ClientError> {
    let under = reference(under);
    let request = UnwrapKey { key, under, wrapped: serde_json::from_value(wrapped).unwrap(), kcv: None, held: None };
    daemon.client("officer").post("/v1/keys/unwrap", &request).await
}

async fn open(daemon: &Daemon, key: NewKey, block: &str) -> Result<Key, ClientError> {
    unwrap(daemon, key, &kbpk(), json!({"form": "key-block", "block": block})).await
}

async fn export(daemon: &Daemon, key: &Key, form: Value) -> Result<ExportedKey, ClientError> {
    let form: ExportKey = serde_json::from_value(form).unwrap();
    daemon.client("officer").post(&format!("/v1/keys/{}/export", key.id), &form).await
}

async fn in_block(daemon: &Daemon, key: &Key, more: Value) -> Result<ExportedKey, ClientError> {
    let mut form = json!({"form": "key-block", "version": "D", "under": reference(&kbpk())});
    form.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    export(daemon, key, form).await
}

/// The MAC of the example's message by a generic key.
async fn mac_by(daemon: &Daemon, key: &NewKey) -> String {
    let messages = vec![MESSAGE.to_owned()];
    let request = MacGenerate { key: reference(key), padding: "none".to_owned(), length: None, messages };
    let made: MacResult = daemon.client("card-management").post("/v1/mac/generate", &request).await.unwrap();
    made.macs[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_psec_s_block_works_and_psec_opens_ours() {
    let daemon = with_kbpk().await;
    let key = open(&daemon, movable(generic("CMAC")), &psecs("D0000M6AC01E0000", CMAC)).await.unwrap();
    assert_eq!((key.origin.as_str(), key.exportability.as_str()), ("unwrapped", "E"));
    assert_eq!(mac_by(&daemon, &generic("CMAC")).await, MAC);
    let sent = in_block(&daemon, &key, json!({})).await.unwrap();
    assert!(sent.wrapped.starts_with("D0144M6AC01N0000") && sent.kcv == key.kcv, "{sent:?}");
    assert_eq!(by_psec(&sent.wrapped), CMAC);
    // By the command, into a file that was not there.
    let out = daemon.folder.path().join("to-bureau.txt").display().to_string();
    let name =
        ["--tenant", "demo", "--scheme", "generic", "--role", "CMAC", "--version", "01", "--algorithm", "aes128"];
    let by_command = || {
        let form = ["keys", "export", "--under", "generic/KBPK/01/aes256", "--block", "D", "--out", out.as_str()];
        daemon.cli("officer", &[&form[..], &name[..]].concat())
    };
    let told = words(&by_command());
    assert!(told.contains(&key.kcv), "{told}");
    assert_eq!(by_psec(std::fs::read_to_string(&out).unwrap().trim_end()), CMAC);
    assert!(words(&by_command()).contains("is there already"));
    // Less than the key may is said where it is asked for.
    let verifies = in_block(&daemon, &key, json!({"mode": "V", "exportability": "E"})).await.unwrap();
    assert!(verifies.wrapped.starts_with("D0144M6AV01E0000"), "{verifies:?}");
    // ISO 20038 takes the key as it is, and comes back.
    let counted = in_block(&daemon, &key, json!({"version": "E"})).await.unwrap();
    let again = NewKey { version: "02".to_owned(), ..generic("CMAC") };
    let refused = problem(open(&daemon, again.clone(), &counted.wrapped).await);
    assert!(refused.detail.contains("`key version`"), "{refused:?}");
    let unversioned = psecs("D0000M6AC00N0000", CMAC);
    let second = open(&daemon, again, &unversioned).await.unwrap();
    assert_eq!((second.exportability.as_str(), second.kcv), ("N", key.kcv));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purse_key_goes_out_with_its_role_and_comes_back_as_nothing_else() {
    let daemon = with_kbpk().await;
    let master = into(&daemon, &[], movable(dtk()), DTK).await;
    let block = in_block(&daemon, &master, json!({"exportability": "E"})).await.unwrap().wrapped;
    assert!(block.contains("12TV01E") && block.contains("CLAVIGER/1/cjt166/DTK/0"), "{block}");
    assert_eq!(by_psec(&block), DTK);
    // On another daemon, which has the protection key as well.
    let other = with_kbpk().await;
    for (wrong, field) in [
        (NewKey { role: "DLK".to_owned(), ..dtk() }, "`purse key`"),
        (NewKey { factors: vec!["1150FF0000000000".to_owned()], ..dtk() }, "`purse key`"),
        (NewKey { version: "02".to_owned(), ..dtk() }, "`key version`"),
        (NewKey { algorithm: "sm4".to_owned(), ..dtk() }, "`algorithm`"),
        (sensitive(dtk()), "`exportability`"),
    ] {
        let refused = problem(open(&other, wrong, &block).await);
        assert_eq!((refused.status, refused.code.as_str()), (422, "bad_field"), "{refused:?}");
        assert!(refused.detail.contains(field), "{field}: {refused:?}");
    }
    let copy = open(&other, movable(dtk()), &block).await.unwrap();
    assert_eq!((copy.kcv, copy.usage.as_str(), copy.rank.as_str()), (master.kcv, "12", "dispersion"));
}

/// Each field of a header, wrong: refused, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_says_something_else_is_refused_by_its_field() {
    let daemon = with_kbpk().await;
    let cmac = || generic("CMAC");
    for (header, key, field) in [
        ("D0000M3AC01N0000", cmac(), "`usage`"),
        ("D0000K0AC01N0000", cmac(), "`usage`"),
        ("D0000M6AV01N0000", cmac(), "`mode`"),
        ("D0000M6AG01N0000", cmac(), "`mode`"),
        ("D0000M6AX01N0000", cmac(), "`mode`"),
        ("D0000M6AC01N0000", movable(cmac()), "`exportability`"),
        ("D0000M6AC01E0000", sensitive(cmac()), "`exportability`"),
        ("D0000M6AC02N0000", cmac(), "`key version`"),
        ("D0000M6ACc1N0000", cmac(), "`key version`"),
        ("D0000M6TC01N0000", cmac(), "`algorithm`"),
        ("D0000M6AC01N0000", NewKey { algorithm: "aes256".to_owned(), ..cmac() }, "not as long as"),
        ("D0000M6AC01N0010", cmac(), "`key context`"),
        ("D0000M6AC01N0100KC0A00000000", cmac(), "`KC`"),
        ("D0000M6AC01N0100KP0A00000000", cmac(), "`KP`"),
    ] {
        // psec does not know what X9.143:2021 made of the reserved characters.
        let block = match header.strip_suffix("10") {
            Some(start) => ask_for(&json!({"op": "key_block_seal", "alg": "aes", "kbpk": KBPK,
                "header": format!("D0112{}10", &start[5..]), "payload": format!("0080{CMAC}{}", "00".repeat(14))})),
            None => psecs(header, CMAC),
        };
        let refused = problem(open(&daemon, key, &block).await);
        assert_eq!(refused.status, 422, "{header}: {refused:?}");
        assert!(refused.detail.contains(field) && !refused.detail.contains(CMAC), "{header} {field}: {refused:?}");
    }
    // One changed character, and a key that protects others.
    let block = psecs("D0000M6AC01N0000", CMAC);
    let changed = format!("{}{}", &block[..block.len() - 1], if block.ends_with('0') { "1" } else { "0" });
    assert!(problem(open(&daemon, cmac(), &changed).await).detail.contains("`mac`"));
    let kek = NewKey { algorithm: "aes256".to_owned(), ..generic("KEK") };
    into(&daemon, &[], kek.clone(), KBPK).await;
    let under_kek = unwrap(&daemon, cmac(), &kek, json!({"form": "key-block", "block": block})).await;
    assert!(problem(under_kek).detail.contains("K0"), "a key for ECB opens no blocks");
    // Right check values are taken.
    let kcv = cmac_kcv(CMAC);
    let good = psecs(&format!("D0000M6AC01N0100KC1001{kcv}"), CMAC);
    open(&daemon, cmac(), &good).await.unwrap();
    // None of it made a key.
    let listed = words(&daemon.cli("officer", &["keys", "list", "--tenant", "demo", "--role", "CMAC"]));
    assert_eq!(listed.lines().filter(|line| line.contains("CMAC")).count(), 1, "{listed}");
}

fn cmac_kcv(key: &str) -> String {
    hex::encode_upper(ask(json!({"op": "kcv", "alg": "aes", "key": key, "fn": "cmac", "input": "zero", "take": 5})))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_say_which_key_it_is_takes_the_word_of_another() {
    let daemon = with_kbpk().await;
    let block = daemon.file("block.txt", psecs("D0000B3TX01N0000", DTK).as_bytes());
    let arguments = |more: &[&'static str]| {
        let key = ["--tenant", "demo", "--scheme", "cjt166", "--role", "DTK", "--version", "01", "--algorithm", "3des"];
        let form = ["keys", "unwrap", "--under", "generic/KBPK/01/aes256", "--file"].map(str::to_owned).to_vec();
        let rest = key.iter().chain(more).map(|word| (*word).to_owned());
        form.into_iter().chain([block.clone()]).chain(rest).collect::<Vec<_>>()
    };
    let run = |arguments: Vec<String>| {
        words(&daemon.cli("officer", &arguments.iter().map(String::as_str).collect::<Vec<_>>()))
    };
    let said = run(arguments(&[]));
    let id = said.split("proposed as ").nth(1).unwrap()[..32].to_owned();
    let details = words(&daemon.cli("officer-2", &["approvals", "show", &id]));
    for line in ["assign_role", "demo/cjt166/DTK 3des 01", "key block D0112B3TX01N0000, SHA-256", "generic/KBPK"] {
        assert!(details.contains(line), "{details}");
    }
    let approved = words(&daemon.cli("officer-2", &["approvals", "approve", "--yes", &id]));
    assert!(approved.contains("1 of 1 have approved it"), "{approved}");
    let mut again = arguments(&["--approval"]);
    again.push(id);
    let made = run(again);
    assert!(made.contains("DTK") && made.contains("B8743B"), "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_two_others_agree_to_what_comes_and_what_goes() {
    let daemon = with_kbpk().await;
    let key = into(&daemon, &[], movable(generic("CMAC")), CMAC).await;
    let production = configuration(&daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(&daemon, &production).await.contains("done"));
    let sent = problem(in_block(&daemon, &key, json!({})).await);
    assert_eq!((sent.code.as_str(), sent.policy.as_deref()), ("approval_needed", Some("officers.approved")));
    let block = psecs("D0000M6AC02N0000", CMAC);
    let came = problem(open(&daemon, NewKey { version: "02".to_owned(), ..generic("CMAC") }, &block).await);
    assert_eq!((came.code.as_str(), came.policy.as_deref()), ("approval_needed", Some("officers.approved")));
    for duty in ["card-management", "clearing", "auditor"] {
        let form = json!({"form": "key-block", "version": "D", "under": reference(&kbpk())});
        let asked = daemon.client(duty).post::<ExportedKey>(&format!("/v1/keys/{}/export", key.id), &form).await;
        assert_eq!(problem(asked).code, "denied", "{duty}");
    }
    let details = words(&daemon.cli("officer-2", &["approvals", "show", &sent.approval.unwrap()]));
    assert!(details.contains("leaves as: key block of version D, exportability N"), "{details}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_ecb_and_in_envelopes_go_both_ways() {
    let daemon = Daemon::start();
    let kek = NewKey { algorithm: "3des".to_owned(), ..generic("KEK") };
    into(&daemon, &[], kek.clone(), "0123456789ABCDEFFEDCBA9876543210").await;
    let trusted = into(&daemon, &[], movable(dtk()), DTK).await;
    let master = into(&daemon, &[], sensitive(NewKey { version: "02".to_owned(), ..dtk() }), DTK).await;
    let ecb = json!({"form": "ecb", "under": reference(&kek)});
    let kept = problem(export(&daemon, &trusted, ecb.clone()).await);
    assert!(kept.detail.contains("not exportable in that form"), "{kept:?}");
    let sent = export(&daemon, &master, ecb.clone()).await.unwrap();
    let plain = json!({"op": "cipher", "alg": "3des", "mode": "ecb", "key": "0123456789ABCDEFFEDCBA9876543210",
        "data": sent.wrapped, "decrypt": true});
    assert_eq!((hex::encode_upper(ask(plain)), sent.kcv.as_str()), (DTK.to_owned(), "B8743B"));
    // What is not authenticated is not believed: in development, too, another agrees to what it is.
    let came = |kcv: &str| json!({"form": "ecb", "ciphertext": sent.wrapped, "kcv": kcv});
    let third = NewKey { version: "03".to_owned(), ..dtk() };
    assert_eq!(problem(unwrap(&daemon, third, &kek, came("B8743B")).await).code, "approval_needed");
    // SM2: our public half, an envelope by somebody else's code, and one of ours that it opens.
    let exchange = NewKey { algorithm: "sm2".to_owned(), ..generic("EXCHANGE") };
    let pair = into(&daemon, &[], exchange.clone(), EXCHANGE).await;
    let at = format!("/v1/keys/{}/public-key", pair.id);
    let PublicKey { public_key } = daemon.client("auditor").get(&at, &()).await.unwrap();
    let wanted = ask(json!({"op": "sm2_public", "private_key": EXCHANGE}));
    assert_eq!(public_key.trim_start_matches("04"), hex::encode_upper(wanted).trim_start_matches("04"));
    let layout = json!({"name": "sdf"});
    let sent =
        export(&daemon, &master, json!({"form": "sm2-envelope", "recipient": public_key, "layout": layout})).await;
    let sent = hex::decode(sent.unwrap().wrapped).unwrap();
    // x, y right-aligned in 64 bytes each, the hash, four bytes of length, the key.
    let part = |from: usize, to: usize| hex::encode_upper(&sent[from..to]);
    assert_eq!((sent.len(), &sent[160..164]), (180, &[16, 0, 0, 0][..]));
    let opened = ask_for(&json!({"op": "sm2_decrypt", "private_key": EXCHANGE, "x": part(32, 64), "y": part(96, 128),
        "hash": part(128, 160), "ciphertext": part(164, 180)}));
    assert_eq!(opened, DTK);
    // Nothing leaves or comes under what is weaker.
    let strong = sensitive(NewKey { algorithm: "aes256".to_owned(), ..generic("CMAC") });
    let strong = into(&daemon, &[], strong, &DTK.repeat(2)).await;
    for form in [ecb.clone(), json!({"form": "sm2-envelope", "recipient": public_key, "layout": layout})] {
        let refused = problem(export(&daemon, &strong, form).await);
        assert!(refused.detail.contains("is weaker than the key of aes256"), "{refused:?}");
    }
    // Nobody could open an envelope for what is no point of the curve.
    let nobody = json!({"form": "sm2-envelope", "recipient": "00".repeat(64), "layout": {"name": "sdf"}});
    let refused = problem(export(&daemon, &master, nobody).await);
    assert_eq!((refused.code.as_str(), refused.field.as_deref()), ("bad_field", Some("recipient")), "{refused:?}");
    let no_half = daemon.client("auditor").get::<PublicKey>(&format!("/v1/keys/{}/public-key", master.id), &()).await;
    assert!(problem(no_half).detail.contains("no public half"));
}

/// What can become no such key is refused before anybody is asked to approve it, and nothing of it is written down: it may be a
/// component that was named by mistake. Nobody's proposals keep others from asking.
#[tokio::test(flavor = "multi_thread")]
async fn junk_is_proposed_to_nobody() {
    let daemon = with_kbpk().await;
    let key = into(&daemon, &[], movable(generic("CMAC")), CMAC).await;
    let production = configuration(&daemon).replace("policies = \"dev\"", "policies = \"production\"");
    assert!(reload(&daemon, &production).await.contains("done"));
    let component = "5EC2E7C0DEC0FFEE0BADF00DDEADBEEF";
    let data = || NewKey { version: "02".to_owned(), ..generic("DATA") };
    for junk in [component, "", "hello", "D9999M6AC01N0000", "D0016M6AC01N0000"] {
        let refused = problem(open(&daemon, data(), junk).await);
        assert_eq!((refused.code.as_str(), refused.field.as_deref()), ("bad_field", Some("wrapped")), "{refused:?}");
    }
    let refused = problem(open(&daemon, data(), &psecs("D0000M6AC02N0000", CMAC)).await);
    assert!(refused.code == "bad_field" && refused.detail.contains("`usage`"), "{refused:?}");
    let log = std::fs::read_to_string(daemon.data().join("audit.jsonl")).unwrap();
    assert!(!log.contains(&component[..8]) && !log.contains("\"event\":\"proposal\""), "{log}");
    // A key that is there cannot be made again, whoever approves it.
    let there = problem(open(&daemon, generic("CMAC"), &psecs("D0000M6AC01N0000", CMAC)).await);
    assert_eq!(there.code, "key_exists", "{there:?}");
    let itself = json!({"under": {"tenant": "demo", "scheme": "generic", "role": "CMAC", "version": "01", "algorithm": "aes128"}});
    assert!(problem(in_block(&daemon, &key, itself).await).detail.contains("is the key itself"));
    // One officer asks as often as they may, and another still can.
    let mut asked = 0;
    let stopped = loop {
        let version = format!("{:02X}", 0x10 + asked);
        let new = json!({"tenant": "demo", "scheme": "cjt166", "role": "DTK", "version": version, "algorithm": "3des"});
        let answer = problem(daemon.client("officer").post::<Key>("/v1/keys", &new).await);
        if answer.code != "approval_needed" {
            break answer;
        }
        asked += 1;
    };
    assert_eq!((stopped.code.as_str(), asked), ("busy", 40), "{stopped:?}");
    let state = json!({"state": "destroyed"});
    let other = daemon.client("officer-2").post::<Key>(&format!("/v1/keys/{}/state", key.id), &state).await;
    assert_eq!(problem(other).code, "approval_needed");
}

/// A token that makes CMACs takes the keys of a block's version out, and nothing else: the block protection key stays in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_opened_under_a_key_that_stays_in_a_token() {
    let (room, hosted) = (Token::softhsm(), Token::nss());
    let tables = [room.backend("room", "on-prem", ""), hosted.backend("hosted", "hosted", "")].concat();
    let daemon = Daemon::with_backends(&tables);
    for (backend, version) in [("room", "01"), ("hosted", "02")] {
        let at = |key: NewKey| NewKey { version: version.to_owned(), backends: vec![backend.to_owned()], ..key };
        let protection = at(kbpk());
        into(&daemon, &[backend], protection.clone(), KBPK).await;
        for header in ["D0000M6AC00N0000", "D0000M6AC00N0100KP10013C1A5A7F8E"] {
            let form = json!({"form": "key-block", "block": psecs(header, CMAC)});
            let key = NewKey { version: version.to_owned(), ..at(generic("CMAC")) };
            match unwrap(&daemon, key, &protection, form).await {
                Ok(key) => {
                    assert_eq!((key.origin.as_str(), key.backends), ("unwrapped", vec![backend.to_owned()]));
                    assert!(!header.contains("KP"), "a wrong check value of the protection key");
                    let made = mac_by(&daemon, &NewKey { version: version.to_owned(), ..generic("CMAC") }).await;
                    assert_eq!(made, MAC, "{backend}");
                }
                Err(error) => assert!(header.contains("KP"), "{backend}: {error}"),
            }
        }
        let block = psecs("D0000M6AC00N0000", CMAC);
        let changed = format!("{}{}", &block[..block.len() - 1], if block.ends_with('0') { "1" } else { "0" });
        let form = json!({"form": "key-block", "block": changed});
        let other = NewKey { version: "0A".to_owned(), ..at(generic("CMAC")) };
        let refused = problem(unwrap(&daemon, other, &protection, form).await);
        assert!(refused.detail.contains("`mac`"), "{backend}: {refused:?}");
    }
    // ECB takes deciphering, which both do; what a token cannot give out in a block is said.
    let kek = NewKey { algorithm: "3des".to_owned(), ..generic("KEK") };
    into(&daemon, &["room"], kek.clone(), "0123456789ABCDEFFEDCBA9876543210").await;
    let listed: claviger_client::KeyList =
        daemon.client("officer").get("/v1/keys", &json!({"tenant": "demo", "role": "CMAC"})).await.unwrap();
    let key = listed.keys.iter().find(|key| key.version == "01").unwrap();
    let kept = problem(in_block(&daemon, key, json!({})).await);
    assert_eq!(kept.code, "unsupported", "{kept:?}");
}
