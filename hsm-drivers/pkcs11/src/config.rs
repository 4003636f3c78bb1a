//! This driver's part of the configuration.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_hsm_api::{DriverError, HsmDriver, Secret};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use zeroize::Zeroizing;

use crate::driver::{NAME, Pkcs11Driver};

/// What stands in the configuration file.
pub const CONFIG_EXAMPLE: &str = r#"[[backend]]
name = "room-1"
driver = "pkcs11"
place = "on-prem"
module = "/usr/lib/softhsm/libsofthsm2.so"
token = { label = "city cards" }
pin = { file = "/etc/claviger/room-1.pin" }
"#;

/// The driver's table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The vendor's library, by its path.
    pub module: PathBuf,
    /// Which token: never a slot number, since those change.
    #[serde(deserialize_with = "a_name")]
    pub token: TokenName,
    /// Where the user's PIN is.
    pub pin: PinSource,
    /// Sessions at once; never more than the token allows.
    #[serde(default = "sessions", deserialize_with = "two_or_more")]
    pub sessions: usize,
    /// Milliseconds that a call waits for a session.
    #[serde(default = "queue_ms")]
    pub queue_ms: u64,
    /// What the module wants to be initialised with (NSS its directory).
    #[serde(default)]
    pub init: Option<String>,
    /// The numbers that the vendor gave to SM4; the standard has none.
    #[serde(default)]
    pub sm4: Option<Sm4>,
}

/// `token = { label = ".." }`, `{ serial = ".." }` or both.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenName {
    /// `CKA_LABEL` of the token, without the blanks at its end.
    #[serde(default)]
    pub label: Option<String>,
    /// Its serial number.
    #[serde(default)]
    pub serial: Option<String>,
}

/// `pin = { file = ".." }` or `{ systemd-credential = ".." }`. There is none of the environment: whoever reads `/proc` reads that.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum PinSource {
    /// The first line of a file.
    File(PathBuf),
    /// A file of that name in `$CREDENTIALS_DIRECTORY`.
    SystemdCredential(String),
}

/// `sm4 = { key-type = .., generate = .., ecb = .., .. }`: numbers of the vendor's header file.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sm4 {
    /// `CKK_`.
    pub key_type: u64,
    /// `CKM_` of key generation.
    pub generate: u64,
    /// `CKM_` of ECB without padding.
    pub ecb: u64,
    /// `CKM_` of CBC without padding, with a 16-byte initial value.
    pub cbc: u64,
    /// `CKM_` of derivation by `ECB_ENCRYPT_DATA`, if there is one.
    #[serde(default)]
    pub derive: Option<u64>,
    /// `CKM_` of CMAC, if there is one.
    #[serde(default)]
    pub cmac: Option<u64>,
}

fn sessions() -> usize {
    8
}

fn queue_ms() -> u64 {
    500
}

fn a_name<'de, D: Deserializer<'de>>(from: D) -> Result<TokenName, D::Error> {
    let token = TokenName::deserialize(from)?;
    if token.label.is_none() && token.serial.is_none() {
        return Err(D::Error::custom("a token is named by its `label`, its `serial` number or both"));
    }
    Ok(token)
}

fn two_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let sessions = usize::deserialize(from)?;
    if sessions < 2 {
        return Err(D::Error::custom("`sessions` must be at least 2: one stays logged in"));
    }
    Ok(sessions)
}

impl Config {
    /// How long a call waits for a session.
    pub(crate) fn queue(&self) -> Duration {
        Duration::from_millis(self.queue_ms)
    }
}

impl PinSource {
    /// Reads the PIN.
    pub(crate) fn read(&self) -> Result<Zeroizing<Vec<u8>>, DriverError> {
        let failed = |reason: String| DriverError::backend(NAME, "pin", reason);
        let of_file = |path: &PathBuf| {
            std::fs::read(path)
                .map(Zeroizing::new)
                .map_err(|error| failed(format!("the PIN file {} cannot be read: {error}", path.display())))
        };
        let mut pin = match self {
            Self::File(path) => {
                let about = std::fs::metadata(path)
                    .map_err(|error| failed(format!("the PIN file {} cannot be read: {error}", path.display())))?;
                if !about.is_file() {
                    return Err(failed(format!("the PIN file {} is no plain file", path.display())));
                }
                if about.permissions().mode() & 0o077 != 0 {
                    return Err(failed(format!("the PIN file {} is open to others: chmod 600", path.display())));
                }
                of_file(path)?
            }
            Self::SystemdCredential(name) => {
                let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    failed(format!("no CREDENTIALS_DIRECTORY: give the unit LoadCredential={name}:.."))
                })?;
                of_file(&PathBuf::from(directory).join(name))?
            }
        };
        let end = pin.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(pin.len());
        pin.truncate(end);
        if pin.is_empty() { Err(failed("the PIN is empty".to_owned())) } else { Ok(pin) }
    }
}

/// Makes the driver from its table. The token need not be there yet.
///
/// # Errors
/// If the table holds what it should not.
pub fn open(table: toml::Table, _: Option<Secret>) -> Result<Arc<dyn HsmDriver>, DriverError> {
    let wrong = |error: toml::de::Error| DriverError::caller(NAME, "configure", error.message());
    let config: Config = table.try_into().map_err(wrong)?;
    Ok(Arc::new(Pkcs11Driver::new(config)))
}
