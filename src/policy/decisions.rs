//! Decisions that were made before. Cedar takes tens of microseconds for each, and the same callers ask the same things.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Denial, Moment, Principal, Resource};

/// Everything that a decision stands on: the policies themselves never change under one [`super::Authorizer`]. A key
/// whose state changes is another question, for the state stands in the resource.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) principal: Arc<Principal>,
    pub(super) action: &'static str,
    pub(super) resource: Resource,
    pub(super) moment: Moment,
}

/// The policies that permitted it, or why it was refused.
pub(super) type Answer = Result<Vec<String>, Denial>;

/// Questions that are remembered; a caller who asks ever other ones makes the rest forgotten, and nothing grows.
const MOST: usize = 4096;

/// What was answered.
#[derive(Default)]
pub(super) struct Decisions(RwLock<HashMap<Question, Answer>>);

impl Decisions {
    /// The answer to a question, asked of `decide` if it is new.
    pub(super) fn answer(&self, question: Question, decide: impl FnOnce(&Question) -> Answer) -> Answer {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&question).cloned();
        known.unwrap_or_else(|| {
            let answer = decide(&question);
            let mut answers = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if answers.len() >= MOST {
                answers.clear();
            }
            answers.insert(question, answer.clone());
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::LazyLock;

    use jiff::Timestamp;

    use super::super::{Backing, Surroundings};
    use super::*;

    fn question(approvals: u64) -> Question {
        static SURROUNDINGS: LazyLock<Arc<Surroundings>> = LazyLock::new(Arc::default);
        let backing = Backing { approvals, ceremony: false };
        Question {
            principal: Arc::new(Principal::from_uri("claviger://service/clearing", [], []).unwrap()),
            action: "verify_mac",
            resource: Resource::Daemon,
            moment: SURROUNDINGS.moment([127, 0, 0, 1].into(), 1, backing, Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn a_question_is_asked_once_and_others_are_others() {
        let (decisions, asked) = (Decisions::default(), Cell::new(0));
        let ask = |number| {
            decisions.answer(question(number), |question| {
                asked.set(asked.get() + 1);
                Ok(vec![question.moment.circumstances(&question.resource).approvals.to_string()])
            })
        };
        assert_eq!((ask(1), ask(1), asked.get()), (Ok(vec!["1".to_owned()]), Ok(vec!["1".to_owned()]), 1));
        assert_eq!((ask(2), asked.get()), (Ok(vec!["2".to_owned()]), 2));
        for number in 0..2 * MOST as u64 {
            assert_eq!(ask(number), Ok(vec![number.to_string()]));
        }
        assert!(decisions.0.read().unwrap().len() <= MOST);
    }
}
