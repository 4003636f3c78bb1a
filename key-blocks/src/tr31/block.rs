//! Whole key blocks: header, payload, MAC.

use zeroize::Zeroizing;

use crate::error::{Field, KeyBlockError, Random};
use crate::key_bytes::KeyBytes;
use crate::tr31::fields::KeyAlgorithm;
use crate::tr31::header::Header;
use crate::tr31::protection::{CmacBy, Protection};
use crate::tr31::usage::Usage;
use crate::tr31::version::{Form, KeyPadding, Version, WrapVersion};

/// A block that was read, but not opened: what it says is not yet known to be true.
pub struct KeyBlock<'a> {
    version: Version,
    form: Form,
    header: Header,
    header_text: &'a str,
    ciphertext: Vec<u8>,
    mac: Vec<u8>,
}

/// A key and what is now known of it.
pub struct UnwrappedKey {
    /// How the block was protected.
    pub version: Version,
    /// What was authenticated with the key.
    pub header: Header,
    /// The key.
    pub key: KeyBytes,
}

impl UnwrappedKey {
    /// The key, for whoever wants one of that usage.
    ///
    /// # Errors
    /// `usage`, if the key is for something else.
    pub fn for_usage(&self, usage: Usage) -> Result<&KeyBytes, KeyBlockError> {
        if self.header.usage == usage {
            Ok(&self.key)
        } else {
            Err(KeyBlockError::new(Field::Usage, "is another than the one that was asked for"))
        }
    }
}

/// How a block is made.
#[derive(Debug, Clone, Copy)]
pub struct WrapOptions {
    /// How it is protected.
    pub version: WrapVersion,
    /// What is between partners.
    pub form: Form,
    /// How long the key looks.
    pub padding: KeyPadding,
}

impl<'a> KeyBlock<'a> {
    /// Reads a block and checks every field of it. Hexadecimal is upper case: one block has one spelling.
    ///
    /// # Errors
    /// The first field that is not one of TR-31:2018, X9.143:2021 or ISO 20038:2017.
    pub fn parse(text: &'a str, form: Form) -> Result<Self, KeyBlockError> {
        let (version, header, header_len) = Header::parse(text, form)?;
        let mac_len = version.mac_len() * 2;
        let short = KeyBlockError::new(Field::Length, "leaves no room for payload and MAC");
        let mac_at = text.len().checked_sub(mac_len).ok_or(short)?;
        let (Some(header_text), Some(payload), Some(mac)) =
            (text.get(..header_len), text.get(header_len..mac_at), text.get(mac_at..))
        else {
            return Err(short);
        };
        let ciphertext = unhex(payload, Field::Payload)?;
        // Two bytes of length and a key.
        if ciphertext.len() < 3 || !ciphertext.len().is_multiple_of(version.payload_unit()) {
            return Err(KeyBlockError::new(Field::Payload, "is not whole blocks of the cipher"));
        }
        Ok(Self { version, form, header, header_text, ciphertext, mac: unhex(mac, Field::Mac)? })
    }

    /// How the block is protected.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the block says, for choosing the KBPK. Believe it only once [`KeyBlock::unwrap`] has given it.
    pub fn unverified_header(&self) -> &Header {
        &self.header
    }

    /// Checks the MAC and then takes the key out. `kbpk` is triple DES of 16 or 24 bytes for versions A, B and C, AES of
    /// 16, 24 or 32 for D and E, SM4 for the project-local form.
    ///
    /// # Errors
    /// `kbpk` for another length; `mac` if it does not hold, which a wrong KBPK shows as too; `key length` if what was
    /// authenticated is no key of the algorithm.
    pub fn unwrap(self, kbpk: &[u8]) -> Result<UnwrappedKey, KeyBlockError> {
        let protection = Protection::new(self.version, self.form, kbpk)?;
        self.unwrap_with(&protection)
    }

    /// The same where the KBPK, of so many bytes, is in a device that makes CMACs under it, one block long: what comes out
    /// of the device are the two keys of this block's version.
    ///
    /// # Errors
    /// As [`KeyBlock::unwrap`]; `kbpk` for versions A and C, whose keys are no CMACs; those of `cmac`.
    pub fn unwrap_by<E: From<KeyBlockError>>(
        self,
        kbpk_len: usize,
        cmac: &mut CmacBy<'_, E>,
    ) -> Result<UnwrappedKey, E> {
        let protection = Protection::derived(self.version, self.form, kbpk_len, cmac)?;
        Ok(self.unwrap_with(&protection)?)
    }

    fn unwrap_with(self, protection: &Protection) -> Result<UnwrappedKey, KeyBlockError> {
        let payload = protection.open(self.header_text, &self.ciphertext, &self.mac)?;
        let key = key_of(&payload)?;
        self.header.algorithm.check_key_len(key.len())?;
        Ok(UnwrappedKey { version: self.version, header: self.header, key: KeyBytes::copy_of(key) })
    }
}

/// Wraps a key: the block as text. `kbpk` as in [`KeyBlock::unwrap`], and not weaker than the key where both are of block
/// ciphers (ANSI X9.24-1: a key is protected by one at least as strong).
///
/// # Errors
/// The field of the header that cannot be written; `key length` if the algorithm has no such keys; `kbpk`; `length` over
/// 9999 characters; `randomness`.
pub fn wrap(
    options: WrapOptions,
    kbpk: &[u8],
    header: &Header,
    key: &[u8],
    random: &mut Random<'_>,
) -> Result<String, KeyBlockError> {
    let WrapOptions { version, form, padding } = options;
    let version = Version::from(version);
    let protection = Protection::new(version, form, kbpk)?;
    header.algorithm.check_key_len(key.len())?;
    check_strength(version, kbpk, header.algorithm, key)?;
    let mut payload = payload(version, header.algorithm, key, padding, random)?;
    let header = header.text(version, form, (payload.len() + version.mac_len()) * 2)?;
    let mac = protection.seal(&header, &mut payload)?;
    Ok(header + &hex::encode_upper(&payload) + &hex::encode_upper(mac))
}

/// `bits (2, big endian) || key || random padding`.
fn payload(
    version: Version,
    algorithm: KeyAlgorithm,
    key: &[u8],
    padding: KeyPadding,
    random: &mut Random<'_>,
) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
    let bits = key.len().checked_mul(8).and_then(|bits| u16::try_from(bits).ok());
    let bits = bits.ok_or(KeyBlockError::new(Field::KeyLength, "is more than two bytes of bits can say"))?;
    let shown = match padding {
        KeyPadding::Minimal => key.len(),
        KeyPadding::Obfuscated => algorithm.longest_key().unwrap_or(0).max(key.len()),
        KeyPadding::AsIf(len) => len.max(key.len()),
    };
    // More does not fit into a block; refused before anything of that size is made.
    if shown > 9999 {
        return Err(KeyBlockError::new(Field::Length, "is more than four digits can say"));
    }
    let mut payload = Zeroizing::new(vec![0; (2 + shown).next_multiple_of(version.payload_unit())]);
    let (head, rest) = payload.split_at_mut(2);
    head.copy_from_slice(&bits.to_be_bytes());
    let (body, padding) = rest.split_at_mut(key.len());
    body.copy_from_slice(key);
    random(padding)?;
    Ok(payload)
}

/// The key in a payload.
fn key_of(payload: &[u8]) -> Result<&[u8], KeyBlockError> {
    let refused = |reason| KeyBlockError::new(Field::KeyLength, reason);
    let (head, rest) = payload.split_first_chunk::<2>().ok_or(refused("is missing"))?;
    let bits = usize::from(u16::from_be_bytes(*head));
    if !bits.is_multiple_of(8) {
        return Err(refused("is not whole bytes"));
    }
    rest.get(..bits / 8).ok_or(refused("is more than the payload holds"))
}

fn check_strength(version: Version, kbpk: &[u8], algorithm: KeyAlgorithm, key: &[u8]) -> Result<(), KeyBlockError> {
    let weaker = match algorithm {
        KeyAlgorithm::Aes => version == Version::B || key.len() > kbpk.len(),
        KeyAlgorithm::TripleDes => version == Version::B && key.len() > kbpk.len(),
        _ => false,
    };
    if weaker { Err(KeyBlockError::new(Field::Kbpk, "is weaker than the key")) } else { Ok(()) }
}

fn unhex(text: &str, field: Field) -> Result<Vec<u8>, KeyBlockError> {
    let wrong = KeyBlockError::new(field, "is not whole bytes in upper-case hexadecimal");
    if text.bytes().any(|c| c.is_ascii_lowercase()) {
        return Err(wrong);
    }
    hex::decode(text).map_err(|_| wrong)
}
