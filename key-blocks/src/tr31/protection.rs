//! How a key block's payload is encrypted and authenticated: variant binding (A, C) and derivation binding (B, D) of
//! TR-31:2018, and ISO 20038:2017 (E). `tests/vectors/tr31.json` has the keys on the way too.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::cipher::{BlockKey, Cipher};
use crate::error::{Field, KeyBlockError};
use crate::tr31::version::{Form, Version};

/// The two keys that come from a KBPK.
pub(super) struct Protection {
    version: Version,
    cipher: Cipher,
    encryption: Zeroizing<Vec<u8>>,
    authentication: Zeroizing<Vec<u8>>,
}

/// Makes the CMAC of a message under a KBPK that is elsewhere, one block long.
pub type CmacBy<'a, E> = dyn FnMut(&[u8]) -> Result<Zeroizing<Vec<u8>>, E> + 'a;

/// What a derived key is for.
#[derive(Clone, Copy)]
enum Purpose {
    Cbc = 0x0000,
    Mac = 0x0001,
    Ctr = 0x0002,
}

impl Protection {
    pub(super) fn new(version: Version, form: Form, kbpk: &[u8]) -> Result<Self, KeyBlockError> {
        let cipher = form.cipher(version)?;
        let kbpk = BlockKey::new(cipher, kbpk)
            .map_err(|_| KeyBlockError::new(Field::Kbpk, "has a length that the version's cipher does not have"))?;
        match version {
            Version::A | Version::C => {
                let (encryption, authentication) = (variant(&kbpk, b'E'), variant(&kbpk, b'M'));
                Ok(Self { version, cipher, encryption, authentication })
            }
            Version::B | Version::D | Version::E => {
                Self::derived(version, form, kbpk.bytes().len(), &mut |message| kbpk.cmac(&[message]))
            }
        }
    }

    /// The same where the KBPK, of so many bytes, is in a device that makes CMACs under it.
    pub(super) fn derived<E: From<KeyBlockError>>(
        version: Version,
        form: Form,
        kbpk_len: usize,
        cmac: &mut CmacBy<'_, E>,
    ) -> Result<Self, E> {
        let cipher = form.cipher(version)?;
        let purpose = match version {
            Version::A | Version::C => {
                let reason = "is needed itself by versions A and C, and does not come out of its device";
                return Err(KeyBlockError::new(Field::Kbpk, reason).into());
            }
            Version::B | Version::D => Purpose::Cbc,
            Version::E => Purpose::Ctr,
        };
        let encryption = derived(cipher, kbpk_len, purpose, cmac)?;
        let authentication = derived(cipher, kbpk_len, Purpose::Mac, cmac)?;
        Ok(Self { version, cipher, encryption, authentication })
    }

    /// Encrypts a payload in place; the MAC. Variants are never made.
    pub(super) fn seal(&self, header: &str, payload: &mut [u8]) -> Result<Vec<u8>, KeyBlockError> {
        let mac = self.mac(header, payload)?;
        self.crypt(header, &mac, payload, true)?;
        Ok(mac.to_vec())
    }

    /// The payload, once the MAC holds.
    pub(super) fn open(
        &self,
        header: &str,
        ciphertext: &[u8],
        mac: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
        let mut payload = Zeroizing::new(ciphertext.to_vec());
        self.crypt(header, mac, &mut payload, false)?;
        let own = match self.version {
            Version::A | Version::C => self.mac(header, ciphertext)?,
            Version::B | Version::D | Version::E => self.mac(header, &payload)?,
        };
        if own.ct_eq(mac).into() {
            Ok(payload)
        } else {
            Err(KeyBlockError::new(Field::Mac, "does not hold: another KBPK, or the block was changed"))
        }
    }

    /// Over header and ciphertext in versions A and C, over header and plaintext in the others.
    fn mac(&self, header: &str, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyBlockError> {
        let key = BlockKey::new(self.cipher, &self.authentication)?;
        let mut mac = match self.version {
            // Header and ciphertext are whole blocks, so the zeros of padding method 1 are none.
            Version::A | Version::C => key.cbc_mac(&[header.as_bytes(), payload].concat())?,
            Version::B | Version::D | Version::E => key.cmac(&[header.as_bytes(), payload])?,
        };
        mac.truncate(self.version.mac_len());
        Ok(mac)
    }

    fn crypt(&self, header: &str, mac: &[u8], payload: &mut [u8], encrypt: bool) -> Result<(), KeyBlockError> {
        let key = BlockKey::new(self.cipher, &self.encryption)?;
        let no_start = KeyBlockError::new(Field::Mac, "is not as long as the version's");
        let start = match self.version {
            Version::A | Version::C => header.as_bytes().get(..8).ok_or(no_start)?,
            Version::B | Version::D | Version::E => mac,
        };
        match self.version {
            Version::E => key.ctr(start.try_into().map_err(|_| no_start)?, payload),
            _ if encrypt => key.cbc_encrypt(start, payload),
            _ => key.cbc_decrypt(start, payload),
        }
    }
}

fn variant(kbpk: &BlockKey<'_>, mask: u8) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(kbpk.bytes().iter().map(|byte| byte ^ mask).collect())
}

/// CMACs of `counter || purpose (2) || 00 || algorithm (2) || bits (2)`, one after the other, as long as the KBPK.
fn derived<E>(cipher: Cipher, len: usize, purpose: Purpose, cmac: &mut CmacBy<'_, E>) -> Result<Zeroizing<Vec<u8>>, E> {
    let algorithm: u16 = match (cipher, len) {
        (Cipher::TripleDes, 16) => 0,
        (Cipher::TripleDes, _) => 1,
        (Cipher::Aes, 16) => 2,
        (Cipher::Aes, 24) => 3,
        (Cipher::Aes, _) => 4,
        // The project-local form of SM4.
        _ => 5,
    };
    let [a1, a2] = algorithm.to_be_bytes();
    let [p1, p2] = (purpose as u16).to_be_bytes();
    let [b1, b2] = (len as u16 * 8).to_be_bytes();
    let mut key = Zeroizing::new(Vec::with_capacity(len.next_multiple_of(cipher.block_len())));
    for counter in 1..=len.div_ceil(cipher.block_len()) as u8 {
        key.extend_from_slice(&cmac(&[counter, p1, p2, 0, a1, a2, b1, b2])?);
    }
    key.truncate(len);
    Ok(key)
}
