//! What the store keeps of a key in the token: its object's id, and a MAC by a key of the token over everything that the
//! store says of it. A row in which something was changed does not open.

use claviger_hsm_api::{Algorithm, DriverError, Kcv, NewKey, Raised, StoredKey};
use claviger_hsm_engine::Device;
use cryptoki_sys as ck;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::device::OnSession;
use crate::driver::NAME;
use crate::library::Template;
use crate::mechanisms::Mechanism;
use crate::object::{Flags, Object, temporary};
use crate::proven::Skill;

/// First byte of an opaque part: the layout `version || MAC (16) || check value of the left half (3) || object id`; zeros
/// for a key without a left half.
const LAYOUT: u8 = 2;
/// The label of the key that MACs records, in each token of ours.
pub(crate) const RECORD_KEY: &str = "claviger record key";

/// What is MACed, in this order; changing it needs a new layout number.
#[derive(Serialize)]
struct Header<'a> {
    layout: u8,
    sealed: &'a Sealed,
    key: &'a NewKey,
    kcv: &'a Kcv,
    #[serde(skip_serializing_if = "Option::is_none")]
    raised: Option<Raised>,
}

/// A key's objects in the token.
#[derive(Serialize)]
pub(crate) struct Sealed {
    /// The id of its object.
    pub(crate) object: Vec<u8>,
    /// What its left half shows; zeros for a key without one.
    pub(crate) left: [u8; 3],
}

/// A stored key of an object.
pub(crate) fn seal(
    device: &OnSession<'_>,
    sealed: Sealed,
    key: NewKey,
    kcv: Kcv,
    raised: Option<Raised>,
) -> Result<StoredKey, DriverError> {
    let record_key = record_key(device)?;
    let tag = tag(device, &record_key, &Header { layout: LAYOUT, sealed: &sealed, key: &key, kcv: &kcv, raised })?;
    let opaque = [&[LAYOUT][..], &tag, &sealed.left, &sealed.object].concat();
    Ok(StoredKey { key, kcv, raised, opaque })
}

/// The object that an opaque part speaks of, whether it is authentic or not.
pub(crate) fn held(opaque: &[u8]) -> Option<&[u8]> {
    opaque.get(20..)
}

/// The key's objects, if the stored key is as it was sealed.
pub(crate) fn unseal(device: &OnSession<'_>, stored: &StoredKey) -> Result<Sealed, DriverError> {
    let changed = || {
        let reason = format!("key {} was changed in the store, or belongs to another token", stored.key.id);
        DriverError::wrong_key(NAME, "open", reason)
    };
    let (&[layout, ref found @ ..], rest) = stored.opaque.split_first_chunk::<17>().ok_or_else(changed)?;
    let (left, object) = rest.split_first_chunk::<3>().ok_or_else(changed)?;
    if layout != LAYOUT {
        let reason = format!("key {} has layout {layout}, which this version does not know", stored.key.id);
        return Err(DriverError::backend(NAME, "open", reason));
    }
    let sealed = Sealed { object: object.to_vec(), left: *left };
    let StoredKey { key, kcv, raised, .. } = stored;
    let header = Header { layout: LAYOUT, sealed: &sealed, key, kcv, raised: *raised };
    // Two processes that found none may have made one each.
    for record_key in record_keys(device)? {
        let wanted = tag(device, &record_key, &header)?;
        if bool::from(wanted.as_slice().ct_eq(found)) {
            return Ok(sealed);
        }
    }
    Err(changed())
}

fn tag(device: &OnSession<'_>, record_key: &Object<'_>, header: &Header<'_>) -> Result<Vec<u8>, DriverError> {
    let header = serde_json::to_vec(header).map_err(|error| DriverError::caller(NAME, "seal", error))?;
    let mut tag = match record_key.algorithm {
        Algorithm::HmacSha256 => device.hmac(record_key, &header)?,
        _ => device.cmac(record_key, &header)?,
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

/// The token's record key that new records get, made by whoever needs it first.
fn record_key<'a>(device: &OnSession<'a>) -> Result<Object<'a>, DriverError> {
    if let Some(key) = record_keys(device)?.into_iter().next() {
        return Ok(key);
    }
    make(device, algorithm(device)?)?;
    let made = record_keys(device)?.into_iter().next();
    made.ok_or_else(|| DriverError::backend(NAME, "C_GenerateKey", "the record key is not there"))
}

/// Every record key of the token, that of the lowest id first: everybody takes the same.
fn record_keys<'a>(device: &OnSession<'a>) -> Result<Vec<Object<'a>>, DriverError> {
    let algorithm = algorithm(device)?;
    let (lent, library) = (device.lent, &device.lent.connection.library);
    let template =
        Template::default().number(ck::CKA_CLASS, ck::CKO_SECRET_KEY).bytes(ck::CKA_LABEL, RECORD_KEY.as_bytes());
    let mut named = Vec::new();
    for handle in lent.check(library.find(lent.session, template))? {
        let id = lent.check(library.attribute(lent.session, handle, ck::CKA_ID))?;
        named.push((id.map(|id| id.to_vec()), handle));
    }
    if named.is_empty() {
        lent.still_logged_in()?;
    }
    named.sort();
    let key = |(_, handle)| Object { handle, algorithm, encrypts: false, left: None, temporary: None };
    Ok(named.into_iter().map(key).collect())
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
