//! Sheets with a component or a share: printed where nobody else sees them, on a printer's device or into a file.

use std::fmt::Write as _;
use std::fs::{File, Metadata, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Modules of nothing around the squares (ISO/IEC 18004, 9.1).
const QUIET: usize = 4;
/// Ends a page on whatever prints lines.
const FORM_FEED: char = '\u{c}';

/// Devices that are none: `/dev/null`, `/dev/full`, `/dev/zero`; and `/dev/tty`, which is where whoever asks sits.
const MEMORY: u32 = 1;
const OWN_TERMINAL: (u32, u32) = (5, 0);
/// Terminals in windows and of remote logins (Linux, `devices.txt`), and what makes them.
const SCREENS: std::ops::RangeInclusive<u32> = 136..=143;
const MULTIPLEXER: (u32, u32) = (5, 2);

/// Whether a device or pipe is what this process reads from or writes to.
fn is_ours(found: &Metadata) -> bool {
    let same = |fd: BorrowedFd<'_>| {
        rustix::fs::fstat(fd).is_ok_and(|ours| match found.file_type().is_char_device() {
            true => ours.st_rdev == found.rdev(),
            false => (ours.st_dev, ours.st_ino) == (found.dev(), found.ino()),
        })
    };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let device = found.rdev();
    (rustix::fs::major(device), rustix::fs::minor(device)) == OWN_TERMINAL
        || [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().any(same)
}

/// A printer that takes lines, or a file in its place.
pub(super) struct Printer {
    file: File,
    name: String,
}

/// What stands on a sheet.
pub(super) struct Sheet<'a> {
    /// What it is of, in lines.
    pub(super) heading: &'a str,
    /// The component or share, in groups.
    pub(super) component: &'a str,
    /// A component's check value.
    pub(super) kcv: Option<&'a str>,
}

impl Printer {
    /// A device as it is; a file only if it is not there yet, and for its owner alone.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let found = path.metadata().ok();
        let device = found.as_ref().is_some_and(|found| {
            let kind = found.file_type();
            kind.is_char_device() || kind.is_fifo()
        });
        if let Some(found) = found.as_ref().filter(|_| device) {
            let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
            if major == MEMORY && found.file_type().is_char_device() {
                bail!("{name} prints nothing");
            }
            if is_ours(found) {
                bail!("{name} is this terminal, where it would be seen");
            }
            if (SCREENS.contains(&major) || (major, minor) == MULTIPLEXER) && found.file_type().is_char_device() {
                bail!("{name} is a terminal, where it would be seen");
            }
        }
        let mut options = OpenOptions::new();
        if path == Path::new("-") {
            bail!("- is no printer: name its device, or a file");
        } else if device {
            options.write(true);
            if found.is_some_and(|found| found.file_type().is_fifo()) {
                // A pipe that nobody reads takes nothing: that is said at once.
                options.custom_flags(libc::O_NONBLOCK);
            }
        } else if path.exists() {
            bail!("{name} is there already, and is no printer");
        } else {
            options.append(true).create_new(true).mode(0o600);
        }
        let unread = rustix::io::Errno::NXIO.raw_os_error();
        let file = match options.open(path) {
            Err(error) if error.raw_os_error() == Some(unread) => bail!("nobody reads from {name}"),
            opened => opened.with_context(|| name.clone())?,
        };
        Ok(Self { file, name })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Prints a sheet, and has it come out whole.
    pub(super) fn print(&mut self, sheet: &Sheet<'_>) -> anyhow::Result<()> {
        let text = sheet.text()?;
        self.file.write_all(text.as_bytes()).with_context(|| self.name.clone())?;
        // A device has nothing to be synced to.
        let _ = self.file.sync_all();
        Ok(())
    }
}

impl Sheet<'_> {
    /// As it is printed: text, and the same as a QR code of squares two characters wide.
    fn text(&self) -> anyhow::Result<Zeroizing<String>> {
        let code = QrCode::with_error_correction_level(self.component, EcLevel::M).context("it makes no QR code")?;
        let (width, side) = (code.width(), code.width() + 2 * QUIET);
        let mut text = Zeroizing::new(String::with_capacity(4096 + side * (2 * side + 1)));
        write!(text, "CLAVIGER\n\n{}\n\n", self.heading)?;
        for group in self.component.split(' ').collect::<Vec<_>>().chunks(4) {
            writeln!(text, "    {}", group.join("  "))?;
        }
        if let Some(kcv) = self.kcv {
            writeln!(text, "\n    check value {kcv}")?;
        }
        text.push('\n');
        let inside = |at: usize| at.checked_sub(QUIET).filter(|at| *at < width);
        for y in 0..side {
            for x in 0..side {
                let dark = inside(x).zip(inside(y)).is_some_and(|at| code[at] == Color::Dark);
                text.push_str(if dark { "##" } else { "  " });
            }
            text.push('\n');
        }
        text.push(FORM_FEED);
        Ok(text)
    }
}
