//! The one- and two-character fields of a header.

use crate::error::{Field, KeyBlockError};

/// A digit, which X9.143 leaves to proprietary use in several fields.
fn digit(letter: u8) -> Option<u8> {
    letter.is_ascii_digit().then(|| letter - b'0')
}

fn digit_letter(digit: u8) -> char {
    char::from(b'0' + digit % 10)
}

/// What algorithm a key is of (X9.143:2021 6.3.2, table 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// `A`, AES.
    Aes,
    /// `D`, single DES.
    Des,
    /// `E`, elliptic curves.
    EllipticCurve,
    /// `H`, HMAC; in X9.143 with SHA-1.
    Hmac,
    /// `I`, HMAC with SHA-2.
    HmacSha2,
    /// `J`, HMAC with SHA-3.
    HmacSha3,
    /// `R`, RSA.
    Rsa,
    /// `S`, DSA.
    Dsa,
    /// `T`, triple DES.
    TripleDes,
    /// `S` in the project-local form of SM4, and nowhere else: there is no letter of a standard for it.
    Sm4,
    /// A digit, for proprietary use.
    Proprietary(u8),
}

impl KeyAlgorithm {
    pub(super) fn parse(letter: u8, sm4_local: bool) -> Result<Self, KeyBlockError> {
        match letter {
            b'A' => Ok(Self::Aes),
            b'D' => Ok(Self::Des),
            b'E' => Ok(Self::EllipticCurve),
            b'H' => Ok(Self::Hmac),
            b'I' => Ok(Self::HmacSha2),
            b'J' => Ok(Self::HmacSha3),
            b'R' => Ok(Self::Rsa),
            b'S' if sm4_local => Ok(Self::Sm4),
            b'S' => Ok(Self::Dsa),
            b'T' => Ok(Self::TripleDes),
            _ => digit(letter)
                .map(Self::Proprietary)
                .ok_or(KeyBlockError::new(Field::Algorithm, "is none of X9.143's and no digit")),
        }
    }

    pub(super) fn letter(self, sm4_local: bool) -> Result<char, KeyBlockError> {
        match (self, sm4_local) {
            (Self::Aes, _) => Ok('A'),
            (Self::Des, _) => Ok('D'),
            (Self::EllipticCurve, _) => Ok('E'),
            (Self::Hmac, _) => Ok('H'),
            (Self::HmacSha2, _) => Ok('I'),
            (Self::HmacSha3, _) => Ok('J'),
            (Self::Rsa, _) => Ok('R'),
            (Self::Dsa, false) | (Self::Sm4, true) => Ok('S'),
            (Self::TripleDes, _) => Ok('T'),
            (Self::Proprietary(digit), _) if digit < 10 => Ok(digit_letter(digit)),
            (Self::Proprietary(_), _) => Err(KeyBlockError::new(Field::Algorithm, "of proprietary use is one digit")),
            (Self::Sm4, false) => {
                Err(KeyBlockError::new(Field::Algorithm, "SM4 has no letter but in the project-local form of SM4"))
            }
            (Self::Dsa, true) => {
                Err(KeyBlockError::new(Field::Algorithm, "DSA has no letter in the project-local form of SM4"))
            }
        }
    }

    /// Whether a key of the algorithm may have so many bytes. Of others than block ciphers only that there is a key.
    pub(super) fn check_key_len(self, len: usize) -> Result<(), KeyBlockError> {
        let fits = match self {
            Self::Aes => matches!(len, 16 | 24 | 32),
            Self::Des => len == 8,
            Self::TripleDes => matches!(len, 16 | 24),
            Self::Sm4 => len == 16,
            _ => len > 0,
        };
        if fits { Ok(()) } else { Err(KeyBlockError::new(Field::KeyLength, "is none that the algorithm has")) }
    }

    /// How long keys of the algorithm are made to look, if they are (X9.143:2021 7.3.1).
    pub(super) fn longest_key(self) -> Option<usize> {
        match self {
            Self::Aes => Some(32),
            Self::Des | Self::TripleDes => Some(24),
            _ => None,
        }
    }
}

/// Which operations a key may do (X9.143:2021 6.3.3, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeOfUse {
    /// `B`, encrypt and decrypt.
    EncryptDecrypt,
    /// `C`, generate and verify.
    GenerateVerify,
    /// `D`, decrypt only.
    Decrypt,
    /// `E`, encrypt only.
    Encrypt,
    /// `G`, generate only.
    Generate,
    /// `N`, whatever the usage allows.
    Any,
    /// `S`, sign only.
    Sign,
    /// `T`, sign and decrypt.
    SignDecrypt,
    /// `V`, verify only.
    Verify,
    /// `X`, derive keys.
    Derive,
    /// `Y`, make variants.
    Variant,
    /// A digit, for proprietary use.
    Proprietary(u8),
}

impl ModeOfUse {
    pub(super) fn parse(letter: u8) -> Result<Self, KeyBlockError> {
        match letter {
            b'B' => Ok(Self::EncryptDecrypt),
            b'C' => Ok(Self::GenerateVerify),
            b'D' => Ok(Self::Decrypt),
            b'E' => Ok(Self::Encrypt),
            b'G' => Ok(Self::Generate),
            b'N' => Ok(Self::Any),
            b'S' => Ok(Self::Sign),
            b'T' => Ok(Self::SignDecrypt),
            b'V' => Ok(Self::Verify),
            b'X' => Ok(Self::Derive),
            b'Y' => Ok(Self::Variant),
            _ => digit(letter)
                .map(Self::Proprietary)
                .ok_or(KeyBlockError::new(Field::Mode, "is none of X9.143's and no digit")),
        }
    }

    pub(super) fn letter(self) -> Result<char, KeyBlockError> {
        match self {
            Self::EncryptDecrypt => Ok('B'),
            Self::GenerateVerify => Ok('C'),
            Self::Decrypt => Ok('D'),
            Self::Encrypt => Ok('E'),
            Self::Generate => Ok('G'),
            Self::Any => Ok('N'),
            Self::Sign => Ok('S'),
            Self::SignDecrypt => Ok('T'),
            Self::Verify => Ok('V'),
            Self::Derive => Ok('X'),
            Self::Variant => Ok('Y'),
            Self::Proprietary(digit) if digit < 10 => Ok(digit_letter(digit)),
            Self::Proprietary(_) => Err(KeyBlockError::new(Field::Mode, "of proprietary use is one digit")),
        }
    }
}

/// Two characters beside the key (X9.143:2021 6.3.4, table 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyVersion {
    /// `00`: versions are not used.
    Unused,
    /// `c` and a letter or digit: the block holds a component of a key.
    Component(char),
    /// Any other two letters or digits.
    Number(char, char),
}

impl KeyVersion {
    pub(super) fn parse(text: [u8; 2]) -> Result<Self, KeyBlockError> {
        let [first, second] = text.map(char::from);
        match (first, second) {
            _ if !first.is_ascii_alphanumeric() || !second.is_ascii_alphanumeric() => {
                Err(KeyBlockError::new(Field::KeyVersion, "is not two letters or digits"))
            }
            ('0', '0') => Ok(Self::Unused),
            ('c', number) => Ok(Self::Component(number)),
            (first, second) => Ok(Self::Number(first, second)),
        }
    }

    pub(super) fn text(self) -> Result<String, KeyBlockError> {
        let text = match self {
            Self::Unused => "00".to_owned(),
            Self::Component(number) => format!("c{number}"),
            Self::Number(first, second) => format!("{first}{second}"),
        };
        let wrong = KeyBlockError::new(Field::KeyVersion, "is not written as what it is");
        let read = text.as_bytes().try_into().map_err(|_| wrong).and_then(Self::parse)?;
        if read == self { Ok(text) } else { Err(wrong) }
    }
}

/// Whether a key may leave where it went (X9.143:2021 6.3.5, table 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exportability {
    /// `E`: in key blocks, under a key that is trusted.
    Trusted,
    /// `N`: never.
    No,
    /// `S`: in other forms too.
    Sensitive,
    /// A digit, for proprietary use.
    Proprietary(u8),
}

impl Exportability {
    pub(super) fn parse(letter: u8) -> Result<Self, KeyBlockError> {
        match letter {
            b'E' => Ok(Self::Trusted),
            b'N' => Ok(Self::No),
            b'S' => Ok(Self::Sensitive),
            _ => digit(letter)
                .map(Self::Proprietary)
                .ok_or(KeyBlockError::new(Field::Exportability, "is none of E, N and S and no digit")),
        }
    }

    pub(super) fn letter(self) -> Result<char, KeyBlockError> {
        match self {
            Self::Trusted => Ok('E'),
            Self::No => Ok('N'),
            Self::Sensitive => Ok('S'),
            Self::Proprietary(digit) if digit < 10 => Ok(digit_letter(digit)),
            Self::Proprietary(_) => Err(KeyBlockError::new(Field::Exportability, "of proprietary use is one digit")),
        }
    }
}

/// What the block is for (X9.143:2021 6.2, table 1); `0`, `1` and `2`, followed by a reserved `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyContext {
    /// As the KBPK has it; all that TR-31:2018 knows.
    #[default]
    Unspecified,
    /// Storage only.
    Storage,
    /// Exchange only.
    Exchange,
}

impl KeyContext {
    pub(super) fn parse(text: [u8; 2]) -> Result<Self, KeyBlockError> {
        match &text {
            b"00" => Ok(Self::Unspecified),
            b"10" => Ok(Self::Storage),
            b"20" => Ok(Self::Exchange),
            _ => Err(KeyBlockError::new(Field::KeyContext, "is none of 00, 10 and 20")),
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unspecified => "00",
            Self::Storage => "10",
            Self::Exchange => "20",
        }
    }
}
