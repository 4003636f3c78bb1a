//! `claviger policy diff`.

use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use claviger_client::{BackendList, Caller, CallerList, Client, Key, KeyFilter, KeyList};
use claviger_key_ceremonies::PLANS;
use jiff::Timestamp;
use serde_json::json;

use super::source;
use crate::cli::keys::line;
use crate::cli::output::Output;
use crate::policy::{ACTIONS, Authorizer, Backing, KeyResource, Principal, Resource, Said, Surroundings};

#[derive(Args)]
pub(in crate::cli) struct Diff {
    /// `production`, `dev`, or a directory of *.cedar files
    old: String,
    /// The same
    new: String,
    /// Over the keys of this tenant
    #[arg(long)]
    tenant: String,
}

/// What something may be done to: one resource, or many of a kind of which mostly all are permitted or none.
struct Subject {
    name: String,
    /// Each with what tells it from the others.
    parts: Vec<(String, Resource)>,
}

impl Subject {
    fn one(name: impl Into<String>, resource: Resource) -> Self {
        Self { name: name.into(), parts: vec![(String::new(), resource)] }
    }
}

impl Diff {
    pub(super) async fn run(self, client: &Client, output: &Output) -> anyhow::Result<ExitCode> {
        let (old, new) = (Authorizer::load(&source(&self.old))?, Authorizer::load(&source(&self.new))?);
        let CallerList { principals } = client.get("/v1/principals", &()).await?;
        let filter = KeyFilter { tenant: self.tenant.clone(), scheme: None, role: None };
        let KeyList { keys } = client.get("/v1/keys", &filter).await?;
        let BackendList { backends } = client.get("/v1/backends", &()).await?;
        let known = backends.into_iter().map(|backend| (backend.name, (backend.driver, backend.place)));
        let surroundings = Arc::new(Surroundings { backends: known.collect(), ..Surroundings::default() });
        let subjects = subjects(&self.tenant, &keys, &surroundings);
        let now = Timestamp::now();
        let circumstances = |resource: &Resource| {
            surroundings.circumstances(Ipv4Addr::LOCALHOST.into(), 1, Backing::default(), resource, now)
        };
        let mut changes = 0;
        for caller in &principals {
            let Caller { uri, roles, tenants } = caller;
            let principal = Arc::new(Principal::from_uri(uri, roles.clone(), tenants.clone())?);
            for action in ACTIONS {
                for Subject { name, parts } in &subjects {
                    let change = |(part, resource): &(String, Resource)| {
                        let say = |set: &Authorizer| set.say(&principal, action, resource, &circumstances(resource));
                        let (before, after) = (say(&old), say(&new));
                        (before.allowed != after.allowed).then(|| (format!("{name}{part}"), before, after))
                    };
                    let mut changed: Vec<(String, Said, Said)> = parts.iter().filter_map(change).collect();
                    if let [(_, before, after), ..] = &changed[..]
                        && changed.len() == parts.len()
                    {
                        changed = vec![(name.clone(), before.clone(), after.clone())];
                    }
                    for (on, before, after) in changed {
                        changes += 1;
                        let (sign, by) = if after.allowed { ("+", &after.policies) } else { ("-", &before.policies) };
                        let change = json!({ "principal": uri, "action": action, "on": on, "granted": after.allowed,
                            "policies": by });
                        output.result(&change, || format!("{sign} {uri}  {action}  {on}  ({})", by.join(", ")));
                    }
                }
            }
        }
        output.say(format!("{changes} grants change"));
        Ok(if changes == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// All that policies may be asked about.
fn subjects(tenant: &str, keys: &[Key], surroundings: &Surroundings) -> Vec<Subject> {
    let key = |key| Subject::one(line(key), Resource::Key(Arc::new(resource(key))));
    let mut subjects: Vec<Subject> = keys.iter().map(key).collect();
    let held = |plan: &str| Resource::Ceremony { tenant: tenant.to_owned(), plan: plan.to_owned() };
    subjects.push(Subject {
        name: format!("ceremonies of {tenant}"),
        parts: PLANS.iter().map(|(plan, _)| (format!(", {plan}"), held(plan))).collect(),
    });
    subjects.push(Subject::one(format!("tenant {tenant}"), Resource::Tenant(tenant.to_owned())));
    let backends = surroundings.backends().into_iter().zip(surroundings.backends.keys());
    subjects.extend(backends.map(|(backend, name)| Subject::one(format!("backend {name}"), backend)));
    subjects.push(Subject::one("the audit log", Resource::AuditLog));
    subjects.push(Subject::one("the daemon", Resource::Daemon));
    subjects
}

fn resource(key: &Key) -> KeyResource {
    KeyResource {
        id: key.id.clone(),
        tenant: key.tenant.clone(),
        scheme: key.scheme.clone(),
        role: key.role.clone(),
        algorithm: key.algorithm.clone(),
        version: key.version.clone(),
        state: key.state.clone(),
        ceiling: key.ceiling.clone(),
        origin: key.origin.clone(),
        rank: key.rank.clone(),
        backends: key.backends.iter().cloned().collect(),
    }
}
