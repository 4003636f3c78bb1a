//! What one person alone sees and types: on the terminal's other screen, which keeps nothing once it is left.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use claviger_key_ceremonies::{TypedComponent, Written};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// Characters of a check value at most.
const LONGEST_KCV: usize = 64;
/// And at least.
const SHORTEST_KCV: usize = 6;

/// The other screen, while it is shown.
pub(super) struct Screen(());

/// Whether it is: who is told to end leaves it as well.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Wipes the other screen and leaves it. In this order: nothing of what was shown is there when the first screen comes back, and
/// none of it is kept.
fn leave_screen() {
    let mut out = std::io::stdout();
    let _ = execute!(out, Clear(ClearType::All), Clear(ClearType::Purge), LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
    SHOWN.store(false, Ordering::SeqCst);
}

/// Whoever sat there left.
#[derive(Debug, thiserror::Error)]
#[error("left before it was done")]
pub(super) struct Left;

impl Screen {
    /// Turns to the other screen.
    pub(super) fn open() -> anyhow::Result<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            bail!(
                "this turn needs a terminal: what is shown or typed in it must stay on no other screen, and in no file"
            );
        }
        forget_typed();
        enable_raw_mode().context("the terminal cannot be set")?;
        SHOWN.store(true, Ordering::SeqCst);
        let screen = Self(());
        execute!(std::io::stdout(), EnterAlternateScreen, Clear(ClearType::All), cursor::MoveTo(0, 0))?;
        Ok(screen)
    }

    /// Shows lines from the top, and leaves the cursor after the last.
    fn show(&self, lines: &[&str]) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        queue!(out, Clear(ClearType::All), cursor::MoveTo(0, 0))?;
        for line in lines.iter().flat_map(|line| line.split('\n')) {
            write!(out, "{line}\r\n")?;
        }
        out.flush()?;
        Ok(())
    }

    /// Shows a component until its custodian has written it down.
    pub(super) fn show_component(&self, heading: &str, component: &str, kcv: Option<&str>) -> anyhow::Result<()> {
        let mut rows = Zeroizing::new(String::with_capacity(component.len() * 2));
        for (at, group) in component.split(' ').enumerate() {
            rows.push_str(if at == 0 {
                "    "
            } else if at.is_multiple_of(4) {
                "\n    "
            } else {
                "  "
            });
            rows.push_str(group);
        }
        let value = kcv.map(|kcv| format!("    check value {kcv}\n")).unwrap_or_default();
        let lines = [
            heading,
            "",
            "Write this down. It is shown once, and never again.",
            "",
            &rows,
            "",
            &value,
            "Press Enter when it is written down; you will type it back.",
        ];
        self.show(&lines)?;
        until_entered()
    }

    /// Waits until a custodian holds the sheet that was printed for them.
    pub(super) fn wait_for_sheet(&self, heading: &str, printer: &str) -> anyhow::Result<()> {
        let told = format!("It was printed on {printer}, and is shown nowhere.");
        self.show(&[heading, "", &told, "", "Press Enter when you hold the sheet; you will type it back."])?;
        until_entered()
    }

    /// Has a component or a share typed, whichever `what` says; each character is checked as it comes. None if it was never seen,
    /// which may be said where `unseen` tells how.
    pub(super) fn type_component(
        &self,
        heading: &str,
        what: &str,
        (written, bytes, odd_parity): (Written, usize, bool),
        unseen: Option<&str>,
    ) -> anyhow::Result<Option<Zeroizing<String>>> {
        let mut typed = TypedComponent::new(written, bytes, odd_parity);
        let mut said = String::new();
        let asked = format!("Type the {what}; blanks are of no matter.");
        loop {
            let shown = typed.shown();
            let rest = if typed.is_complete() { "Press Enter." } else { unseen.unwrap_or_default() };
            self.show(&[heading, "", &asked, "", &shown, "", &said, rest])?;
            said.clear();
            match key()? {
                KeyCode::Enter if typed.is_complete() => return Ok(Some(shown)),
                KeyCode::Enter => said = format!("It is not complete: it has {bytes} bytes."),
                KeyCode::Backspace => typed.pop(),
                KeyCode::Tab if unseen.is_some() => return Ok(None),
                KeyCode::Esc => return Err(Left.into()),
                KeyCode::Char(c) => {
                    if let Err(wrong) = typed.push(c) {
                        said = format!("Not taken: {wrong}.");
                    }
                }
                _ => {}
            }
        }
    }

    /// Has a check value typed.
    pub(super) fn type_kcv(&self, heading: &str, what: &str) -> anyhow::Result<String> {
        let (mut typed, mut said) = (String::new(), String::new());
        loop {
            self.show(&[heading, "", what, "", &typed, "", &said])?;
            said.clear();
            match key()? {
                KeyCode::Enter if typed.len() >= SHORTEST_KCV => return Ok(typed),
                KeyCode::Enter => said = format!("At least {SHORTEST_KCV} digits of it."),
                KeyCode::Backspace => drop(typed.pop()),
                KeyCode::Esc => return Err(Left.into()),
                KeyCode::Char(c) if c.is_ascii_hexdigit() && typed.len() < LONGEST_KCV => {
                    typed.push(c.to_ascii_uppercase());
                }
                _ => {}
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave_screen();
    }
}

/// How often it is looked whether the terminal is still there.
const LOOK: Duration = Duration::from_millis(500);

fn until_entered() -> anyhow::Result<()> {
    loop {
        match key()? {
            KeyCode::Enter => return Ok(()),
            KeyCode::Esc => return Err(Left.into()),
            _ => {}
        }
    }
}

fn key() -> anyhow::Result<KeyCode> {
    loop {
        // Of a terminal that was closed nothing comes any more, again and again.
        if !event::poll(LOOK)? {
            tcgetattr(rustix::stdio::stdin()).map_err(|_| Left)?;
            continue;
        }
        if let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event::read()? {
            match code {
                KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => return Err(Left.into()),
                code => return Ok(code),
            }
        }
    }
}

/// Whether what is typed shows on the terminal's own screen; as it was once this ends.
pub(super) struct Quiet(Option<Termios>);

impl Quiet {
    /// Shows nothing of what is typed.
    pub(super) fn begin() -> Self {
        Self::set(false)
    }

    /// Shows it again, for a question; what was typed before is forgotten.
    pub(super) fn interrupted() -> Self {
        forget_typed();
        Self::set(true)
    }

    fn set(echo: bool) -> Self {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = tcgetattr(stdin) else { return Self(None) };
        let mut now = before.clone();
        now.local_modes.set(LocalModes::ECHO, echo);
        let _ = tcsetattr(stdin, OptionalActions::Now, &now);
        Self(Some(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// What was typed before somebody was asked answers nothing.
fn forget_typed() {
    let _ = tcflush(rustix::stdio::stdin(), QueueSelector::IFlush);
}

/// Once the program is to end, leaves the terminal as it was found, and nothing behind in `folder`.
pub(super) fn tidy_up_when_told_to_end(folder: Option<PathBuf>) {
    let before = tcgetattr(rustix::stdio::stdin()).ok();
    let told = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup), Ok(mut quit)] = told else { return };
    tokio::spawn(async move {
        let number = tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
            _ = quit.recv() => SignalKind::quit().as_raw_value(),
        };
        if SHOWN.load(Ordering::SeqCst) {
            leave_screen();
        }
        if let Some(before) = before {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &before);
        }
        if let Some(folder) = folder {
            let _ = std::fs::remove_dir_all(folder);
        }
        std::process::exit(128 + number);
    });
}
