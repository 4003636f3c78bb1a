//! The trait, on a token.

use std::sync::{Arc, Mutex, PoisonError};

use claviger_hsm_api::{
    Algorithm, Arrival, Attestation, Batch, DriverError, Exposure, Finding, HsmDriver, Identity, Kcv, KcvFunction,
    KcvInput, KcvRule, KeyAttributes, KeyHandle, KeyRank, KeyState, NewKey, Outcome, Proof, Raised, Recipe, Secret,
    StoredKey, WrappedKey,
};
use claviger_hsm_engine::lowering::{exposure, split};
use claviger_hsm_engine::{
    Device, Direction, EngineError, OpenKeys, Opener, check_key, open_wrapped, platform, run_on,
};
use cryptoki_sys as ck;
use zeroize::Zeroizing;

use crate::attest::attest;
use crate::config::Config;
use crate::device::{Keep, OnSession};
use crate::findings::findings;
use crate::library::Template;
use crate::mechanisms::Mechanism;
use crate::object::{Flags, Object, find, has_left_half, left_half, left_id, named, object_id, raise, stored, value};
use crate::probe::{proofs, prove};
use crate::proven::{Proven, Skill};
use crate::seal::{RECORD_KEY, Sealed, held, seal, unseal};
use crate::token::{Lent, Token};

/// The driver's name in the registry.
pub(crate) const NAME: &str = "pkcs11";

/// A token as a backend.
pub struct Pkcs11Driver {
    token: Token,
    /// What was proved, and in which epoch.
    proven: Mutex<Option<(u64, Arc<Proven>)>>,
    open: OpenKeys<OpenKey>,
}

/// An opened key, as the token numbers its objects in one epoch.
struct OpenKey {
    epoch: u64,
    handle: ck::CK_OBJECT_HANDLE,
    left: Option<ck::CK_OBJECT_HANDLE>,
    algorithm: Algorithm,
    encrypts: bool,
}

impl OpenKey {
    fn object<'a>(&self) -> Object<'a> {
        let part =
            |handle, left| Object { handle, algorithm: self.algorithm, encrypts: self.encrypts, left, temporary: None };
        part(self.handle, self.left.map(|left| Box::new(part(left, None))))
    }
}

impl Pkcs11Driver {
    /// A backend on the token that the configuration names. It need not be there yet.
    pub fn new(config: Config) -> Self {
        Self { token: Token::new(config), proven: Mutex::default(), open: OpenKeys::default() }
    }

    /// What the token was proved to do since it was connected.
    fn proven(&self) -> Result<Arc<Proven>, DriverError> {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.token.connection()?.epoch;
        match &*proven {
            Some((of, known)) if *of == epoch => Ok(Arc::clone(known)),
            _ => {
                let (epoch, found) = prove(&self.token)?;
                let found = Arc::new(found);
                *proven = Some((epoch, Arc::clone(&found)));
                Ok(found)
            }
        }
    }

    fn find_open(&self, handle: &KeyHandle) -> Result<Arc<OpenKey>, DriverError> {
        self.open.get(handle.object).filter(|key| key.epoch == handle.epoch).ok_or_else(not_open)
    }

    /// Does something on a session of its own.
    fn with<T>(
        &self,
        work: impl FnOnce(&Lent<'_>, &OnSession<'_>) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let proven = self.proven()?;
        let lent = self.token.lend()?;
        let keep =
            |parent: &Object<'_>, block: &[u8; 16], child: &NewKey| self.keep(&lent, &proven, parent, block, child);
        let keep: &Keep<'_> = &keep;
        work(&lent, &OnSession { lent: &lent, proven: &proven, keep })
    }

    /// A derived key as a stored key of its own.
    fn keep(
        &self,
        lent: &Lent<'_>,
        proven: &Proven,
        parent: &Object<'_>,
        block: &[u8; 16],
        child: &NewKey,
    ) -> Result<StoredKey, DriverError> {
        child.check_kcv()?;
        let device = OnSession { lent, proven, keep: &|_, _, _| Err(nothing_to_keep()) };
        let mechanism = device.derivation(parent)?;
        let value_len = proven.mechanisms(child.attributes.algorithm)?.value_len;
        // `E(K, DL) || E(K, DL)` is the left half of the child twice.
        let mut twice = *block;
        twice.copy_within(..8, 8);
        self.store(&device, child.clone(), &|left, template| {
            let template = sized(template, value_len);
            let mechanism = Mechanism::Data(mechanism, if left { &twice } else { block });
            lent.check(lent.connection.library.derive(lent.session, mechanism, parent.handle, template))
        })
    }

    /// Destroys a key's objects. The half goes first: a crash in between leaves a key that can be destroyed again.
    fn remove(&self, lent: &Lent<'_>, id: &[u8]) -> Result<(), DriverError> {
        for id in [left_id(id), id.to_vec()] {
            if let Some(handle) = find(lent, &id)? {
                lent.check(lent.connection.library.destroy(lent.session, handle))?;
            }
        }
        Ok(())
    }

    /// Makes a stored key by `make`, which is told whether it is the left half and what the object is to be.
    fn store(
        &self,
        device: &OnSession<'_>,
        key: NewKey,
        make: &dyn Fn(bool, Template) -> Result<ck::CK_OBJECT_HANDLE, DriverError>,
    ) -> Result<StoredKey, DriverError> {
        let lent = device.lent;
        let mechanisms = device.mechanisms(key.attributes.algorithm)?;
        let id = object_id(&key.id);
        if find(lent, &id)?.is_some() {
            return Err(DriverError::caller(NAME, "C_FindObjects", "the token holds an object of this key already"));
        }
        let left = if has_left_half(&key.attributes) {
            match make(true, stored(&key, &mechanisms, &left_id(&id))) {
                Ok(left) => Some(left),
                Err(error) if error.reason == NO_LEFT_HALF => None,
                Err(error) => return Err(error),
            }
        } else {
            None
        };
        let destroy = |handle| {
            // The key was not made: what there is of it is of no use, and an orphan does no harm.
            let _ = lent.connection.library.destroy(lent.session, handle);
        };
        let made = make(false, stored(&key, &mechanisms, &id)).and_then(|handle| {
            let (algorithm, encrypts) = (key.attributes.algorithm, Flags::of(&key.attributes, None).encrypt);
            let object = Object { handle, algorithm, encrypts, left: None, temporary: None };
            let sealed = left_check_value(device, left).and_then(|left| {
                let kcv = check_value(device, &object, key.kcv_rule)?;
                seal(device, Sealed { object: id.to_vec(), left }, key, kcv, None)
            });
            sealed.inspect_err(|_| destroy(handle))
        });
        made.inspect_err(|_| left.into_iter().for_each(destroy))
    }
}

/// How a maker says that it has no left half to give.
const NO_LEFT_HALF: &str = "no left half";

/// A template that says how long the key is, where it has to.
fn sized(template: Template, len: Option<usize>) -> Template {
    match len {
        Some(len) => template.number(ck::CKA_VALUE_LEN, len as ck::CK_ULONG),
        None => template,
    }
}

fn nothing_to_keep() -> DriverError {
    DriverError::backend(NAME, "keep", "a child keeps no child")
}

/// What a left half shows; zeros for a key without one.
fn left_check_value(device: &OnSession<'_>, left: Option<ck::CK_OBJECT_HANDLE>) -> Result<[u8; 3], DriverError> {
    let Some(handle) = left else { return Ok([0; 3]) };
    let half = Object { handle, algorithm: Algorithm::TripleDes, encrypts: true, left: None, temporary: None };
    Ok(device.check_block(&half, 0)?.first_chunk().copied().unwrap_or_default())
}

/// The check value of an object by a rule.
fn check_value<'a>(device: &OnSession<'a>, object: &Object<'a>, rule: KcvRule) -> Result<Kcv, DriverError> {
    let fill = u8::from(rule.input == KcvInput::Ones);
    let block = object.algorithm.block_len();
    let full = match (rule.function, block) {
        (KcvFunction::Ecb, Some(_)) => device.check_block(object, fill)?,
        (KcvFunction::Cmac, Some(block)) => device.cmac(object, &vec![fill; block])?,
        (KcvFunction::Hmac, None) => device.hmac(object, &[fill; 16])?,
        _ => {
            let reason = format!("the KCV rule does not fit {}", object.algorithm);
            return Err(DriverError::caller(NAME, "kcv", reason));
        }
    };
    let kept = full.get(..usize::from(rule.take)).filter(|kept| !kept.is_empty());
    let kept = kept.ok_or_else(|| DriverError::caller(NAME, "kcv", "the KCV rule takes more than there is"))?;
    Ok(Kcv { value: hex::encode_upper(kept), rule })
}

impl HsmDriver for Pkcs11Driver {
    fn identity(&self) -> Identity {
        let connection = self.token.connection();
        let of = |read: &dyn Fn(&crate::library::TokenInfo) -> String| {
            connection.as_ref().map(|connection| read(&connection.info)).unwrap_or_default()
        };
        Identity {
            driver: NAME.into(),
            model: of(&|info| format!("{} {}", info.maker, info.model)),
            serial: of(&|info| format!("{} {}", info.label, info.serial)),
            firmware: of(&|info| info.firmware.clone()),
            epoch: self.token.epoch(),
        }
    }

    fn epoch(&self) -> u64 {
        self.token.epoch()
    }

    fn keep_alive(&self) -> Result<(), DriverError> {
        self.token.keep_alive()
    }

    fn probe(&self) -> Result<Vec<Proof>, DriverError> {
        platform().map_err(|error| DriverError::caller(NAME, "configure", error))?;
        self.token.keep_alive()?;
        Ok(proofs(&*self.proven()?))
    }

    fn findings(&self) -> Result<Vec<Finding>, DriverError> {
        let proven = self.proven()?;
        findings(&self.token.lend()?, &proven)
    }

    fn exposure(&self, recipe: &Recipe, ceilings: &[Exposure]) -> Result<Vec<Exposure>, DriverError> {
        let cuts = split(recipe, &*self.proven()?, ceilings)
            .map_err(|error| DriverError::unsupported(NAME, "exposure", error))?;
        Ok(exposure(recipe, &cuts))
    }

    fn run(&self, keys: &[KeyHandle], recipe: &Recipe, batch: &Batch) -> Result<Outcome, DriverError> {
        recipe.check_batch(keys, batch)?;
        let ceilings = recipe.ceilings(batch, |number| Some(keys.get(usize::from(number))?.ceiling()));
        let proven = self.proven()?;
        let cuts = split(recipe, &*proven, &ceilings).map_err(|error| DriverError::unsupported(NAME, "run", error))?;
        let beyond = exposure(recipe, &cuts).into_iter().zip(&ceilings).find(|(leaves, ceiling)| leaves > *ceiling);
        if let Some((leaves, ceiling)) = beyond {
            let reason = format!("{leaves} would leave the token for a key whose ceiling is {ceiling}");
            return Err(DriverError::unsupported(NAME, "run", reason));
        }
        let opened = keys.iter().map(|handle| self.find_open(handle)).collect::<Result<Vec<_>, _>>()?;
        self.with(|lent, device| {
            opened.iter().try_for_each(|key| current(key, lent))?;
            let objects: Vec<Object<'_>> = opened.iter().map(|key| key.object()).collect();
            let objects: Vec<&Object<'_>> = objects.iter().collect();
            run_on(device, &objects, recipe, &cuts, batch).map_err(of_engine)
        })
    }

    fn can_take(&self, arrival: Arrival, attributes: &KeyAttributes) -> Result<(), DriverError> {
        let skill = match arrival {
            Arrival::Generated => Skill::Generate,
            Arrival::Imported | Arrival::Adopted | Arrival::Unwrapped => Skill::Hold,
        };
        needs(&*self.proven()?, attributes.algorithm, skill)
    }

    fn generate(&self, key: NewKey) -> Result<StoredKey, DriverError> {
        key.check_kcv()?;
        let algorithm = key.attributes.algorithm;
        self.with(|lent, device| {
            needs(device.proven, algorithm, Skill::Generate)?;
            let mechanisms = device.mechanisms(algorithm)?;
            self.store(device, key, &|left, template| {
                if left {
                    return Err(DriverError::unsupported(NAME, "generate", NO_LEFT_HALF));
                }
                let template = sized(template, mechanisms.value_len);
                let mechanism = Mechanism::Plain(mechanisms.generate);
                lent.check(lent.connection.library.generate(lent.session, mechanism, template))
            })
        })
    }

    fn import(&self, key: NewKey, secret: Secret) -> Result<StoredKey, DriverError> {
        key.check_kcv()?;
        let algorithm = key.attributes.algorithm;
        check_key(algorithm, secret.expose()).map_err(|error| DriverError::caller(NAME, "import", error))?;
        self.with(|lent, device| {
            needs(device.proven, algorithm, Skill::Hold)?;
            let whole = value(algorithm, secret.expose());
            let half = left_half(&key.attributes, &secret);
            self.store(device, key, &|left, template| {
                let bytes = if left { half.as_ref().unwrap_or(&whole) } else { &whole };
                lent.check(lent.connection.library.create(lent.session, template.bytes(ck::CKA_VALUE, bytes)))
            })
        })
    }

    fn unwrap(&self, key: NewKey, under: &KeyHandle, wrapped: &WrappedKey) -> Result<StoredKey, DriverError> {
        wrapped.check_opener(&under.attributes)?;
        let opened = self.find_open(under)?;
        // Few tokens unwrap DES keys and none key blocks, so the token only deciphers, and makes the CMACs that a block's keys
        // are: the key passes through this process, as one that is brought in from components does.
        let secret = self.with(|lent, device| {
            current(&opened, lent)?;
            let skill = if matches!(wrapped, WrappedKey::KeyBlock { .. }) { Skill::Cmac } else { Skill::EcbBack };
            needs(device.proven, opened.algorithm, skill)?;
            open_wrapped(&InToken { device, object: opened.object() }, &key, wrapped).map_err(of_engine)
        })?;
        self.import(key, secret)
    }

    fn adopt(&self, key: NewKey, object: &str, others: &[Vec<u8>]) -> Result<StoredKey, DriverError> {
        key.check_kcv()?;
        self.with(|lent, device| {
            let (handle, id) = named(lent, object)?;
            // Two records of one object would be two keys of which one can end the other.
            let label = lent.check(lent.connection.library.attribute(lent.session, handle, ck::CKA_LABEL))?;
            let ours = label.is_some_and(|label| label.as_slice() == RECORD_KEY.as_bytes());
            if ours || others.iter().any(|opaque| held(opaque) == Some(&id)) {
                let reason = format!("the object `{object}` is in use here already");
                return Err(DriverError::caller(NAME, "adopt", reason));
            }
            let flags = Flags::read(lent, handle)?;
            let algorithm = key.attributes.algorithm;
            let found = Object { handle, algorithm, encrypts: flags.encrypt, left: None, temporary: None };
            let kcv = check_value(device, &found, key.kcv_rule)?;
            let wanted = Flags::of(&key.attributes, None);
            if wanted.encrypt && !flags.encrypt && matches!(key.attributes.rank, KeyRank::Dispersion { .. }) {
                let reason = format!("the object `{object}` does not encipher, so no card key leaves by it: adopt it with a ceiling of nothing");
                return Err(DriverError::caller(NAME, "adopt", reason));
            }
            let beyond = flags.beyond(wanted);
            if !beyond.is_empty() {
                let (value, beyond) = (&kcv.value, beyond.join(", "));
                let reason = format!("the object `{object}` (KCV {value}) may more than the key's ceiling: {beyond}");
                return Err(DriverError::caller(NAME, "adopt", reason));
            }
            seal(device, Sealed { object: id, left: [0; 3] }, key, kcv, None)
        })
    }

    fn open(&self, key: &StoredKey) -> Result<KeyHandle, DriverError> {
        let opened = self.with(|lent, device| {
            let Sealed { object: id, left: left_kcv } = unseal(device, key)?;
            let Some(handle) = find(lent, &id)? else {
                lent.still_logged_in()?;
                let reason = format!("the token does not hold the object of key {} any more", key.key.id);
                return Err(DriverError::wrong_key(NAME, "open", reason));
            };
            let left = if has_left_half(&key.key.attributes) { find(lent, &left_id(&id))? } else { None };
            let allowed = Flags::of(&key.key.attributes, key.raised);
            // While a ceiling comes down an object may less than its record says, for a moment.
            let encrypts = Flags::read(lent, handle)?.encrypt;
            for handle in std::iter::once(handle).chain(left) {
                let beyond = Flags::read(lent, handle)?.beyond(allowed);
                if !beyond.is_empty() {
                    let beyond = beyond.join(", ");
                    let reason = format!("key {} is an object that may more than its ceiling: {beyond}", key.key.id);
                    return Err(DriverError::wrong_key(NAME, "open", reason));
                }
            }
            let algorithm = key.key.attributes.algorithm;
            let opened = OpenKey { epoch: lent.connection.epoch, handle, left, algorithm, encrypts };
            let shown = check_value(device, &opened.object(), key.kcv.rule)?;
            if shown != key.kcv || left_check_value(device, left)? != left_kcv {
                let reason = format!("key {} shows another KCV than it was stored with", key.key.id);
                return Err(DriverError::wrong_key(NAME, "open", reason));
            }
            Ok(opened)
        })?;
        let epoch = opened.epoch;
        let attributes = key.key.attributes.clone();
        Ok(KeyHandle { object: self.open.insert(opened), epoch, attributes, raised: key.raised })
    }

    fn close(&self, handle: &KeyHandle) {
        self.open.remove(handle.object);
    }

    fn restate(&self, key: &StoredKey, state: KeyState, raised: Option<Raised>) -> Result<StoredKey, DriverError> {
        self.with(|lent, device| {
            let sealed = unseal(device, key)?;
            if raised != key.raised
                && let Some(handle) = find(lent, &sealed.object)?
            {
                raise(lent, handle, key, raised)?;
            }
            seal(device, sealed, NewKey { state, ..key.key.clone() }, key.kcv.clone(), raised)
        })
    }

    fn destroy(&self, key: &StoredKey) -> Result<(), DriverError> {
        self.with(|lent, device| {
            let sealed = unseal(device, key)?;
            self.remove(lent, &sealed.object)
        })
    }

    fn abandon(&self, key_id: &str) -> Result<(), DriverError> {
        self.with(|lent, _| self.remove(lent, &object_id(key_id)))
    }

    fn random(&self, len: usize) -> Result<Vec<u8>, DriverError> {
        let lent = self.token.lend()?;
        let mut bytes = vec![0; len];
        lent.check(lent.connection.library.random(lent.session, &mut bytes))?;
        Ok(bytes)
    }

    fn attest(&self, name: &str, message: &[u8]) -> Result<Attestation, DriverError> {
        attest(&self.token.lend()?, name, message)
    }
}

fn of_engine(error: EngineError) -> DriverError {
    match error {
        EngineError::Device(error) => error,
        EngineError::Random | EngineError::NotKept(_) => DriverError::backend(NAME, "run", error),
        _ => DriverError::caller(NAME, "run", error),
    }
}

/// No handle of another epoch reaches the token: it may be another key's by now.
fn current(key: &OpenKey, lent: &Lent<'_>) -> Result<(), DriverError> {
    if key.epoch == lent.connection.epoch { Ok(()) } else { Err(not_open()) }
}

fn not_open() -> DriverError {
    DriverError::backend(NAME, "run", "the key is not open")
}

/// A key that others come under, in the token.
struct InToken<'a, 'd> {
    device: &'a OnSession<'d>,
    object: Object<'d>,
}

impl Opener for InToken<'_, '_> {
    fn algorithm(&self) -> Algorithm {
        self.object.algorithm
    }

    fn cmac(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        Ok(Zeroizing::new(self.device.cmac(&self.object, message)?))
    }

    fn check_block(&self) -> Result<Vec<u8>, EngineError> {
        Ok(self.device.check_block(&self.object, 0)?)
    }

    fn decipher(&self, data: &mut [u8]) -> Result<(), EngineError> {
        Ok(self.device.ecb(&self.object, Direction::Decrypt, data)?)
    }
}

fn needs(proven: &Proven, algorithm: Algorithm, skill: Skill) -> Result<(), DriverError> {
    proven.mechanisms(algorithm)?;
    if proven.has(algorithm, skill) {
        return Ok(());
    }
    let reason = format!("the token was not proved to {} keys of {algorithm}", skill.as_str());
    Err(DriverError::unsupported(NAME, skill.as_str(), reason))
}
