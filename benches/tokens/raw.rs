//! The module by itself: what a careful program without Claviger would ask of it.

use std::ptr::null_mut;

use cryptoki_sys as ck;

/// A logged-in session of a SoftHSM2 token.
pub(crate) struct Raw {
    module: ck::Pkcs11,
    session: ck::CK_SESSION_HANDLE,
}

macro_rules! call {
    ($raw:expr, $function:ident $(, $argument:expr)*) => {{
        let function = *$raw.module.$function.as_ref().unwrap();
        // SAFETY: every pointer is valid for the length given with it, or null where the standard allows that, for the
        // duration of the call.
        let rv = unsafe { function($($argument),*) };
        assert_eq!(rv, ck::CKR_OK, stringify!($function));
    }};
}

fn number(number: ck::CK_ULONG) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

fn template(attributes: &mut [(ck::CK_ATTRIBUTE_TYPE, Vec<u8>)]) -> Vec<ck::CK_ATTRIBUTE> {
    let attribute = |(kind, value): &mut (ck::CK_ATTRIBUTE_TYPE, Vec<u8>)| ck::CK_ATTRIBUTE {
        type_: *kind,
        pValue: value.as_mut_ptr().cast(),
        ulValueLen: value.len() as ck::CK_ULONG,
    };
    attributes.iter_mut().map(attribute).collect()
}

impl Raw {
    /// Logs in to the only token.
    pub(crate) fn new(module: &str, pin: &str) -> Self {
        // SAFETY: a module of the system.
        let module = unsafe { ck::Pkcs11::new(module) }.unwrap();
        let mut raw = Self { module, session: 0 };
        let mut args = ck::CK_C_INITIALIZE_ARGS { flags: ck::CKF_OS_LOCKING_OK, ..Default::default() };
        let initialize = *raw.module.C_Initialize.as_ref().unwrap();
        // SAFETY: the arguments are the standard's. The driver may have been first.
        unsafe { initialize((&raw mut args).cast()) };
        let mut slots = [0; 8];
        let mut count = slots.len() as ck::CK_ULONG;
        call!(raw, C_GetSlotList, ck::CK_TRUE, slots.as_mut_ptr(), &raw mut count);
        let flags = ck::CKF_SERIAL_SESSION | ck::CKF_RW_SESSION;
        let mut session = 0;
        call!(raw, C_OpenSession, slots[0], flags, null_mut(), None, &raw mut session);
        raw.session = session;
        let mut pin = pin.as_bytes().to_vec();
        let login = *raw.module.C_Login.as_ref().unwrap();
        // SAFETY: the pointer is valid for its length. Somebody may be logged in already.
        unsafe { login(session, ck::CKU_USER, pin.as_mut_ptr(), pin.len() as ck::CK_ULONG) };
        raw
    }

    /// A key of the session that does everything.
    pub(crate) fn key(&self, kind: ck::CK_KEY_TYPE, value: &[u8]) -> ck::CK_OBJECT_HANDLE {
        let mut attributes = [
            (ck::CKA_CLASS, number(ck::CKO_SECRET_KEY)),
            (ck::CKA_KEY_TYPE, number(kind)),
            (ck::CKA_TOKEN, vec![0]),
            (ck::CKA_ENCRYPT, vec![1]),
            (ck::CKA_SIGN, vec![1]),
            (ck::CKA_DERIVE, vec![1]),
            (ck::CKA_VALUE, value.to_vec()),
        ];
        let mut raw = template(&mut attributes);
        let (mut object, len) = (0, raw.len() as ck::CK_ULONG);
        call!(self, C_CreateObject, self.session, raw.as_mut_ptr(), len, &raw mut object);
        object
    }

    /// One record as it comes naturally: the card's key by derivation, a MAC by the last block of CBC, and the key gone.
    pub(crate) fn derive_mac_destroy(&self, master: ck::CK_OBJECT_HANDLE, factor: [u8; 8], text: &mut [u8]) -> [u8; 8] {
        let mut input: [u8; 16] = std::array::from_fn(|at| if at < 8 { factor[at] } else { !factor[at - 8] });
        let mut data = ck::CK_KEY_DERIVATION_STRING_DATA { pData: input.as_mut_ptr(), ulLen: 16 };
        let mut mechanism = ck::CK_MECHANISM {
            mechanism: ck::CKM_DES3_ECB_ENCRYPT_DATA,
            pParameter: (&raw mut data).cast(),
            ulParameterLen: size_of_val(&data) as ck::CK_ULONG,
        };
        let mut attributes = [
            (ck::CKA_CLASS, number(ck::CKO_SECRET_KEY)),
            (ck::CKA_KEY_TYPE, number(ck::CKK_DES2)),
            (ck::CKA_TOKEN, vec![0]),
            (ck::CKA_ENCRYPT, vec![1]),
        ];
        let mut raw = template(&mut attributes);
        let (mut card, len) = (0, raw.len() as ck::CK_ULONG);
        call!(self, C_DeriveKey, self.session, &raw mut mechanism, master, raw.as_mut_ptr(), len, &raw mut card);
        let mac = self.cbc(card, text);
        call!(self, C_DestroyObject, self.session, card);
        mac
    }

    fn cbc(&self, key: ck::CK_OBJECT_HANDLE, text: &mut [u8]) -> [u8; 8] {
        let mut initial = [0u8; 8];
        let mut mechanism = ck::CK_MECHANISM {
            mechanism: ck::CKM_DES3_CBC,
            pParameter: initial.as_mut_ptr().cast(),
            ulParameterLen: 8,
        };
        call!(self, C_EncryptInit, self.session, &raw mut mechanism, key);
        let mut out = [0; 256];
        let mut len = out.len() as ck::CK_ULONG;
        let text_len = text.len() as ck::CK_ULONG;
        call!(self, C_Encrypt, self.session, text.as_mut_ptr(), text_len, out.as_mut_ptr(), &raw mut len);
        out[len as usize - 8..len as usize].try_into().unwrap()
    }

    /// ECB over many blocks in one call.
    pub(crate) fn ecb(&self, key: ck::CK_OBJECT_HANDLE, blocks: &mut [u8]) {
        let mut mechanism = ck::CK_MECHANISM { mechanism: ck::CKM_DES3_ECB, ..Default::default() };
        call!(self, C_EncryptInit, self.session, &raw mut mechanism, key);
        let (at, mut len) = (blocks.as_mut_ptr(), blocks.len() as ck::CK_ULONG);
        call!(self, C_Encrypt, self.session, at, len, at, &raw mut len);
    }

    /// An AES-CMAC.
    pub(crate) fn cmac(&self, key: ck::CK_OBJECT_HANDLE, message: &mut [u8]) -> [u8; 16] {
        let mut mechanism = ck::CK_MECHANISM { mechanism: ck::CKM_AES_CMAC, ..Default::default() };
        call!(self, C_SignInit, self.session, &raw mut mechanism, key);
        let mut mac = [0; 16];
        let mut len = 16;
        let message_len = message.len() as ck::CK_ULONG;
        call!(self, C_Sign, self.session, message.as_mut_ptr(), message_len, mac.as_mut_ptr(), &raw mut len);
        mac
    }
}
