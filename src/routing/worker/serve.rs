//! The worker's side: one driver, asked over standard input, which is a socket.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use claviger_hsm_api::{DriverError, HsmDriver, Secret};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use super::frame::{Assignment, Bytes, Reply, Request, Response, Task, read, write};

/// Serves a driver of the registry, by its table as TOML, until the daemon closes its end.
///
/// # Errors
/// If the frames are not what they should be, or the driver's table is wrong.
pub fn serve(driver: &str, settings: &str) -> io::Result<()> {
    let socket = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    jail()?;
    // No buffer in between: it would keep the keys that passed through it.
    let mut from = socket.try_clone()?;
    let Some(assignment) = read::<Assignment>(&mut from)? else { return Ok(()) };
    let driver = claviger_hsm_registry::find(driver)
        .ok_or_else(|| io::Error::other(format!("this build has no driver `{driver}`")))?;
    let settings: toml::Table = settings.parse().map_err(io::Error::other)?;
    let opened = (driver.open)(settings, None);
    let to = Arc::new(Mutex::new(socket));
    let (queue, tasks) = channel::<Request>();
    let tasks = Arc::new(Mutex::new(tasks));
    for _ in 0..assignment.threads.max(1) {
        let (tasks, to, opened) = (Arc::clone(&tasks), Arc::clone(&to), opened.clone());
        std::thread::spawn(move || work(&tasks, &to, opened.as_ref()));
    }
    while let Some(request) = read(&mut from)? {
        if queue.send(request).is_err() {
            break;
        }
    }
    // Whatever is still running is of no use to anybody any more.
    Ok(())
}

/// What the vendor's code does not need: capabilities, new privileges, a core image with keys in it.
fn jail() -> io::Result<()> {
    claviger_locked_memory::forbid_core_dumps()?;
    set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

fn work(tasks: &Mutex<Receiver<Request>>, to: &Mutex<UnixStream>, driver: Result<&Arc<dyn HsmDriver>, &DriverError>) {
    loop {
        let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Request { number, task }) = next else { return };
        let (epoch, result) = match driver {
            Ok(driver) => {
                let result = answer(&**driver, task);
                claviger_locked_memory::wipe_stack();
                (driver.epoch(), result)
            }
            Err(error) => (0, Err(error.clone())),
        };
        let mut frame = zeroize::Zeroizing::new(Vec::new());
        // The frame first, then the lock: others may answer meanwhile.
        let sent = write(&mut *frame, &Response { number, epoch, result });
        let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.and_then(|()| to.write_all(&frame)).is_err() {
            return;
        }
    }
}

fn answer(driver: &dyn HsmDriver, task: Task) -> Result<Reply, DriverError> {
    match task {
        Task::Identity => Ok(Reply::Identity(driver.identity())),
        Task::KeepAlive => driver.keep_alive().map(|()| Reply::Done),
        Task::Probe => driver.probe().map(Reply::Proofs),
        Task::Findings => driver.findings().map(Reply::Findings),
        Task::Exposure { recipe, ceilings } => driver.exposure(&recipe, &ceilings).map(Reply::Exposure),
        Task::Run { keys, recipe, mut batch } => {
            let outcome = driver.run(&keys, &recipe, &batch);
            batch.wipe();
            outcome.map(Reply::Outcome)
        }
        Task::CanTake { arrival, attributes } => driver.can_take(arrival, &attributes).map(|()| Reply::Done),
        Task::Generate { key } => driver.generate(key).map(Reply::Stored),
        Task::Import { key, secret } => driver.import(key, Secret::copy_of(&secret.0)).map(Reply::Stored),
        Task::Unwrap { key, under, wrapped } => driver.unwrap(key, &under, &wrapped).map(Reply::Stored),
        Task::Adopt { key, object, others } => driver.adopt(key, &object, &others).map(Reply::Stored),
        Task::Open { key } => driver.open(&key).map(Reply::Handle),
        Task::Close { handle } => {
            driver.close(&handle);
            Ok(Reply::Done)
        }
        Task::Restate { key, state, raised } => driver.restate(&key, state, raised).map(Reply::Stored),
        Task::Destroy { key } => driver.destroy(&key).map(|()| Reply::Done),
        Task::Abandon { key_id } => driver.abandon(&key_id).map(|()| Reply::Done),
        Task::Random { len } => driver.random(len).map(|bytes| Reply::Bytes(Bytes(bytes.into()))),
        Task::Attest { name, message } => driver.attest(&name, &message).map(Reply::Attestation),
    }
}
