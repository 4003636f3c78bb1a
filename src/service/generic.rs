//! Work with keys of no card scheme: MACs, encryption, signatures over bytes that a caller chose.

use claviger_hsm_api::{
    Batch, CipherMode, Column, Finish, Input, KeyColumn, KeyPath, KeyRank, MacAlgorithm, MacSpec, Message, Padding,
    Recipe, Truncation,
};

use super::outcome::Sealed;
use super::{Caller, Outcome, Service, ServiceError};
use crate::keyring::Entry;
use crate::operation::{CipherText, GenericRequest, GenericTask, Mode};
use crate::policy::Resource;

/// Fewer bytes are no proof of anything.
const SHORTEST_MAC: usize = 4;
const NONCE: usize = 12;

impl Service {
    pub(super) async fn generic(
        &self,
        caller: &Caller,
        action: &'static str,
        mut request: GenericRequest,
    ) -> Result<Outcome, ServiceError> {
        let router = self.router()?;
        self.enter(caller, request.key.name.tenant()).await?;
        let key = self.referenced(&request.key)?;
        let permit = self.decide(caller, action, &[Resource::of(&key)], request.task.rows() as u64).await?;
        // What a device would draw is drawn first and goes in as a column, so that the recipe may be repeated.
        let draw = |len| Ok(router.draw(&permit, len)?);
        // A backend may be asked for randomness; what needs none does not make way for that.
        let drawn = match request.task {
            GenericTask::Encrypt { .. } => tokio::task::block_in_place(|| request.task.draw(&key, draw)),
            _ => Ok(()),
        };
        let prepared = drawn.and_then(|()| request.task.prepare(&key));
        let task = &request.task;
        let read = |outcome: &claviger_hsm_api::Outcome, job: &str| match task {
            GenericTask::VerifyMac { .. } | GenericTask::VerifySignature { .. } => {
                Outcome::Verdicts { valid: outcome.verdicts(0).unwrap_or_default().to_vec(), job: job.to_owned() }
            }
            _ => Outcome::Rows((0..task.rows()).map(|row| outcome.bytes(0, row).map(<[u8]>::to_vec)).collect()),
        };
        let outcome = self.perform(caller, permit, vec![key], prepared, read).await?;
        Ok(match (outcome, request.task) {
            (Outcome::Rows(rows), GenericTask::Encrypt { texts, .. }) => {
                let sealed = rows.into_iter().zip(texts).map(|(text, given)| Sealed { text, iv: given.iv });
                Outcome::CipherTexts(sealed.collect())
            }
            (Outcome::Rows(rows), GenericTask::Decrypt { padding, .. }) => {
                Outcome::Rows(rows.into_iter().map(|text| unpad(text?, padding)).collect())
            }
            (outcome, _) => outcome,
        })
    }
}

impl GenericTask {
    fn rows(&self) -> usize {
        match self {
            Self::Mac { messages, .. } | Self::Sign { messages, .. } => messages.len(),
            Self::VerifyMac { messages, .. } | Self::VerifySignature { messages, .. } => messages.len(),
            Self::Encrypt { texts, .. } | Self::Decrypt { texts, .. } => texts.len(),
        }
    }

    /// Draws the initial values and nonces that the caller leaves to us.
    fn draw(&mut self, key: &Entry, draw: impl Fn(usize) -> Result<Vec<u8>, ServiceError>) -> Result<(), ServiceError> {
        let Self::Encrypt { mode, texts, .. } = self else { return Ok(()) };
        let len = match mode {
            Mode::Ecb => return Ok(()),
            Mode::Cbc => key.record.key.attributes.algorithm.block_len().unwrap_or(NONCE),
            Mode::Gcm => NONCE,
        };
        for text in texts {
            match (&text.iv, *mode) {
                (Some(_), Mode::Gcm) => {
                    return Err(ServiceError::field("iv", "of GCM encryption is the service's to draw"));
                }
                (Some(_), _) => {}
                (None, _) => text.iv = Some(draw(len)?),
            }
        }
        Ok(())
    }

    /// Recipe and columns.
    fn prepare(&self, key: &Entry) -> Result<(Recipe, Batch), ServiceError> {
        let attributes = &key.record.key.attributes;
        if attributes.rank != KeyRank::Plain {
            return Err(ServiceError::field("role", "is a card scheme's, whose keys are not used on chosen bytes"));
        }
        if self.rows() == 0 {
            return Err(ServiceError::field("items", "is empty"));
        }
        let (finish, columns) = match self {
            Self::Mac { padding, length, messages } => {
                let spec = mac_spec(key, *padding, *length)?;
                (Finish::Mac { spec, message: Message::column(0) }, vec![column(messages.iter())])
            }
            Self::VerifyMac { padding, messages } => {
                let length = messages[0].1.len();
                if messages.iter().any(|(_, mac)| mac.len() != length) {
                    return Err(ServiceError::field("mac", "must have the same length in all items"));
                }
                let spec = mac_spec(key, *padding, Some(length))?;
                let finish = Finish::VerifyMac { spec, message: Message::column(0), expected: Input::Column(1) };
                (finish, pairs(messages))
            }
            Self::Encrypt { mode, padding, texts } => {
                let finish = Finish::Encrypt { mode: cipher_mode(*mode), padding: *padding, data: Message::column(0) };
                (finish, cipher_columns(texts)?)
            }
            Self::Decrypt { mode, padding, texts } => {
                if !matches!(padding, Padding::None | Padding::One | Padding::Pkcs7) {
                    return Err(ServiceError::field("padding", "of this kind cannot be told from the text"));
                }
                if *mode != Mode::Ecb && texts.iter().any(|text| text.iv.is_none()) {
                    return Err(ServiceError::field("iv", "is missing"));
                }
                (Finish::Decrypt { mode: cipher_mode(*mode), data: Message::column(0) }, cipher_columns(texts)?)
            }
            Self::Sign { signer_id, messages } => {
                let finish = Finish::Sign { signer_id: signer_id.clone(), message: Message::column(0) };
                (finish, vec![column(messages.iter())])
            }
            Self::VerifySignature { signer_id, messages } => {
                let (signer_id, message) = (signer_id.clone(), Message::column(0));
                (Finish::VerifySignature { signer_id, message, signature: Input::Column(1) }, pairs(messages))
            }
        };
        let path = KeyPath { slot: 0, algorithm: attributes.algorithm, steps: Vec::new(), steps_left: 0 };
        let batch = Batch { rows: self.rows(), columns, keys: vec![KeyColumn::Same(0)] };
        Ok((Recipe::single(path, finish), batch))
    }
}

/// A text without its padding; `None` if it ends in none. Whoever asks gets the text itself, so that how long it takes
/// tells nobody more.
fn unpad(mut text: Vec<u8>, padding: Padding) -> Option<Vec<u8>> {
    let len = match padding {
        Padding::Pkcs7 => {
            let added = usize::from(*text.last()?);
            let len = text.len().checked_sub(added).filter(|_| (1..=16).contains(&added))?;
            text[len..].iter().all(|byte| usize::from(*byte) == added).then_some(len)?
        }
        Padding::One => text.iter().rposition(|byte| *byte != 0).filter(|at| text[*at] == 0x80)?,
        _ => text.len(),
    };
    text.truncate(len);
    Some(text)
}

fn mac_spec(key: &Entry, padding: Padding, length: Option<usize>) -> Result<MacSpec, ServiceError> {
    let attributes = &key.record.key.attributes;
    let algorithm = attributes.usage.mac_algorithm();
    let algorithm = algorithm.ok_or_else(|| ServiceError::field("role", "is not one of keys that make MACs"))?;
    let full = attributes.algorithm.block_len().unwrap_or(32);
    let length = length.unwrap_or(full);
    if !(SHORTEST_MAC..=full).contains(&length) {
        return Err(ServiceError::field("length", format!("must be {SHORTEST_MAC} to {full} bytes")));
    }
    let padding = match algorithm {
        MacAlgorithm::Cmac | MacAlgorithm::Hmac => Padding::None,
        _ => padding,
    };
    Ok(MacSpec { algorithm, second: None, padding, initial: None, truncation: Truncation::Left(length) })
}

fn cipher_mode(mode: Mode) -> CipherMode {
    match mode {
        Mode::Ecb => CipherMode::Ecb,
        Mode::Cbc => CipherMode::Cbc { initial: Input::Column(1) },
        Mode::Gcm => CipherMode::Gcm { nonce: Input::Column(1), associated: Message::column(2) },
    }
}

fn cipher_columns(texts: &[CipherText]) -> Result<Vec<Column>, ServiceError> {
    let iv = |text: &'_ CipherText| text.iv.clone().unwrap_or_default();
    let ivs: Vec<Vec<u8>> = texts.iter().map(iv).collect();
    Ok(vec![
        column(texts.iter().map(|text| &text.data)),
        column(ivs.iter()),
        column(texts.iter().map(|text| &text.associated)),
    ])
}

fn column<'a>(rows: impl Iterator<Item = &'a Vec<u8>>) -> Column {
    Column::from_rows(rows.map(Vec::as_slice))
}

fn pairs(messages: &[(Vec<u8>, Vec<u8>)]) -> Vec<Column> {
    vec![column(messages.iter().map(|(message, _)| message)), column(messages.iter().map(|(_, second)| second))]
}
