//! A terminal that a program believes in: a pseudo-terminal, with the screen that its user would see.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

/// Time in which a program says what it is expected to say.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program in a terminal of its own; ends with its value.
pub(crate) struct Terminal {
    screen: Arc<Mutex<vt100::Parser>>,
    /// All that was ever written to it.
    written: Arc<Mutex<Vec<u8>>>,
    keyboard: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    /// Ends when the last process of this terminal has.
    reading: std::thread::JoinHandle<()>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Runs the CLI with these arguments.
    pub(crate) fn claviger(arguments: &[&str], folder: &Path) -> Self {
        Self::claviger_with(arguments, folder, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn claviger_with(arguments: &[&str], folder: &Path, more: &[(&str, &str)]) -> Self {
        let size = PtySize { rows: 40, cols: 160, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_claviger"));
        command.args(arguments);
        command.cwd(folder);
        command.env_remove("RUST_LOG");
        more.iter().for_each(|(name, value)| command.env(name, value));
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let [rows, columns] = [size.rows, size.cols].map(|cells| std::num::NonZero::new(cells).unwrap());
        // As much kept above the screen as most terminals keep.
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 1000)));
        let written = Arc::new(Mutex::new(Vec::new()));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (to_screen, to_written) = (Arc::clone(&screen), Arc::clone(&written));
        let reading = std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                to_screen.lock().unwrap().process(&bytes[..read]);
                to_written.lock().unwrap().extend_from_slice(&bytes[..read]);
            }
        });
        let keyboard = pair.master.take_writer().unwrap();
        Self { screen, written, keyboard, child, reading, _master: pair.master }
    }

    /// What stands on the screen.
    pub(crate) fn screen(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// What stands on the screen, and what scrolling back shows.
    pub(crate) fn everything_visible(&self) -> String {
        let mut parser = self.screen.lock().unwrap();
        let mut text = String::new();
        parser.screen_mut().set_scrollback(usize::MAX);
        let most = parser.screen().scrollback();
        for back in (0..=most).rev() {
            parser.screen_mut().set_scrollback(back);
            text.push_str(&parser.screen().contents());
            text.push('\n');
        }
        text
    }

    /// Everything that the program ever wrote.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until the screen shows a text.
    pub(crate) fn expect(&self, text: &str) {
        self.until(|| self.screen().contains(text), text);
    }

    /// Waits until the program has written a text, though it may have been wiped since.
    pub(crate) fn expect_written(&self, text: &str) {
        self.until(|| self.written().contains(text), text);
    }

    /// Waits until the program has written a text as often.
    pub(crate) fn expect_times(&self, text: &str, times: usize) {
        self.until(|| self.written().matches(text).count() >= times, text);
    }

    fn until(&self, seen: impl Fn() -> bool, text: &str) {
        let begun = Instant::now();
        while !seen() {
            assert!(begun.elapsed() < PATIENCE, "no `{text}` on\n{}", self.everything_visible());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Sends the program a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.process_id().and_then(|id| Pid::from_raw(id as i32)).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Whether it has ended, and all that it said is on the screen.
    pub(crate) fn is_over(&mut self) -> bool {
        // What was written may be read a while after its writer is gone.
        self.child.try_wait().unwrap().is_some() && self.reading.is_finished()
    }

    /// Waits for its end, and until its last words are on the screen; its exit code.
    pub(crate) fn end(&mut self) -> u32 {
        let begun = Instant::now();
        loop {
            if self.is_over() {
                return self.child.wait().unwrap().exit_code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end:\n{}", self.everything_visible());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.kill();
    }
}
