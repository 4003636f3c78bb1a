//! Keys as objects of the token: what they may do there, how they are found again, and whether an object is as it was
//! made.

use claviger_hsm_api::{
    Algorithm, DriverError, Exportability, Exposure, KeyAttributes, KeyRank, ModeOfUse, NewKey, Raised, Secret,
    StoredKey,
};
use cryptoki_sys as ck;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::driver::NAME;
use crate::library::Template;
use crate::mechanisms::Mechanisms;
use crate::token::Lent;

/// A key inside. A temporary one is destroyed when it is dropped.
pub(crate) struct Object<'a> {
    pub(crate) handle: ck::CK_OBJECT_HANDLE,
    pub(crate) algorithm: Algorithm,
    /// Whether the token lets it encipher.
    pub(crate) encrypts: bool,
    /// `K' || K'` of a stored key `K' || K''`.
    pub(crate) left: Option<Box<Object<'a>>>,
    /// The session it goes with, if it is temporary.
    pub(crate) temporary: Option<&'a Lent<'a>>,
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        if let Some(lent) = self.temporary {
            // A token that lost the session has lost the object too.
            let _ = lent.connection.library.destroy(lent.session, self.handle);
        }
    }
}

/// The `CKA_` flags that say what an object does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) encrypt: bool,
    pub(crate) decrypt: bool,
    pub(crate) sign: bool,
    pub(crate) derive: bool,
    pub(crate) wrap: bool,
    pub(crate) extractable: bool,
}

impl Flags {
    /// A key that was derived on the way and goes when the call ends.
    pub(crate) const TEMPORARY: Self =
        Self { encrypt: true, decrypt: true, sign: true, derive: true, wrap: true, extractable: false };

    /// What a key's object may do: a key above card level derives, and enciphers only if card keys may leave, be it for
    /// a time, since that is what enciphering gives out.
    pub(crate) fn of(key: &KeyAttributes, raised: Option<Raised>) -> Self {
        let extractable = key.exportability != Exportability::None;
        if matches!(key.rank, KeyRank::Dispersion { .. }) {
            let encrypt = highest(key, raised) >= Exposure::CardKey;
            return Self { encrypt, decrypt: false, sign: false, derive: true, wrap: false, extractable };
        }
        let cipher = key.algorithm.block_len().is_some();
        let (role, usage) = match key.usage.as_str().as_bytes() {
            [first, _] => (first.is_ascii_digit(), *first),
            _ => (false, 0),
        };
        let deciphers = matches!(key.mode, ModeOfUse::Both | ModeOfUse::DecryptOnly | ModeOfUse::Any);
        Self {
            // A CBC-MAC is the last block of a cipher text, so MAC keys encipher as well.
            encrypt: cipher,
            // What is wrapped under a key of this kind is unwrapped by deciphering blocks.
            decrypt: cipher && deciphers && (role || matches!(usage, b'D' | b'K')),
            sign: true,
            derive: cipher && role,
            wrap: cipher && (role || usage == b'K'),
            extractable,
        }
    }

    fn apply(self, template: Template) -> Template {
        template
            .flag(ck::CKA_SENSITIVE, true)
            .flag(ck::CKA_EXTRACTABLE, self.extractable)
            .flag(ck::CKA_ENCRYPT, self.encrypt)
            .flag(ck::CKA_DECRYPT, self.decrypt)
            .flag(ck::CKA_SIGN, self.sign)
            .flag(ck::CKA_VERIFY, false)
            .flag(ck::CKA_DERIVE, self.derive)
            .flag(ck::CKA_WRAP, self.wrap)
            .flag(ck::CKA_UNWRAP, false)
    }

    /// The flags of an object that is there.
    pub(crate) fn read(lent: &Lent<'_>, handle: ck::CK_OBJECT_HANDLE) -> Result<Self, DriverError> {
        let flag = |kind| flag(lent, handle, kind);
        Ok(Self {
            encrypt: flag(ck::CKA_ENCRYPT)?,
            decrypt: flag(ck::CKA_DECRYPT)?,
            sign: flag(ck::CKA_SIGN)?,
            derive: flag(ck::CKA_DERIVE)?,
            wrap: flag(ck::CKA_WRAP)? || flag(ck::CKA_UNWRAP)?,
            extractable: flag(ck::CKA_EXTRACTABLE)? || !flag(ck::CKA_SENSITIVE)?,
        })
    }

    /// What an object does beyond what it may, by the names of its attributes.
    pub(crate) fn beyond(self, allowed: Self) -> Vec<&'static str> {
        let all = [
            ("CKA_ENCRYPT", self.encrypt, allowed.encrypt),
            ("CKA_DECRYPT", self.decrypt, allowed.decrypt),
            ("CKA_SIGN", self.sign, allowed.sign),
            ("CKA_DERIVE", self.derive, allowed.derive),
            ("CKA_WRAP or CKA_UNWRAP", self.wrap, allowed.wrap),
            ("CKA_EXTRACTABLE, or not CKA_SENSITIVE", self.extractable, allowed.extractable),
        ];
        all.into_iter().filter(|(_, does, may)| *does && !*may).map(|(name, ..)| name).collect()
    }
}

/// The highest ceiling that a key has at any time.
fn highest(key: &KeyAttributes, raised: Option<Raised>) -> Exposure {
    raised.map_or(key.ceiling, |raised| raised.ceiling.max(key.ceiling))
}

fn flag(lent: &Lent<'_>, handle: ck::CK_OBJECT_HANDLE, kind: ck::CK_ATTRIBUTE_TYPE) -> Result<bool, DriverError> {
    let value = lent.check(lent.connection.library.attribute(lent.session, handle, kind))?;
    Ok(value.is_some_and(|value| value.first().is_some_and(|byte| *byte != 0)))
}

/// What every secret key's template begins with.
fn secret_key(key_type: ck::CK_KEY_TYPE, token: bool) -> Template {
    Template::default()
        .number(ck::CKA_CLASS, ck::CKO_SECRET_KEY)
        .number(ck::CKA_KEY_TYPE, key_type)
        .flag(ck::CKA_TOKEN, token)
        .flag(ck::CKA_PRIVATE, true)
}

/// The template of a key that lasts as long as a call.
pub(crate) fn temporary(mechanisms: &Mechanisms, flags: Flags) -> Template {
    flags.apply(secret_key(mechanisms.key_type, false))
}

/// The template of a stored key.
pub(crate) fn stored(key: &NewKey, mechanisms: &Mechanisms, id: &[u8]) -> Template {
    let flags = Flags::of(&key.attributes, None);
    let label = label(key, None);
    flags.apply(secret_key(mechanisms.key_type, true)).bytes(ck::CKA_ID, id).bytes(ck::CKA_LABEL, label.as_bytes())
}

/// Changes an object when its key's ceiling is raised for a time, and when that is over. A label that somebody else gave it
/// stays.
pub(crate) fn raise(
    lent: &Lent<'_>,
    handle: ck::CK_OBJECT_HANDLE,
    stored: &StoredKey,
    raised: Option<Raised>,
) -> Result<(), DriverError> {
    let library = &lent.connection.library;
    let (key, flags) = (&stored.key, Flags::of(&stored.key.attributes, raised));
    let mut template = Template::default().flag(ck::CKA_ENCRYPT, flags.encrypt);
    let shown = lent.check(library.attribute(lent.session, handle, ck::CKA_LABEL))?;
    if shown.is_some_and(|shown| shown.as_slice() == label(key, stored.raised).as_bytes()) {
        template = template.bytes(ck::CKA_LABEL, label(key, raised).as_bytes());
    }
    lent.check(library.change(lent.session, handle, template))
}

/// How operators of the token see a stored key: its name, and the ceiling that its flags must keep to.
fn label(key: &NewKey, raised: Option<Raised>) -> String {
    let ceiling = highest(&key.attributes, raised);
    let moves = if key.attributes.exportability == Exportability::None { "" } else { MOVABLE };
    format!("{} {} {}{CEILING}{ceiling}{moves}", key.name, key.attributes.algorithm, key.version)
}

const CEILING: &str = " ceiling ";
const MOVABLE: &str = " movable";

/// The ceiling that a label of ours states for a key, and whether the key may move.
pub(crate) fn stated(label: &str) -> Option<(Exposure, bool)> {
    let (_, stated) = label.rsplit_once(CEILING)?;
    let ceiling = stated.strip_suffix(MOVABLE);
    Some((ceiling.unwrap_or(stated).parse().ok()?, ceiling.is_some()))
}

/// The bytes that become the object of a key: single DES as triple DES of twice the same.
pub(crate) fn value(algorithm: Algorithm, secret: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(if algorithm == Algorithm::Des { secret.repeat(2) } else { secret.to_vec() })
}

/// `K' || K'` of a key that a retail MAC may be made with.
pub(crate) fn left_half(key: &KeyAttributes, secret: &Secret) -> Option<Zeroizing<Vec<u8>>> {
    has_left_half(key).then(|| Zeroizing::new(secret.expose()[..8].repeat(2)))
}

/// Whether a key's retail MAC takes a second object.
pub(crate) fn has_left_half(key: &KeyAttributes) -> bool {
    key.algorithm == Algorithm::TripleDes && !matches!(key.rank, KeyRank::Dispersion { .. })
}

/// The `CKA_ID` of a key's object: what a creation that was interrupted left can be found by it.
pub(crate) fn object_id(key_id: &str) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(key_id).into();
    std::array::from_fn(|at| digest[at])
}

/// The `CKA_ID` of a stored key's left half.
pub(crate) fn left_id(id: &[u8]) -> Vec<u8> {
    [id, b"left"].concat()
}

/// The one object of that id.
pub(crate) fn find(lent: &Lent<'_>, id: &[u8]) -> Result<Option<ck::CK_OBJECT_HANDLE>, DriverError> {
    let template = Template::default().number(ck::CKA_CLASS, ck::CKO_SECRET_KEY).bytes(ck::CKA_ID, id);
    match lent.check(lent.connection.library.find(lent.session, template))?.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        _ => Err(DriverError::backend(NAME, "C_FindObjects", "the token shows several objects of one id")),
    }
}

/// The one object that an operator names, by its label or by its id in hexadecimal, and its id.
pub(crate) fn named(lent: &Lent<'_>, name: &str) -> Result<(ck::CK_OBJECT_HANDLE, Vec<u8>), DriverError> {
    let library = &lent.connection.library;
    let secret_key = || Template::default().number(ck::CKA_CLASS, ck::CKO_SECRET_KEY);
    let by_label = secret_key().bytes(ck::CKA_LABEL, name.as_bytes());
    let mut found = lent.check(library.find(lent.session, by_label))?;
    if let (true, Ok(id)) = (found.is_empty(), hex::decode(name)) {
        found = lent.check(library.find(lent.session, secret_key().bytes(ck::CKA_ID, &id)))?;
    }
    let refused = |reason: &str| DriverError::caller(NAME, "adopt", format!("object `{name}`: {reason}"));
    let [handle] = found.as_slice() else {
        let reason = if found.is_empty() { "the token has none of this label or id" } else { "the token has several" };
        return Err(refused(reason));
    };
    let id =
        lent.check(library.attribute(lent.session, *handle, ck::CKA_ID))?.map(|id| id.to_vec()).unwrap_or_default();
    if id.is_empty() {
        return Err(refused("it has no CKA_ID by which it could be found again: give it one"));
    }
    match find(lent, &id)? {
        Some(_) => Ok((*handle, id)),
        None => Err(refused("it is not found by its own CKA_ID")),
    }
}
