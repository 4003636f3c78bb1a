//! The engine's primitives on one session of the token.

use claviger_hsm_api::{Algorithm, DriverError, NewKey, StoredKey, WrapFormat};
use claviger_hsm_engine::lowering::{Capabilities, End, Reach};
use claviger_hsm_engine::{Derived, Device, Direction};
use cryptoki_sys as ck;
use zeroize::Zeroizing;

use crate::driver::NAME;
use crate::mechanisms::{Cipher, Mechanism, Mechanisms};
use crate::object::{Flags, Object, temporary};
use crate::proven::{Proven, Skill};
use crate::token::Lent;

/// How a child becomes a stored key.
pub(crate) type Keep<'a> = dyn Fn(&Object<'_>, &[u8; 16], &NewKey) -> Result<StoredKey, DriverError> + 'a;

/// A session, what the token was proved to do, and how children are kept.
pub(crate) struct OnSession<'a> {
    pub(crate) lent: &'a Lent<'a>,
    pub(crate) proven: &'a Proven,
    pub(crate) keep: &'a Keep<'a>,
}

impl OnSession<'_> {
    pub(crate) fn mechanisms(&self, algorithm: Algorithm) -> Result<Mechanisms, DriverError> {
        self.proven.mechanisms(algorithm)
    }

    fn cipher(&self, key: &Object<'_>) -> Result<Cipher, DriverError> {
        let none = || DriverError::unsupported(NAME, "run", format!("{} is no block cipher", key.algorithm));
        self.mechanisms(key.algorithm)?.cipher.ok_or_else(none)
    }

    fn run_cipher(
        &self,
        key: &Object<'_>,
        direction: Direction,
        mechanism: Mechanism<'_>,
        data: &mut [u8],
    ) -> Result<(), DriverError> {
        if data.is_empty() {
            return Ok(());
        }
        let library = &self.lent.connection.library;
        self.lent.check(library.cipher(self.lent.session, direction, mechanism, key.handle, data))
    }

    /// The mechanism by which a key of this kind derives.
    pub(crate) fn derivation(&self, key: &Object<'_>) -> Result<ck::CK_MECHANISM_TYPE, DriverError> {
        self.cipher(key)?.derive.ok_or_else(|| missing("ECB_ENCRYPT_DATA"))
    }

    /// What a key enciphers of one block, by a child that shows itself: for keys that do not encipher.
    fn shown(&self, key: &Object<'_>, fill: u8) -> Result<Vec<u8>, DriverError> {
        let library = &self.lent.connection.library;
        let template = crate::library::Template::default()
            .number(ck::CKA_CLASS, ck::CKO_SECRET_KEY)
            .number(ck::CKA_KEY_TYPE, ck::CKK_GENERIC_SECRET)
            .number(ck::CKA_VALUE_LEN, 16)
            .flag(ck::CKA_TOKEN, false)
            .flag(ck::CKA_PRIVATE, true)
            .flag(ck::CKA_SENSITIVE, false)
            .flag(ck::CKA_EXTRACTABLE, true);
        let block = [fill; 16];
        let mechanism = Mechanism::Data(self.derivation(key)?, &block);
        let handle = self.lent.check(library.derive(self.lent.session, mechanism, key.handle, template))?;
        let child =
            Object { handle, algorithm: key.algorithm, encrypts: false, left: None, temporary: Some(self.lent) };
        let value = self.lent.check(library.attribute(self.lent.session, child.handle, ck::CKA_VALUE))?;
        let value: Zeroizing<Vec<u8>> = value.ok_or_else(|| missing("CKA_VALUE of a child"))?;
        Ok(value.get(..3).unwrap_or_default().to_vec())
    }
}

fn missing(what: &str) -> DriverError {
    DriverError::unsupported(NAME, "run", format!("the token does not give {what}"))
}

impl Capabilities for OnSession<'_> {
    fn step(&self, algorithm: Algorithm, step: &claviger_hsm_api::Step) -> Reach {
        self.proven.step(algorithm, step)
    }

    fn finish(&self, end: End<'_>, other: Option<End<'_>>, finish: &claviger_hsm_api::Finish) -> bool {
        self.proven.finish(end, other, finish)
    }

    fn enciphers(&self, algorithm: Algorithm) -> bool {
        self.proven.enciphers(algorithm)
    }
}

impl<'a> Device for OnSession<'a> {
    type Key = Object<'a>;

    fn ecb(&self, key: &Object<'a>, direction: Direction, data: &mut [u8]) -> Result<(), DriverError> {
        self.run_cipher(key, direction, Mechanism::Plain(self.cipher(key)?.ecb), data)
    }

    fn cbc(&self, key: &Object<'a>, direction: Direction, initial: &[u8], data: &mut [u8]) -> Result<(), DriverError> {
        self.run_cipher(key, direction, Mechanism::Bytes(self.cipher(key)?.cbc, initial), data)
    }

    fn cmac(&self, key: &Object<'a>, message: &[u8]) -> Result<Vec<u8>, DriverError> {
        let mechanism = self.cipher(key)?.cmac.ok_or_else(|| missing("CMAC"))?;
        let library = &self.lent.connection.library;
        self.lent.check(library.sign(self.lent.session, Mechanism::Plain(mechanism), key.handle, message))
    }

    fn hmac(&self, key: &Object<'a>, message: &[u8]) -> Result<Vec<u8>, DriverError> {
        let mechanism = self.mechanisms(key.algorithm)?.hmac.ok_or_else(|| missing("HMAC"))?;
        let library = &self.lent.connection.library;
        self.lent.check(library.sign(self.lent.session, Mechanism::Plain(mechanism), key.handle, message))
    }

    fn check_block(&self, key: &Object<'a>, fill: u8) -> Result<Vec<u8>, DriverError> {
        if key.encrypts {
            let mut block = vec![fill; key.algorithm.block_len().unwrap_or(16)];
            self.ecb(key, Direction::Encrypt, &mut block)?;
            return Ok(block);
        }
        if fill == 0 && self.proven.has(key.algorithm, Skill::CheckValue) {
            let library = &self.lent.connection.library;
            let shown = self.lent.check(library.attribute(self.lent.session, key.handle, ck::CKA_CHECK_VALUE))?;
            return shown.map(|value| value.to_vec()).ok_or_else(|| missing("CKA_CHECK_VALUE"));
        }
        self.shown(key, fill)
    }

    fn derive(&self, key: &Object<'a>, made: Derived, block: &[u8; 16]) -> Result<Object<'a>, DriverError> {
        let mechanisms = self.mechanisms(made.algorithm)?;
        let library = &self.lent.connection.library;
        // As a key of DES its parity would be set, and what leaves would not be what was computed.
        let mechanisms_of_bytes = Mechanisms { key_type: ck::CKK_GENERIC_SECRET, value_len: Some(16), ..mechanisms };
        let (as_made, flags) = if made.leaves {
            (
                &mechanisms_of_bytes,
                Flags { extractable: true, encrypt: false, decrypt: false, wrap: false, ..Flags::TEMPORARY },
            )
        } else {
            (&mechanisms, Flags::TEMPORARY)
        };
        let mut template = temporary(as_made, flags);
        if let Some(len) = as_made.value_len {
            template = template.number(ck::CKA_VALUE_LEN, len as ck::CK_ULONG);
        }
        let mechanism = Mechanism::Data(self.derivation(key)?, block);
        let handle = self.lent.check(library.derive(self.lent.session, mechanism, key.handle, template))?;
        let (algorithm, encrypts) = (made.algorithm, !made.leaves);
        Ok(Object { handle, algorithm, encrypts, left: None, temporary: Some(self.lent) })
    }

    fn left_half<'k>(&self, key: &'k Object<'a>) -> Result<&'k Object<'a>, DriverError> {
        let none =
            "the key was made without the second object that a retail MAC takes in a token: import it, or derive it";
        key.left.as_deref().ok_or_else(|| DriverError::unsupported(NAME, "run", none))
    }

    fn wrap(&self, key: &Object<'a>, under: &Object<'a>, format: &WrapFormat) -> Result<Vec<u8>, DriverError> {
        let cipher = self.cipher(under)?;
        let mechanism = match format {
            WrapFormat::Ecb { .. } => cipher.ecb,
            WrapFormat::KeyBlock(_) => return Err(missing("key blocks")),
            WrapFormat::KeyWrap => cipher.key_wrap.ok_or_else(|| missing("AES key wrap"))?,
        };
        let library = &self.lent.connection.library;
        self.lent.check(library.wrap(self.lent.session, Mechanism::Plain(mechanism), under.handle, key.handle))
    }

    fn keep(&self, parent: &Object<'a>, block: &[u8; 16], child: &NewKey) -> Result<StoredKey, DriverError> {
        (self.keep)(parent, block, child)
    }
}
