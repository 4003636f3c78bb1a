//! What the store keeps of a key in the token: its object's id, and a MAC by a key of the token over everything that the
//! store says of it. A row in which something was changed does not open.

use claviger_hsm_api::{Algorithm, DriverError, Kcv, NewKey, StoredKey};
use claviger_hsm_engine::Device;
use cryptoki_sys as ck;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::device::OnSession;
use crate::driver::NAME;
use crate::library::{Mechanism, Template};
use crate::object::{Flags, Object, temporary};
use crate::proven::Skill;

/// First byte of an opaque part: the layout `version || MAC (16) || object id`.
const LAYOUT: u8 = 1;
/// The label of the key that MACs records, in each token of ours.
pub(crate) const RECORD_KEY: &str = "claviger record key";

/// What is MACed, in this order; changing it needs a new layout number.
#[derive(Serialize)]
struct Header<'a> {
    layout: u8,
    object: &'a [u8],
    key: &'a NewKey,
    kcv: &'a Kcv,
}

/// A stored key of an object.
pub(crate) fn seal(device: &OnSession<'_>, object: &[u8], key: NewKey, kcv: Kcv) -> Result<StoredKey, DriverError> {
    let tag = tag(device, object, &key, &kcv)?;
    let opaque = [&[LAYOUT][..], &tag, object].concat();
    Ok(StoredKey { key, kcv, opaque })
}

/// The object's id, if the stored key is as it was sealed.
pub(crate) fn unseal(device: &OnSession<'_>, stored: &StoredKey) -> Result<Vec<u8>, DriverError> {
    let changed = || {
        let reason = format!("key {} was changed in the store, or belongs to another token", stored.key.id);
        DriverError::wrong_key(NAME, "open", reason)
    };
    let (&[layout, ref found @ ..], object) = stored.opaque.split_first_chunk::<17>().ok_or_else(changed)?;
    if layout != LAYOUT {
        let reason = format!("key {} has layout {layout}, which this version does not know", stored.key.id);
        return Err(DriverError::backend(NAME, "open", reason));
    }
    let wanted = tag(device, object, &stored.key, &stored.kcv)?;
    if bool::from(wanted.as_slice().ct_eq(found)) { Ok(object.to_vec()) } else { Err(changed()) }
}

fn tag(device: &OnSession<'_>, object: &[u8], key: &NewKey, kcv: &Kcv) -> Result<Vec<u8>, DriverError> {
    let header = serde_json::to_vec(&Header { layout: LAYOUT, object, key, kcv })
        .map_err(|error| DriverError::caller(NAME, "seal", error))?;
    let record_key = record_key(device)?;
    let mut tag = match record_key.algorithm {
        Algorithm::HmacSha256 => device.hmac(&record_key, &header)?,
        _ => device.cmac(&record_key, &header)?,
    };
    tag.truncate(16);
    Ok(tag)
}

/// Which MAC records get: the token's best.
fn algorithm(device: &OnSession<'_>) -> Result<Algorithm, DriverError> {
    let has = |algorithm, skill| device.proven.has(algorithm, skill) && device.proven.has(algorithm, Skill::Generate);
    if has(Algorithm::HmacSha256, Skill::Hmac) {
        Ok(Algorithm::HmacSha256)
    } else if has(Algorithm::Aes256, Skill::Cmac) {
        Ok(Algorithm::Aes256)
    } else {
        let reason =
            "the token makes neither HMAC-SHA-256 nor AES-CMAC, so it cannot vouch for the records of its keys";
        Err(DriverError::unsupported(NAME, "seal", reason))
    }
}

/// The token's record key, made by whoever needs it first.
fn record_key<'a>(device: &OnSession<'a>) -> Result<Object<'a>, DriverError> {
    let algorithm = algorithm(device)?;
    let handle = match first(device)? {
        Some(handle) => handle,
        None => {
            make(device, algorithm)?;
            // Another process may have made one as well: everybody takes the same.
            first(device)?.ok_or_else(|| DriverError::backend(NAME, "C_GenerateKey", "the record key is not there"))?
        }
    };
    Ok(Object { handle, algorithm, encrypts: false, left: None, temporary: None })
}

/// The record key of the lowest id.
fn first(device: &OnSession<'_>) -> Result<Option<ck::CK_OBJECT_HANDLE>, DriverError> {
    let (lent, library) = (device.lent, &device.lent.connection.library);
    let template =
        Template::default().number(ck::CKA_CLASS, ck::CKO_SECRET_KEY).bytes(ck::CKA_LABEL, RECORD_KEY.as_bytes());
    let found = lent.check(library.find(lent.session, template))?;
    if let [one] = found.as_slice() {
        return Ok(Some(*one));
    }
    let mut named = Vec::with_capacity(found.len());
    for handle in found {
        let id = lent.check(library.attribute(lent.session, handle, ck::CKA_ID))?;
        named.push((id.map(|id| id.to_vec()), handle));
    }
    named.sort();
    Ok(named.first().map(|(_, handle)| *handle))
}

fn make(device: &OnSession<'_>, algorithm: Algorithm) -> Result<(), DriverError> {
    let (lent, library) = (device.lent, &device.lent.connection.library);
    let mechanisms = device.mechanisms(algorithm)?;
    let none = Flags { encrypt: false, decrypt: false, derive: false, wrap: false, ..Flags::TEMPORARY };
    let mut id = [0; 16];
    lent.check(library.random(lent.session, &mut id))?;
    let template = temporary(&mechanisms, none)
        .flag(ck::CKA_TOKEN, true)
        .bytes(ck::CKA_ID, &id)
        .bytes(ck::CKA_LABEL, RECORD_KEY.as_bytes())
        .number(ck::CKA_VALUE_LEN, algorithm.key_len() as ck::CK_ULONG);
    lent.check(library.generate(lent.session, Mechanism::Plain(mechanisms.generate), template)).map(drop)
}
