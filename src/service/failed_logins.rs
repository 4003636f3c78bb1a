//! Who was not let in, for the audit log: once a second, with how many there were, so that nobody fills it from outside.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::{Audit, Event};

/// How often at most it is written down.
const PAUSE: Duration = Duration::from_secs(1);

/// Characters that are written down of what somebody shows.
const LONGEST: usize = 200;

#[derive(Default)]
pub(super) struct FailedLogins(Mutex<Since>);

#[derive(Default)]
struct Since {
    told: Option<Instant>,
    /// Those that were not written down one by one.
    others: u64,
}

impl FailedLogins {
    /// Notes one, and what URIs the certificate had that was shown, if one was.
    pub(super) fn note(&self, audit: &Audit, from: IpAddr, shown: &str, why: &str) {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if since.told.is_some_and(|told| told.elapsed() < PAUSE) {
            since.others += 1;
            return;
        }
        since.told = Some(Instant::now());
        let others = std::mem::take(&mut since.others);
        drop(since);
        audit.append_detached(Event {
            event: "failed-login".to_owned(),
            principal: from.to_string(),
            decision: "deny".to_owned(),
            outcome: why.to_owned(),
            statement: shown.chars().take(LONGEST).collect(),
            counts: if others > 0 { [("others-before".to_owned(), others)].into() } else { [].into() },
            ..Event::default()
        });
    }
}
