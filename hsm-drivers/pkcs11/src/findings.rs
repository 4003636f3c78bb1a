//! How a token differs from what its users may expect: each deviation by an id, with its cause and what to do.

use std::borrow::Cow;

use claviger_hsm_api::{Algorithm, DriverError, Exposure, Finding};
use cryptoki_sys as ck;

use crate::library::Template;
use crate::object::{Flags, stated};
use crate::proven::{Proven, Skill};
use crate::token::Lent;

pub(crate) fn findings(lent: &Lent<'_>, proven: &Proven) -> Result<Vec<Finding>, DriverError> {
    let mut found = objects_beyond_their_ceiling(lent)?;
    found.extend(listed_and_not_proved(lent, proven)?);
    found.extend(missing(proven));
    Ok(found)
}

fn finding(id: &'static str, cause: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { id: Cow::Borrowed(id), cause: cause.into(), remedy: remedy.into() }
}

/// Objects of ours that somebody has allowed more than their label's ceiling.
fn objects_beyond_their_ceiling(lent: &Lent<'_>) -> Result<Vec<Finding>, DriverError> {
    let library = &lent.connection.library;
    let template = Template::default()
        .number(ck::CKA_CLASS, ck::CKO_SECRET_KEY)
        .flag(ck::CKA_TOKEN, true)
        .flag(ck::CKA_DERIVE, true);
    let mut found = Vec::new();
    for object in lent.check(library.find(lent.session, template))? {
        let label = lent.check(library.attribute(lent.session, object, ck::CKA_LABEL))?.unwrap_or_default();
        let label = String::from_utf8_lossy(&label).into_owned();
        let Some((ceiling, movable)) = stated(&label) else { continue };
        let flags = Flags::read(lent, object)?;
        // A key that derives is a master key: it deciphers never, and enciphers only if card keys may leave.
        let too_much = flags.extractable && !movable && ceiling < Exposure::MasterKey
            || ceiling < Exposure::CardKey && (flags.encrypt || flags.decrypt);
        if too_much {
            let cause = format!("the object `{label}` may be used beyond its ceiling");
            found.push(finding(
                "object-beyond-ceiling",
                cause,
                "it is not opened: find out who changed it, destroy it and bring the key in again",
            ));
        }
    }
    Ok(found)
}

/// What the token lists and could not be shown to do.
fn listed_and_not_proved(lent: &Lent<'_>, proven: &Proven) -> Result<Vec<Finding>, DriverError> {
    let listed = lent.check(lent.connection.library.listed(lent.connection.info.slot))?;
    let algorithms = [Algorithm::TripleDes, Algorithm::Aes128, Algorithm::Sm4, Algorithm::HmacSha256];
    let mut found = Vec::new();
    let mut note = |mechanism: Option<ck::CK_MECHANISM_TYPE>, algorithm: Algorithm, skill: Skill| {
        if mechanism.is_some_and(|mechanism| listed.contains(&mechanism)) && !proven.has(algorithm, skill) {
            found.push(finding(
                "listed-not-proved",
                format!("the token lists `{}` of {algorithm}, and its answer was not the known one", skill.as_str()),
                "nothing is built on it; ask the vendor, or update the module",
            ));
        }
    };
    for algorithm in algorithms {
        let Ok(mechanisms) = proven.mechanisms(algorithm) else { continue };
        note(mechanisms.hmac, algorithm, Skill::Hmac);
        let cipher = mechanisms.cipher;
        note(cipher.map(|cipher| cipher.ecb), algorithm, Skill::Ecb);
        note(cipher.map(|cipher| cipher.cbc), algorithm, Skill::Cbc);
        note(cipher.and_then(|cipher| cipher.cmac), algorithm, Skill::Cmac);
        note(cipher.and_then(|cipher| cipher.derive), algorithm, Skill::Derive);
        note(cipher.and_then(|cipher| cipher.key_wrap), algorithm, Skill::KeyWrap);
    }
    if listed.contains(&ck::CKM_DES_ECB) && proven.has(Algorithm::Des, Skill::Ecb) {
        found.push(finding(
            "single-des-by-triple-des",
            "single DES is listed by many tokens that refuse it",
            "Claviger uses triple DES with two equal halves, which is the same cipher",
        ));
    }
    Ok(found)
}

fn missing(proven: &Proven) -> Vec<Finding> {
    let mut found = Vec::new();
    if !proven.has(Algorithm::Sm4, Skill::Ecb) {
        let numbered = proven.mechanisms(Algorithm::Sm4).is_ok();
        let cause = if numbered {
            "the numbers that the configuration gives to SM4 did not give the known answers"
        } else {
            "PKCS#11 has no SM4"
        };
        found.push(finding(
            "no-sm4",
            cause,
            "set `sm4` to the numbers of the vendor's header file, or use another backend for SM4 keys",
        ));
    }
    let dispersing = [Algorithm::TripleDes, Algorithm::Aes128];
    for algorithm in dispersing.into_iter().filter(|algorithm| proven.has(*algorithm, Skill::Derive)) {
        if !proven.has(algorithm, Skill::CheckValue) {
            found.push(finding(
                "no-check-value",
                format!("the token shows no CKA_CHECK_VALUE of {algorithm} keys"),
                "the check value of a key that does not encipher is taken from a child that is shown and destroyed",
            ));
        }
        if !proven.has(algorithm, Skill::WrapEcb) {
            found.push(finding(
                "no-wrap-of-card-keys",
                format!("card keys of {algorithm} cannot leave wrapped in ECB by the token itself"),
                "personalisation lays them out in the worker, for keys whose ceiling is card-key",
            ));
        }
        found.push(finding(
            "pin-disperses",
            format!("CKA_DERIVE lets whoever has the PIN disperse {algorithm} master keys and read what comes out"),
            "guard the PIN as the keys: PKCS#11 cannot forbid a readable child",
        ));
    }
    if proven.has(Algorithm::TripleDes, Skill::Ecb) {
        found.push(finding(
            "tac-key-leaves",
            "PKCS#11 cannot XOR the halves of a key, which is what makes the key of a 3DES card's TAC",
            "card keys come out in bulk and the worker finishes, for keys whose ceiling is card-key",
        ));
    }
    for algorithm in [Algorithm::TripleDes, Algorithm::Aes128] {
        if proven.has(algorithm, Skill::Ecb) {
            found.push(finding(
                "new-card-key-leaves",
                format!("PKCS#11 wraps a key of {algorithm} without the header that WRITE KEY puts before it"),
                "the worker lays the new key out and the token enciphers it, for keys whose ceiling is card-key",
            ));
            if !proven.has(algorithm, Skill::Cmac) {
                found.push(finding(
                    "no-cmac",
                    format!("the token makes no CMAC of {algorithm}"),
                    "use MACs by CBC, or another backend for keys of CMACs",
                ));
            }
        }
    }
    if proven.has(Algorithm::TripleDes, Skill::Cbc) {
        found.push(finding(
            "generated-no-retail-mac",
            "the retail MAC takes a second object that a generated key cannot have",
            "bring 3DES keys of retail MACs in from components, or disperse them",
        ));
    }
    found
}
