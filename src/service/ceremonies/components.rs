//! Components, as custodians see and type them.

use claviger_hsm_api::Secret;
use claviger_hsm_engine::{PlainKey, kcv};
use claviger_key_ceremonies::{Ending, Event, TRIES, Turn, Written, read_component, write_component};
use subtle::ConstantTimeEq;

use super::planned::key_request;
use super::steps::{Done, line};
use super::{CeremonyError, Live};
use crate::keyring::Origin;
use crate::operation::{KeyRequest, StepInput};
use crate::service::{Service, ServiceError};

/// Why custodians bring their components again.
const NO_KEY: &str = "the components make no key: they are brought again";
/// Digits of a check value at least.
const SHORTEST_KCV: usize = 6;

impl Service {
    pub(super) fn show_component(&self, ceremony: &mut Live, key: &str, turn: &Turn) -> Result<Done, ServiceError> {
        let request = key_request(ceremony.transcript.plan(), ceremony.transcript.binding(), key)?;
        let mut failed = false;
        let drawn = Secret::init(request.algorithm.key_len(), |bytes| failed = getrandom::fill(bytes).is_err());
        if failed {
            return Err(ServiceError::Internal);
        }
        let (text, value) = (write_component(&drawn), self.kcv_of(&request, &drawn)?);
        ceremony.components.insert((key.to_owned(), turn.person.unwrap_or_default()), drawn);
        Ok(Done { lines: vec![line("component kcv", &value)], component: Some((text, Some(value))) })
    }

    pub(super) fn prove_component(
        &self,
        ceremony: &Live,
        key: &str,
        turn: &Turn,
        input: &StepInput,
    ) -> Result<Done, ServiceError> {
        let drawn = ceremony.components.get(&(key.to_owned(), turn.person.unwrap_or_default()));
        let drawn = drawn.ok_or(ServiceError::Internal)?;
        let typed = typed(input, Written::Letters, drawn.len(), false)?;
        if !bool::from(typed.expose().ct_eq(drawn.expose())) {
            return Err(ServiceError::field("component", "is not the one that was shown"));
        }
        Ok(Done::default())
    }

    pub(super) fn enter_component(
        &self,
        ceremony: &mut Live,
        key: &str,
        turn: &Turn,
        (written, odd_parity): (Written, bool),
        input: &StepInput,
    ) -> Result<Done, ServiceError> {
        let request = key_request(ceremony.transcript.plan(), ceremony.transcript.binding(), key)?;
        let typed = typed(input, written, request.algorithm.key_len(), odd_parity)?;
        let value = self.kcv_of(&request, &typed)?;
        same_kcv(input, &value)?;
        let others = ceremony.components.iter().filter(|((of, _), _)| of == key).map(|(_, other)| other);
        // Two of the same are none, and of three one would be the key.
        if others.into_iter().any(|other| bool::from(other.expose().ct_eq(typed.expose()))) {
            return Err(ServiceError::field(
                "component",
                "is the same as another custodian's: the two cancel each other out",
            ));
        }
        ceremony.components.insert((key.to_owned(), turn.person.unwrap_or_default()), typed);
        Ok(Done { lines: vec![line("component kcv", &value)], ..Done::default() })
    }

    /// Has components that make no key brought again, all of them: nobody knows which is the wrong one. After three such sets
    /// the ceremony has failed.
    pub(super) async fn enter_again(&self, ceremony: &mut Live, key: &str, reason: String) -> ServiceError {
        ceremony.components.retain(|(of, _), _| of != key);
        let course = ceremony.transcript.course();
        let from = course.components_from().and_then(|at| course.turns().get(at)).map(|turn| turn.label.clone());
        let is_of_these = |event: &Event| matches!(event, Event::Back { to, reason } if Some(to) == from.as_ref() && reason == NO_KEY);
        let before = ceremony.transcript.entries().iter().filter(|entry| is_of_these(&entry.event)).count();
        let left = TRIES.saturating_sub(u8::try_from(before + 1).unwrap_or(TRIES));
        let next = match from {
            Some(to) if left > 0 => Event::Back { to, reason: NO_KEY.to_owned() },
            _ => {
                let reason = "three sets of components made no key".to_owned();
                Event::Ended { how: Ending::Failed, by: String::new(), reason }
            }
        };
        match self.add(ceremony, next).await {
            Ok(()) => CeremonyError::Refused { reason, left }.into(),
            Err(error) => error,
        }
    }

    /// A component's check value, by the rule of the key that it is of.
    fn kcv_of(&self, request: &KeyRequest, component: &Secret) -> Result<String, ServiceError> {
        let rule = self.draft(request, Origin::Components)?.record.key.kcv_rule;
        let plain = PlainKey { algorithm: request.algorithm, secret: Secret::copy_of(component.expose()) };
        Ok(kcv(&plain, rule).map_err(|error| ServiceError::field("component", error))?.value)
    }
}

pub(super) fn typed(input: &StepInput, written: Written, len: usize, odd_parity: bool) -> Result<Secret, ServiceError> {
    let text = input.component.as_ref().ok_or_else(|| ServiceError::field("component", "is missing"))?;
    read_component(text, written, len, odd_parity).map_err(|error| ServiceError::field("component", error))
}

/// Whether the check value that somebody brings is that one, or as much of it as others commonly give: three bytes.
pub(super) fn same_kcv(input: &StepInput, value: &str) -> Result<(), ServiceError> {
    match &input.kcv {
        None => Err(ServiceError::field("kcv", "is missing")),
        Some(given) if given.len() >= SHORTEST_KCV && agree(&given.to_ascii_uppercase(), value) => Ok(()),
        Some(_) => Err(ServiceError::field("kcv", "is another than this shows")),
    }
}

/// Whether one of them begins with the other: a letter may give more of it than is kept.
fn agree(given: &str, value: &str) -> bool {
    value.starts_with(given) || given.starts_with(value)
}
