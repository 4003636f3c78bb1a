//! Keys of no card scheme, and children of stored keys.

use claviger_client::{
    CipherItem, CipherResult, Client, ComputeKcv, Decrypt, DisperseKey, Encrypt, KcvResult, Key, KeyReference,
    MacGenerate, MacItem, MacResult, MacVerify, Sign, SignResult, SignatureItem, Valid, VerifySignature,
};
use serde_json::json;

use crate::cards::import;
use crate::daemon::{Daemon, problem, words};
use crate::main_job::import_keys;
use crate::reference::ask;

const KEY: &str = "2B7E151628AED2A6ABF7158809CF4F3C";
const MESSAGE: &str = "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E51";

fn reference(role: &str, algorithm: &str) -> KeyReference {
    KeyReference {
        tenant: "demo".to_owned(),
        scheme: "generic".to_owned(),
        role: role.to_owned(),
        version: "01".to_owned(),
        algorithm: algorithm.to_owned(),
        factors: Vec::new(),
    }
}

fn generate(role: &str, algorithm: &str) -> MacGenerate {
    let messages = vec![MESSAGE.to_owned(), "00".to_owned()];
    MacGenerate { key: reference(role, algorithm), padding: "one".to_owned(), length: None, messages }
}

async fn macs(client: &Client, request: &MacGenerate) -> Vec<String> {
    client.post::<MacResult>("/v1/mac/generate", request).await.unwrap().macs
}

#[tokio::test(flavor = "multi_thread")]
async fn macs_agree_with_the_reference() {
    let daemon = Daemon::start();
    let (officer, hosts, clearing) =
        (daemon.client("officer"), daemon.client("card-management"), daemon.client("clearing"));
    let hmac_key = format!("{KEY}{KEY}");
    let cases = [
        ("MAC1", "sm4", KEY, json!({"op": "mac", "alg": "sm4", "algorithm": 1, "padding": 2, "key": KEY})),
        ("MAC1", "aes128", KEY, json!({"op": "mac", "alg": "aes", "algorithm": 1, "padding": 2, "key": KEY})),
        (
            "MAC1",
            "des",
            &KEY[..16],
            json!({"op": "mac", "alg": "des", "algorithm": 1, "padding": 2, "key": &KEY[..16]}),
        ),
        (
            "MAC3",
            "3des",
            KEY,
            json!({"op": "mac", "alg": "des", "algorithm": 3, "padding": 2, "key": &KEY[..16], "key2": &KEY[16..]}),
        ),
        ("CMAC", "sm4", KEY, json!({"op": "mac", "alg": "sm4", "algorithm": 5, "key": KEY})),
        ("CMAC", "aes128", KEY, json!({"op": "mac", "alg": "aes", "algorithm": 5, "key": KEY})),
        ("CMAC", "3des", KEY, json!({"op": "mac", "alg": "3des", "algorithm": 5, "key": KEY})),
        ("HMAC", "hmac-sm3", &hmac_key, json!({"op": "hmac", "hash": "sm3", "key": hmac_key})),
        ("HMAC", "hmac-sha256", &hmac_key, json!({"op": "hmac", "hash": "sha256", "key": hmac_key})),
    ];
    for (role, algorithm, key, mut request) in cases {
        import(&officer, "generic", role, algorithm, key, &[]).await;
        let made = macs(&hosts, &generate(role, algorithm)).await;
        for (message, mac) in [MESSAGE, "00"].into_iter().zip(&made) {
            request["message"] = json!(message);
            assert_eq!(*mac, hex::encode_upper(ask(request.clone())), "{role} {algorithm}");
        }
        let short = macs(&hosts, &MacGenerate { length: Some(4), ..generate(role, algorithm) }).await;
        assert_eq!(short[0], made[0][..8]);
        let item = |mac: &str| MacItem { message: MESSAGE.to_owned(), mac: mac.to_owned() };
        let items = vec![item(&short[0]), item("00000000")];
        let verify = MacVerify { key: reference(role, algorithm), padding: "one".to_owned(), items };
        let found: Valid = clearing.post("/v1/mac/verify", &verify).await.unwrap();
        assert_eq!(found.valid, [true, false], "{role} {algorithm}");
        assert_eq!(
            problem(clearing.post::<MacResult>("/v1/mac/generate", &generate(role, algorithm)).await).code,
            "denied"
        );
    }
    let output = daemon.cli(
        "card-management",
        &["mac", "generate", MESSAGE, "--tenant", "demo", "--role", "CMAC", "--version", "01", "--algorithm", "aes128"],
    );
    // NIST SP 800-38B has this key; the message is the first two blocks of its examples.
    let expected = ask(json!({"op": "mac", "alg": "aes", "algorithm": 5, "key": KEY, "message": MESSAGE}));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), hex::encode_upper(expected), "{}", words(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_there_and_back() {
    let daemon = Daemon::start();
    let (officer, hosts) = (daemon.client("officer"), daemon.client("card-management"));
    for (algorithm, alg, modes) in [
        ("3des", "3des", &["ecb", "cbc"][..]),
        ("sm4", "sm4", &["ecb", "cbc", "gcm"]),
        ("aes128", "aes", &["ecb", "cbc", "gcm"]),
    ] {
        import(&officer, "generic", "DATA", algorithm, KEY, &[]).await;
        for mode in modes {
            let associated = if *mode == "gcm" { "0102" } else { "" }.to_owned();
            let plain = CipherItem { data: MESSAGE.to_owned(), iv: None, associated: associated.clone() };
            let key = || reference("DATA", algorithm);
            let request =
                Encrypt { key: key(), mode: (*mode).to_owned(), padding: "none".to_owned(), items: vec![plain] };
            let made: CipherResult = hosts.post("/v1/encrypt", &request).await.unwrap();
            let sealed = made.items[0].clone().unwrap();
            let mut same = json!({"op": "cipher", "alg": alg, "mode": mode, "key": KEY, "data": MESSAGE});
            if let Some(iv) = &sealed.iv {
                same["iv"] = json!(iv);
            }
            if *mode == "gcm" {
                same["aad"] = json!(associated);
            }
            assert_eq!(sealed.data, hex::encode_upper(ask(same)), "{algorithm} {mode}");
            let item = CipherItem { associated: associated.clone(), ..sealed.clone() };
            let mut altered = item.clone();
            altered.data.replace_range(..2, if item.data.starts_with("00") { "01" } else { "00" });
            let (of, padding) = ((*mode).to_owned(), "none".to_owned());
            let request = Decrypt { key: key(), mode: of, padding, items: vec![item, altered] };
            let opened: CipherResult = daemon.client("clearing").post("/v1/decrypt", &request).await.unwrap();
            assert_eq!(opened.items[0].as_ref().unwrap().data, MESSAGE, "{algorithm} {mode}");
            assert_eq!(opened.items[1].is_none(), *mode == "gcm", "only an authenticated mode notices");
        }
    }
    let run = |name: &str, arguments: &[&str]| {
        let key = ["--tenant", "demo", "--role", "DATA", "--version", "01", "--algorithm", "sm4", "--json"];
        let output = daemon.cli(name, &[arguments, &key[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let sealed = run("card-management", &["encrypt", MESSAGE]);
    let text = |member: &str| sealed[member].as_str().unwrap();
    let opened = run("clearing", &["decrypt", text("data"), "--iv", text("iv")]);
    assert_eq!(opened["data"], MESSAGE);
    for text in ["48656C6C6F", MESSAGE] {
        let sealed = run("card-management", &["encrypt", text, "--mode", "cbc"]);
        let (data, iv) = (sealed["data"].as_str().unwrap(), sealed["iv"].as_str().unwrap());
        assert_eq!(
            run("clearing", &["decrypt", data, "--mode", "cbc", "--iv", iv])["data"],
            text,
            "the padding is off"
        );
    }
    let item = CipherItem { data: "00".to_owned(), iv: Some("0".repeat(24)), ..CipherItem::default() };
    let request = Encrypt {
        key: reference("DATA", "sm4"),
        mode: "gcm".to_owned(),
        padding: "none".to_owned(),
        items: vec![item],
    };
    let refused = problem(hosts.post::<CipherResult>("/v1/encrypt", &request).await);
    assert_eq!(refused.field.as_deref(), Some("iv"), "a nonce is never the caller's");
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_those_of_the_key() {
    let daemon = Daemon::start();
    let hosts = daemon.client("card-management");
    let key = "3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8";
    import(&daemon.client("officer"), "generic", "SIGN", "sm2", key, &[]).await;
    let signer_id = "ALICE123@YAHOO.COM".to_owned();
    let request =
        Sign { key: reference("SIGN", "sm2"), signer_id: signer_id.clone(), messages: vec![MESSAGE.to_owned()] };
    let SignResult { signatures } = hosts.post("/v1/sign", &request).await.unwrap();
    let item = |signature: String| SignatureItem { message: MESSAGE.to_owned(), signature };
    let mut altered = signatures[0].clone();
    altered.replace_range(..2, if altered.starts_with("00") { "01" } else { "00" });
    let items = vec![item(signatures[0].clone()), item(altered)];
    let verify = VerifySignature { key: reference("SIGN", "sm2"), signer_id, items };
    let found: Valid = hosts.post("/v1/verify-signature", &verify).await.unwrap();
    assert_eq!(found.valid, [true, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_scheme_are_no_oracles() {
    let daemon = Daemon::start();
    import_keys(&daemon, "cjt166-3des");
    let hosts = daemon.client("card-management");
    let mut request = generate("DTK", "3des");
    request.key.scheme = "cjt166".to_owned();
    let refused = problem(hosts.post::<MacResult>("/v1/mac/generate", &request).await);
    assert_eq!((refused.code.as_str(), refused.policy.as_deref()), ("denied", Some("generic-keys.no-scheme-role")));
    import(&daemon.client("officer"), "generic", "CMAC", "sm4", KEY, &[]).await;
    for length in [0, 3, 17] {
        let request = MacGenerate { length: Some(length), ..generate("CMAC", "sm4") };
        assert_eq!(
            problem(hosts.post::<MacResult>("/v1/mac/generate", &request).await).field.as_deref(),
            Some("length")
        );
    }
    // A key that makes MACs does not encipher.
    let items = vec![CipherItem { data: MESSAGE.to_owned(), ..CipherItem::default() }];
    let request = Encrypt { key: reference("CMAC", "sm4"), mode: "ecb".to_owned(), padding: "none".to_owned(), items };
    assert_eq!(problem(hosts.post::<CipherResult>("/v1/encrypt", &request).await).code, "refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_a_key_of_its_own() {
    let daemon = Daemon::start();
    import_keys(&daemon, "cjt166-3des");
    let officer = daemon.client("officer");
    let parent = KeyReference { scheme: "cjt166".to_owned(), ..reference("DTK", "3des") };
    let city = "1150FF0000000000";
    let request = DisperseKey { parent: parent.clone(), factors: vec![city.to_owned()] };
    let child: Key = officer.post("/v1/keys/disperse", &request).await.unwrap();
    assert_eq!((child.level, child.origin.as_str(), child.ceiling.as_str()), (1, "dispersed", "card-key"));
    let keys: serde_json::Value = serde_json::from_str(include_str!("../days/cjt166-3des-keys.json")).unwrap();
    let components: Vec<Vec<u8>> = keys["keys"][0]["components"]
        .as_array()
        .unwrap()
        .iter()
        .map(|component| hex::decode(component["value"].as_str().unwrap()).unwrap())
        .collect();
    let root: Vec<u8> = components[0].iter().zip(&components[1]).map(|(a, b)| a ^ b).collect();
    let dispersed = ask(json!({"op": "disperse", "alg": "3des", "key": hex::encode_upper(root), "factors": [city]}));
    let kcv = ask(json!({"op": "kcv", "alg": "3des", "key": hex::encode_upper(dispersed), "take": 3}));
    assert_eq!(child.kcv, hex::encode_upper(&kcv));
    let rule = |take| ComputeKcv { function: "ecb".to_owned(), input: "zero".to_owned(), take };
    let path = format!("/v1/keys/{}/kcv", child.id);
    let shown: KcvResult = officer.post(&path, &rule(2)).await.unwrap();
    assert_eq!(shown.kcv, child.kcv[..4]);
    for take in [4, 8] {
        let refused = problem(officer.post::<KcvResult>(&path, &rule(take)).await);
        assert_eq!(refused.field.as_deref(), Some("take"), "a long check value is an oracle");
    }
    assert_eq!(problem(officer.post::<Key>("/v1/keys/disperse", &request).await).code, "key_exists");
    let odd = DisperseKey { parent: parent.clone(), factors: vec!["11".to_owned()] };
    assert_eq!(problem(officer.post::<Key>("/v1/keys/disperse", &odd).await).field.as_deref(), Some("factors"));
    let refused = problem(daemon.client("card-management").post::<Key>("/v1/keys/disperse", &request).await);
    assert_eq!(refused.code, "denied");
    // The city's key verifies the city's records, in place of the root's: both give the same verdicts.
    let destroy = [
        "keys",
        "destroy",
        "--tenant",
        "demo",
        "--scheme",
        "cjt166",
        "--role",
        "DTK",
        "--version",
        "01",
        "--algorithm",
        "3des",
    ];
    let ambiguous = daemon.cli("officer", &[&destroy[..], &["--yes"]].concat());
    assert_eq!(ambiguous.status.code(), Some(2), "two keys fit: {}", words(&ambiguous));
}
