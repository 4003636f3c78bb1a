//! One token: found by its name, one login, sessions that are lent out, and an epoch that any loss ends.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use claviger_hsm_api::DriverError;
use cryptoki_sys as ck;

use crate::config::Config;
use crate::driver::NAME;
use crate::library::{Failed, Library, TokenInfo, Unusable};
use crate::rv::Rv;

/// A token, whether or not it is there now.
pub(crate) struct Token {
    pub(crate) config: Config,
    epoch: AtomicU64,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// One that was lost, until the last call has left it.
    lost: Option<Arc<Connection>>,
    idle: Vec<ck::CK_SESSION_HANDLE>,
    /// Sessions lent out, of any connection.
    lent: usize,
    /// How the token refused the PIN: it is not tried again.
    pin_refused: Option<DriverError>,
}

/// A token that answered, and its pinned session, which keeps the login.
pub(crate) struct Connection {
    pub(crate) library: Arc<Library>,
    pub(crate) info: TokenInfo,
    pub(crate) epoch: u64,
    pinned: ck::CK_SESSION_HANDLE,
    most: usize,
}

/// A session that is lent to one call. It goes back only if nothing went wrong in it: what an operation that failed
/// left active would meet the next call.
pub(crate) struct Lent<'a> {
    token: &'a Token,
    pub(crate) connection: Arc<Connection>,
    pub(crate) session: ck::CK_SESSION_HANDLE,
    failed: Cell<bool>,
    /// Whether a refusal may be the answer to a question, and is no loss.
    probing: bool,
}

impl Token {
    pub(crate) fn new(config: Config) -> Self {
        Self { config, epoch: AtomicU64::new(0), state: Mutex::default(), returned: Condvar::new() }
    }

    /// Counts connections: handles of an older one are dead.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The token as it is connected now, connecting it first if it is not. One thread connects, the others wait.
    pub(crate) fn connection(&self) -> Result<Arc<Connection>, DriverError> {
        let deadline = Instant::now() + self.config.queue();
        self.connected(self.lock(), deadline).map(|(_, connection)| connection)
    }

    /// A session for trying what the token can do.
    pub(crate) fn lend_for_probe(&self) -> Result<Lent<'_>, DriverError> {
        let mut lent = self.lend()?;
        lent.probing = true;
        Ok(lent)
    }

    /// A session, within the time that a call may wait for one.
    pub(crate) fn lend(&self) -> Result<Lent<'_>, DriverError> {
        let deadline = Instant::now() + self.config.queue();
        let mut state = self.lock();
        loop {
            let connection;
            (state, connection) = self.connected(state, deadline)?;
            if let Some(session) = state.idle.pop() {
                state.lent += 1;
                return Ok(Lent { token: self, connection, session, failed: Cell::new(false), probing: false });
            }
            // One session is the pinned one.
            if state.lent + 1 < connection.most {
                match connection.library.open_session(connection.info.slot) {
                    Ok(session) => {
                        state.lent += 1;
                        return Ok(Lent { token: self, connection, session, failed: Cell::new(false), probing: false });
                    }
                    // Other programs hold the token's sessions: wait for one of our own, if there is one.
                    Err(failed) if failed.rv.is_exhaustion() && state.lent > 0 => {}
                    Err(failed) => {
                        if failed.rv.is_loss() {
                            self.lose(&mut state);
                        }
                        return Err(error(failed));
                    }
                }
            }
            state = self.wait(state, deadline)?;
        }
    }

    /// Until a session comes back.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Result<MutexGuard<'a, State>, DriverError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let reason = format!("no session became free in {} ms", self.config.queue_ms);
            return Err(DriverError::backend(NAME, "C_OpenSession", reason));
        }
        Ok(self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Whether the token still answers and is still logged in; a token that does not is forgotten, so that the next
    /// call connects anew.
    pub(crate) fn keep_alive(&self) -> Result<(), DriverError> {
        let deadline = Instant::now() + self.config.queue();
        let (mut state, connection) = self.connected(self.lock(), deadline)?;
        match connection.library.is_logged_in(connection.pinned) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.lose(&mut state);
                self.connected(state, deadline).map(drop)
            }
            Err(failed) => {
                self.lose(&mut state);
                self.connected(state, deadline).map(drop).map_err(|_| error(failed))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; a new one only when the last call has left the lost one. A module numbers sessions and objects
    /// anew, so that a call which goes on with old numbers would meet somebody else's.
    fn connected<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        deadline: Instant,
    ) -> Result<(MutexGuard<'a, State>, Arc<Connection>), DriverError> {
        loop {
            if let Some(connection) = &state.connection {
                let connection = Arc::clone(connection);
                return Ok((state, connection));
            }
            if state.lent == 0 {
                break;
            }
            state = self.wait(state, deadline)?;
        }
        if let Some(lost) = state.lost.take() {
            lost.library.close_all(lost.info.slot);
        }
        let connection = Arc::new(self.connect(&mut state)?);
        self.epoch.store(connection.epoch, Ordering::Release);
        state.connection = Some(Arc::clone(&connection));
        Ok((state, connection))
    }

    fn connect(&self, state: &mut State) -> Result<Connection, DriverError> {
        if let Some(refused) = &state.pin_refused {
            return Err(refused.clone());
        }
        let unusable = |error: Unusable| DriverError::backend(NAME, "load", error);
        let library = Library::at(&self.config.module, self.config.init.as_deref()).map_err(unusable)?;
        let info = self.find(&library)?;
        let pin = self.config.pin.read()?;
        let pinned = library.open_session(info.slot).map_err(error)?;
        if let Err(failed) = library.login(pinned, Some(&pin)) {
            library.close_session(pinned);
            if failed.rv.is_refused_pin() {
                // A token locks itself after a few wrong PINs, and connecting is tried again and again.
                let reason = format!(
                    "{}; this process tries it no more, since tokens lock themselves: correct the PIN and start anew",
                    failed.rv
                );
                state.pin_refused = Some(DriverError::credentials(NAME, failed.function, reason));
            }
            return Err(state.pin_refused.clone().unwrap_or_else(|| error(failed)));
        }
        let most = info.sessions.unwrap_or(usize::MAX).min(self.config.sessions);
        Ok(Connection { library, info, epoch: self.epoch() + 1, pinned, most })
    }

    /// The token of that name, in whichever slot it is today.
    fn find(&self, library: &Library) -> Result<TokenInfo, DriverError> {
        let name = &self.config.token;
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let found = library.tokens().map_err(error)?;
        let known: Vec<String> = found.iter().map(TokenInfo::shown).collect();
        let mut fits: Vec<TokenInfo> = found
            .into_iter()
            .filter(|token| is(&name.label, &token.label) && is(&name.serial, &token.serial))
            .collect();
        let wanted = [&name.label, &name.serial].into_iter().flatten().cloned().collect::<Vec<_>>().join(", serial ");
        match (fits.pop(), fits.is_empty()) {
            (Some(token), true) => Ok(token),
            (Some(_), false) => {
                let reason = format!("several tokens are `{wanted}`: name the serial number as well");
                Err(DriverError::backend(NAME, "C_GetSlotList", reason))
            }
            (None, _) => {
                let there = if known.is_empty() { "no token".to_owned() } else { known.join(", ") };
                let reason = format!("the token `{wanted}` is not there; the module shows {there}");
                Err(DriverError::backend(NAME, "C_GetSlotList", reason))
            }
        }
    }

    /// Forgets the connection. Its sessions are closed when the last call has left it: closing them under a running
    /// call is what crashes modules.
    fn lose(&self, state: &mut State) {
        if let Some(connection) = state.connection.take() {
            state.idle.clear();
            // Handles die now, not when somebody connects again.
            self.epoch.store(connection.epoch + 1, Ordering::Release);
            state.lost = Some(connection);
        }
    }
}

impl Lent<'_> {
    /// That the login holds: without it a token hides its objects, and seems to have lost them.
    pub(crate) fn still_logged_in(&self) -> Result<(), DriverError> {
        let logged_in = self.check(self.connection.library.is_logged_in(self.session))?;
        let lost = || Failed { function: "C_GetSessionInfo", rv: Rv(ck::CKR_USER_NOT_LOGGED_IN) };
        self.check(if logged_in { Ok(()) } else { Err(lost()) })
    }

    /// Takes a call's result as the driver's, and remembers whether the session may go back.
    pub(crate) fn check<T>(&self, result: Result<T, Failed>) -> Result<T, DriverError> {
        result.map_err(|failed| {
            self.failed.set(true);
            if failed.rv.is_loss() && !self.probing {
                let mut state = self.token.lock();
                if state.connection.as_ref().is_some_and(|current| current.epoch == self.connection.epoch) {
                    self.token.lose(&mut state);
                }
            }
            error(failed)
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.token.lock();
        state.lent = state.lent.saturating_sub(1);
        let current = state.connection.as_ref().is_some_and(|current| current.epoch == self.connection.epoch);
        if current && !self.failed.get() {
            state.idle.push(self.session);
        } else {
            self.connection.library.close_session(self.session);
        }
        self.token.returned.notify_all();
    }
}

/// A failed call as the router is to see it.
pub(crate) fn error(failed: Failed) -> DriverError {
    if failed.rv.is_inability() {
        DriverError::unsupported(NAME, failed.function, failed.rv)
    } else {
        DriverError::backend(NAME, failed.function, failed.rv)
    }
}
