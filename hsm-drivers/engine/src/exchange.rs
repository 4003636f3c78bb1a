//! Keys as other parties take and send them: key blocks, ECB with a check value, SM2 envelopes.

use claviger_hsm_api::{
    Algorithm, BlockHeader, BlockVersion, EnvelopeForm, EnvelopeLayout, Exportability, KcvFunction, KcvInput, KcvRule,
    KeyPadding, KeyRank, ModeOfUse, NewKey, Secret, WrappedKey,
};
use claviger_key_blocks::sm2::{EnvelopedKey, IntegerOrder, Sm2Ciphertext, Sm2PrivateKey, Sm2PublicKey};
use claviger_key_blocks::tr31::{
    self, ExtendedLength, Form, KeyAlgorithm, KeyBlock, KeyContext, KeyVersion, PurseKey, Version,
};
use claviger_key_blocks::{BlockKey, Cipher, EcbFormat, EcbKey, EcbPadding, KeyBytes, NoRandomness, ecb_unwrap_by};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::fill_random;
use crate::run::{EngineError, PlainKey};
use crate::wrap::key_unwrap;

/// Optional blocks with check values (X9.143:2021, 6.3.6): of the key, and of the key that protects it.
const KEY_KCV: &str = "KC";
const KBPK_KCV: &str = "KP";
/// Fewer bytes than any rule has would let wrong keys through.
const SHORTEST_KCV: usize = 3;

/// A key in a key block under another.
pub(crate) fn block(
    header: &BlockHeader,
    under: Algorithm,
    kbpk: &[u8],
    algorithm: Algorithm,
    key: &[u8],
) -> Result<String, EngineError> {
    let (version, form) = match header.version {
        BlockVersion::B => (tr31::WrapVersion::B, published()),
        BlockVersion::D => (tr31::WrapVersion::D, published()),
        BlockVersion::E => (tr31::WrapVersion::E, published()),
        BlockVersion::Sm4Local => (tr31::WrapVersion::D, sm4_local()),
    };
    let wanted = match header.version {
        BlockVersion::B => matches!(under, Algorithm::TripleDes | Algorithm::TripleDes3),
        BlockVersion::D | BlockVersion::E => is_aes(under),
        BlockVersion::Sm4Local => under == Algorithm::Sm4,
    };
    if !wanted {
        return Err(EngineError::BlockVersion { version: header.version.to_string(), under });
    }
    let options = tr31::WrapOptions { version, form, padding: tr31::KeyPadding::Obfuscated };
    Ok(tr31::wrap(options, kbpk, &written(header, algorithm)?, key, &mut random)?)
}

/// What a key is called in a key block.
fn block_algorithm(algorithm: Algorithm) -> Result<KeyAlgorithm, EngineError> {
    match algorithm {
        Algorithm::Des => Ok(KeyAlgorithm::Des),
        Algorithm::TripleDes | Algorithm::TripleDes3 => Ok(KeyAlgorithm::TripleDes),
        Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256 => Ok(KeyAlgorithm::Aes),
        Algorithm::Sm4 => Ok(KeyAlgorithm::Sm4),
        Algorithm::HmacSha256 => Ok(KeyAlgorithm::HmacSha2),
        Algorithm::HmacSm3 | Algorithm::Sm2 => Err(EngineError::NoBlockAlgorithm(algorithm)),
    }
}

fn written(header: &BlockHeader, algorithm: Algorithm) -> Result<tr31::Header, EngineError> {
    let mut version = header.key_version.chars();
    let key_version = match (version.next(), version.next(), version.next()) {
        (Some('0'), Some('0'), None) => KeyVersion::Unused,
        (Some(first), Some(second), None) => KeyVersion::Number(first, second),
        _ => return Err(EngineError::KeyVersion),
    };
    let purse =
        header.purse.as_ref().map(|purse| PurseKey::new(&purse.scheme, &purse.role, purse.level)).transpose()?;
    Ok(tr31::Header {
        usage: tr31::Usage::from_code(header.usage.as_str())?,
        algorithm: block_algorithm(algorithm)?,
        mode: mode(header.mode),
        key_version,
        exportability: match header.exportability {
            Exportability::Trusted => tr31::Exportability::Trusted,
            Exportability::None => tr31::Exportability::No,
            Exportability::Sensitive => tr31::Exportability::Sensitive,
        },
        context: KeyContext::Unspecified,
        optional_blocks: purse.into_iter().map(Into::into).collect(),
    })
}

/// A mode of use as key blocks have it.
fn mode(mode: ModeOfUse) -> tr31::ModeOfUse {
    match mode {
        ModeOfUse::Both => tr31::ModeOfUse::EncryptDecrypt,
        ModeOfUse::GenerateAndVerify => tr31::ModeOfUse::GenerateVerify,
        ModeOfUse::DecryptOnly => tr31::ModeOfUse::Decrypt,
        ModeOfUse::EncryptOnly => tr31::ModeOfUse::Encrypt,
        ModeOfUse::GenerateOnly => tr31::ModeOfUse::Generate,
        ModeOfUse::Any => tr31::ModeOfUse::Any,
        ModeOfUse::SignOnly => tr31::ModeOfUse::Sign,
        ModeOfUse::VerifyOnly => tr31::ModeOfUse::Verify,
        ModeOfUse::Derive => tr31::ModeOfUse::Derive,
    }
}

/// A key that others come under, wherever it is.
pub trait Opener {
    /// What it is a key of.
    fn algorithm(&self) -> Algorithm;

    /// The key itself, if it is here.
    fn plain(&self) -> Option<&[u8]> {
        None
    }

    /// The CMAC of a message, a whole block.
    ///
    /// # Errors
    /// An [`EngineError`] of whoever holds it.
    fn cmac(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, EngineError>;

    /// A block of zeros enciphered, or its leftmost bytes.
    ///
    /// # Errors
    /// An [`EngineError`] of whoever holds it.
    fn check_block(&self) -> Result<Vec<u8>, EngineError>;

    /// Deciphers whole blocks in place.
    ///
    /// # Errors
    /// An [`EngineError`] of whoever holds it.
    fn decipher(&self, data: &mut [u8]) -> Result<(), EngineError>;
}

/// Opens a key as it came under another, for what it is to be.
///
/// # Errors
/// [`EngineError::KeyBlock`] or [`EngineError::Header`], naming the field; [`EngineError::Foreign`] for a blob of RFC 3394
/// that is of another key; [`EngineError::Weaker`] for a key that is worth more than what it came under;
/// [`EngineError::NoBlockCipher`] or [`EngineError::NoSm2Key`] under a key that opens no such thing.
pub fn open_wrapped(under: &dyn Opener, key: &NewKey, wrapped: &WrappedKey) -> Result<Secret, EngineError> {
    let algorithm = key.attributes.algorithm;
    let measured = matches!(wrapped, WrappedKey::Ecb { .. } | WrappedKey::Envelope { .. });
    if measured && under.algorithm().is_weaker_than(algorithm) {
        return Err(EngineError::Weaker { under: under.algorithm(), key: algorithm });
    }
    let opened = match wrapped {
        WrappedKey::KeyWrap(blob) => {
            if !is_aes(under.algorithm()) {
                return Err(EngineError::NoKeyWrap(under.algorithm()));
            }
            return key_unwrap(blob, |block| under.decipher(block))?.ok_or(EngineError::Foreign);
        }
        WrappedKey::KeyBlock { text, sm4_local: local } => open_block(under, key, text, *local)?,
        WrappedKey::Ecb { ciphertext, padding, kcv, kcv_rule } => {
            let format = EcbFormat { padding: ecb_padding(*padding), kcv: rule(*kcv_rule)? };
            let wrapped = EcbKey { ciphertext: ciphertext.clone(), kcv: kcv.clone() };
            let block = cipher(under.algorithm())?.block_len();
            let decipher = &mut |data: &mut [u8]| under.decipher(data);
            ecb_unwrap_by(block, decipher, format, cipher(algorithm)?, algorithm.key_len(), &wrapped)?
        }
        WrappedKey::Envelope { form, bytes } => open_envelope(under, algorithm, *form, bytes)?,
    };
    if opened.expose().len() == algorithm.key_len() {
        Ok(Secret::copy_of(opened.expose()))
    } else {
        Err(EngineError::KeyLength(algorithm))
    }
}

/// Whether what came could become that key, as far as that is seen without opening it. It is not yet known to be authentic.
///
/// # Errors
/// [`EngineError::KeyBlock`] or [`EngineError::Header`], naming the field.
pub fn check_wrapped(key: &NewKey, wrapped: &WrappedKey) -> Result<(), EngineError> {
    let algorithm = key.attributes.algorithm;
    match wrapped {
        WrappedKey::KeyWrap(_) => Ok(()),
        WrappedKey::KeyBlock { text, sm4_local: local } => {
            let form = if *local { sm4_local() } else { published() };
            check_header(KeyBlock::parse(text, form)?.unverified_header(), key)
        }
        WrappedKey::Ecb { ciphertext, kcv, kcv_rule, .. } => {
            cipher(algorithm)?;
            rule(*kcv_rule)?;
            if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(8) {
                return Err(EngineError::Header { field: "ciphertext" });
            }
            if kcv.len() < SHORTEST_KCV { Err(EngineError::Header { field: "kcv" }) } else { Ok(()) }
        }
        WrappedKey::Envelope { form, bytes } if algorithm == Algorithm::Sm2 => pair(*form, bytes).map(drop),
        WrappedKey::Envelope { form, bytes } => ciphertext(*form, bytes).map(drop),
    }
}

fn open_block(under: &dyn Opener, key: &NewKey, text: &str, local: bool) -> Result<KeyBytes, EngineError> {
    let form = if local { sm4_local() } else { published() };
    let block = KeyBlock::parse(text, form)?;
    let kbpk = under.algorithm();
    let of_cipher = match (block.version(), local) {
        (_, true) => kbpk == Algorithm::Sm4,
        (Version::A | Version::B | Version::C, _) => matches!(kbpk, Algorithm::TripleDes | Algorithm::TripleDes3),
        (Version::D | Version::E, _) => is_aes(kbpk),
    };
    if !of_cipher {
        let version = if local { BlockVersion::Sm4Local.to_string() } else { block.version().letter().to_string() };
        return Err(EngineError::BlockVersion { version, under: kbpk });
    }
    let opened = match under.plain() {
        Some(plain) => block.unwrap(plain)?,
        None => block.unwrap_by(kbpk.key_len(), &mut |message| under.cmac(message))?,
    };
    check_header(&opened.header, key)?;
    let own = PlainKey { algorithm: key.attributes.algorithm, secret: Secret::copy_of(opened.key.expose()) };
    check_value(&opened.header, KEY_KCV, &own)?;
    check_value(&opened.header, KBPK_KCV, under)?;
    Ok(opened.key)
}

/// Whether an authenticated header says of the key what it is to be, or allows more: a key becomes stricter on its way,
/// never looser.
fn check_header(header: &tr31::Header, key: &NewKey) -> Result<(), EngineError> {
    let wrong = |field| Err(EngineError::Header { field });
    let attributes = &key.attributes;
    if header.algorithm != block_algorithm(attributes.algorithm)? {
        return wrong("algorithm");
    }
    match header.purse_key() {
        Some(label) => {
            let level = key.factors.len() == usize::from(label.level());
            if label.scheme() != key.name.scheme() || label.role() != key.name.role() || !level {
                return wrong("purse key");
            }
            if header.usage.code() != attributes.usage.as_str() {
                return wrong("usage");
            }
        }
        None if attributes.rank == KeyRank::Plain => {
            if header.usage.code() != attributes.usage.as_str() {
                return wrong("usage");
            }
        }
        // Whoever assigns a purse role to it assigns what the standard leaves open, or what is for deriving keys.
        None if matches!(header.usage, tr31::Usage::Proprietary(_) | tr31::Usage::KeyDerivation) => {}
        None => return wrong("usage"),
    }
    let allowed = ModeOfUse::ALL.iter().find(|known| mode(**known) == header.mode);
    // A key above cards derives, whatever its mode lets its children do.
    let derives = allowed == Some(&ModeOfUse::Derive) && matches!(attributes.rank, KeyRank::Dispersion { .. });
    if !derives && !allowed.is_some_and(|allowed| allowed.allows(attributes.mode)) {
        return wrong("mode");
    }
    let may_leave = match header.exportability {
        tr31::Exportability::Trusted => Exportability::Trusted,
        tr31::Exportability::Sensitive => Exportability::Sensitive,
        tr31::Exportability::No | tr31::Exportability::Proprietary(_) => Exportability::None,
    };
    if !may_leave.allows(attributes.exportability) {
        return wrong("exportability");
    }
    match header.key_version {
        KeyVersion::Unused => {}
        KeyVersion::Number(first, second) if key.version.to_string() == format!("{first}{second}") => {}
        KeyVersion::Number(..) | KeyVersion::Component(_) => return wrong("key version"),
    }
    if header.context == KeyContext::Storage { wrong("key context") } else { Ok(()) }
}

/// Compares the check value in an optional block, if it is there: `00` and ECB of zeros, or `01` and the CMAC of zeros, then
/// the value in hexadecimal (X9.143:2021, 6.3.6).
fn check_value(header: &tr31::Header, id: &'static str, key: &dyn Opener) -> Result<(), EngineError> {
    let Some(found) = header.optional_block(id) else { return Ok(()) };
    let wrong = || EngineError::Header { field: id };
    let (function, value) = found.data().split_at_checked(2).ok_or_else(wrong)?;
    let value = hex::decode(value).map_err(|_| wrong())?;
    let block = key.algorithm().block_len().ok_or_else(wrong)?;
    let shown = match function {
        "00" => key.check_block()?,
        "01" => key.cmac(&vec![0; block])?.to_vec(),
        _ => return Err(wrong()),
    };
    let same = shown.get(..value.len()).is_some_and(|shown| bool::from(shown.ct_eq(&value)));
    if value.len() >= SHORTEST_KCV && same { Ok(()) } else { Err(wrong()) }
}

impl Opener for PlainKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn plain(&self) -> Option<&[u8]> {
        Some(self.secret.expose())
    }

    fn cmac(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        Ok(block_key(self.algorithm, self.secret.expose())?.cmac(&[message])?)
    }

    fn check_block(&self) -> Result<Vec<u8>, EngineError> {
        let key = block_key(self.algorithm, self.secret.expose())?;
        let mut block = vec![0; self.algorithm.block_len().unwrap_or_default()];
        key.encrypt(&mut block)?;
        Ok(block)
    }

    fn decipher(&self, data: &mut [u8]) -> Result<(), EngineError> {
        Ok(block_key(self.algorithm, self.secret.expose())?.decrypt(data)?)
    }
}

/// A key in an SM2 envelope for somebody.
pub(crate) fn envelope(
    recipient: &[u8],
    form: EnvelopeForm,
    algorithm: Algorithm,
    key: &[u8],
) -> Result<Vec<u8>, EngineError> {
    let recipient = Sm2PublicKey::from_bytes(recipient)?;
    let order = order(form);
    if algorithm == Algorithm::Sm2 {
        let sealed = EnvelopedKey::seal(&recipient, &Sm2PrivateKey::from_bytes(key)?, &mut random)?;
        return Ok(match form.layout {
            EnvelopeLayout::Sdf => sealed.to_sdf(order, form.first),
            EnvelopeLayout::Skf => sealed.to_skf(order),
            EnvelopeLayout::Der => sealed.to_der()?,
        });
    }
    let sealed = Sm2Ciphertext::seal(&recipient, key, &mut random)?;
    Ok(match form.layout {
        EnvelopeLayout::Sdf | EnvelopeLayout::Skf => sealed.to_structure(order),
        EnvelopeLayout::Der => sealed.to_der()?,
    })
}

fn open_envelope(
    under: &dyn Opener,
    algorithm: Algorithm,
    form: EnvelopeForm,
    bytes: &[u8],
) -> Result<KeyBytes, EngineError> {
    let private = under.plain().filter(|_| under.algorithm() == Algorithm::Sm2).ok_or(EngineError::NoSm2Key)?;
    let recipient = Sm2PrivateKey::from_bytes(private)?;
    if algorithm == Algorithm::Sm2 {
        return Ok(pair(form, bytes)?.open(&recipient)?.to_bytes());
    }
    Ok(ciphertext(form, bytes)?.open(&recipient)?)
}

/// The envelope of a key pair.
fn pair(form: EnvelopeForm, bytes: &[u8]) -> Result<EnvelopedKey, EngineError> {
    Ok(match form.layout {
        EnvelopeLayout::Sdf => EnvelopedKey::from_sdf(bytes, order(form), form.first)?,
        EnvelopeLayout::Skf => EnvelopedKey::from_skf(bytes, order(form))?,
        EnvelopeLayout::Der => EnvelopedKey::from_der(bytes)?,
    })
}

/// The envelope of a symmetric key.
fn ciphertext(form: EnvelopeForm, bytes: &[u8]) -> Result<Sm2Ciphertext, EngineError> {
    Ok(match form.layout {
        EnvelopeLayout::Sdf | EnvelopeLayout::Skf => Sm2Ciphertext::from_structure(bytes, order(form))?,
        EnvelopeLayout::Der => Sm2Ciphertext::from_der(bytes)?,
    })
}

/// X9.143 counts the digits of a long optional block's length in pairs.
fn published() -> Form {
    Form::published(ExtendedLength::Pairs)
}

fn sm4_local() -> Form {
    Form::sm4_local(ExtendedLength::Pairs)
}

fn order(form: EnvelopeForm) -> IntegerOrder {
    if form.big_endian { IntegerOrder::Big } else { IntegerOrder::Little }
}

fn ecb_padding(padding: KeyPadding) -> EcbPadding {
    match padding {
        KeyPadding::None => EcbPadding::None,
        KeyPadding::OneIfPartial => EcbPadding::OneIfPartial,
        KeyPadding::ZerosIfPartial => EcbPadding::ZerosIfPartial,
    }
}

fn rule(of: KcvRule) -> Result<claviger_key_blocks::KcvRule, EngineError> {
    let function = match of.function {
        KcvFunction::Ecb => claviger_key_blocks::KcvFunction::Ecb,
        KcvFunction::Cmac => claviger_key_blocks::KcvFunction::Cmac,
        KcvFunction::Hmac | KcvFunction::Fingerprint => return Err(EngineError::Header { field: "kcv rule" }),
    };
    let input = match of.input {
        KcvInput::Zero => claviger_key_blocks::KcvInput::Zero,
        KcvInput::Ones => claviger_key_blocks::KcvInput::Ones,
    };
    Ok(claviger_key_blocks::KcvRule { function, input, take: usize::from(of.take) })
}

fn cipher(algorithm: Algorithm) -> Result<Cipher, EngineError> {
    match algorithm {
        Algorithm::Des => Ok(Cipher::Des),
        Algorithm::TripleDes | Algorithm::TripleDes3 => Ok(Cipher::TripleDes),
        Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256 => Ok(Cipher::Aes),
        Algorithm::Sm4 => Ok(Cipher::Sm4),
        Algorithm::HmacSm3 | Algorithm::HmacSha256 | Algorithm::Sm2 => Err(EngineError::NoBlockCipher(algorithm)),
    }
}

fn block_key(algorithm: Algorithm, bytes: &[u8]) -> Result<BlockKey<'_>, EngineError> {
    Ok(BlockKey::new(cipher(algorithm)?, bytes)?)
}

fn is_aes(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256)
}

fn random(bytes: &mut [u8]) -> Result<(), NoRandomness> {
    fill_random(bytes).map_err(|_| NoRandomness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_hsm_api::{Exposure, KeyAttributes, KeyName, KeyState};

    fn aes128() -> NewKey {
        NewKey {
            id: String::new(),
            name: KeyName::new("demo", "generic", "DATA").unwrap(),
            version: "01".parse().unwrap(),
            factors: Vec::new(),
            attributes: KeyAttributes {
                algorithm: Algorithm::Aes128,
                usage: "D0".parse().unwrap(),
                mode: ModeOfUse::Both,
                exportability: Exportability::None,
                rank: KeyRank::Plain,
                ceiling: Exposure::Nothing,
            },
            state: KeyState::Active,
            kcv_rule: KcvRule::ZEROS,
        }
    }

    /// RFC 3394, section 4.1.
    #[test]
    fn the_rfc_s_example_is_unwrapped_and_an_altered_one_is_not() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let secret = Secret::taking(bytes("000102030405060708090A0B0C0D0E0F"));
        let under = PlainKey { algorithm: Algorithm::Aes128, secret };
        let open = |under: &PlainKey, blob: &[u8]| {
            open_wrapped(under, &aes128(), &WrappedKey::KeyWrap(blob.to_vec())).map(|key| key.expose().to_vec())
        };
        let mut wrapped = bytes("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5");
        assert_eq!(open(&under, &wrapped).unwrap(), bytes("00112233445566778899AABBCCDDEEFF"));
        wrapped[20] ^= 1;
        assert!(matches!(open(&under, &wrapped), Err(EngineError::Foreign)));
        assert!(open(&under, &wrapped[..16]).is_err());
        let sm4 = PlainKey { algorithm: Algorithm::Sm4, ..under };
        assert!(matches!(open(&sm4, &wrapped), Err(EngineError::NoKeyWrap(Algorithm::Sm4))));
    }
}
