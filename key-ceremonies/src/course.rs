//! How far a ceremony is, by what its transcript says: the daemon goes by it, and so does whoever checks one later.

use std::collections::{BTreeMap, BTreeSet};

use crate::binding::Binding;
use crate::plan::Plan;
use crate::step::Step;
use crate::transcript::{Ending, Event};

/// Tries that somebody has at a step.
pub const TRIES: u8 = 3;

/// What one person does at once: a step, or their part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Of the plan, from zero.
    pub step: usize,
    /// As people call it: `3`, or `3.2`.
    pub label: String,
    /// Whose it is.
    pub role: String,
    /// Which of them; whoever comes first if none.
    pub person: Option<usize>,
    /// What they do.
    pub act: Act,
}

/// What is done in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The step as the plan has it.
    Step,
    /// A component is shown to its custodian.
    Show,
    /// They type it back.
    Prove,
    /// A component is entered.
    Enter,
}

impl Turn {
    /// The turns of a plan, in order.
    pub fn all(plan: &Plan) -> Vec<Self> {
        let mut turns = Vec::new();
        for (step, what) in plan.steps.iter().enumerate() {
            let acts: &[Act] = match what {
                Step::HandOutComponents { .. } | Step::HandOutShares { .. } => &[Act::Show, Act::Prove],
                Step::EnterComponents { .. } => &[Act::Enter],
                _ => &[Act::Step],
            };
            let people = if acts == [Act::Step] { 1 } else { plan.count(what.role()) };
            let parts = people * acts.len();
            for part in 0..parts {
                turns.push(Self {
                    step,
                    label: if parts == 1 { format!("{}", step + 1) } else { format!("{}.{}", step + 1, part + 1) },
                    role: what.role().to_owned(),
                    person: (acts != [Act::Step]).then_some(part / acts.len()),
                    act: acts[part % acts.len()],
                });
            }
        }
        turns
    }

    /// Whether it is that person's.
    pub fn is_of(&self, name: &str, binding: &Binding) -> bool {
        let mut people = binding.people_of(&self.role);
        match self.person {
            Some(number) => people.nth(number).is_some_and(|person| person.name == name),
            None => people.any(|person| person.name == name),
        }
    }
}

/// Why an event cannot follow what was before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourseError {
    /// It has begun, or has not.
    #[error("a ceremony is opened once, and first")]
    Opening,
    /// It is over.
    #[error("the ceremony is over")]
    Over,
    /// It is not over.
    #[error("the ceremony is not over yet")]
    NotOver,
    /// Another is next.
    #[error("the next turn is {next}, and this is {found}")]
    NotNext {
        /// The turn that is next.
        next: String,
        /// The turn that came.
        found: String,
    },
    /// Somebody else's.
    #[error("{0} has no part in this")]
    NotTheirs(String),
    /// Not there.
    #[error("{0} has not joined")]
    Absent(String),
    /// Twice.
    #[error("{0} has done so already")]
    Twice(String),
    /// Another certificate.
    #[error("{0} has another certificate than the binding says")]
    Certificate(String),
    /// No more tries.
    #[error("there have been three tries")]
    Tries,
    /// What is made cannot be taken back by going back.
    #[error("nothing but components, and a key that has just gone out, comes again")]
    Back,
    /// Steps are left.
    #[error("steps are left to do")]
    Unfinished,
}

/// Where a ceremony is.
#[derive(Debug, Clone)]
pub struct Course {
    binding: Binding,
    turns: Vec<Turn>,
    components: BTreeSet<usize>,
    sends: BTreeSet<usize>,
    next: usize,
    begun: bool,
    opened: bool,
    tries: u8,
    ending: Option<Ending>,
    present: BTreeMap<String, String>,
    signed: BTreeSet<String>,
}

impl Course {
    /// Before the first event; the plan is one that was bound.
    pub fn new(plan: &Plan, binding: Binding) -> Self {
        let takes = |step: &Step| {
            matches!(
                step,
                Step::HandOutComponents { .. }
                    | Step::HandOutShares { .. }
                    | Step::EnterComponents { .. }
                    | Step::Confirm { .. }
            )
        };
        let those = |are: &dyn Fn(&Step) -> bool| {
            plan.steps.iter().enumerate().filter(|(_, step)| are(step)).map(|(at, _)| at).collect()
        };
        Self {
            binding,
            turns: Turn::all(plan),
            components: those(&takes),
            sends: those(&|step| matches!(step, Step::SendKey { .. })),
            next: 0,
            begun: false,
            opened: false,
            tries: 0,
            ending: None,
            present: BTreeMap::new(),
            signed: BTreeSet::new(),
        }
    }

    /// The turn that is next; none once all are done.
    pub fn next(&self) -> Option<&Turn> {
        self.turns.get(self.next)
    }

    /// Its place among all, from zero.
    pub fn place(&self) -> usize {
        self.next
    }

    /// Whether the next turn was begun: something may have been made.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Tries that are left at the next turn.
    pub fn tries_left(&self) -> u8 {
        TRIES - self.tries
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Who has joined.
    pub fn present(&self) -> impl Iterator<Item = &str> {
        self.present.keys().map(String::as_str)
    }

    /// Who has joined and not signed.
    pub fn unsigned(&self) -> impl Iterator<Item = &str> {
        self.present().filter(|name| !self.signed.contains(*name))
    }

    /// All turns.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The turn at which the components that are not yet a key began, if some were brought: where a daemon that has lost
    /// them takes the ceremony up again.
    pub fn components_from(&self) -> Option<usize> {
        let is_of_components = |turn: &Turn| turn.act != Act::Step;
        let back = (0..self.next).rev().take_while(|at| self.components.contains(&self.turns[*at].step));
        // Another set of components, joined before, is not reached: its joining lies between.
        back.filter(|at| is_of_components(&self.turns[*at])).last().filter(|_| {
            // Once they are joined there is nothing to lose.
            self.next < self.turns.len()
        })
    }

    /// The turn that was done last, if a key went out in it: whoever had it done may say that it never arrived.
    pub fn sent_last(&self) -> Option<&Turn> {
        let last = self.turns.get(self.next.checked_sub(1)?)?;
        (!self.begun && self.sends.contains(&last.step)).then_some(last)
    }

    /// Takes an event, if it may follow.
    ///
    /// # Errors
    /// [`CourseError`]; then nothing has changed.
    pub fn take(&mut self, event: &Event) -> Result<(), CourseError> {
        match event {
            Event::Opened(_) if self.opened => return Err(CourseError::Opening),
            Event::Opened(_) => self.opened = true,
            _ if !self.opened => return Err(CourseError::Opening),
            Event::Signed { by, signed } => return self.sign(by, &signed.fingerprint()),
            _ if self.ending.is_some() => return Err(CourseError::Over),
            Event::Joined { by, certificate } => {
                let person = self.binding.person(by).ok_or_else(|| CourseError::NotTheirs(by.clone()))?;
                if !person.certificate.eq_ignore_ascii_case(certificate) {
                    return Err(CourseError::Certificate(by.clone()));
                }
                if self.present.insert(by.clone(), certificate.clone()).is_some() {
                    return Err(CourseError::Twice(by.clone()));
                }
            }
            Event::Returned { by } if self.present.contains_key(by) => {}
            Event::Returned { by } => return Err(CourseError::Absent(by.clone())),
            Event::Resumed {} => {}
            Event::Begun { turn, by } => {
                self.is_theirs(turn, by)?;
                self.begun = true;
            }
            Event::Done { turn, by, .. } => {
                self.is_theirs(turn, by)?;
                (self.next, self.tries, self.begun) = (self.next + 1, 0, false);
            }
            Event::Refused { turn, by, .. } => {
                self.is_theirs(turn, by)?;
                (self.tries, self.begun) = (self.tries + 1, false);
            }
            Event::Undone { turn, by, .. } => {
                self.is_theirs(turn, by)?;
                self.begun = false;
            }
            Event::Back { to, .. } => {
                let to = self.turns.iter().position(|turn| turn.label == *to).filter(|to| *to < self.next);
                let to = to.ok_or(CourseError::Back)?;
                let is_sent_again = self.sent_last().is_some() && to + 1 == self.next;
                let of_components = || (to..self.next).all(|at| self.components.contains(&self.turns[at].step));
                if self.begun || !(is_sent_again || of_components()) {
                    return Err(CourseError::Back);
                }
                (self.next, self.tries) = (to, 0);
            }
            Event::Ended { how: Ending::Finished, .. } if self.next < self.turns.len() => {
                return Err(CourseError::Unfinished);
            }
            Event::Ended { how, .. } => self.ending = Some(*how),
        }
        Ok(())
    }

    fn is_theirs(&self, label: &str, by: &str) -> Result<(), CourseError> {
        let turn = self.next().ok_or(CourseError::Over)?;
        if turn.label != label {
            return Err(CourseError::NotNext { next: turn.label.clone(), found: label.to_owned() });
        }
        if !turn.is_of(by, &self.binding) {
            return Err(CourseError::NotTheirs(by.to_owned()));
        }
        if !self.present.contains_key(by) {
            return Err(CourseError::Absent(by.to_owned()));
        }
        if self.tries >= TRIES { Err(CourseError::Tries) } else { Ok(()) }
    }

    fn sign(&mut self, by: &str, certificate: &Option<String>) -> Result<(), CourseError> {
        if self.ending.is_none() {
            return Err(CourseError::NotOver);
        }
        let known = self.present.get(by).ok_or_else(|| CourseError::Absent(by.to_owned()))?;
        if !certificate.as_ref().is_some_and(|certificate| certificate.eq_ignore_ascii_case(known)) {
            return Err(CourseError::Certificate(by.to_owned()));
        }
        if !self.signed.insert(by.to_owned()) {
            return Err(CourseError::Twice(by.to_owned()));
        }
        Ok(())
    }
}
