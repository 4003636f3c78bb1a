//! Landlock: the data directory to write, the places of the configuration to read, the one port to listen on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::{ConfinementError, failed};
use crate::config::{Config, CredentialName};

/// The newest that this was written for; an older kernel does what it can.
const NEWEST: ABI = ABI::V6;

pub(super) fn confine(config: &Config, path: &Path) -> Result<(), ConfinementError> {
    let restricted = || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::AbstractUnixSocket)?
            .create()?
            .add_rule(NetPort::new(config.listen.port(), AccessNet::BindTcp))?
            .add_rule(PathBeneath::new(PathFd::new(&config.data)?, AccessFs::from_all(NEWEST) & !AccessFs::Execute))?;
        for place in to_read(config, path) {
            let access = AccessFs::ReadFile | AccessFs::ReadDir;
            let access = if place.is_dir() { access } else { AccessFs::ReadFile.into() };
            // What is not there yet, or any more, cannot be read anyway.
            if let Ok(place) = PathFd::new(&place) {
                rules = rules.add_rule(PathBeneath::new(place, access))?;
            }
        }
        Ok(rules.restrict_self()?)
    };
    let status = restricted().map_err(|error| failed("files")(std::io::Error::other(error.to_string())))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            tracing::warn!("the kernel knows part of Landlock only: files are confined, ports perhaps not");
        }
        RulesetStatus::NotEnforced => {
            tracing::warn!("the kernel has no Landlock: the daemon can open whatever its user can");
        }
    }
    Ok(())
}

/// A place of another configuration that a daemon cannot reach which was confined to the places of its first.
pub fn out_of_reach(first: &Config, other: &Config, path: &Path) -> Option<PathBuf> {
    let real = |place: PathBuf| place.canonicalize().unwrap_or(place);
    let reached: Vec<PathBuf> = to_read(first, path).into_iter().chain([first.data.clone()]).map(real).collect();
    let is_reached = |place: &PathBuf| reached.iter().any(|reached| real(place.clone()).starts_with(reached));
    to_read(other, path).into_iter().find(|place| !is_reached(place))
}

/// The directories of what is read again at SIGHUP, so that files may be replaced; and where users have their names.
fn to_read(config: &Config, path: &Path) -> BTreeSet<PathBuf> {
    let tls = &config.tls;
    let credential = config.seal.systemd_credential.as_ref().and_then(CredentialName::path);
    let sealed_by = config.seal.key_file.as_deref().or(credential.as_deref());
    let files = [Some(path), Some(&tls.certificate), Some(&tls.key), Some(&tls.client_ca), sealed_by];
    let parent = |file: &Path| match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut places: BTreeSet<PathBuf> = files.into_iter().flatten().map(parent).collect();
    // Certificates are often links to where their issuer's tool keeps them.
    let linked = files.into_iter().flatten().filter_map(|file| file.canonicalize().ok());
    places.extend(linked.map(|file| parent(&file)));
    places.extend(config.tls.crl.iter().map(|file| parent(file)));
    places.extend(config.schemes.clone());
    if !matches!(config.policies.as_str(), "production" | "dev") {
        places.insert(PathBuf::from(&config.policies));
    }
    places.extend(["/etc/passwd", "/proc/self"].map(PathBuf::from));
    places
}
