//! Signatures by a key that is elsewhere: asked for one at a time, by a thread of their own, so that no record waits for a backend.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{SignedHead, Signer};

/// A log's end: its number and hash.
type End = (u64, String);

/// Whoever signs.
pub(super) struct Away {
    ends: Sender<End>,
    signed: Receiver<Result<SignedHead, String>>,
    /// When the signature was asked for that has not come.
    asked: Option<Instant>,
}

impl Away {
    pub(super) fn start(signer: Arc<OnceLock<Signer>>) -> io::Result<Self> {
        let (ends, to_sign) = channel::<End>();
        let (answers, signed) = channel();
        std::thread::Builder::new().name("audit-signer".to_owned()).spawn(move || {
            for (seq, hash) in to_sign {
                let Some(signer) = signer.get() else { return };
                if answers.send(signer.sign(seq, &hash)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ends, signed, asked: None })
    }

    /// Asks for a signature; false while another is awaited.
    pub(super) fn ask(&mut self, seq: u64, hash: &str) -> bool {
        let free = self.asked.is_none() && self.ends.send((seq, hash.to_owned())).is_ok();
        if free {
            self.asked = Some(Instant::now());
        }
        free
    }

    /// The signature that was asked for and when that was, if it comes within some time.
    pub(super) fn answer(&mut self, within: Duration) -> Option<(Instant, Result<SignedHead, String>)> {
        let asked = self.asked?;
        let answer = match self.signed.recv_timeout(within) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Err("whoever signs has gone".to_owned()),
        };
        self.asked = None;
        Some((asked, answer))
    }
}
