//! Which mechanisms an algorithm has, by the standard's numbers or, for SM4, by the vendor's.

use std::ptr::null_mut;

use claviger_hsm_api::Algorithm;
use cryptoki_sys as ck;

use crate::config::Sm4;

/// An algorithm as PKCS#11 numbers it. Whether a token has it is only shown by a known answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mechanisms {
    /// `CKK_`.
    pub(crate) key_type: ck::CK_KEY_TYPE,
    pub(crate) generate: ck::CK_MECHANISM_TYPE,
    /// Bytes of a key, where a template has to say so.
    pub(crate) value_len: Option<usize>,
    pub(crate) cipher: Option<Cipher>,
    pub(crate) hmac: Option<ck::CK_MECHANISM_TYPE>,
}

/// What a block cipher has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cipher {
    pub(crate) ecb: ck::CK_MECHANISM_TYPE,
    pub(crate) cbc: ck::CK_MECHANISM_TYPE,
    pub(crate) cmac: Option<ck::CK_MECHANISM_TYPE>,
    /// Derivation by `ECB_ENCRYPT_DATA`.
    pub(crate) derive: Option<ck::CK_MECHANISM_TYPE>,
    /// RFC 3394.
    pub(crate) key_wrap: Option<ck::CK_MECHANISM_TYPE>,
}

impl Mechanisms {
    /// The numbers of an algorithm; none if PKCS#11 has none and the configuration gives none.
    pub(crate) fn of(algorithm: Algorithm, sm4: Option<Sm4>) -> Option<Self> {
        let des = |key_type, generate| Self {
            key_type,
            generate,
            value_len: None,
            cipher: Some(Cipher {
                ecb: ck::CKM_DES3_ECB,
                cbc: ck::CKM_DES3_CBC,
                cmac: Some(ck::CKM_DES3_CMAC),
                derive: Some(ck::CKM_DES3_ECB_ENCRYPT_DATA),
                key_wrap: None,
            }),
            hmac: None,
        };
        let len = algorithm.key_len();
        match algorithm {
            // Tokens refuse single DES; a key of it, twice, is a key of triple DES that does the same.
            Algorithm::Des | Algorithm::TripleDes => Some(des(ck::CKK_DES2, ck::CKM_DES2_KEY_GEN)),
            Algorithm::TripleDes3 => Some(des(ck::CKK_DES3, ck::CKM_DES3_KEY_GEN)),
            Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256 => Some(Self {
                key_type: ck::CKK_AES,
                generate: ck::CKM_AES_KEY_GEN,
                value_len: Some(len),
                cipher: Some(Cipher {
                    ecb: ck::CKM_AES_ECB,
                    cbc: ck::CKM_AES_CBC,
                    cmac: Some(ck::CKM_AES_CMAC),
                    derive: Some(ck::CKM_AES_ECB_ENCRYPT_DATA),
                    key_wrap: Some(ck::CKM_AES_KEY_WRAP),
                }),
                hmac: None,
            }),
            Algorithm::HmacSha256 => Some(Self {
                key_type: ck::CKK_GENERIC_SECRET,
                generate: ck::CKM_GENERIC_SECRET_KEY_GEN,
                value_len: Some(len),
                cipher: None,
                hmac: Some(ck::CKM_SHA256_HMAC),
            }),
            Algorithm::Sm4 => sm4.map(|sm4| Self {
                key_type: sm4.key_type,
                generate: sm4.generate,
                value_len: Some(len),
                cipher: Some(Cipher { ecb: sm4.ecb, cbc: sm4.cbc, cmac: sm4.cmac, derive: sm4.derive, key_wrap: None }),
                hmac: None,
            }),
            Algorithm::HmacSm3 | Algorithm::Sm2 => None,
        }
    }
}

/// A mechanism and its parameter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mechanism<'a> {
    /// Without a parameter.
    Plain(ck::CK_MECHANISM_TYPE),
    /// With bytes, as an initial value.
    Bytes(ck::CK_MECHANISM_TYPE, &'a [u8]),
    /// With `CK_KEY_DERIVATION_STRING_DATA`.
    Data(ck::CK_MECHANISM_TYPE, &'a [u8]),
    /// RSA-PSS with SHA-256, for MGF1 and for the length of the salt as well.
    Pss,
}

impl Mechanism<'_> {
    /// The C view, for the duration of a call.
    pub(crate) fn with<T>(self, call: impl FnOnce(*mut ck::CK_MECHANISM) -> T) -> T {
        // Modules read parameters; the pointers are mutable only by the standard's types.
        let (mut data, mut pss);
        let (mechanism, at, len) = match self {
            Self::Plain(mechanism) => (mechanism, null_mut(), 0),
            Self::Bytes(mechanism, bytes) => (mechanism, bytes.as_ptr().cast_mut().cast(), bytes.len()),
            Self::Data(mechanism, bytes) => {
                data = ck::CK_KEY_DERIVATION_STRING_DATA {
                    pData: bytes.as_ptr().cast_mut(),
                    ulLen: bytes.len() as ck::CK_ULONG,
                };
                (mechanism, (&raw mut data).cast(), size_of_val(&data))
            }
            Self::Pss => {
                pss = ck::CK_RSA_PKCS_PSS_PARAMS { hashAlg: ck::CKM_SHA256, mgf: ck::CKG_MGF1_SHA256, sLen: 32 };
                (ck::CKM_RSA_PKCS_PSS, (&raw mut pss).cast(), size_of_val(&pss))
            }
        };
        let mut raw = ck::CK_MECHANISM { mechanism, pParameter: at, ulParameterLen: len as ck::CK_ULONG };
        call(&raw mut raw)
    }
}
