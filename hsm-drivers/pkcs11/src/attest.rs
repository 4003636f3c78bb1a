//! The daemon's own key pair in a token, by which its audit log is signed.

use claviger_hsm_api::{Attestation, DriverError};
use cryptoki_sys as ck;
use sha2::{Digest, Sha256};

use crate::driver::NAME;
use crate::library::Template;
use crate::mechanisms::Mechanism;
use crate::private_key::P256;
use crate::token::Lent;

/// `CKA_LABEL` of both halves.
const LABEL: &str = "claviger audit";
/// Bytes of an uncompressed point on P-256, and of a signature.
const POINT: usize = 65;
const SIGNATURE: usize = 64;

/// Signs by the pair of that name, which is made if it is not there.
pub(crate) fn attest(lent: &Lent<'_>, name: &str, message: &[u8]) -> Result<Attestation, DriverError> {
    // A token that has lost the login hides the key, and would be given another.
    lent.still_logged_in()?;
    let id = &Sha256::digest([LABEL, "\0", name].concat())[..16];
    let key = match only(lent, of(ck::CKO_PRIVATE_KEY, id))? {
        Some(key) => key,
        None => make(lent, id)?,
    };
    let Some(public) = only(lent, of(ck::CKO_PUBLIC_KEY, id))? else {
        return Err(DriverError::wrong_key(NAME, "attest", "the token has lost the public half of the daemon's key"));
    };
    let library = &lent.connection.library;
    let point = lent.check(library.attribute(lent.session, public, ck::CKA_EC_POINT))?.unwrap_or_default();
    // An OCTET STRING around the point, by the standard; some tokens leave it out.
    let public_key = match &point[..] {
        [0x04, 65, point @ ..] | point if point.len() == POINT => point.to_vec(),
        _ => return Err(DriverError::wrong_key(NAME, "attest", "the daemon's key is on another curve than P-256")),
    };
    // The token is given the hash: fewer of them hash by themselves.
    let digest = Sha256::digest(message);
    let signature = lent.check(library.sign(lent.session, Mechanism::Plain(ck::CKM_ECDSA), key, &digest))?;
    if signature.len() != SIGNATURE {
        let reason = format!("the signature has {} bytes and no {SIGNATURE}", signature.len());
        return Err(DriverError::backend(NAME, "C_Sign", reason));
    }
    Ok(Attestation { public_key, signature })
}

fn of(class: ck::CK_OBJECT_CLASS, id: &[u8]) -> Template {
    let label = LABEL.as_bytes();
    Template::default().number(ck::CKA_CLASS, class).bytes(ck::CKA_LABEL, label).bytes(ck::CKA_ID, id)
}

fn only(lent: &Lent<'_>, template: Template) -> Result<Option<ck::CK_OBJECT_HANDLE>, DriverError> {
    match lent.check(lent.connection.library.find(lent.session, template))?[..] {
        [] => Ok(None),
        [object] => Ok(Some(object)),
        _ => Err(DriverError::wrong_key(NAME, "attest", "the token has several keys of the daemon's name")),
    }
}

fn make(lent: &Lent<'_>, id: &[u8]) -> Result<ck::CK_OBJECT_HANDLE, DriverError> {
    let public =
        of(ck::CKO_PUBLIC_KEY, id).flag(ck::CKA_TOKEN, true).flag(ck::CKA_VERIFY, true).bytes(ck::CKA_EC_PARAMS, P256);
    let private = of(ck::CKO_PRIVATE_KEY, id)
        .flag(ck::CKA_TOKEN, true)
        .flag(ck::CKA_PRIVATE, true)
        .flag(ck::CKA_SENSITIVE, true)
        .flag(ck::CKA_EXTRACTABLE, false)
        .flag(ck::CKA_SIGN, true);
    let mechanism = Mechanism::Plain(ck::CKM_EC_KEY_PAIR_GEN);
    lent.check(lent.connection.library.generate_pair(lent.session, mechanism, (public, private)))
}
