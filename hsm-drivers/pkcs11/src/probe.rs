//! What the token can do, shown by known answers: each is computed by the engine, whose own answers are those of the
//! published vectors. A token's list of mechanisms is not read at all: some list what they cannot run.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, DispersionRule, DriverError, Fault, Finish, Input, KcvRule, KeyPath,
    MacAlgorithm, MacSpec, Message, Padding, Parity, Proof, Recipe, Secret, Step, Truncation, WrapFormat,
};
use claviger_hsm_engine::lowering::algorithm_after;
use claviger_hsm_engine::{Derived, Device, Direction, EngineError, PlainKey, kcv, run};
use cryptoki_sys as ck;

use crate::device::OnSession;
use crate::driver::NAME;
use crate::mechanisms::Mechanism;
use crate::object::{Flags, Object, temporary, value};
use crate::proven::{Proven, Skill};
use crate::token::{Lent, Token};

const TRIED: [Algorithm; 8] = [
    Algorithm::Des,
    Algorithm::TripleDes,
    Algorithm::TripleDes3,
    Algorithm::Aes128,
    Algorithm::Aes192,
    Algorithm::Aes256,
    Algorithm::Sm4,
    Algorithm::HmacSha256,
];

/// Tries everything.
fn try_everything(token: &Token) -> Proven {
    let mut proven = Proven::new(token.config.sm4);
    for algorithm in TRIED {
        for skill in Skill::ALL {
            let attempt = || {
                // A session of its own for each: what a token leaves active after a refusal must not meet the next.
                let lent = token.lend_for_probe()?;
                (Trial { lent: &lent, proven: &proven, algorithm }).shows(skill)
            };
            // One that fails in another way than by saying no may have met a moment's trouble.
            let shown = attempt().or_else(|_| attempt()).unwrap_or(false);
            if shown {
                proven.add(algorithm, skill);
            }
        }
    }
    proven
}

/// What a token can do, and the epoch in which it was tried: whole, or the token was not there all the time.
///
/// # Errors
/// If the token does not answer, or does not stay for as long as this takes.
pub(crate) fn prove(token: &Token) -> Result<(u64, Proven), DriverError> {
    for _ in 0..3 {
        let epoch = token.connection()?.epoch;
        let proven = try_everything(token);
        // Was it the token that said no, or was it gone?
        token.keep_alive()?;
        if token.connection()?.epoch == epoch {
            return Ok((epoch, proven));
        }
    }
    Err(DriverError::backend(NAME, "probe", "the token was lost again and again while it was tried"))
}

/// All that was tried, for a report.
pub(crate) fn proofs(proven: &Proven) -> Vec<Proof> {
    let all = TRIED.into_iter().flat_map(|algorithm| Skill::ALL.map(|skill| (algorithm, skill)));
    let proof = |(algorithm, skill): (Algorithm, Skill)| Proof {
        capability: format!("{algorithm} {}", skill.as_str()),
        proved: proven.has(algorithm, skill),
    };
    all.filter(|(algorithm, skill)| applies(*algorithm, *skill)).map(proof).collect()
}

/// Whether there is such a thing for the algorithm.
fn applies(algorithm: Algorithm, skill: Skill) -> bool {
    let cipher = algorithm.block_len().is_some();
    match skill {
        Skill::Hold | Skill::CheckValue => true,
        Skill::Generate => algorithm != Algorithm::Des,
        Skill::Hmac => !cipher,
        Skill::Derive => cipher && (algorithm.key_len() == 16 || algorithm == Algorithm::Des),
        Skill::KeyWrap => matches!(algorithm, Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256),
        _ => cipher,
    }
}

struct Trial<'a> {
    lent: &'a Lent<'a>,
    proven: &'a Proven,
    algorithm: Algorithm,
}

/// A key without equal parts, of odd parity, so that no token corrects it.
fn known(len: usize, seed: u8) -> Vec<u8> {
    let byte = |at: usize| {
        let byte = (at as u8).wrapping_mul(29).wrapping_add(seed) & 0xFE;
        byte | u8::from(byte.count_ones().is_multiple_of(2))
    };
    (0..len).map(byte).collect()
}

const FACTOR: [u8; 8] = [0x10, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07];
const TEXT: [u8; 48] = *b"what is known before is what proves an answer...";

fn with_complement(x: [u8; 8]) -> [u8; 16] {
    std::array::from_fn(|at| if at < 8 { x[at] } else { !x[at - 8] })
}

impl<'a> Trial<'a> {
    /// Whether it can; an error is none of the answers.
    fn shows(&self, skill: Skill) -> Result<bool, DriverError> {
        if self.proven.mechanisms(self.algorithm).is_err() || !applies(self.algorithm, skill) {
            return Ok(false);
        }
        match self.try_it(skill) {
            Err(error) if error.fault == Fault::Unsupported => Ok(false),
            other => other,
        }
    }

    fn device(&self) -> OnSession<'a> {
        OnSession { lent: self.lent, proven: self.proven, keep: &|_, _, _| Err(no("a probe keeps nothing")) }
    }

    fn try_it(&self, skill: Skill) -> Result<bool, DriverError> {
        let device = self.device();
        match skill {
            Skill::Hold => {
                let key = self.hold(self.algorithm, 1, false)?;
                if self.algorithm.block_len().is_some() {
                    let mut found = TEXT.to_vec();
                    device.ecb(&key, Direction::Encrypt, &mut found)?;
                    Ok(found == self.expected(&[], encrypt(CipherMode::Ecb))?)
                } else {
                    Ok(device.hmac(&key, &TEXT)? == self.expected(&[], mac(MacAlgorithm::Hmac, 32))?)
                }
            }
            Skill::Generate => self.generates(),
            Skill::Ecb | Skill::EcbBack => self.ciphers(skill == Skill::EcbBack, CipherMode::Ecb),
            Skill::Cbc | Skill::CbcBack => {
                let initial = known(self.block(), 3);
                let mode = CipherMode::Cbc { initial: Input::Constant(initial) };
                self.ciphers(skill == Skill::CbcBack, mode)
            }
            Skill::Cmac => {
                let key = self.hold(self.algorithm, 1, false)?;
                let whole = device.cmac(&key, &TEXT)? == self.expected(&[], mac(MacAlgorithm::Cmac, self.block()))?;
                // An empty message, which some tokens refuse.
                let none = PlainKey { algorithm: self.algorithm, secret: self.secret(self.algorithm, 1) };
                let spec = MacAlgorithm::Cmac;
                let empty = engine(&[&none], &[], mac_of(spec, self.block(), Message(Vec::new())))?;
                Ok(whole && device.cmac(&key, &[])? == empty)
            }
            Skill::Hmac => {
                let key = self.hold(self.algorithm, 1, false)?;
                Ok(device.hmac(&key, &TEXT)? == self.expected(&[], mac(MacAlgorithm::Hmac, 32))?)
            }
            Skill::Derive => self.derives(),
            Skill::CheckValue => {
                let key = self.hold(self.algorithm, 1, false)?;
                let library = &self.lent.connection.library;
                let shown = self.lent.check(library.attribute(self.lent.session, key.handle, ck::CKA_CHECK_VALUE))?;
                let plain = PlainKey { algorithm: self.algorithm, secret: self.secret(self.algorithm, 1) };
                let wanted = kcv(&plain, KcvRule::ZEROS).map(|kcv| kcv.value).unwrap_or_default();
                Ok(shown.is_some_and(|shown| hex::encode_upper(&*shown) == wanted))
            }
            Skill::WrapEcb => self.wraps_a_derived_key(),
            Skill::KeyWrap => {
                let under = self.hold(self.algorithm, 1, false)?;
                let key = self.hold(Algorithm::Aes128, 2, true)?;
                let found = device.wrap(&key, &under, &WrapFormat::KeyWrap)?;
                let wanted = self.wrapped(Algorithm::Aes128, &[], WrapFormat::KeyWrap)?;
                Ok(found == wanted)
            }
        }
    }

    fn block(&self) -> usize {
        self.algorithm.block_len().unwrap_or(16)
    }

    fn secret(&self, algorithm: Algorithm, seed: u8) -> Secret {
        Secret::taking(known(algorithm.key_len(), seed))
    }

    /// A known key as an object of the session.
    fn hold(&self, algorithm: Algorithm, seed: u8, extractable: bool) -> Result<Object<'a>, DriverError> {
        let mechanisms = self.proven.mechanisms(algorithm)?;
        let secret = known(algorithm.key_len(), seed);
        let flags = Flags { extractable, ..Flags::TEMPORARY };
        let flags = if algorithm.block_len().is_some() {
            flags
        } else {
            Flags { encrypt: false, decrypt: false, wrap: false, derive: false, ..flags }
        };
        let template = temporary(&mechanisms, flags).bytes(ck::CKA_VALUE, &value(algorithm, &secret));
        let library = &self.lent.connection.library;
        let handle = self.lent.check(library.create(self.lent.session, template))?;
        Ok(Object { handle, algorithm, encrypts: true, left: None, temporary: Some(self.lent) })
    }

    fn generates(&self) -> Result<bool, DriverError> {
        let mechanisms = self.proven.mechanisms(self.algorithm)?;
        let flags = if mechanisms.cipher.is_some() {
            Flags::TEMPORARY
        } else {
            Flags { encrypt: false, decrypt: false, wrap: false, derive: false, ..Flags::TEMPORARY }
        };
        let mut template = temporary(&mechanisms, flags);
        if let Some(len) = mechanisms.value_len {
            template = template.number(ck::CKA_VALUE_LEN, len as ck::CK_ULONG);
        }
        let library = &self.lent.connection.library;
        let mechanism = Mechanism::Plain(mechanisms.generate);
        let handle = self.lent.check(library.generate(self.lent.session, mechanism, template))?;
        let (algorithm, temporary) = (self.algorithm, Some(self.lent));
        let key = Object { handle, algorithm, encrypts: true, left: None, temporary };
        let device = self.device();
        if mechanisms.cipher.is_none() {
            return Ok(device.hmac(&key, &TEXT)?.len() == 32);
        }
        // There is no known answer of an unknown key, but it must be one, and not a known one.
        let mut first = TEXT.to_vec();
        device.ecb(&key, Direction::Encrypt, &mut first)?;
        let mut again = TEXT.to_vec();
        device.ecb(&key, Direction::Encrypt, &mut again)?;
        Ok(first == again && first != TEXT && first != self.expected(&[], encrypt(CipherMode::Ecb))?)
    }

    fn ciphers(&self, back: bool, mode: CipherMode) -> Result<bool, DriverError> {
        let key = self.hold(self.algorithm, 1, false)?;
        let device = self.device();
        let cipher_text = self.expected(&[], encrypt(mode.clone()))?;
        let (mut found, wanted) = if back { (cipher_text, TEXT.to_vec()) } else { (TEXT.to_vec(), cipher_text) };
        let direction = if back { Direction::Decrypt } else { Direction::Encrypt };
        match &mode {
            CipherMode::Cbc { initial: Input::Constant(initial) } => {
                device.cbc(&key, direction, initial, &mut found)?;
            }
            _ => device.ecb(&key, direction, &mut found)?,
        }
        Ok(found == wanted)
    }

    /// A card's key and a session key, each of which must encipher as the engine's does.
    fn derives(&self) -> Result<bool, DriverError> {
        let session = || Step::Session { input: Input::Constant(FACTOR.to_vec()) };
        let mut twice = [0; 16];
        twice[..8].copy_from_slice(&FACTOR);
        twice[8..].copy_from_slice(&FACTOR);
        let full = with_complement(FACTOR);
        let steps = if self.algorithm == Algorithm::Des {
            vec![(session(), twice)]
        } else if self.algorithm.is_des() {
            vec![(by_factor(), full), (session(), twice)]
        } else {
            vec![(by_factor(), full), (session(), full)]
        };
        let parent = self.hold(self.algorithm, 1, false)?;
        let device = self.device();
        for (step, block) in steps {
            let algorithm = algorithm_after(self.algorithm, std::slice::from_ref(&step));
            let child = device.derive(&parent, Derived { algorithm, leaves: false }, &block)?;
            let mut found = TEXT.to_vec();
            device.ecb(&child, Direction::Encrypt, &mut found)?;
            if found != self.expected(&[step], encrypt(CipherMode::Ecb))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A card's key of triple DES, whose computed bytes have no parity, must leave as it was computed.
    fn wraps_a_derived_key(&self) -> Result<bool, DriverError> {
        let of = [Algorithm::TripleDes, Algorithm::Aes128, Algorithm::Sm4];
        let inner = of.into_iter().find(|algorithm| self.proven.has(*algorithm, Skill::Derive));
        let Some(inner) = inner else { return Ok(false) };
        let parent = self.hold(inner, 2, false)?;
        let under = self.hold(self.algorithm, 1, false)?;
        let device = self.device();
        let made = Derived { algorithm: inner, leaves: true };
        let child = device.derive(&parent, made, &with_complement(FACTOR))?;
        let format = WrapFormat::Ecb { prefix: Message(Vec::new()), padding: Padding::OneIfNeeded };
        let found = device.wrap(&child, &under, &format)?;
        Ok(found == self.wrapped(inner, &[by_factor()], format)?)
    }

    fn wrapped(&self, inner: Algorithm, steps: &[Step], format: WrapFormat) -> Result<Vec<u8>, DriverError> {
        let keys = [(inner, 2), (self.algorithm, 1)]
            .map(|(algorithm, seed)| PlainKey { algorithm, secret: self.secret(algorithm, seed) });
        let under = KeyPath { slot: 1, algorithm: self.algorithm, steps: Vec::new(), steps_left: 0 };
        engine(&[&keys[0], &keys[1]], steps, Finish::Wrap { under, format })
    }

    fn expected(&self, steps: &[Step], finish: Finish) -> Result<Vec<u8>, DriverError> {
        let key = PlainKey { algorithm: self.algorithm, secret: self.secret(self.algorithm, 1) };
        engine(&[&key], steps, finish)
    }
}

fn by_factor() -> Step {
    Step::Disperse {
        rule: DispersionRule::FactorAndComplement,
        parity: Parity::AsComputed,
        factor: Input::Constant(FACTOR.to_vec()),
    }
}

fn encrypt(mode: CipherMode) -> Finish {
    Finish::Encrypt { mode, padding: Padding::None, data: Message(vec![Input::Constant(TEXT.to_vec())]) }
}

fn mac(algorithm: MacAlgorithm, len: usize) -> Finish {
    mac_of(algorithm, len, Message(vec![Input::Constant(TEXT.to_vec())]))
}

fn mac_of(algorithm: MacAlgorithm, len: usize, message: Message) -> Finish {
    let truncation = Truncation::Left(len);
    Finish::Mac {
        spec: MacSpec { algorithm, second: None, padding: Padding::None, initial: None, truncation },
        message,
    }
}

/// The engine's answer.
fn engine(keys: &[&PlainKey], steps: &[Step], finish: Finish) -> Result<Vec<u8>, DriverError> {
    let algorithm = keys.first().map_or(Algorithm::Des, |key| key.algorithm);
    let path = KeyPath { slot: 0, algorithm, steps: steps.to_vec(), steps_left: 0 };
    // A batch needs a column to have a row of something.
    let batch = Batch::one(vec![Column::one([0])], keys.len() as u16);
    let outcome = run(keys, &Recipe::single(path, finish), &batch, &|_, _| Err(EngineError::NoStore));
    let outcome = outcome.map_err(|error| no(&error.to_string()))?;
    outcome.bytes(0, 0).map(<[u8]>::to_vec).ok_or_else(|| no("the engine gave no answer"))
}

fn no(reason: &str) -> DriverError {
    DriverError::unsupported(NAME, "probe", reason)
}
