//! The module's C functions behind a safe face. The only `unsafe` of this driver.
//!
//! Functions are reached through `C_GetFunctionList`, which every module exports (some export nothing else). A session
//! is used by one thread at a time; the callers see to that by owning it.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::ptr::{NonNull, null_mut};
use std::sync::{Arc, Mutex, PoisonError};

use claviger_hsm_engine::Direction;
use cryptoki_sys as ck;
use zeroize::Zeroizing;

use crate::mechanisms::Mechanism;
use crate::rv::Rv;

/// A loaded and initialised module.
pub(crate) struct Library {
    functions: NonNull<ck::CK_FUNCTION_LIST>,
    /// Keeps the function list mapped.
    _module: ck::Pkcs11,
    /// Modules may keep the pointer they were initialised with.
    init: Option<CString>,
}

// SAFETY: the function list is constant while the module is mapped, and the module was told to lock by itself.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// A failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{rv}")]
pub(crate) struct Failed {
    /// The function, as the standard names it.
    pub(crate) function: &'static str,
    /// What it returned.
    pub(crate) rv: Rv,
}

/// A module that cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the module is named `{0}`: give a path, so that nobody else's module of that name is loaded")]
    BareName(PathBuf),
    #[error("the module cannot be loaded: {0}")]
    Load(String),
    #[error("the library is no PKCS#11 module: it has no C_GetFunctionList")]
    NoModule,
    #[error("`init` holds a zero byte")]
    Init,
    #[error("C_Initialize: {0}")]
    Initialize(Rv),
}

/// As NSS has it; the standard's has one member less, and its last is where NSS looks for its parameters.
#[repr(C)]
struct InitializeArgs {
    mutexes: [ck::CK_VOID_PTR; 4],
    flags: ck::CK_FLAGS,
    parameters: *const std::ffi::c_char,
    reserved: ck::CK_VOID_PTR,
}

/// `CK_UNAVAILABLE_INFORMATION`.
const UNAVAILABLE: ck::CK_ULONG = ck::CK_ULONG::MAX;

/// A token as the module describes it.
#[derive(Debug, Clone)]
pub(crate) struct TokenInfo {
    pub(crate) slot: ck::CK_SLOT_ID,
    pub(crate) label: String,
    pub(crate) serial: String,
    pub(crate) maker: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    /// Sessions that it holds at once, if it says so.
    pub(crate) sessions: Option<usize>,
    /// Whether the PIN is entered at the token itself (`CKF_PROTECTED_AUTHENTICATION_PATH`).
    pub(crate) keypad: bool,
}

/// Attributes of an object, with the bytes they point to.
#[derive(Default)]
pub(crate) struct Template(Vec<(ck::CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>);

impl Template {
    pub(crate) fn flag(mut self, kind: ck::CK_ATTRIBUTE_TYPE, value: bool) -> Self {
        self.0.push((kind, Zeroizing::new(vec![u8::from(value)])));
        self
    }

    pub(crate) fn number(mut self, kind: ck::CK_ATTRIBUTE_TYPE, value: ck::CK_ULONG) -> Self {
        self.0.push((kind, Zeroizing::new(value.to_ne_bytes().to_vec())));
        self
    }

    pub(crate) fn bytes(mut self, kind: ck::CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        self.0.push((kind, Zeroizing::new(value.to_vec())));
        self
    }

    /// The C view; valid while `self` is.
    fn raw(&mut self) -> Vec<ck::CK_ATTRIBUTE> {
        let raw = |(kind, value): &mut (ck::CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)| ck::CK_ATTRIBUTE {
            type_: *kind,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: value.len() as ck::CK_ULONG,
        };
        self.0.iter_mut().map(raw).collect()
    }
}

/// Calls a function of the list by name; a module that lacks it answers as the standard says it should.
macro_rules! call {
    ($library:expr, $function:ident $(, $argument:expr)*) => {{
        // SAFETY: the list was checked when the module was loaded and lives as long as it.
        let function = unsafe { $library.functions.as_ref() }.$function;
        let rv = match function {
            // SAFETY: the arguments are as the standard describes them: pointers are valid for the lengths given
            // with them, or null where it allows that, for the duration of the call.
            Some(function) => unsafe { function($($argument),*) },
            None => ck::CKR_FUNCTION_NOT_SUPPORTED,
        };
        if rv == ck::CKR_OK {
            Ok(())
        } else {
            Err(Failed { function: stringify!($function), rv: Rv(rv) })
        }
    }};
}

type Session = ck::CK_SESSION_HANDLE;
type Object = ck::CK_OBJECT_HANDLE;

impl Library {
    /// The module at a path, loaded and initialised once for the whole process however many backends name it.
    pub(crate) fn at(path: &Path, init: Option<&str>) -> Result<Arc<Self>, Unusable> {
        static LOADED: Mutex<Option<HashMap<PathBuf, Arc<Library>>>> = Mutex::new(None);
        if path.parent().is_none_or(|parent| parent.as_os_str().is_empty()) {
            return Err(Unusable::BareName(path.to_owned()));
        }
        let real = path.canonicalize().map_err(|error| Unusable::Load(format!("{}: {error}", path.display())))?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_default();
        if let Some(known) = loaded.get(&real) {
            return Ok(Arc::clone(known));
        }
        let library = Arc::new(Self::load(&real, init)?);
        loaded.insert(real, Arc::clone(&library));
        Ok(library)
    }

    fn load(path: &Path, init: Option<&str>) -> Result<Self, Unusable> {
        let init = init.map(CString::new).transpose().map_err(|_| Unusable::Init)?;
        // SAFETY: loading runs the module's constructors; the operator named it, by a path.
        let module = unsafe { ck::Pkcs11::new(path) }.map_err(|error| Unusable::Load(error.to_string()))?;
        let get = module.C_GetFunctionList.as_ref().map_err(|_| Unusable::NoModule)?;
        let mut list = null_mut();
        // SAFETY: the function writes one pointer.
        let rv = unsafe { get(&raw mut list) };
        let functions = NonNull::new(list).filter(|_| rv == ck::CKR_OK).ok_or(Unusable::NoModule)?;
        let library = Self { functions, _module: module, init };
        library.initialize().map_err(|failed| Unusable::Initialize(failed.rv))?;
        Ok(library)
    }

    /// Initialises the module. It is never finalised: other threads may be inside.
    fn initialize(&self) -> Result<(), Failed> {
        let parameters = self.init.as_ref().map_or(std::ptr::null(), |init| init.as_ptr());
        let mut args =
            InitializeArgs { mutexes: [null_mut(); 4], flags: ck::CKF_OS_LOCKING_OK, parameters, reserved: null_mut() };
        match call!(self, C_Initialize, (&raw mut args).cast()) {
            // Somebody else in this process uses the module as well.
            Err(Failed { rv: Rv(ck::CKR_CRYPTOKI_ALREADY_INITIALIZED), .. }) => Ok(()),
            other => other,
        }
    }

    /// The tokens that are there now.
    pub(crate) fn tokens(&self) -> Result<Vec<TokenInfo>, Failed> {
        let mut count = 0;
        match call!(self, C_GetSlotList, ck::CK_TRUE, null_mut(), &raw mut count) {
            // Somebody else in this process finalised it.
            Err(Failed { rv: Rv(ck::CKR_CRYPTOKI_NOT_INITIALIZED), .. }) => {
                self.initialize()?;
                call!(self, C_GetSlotList, ck::CK_TRUE, null_mut(), &raw mut count)?;
            }
            other => other?,
        }
        let mut slots = vec![0; count as usize];
        call!(self, C_GetSlotList, ck::CK_TRUE, slots.as_mut_ptr(), &raw mut count)?;
        slots.truncate(count as usize);
        let mut tokens = Vec::new();
        for slot in slots {
            let mut info = ck::CK_TOKEN_INFO::default();
            // A token that goes between the two calls is not there.
            if call!(self, C_GetTokenInfo, slot, &raw mut info).is_ok() {
                tokens.push(TokenInfo::new(slot, &info));
            }
        }
        Ok(tokens)
    }

    /// The mechanisms that the token lists, which says nothing about what it can run.
    pub(crate) fn listed(&self, slot: ck::CK_SLOT_ID) -> Result<Vec<ck::CK_MECHANISM_TYPE>, Failed> {
        let mut count = 0;
        call!(self, C_GetMechanismList, slot, null_mut(), &raw mut count)?;
        let mut listed = vec![0; count as usize];
        call!(self, C_GetMechanismList, slot, listed.as_mut_ptr(), &raw mut count)?;
        listed.truncate(count as usize);
        Ok(listed)
    }

    /// A session that may make and change objects.
    pub(crate) fn open_session(&self, slot: ck::CK_SLOT_ID) -> Result<Session, Failed> {
        self.open(slot, ck::CKF_SERIAL_SESSION | ck::CKF_RW_SESSION)
    }

    /// A session that changes nothing, as a token gives it that cannot be written.
    pub(crate) fn open_to_read(&self, slot: ck::CK_SLOT_ID) -> Result<Session, Failed> {
        self.open(slot, ck::CKF_SERIAL_SESSION)
    }

    fn open(&self, slot: ck::CK_SLOT_ID, flags: ck::CK_FLAGS) -> Result<Session, Failed> {
        let mut session = 0;
        call!(self, C_OpenSession, slot, flags, null_mut(), None, &raw mut session)?;
        Ok(session)
    }

    pub(crate) fn close_session(&self, session: Session) {
        // That it is gone already is what was wanted.
        let _ = call!(self, C_CloseSession, session);
    }

    pub(crate) fn close_all(&self, slot: ck::CK_SLOT_ID) {
        let _ = call!(self, C_CloseAllSessions, slot);
    }

    /// Logs the user in, by a PIN or at the token's keypad; that somebody is logged in already is as good.
    pub(crate) fn login(&self, session: Session, pin: Option<&[u8]>) -> Result<(), Failed> {
        match self.authenticate(session, ck::CKU_USER, pin) {
            Err(Failed { rv: Rv(ck::CKR_USER_ALREADY_LOGGED_IN), .. }) => Ok(()),
            other => other,
        }
    }

    fn authenticate(&self, session: Session, user: ck::CK_USER_TYPE, pin: Option<&[u8]>) -> Result<(), Failed> {
        let mut pin = pin.map(|pin| Zeroizing::new(pin.to_vec()));
        let (at, len) = pin.as_mut().map_or((null_mut(), 0), |pin| (pin.as_mut_ptr(), pin.len()));
        call!(self, C_Login, session, user, at, len as ck::CK_ULONG)
    }

    /// Whether the session lives and its user is logged in.
    pub(crate) fn is_logged_in(&self, session: Session) -> Result<bool, Failed> {
        let mut info = ck::CK_SESSION_INFO::default();
        call!(self, C_GetSessionInfo, session, &raw mut info)?;
        Ok(matches!(info.state, ck::CKS_RW_USER_FUNCTIONS | ck::CKS_RO_USER_FUNCTIONS))
    }

    pub(crate) fn find(&self, session: Session, mut template: Template) -> Result<Vec<Object>, Failed> {
        let mut raw = template.raw();
        call!(self, C_FindObjectsInit, session, raw.as_mut_ptr(), raw.len() as ck::CK_ULONG)?;
        let mut found = Vec::new();
        let mut page = [0; 64];
        let result = loop {
            let mut count = 0;
            let next =
                call!(self, C_FindObjects, session, page.as_mut_ptr(), page.len() as ck::CK_ULONG, &raw mut count);
            if let Err(failed) = next {
                break Err(failed);
            }
            if count == 0 {
                break Ok(found);
            }
            found.extend_from_slice(&page[..count as usize]);
        };
        let finished = call!(self, C_FindObjectsFinal, session);
        result.and_then(|found| finished.map(|()| found))
    }

    /// An attribute's bytes; none if the object has no such attribute or does not show it.
    pub(crate) fn attribute(
        &self,
        session: Session,
        object: Object,
        kind: ck::CK_ATTRIBUTE_TYPE,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, Failed> {
        let mut raw = ck::CK_ATTRIBUTE { type_: kind, pValue: null_mut(), ulValueLen: 0 };
        let hidden =
            |failed: &Failed| matches!(failed.rv.0, ck::CKR_ATTRIBUTE_TYPE_INVALID | ck::CKR_ATTRIBUTE_SENSITIVE);
        match call!(self, C_GetAttributeValue, session, object, &raw mut raw, 1) {
            Err(failed) if hidden(&failed) => return Ok(None),
            other => other?,
        }
        if raw.ulValueLen == UNAVAILABLE || raw.ulValueLen == 0 {
            return Ok(None);
        }
        let mut value = Zeroizing::new(vec![0; raw.ulValueLen as usize]);
        raw.pValue = value.as_mut_ptr().cast();
        call!(self, C_GetAttributeValue, session, object, &raw mut raw, 1)?;
        value.truncate(raw.ulValueLen as usize);
        Ok(Some(value))
    }

    pub(crate) fn create(&self, session: Session, mut template: Template) -> Result<Object, Failed> {
        let mut raw = template.raw();
        let mut object = 0;
        call!(self, C_CreateObject, session, raw.as_mut_ptr(), raw.len() as ck::CK_ULONG, &raw mut object)?;
        Ok(object)
    }

    /// Changes attributes of an object.
    pub(crate) fn change(&self, session: Session, object: Object, mut template: Template) -> Result<(), Failed> {
        let mut raw = template.raw();
        call!(self, C_SetAttributeValue, session, object, raw.as_mut_ptr(), raw.len() as ck::CK_ULONG)
    }

    pub(crate) fn destroy(&self, session: Session, object: Object) -> Result<(), Failed> {
        call!(self, C_DestroyObject, session, object)
    }

    pub(crate) fn generate(
        &self,
        session: Session,
        mechanism: Mechanism<'_>,
        mut template: Template,
    ) -> Result<Object, Failed> {
        let mut raw = template.raw();
        let mut object = 0;
        mechanism.with(|mechanism| {
            call!(self, C_GenerateKey, session, mechanism, raw.as_mut_ptr(), raw.len() as ck::CK_ULONG, &raw mut object)
        })?;
        Ok(object)
    }

    /// The private key of a new pair.
    pub(crate) fn generate_pair(
        &self,
        session: Session,
        mechanism: Mechanism<'_>,
        (mut public, mut private): (Template, Template),
    ) -> Result<Object, Failed> {
        let (mut open, mut secret) = (0, 0);
        let (public, private) = (&mut public.raw()[..], &mut private.raw()[..]);
        let lens = (public.len() as ck::CK_ULONG, private.len() as ck::CK_ULONG);
        let (at, from) = (public.as_mut_ptr(), private.as_mut_ptr());
        mechanism.with(|mechanism| {
            let made = (&raw mut open, &raw mut secret);
            call!(self, C_GenerateKeyPair, session, mechanism, at, lens.0, from, lens.1, made.0, made.1)
        })?;
        Ok(secret)
    }

    pub(crate) fn derive(
        &self,
        session: Session,
        mechanism: Mechanism<'_>,
        base: Object,
        mut template: Template,
    ) -> Result<Object, Failed> {
        let mut raw = template.raw();
        let mut object = 0;
        mechanism.with(|mechanism| {
            call!(
                self,
                C_DeriveKey,
                session,
                mechanism,
                base,
                raw.as_mut_ptr(),
                raw.len() as ck::CK_ULONG,
                &raw mut object
            )
        })?;
        Ok(object)
    }

    /// Enciphers or deciphers whole blocks in place, which the standard allows.
    pub(crate) fn cipher(
        &self,
        session: Session,
        direction: Direction,
        mechanism: Mechanism<'_>,
        key: Object,
        data: &mut [u8],
    ) -> Result<(), Failed> {
        let (at, len) = (data.as_mut_ptr(), data.len() as ck::CK_ULONG);
        let mut written = len;
        match direction {
            Direction::Encrypt => {
                mechanism.with(|mechanism| call!(self, C_EncryptInit, session, mechanism, key))?;
                call!(self, C_Encrypt, session, at, len, at, &raw mut written)?;
                whole("C_Encrypt", written, len)
            }
            Direction::Decrypt => {
                mechanism.with(|mechanism| call!(self, C_DecryptInit, session, mechanism, key))?;
                call!(self, C_Decrypt, session, at, len, at, &raw mut written)?;
                whole("C_Decrypt", written, len)
            }
        }
    }

    /// A MAC or a signature; never longer than 1024 bytes.
    pub(crate) fn sign(
        &self,
        session: Session,
        mechanism: Mechanism<'_>,
        key: Object,
        message: &[u8],
    ) -> Result<Vec<u8>, Failed> {
        self.begin_signing(session, mechanism, key)?;
        self.end_signing(session, message)
    }

    /// The same with a key that wants the PIN for each signature (`CKA_ALWAYS_AUTHENTICATE`).
    pub(crate) fn sign_by_pin(
        &self,
        session: Session,
        mechanism: Mechanism<'_>,
        key: Object,
        message: &[u8],
        pin: Option<&[u8]>,
    ) -> Result<Vec<u8>, Failed> {
        self.begin_signing(session, mechanism, key)?;
        self.authenticate(session, ck::CKU_CONTEXT_SPECIFIC, pin)?;
        self.end_signing(session, message)
    }

    fn begin_signing(&self, session: Session, mechanism: Mechanism<'_>, key: Object) -> Result<(), Failed> {
        mechanism.with(|mechanism| call!(self, C_SignInit, session, mechanism, key))
    }

    fn end_signing(&self, session: Session, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let mut signature = vec![0; 1024];
        let mut len = signature.len() as ck::CK_ULONG;
        // The function only reads the message, though its type does not say so.
        let (text, text_len) = (message.as_ptr().cast_mut(), message.len() as ck::CK_ULONG);
        call!(self, C_Sign, session, text, text_len, signature.as_mut_ptr(), &raw mut len)?;
        signature.truncate(len as usize);
        Ok(signature)
    }

    /// A key under another; never longer than 256 bytes.
    pub(crate) fn wrap(
        &self,
        session: Session,
        mechanism: Mechanism<'_>,
        under: Object,
        key: Object,
    ) -> Result<Vec<u8>, Failed> {
        let mut wrapped = vec![0; 256];
        let mut len = wrapped.len() as ck::CK_ULONG;
        mechanism.with(|mechanism| {
            call!(self, C_WrapKey, session, mechanism, under, key, wrapped.as_mut_ptr(), &raw mut len)
        })?;
        wrapped.truncate(len as usize);
        Ok(wrapped)
    }

    pub(crate) fn random(&self, session: Session, bytes: &mut [u8]) -> Result<(), Failed> {
        call!(self, C_GenerateRandom, session, bytes.as_mut_ptr(), bytes.len() as ck::CK_ULONG)
    }
}

/// That a cipher without padding gave as much as it took.
fn whole(function: &'static str, written: ck::CK_ULONG, wanted: ck::CK_ULONG) -> Result<(), Failed> {
    if written == wanted { Ok(()) } else { Err(Failed { function, rv: Rv(ck::CKR_DATA_LEN_RANGE) }) }
}

impl TokenInfo {
    /// Its label, if it has one, and its serial number.
    pub(crate) fn shown(&self) -> String {
        let label = if self.label.is_empty() { "one without a label".to_owned() } else { format!("`{}`", self.label) };
        if self.serial.is_empty() { label } else { format!("{label} ({})", self.serial) }
    }

    fn new(slot: ck::CK_SLOT_ID, info: &ck::CK_TOKEN_INFO) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned();
        let unlimited = [ck::CK_EFFECTIVELY_INFINITE, UNAVAILABLE];
        let most = info.ulMaxRwSessionCount;
        Self {
            slot,
            label: text(&info.label),
            serial: text(&info.serialNumber),
            maker: text(&info.manufacturerID),
            model: text(&info.model),
            firmware: format!("{}.{}", info.firmwareVersion.major, info.firmwareVersion.minor),
            sessions: (!unlimited.contains(&most)).then_some(most as usize),
            keypad: info.flags & ck::CKF_PROTECTED_AUTHENTICATION_PATH != 0,
        }
    }
}
