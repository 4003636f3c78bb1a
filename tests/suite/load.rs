//! Calls that go on while something happens to the backends: each answer is checked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use claviger_client::{
    Backend, BackendList, Client, ImportKey, Key, KeyReference, MacGenerate, MacItem, MacResult, MacVerify, NewKey,
    PurseResult, Valid,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, components};
use crate::purse::{card_key, load};

pub(crate) const CMAC: &str = "2B7E151628AED2A6ABF7158809CF4F3C";
pub(crate) const MESSAGE: &str = "6BC1BEE22E409F96E93D7E117393172A";
/// CMAC of one block by AES-128: NIST SP 800-38B, example 2.
pub(crate) const MAC: &str = "070A16B46B4D4144F79BDD9DD04A287C";

pub(crate) fn generic(role: &str) -> NewKey {
    NewKey {
        scheme: "generic".to_owned(),
        role: role.to_owned(),
        algorithm: "aes128".to_owned(),
        factors: Vec::new(),
        ..card_key()
    }
}

pub(crate) fn reference() -> KeyReference {
    let NewKey { tenant, scheme, role, version, algorithm, factors, .. } = generic("CMAC");
    KeyReference { tenant, scheme, role, version, algorithm, factors }
}

/// Brings a key into backends.
pub(crate) async fn into(daemon: &Daemon, backends: &[&str], key: NewKey, value: &str) -> Key {
    let backends = backends.iter().map(|name| (*name).to_owned()).collect();
    let import =
        ImportKey { key: NewKey { backends, ..key }, components: components(value), kcv: None, odd_parity: false };
    daemon.client("officer").post("/v1/keys/import", &import).await.unwrap()
}

/// A MAC by the generic key: right, or what went wrong.
pub(crate) async fn mac(daemon: &Daemon) -> Result<(), claviger_client::ClientError> {
    let messages = vec![MESSAGE.to_owned()];
    let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
    let made: MacResult = daemon.client("card-management").post("/v1/mac/generate", &request).await?;
    assert_eq!(made.macs, [MAC]);
    Ok(())
}

/// The same, however often it has to be asked: within ten seconds.
pub(crate) async fn mac_before_long(daemon: &Daemon) {
    let begun = Instant::now();
    while let Err(error) = mac(daemon).await {
        assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A call of the load.
struct Call {
    at: Instant,
    took: Duration,
    failure: Option<String>,
}

/// Fewer calls are no load.
const LOAD: usize = 1000;

/// Callers that go on until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<Mutex<Vec<Call>>>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

/// One call, and what is wrong with its answer.
async fn one(client: &Client, clearing: &Client, kind: usize) -> Result<(), String> {
    let told = |error: claviger_client::ClientError| error.to_string();
    let right = |right: bool| if right { Ok(()) } else { Err("WRONG ANSWER".to_owned()) };
    match kind % 3 {
        0 => {
            let messages = vec![MESSAGE.to_owned()];
            let request = MacGenerate { key: reference(), padding: "none".to_owned(), length: None, messages };
            let made: MacResult = client.post("/v1/mac/generate", &request).await.map_err(told)?;
            right(made.macs == [MAC])
        }
        1 => {
            let item = |mac: &str| MacItem { message: MESSAGE.to_owned(), mac: mac.to_owned() };
            let items = vec![item(MAC), item("070A16B46B4D4144F79BDD9DD04A287D")];
            let request = MacVerify { key: reference(), padding: "none".to_owned(), items };
            let found: Valid = clearing.post("/v1/mac/verify", &request).await.map_err(told)?;
            right(found.valid == [true, false])
        }
        _ => {
            // The published example: MAC1 is right, so MAC2 comes.
            let found: PurseResult = client.post("/v1/purse", &load("2988AE5A", "4096")).await.map_err(told)?;
            right(found.valid && found.mac.as_deref() == Some("3A845BF0"))
        }
    }
}

impl Load {
    pub(crate) fn start(daemon: &Daemon, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let caller = |number: usize| {
            let (client, clearing) = (daemon.client("card-management"), daemon.client("clearing"));
            let (stop, calls) = (Arc::clone(&stop), Arc::clone(&calls));
            tokio::spawn(async move {
                for kind in number.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let at = Instant::now();
                    let failure = one(&client, &clearing, kind).await.err();
                    calls.lock().unwrap().push(Call { at, took: at.elapsed(), failure });
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
            })
        };
        let callers = (0..callers).map(caller).collect();
        Self { stop, calls, callers }
    }

    /// Lets the load run for a while after a fault, and says how long it took until a call that began after it went
    /// well.
    pub(crate) async fn after(&self, fault: &str, pause: Duration) {
        let begun = Instant::now();
        tokio::time::sleep(pause).await;
        let calls = self.calls.lock().unwrap();
        let since: Vec<&Call> = calls.iter().filter(|call| call.at >= begun).collect();
        let good = since.iter().filter(|call| call.failure.is_none()).map(|call| call.at + call.took - begun).min();
        let failed = since.len() - since.iter().filter(|call| call.failure.is_none()).count();
        let slowest = since.iter().map(|call| call.took).max().unwrap_or_default();
        println!("{fault}: first success after {good:?}, slowest {slowest:?}, {failed} of {} failed", since.len());
    }

    /// Ends the load: nothing may have failed.
    pub(crate) async fn end(self) {
        // However slow the machine: it goes on until it was a load.
        let begun = Instant::now();
        while self.calls.lock().unwrap().len() <= LOAD && begun.elapsed() < Duration::from_secs(30) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await.unwrap();
        }
        let calls = self.calls.lock().unwrap();
        let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
        calls
            .iter()
            .filter_map(|call| call.failure.as_deref())
            .for_each(|told| *failures.entry(told).or_default() += 1);
        let mut took: Vec<Duration> = calls.iter().map(|call| call.took).collect();
        took.sort();
        let at = |share: usize| took[took.len() * share / 1000];
        println!("{} calls: p50 {:?}, p99 {:?}, slowest {:?}", took.len(), at(500), at(990), took[took.len() - 1]);
        assert!(failures.is_empty(), "{failures:?}");
        assert!(calls.len() > LOAD, "{} calls are no load", calls.len());
    }
}

pub(crate) async fn status(daemon: &Daemon, name: &str) -> Backend {
    let list: BackendList = daemon.client("officer").get("/v1/backends", &()).await.unwrap();
    list.backends.into_iter().find(|backend| backend.name == name).unwrap()
}

pub(crate) async fn signal(daemon: &Daemon, backend: &str, signal: Signal) {
    for worker in status(daemon, backend).await.workers {
        kill_process(Pid::from_raw(worker as i32).unwrap(), signal).unwrap();
    }
}

/// The launcher is the daemon's only child.
pub(crate) fn launcher(daemon: &Daemon) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", daemon.process());
    let children = std::fs::read_to_string(children).unwrap();
    Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap()).unwrap()
}
