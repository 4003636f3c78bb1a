//! Idea six: one decision point.
//!
//! [`Authorizer::authorize`] is the only maker of a [`Permit`], and nothing reaches a backend without
//! one. The rules are Cedar policies, checked against the published schema when they are loaded.

mod actions;
mod cases;
mod change;
mod circumstances;
mod decisions;
mod principal;
mod sets;
mod vocabulary;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer as Cedar, Context, Decision, Effect, Entities, Entity, EntityTypeName, EntityUid,
    PolicySet, Request, RestrictedExpression, Schema,
};

pub use actions::{ACTIONS, CHANGES, USES};
pub use cases::{Case, Cases, Expected, KeyInWords, Request as PolicyRequest, RequestError, Said, action};
pub use change::{Accepted, CHANGE, PolicyChange};
pub use circumstances::{
    Backing, BatchSize, Circumstances, ELSEWHERE, EMBEDDED, Moment, Network, Surroundings, Window,
};
use decisions::{Answer, Decisions, Question};
pub use principal::{Kind, Principal, PrincipalError};
use sets::Loaded;
pub use sets::{CASES, PolicyError, PolicySource, digest};
pub use vocabulary::Roles;
#[cfg(test)]
pub(crate) use vocabulary::{ORIGINS, PLACES};

use crate::audit::InForce;

/// What an operation is done to, as policies see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A stored key, or one that is about to be.
    Key(Arc<KeyResource>),
    /// All of a tenant's.
    Tenant(String),
    /// A ceremony, open or to be opened.
    Ceremony {
        /// Whose keys it is about.
        tenant: String,
        /// The id of its plan.
        plan: String,
    },
    /// A backend of the configuration.
    Backend {
        /// Its configured name.
        name: String,
        /// Its driver.
        driver: String,
        /// Where it stands.
        place: String,
    },
    /// The record of all that was done.
    AuditLog,
    /// The daemon itself.
    Daemon,
}

/// A key's public attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the attribute of that name in the schema")]
pub struct KeyResource {
    pub id: String,
    pub tenant: String,
    pub scheme: String,
    pub role: String,
    pub algorithm: String,
    pub version: String,
    pub state: String,
    pub ceiling: String,
    pub origin: String,
    pub rank: String,
    /// Backends that hold it, or are to: what the circumstances are told by, and no attribute.
    pub backends: BTreeSet<String>,
}

impl std::hash::Hash for KeyResource {
    /// By what tells nearly all apart: decisions are looked up at every call.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.id, &self.state, &self.ceiling).hash(state);
    }
}

/// Leave to do one thing with certain keys. Only this module makes one.
#[derive(Debug)]
pub struct Permit {
    action: &'static str,
    keys: HashSet<String>,
    policies: Vec<String>,
}

impl Permit {
    /// What may be done.
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// Whether what is permitted includes a finish of that verb, or one of the other things that a router
    /// does: `generate`, `import`, `make-STATE`, `raise-ceiling`, `random`.
    pub fn admits(&self, verb: &str) -> bool {
        let verbs: &[&str] = match self.action {
            "verify_transactions" | "verify_purse" => &["verify-mac"],
            "authorise_purse" => &["verify-mac", "mac"],
            "generate_key" => &["generate"],
            "import_key" => &["import"],
            "adopt_key" => &["adopt", "verify-mac"],
            "replicate_key" => &["replicate"],
            "unwrap_key" | "assign_role" => &["unwrap"],
            "export_key" => &["wrap", "envelop"],
            "show_public_key" => &["public-key"],
            "activate_key" => &["make-pre-active", "make-active"],
            "suspend_key" => &["make-suspended"],
            "deactivate_key" => &["make-deactivated"],
            "compromise_key" => &["make-compromised"],
            "destroy_key" => &["make-destroyed"],
            "raise_ceiling" => &["raise-ceiling"],
            "lower_ceiling" => &["lower-ceiling"],
            "psam_debit" => &["mac"],
            "disperse_key" => &["store"],
            "compute_kcv" => &["kcv"],
            "card_command" => &["encrypt", "mac"],
            "write_key" => &["wrap", "mac"],
            "authenticate_card" | "verify_mac" => &["verify-mac"],
            "personalise_cards" => &["wrap", "kcv"],
            "generate_mac" => &["mac"],
            "encrypt" => &["encrypt"],
            "decrypt" => &["decrypt"],
            "sign" => &["sign"],
            "verify_signature" => &["verify-signature"],
            "random" => &["random"],
            _ => &[],
        };
        verbs.contains(&verb)
    }

    /// Whether it may be done with that key.
    pub fn covers(&self, key_id: &str) -> bool {
        self.keys.contains(key_id)
    }

    /// Ids of the policies that gave it.
    pub fn policies(&self) -> &[String] {
        &self.policies
    }
}

/// In place of a policy, where none permits it.
pub const DEFAULT: &str = "default";

/// Why leave was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denial {
    /// The policy that forbade it, or [`DEFAULT`] if none permitted it.
    pub policy: String,
    /// For a person who wants to know what to do.
    pub reason: String,
}

/// The decision point.
pub struct Authorizer {
    cedar: Cedar,
    policies: PolicySet,
    schema: Schema,
    in_force: InForce,
    texts: Vec<(String, String)>,
    decisions: Decisions,
}

impl Authorizer {
    /// Loads a policy set and checks it against the schema.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn load(source: &PolicySource) -> Result<Self, PolicyError> {
        let Loaded { policies, schema, in_force, texts } = sets::load(source)?;
        Ok(Self { cedar: Cedar::new(), policies, schema, in_force, texts, decisions: Decisions::default() })
    }

    /// Its files, each with its name.
    pub fn texts(&self) -> &[(String, String)] {
        &self.texts
    }

    /// The roles that stand in its policies.
    pub fn roles(&self) -> Roles {
        Roles::of(self.policies.policies())
    }

    /// Which set it is, by name and digest.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Whether the schema has an action done to resources of that type, as `Key`.
    pub fn is_done_to(&self, action: &str, resource_type: &str) -> bool {
        let done_to = uid("Claviger::Action", action).ok();
        let mut done_to = done_to.iter().filter_map(|action| self.schema.resources_for_action(action)).flatten();
        done_to.any(|resource| resource.to_string().strip_prefix("Claviger::") == Some(resource_type))
    }

    /// The names of its policies, sorted.
    pub fn policies(&self) -> Vec<String> {
        let mut names: Vec<String> = self.policies.policies().map(|policy| self.name_of(policy.id())).collect();
        names.sort();
        names
    }

    /// Decides about each resource at a moment; all must be permitted.
    ///
    /// # Errors
    /// [`Denial`] for the first that is not.
    pub fn authorize(
        &self,
        principal: &Arc<Principal>,
        action: &'static str,
        resources: &[Resource],
        moment: &Moment,
    ) -> Result<Permit, Denial> {
        let mut permit = Permit { action, keys: HashSet::new(), policies: Vec::new() };
        if resources.is_empty() {
            return Err(Denial { policy: DEFAULT.to_owned(), reason: "there is nothing to decide about".to_owned() });
        }
        for resource in resources {
            if let Resource::Key(key) = resource {
                permit.keys.insert(key.id.clone());
            }
            if cfg!(feature = "unguarded") {
                continue;
            }
            let (principal, resource, moment) = (Arc::clone(principal), resource.clone(), moment.clone());
            let question = Question { principal, action, resource, moment };
            let decide = |question: &Question| {
                let circumstances = question.moment.circumstances(&question.resource);
                self.answer(&question.principal, action, &question.resource, &circumstances)
            };
            permit.policies.extend(self.decisions.answer(question, decide)?);
        }
        permit.policies.sort_unstable();
        permit.policies.dedup();
        Ok(permit)
    }

    /// Decides about one resource, for whoever wants to know.
    pub fn say(
        &self,
        principal: &Principal,
        action: &'static str,
        resource: &Resource,
        circumstances: &Circumstances,
    ) -> Said {
        match self.answer(principal, action, resource, circumstances) {
            Ok(policies) => Said { allowed: true, policies, reason: String::new() },
            Err(denial) => Said { allowed: false, policies: vec![denial.policy], reason: denial.reason },
        }
    }

    /// The policies that permit it.
    fn answer(
        &self,
        principal: &Principal,
        action: &'static str,
        resource: &Resource,
        circumstances: &Circumstances,
    ) -> Answer {
        let response = self.ask(principal, action, resource, circumstances).map_err(|error| Denial {
            policy: DEFAULT.to_owned(),
            reason: format!("the request does not fit the policy schema: {error}"),
        })?;
        match response.decision() {
            Decision::Allow => {
                let mut policies: Vec<String> = response.diagnostics().reason().map(|id| self.name_of(id)).collect();
                policies.sort_unstable();
                Ok(policies)
            }
            Decision::Deny => Err(self.denial(action, response.diagnostics().reason().next())),
        }
    }

    fn ask(
        &self,
        principal: &Principal,
        action: &str,
        resource: &Resource,
        circumstances: &Circumstances,
    ) -> Result<cedar_policy::Response, Box<dyn std::error::Error>> {
        let who = uid(principal.kind().entity_type(), principal.name())?;
        let what = uid("Claviger::Action", action)?;
        let (on, on_entity) = resource_entity(resource)?;
        let roles = principal.roles().map(|role| uid("Claviger::Role", role)).collect::<Result<HashSet<_>, _>>()?;
        let tenants = principal.tenants().map(|tenant| RestrictedExpression::new_string(tenant.to_owned()));
        let attributes = [("tenants".to_owned(), RestrictedExpression::new_set(tenants))].into();
        let mut entities = vec![Entity::new(who.clone(), attributes, roles)?];
        entities.extend(on_entity);
        let entities = Entities::from_entities(entities, Some(&self.schema))?;
        let context = Context::from_pairs(circumstances.attributes())?;
        let request = Request::new(who, what, on, context, Some(&self.schema))?;
        Ok(self.cedar.is_authorized(&request, &self.policies, &entities))
    }

    fn name_of(&self, id: &cedar_policy::PolicyId) -> String {
        self.policies.annotation(id, "id").map_or_else(|| id.to_string(), str::to_owned)
    }

    /// The policies by which others may, or the caller in other circumstances: what there is to ask about.
    fn who_may(&self, action: &str) -> String {
        let Ok(what) = uid("Claviger::Action", action) else { return String::new() };
        let is_about = |policy: &&cedar_policy::Policy| match policy.action_constraint() {
            ActionConstraint::Any => false,
            ActionConstraint::In(actions) => actions.contains(&what),
            ActionConstraint::Eq(only) => only == what,
        };
        let permits = |policy: &&cedar_policy::Policy| policy.effect() == Effect::Permit;
        let policies = self.policies.policies().filter(permits).filter(is_about);
        let mut names: Vec<String> = policies.map(|policy| format!("`{}`", self.name_of(policy.id()))).collect();
        names.sort();
        if names.is_empty() {
            String::new()
        } else {
            format!("; it is permitted by {}, to others or otherwise", names.join(", "))
        }
    }

    fn denial(&self, action: &str, by: Option<&cedar_policy::PolicyId>) -> Denial {
        match by {
            Some(id) => Denial {
                policy: self.name_of(id),
                reason: self.policies.annotation(id, "reason").unwrap_or("a policy forbids it").to_owned(),
            },
            None => Denial {
                policy: DEFAULT.to_owned(),
                reason: match action {
                    "enter_tenant" => "no policy lets the caller act for this tenant, if there is one".to_owned(),
                    _ => format!("no policy permits the caller to `{action}` here{}", self.who_may(action)),
                },
            },
        }
    }
}

fn uid(entity_type: &str, name: &str) -> Result<EntityUid, Box<dyn std::error::Error>> {
    let entity_type: EntityTypeName = entity_type.parse()?;
    Ok(EntityUid::from_type_name_and_id(entity_type, cedar_policy::EntityId::new(name)))
}

fn resource_entity(resource: &Resource) -> Result<(EntityUid, Option<Entity>), Box<dyn std::error::Error>> {
    let text = |name: &str, value: &str| (name.to_owned(), RestrictedExpression::new_string(value.to_owned()));
    let of_tenant =
        |tenant: &str| Ok::<_, Box<dyn std::error::Error>>(HashSet::from([uid("Claviger::Tenant", tenant)?]));
    let key = match resource {
        Resource::Tenant(tenant) => {
            let on = uid("Claviger::Tenant", tenant)?;
            return Ok((on.clone(), Some(Entity::new(on, [text("name", tenant)].into(), HashSet::new())?)));
        }
        Resource::Ceremony { tenant, plan } => {
            let on = uid("Claviger::Ceremony", plan)?;
            let attributes = [text("tenant", tenant), text("plan", plan)].into();
            return Ok((on.clone(), Some(Entity::new(on, attributes, of_tenant(tenant)?)?)));
        }
        Resource::Backend { name, driver, place } => {
            let on = uid("Claviger::Backend", name)?;
            let attributes = [text("name", name), text("driver", driver), text("place", place)].into();
            return Ok((on.clone(), Some(Entity::new(on, attributes, HashSet::new())?)));
        }
        Resource::AuditLog => return Ok((uid("Claviger::AuditLog", "audit")?, None)),
        Resource::Daemon => return Ok((uid("Claviger::Daemon", "daemon")?, None)),
        Resource::Key(key) => key,
    };
    let on = uid("Claviger::Key", &key.id)?;
    let attributes = [
        text("tenant", &key.tenant),
        text("scheme", &key.scheme),
        text("role", &key.role),
        text("algorithm", &key.algorithm),
        text("version", &key.version),
        text("state", &key.state),
        text("ceiling", &key.ceiling),
        text("origin", &key.origin),
        text("rank", &key.rank),
    ];
    let entity = Entity::new(on.clone(), attributes.into(), of_tenant(&key.tenant)?)?;
    Ok((on, Some(entity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call is hot: who asks is not copied for the memory of decisions, nor to look it up there.
    #[test]
    fn a_question_takes_no_copy_of_who_asks() {
        let authorizer = Authorizer::load(&PolicySource::Production).unwrap();
        let principal = Principal::from_uri("claviger://auditor/wang", ["auditor".to_owned()], []).unwrap();
        let principal = Arc::new(principal);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let moment = Arc::new(Surroundings::default()).moment([127, 0, 0, 1].into(), 1, Backing::default(), now);
        for _ in 0..2 {
            authorizer.authorize(&principal, "list_principals", &[Resource::Daemon], &moment).unwrap();
        }
        assert_eq!(Arc::strong_count(&principal), 2, "the memory has the same");
    }
}
