//! What has gone wrong with sessions, handles and logins elsewhere, done to this driver. Each test names the failure by
//! its number in `docs/sessions.md`.

use std::path::Path;
use std::process::Command;

use claviger_driver_pkcs11::Pkcs11Driver;
use claviger_hsm_api::{Fault, HsmDriver};
use sha2::{Digest, Sha256};

use crate::keys::{aes, triple_des};
use crate::parts::{self, run_in_child};
use crate::raw::Raw;

/// The id of a key's object in the token.
fn object_id(key_id: &str) -> Vec<u8> {
    Sha256::digest(key_id)[..16].to_vec()
}

/// A session and a login for every call would be a hundred times slower, and use the token's sessions up.
#[test]
fn s01_calls_share_sessions_and_one_login() {
    if run_in_child("sessions::s01_calls_share_sessions_and_one_login") {
        return;
    }
    let (part, spy) = parts::softhsm("s01").spied();
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    let before = spy.count("C_OpenSession");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| known.mac(&driver, &handle).unwrap()));
        }
    });
    assert_eq!(spy.count("C_Login"), 1);
    let opened = spy.count("C_OpenSession") - before;
    assert!(opened < part.config.sessions, "{opened} sessions were opened for 200 calls of four threads");
}

/// After a reconnection the token numbers its objects anew: the old number of one key is the new one of another.
#[test]
fn s02_an_old_handle_is_never_another_key() {
    if run_in_child("sessions::s02_an_old_handle_is_never_another_key") {
        return;
    }
    let part = parts::softhsm("s02");
    let driver = part.driver();
    let (one, other) = (aes(&driver, "one", 1), aes(&driver, "other", 2));
    let old = driver.open(&one.stored).unwrap();
    one.mac(&driver, &old).unwrap();
    let raw = Raw::beside(&part);
    let number = raw.find(raw.session(), &object_id("one"))[0];
    raw.finalize();
    assert_eq!(raw.initialize(), 0);
    let session = raw.session();
    raw.login(session);
    raw.use_numbers_up_to(session, number);
    assert_eq!(raw.find(session, &object_id("other")), [number], "the other key has the number of the first");
    let new = (0..3).find_map(|_| driver.open(&other.stored).ok()).unwrap();
    assert_ne!(old.epoch, new.epoch);
    assert_eq!(one.mac(&driver, &old).unwrap_err().fault, Fault::Backend);
    other.mac(&driver, &new).unwrap();
    one.mac(&driver, &driver.open(&one.stored).unwrap()).unwrap();
}

/// Tokens log idle sessions out; then every session of the process is.
#[test]
fn s03_a_lost_login_is_made_again_once() {
    if run_in_child("sessions::s03_a_lost_login_is_made_again_once") {
        return;
    }
    let (part, spy) = parts::softhsm("s03").spied();
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    let raw = Raw::beside(&part);
    raw.logout(raw.session());
    driver.keep_alive().unwrap();
    assert_eq!(spy.count("C_Login"), 2, "keeping it alive logs in again");
    raw.logout(raw.session());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| known.mac_somehow(&driver, &mut handle.clone()));
        }
    });
    assert_eq!(spy.count("C_Login"), 3, "one of eight threads logs in for all");
}

/// A module that is finalised, or whose sessions are closed, while another thread is inside crashes or answers with
/// somebody else's objects.
#[test]
fn s05_a_lost_token_is_left_by_everybody_before_it_is_connected_anew() {
    if run_in_child("sessions::s05_a_lost_token_is_left_by_everybody_before_it_is_connected_anew") {
        return;
    }
    let (part, spy) = parts::softhsm("s05").spied();
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    let lost: Vec<_> = (0..12).map(|number| aes(&driver, &format!("lost {number}"), 2)).collect();
    let raw = Raw::beside(&part);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut handle = handle.clone();
                (0..150).for_each(|_| known.mac_somehow(&driver, &mut handle));
            });
        }
        // A handle that the token does not know any more counts as a loss of the token.
        for (number, other) in lost.iter().enumerate() {
            if let Ok(opened) = driver.open(&other.stored) {
                let session = raw.session();
                raw.destroy(session, raw.find(session, &object_id(&format!("lost {number}")))[0]);
                raw.close(session);
                other.mac(&driver, &opened).unwrap_err();
            }
        }
    });
    assert!(spy.count("C_Login") > 2, "the token was lost on the way");
    assert_eq!(spy.count("C_Finalize"), 0);
}

/// Tokens have sixteen sessions, or six: whoever opens more takes them from everybody.
#[test]
fn s06_sessions_are_bounded_and_waiting_ends() {
    if run_in_child("sessions::s06_sessions_are_bounded_and_waiting_ends") {
        return;
    }
    let mut part = parts::softhsm("s06");
    (part.config.sessions, part.config.queue_ms) = (2, 150);
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    let raw = Raw::beside(&part);
    let waited = std::thread::scope(|scope| {
        // One session keeps the login, so that one call at a time is served.
        let busy = scope.spawn(|| known.many(&driver, &handle, 60_000));
        let mut waited = None;
        while !busy.is_finished() {
            waited = waited.or(known.mac(&driver, &handle).err());
            assert!(raw.sessions().len() <= 2, "{:?}", raw.sessions());
        }
        busy.join().unwrap();
        waited
    });
    let waited = waited.unwrap();
    assert!(waited.reason.contains("no session became free in 150 ms"), "{waited}");
    assert_eq!(waited.fault, Fault::Backend, "another backend may answer");
    known.mac(&driver, &handle).unwrap();
}

/// A session that the token has closed would fail every call that it is lent to.
#[test]
fn s07_a_bad_session_is_not_lent_again() {
    if run_in_child("sessions::s07_a_bad_session_is_not_lent_again") {
        return;
    }
    let part = parts::softhsm("s07");
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let mut handle = driver.open(&known.stored).unwrap();
    known.mac(&driver, &handle).unwrap();
    let raw = Raw::beside(&part);
    let sessions = raw.sessions();
    assert!(sessions.len() >= 2, "one keeps the login, another was lent");
    sessions[1..].iter().for_each(|session| raw.close(*session));
    known.mac_somehow(&driver, &mut handle);
    (0..20).for_each(|_| known.mac(&driver, &handle).unwrap());
}

/// An operation that was begun and not ended would meet the next call.
#[test]
fn s08_a_session_with_an_operation_left_in_it_is_closed() {
    if run_in_child("sessions::s08_a_session_with_an_operation_left_in_it_is_closed") {
        return;
    }
    let part = parts::softhsm("s08");
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    known.mac(&driver, &handle).unwrap();
    let raw = Raw::beside(&part);
    let lent: Vec<_> = raw.sessions()[1..].to_vec();
    for session in &lent {
        let key = raw.find(*session, &object_id("one"))[0];
        raw.begin_mac(*session, key);
    }
    let met = lent.iter().filter_map(|_| known.mac(&driver, &handle).err()).collect::<Vec<_>>();
    assert!(met.iter().any(|error| error.reason.contains("CKR_OPERATION_ACTIVE")), "{met:?}");
    (0..20).for_each(|_| known.mac(&driver, &handle).unwrap());
    assert!(raw.sessions().iter().all(|session| !lent.contains(session)), "they were closed");
}

/// Two parts of a program that both initialise a module; a module that is not told to lock.
#[test]
fn s10_a_module_is_initialised_once_and_told_to_lock() {
    if run_in_child("sessions::s10_a_module_is_initialised_once_and_told_to_lock") {
        return;
    }
    let (part, spy) = parts::softhsm("s10").spied();
    let _somebody_else = Raw::beside(&part);
    let known = aes(&part.driver(), "one", 1);
    let link = part.directory.path().join("the-same.so");
    std::os::unix::fs::symlink(&part.config.module, &link).unwrap();
    let mut config = part.config.clone();
    config.module = link;
    let second = Pkcs11Driver::new(config);
    known.mac(&second, &second.open(&known.stored).unwrap()).unwrap();
    assert_eq!(spy.count("C_Initialize"), 1, "whatever path it is known by");
    let text = spy.text();
    let (_, call) = text.split_once("C_Initialize").unwrap();
    let call = call.split("Returned").take(2).collect::<String>();
    println!("{call}");
    assert!(call.contains("flags: 2") && call.contains("CKR_CRYPTOKI_ALREADY_INITIALIZED"), "{call}");
}

/// Slots are numbered as it comes; labels and serial numbers stay.
#[test]
fn s12_a_token_is_found_in_whatever_slot_it_is() {
    if run_in_child("sessions::s12_a_token_is_found_in_whatever_slot_it_is") {
        return;
    }
    let part = parts::softhsm("s12");
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let mut handle = driver.open(&known.stored).unwrap();
    let raw = Raw::beside(&part);
    for other in ["before", "beside", "behind"] {
        parts::softhsm(other);
    }
    raw.finalize();
    known.mac_somehow(&driver, &mut handle);
}

/// Whoever logs in second is told that somebody is logged in already, which is what was wanted.
#[test]
fn s13_that_somebody_is_logged_in_already_is_as_good() {
    if run_in_child("sessions::s13_that_somebody_is_logged_in_already_is_as_good") {
        return;
    }
    let (part, spy) = parts::softhsm("s13").spied();
    let raw = Raw::beside(&part);
    raw.login(raw.session());
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    known.mac(&driver, &driver.open(&known.stored).unwrap()).unwrap();
    assert!(spy.text().contains("CKR_USER_ALREADY_LOGGED_IN"));
}

/// Listing a token's objects for each request is what made others slow.
#[test]
fn s14_a_key_that_is_open_is_not_looked_for_again() {
    if run_in_child("sessions::s14_a_key_that_is_open_is_not_looked_for_again") {
        return;
    }
    let (part, spy) = parts::softhsm("s14").spied();
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    let before = spy.count("C_FindObjectsInit");
    (0..100).for_each(|_| known.mac(&driver, &handle).unwrap());
    assert_eq!(spy.count("C_FindObjectsInit"), before);
}

/// A key of two objects whose destruction was interrupted between them.
#[test]
fn s15_half_a_destruction_is_finished_by_another() {
    if run_in_child("sessions::s15_half_a_destruction_is_finished_by_another") {
        return;
    }
    let part = parts::softhsm("s15");
    let driver = part.driver();
    let raw = Raw::beside(&part);
    let session = raw.session();
    let whole = object_id("two objects");
    let left = [&whole[..], b"left"].concat();
    for gone in [&whole, &left] {
        let stored = triple_des(&driver, "two objects");
        let found = raw.find(session, gone);
        assert_eq!(found.len(), 1);
        raw.destroy(session, found[0]);
        driver.destroy(&stored).unwrap();
        driver.destroy(&stored).unwrap();
        assert!(raw.find(session, &whole).is_empty() && raw.find(session, &left).is_empty());
    }
}

/// An object that is not there is no reason to forget its key: it is told from a token that has logged everybody out.
#[test]
fn s16_a_missing_object_is_told_from_a_lost_login() {
    if run_in_child("sessions::s16_a_missing_object_is_told_from_a_lost_login") {
        return;
    }
    let part = parts::softhsm("s16");
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let raw = Raw::beside(&part);
    raw.logout(raw.session());
    let hidden = driver.open(&known.stored).unwrap_err();
    assert_eq!(hidden.fault, Fault::Backend, "{hidden}");
    driver.open(&known.stored).unwrap();
    let session = raw.session();
    raw.destroy(session, raw.find(session, &object_id("one"))[0]);
    let missing = driver.open(&known.stored).unwrap_err();
    assert!(missing.fault == Fault::WrongKey && missing.reason.contains("does not hold the object"), "{missing}");
}

/// Two tokens that should hold the same keys, and one does not.
#[test]
fn s20_another_key_under_the_same_id_does_not_open() {
    if run_in_child("sessions::s20_another_key_under_the_same_id_does_not_open") {
        return;
    }
    let part = parts::softhsm("s20");
    let driver = part.driver();
    let known = aes(&driver, "one", 1);
    let handle = driver.open(&known.stored).unwrap();
    let (raw, id) = (Raw::beside(&part), object_id("one"));
    let session = raw.session();
    raw.destroy(session, raw.find(session, &id)[0]);
    raw.create_aes(session, true, &id, &[2; 16]);
    // Whether the token knows that the handle is dead or not, it makes no MAC of the other key.
    let _ = known.mac(&driver, &handle);
    let drifted = (0..2).map(|_| driver.open(&known.stored).unwrap_err()).last().unwrap();
    assert!(drifted.fault == Fault::WrongKey && drifted.reason.contains("another KCV"), "{drifted}");
}

/// The tests above are worth nothing without the spy.
#[test]
fn the_spy_is_there() {
    assert!(Path::new(parts::SPY).exists(), "`./test --setup` installs opensc-pkcs11");
    assert!(Command::new("softhsm2-util").arg("--version").output().is_ok());
}
