//! Dispersion, key check values, modes of operation, HMAC.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, DispersionRule, Exposure, Finish, Input, KcvFunction, KcvInput, KcvRule,
    KeyAttributes, KeyHandle, KeyPath, KeyRank, MacAlgorithm, MacSpec, Message, ModeOfUse, Padding, Parity, Recipe,
    Step, Truncation, WrapFormat,
};

use crate::bench::{Bench, Case, bare, failure, plain};
use crate::sm2::standard;
use crate::{Failure, Tally};

/// A card key never comes out in plain: it is wrapped under a known key and opened with that.
pub(crate) fn dispersion(bench: &Bench<'_>) -> Result<usize, Failure> {
    const WRAPPER: [u8; 16] = [0xA5; 16];
    let mut count = 0;
    let under = bench.key(Algorithm::Aes128, "K0", ModeOfUse::Both, &WRAPPER)?;
    let opener = bench.key(Algorithm::Aes128, "D0", ModeOfUse::Both, &WRAPPER)?;
    for case in &bench.cases("pboc-dispersion.json")? {
        let one = || disperse(bench, case, &under, &opener);
        count += usize::from(bench.attempt(one)?.is_some());
    }
    Ok(count)
}

fn disperse(bench: &Bench<'_>, case: &Case, under: &KeyHandle, opener: &KeyHandle) -> Result<(), Failure> {
    let algorithm = if case.text("alg") == Some("SM4") { Algorithm::Sm4 } else { Algorithm::TripleDes };
    let factors = case.list("factors");
    let rank = KeyRank::Dispersion { steps_left: factors.len() as u8 };
    let attributes = KeyAttributes { rank, ceiling: Exposure::CardKey, ..plain(algorithm, "10", ModeOfUse::Derive)? };
    let master = bench.open(&bench.store(attributes, KcvRule::ZEROS, &case.bytes("mk")?)?)?;
    let rule = if factors.iter().any(|factor| factor.len() == 16) {
        DispersionRule::Raw
    } else {
        DispersionRule::FactorAndComplement
    };
    let parity = if case.id.ends_with("parity") { Parity::Odd } else { Parity::AsComputed };
    let steps = (0..factors.len()).map(|at| Step::Disperse { rule, parity, factor: Input::Column(at) }).collect();
    let path = KeyPath { slot: 0, algorithm, steps, steps_left: 0 };
    let wrapper = KeyPath { slot: 1, algorithm: Algorithm::Aes128, steps: Vec::new(), steps_left: 0 };
    let format = WrapFormat::Ecb { prefix: Message(Vec::new()), padding: Padding::OneIfNeeded };
    let recipe = Recipe::single(path, Finish::Wrap { under: wrapper.clone(), format });
    let columns = factors.into_iter().map(Column::one).collect();
    let wrapped = bench.bytes(&case.id, &[master, under.clone()], &recipe, &Batch::one(columns, 2))?;
    let open = Recipe::single(
        KeyPath { slot: 0, ..wrapper },
        Finish::Decrypt { mode: CipherMode::Ecb, data: Message::column(0) },
    );
    let card_key =
        bench.bytes(&case.id, std::slice::from_ref(opener), &open, &Batch::one(vec![Column::one(wrapped)], 1))?;
    bench.expect(&case.id, &card_key, &case.bytes("expected")?)?;
    Ok(())
}

pub(crate) fn kcvs(bench: &Bench<'_>) -> Result<usize, Failure> {
    let mut count = 0;
    for case in &bench.cases("kcv.json")? {
        count += usize::from(bench.attempt(|| one_kcv(bench, case))?.is_some());
    }
    Ok(count)
}

fn one_kcv(bench: &Bench<'_>, case: &Case) -> Result<(), Failure> {
    if case.text("input").is_some() {
        let key = bench.key(Algorithm::Sm4, "D0", ModeOfUse::Both, &case.bytes("key")?)?;
        let recipe =
            Recipe::single(bare(Algorithm::Sm4), Finish::Decrypt { mode: CipherMode::Ecb, data: Message::column(0) });
        let plain = bench.bytes(&case.id, &[key], &recipe, &Batch::one(vec![Column::one(case.bytes("input")?)], 1))?;
        return bench.expect(&case.id, &plain, &case.bytes("expected")?);
    }
    let rule = case.text("rule").unwrap_or_default();
    let algorithm = match case.text("alg").unwrap_or_default() {
        "SM4" => Algorithm::Sm4,
        "3DES" => Algorithm::TripleDes,
        "AES" => Algorithm::Aes128,
        "SM2 public key" => Algorithm::Sm2,
        _ => Algorithm::Des,
    };
    let function = match algorithm {
        Algorithm::Sm2 => KcvFunction::Fingerprint,
        _ if rule.contains("CMAC(") => KcvFunction::Cmac,
        _ => KcvFunction::Ecb,
    };
    let input = if rule.contains("01^16") { KcvInput::Ones } else { KcvInput::Zero };
    // The public key of this case is that of the standard's signing example.
    let key = if algorithm == Algorithm::Sm2 { standard(bench)?.bytes("private_key")? } else { case.bytes("key")? };
    for expected in ["expected", "expected4", "expected8"].into_iter().filter(|name| case.text(name).is_some()) {
        let expected = case.bytes(expected)?;
        let rule = KcvRule { function, input, take: expected.len() as u8 };
        let stored = bench.store(plain(algorithm, "D0", ModeOfUse::Both)?, rule, &key)?;
        bench.expect(&case.id, &hex::decode(&stored.kcv.value).unwrap_or_default(), &expected)?;
    }
    Ok(())
}

/// ECB, CBC, GCM and CMAC; the other modes of the file are of no operation here.
pub(crate) fn sm4_modes(bench: &Bench<'_>) -> Result<Tally, Failure> {
    let (mut count, mut others) = (0, 0);
    for case in bench.cases("sm4-modes.json")? {
        let usage = if case.text("mode") == Some("CMAC") { "M6" } else { "D0" };
        let mode = if usage == "M6" { ModeOfUse::GenerateAndVerify } else { ModeOfUse::Both };
        let key = |bench: &Bench<'_>| bench.key(Algorithm::Sm4, usage, mode, &case.bytes("key")?);
        let cipher_mode = match case.text("mode") {
            Some("ECB") => CipherMode::Ecb,
            Some("CBC") => CipherMode::Cbc { initial: Input::Column(1) },
            Some("GCM") => CipherMode::Gcm { nonce: Input::Column(1), associated: Message::column(2) },
            Some("CMAC") => {
                let truncation = Truncation::Left(16);
                let spec = MacSpec {
                    algorithm: MacAlgorithm::Cmac,
                    second: None,
                    padding: Padding::None,
                    initial: None,
                    truncation,
                };
                let recipe = Recipe::single(bare(Algorithm::Sm4), Finish::Mac { spec, message: Message::column(0) });
                let batch = Batch::one(vec![Column::one(case.bytes("message")?)], 1);
                let one = || {
                    let mac = bench.bytes(&case.id, &[key(bench)?], &recipe, &batch)?;
                    bench.expect(&case.id, &mac, &case.bytes("expected")?)
                };
                count += usize::from(bench.attempt(one)?.is_some());
                continue;
            }
            Some(mode) if mode.starts_with("ECB x 1,000,000") => {
                let one = || a_million_times(bench, &case, &[key(bench)?]);
                count += usize::from(bench.attempt(one)?.is_some());
                continue;
            }
            _ => {
                others += 1;
                continue;
            }
        };
        let one = || round_trip(bench, &case, &[key(bench)?], cipher_mode);
        count += usize::from(bench.attempt(one)?.is_some());
    }
    Ok(vec![("sm4-modes.json", count), ("sm4-modes.json, OFB, CTR, CCM and XTS: not run", others)])
}

/// Each block is the last one enciphered: what CBC of zeros does. Sixteen batches do what a million would.
fn a_million_times(bench: &Bench<'_>, case: &Case, keys: &[KeyHandle]) -> Result<(), Failure> {
    const BLOCKS: usize = 1_000_000 / 16;
    let mode = CipherMode::Cbc { initial: Input::Column(0) };
    let data = Message(vec![Input::Constant(vec![0; 16 * BLOCKS])]);
    let recipe = Recipe::single(bare(Algorithm::Sm4), Finish::Encrypt { mode, padding: Padding::None, data });
    let mut block = case.bytes("plaintext")?;
    for _ in 0..16 {
        let chain = bench.bytes(&case.id, keys, &recipe, &Batch::one(vec![Column::one(block)], 1))?;
        block = chain.last_chunk::<16>().map(|last| last.to_vec()).unwrap_or_default();
    }
    bench.expect(&case.id, &block, &case.bytes("expected")?)
}

fn round_trip(bench: &Bench<'_>, case: &Case, keys: &[KeyHandle], mode: CipherMode) -> Result<(), Failure> {
    let plaintext = case.bytes("plaintext")?;
    let expected = match case.text("expected") {
        Some(_) => case.bytes("expected")?,
        None => [case.bytes("expected_ciphertext")?, case.bytes("expected_tag")?].concat(),
    };
    let extra = [case.bytes("iv").unwrap_or_default(), case.bytes("aad").unwrap_or_default()];
    let columns = |data: Vec<u8>| std::iter::once(data).chain(extra.clone()).map(Column::one).collect();
    let encrypt = Finish::Encrypt { mode: mode.clone(), padding: Padding::None, data: Message::column(0) };
    let ciphertext = bench.bytes(
        &case.id,
        keys,
        &Recipe::single(bare(Algorithm::Sm4), encrypt),
        &Batch::one(columns(plaintext.clone()), 1),
    )?;
    bench.expect(&case.id, &ciphertext, &expected)?;
    let authenticated = matches!(mode, CipherMode::Gcm { .. });
    let decrypt = Recipe::single(bare(Algorithm::Sm4), Finish::Decrypt { mode, data: Message::column(0) });
    let opened = bench.bytes(&case.id, keys, &decrypt, &Batch::one(columns(ciphertext.clone()), 1))?;
    bench.expect(&case.id, &opened, &plaintext)?;
    if authenticated {
        let mut altered = ciphertext;
        altered[0] ^= 1;
        let outcome = bench.run(&case.id, keys, &decrypt, &Batch::one(columns(altered), 1))?;
        if outcome.bytes(0, 0).is_some() {
            return Err(failure(&case.id, "an altered ciphertext was opened"));
        }
    }
    Ok(())
}

/// HMAC-SM3. A key below 14 bytes has less than 112 bits of strength, and is refused; SM3 alone and the key
/// derivation of the file are no operations of a driver.
pub(crate) fn sm3_hmac(bench: &Bench<'_>) -> Result<Tally, Failure> {
    let (mut count, mut refused, mut others) = (0, 0, 0);
    for case in bench.cases("sm3-hmac.json")? {
        if case.text("op") != Some("HMAC-SM3") {
            others += 1;
            continue;
        }
        let (key, message) = (case.bytes("key")?, case.bytes("message")?);
        if key.len() < 14 {
            bench.not_imported(&case.id, plain(Algorithm::HmacSm3, "M7", ModeOfUse::GenerateAndVerify)?, &key)?;
            refused += 1;
            continue;
        }
        let one = || hmac(bench, &case, &key, &message);
        count += usize::from(bench.attempt(one)?.is_some());
    }
    Ok(vec![
        ("sm3-hmac.json", count),
        ("sm3-hmac.json, a key of 4 bytes: refused", refused),
        ("sm3-hmac.json, SM3 alone and a key derivation: not run", others),
    ])
}

fn hmac(bench: &Bench<'_>, case: &Case, key: &[u8], message: &[u8]) -> Result<(), Failure> {
    let key = bench.key(Algorithm::HmacSm3, "M7", ModeOfUse::GenerateAndVerify, key)?;
    let truncation = Truncation::Left(32);
    let spec =
        MacSpec { algorithm: MacAlgorithm::Hmac, second: None, padding: Padding::None, initial: None, truncation };
    let recipe = Recipe::single(bare(Algorithm::HmacSm3), Finish::Mac { spec, message: Message::column(0) });
    let mac = bench.bytes(&case.id, &[key], &recipe, &Batch::one(vec![Column::one(message)], 1))?;
    bench.expect(&case.id, &mac, &case.bytes("expected")?)
}
