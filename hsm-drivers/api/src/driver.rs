//! The one trait that a backend's driver implements.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    Batch, Exposure, Kcv, KcvRule, KeyAttributes, KeyName, KeyState, KeyVersion, MalformedBatch, Outcome, Raised,
    Recipe, RecipeRefused, Secret, WrappedKey,
};

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The driver's name in the registry.
    pub driver: Cow<'static, str>,
    /// Maker and model.
    pub model: String,
    /// Serial number or label.
    pub serial: String,
    /// Firmware or library version.
    pub firmware: String,
    /// Counts what the driver knows of losses: handles of an older epoch are dead.
    pub epoch: u64,
}

/// One capability that was shown by a known answer, never by a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What was tried, as `3des ecb`.
    pub capability: String,
    /// Whether the answer was the known one.
    pub proved: bool,
}

/// Something about a backend that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The same for the same deviation on every device.
    pub id: Cow<'static, str>,
    /// What was seen.
    pub cause: String,
    /// What can be done about it, or what Claviger does.
    pub remedy: String,
}

/// What a key to be stored is; the backend adds the KCV and the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NewKey {
    /// Unique for ever; not a name.
    pub id: String,
    /// Whose, of which scheme, for what.
    pub name: KeyName,
    /// As the card records write it.
    pub version: KeyVersion,
    /// The dispersion factors already in the key, root first.
    pub factors: Vec<String>,
    /// What it may do.
    pub attributes: KeyAttributes,
    /// The state it starts in.
    pub state: KeyState,
    /// How its KCV is made.
    pub kcv_rule: KcvRule,
}

/// A key as the store keeps it for a backend: public facts and an opaque part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKey {
    /// Public; authenticated by the backend where it can.
    pub key: NewKey,
    /// Shown by the backend.
    pub kcv: Kcv,
    /// What its ceiling is for a time; authenticated as the key is.
    pub raised: Option<Raised>,
    /// The backend's own: a wrapped key, an object's id. Never a plain key.
    pub opaque: Vec<u8>,
}

/// An opened key. Dies with its epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHandle {
    /// The driver's number for the object.
    pub object: u64,
    /// The epoch it was opened in.
    pub epoch: u64,
    /// So that a recipe can be checked without asking the backend.
    pub attributes: KeyAttributes,
    /// What its ceiling is for a time.
    pub raised: Option<Raised>,
}

impl KeyHandle {
    /// The most that may leave the backend now on account of this key.
    pub fn ceiling(&self) -> Exposure {
        Raised::above(self.raised, self.attributes.ceiling)
    }
}

/// Whose fault an error is: the one thing that the router must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// The request's: every backend would refuse it. Never fail over.
    Caller,
    /// Nobody's: this kind of backend cannot do it, or not without letting out more than may leave. Another may; never
    /// counted against it.
    Unsupported,
    /// This backend's: fail over, and count it.
    Backend,
    /// The backend refused the PIN or the password: nothing is tried with it again before an operator has seen to it.
    Credentials,
    /// The backend's copy of a key is another key: it serves nobody until it is that key again. Fail over.
    WrongKey,
    /// Nobody knows whether it ran: repeat only what is repeatable.
    Unknown,
}

/// An error of a driver. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{driver}: {function}: {reason}")]
pub struct DriverError {
    /// Whose fault.
    pub fault: Fault,
    /// The driver's name.
    pub driver: Cow<'static, str>,
    /// The function that failed, as the device calls it.
    pub function: Cow<'static, str>,
    /// In words for an operator.
    pub reason: String,
}

const NO_OTHERS: &str = "this backend holds no keys but those that it was given";
const NO_PAIR: &str = "this backend keeps no key pair of the daemon's";
const NO_BLOCKS: &str = "this backend opens no key blocks, envelopes or keys in ECB";

/// How a backend comes to hold a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// It makes it.
    Generated,
    /// It is given it in plain.
    Imported,
    /// It is given it as another party wrapped it, and opens it itself.
    Unwrapped,
    /// It holds it already.
    Adopted,
}

/// A backend: something that holds keys and runs recipes over batches.
pub trait HsmDriver: Send + Sync {
    /// Who is there.
    fn identity(&self) -> Identity;

    /// The epoch that handles must be of; cheap.
    fn epoch(&self) -> u64 {
        self.identity().epoch
    }

    /// Whether it still answers; what keeps a login or a connection alive, and mends one that was lost.
    ///
    /// # Errors
    /// A [`DriverError`] if it does not.
    fn keep_alive(&self) -> Result<(), DriverError> {
        Ok(())
    }

    /// What it can do, shown by known answers.
    ///
    /// # Errors
    /// Of [`Fault::Backend`] if it does not answer at all.
    fn probe(&self) -> Result<Vec<Proof>, DriverError>;

    /// How the device differs from what its users may expect of it.
    ///
    /// # Errors
    /// A [`DriverError`] if it does not answer.
    fn findings(&self) -> Result<Vec<Finding>, DriverError> {
        Ok(Vec::new())
    }

    /// For each key slot of the recipe, the greatest secret that would leave the backend if it ran it for keys with
    /// these ceilings, one for each slot. A backend that knows several ways takes the quickest that stays under the
    /// ceilings; where none does, it states the one that lets out least, and `run` refuses.
    ///
    /// # Errors
    /// Of [`Fault::Unsupported`] if it cannot run the recipe however much may leave.
    fn exposure(&self, recipe: &Recipe, ceilings: &[Exposure]) -> Result<Vec<Exposure>, DriverError>;

    /// Runs a recipe over a batch, letting out what `exposure` states for the ceilings of the keys and no more.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::Caller`] for a malformed batch or a recipe that the keys do not
    /// admit; of [`Fault::Unsupported`] if it cannot be run under the keys' ceilings.
    fn run(&self, keys: &[KeyHandle], recipe: &Recipe, batch: &Batch) -> Result<Outcome, DriverError>;

    /// Whether it could come to hold keys with these attributes in that way, as far as that is known before it is tried:
    /// whoever plans asks first.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::Unsupported`] if it could not.
    fn can_take(&self, arrival: Arrival, _: &KeyAttributes) -> Result<(), DriverError> {
        match arrival {
            Arrival::Generated | Arrival::Imported => Ok(()),
            Arrival::Adopted if self.plays_device() => Ok(()),
            Arrival::Adopted => Err(DriverError::unsupported("driver", "adopt", NO_OTHERS)),
            Arrival::Unwrapped if self.opens_blocks() => Ok(()),
            Arrival::Unwrapped => Err(DriverError::unsupported("driver", "unwrap", NO_BLOCKS)),
        }
    }

    /// Whether it opens keys as other parties send them, beside those of other backends.
    fn opens_blocks(&self) -> bool {
        false
    }

    /// Makes a key inside.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::Unsupported`] for an algorithm that the backend does not have.
    fn generate(&self, key: NewKey) -> Result<StoredKey, DriverError>;

    /// Takes a plain key in; the only way by which one comes from outside.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::Caller`] for a wrong length or a key that is no key, of
    /// [`Fault::Unsupported`] for an algorithm that the backend does not have.
    fn import(&self, key: NewKey, secret: Secret) -> Result<StoredKey, DriverError>;

    /// Takes a key in that came under another which this backend holds too: by RFC 3394 from another backend, which every
    /// driver opens, or in one of the forms that other parties send. What a key block says of the key was compared with
    /// `key` before; here it is seen to be authentic, and the key to be of the length and with the check values that it says.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::Caller`] if it is not of that key, naming the field; of [`Fault::Unsupported`] for a
    /// form that the backend does not open.
    fn unwrap(&self, key: NewKey, under: &KeyHandle, wrapped: &WrappedKey) -> Result<StoredKey, DriverError>;

    /// Registers a key that the device holds already, by its label there or its id in hexadecimal. `others` are the
    /// opaque parts of the keys that are kept of this backend: what one of them stands for is no key's to take.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::Caller`] for a key that is not there or may more than it should.
    fn adopt(&self, _: NewKey, _: &str, _: &[Vec<u8>]) -> Result<StoredKey, DriverError> {
        Err(DriverError::unsupported("driver", "adopt", NO_OTHERS))
    }

    /// Whether it plays a device, and holds any key that is to be adopted: of nothing but chance, for rehearsals.
    fn plays_device(&self) -> bool {
        false
    }

    /// Makes a stored key ready for use.
    ///
    /// # Errors
    /// A [`DriverError`]; of [`Fault::WrongKey`] if the opaque part is not what it was, or the key is another.
    fn open(&self, key: &StoredKey) -> Result<KeyHandle, DriverError>;

    /// Forgets an opened key and everything derived from it, before it returns.
    fn close(&self, handle: &KeyHandle);

    /// The same key in another state, and with its ceiling raised for a time or not, authenticated anew. What the device
    /// itself lets the key do follows.
    ///
    /// # Errors
    /// A [`DriverError`].
    fn restate(&self, key: &StoredKey, state: KeyState, raised: Option<Raised>) -> Result<StoredKey, DriverError>;

    /// Removes what the backend keeps of the key.
    ///
    /// # Errors
    /// A [`DriverError`]; that it is already gone is none.
    fn destroy(&self, key: &StoredKey) -> Result<(), DriverError>;

    /// Removes whatever a creation that was interrupted left of the key of that id.
    ///
    /// # Errors
    /// A [`DriverError`]; that there is nothing is none.
    fn abandon(&self, key_id: &str) -> Result<(), DriverError>;

    /// Random bytes of the backend's own generator.
    ///
    /// # Errors
    /// A [`DriverError`].
    fn random(&self, len: usize) -> Result<Vec<u8>, DriverError>;

    /// Signs for the daemon itself, by a key pair of that name that stays in the device and is for nothing else; made there when
    /// it is first asked for.
    ///
    /// # Errors
    /// A [`DriverError`].
    fn attest(&self, _name: &str, _message: &[u8]) -> Result<Attestation, DriverError> {
        Err(DriverError::unsupported("backend", "attest", NO_PAIR))
    }
}

/// A signature by ECDSA on P-256 over SHA-256 (FIPS 186-5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The public key as an uncompressed point, 65 bytes.
    pub public_key: Vec<u8>,
    /// `r` and `s`, of 32 bytes each, big-endian.
    pub signature: Vec<u8>,
}

impl DriverError {
    fn new(fault: Fault, driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        let (driver, function) = (Cow::Borrowed(driver), Cow::Borrowed(function));
        Self { fault, driver, function, reason: reason.to_string() }
    }

    /// An error that is the request's fault.
    pub fn caller(driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        Self::new(Fault::Caller, driver, function, reason)
    }

    /// An error that is nobody's fault: the backend cannot do this.
    pub fn unsupported(driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        Self::new(Fault::Unsupported, driver, function, reason)
    }

    /// An error that says that a copy of a key is another key.
    pub fn wrong_key(driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        Self::new(Fault::WrongKey, driver, function, reason)
    }

    /// An error that says that the backend refused its credentials.
    pub fn credentials(driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        Self::new(Fault::Credentials, driver, function, reason)
    }

    /// An error after which nobody knows whether it was done.
    pub fn unknown(driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        Self::new(Fault::Unknown, driver, function, reason)
    }

    /// An error that is the backend's fault.
    pub fn backend(driver: &'static str, function: &'static str, reason: impl ToString) -> Self {
        Self::new(Fault::Backend, driver, function, reason)
    }
}

impl DriverError {
    /// That a backend does not open keys as other parties send them.
    pub fn opens_no_blocks(driver: &'static str) -> Self {
        Self::unsupported(driver, "unwrap", NO_BLOCKS)
    }
}

impl From<RecipeRefused> for DriverError {
    fn from(refused: RecipeRefused) -> Self {
        Self::caller("engine", "run", refused)
    }
}

impl From<MalformedBatch> for DriverError {
    fn from(malformed: MalformedBatch) -> Self {
        Self::caller("engine", "run", malformed)
    }
}
