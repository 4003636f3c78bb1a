//! A second client of the same module in the same process: what another program, an operator or a fault does to the
//! token behind the driver's back.

use std::ptr::null_mut;

use cryptoki_sys as ck;

use crate::parts::{PIN, Part, SOFTHSM};

/// The module beside the driver.
pub(crate) struct Raw {
    module: ck::Pkcs11,
    slot: ck::CK_SLOT_ID,
}

/// Calls a function of the module; what it returns.
macro_rules! raw {
    ($raw:expr, $function:ident $(, $argument:expr)*) => {{
        let function = *$raw.module.$function.as_ref().unwrap();
        // SAFETY: every pointer is valid for the length given with it, or null where the standard allows that, for the
        // duration of the call.
        unsafe { function($($argument),*) }
    }};
}

impl Raw {
    /// SoftHSM2 itself, whatever the driver reaches it through, in the slot of a part's token.
    pub(crate) fn beside(part: &Part) -> Self {
        // SAFETY: a module that a test installed.
        let module = unsafe { ck::Pkcs11::new(SOFTHSM) }.unwrap();
        let mut raw = Self { module, slot: 0 };
        // Whoever is first, the driver or this.
        assert!(matches!(raw.initialize(), ck::CKR_OK | ck::CKR_CRYPTOKI_ALREADY_INITIALIZED));
        raw.slot = raw.slots().into_iter().find(|slot| raw.label(*slot) == part.label()).unwrap();
        raw
    }

    fn slots(&self) -> Vec<ck::CK_SLOT_ID> {
        let mut slots = vec![0; 64];
        let mut count = slots.len() as ck::CK_ULONG;
        assert_eq!(raw!(self, C_GetSlotList, ck::CK_TRUE, slots.as_mut_ptr(), &raw mut count), ck::CKR_OK);
        slots.truncate(count as usize);
        slots
    }

    fn label(&self, slot: ck::CK_SLOT_ID) -> String {
        let mut info = ck::CK_TOKEN_INFO::default();
        assert_eq!(raw!(self, C_GetTokenInfo, slot, &raw mut info), ck::CKR_OK);
        String::from_utf8_lossy(&info.label).trim_end().to_owned()
    }

    pub(crate) fn initialize(&self) -> ck::CK_RV {
        let mut args = ck::CK_C_INITIALIZE_ARGS { flags: ck::CKF_OS_LOCKING_OK, ..Default::default() };
        raw!(self, C_Initialize, (&raw mut args).cast())
    }

    /// As a program that ends in good order does, and with it every session of the process.
    pub(crate) fn finalize(&self) {
        assert_eq!(raw!(self, C_Finalize, null_mut()), ck::CKR_OK);
    }

    pub(crate) fn session(&self) -> ck::CK_SESSION_HANDLE {
        let mut session = 0;
        let flags = ck::CKF_SERIAL_SESSION | ck::CKF_RW_SESSION;
        assert_eq!(raw!(self, C_OpenSession, self.slot, flags, null_mut(), None, &raw mut session), ck::CKR_OK);
        session
    }

    pub(crate) fn login(&self, session: ck::CK_SESSION_HANDLE) {
        let mut pin = PIN.as_bytes().to_vec();
        let len = pin.len() as ck::CK_ULONG;
        assert_eq!(raw!(self, C_Login, session, ck::CKU_USER, pin.as_mut_ptr(), len), ck::CKR_OK);
    }

    pub(crate) fn logout(&self, session: ck::CK_SESSION_HANDLE) {
        assert_eq!(raw!(self, C_Logout, session), ck::CKR_OK);
    }

    /// The sessions that live, of whomever: handles are small numbers here.
    pub(crate) fn sessions(&self) -> Vec<ck::CK_SESSION_HANDLE> {
        let lives = |session: &ck::CK_SESSION_HANDLE| {
            let mut info = ck::CK_SESSION_INFO::default();
            raw!(self, C_GetSessionInfo, *session, &raw mut info) == ck::CKR_OK && info.slotID == self.slot
        };
        (1..2000).filter(lives).collect()
    }

    pub(crate) fn close(&self, session: ck::CK_SESSION_HANDLE) {
        assert_eq!(raw!(self, C_CloseSession, session), ck::CKR_OK);
    }

    /// Begins a MAC that nobody ends.
    pub(crate) fn begin_mac(&self, session: ck::CK_SESSION_HANDLE, key: ck::CK_OBJECT_HANDLE) {
        let mut mechanism = ck::CK_MECHANISM { mechanism: ck::CKM_AES_CMAC, ..Default::default() };
        assert_eq!(raw!(self, C_SignInit, session, &raw mut mechanism, key), ck::CKR_OK);
    }

    /// Objects of an id.
    pub(crate) fn find(&self, session: ck::CK_SESSION_HANDLE, id: &[u8]) -> Vec<ck::CK_OBJECT_HANDLE> {
        let mut id = id.to_vec();
        let mut template =
            ck::CK_ATTRIBUTE { type_: ck::CKA_ID, pValue: id.as_mut_ptr().cast(), ulValueLen: id.len() as _ };
        assert_eq!(raw!(self, C_FindObjectsInit, session, &raw mut template, 1), ck::CKR_OK);
        let (mut found, mut count) = ([0; 16], 0);
        assert_eq!(raw!(self, C_FindObjects, session, found.as_mut_ptr(), 16, &raw mut count), ck::CKR_OK);
        assert_eq!(raw!(self, C_FindObjectsFinal, session), ck::CKR_OK);
        found[..count as usize].to_vec()
    }

    pub(crate) fn destroy(&self, session: ck::CK_SESSION_HANDLE, object: ck::CK_OBJECT_HANDLE) {
        assert_eq!(raw!(self, C_DestroyObject, session, object), ck::CKR_OK);
    }

    /// Uses numbers up: the next object that is found or made gets this one.
    pub(crate) fn use_numbers_up_to(&self, session: ck::CK_SESSION_HANDLE, next: ck::CK_OBJECT_HANDLE) {
        while self.create_aes(session, false, b"filler", &[0x5A; 16]) + 1 < next {}
    }

    /// An AES key that makes MACs, with an id of the caller's choice, of the token or of the session only.
    pub(crate) fn create_aes(
        &self,
        session: ck::CK_SESSION_HANDLE,
        token: bool,
        id: &[u8],
        value: &[u8],
    ) -> ck::CK_OBJECT_HANDLE {
        let number = |number: ck::CK_ULONG| number.to_ne_bytes().to_vec();
        let mut attributes = [
            (ck::CKA_CLASS, number(ck::CKO_SECRET_KEY)),
            (ck::CKA_KEY_TYPE, number(ck::CKK_AES)),
            (ck::CKA_TOKEN, vec![u8::from(token)]),
            (ck::CKA_PRIVATE, vec![1]),
            (ck::CKA_SENSITIVE, vec![1]),
            (ck::CKA_EXTRACTABLE, vec![0]),
            (ck::CKA_ENCRYPT, vec![1]),
            (ck::CKA_DECRYPT, vec![0]),
            (ck::CKA_SIGN, vec![1]),
            (ck::CKA_WRAP, vec![0]),
            (ck::CKA_UNWRAP, vec![0]),
            (ck::CKA_ID, id.to_vec()),
            (ck::CKA_VALUE, value.to_vec()),
        ];
        let mut template = attributes.each_mut().map(|(kind, value)| ck::CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: value.len() as ck::CK_ULONG,
        });
        let mut object = 0;
        let len = template.len() as ck::CK_ULONG;
        assert_eq!(raw!(self, C_CreateObject, session, template.as_mut_ptr(), len, &raw mut object), ck::CKR_OK);
        object
    }
}
