//! What a key is for (X9.143:2021 6.3.1, table 2).

use crate::error::{Field, KeyBlockError};

const NO_USAGE: KeyBlockError = KeyBlockError::new(Field::Usage, "is none of X9.143's codes and no two digits");

/// Usages and their codes, written once.
macro_rules! usages {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// What a key is for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Usage {
            $($(#[doc = $doc])+ $name,)+
            /// Two digits, which the standard leaves to proprietary use: what they mean is between partners.
            Proprietary(u8),
        }

        impl Usage {
            fn known(code: &[u8]) -> Option<Self> {
                [$((Self::$name, $code)),+].iter().find(|(_, known)| known.as_bytes() == code).map(|(usage, _)| *usage)
            }

            /// Its two characters.
            pub fn code(self) -> String {
                match self {
                    $(Self::$name => $code.to_owned(),)+
                    Self::Proprietary(number) => format!("{number:02}"),
                }
            }
        }
    };
}

usages! {
    /// B0, a base derivation key.
    BaseDerivation = "B0",
    /// B1, an initial DUKPT key.
    InitialDukpt = "B1",
    /// B2, a base key variant.
    BaseVariant = "B2",
    /// B3, a key derivation key outside X9.24.
    KeyDerivation = "B3",
    /// C0, card verification.
    CardVerification = "C0",
    /// D0, data encryption.
    Data = "D0",
    /// D1, data encryption with an asymmetric key.
    AsymmetricData = "D1",
    /// D2, encryption of decimalisation tables.
    DecimalisationTable = "D2",
    /// D3, encryption of sensitive data.
    SensitiveData = "D3",
    /// E0, EMV issuer master: application cryptograms.
    EmvCryptograms = "E0",
    /// E1, EMV issuer master: secure messaging for confidentiality.
    EmvConfidentiality = "E1",
    /// E2, EMV issuer master: secure messaging for integrity.
    EmvIntegrity = "E2",
    /// E3, EMV issuer master: data authentication code.
    EmvDataAuthentication = "E3",
    /// E4, EMV issuer master: dynamic numbers.
    EmvDynamicNumbers = "E4",
    /// E5, EMV issuer master: card personalisation.
    EmvPersonalisation = "E5",
    /// E6, EMV issuer master: other.
    EmvOther = "E6",
    /// E7, EMV asymmetric key pair for PINs.
    EmvPinPair = "E7",
    /// I0, an initialisation vector.
    InitialisationVector = "I0",
    /// K0, encryption or wrapping of keys.
    KeyEncryption = "K0",
    /// K1, a key block protection key.
    KeyBlockProtection = "K1",
    /// K2, an asymmetric key of TR-34.
    Tr34 = "K2",
    /// K3, an asymmetric key for wrapping or agreement.
    AsymmetricWrapping = "K3",
    /// K4, a key block protection key of ISO 20038.
    Iso20038Protection = "K4",
    /// M0, ISO 16609 MAC algorithm 1.
    Iso16609Mac1 = "M0",
    /// M1, ISO/IEC 9797-1 MAC algorithm 1.
    Mac1 = "M1",
    /// M2, ISO/IEC 9797-1 MAC algorithm 2.
    Mac2 = "M2",
    /// M3, ISO/IEC 9797-1 MAC algorithm 3.
    Mac3 = "M3",
    /// M4, ISO/IEC 9797-1 MAC algorithm 4.
    Mac4 = "M4",
    /// M5, MAC algorithm 5 of ISO/IEC 9797-1:1999.
    Mac5 = "M5",
    /// M6, CMAC.
    Cmac = "M6",
    /// M7, HMAC.
    Hmac = "M7",
    /// M8, ISO/IEC 9797-1 MAC algorithm 6.
    Mac6 = "M8",
    /// P0, PIN encryption.
    PinEncryption = "P0",
    /// P1, PIN generation.
    PinGeneration = "P1",
    /// S0, a key pair for signatures.
    Signature = "S0",
    /// S1, a key pair of an authority.
    Authority = "S1",
    /// S2, a key pair outside X9.24.
    OtherPair = "S2",
    /// V0, PIN verification by another algorithm.
    PinVerification = "V0",
    /// V1, PIN verification, IBM 3624.
    PinVerificationIbm = "V1",
    /// V2, PIN verification, Visa PVV.
    PinVerificationVisa = "V2",
    /// V3, PIN verification, X9.132 algorithm 1.
    PinVerificationX9Algorithm1 = "V3",
    /// V4, PIN verification, X9.132 algorithm 2.
    PinVerificationX9Algorithm2 = "V4",
    /// V5, PIN verification, X9.132 algorithm 3.
    PinVerificationX9Algorithm3 = "V5",
}

impl Usage {
    /// Two digits for proprietary use, 00 to 99.
    ///
    /// # Errors
    /// `usage`, above 99.
    pub fn proprietary(number: u8) -> Result<Self, KeyBlockError> {
        if number < 100 {
            Ok(Self::Proprietary(number))
        } else {
            Err(KeyBlockError::new(Field::Usage, "of proprietary use is 00 to 99"))
        }
    }

    /// From its two characters.
    ///
    /// # Errors
    /// `usage`, if the standard has no such code.
    pub fn from_code(code: &str) -> Result<Self, KeyBlockError> {
        code.as_bytes().try_into().map_err(|_| NO_USAGE).and_then(Self::parse)
    }

    pub(super) fn parse(code: [u8; 2]) -> Result<Self, KeyBlockError> {
        if let [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] = code {
            return Ok(Self::Proprietary((tens - b'0') * 10 + (ones - b'0')));
        }
        Self::known(&code).ok_or(NO_USAGE)
    }
}
