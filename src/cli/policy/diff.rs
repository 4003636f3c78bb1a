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
use crate::policy::{ACTIONS, Authorizer, Backing, KeyResource, Principal, Resource, Surroundings};

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
        let asked =
            |set: &Authorizer, principal: &Principal, action: &'static str, resource: &Resource, rows, approvals| {
                let backing = Backing { approvals, ceremony: false };
                let circumstances =
                    surroundings.circumstances(Ipv4Addr::LOCALHOST.into(), rows, backing, resource, now);
                set.say(principal, action, resource, &circumstances)
            };
        // With how few approvals it is permitted, if it ever is, and by what.
        let granted = |set: &Authorizer, principal: &Principal, action: &'static str, resource: &Resource, rows| {
            let say = |approvals| asked(set, principal, action, resource, rows, approvals);
            let alone = say(0);
            if alone.allowed || !say(MOST_APPROVALS).allowed {
                return (alone.allowed.then_some(0), alone.policies);
            }
            let few = (1..=MOST_APPROVALS).map(|approvals| (approvals, say(approvals)));
            let enough = few.into_iter().find(|(_, said)| said.allowed);
            enough.map_or((None, alone.policies), |(approvals, said)| (Some(approvals), said.policies))
        };
        let mut changes = 0;
        for caller in &principals {
            let Caller { uri, roles, tenants } = caller;
            let principal = Arc::new(Principal::from_uri(uri, roles.clone(), tenants.clone())?);
            for action in ACTIONS {
                for Subject { name, parts } in &subjects {
                    let change = |(part, resource): &(String, Resource)| {
                        let rows = if STREAMED.contains(action) { &[1, 0][..] } else { &[1] };
                        rows.iter().find_map(|rows| {
                            let say = |set| granted(set, &principal, action, resource, *rows);
                            let (before, after) = (say(&old), say(&new));
                            let how = if *rows == 0 { ", as a stream" } else { "" };
                            (before.0 != after.0).then(|| (format!("{name}{part}{how}"), before, after))
                        })
                    };
                    let mut changed: Vec<(String, Granted, Granted)> = parts.iter().filter_map(change).collect();
                    if let [(_, before, after), ..] = &changed[..]
                        && changed.len() == parts.len()
                        && parts.len() > 1
                    {
                        changed = vec![(name.clone(), before.clone(), after.clone())];
                    }
                    for (on, before, after) in changed {
                        changes += 1;
                        let more = after.0.is_some_and(|after| before.0.is_none_or(|before| after < before));
                        let (sign, by) = if more { ("+", &after.1) } else { ("-", &before.1) };
                        let change = json!({ "principal": uri, "action": action, "on": on, "granted": more,
                            "approvals_before": before.0, "approvals_after": after.0, "policies": by });
                        output.result(&change, || {
                            let approvals = in_words(before.0, after.0);
                            format!("{sign} {uri}  {action}  {on}{approvals}  ({})", by.join(", "))
                        });
                    }
                }
            }
        }
        output.say(format!("{changes} grants change, asked from no configured network and with no window open"));
        Ok(if changes == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// More than so many others are never asked for.
const MOST_APPROVALS: u64 = 9;
/// What comes as a stream as well.
const STREAMED: [&str; 2] = ["verify_transactions", "personalise_cards"];

/// With how many approvals it is permitted, if it is at all, and by which policies.
type Granted = (Option<u64>, Vec<String>);

/// How many approvals are asked for now, and were before, where either asks for any.
fn in_words(before: Option<u64>, after: Option<u64>) -> String {
    let word = |approvals: Option<u64>| match approvals {
        None => "never".to_owned(),
        Some(0) => "alone".to_owned(),
        Some(1) => "with 1 approval".to_owned(),
        Some(approvals) => format!("with {approvals} approvals"),
    };
    match (before, after) {
        (None, Some(0)) | (Some(0), None) => String::new(),
        (before, after) => format!(", {} and before {}", word(after), word(before)),
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
