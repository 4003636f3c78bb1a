//! The one configuration file.

mod error;

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use claviger_hsm_api::KeyName;
use ipnet::IpNet;
use jiff::civil::{Time, Weekday};
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;
use toml::de::DeTable;

pub use error::ConfigError;
use error::syntax;

use crate::audit::AuditConfig;
use crate::policy::{ELSEWHERE, Network, PolicySource, Principal, Surroundings, Window};
use crate::routing::{BackendConfig, PinConfig, RoutingConfig, WrongTable, take_backends};
use crate::service::{CallerLimits, QuotaConfig};

/// `claviger.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address and port to serve on.
    pub listen: SocketAddr,
    /// Directory of the store and the audit log.
    pub data: PathBuf,
    /// Whom a daemon that root started runs as.
    #[serde(default)]
    pub user: Option<String>,
    /// `production`, `dev`, or a directory of `*.cedar` files.
    #[serde(default = "production")]
    pub policies: String,
    /// A directory of scheme profiles that add to or replace the shipped ones.
    #[serde(default)]
    pub schemes: Option<PathBuf>,
    /// Certificates.
    pub tls: Tls,
    /// How the daemon is unsealed.
    #[serde(default)]
    pub seal: Seal,
    /// Who signs the audit log.
    #[serde(default)]
    pub audit: AuditConfig,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// Who may call at all.
    #[serde(default, rename = "principal")]
    pub principals: Vec<PrincipalConfig>,
    /// Where keys live.
    #[serde(default, rename = "backend", deserialize_with = "read_apart")]
    pub backends: Vec<BackendConfig>,
    /// What policies call ranges of addresses.
    #[serde(default, rename = "network", deserialize_with = "names_apart")]
    pub networks: Vec<NetworkTable>,
    /// What policies call times of day.
    #[serde(default, rename = "window", deserialize_with = "names_apart")]
    pub windows: Vec<WindowTable>,
    /// How much single tenants may have done.
    #[serde(default, rename = "quota", deserialize_with = "one_for_each")]
    pub quotas: Vec<QuotaTable>,
    /// Where the calls of single tenants go first.
    #[serde(default, rename = "pin")]
    pub pins: Vec<PinConfig>,
}

/// `[tls]`: PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The daemon's certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities that sign client certificates, one or several.
    pub client_ca: PathBuf,
    /// What they have revoked (X.509 CRLs, PEM). If there is any, each of them must have one.
    #[serde(default)]
    pub crl: Vec<PathBuf>,
}

/// `[seal]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Unseals at start. Without it an officer unseals with a passphrase.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// The same as a credential that systemd hands over (`LoadCredentialEncrypted=` of the unit), by its name.
    #[serde(default)]
    pub systemd_credential: Option<CredentialName>,
}

/// The name of a credential of systemd's: a file of its directory and of no other.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct CredentialName(String);

impl TryFrom<String> for CredentialName {
    type Error = &'static str;
    fn try_from(name: String) -> Result<Self, &'static str> {
        match name.is_empty() || name.starts_with('.') || name.contains('/') {
            true => Err(error::CREDENTIAL),
            false => Ok(Self(name)),
        }
    }
}

impl CredentialName {
    /// Where systemd has put it; none without systemd.
    pub fn path(&self) -> Option<PathBuf> {
        std::env::var_os("CREDENTIALS_DIRECTORY").map(|directory| PathBuf::from(directory).join(&self.0))
    }
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a JSON body.
    #[serde(deserialize_with = "at_least_one")]
    pub body_bytes: usize,
    /// Bytes of a line of a streamed file.
    #[serde(deserialize_with = "at_least_one")]
    pub line_bytes: usize,
    /// Seconds for a request that is no stream, and between two pieces of one that is.
    #[serde(deserialize_with = "at_least_one")]
    pub request_seconds: u64,
    /// Connections at once.
    #[serde(deserialize_with = "at_least_one")]
    pub connections: usize,
    /// Seconds that running requests have when the daemon is told to stop.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: 4 << 20, line_bytes: 64 << 10, request_seconds: 30, connections: 1024, drain_seconds: 30 }
    }
}

/// A `[[principal]]`: a certificate's URI, and what it may be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalConfig {
    /// The URI in the certificate's subject alternative name.
    #[serde(deserialize_with = "principal_uri")]
    pub uri: String,
    /// Duties, as the policies name them.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Tenants it acts for.
    #[serde(default, deserialize_with = "tenant_names")]
    pub tenants: Vec<String>,
    /// Calls in a second; no limit if left out.
    #[serde(default)]
    pub calls_per_second: Option<NonZeroU32>,
    /// Calls at once; no limit if left out.
    #[serde(default)]
    pub calls_at_once: Option<NonZeroUsize>,
}

/// A `[[network]]`: a name that policies know addresses by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkTable {
    /// As policies call it.
    #[serde(deserialize_with = "network_name")]
    pub name: String,
    /// Ranges, as `10.1.0.0/16`.
    #[serde(deserialize_with = "one_or_more")]
    pub addresses: Vec<IpNet>,
}

/// A `[[window]]`: a name that policies know a time of day by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowTable {
    /// As policies call it.
    pub name: String,
    /// On which days it opens; on every day if none is named.
    #[serde(default = "every_day", deserialize_with = "one_or_more")]
    pub days: Vec<Day>,
    /// When it opens, as `22:00`.
    pub from: Time,
    /// When it closes; on the next day, if that is not later: a whole day, if it is the same.
    pub until: Time,
    /// How far the clock is from UTC, as `+08:00`: no clock that is put forward in summer.
    #[serde(default = "utc", deserialize_with = "read_clock")]
    pub clock: TimeZone,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is the day of that name")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl From<Day> for Weekday {
    fn from(day: Day) -> Self {
        match day {
            Day::Monday => Self::Monday,
            Day::Tuesday => Self::Tuesday,
            Day::Wednesday => Self::Wednesday,
            Day::Thursday => Self::Thursday,
            Day::Friday => Self::Friday,
            Day::Saturday => Self::Saturday,
            Day::Sunday => Self::Sunday,
        }
    }
}

/// A `[[quota]]`: how much a tenant may have done.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaTable {
    /// City or operator.
    #[serde(deserialize_with = "tenant_name")]
    pub tenant: String,
    /// Records, MACs and cards in a day of UTC.
    pub items_per_day: u64,
}

fn production() -> String {
    "production".to_owned()
}

fn every_day() -> Vec<Day> {
    vec![Day::Monday, Day::Tuesday, Day::Wednesday, Day::Thursday, Day::Friday, Day::Saturday, Day::Sunday]
}

fn utc() -> TimeZone {
    TimeZone::UTC
}

fn read_clock<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TimeZone, D::Error> {
    let text = String::deserialize(from)?;
    let zone = DateTimeParser::new().parse_time_zone(&text).ok().filter(|zone| zone.to_fixed_offset().is_ok());
    zone.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no distance from UTC, as `+08:00`")))
}

/// A bound of none would let nobody do anything.
fn at_least_one<'de, D: serde::Deserializer<'de>, N: Deserialize<'de> + Default + PartialEq>(
    from: D,
) -> Result<N, D::Error> {
    let number = N::deserialize(from)?;
    if number == N::default() { Err(serde::de::Error::custom("must be at least 1")) } else { Ok(number) }
}

/// Of two quotas of a tenant nobody could say which counts.
fn one_for_each<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<QuotaTable>, D::Error> {
    let quotas = Vec::<QuotaTable>::deserialize(from)?;
    for (number, quota) in quotas.iter().enumerate() {
        if quotas[..number].iter().any(|other| other.tenant == quota.tenant) {
            return Err(serde::de::Error::custom(format!("tenant `{}` has two [[quota]] tables", quota.tenant)));
        }
    }
    Ok(quotas)
}

/// What policies call by a name.
trait Named {
    /// As the table is called, and the name.
    fn named(&self) -> (&'static str, &str);
}

impl Named for NetworkTable {
    fn named(&self) -> (&'static str, &str) {
        ("network", &self.name)
    }
}

impl Named for WindowTable {
    fn named(&self) -> (&'static str, &str) {
        ("window", &self.name)
    }
}

/// Of two of a name nobody could say which a policy means.
fn names_apart<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Named>(from: D) -> Result<Vec<T>, D::Error> {
    let tables = Vec::<T>::deserialize(from)?;
    for (number, table) in tables.iter().enumerate() {
        if tables[..number].iter().any(|other| other.named() == table.named()) {
            let (what, name) = table.named();
            return Err(serde::de::Error::custom(format!("two [[{what}]] tables have the name `{name}`")));
        }
    }
    Ok(tables)
}

/// What has none is nowhere or never.
fn one_or_more<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<T>::deserialize(from)?;
    if items.is_empty() { Err(serde::de::Error::custom("must have at least one")) } else { Ok(items) }
}

fn network_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    if name.is_empty() || name == ELSEWHERE {
        let wrong = format!("a network is not called `{name}`: `{ELSEWHERE}` is where no network is");
        return Err(serde::de::Error::custom(wrong));
    }
    Ok(name)
}

fn principal_uri<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let uri = String::deserialize(from)?;
    let principal = Principal::from_uri(&uri, [], []).map_err(serde::de::Error::custom)?;
    if Principal::host().is_some_and(|host| *host == principal) {
        return Err(serde::de::Error::custom(format!("`{uri}` is whoever runs the host, and no caller")));
    }
    Ok(uri)
}

/// A name that no tenant can have is a slip of somebody's pen.
fn tenant_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    KeyName::check_tenant(&name).map_err(serde::de::Error::custom)?;
    Ok(name)
}

fn tenant_names<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    names.iter().try_for_each(|name| KeyName::check_tenant(name)).map_err(serde::de::Error::custom)?;
    Ok(names)
}

/// The `[[backend]]` tables are read by themselves: each has its driver's settings too.
fn read_apart<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<BackendConfig>, D::Error> {
    IgnoredAny::deserialize(from).map(|_| Vec::new())
}

/// The text of a plain file: a pipe is not waited for, and a device not read to its end.
fn plain_text(path: &Path) -> Result<String, ConfigError> {
    let wrong = |error| ConfigError::Read { path: path.to_owned(), error };
    let at_once = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let mut file = File::options().read(true).custom_flags(at_once).open(path).map_err(wrong)?;
    if !file.metadata().map_err(wrong)?.is_file() {
        return Err(wrong(std::io::Error::other("it is no plain file")));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(wrong)?;
    Ok(text)
}

fn read<'t>(text: &'t str, path: &Path) -> Result<Spanned<DeTable<'t>>, ConfigError> {
    DeTable::parse(text).map_err(syntax(text, path))
}

fn backends(root: &mut Spanned<DeTable<'_>>, text: &str, path: &Path) -> Result<Vec<BackendConfig>, ConfigError> {
    take_backends(root.get_mut()).map_err(|WrongTable { error, help }| match syntax(text, path)(error) {
        ConfigError::Syntax { path, line, error, secret, .. } => {
            ConfigError::Syntax { path, line, error, secret, help }
        }
        other => other,
    })
}

impl Config {
    /// Reads the file; relative paths in it are relative to it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&plain_text(path)?, path)
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut root = read(text, path)?;
        let backends = backends(&mut root, text, path)?;
        let mut config = Self::deserialize(toml::Deserializer::from(root)).map_err(syntax(text, path))?;
        config.backends = backends;
        if let Some(name) = &config.audit.signed_by
            && !config.backends.iter().any(|backend| backend.name == *name)
        {
            return Err(ConfigError::NoSuchBackend { path: path.to_owned(), name: name.clone() });
        }
        let base = path.parent().unwrap_or(Path::new(""));
        let at = |path: &mut PathBuf| *path = base.join(&*path);
        at(&mut config.data);
        at(&mut config.tls.certificate);
        at(&mut config.tls.key);
        at(&mut config.tls.client_ca);
        config.tls.crl.iter_mut().for_each(at);
        config.seal.key_file.as_mut().map(at);
        config.schemes.as_mut().map(at);
        config.backends = config.backends.into_iter().map(|backend| backend.at(base)).collect();
        if !matches!(config.policies.as_str(), "production" | "dev") {
            config.policies = base.join(&config.policies).display().to_string();
        }
        Ok(config)
    }

    /// Reads nothing but the `[[backend]]` tables of the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load_backends(path: &Path) -> Result<Vec<BackendConfig>, ConfigError> {
        let text = plain_text(path)?;
        let backends = backends(&mut read(&text, path)?, &text, path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Ok(backends.into_iter().map(|backend| backend.at(base)).collect())
    }

    /// Where calls may go, and where they go first.
    pub fn routing(&self) -> RoutingConfig {
        let mut backends = self.backends.clone();
        // A module is run by whom the daemon is, and not by root that started both.
        backends.iter_mut().for_each(|backend| backend.user = backend.user.take().or_else(|| self.user.clone()));
        RoutingConfig { backends, pins: self.pins.clone() }
    }

    /// What policies call networks, times and backends.
    pub fn surroundings(&self) -> Surroundings {
        let network = |table: &NetworkTable| Network { name: table.name.clone(), addresses: table.addresses.clone() };
        let window = |table: &WindowTable| Window {
            name: table.name.clone(),
            days: table.days.iter().copied().map(Weekday::from).collect(),
            from: table.from,
            until: table.until,
            zone: table.clock.clone(),
        };
        let backend =
            |table: &BackendConfig| (table.name.clone(), (table.driver.clone(), table.place.as_str().to_owned()));
        Surroundings {
            networks: self.networks.iter().map(network).collect(),
            windows: self.windows.iter().map(window).collect(),
            backends: self.backends.iter().map(backend).collect(),
        }
    }

    /// How much callers and tenants may do.
    pub fn quota(&self) -> QuotaConfig {
        let of_caller = |table: &PrincipalConfig| {
            let calls_at_once = table.calls_at_once.map(NonZeroUsize::get);
            let limits = CallerLimits { calls_per_second: table.calls_per_second, calls_at_once };
            (table.uri.clone(), limits)
        };
        QuotaConfig {
            callers: self.principals.iter().map(of_caller).collect(),
            items_per_day: self.quotas.iter().map(|quota| (quota.tenant.clone(), quota.items_per_day)).collect(),
        }
    }

    /// Where the policies come from.
    pub fn policy_source(&self) -> PolicySource {
        match self.policies.as_str() {
            "production" => PolicySource::Production,
            "dev" => PolicySource::Dev,
            directory => PolicySource::Directory(PathBuf::from(directory)),
        }
    }
}

#[cfg(test)]
mod tests;
