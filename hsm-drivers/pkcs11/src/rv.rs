//! What the module's functions return.

use std::fmt;

use cryptoki_sys as ck;

/// A `CK_RV`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rv(pub(crate) ck::CK_RV);

macro_rules! names {
    ($($name:ident),* $(,)?) => {
        impl fmt::Display for Rv {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $(ck::$name => f.write_str(stringify!($name)),)*
                    other => write!(f, "CKR 0x{other:08X}"),
                }
            }
        }
    };
}

names! {
    CKR_OK, CKR_HOST_MEMORY, CKR_SLOT_ID_INVALID, CKR_GENERAL_ERROR, CKR_FUNCTION_FAILED, CKR_ARGUMENTS_BAD,
    CKR_NO_EVENT, CKR_CANT_LOCK, CKR_ATTRIBUTE_READ_ONLY, CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_ATTRIBUTE_VALUE_INVALID, CKR_DATA_INVALID, CKR_DATA_LEN_RANGE, CKR_DEVICE_ERROR, CKR_DEVICE_MEMORY,
    CKR_DEVICE_REMOVED, CKR_ENCRYPTED_DATA_INVALID, CKR_ENCRYPTED_DATA_LEN_RANGE, CKR_FUNCTION_NOT_SUPPORTED,
    CKR_KEY_HANDLE_INVALID, CKR_KEY_SIZE_RANGE, CKR_KEY_TYPE_INCONSISTENT, CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_KEY_NOT_WRAPPABLE, CKR_KEY_UNEXTRACTABLE, CKR_MECHANISM_INVALID, CKR_MECHANISM_PARAM_INVALID,
    CKR_OBJECT_HANDLE_INVALID, CKR_OPERATION_ACTIVE, CKR_OPERATION_NOT_INITIALIZED, CKR_PIN_INCORRECT,
    CKR_PIN_INVALID, CKR_PIN_LEN_RANGE, CKR_PIN_EXPIRED, CKR_PIN_LOCKED, CKR_SESSION_CLOSED, CKR_SESSION_COUNT,
    CKR_SESSION_HANDLE_INVALID, CKR_SESSION_READ_ONLY, CKR_TEMPLATE_INCOMPLETE, CKR_TEMPLATE_INCONSISTENT,
    CKR_TOKEN_NOT_PRESENT, CKR_TOKEN_NOT_RECOGNIZED, CKR_TOKEN_WRITE_PROTECTED, CKR_USER_ALREADY_LOGGED_IN,
    CKR_USER_NOT_LOGGED_IN, CKR_USER_PIN_NOT_INITIALIZED, CKR_USER_TYPE_INVALID, CKR_WRAPPING_KEY_HANDLE_INVALID,
    CKR_BUFFER_TOO_SMALL, CKR_CRYPTOKI_NOT_INITIALIZED, CKR_CRYPTOKI_ALREADY_INITIALIZED, CKR_FUNCTION_REJECTED,
}

impl Rv {
    /// Whether the token, the login or every session may be gone: no handle is to be trusted any more.
    pub(crate) fn is_loss(self) -> bool {
        matches!(
            self.0,
            ck::CKR_DEVICE_ERROR
                | ck::CKR_DEVICE_REMOVED
                | ck::CKR_TOKEN_NOT_PRESENT
                | ck::CKR_TOKEN_NOT_RECOGNIZED
                | ck::CKR_SLOT_ID_INVALID
                | ck::CKR_SESSION_HANDLE_INVALID
                | ck::CKR_SESSION_CLOSED
                | ck::CKR_USER_NOT_LOGGED_IN
                | ck::CKR_CRYPTOKI_NOT_INITIALIZED
                | ck::CKR_KEY_HANDLE_INVALID
                | ck::CKR_OBJECT_HANDLE_INVALID
        )
    }

    /// Whether the token says that it cannot do this at all: SoftHSM2 has no HMAC with a key shorter than its hash.
    pub(crate) fn is_inability(self) -> bool {
        matches!(self.0, ck::CKR_MECHANISM_INVALID | ck::CKR_KEY_SIZE_RANGE | ck::CKR_FUNCTION_NOT_SUPPORTED)
    }

    /// Whether the token refused the PIN: each further try brings it nearer to locking itself.
    pub(crate) fn is_refused_pin(self) -> bool {
        matches!(
            self.0,
            ck::CKR_PIN_INCORRECT
                | ck::CKR_PIN_INVALID
                | ck::CKR_PIN_LEN_RANGE
                | ck::CKR_PIN_EXPIRED
                | ck::CKR_PIN_LOCKED
        )
    }

    /// Whether the token has no room for another session.
    pub(crate) fn is_exhaustion(self) -> bool {
        matches!(self.0, ck::CKR_SESSION_COUNT | ck::CKR_DEVICE_MEMORY | ck::CKR_HOST_MEMORY)
    }
}
