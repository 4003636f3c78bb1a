//! One AES-CMAC verified over the API, by backend, one call at a time.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use claviger_client::{Client, Connection};
use serde_json::{Value, json};

use crate::raw::Raw;
use crate::token::{PIN, SOFTHSM, make_nss, softhsm};

const KEY: &str = "2B7E151628AED2A6ABF7158809CF4F3C";
const MESSAGE: &str = "6BC1BEE22E409F96E93D7E117393172A";
const MAC: &str = "070A16B46B4D4144F79BDD9DD04A287C";

pub(crate) fn report(folder: &Path, calls: usize, json: bool) {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let of_token = |table: &str| format!("driver = \"pkcs11\"\n{table}");
    let conf = format!("env = {{ SOFTHSM2_CONF = \"{}/softhsm2.conf\" }}\n", folder.display());
    let backends = [
        ("embedded", "driver = \"software\"\n".to_owned()),
        ("SoftHSM2", of_token(&(softhsm(folder) + &conf))),
        ("NSS", of_token(&make_nss(folder))),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (name, table) in backends {
        let times = runtime.block_on(by_api(folder, name, &table, calls));
        tell(&format!("by the API on {name}"), times, json);
    }
    let raw = Raw::new(SOFTHSM, PIN);
    let key = raw.key(cryptoki_sys::CKK_AES, &hex::decode(KEY).unwrap());
    let mut message = hex::decode(MESSAGE).unwrap();
    let times = (0..calls).map(|_| {
        let begun = Instant::now();
        let mac = raw.cmac(key, &mut message);
        let took = begun.elapsed();
        assert_eq!(hex::encode_upper(mac), MAC);
        took
    });
    tell("SoftHSM2 alone: C_SignInit and C_Sign", times.collect(), json);
}

fn tell(name: &str, mut times: Vec<Duration>, json: bool) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
    let [p50, p95, p99] = [50, 95, 99].map(at);
    if json {
        println!("{}", json!({ "bench": "latency", "of": name, "p50_us": p50, "p95_us": p95, "p99_us": p99 }));
    } else {
        println!("{name:<44} p50 {p50:>7.1} us  p95 {p95:>7.1} us  p99 {p99:>7.1} us");
    }
}

/// A daemon that ends with its value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn by_api(folder: &Path, name: &str, table: &str, calls: usize) -> Vec<Duration> {
    let data = folder.join(format!("dev-{name}"));
    let file = folder.join("backends.toml");
    std::fs::write(&file, format!("[[backend]]\nname = \"{name}\"\n{table}")).unwrap();
    let _daemon = Daemon(
        Command::new(env!("CARGO_BIN_EXE_claviger"))
            .args(["dev", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()])
            .args(["--backends", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = Instant::now();
    while !data.join("dev.json").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the daemon did not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let key = json!({ "tenant": "demo", "scheme": "generic", "role": "CMAC", "version": "01", "algorithm": "aes128" });
    let half: Vec<u8> = hex::decode(KEY).unwrap().iter().map(|byte| byte ^ 0x5A).collect();
    let import = json!({ "key": key, "components": [hex::encode(half), "5A".repeat(16)] });
    let _: Value = client(&data, "officer").post("/v1/keys/import", &import).await.unwrap();
    let body = json!({ "key": key, "padding": "none", "items": [{ "message": MESSAGE, "mac": MAC }] });
    let clearing = client(&data, "clearing");
    let mut times = Vec::with_capacity(calls);
    for call in 0..calls + calls / 10 {
        let begun = Instant::now();
        let found: Value = clearing.post("/v1/mac/verify", &body).await.unwrap();
        let took = begun.elapsed();
        assert_eq!(found["valid"], json!([true]));
        // The first ones open the key and warm the caches.
        if call >= calls / 10 {
            times.push(took);
        }
    }
    times
}

fn client(data: &Path, name: &str) -> Client {
    let address: Value = serde_json::from_slice(&std::fs::read(data.join("dev.json")).unwrap()).unwrap();
    Client::new(&Connection {
        url: address["url"].as_str().unwrap().to_owned(),
        ca: data.join("ca.pem"),
        certificate: data.join(format!("clients/{name}.pem")),
        key: data.join(format!("clients/{name}-key.pem")),
        passphrase: None,
        signer: None,
    })
    .unwrap()
}
