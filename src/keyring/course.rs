//! Which of a key's backends is asked first, and the key's move from one backend to another.

use serde::{Deserialize, Serialize};

/// Where calls for a key go first. The rest of its backends stand behind, in the router's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// The backend that was moved to last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settled: Option<String>,
    /// A move that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moving: Option<Move>,
}

/// A move under way: both backends answer, one of them the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who answered when it began.
    pub from: String,
    /// Who shall.
    pub to: String,
    /// Whether it does already.
    pub over: bool,
}

/// A step of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveStep {
    /// Another backend answers as well, beside the one that callers hear: its shadow.
    Begin {
        /// The backend that the key moves to.
        to: String,
    },
    /// The shadow becomes the one that callers hear, and the other its shadow.
    CutOver,
    /// One step back: the former one answers again, or, before the cut-over, the move is given up.
    RollBack,
    /// The former one answers no more calls beside.
    Finish,
}

/// A step that is not the next one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourseError {
    /// There is a move already.
    #[error("the key is on its way from `{from}` to `{to}`: roll that back or finish it first")]
    Moving {
        /// From where.
        from: String,
        /// Where to.
        to: String,
    },
    /// There is none.
    #[error("the key is not on its way anywhere")]
    Settled,
    /// It is where it shall be.
    #[error("`{0}` answers for the key already")]
    There(String),
    /// The cut-over has been or is still to come.
    #[error("`{0}` answers: {1}")]
    Stage(String, &'static str),
}

impl Course {
    /// The backend that is asked first, if one was chosen.
    pub fn first(&self) -> Option<&str> {
        match &self.moving {
            Some(moving) => Some(moving.answers()),
            None => self.settled.as_deref(),
        }
    }

    /// The backend whose answer is compared with one that `answered`.
    pub fn beside(&self, answered: &str) -> Option<&str> {
        let moving = self.moving.as_ref()?;
        match answered {
            from if from == moving.from => Some(&moving.to),
            to if to == moving.to => Some(&moving.from),
            _ => None,
        }
    }

    /// The move that is under way.
    pub fn moving(&self) -> Option<&Move> {
        self.moving.as_ref()
    }

    /// The course after a step; `now` is the backend that answers today.
    ///
    /// # Errors
    /// [`CourseError`] if the step is not the next one.
    pub fn after(&self, step: MoveStep, now: &str) -> Result<Self, CourseError> {
        let over =
            |moving: &Move, over| Self { settled: self.settled.clone(), moving: Some(Move { over, ..moving.clone() }) };
        match (step, &self.moving) {
            (MoveStep::Begin { .. }, Some(Move { from, to, .. })) => {
                Err(CourseError::Moving { from: from.clone(), to: to.clone() })
            }
            (MoveStep::Begin { to }, None) if to == now => Err(CourseError::There(to)),
            (MoveStep::Begin { to }, None) => {
                let moving = Move { from: now.to_owned(), to, over: false };
                Ok(Self { settled: self.settled.clone(), moving: Some(moving) })
            }
            (_, None) => Err(CourseError::Settled),
            (MoveStep::CutOver, Some(moving)) if !moving.over => Ok(over(moving, true)),
            (MoveStep::CutOver, Some(moving)) => Err(moving.not_now("the cut-over has been")),
            (MoveStep::RollBack, Some(moving)) if moving.over => Ok(over(moving, false)),
            (MoveStep::RollBack, Some(_)) => Ok(Self { settled: self.settled.clone(), moving: None }),
            (MoveStep::Finish, Some(moving)) if moving.over => {
                Ok(Self { settled: Some(moving.to.clone()), moving: None })
            }
            (MoveStep::Finish, Some(moving)) => Err(moving.not_now("cut over first, or roll back")),
        }
    }
}

impl Move {
    /// The backend that callers hear.
    pub fn answers(&self) -> &str {
        if self.over { &self.to } else { &self.from }
    }

    fn not_now(&self, why: &'static str) -> CourseError {
        CourseError::Stage(self.answers().to_owned(), why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> MoveStep {
        MoveStep::Begin { to: "new".to_owned() }
    }

    #[test]
    fn a_move_goes_over_and_back_and_ends() {
        let start = Course::default();
        assert_eq!((start.first(), start.beside("old")), (None, None));
        let shadowed = start.after(begin(), "old").unwrap();
        assert_eq!(
            (shadowed.first(), shadowed.beside("old"), shadowed.beside("new")),
            (Some("old"), Some("new"), Some("old"))
        );
        assert_eq!(shadowed.beside("third"), None);
        let over = shadowed.after(MoveStep::CutOver, "old").unwrap();
        assert_eq!((over.first(), over.beside("new")), (Some("new"), Some("old")));
        assert_eq!(over.after(MoveStep::RollBack, "new").unwrap(), shadowed);
        assert_eq!(shadowed.after(MoveStep::RollBack, "old").unwrap(), start);
        let ended = over.after(MoveStep::Finish, "new").unwrap();
        assert_eq!((ended.first(), ended.moving()), (Some("new"), None));
    }

    #[test]
    fn steps_out_of_turn_are_refused() {
        let start = Course::default();
        for step in [MoveStep::CutOver, MoveStep::RollBack, MoveStep::Finish] {
            assert_eq!(start.after(step, "old"), Err(CourseError::Settled));
        }
        assert_eq!(start.after(begin(), "new"), Err(CourseError::There("new".to_owned())));
        let shadowed = start.after(begin(), "old").unwrap();
        assert!(matches!(shadowed.after(begin(), "old"), Err(CourseError::Moving { .. })));
        assert!(matches!(shadowed.after(MoveStep::Finish, "old"), Err(CourseError::Stage(..))));
        let over = shadowed.after(MoveStep::CutOver, "old").unwrap();
        assert!(matches!(over.after(MoveStep::CutOver, "new"), Err(CourseError::Stage(..))));
    }
}
