//! What a plan says about keys, as the service asks for them.

use claviger_hsm_api::{Arrival, EnvelopeForm, Exportability, KcvFunction, KcvInput, KcvRule, KeyPadding, WrappedKey};
use claviger_key_ceremonies::{Binding, Form, Plan, PlanError, PlannedKey, Step};
use jiff::Timestamp;

use super::CeremonyError;
use crate::keyring::{MoveStep, Origin, Validity};
use crate::operation::{ExportForm, KeyRef, KeyRequest, Raise, StepInput, span};
use crate::policy::{Backing, Resource};
use crate::routing::RouteError;
use crate::service::exchange::export_recipe;
use crate::service::{Caller, Service, ServiceError, factor};

impl Service {
    /// Whether this daemon could hold a ceremony: its people and backends are known, its keys are keys of their schemes, and
    /// those that must be there are.
    pub(super) fn can_hold(&self, caller: &Caller, plan: &Plan, binding: &Binding) -> Result<(), ServiceError> {
        let rules = self.rules();
        let held = Resource::Ceremony { tenant: binding.tenant.clone(), plan: plan.id.clone() };
        let now = Timestamp::now();
        let here = rules.surroundings.circumstances(caller.source, 1, Backing::default(), &held, now);
        for person in &binding.people {
            let at = || format!("binding, person `{}`", person.name);
            let known = rules.principals.iter().find(|known| known.to_string() == person.name);
            let Some(known) = known else { return wrong(at(), "is no principal of the configuration") };
            let said = rules.policy.say(known, "take_step", &held, &here);
            if !said.allowed {
                return wrong(at(), format!("may take no step: {}", said.reason));
            }
        }
        for (name, backend) in &binding.backends {
            if !rules.surroundings.backends.contains_key(backend) {
                return wrong(format!("binding, backend `{name}`"), format!("the configuration has no `{backend}`"));
            }
        }
        for (number, step) in (1..).zip(&plan.steps) {
            self.can_take(plan, binding, step).map_err(|error| at_step(number, &error))?;
        }
        Ok(())
    }

    fn can_take(&self, plan: &Plan, binding: &Binding, step: &Step) -> Result<(), ServiceError> {
        let new = |key: &str, origin| {
            let request = key_request(plan, binding, key)?;
            let draft = self.draft(&request, origin)?;
            if self.referenced(&key_ref(plan, binding, key)?).is_ok() {
                return wrong(
                    format!("key `{key}`"),
                    "a key of this name, algorithm, version and factors exists already",
                );
            }
            let router = self.router()?;
            let there = router.destinations(&draft.record, &request.backends)?;
            let arrival = match origin {
                Origin::Generated => Arrival::Generated,
                Origin::Adopted => Arrival::Adopted,
                Origin::Unwrapped => Arrival::Unwrapped,
                Origin::Components | Origin::Dispersed => Arrival::Imported,
            };
            if origin == Origin::Adopted {
                there.iter().try_for_each(|backend| self.is_no_played_device(&router, backend))?;
            }
            // A device may have to be asked.
            let each = !request.backends.is_empty();
            let can = || router.can_take(arrival, &draft.record.key.attributes, &there, each);
            let at = |error: RouteError| {
                let at = format!("backend {}", there.join(", "));
                CeremonyError::Plan(PlanError { at, reason: error.to_string() }).into()
            };
            tokio::task::block_in_place(can).map_err(at)
        };
        let old = |key: &str| match plan.key(key) {
            Some(planned) if planned.exists => self.referenced(&key_ref(plan, binding, key)?).map(|_| ()),
            _ => Ok(()),
        };
        match step {
            Step::Confirm { .. } | Step::HandOutShares { .. } => Ok(()),
            // What is open can be sealed.
            Step::SealWithShares { .. } => self.router().map(|_| ()),
            Step::GenerateKey { key, .. } => new(key, Origin::Generated),
            Step::HandOutComponents { key, .. }
            | Step::EnterComponents { key, .. }
            | Step::JoinComponents { key, .. } => new(key, Origin::Components),
            Step::AdoptKey { key, .. } => new(key, Origin::Adopted),
            Step::DisperseKey { key, from, .. } => {
                own_factors(&key_request(plan, binding, key)?, &key_ref(plan, binding, from)?)?;
                old(from)
            }
            Step::CompareKcv { key, .. } => old(key),
            Step::SetState { key, state, .. } => {
                state.parse::<claviger_hsm_api::KeyState>().map_err(|error| ServiceError::field("state", error))?;
                old(key)
            }
            Step::ReplicateKey { key, under, .. } => old(key).and_then(|()| old(under)),
            Step::ReceiveKey { key, under, form, .. } => {
                // What does not depend on what comes.
                came(
                    form,
                    &StepInput { wrapped: Some(String::new()), kcv: Some(String::new()), ..StepInput::default() },
                )?;
                new(key, Origin::Unwrapped).and_then(|()| old(under))
            }
            Step::SendKey { key, under, form, .. } => {
                let form = export_form(plan, binding, under.as_deref(), form)?;
                let ids = || std::iter::once(key).chain(under);
                ids().try_for_each(|id| old(id))?;
                if !ids().all(|id| plan.key(id).is_some_and(|planned| planned.exists)) {
                    return Ok(());
                }
                let keys =
                    ids().map(|id| self.referenced(&key_ref(plan, binding, id)?)).collect::<Result<Vec<_>, _>>()?;
                let (router, recipe) = (self.router()?, export_recipe(&keys, &form));
                Ok(tokio::task::block_in_place(|| router.can_run(&keys, &recipe))?)
            }
            Step::RaiseCeiling { key, ceiling, lasting, .. } => {
                let raise = raise(ceiling, lasting)?;
                old(key)?;
                match self.referenced(&key_ref(plan, binding, key)?) {
                    Ok(entry) => raise.check_above(&entry),
                    // The ceremony makes it first.
                    Err(_) => Ok(()),
                }
            }
            Step::LowerCeiling { key, .. } => old(key),
            Step::ReplicateTenant { to, under, .. } => {
                old(under)?;
                let to = binding.backends.get(to).ok_or(ServiceError::Internal)?;
                self.can_replicate_tenant(&binding.tenant, to)
            }
            Step::MoveTenant { step, to, .. } => move_step(binding, step, to.as_deref()).map(|_| ()),
            Step::MoveKey { key, step, to, .. } => {
                move_step(binding, step, to.as_deref())?;
                old(key)
            }
        }
    }
}

/// What a step asks for that makes a key of the plan.
pub(super) fn key_request(plan: &Plan, binding: &Binding, id: &str) -> Result<KeyRequest, ServiceError> {
    let key = planned(plan, id)?;
    let KeyRef { name, version, algorithm, factors } = key_ref(plan, binding, id)?;
    let time = |field: &str, text: &Option<String>| text.as_ref().map(|text| word(field, text)).transpose();
    Ok(KeyRequest {
        name,
        version,
        algorithm,
        factors,
        ceiling: key.ceiling.as_ref().map(|text| word("ceiling", text)).transpose()?,
        validity: Validity {
            protect_from: time("protect_from", &key.protect_from)?,
            protect_until: time("protect_until", &key.protect_until)?,
            verify_until: time("verify_until", &key.verify_until)?,
        },
        backends: key.backend.iter().filter_map(|name| binding.backends.get(name).cloned()).collect(),
        places: key.places.iter().map(|text| word("places", text)).collect::<Result<_, _>>()?,
        movable: key.movable,
        sensitive: key.sensitive,
    })
}

/// A key of the plan by all that tells it from others.
pub(super) fn key_ref(plan: &Plan, binding: &Binding, id: &str) -> Result<KeyRef, ServiceError> {
    let key = planned(plan, id)?;
    Ok(KeyRef {
        name: claviger_hsm_api::KeyName::new(&binding.tenant, &key.scheme, &key.role)?,
        version: word("version", &key.version)?,
        algorithm: word("algorithm", &key.algorithm)?,
        factors: key.factors.iter().map(|text| factor(text)).collect::<Result<_, _>>()?,
    })
}

/// A key as somebody brings it, by the form that the plan says.
pub(super) fn came(form: &Form, input: &StepInput) -> Result<WrappedKey, ServiceError> {
    let text = input.wrapped.as_deref().ok_or_else(|| ServiceError::field("wrapped", "is missing"))?;
    let bytes = |field: &str, text: &str| {
        hex::decode(text).map_err(|_| ServiceError::field(field, "is not an even number of hexadecimal digits"))
    };
    Ok(match form {
        Form::KeyBlock { version, .. } => {
            let sm4_local = word::<claviger_hsm_api::BlockVersion>("version", version)?;
            let sm4_local = sm4_local == claviger_hsm_api::BlockVersion::Sm4Local;
            WrappedKey::KeyBlock { text: text.to_owned(), sm4_local }
        }
        Form::Ecb { padding } => {
            let kcv = input.kcv.as_deref().ok_or_else(|| ServiceError::field("kcv", "is missing"))?;
            let kcv = bytes("kcv", kcv)?;
            let take = u8::try_from(kcv.len()).map_err(|_| ServiceError::field("kcv", "is too long"))?;
            let kcv_rule = KcvRule { function: KcvFunction::Ecb, input: KcvInput::Zero, take };
            let padding = word::<KeyPadding>("padding", padding)?;
            WrappedKey::Ecb { ciphertext: bytes("wrapped", text)?, padding, kcv, kcv_rule }
        }
        Form::Sm2Envelope { layout, .. } => {
            WrappedKey::Envelope { form: envelope_form(layout)?, bytes: bytes("wrapped", text)? }
        }
    })
}

/// How a key goes out, as the plan says.
pub(super) fn export_form(
    plan: &Plan,
    binding: &Binding,
    under: Option<&str>,
    form: &Form,
) -> Result<ExportForm, ServiceError> {
    let under = || key_ref(plan, binding, under.unwrap_or_default());
    Ok(match form {
        Form::KeyBlock { version, exportability } => ExportForm::KeyBlock {
            under: under()?,
            version: word("version", version)?,
            mode: None,
            exportability: word::<Exportability>("exportability", exportability)?,
        },
        Form::Ecb { padding } => ExportForm::Ecb { under: under()?, padding: word("padding", padding)? },
        Form::Sm2Envelope { layout, recipient } => {
            let point = hex::decode(recipient.as_deref().unwrap_or_default()).unwrap_or_default();
            ExportForm::envelope(&point, envelope_form(layout)?)
                .map_err(|error| ServiceError::field("recipient", error))?
        }
    })
}

fn envelope_form(layout: &str) -> Result<EnvelopeForm, ServiceError> {
    Ok(EnvelopeForm { layout: word("layout", layout)?, big_endian: false, first: 1 })
}

/// How far a step raises a ceiling.
pub(super) fn raise(ceiling: &str, lasting: &str) -> Result<Raise, ServiceError> {
    let raise = Raise {
        ceiling: word("ceiling", ceiling)?,
        lasting: span(lasting).map_err(|wrong| ServiceError::field("lasting", wrong))?,
    };
    raise.check().map(|()| raise)
}

/// A step of a move, with the binding's backend.
pub(super) fn move_step(binding: &Binding, step: &str, to: Option<&str>) -> Result<MoveStep, ServiceError> {
    match (step, to.and_then(|to| binding.backends.get(to))) {
        ("begin", Some(to)) => Ok(MoveStep::Begin { to: to.clone() }),
        ("cut-over", _) => Ok(MoveStep::CutOver),
        ("finish", _) => Ok(MoveStep::Finish),
        _ => Err(ServiceError::Internal),
    }
}

/// The factors that a child has more than its parent.
pub(super) fn own_factors(child: &KeyRequest, parent: &KeyRef) -> Result<Vec<String>, ServiceError> {
    match child.factors.strip_prefix(parent.factors.as_slice()) {
        Some(more) if !more.is_empty() && child.name == parent.name => Ok(more.to_vec()),
        _ => Err(ServiceError::field("factors", "must be the parent's and more, of the same scheme and role")),
    }
}

fn planned<'p>(plan: &'p Plan, id: &str) -> Result<&'p PlannedKey, ServiceError> {
    plan.key(id).ok_or(ServiceError::Internal)
}

fn word<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, ServiceError> {
    text.parse().map_err(|error: T::Err| ServiceError::field(field, error))
}

fn wrong<T>(at: String, reason: impl Into<String>) -> Result<T, ServiceError> {
    Err(CeremonyError::Plan(PlanError { at, reason: reason.into() }).into())
}

fn at_step(number: usize, error: &ServiceError) -> ServiceError {
    // A daemon that is sealed says so, whatever the plan.
    match error {
        ServiceError::Sealed => ServiceError::Sealed,
        error => CeremonyError::Plan(PlanError { at: format!("step {number}"), reason: error.to_string() }).into(),
    }
}
