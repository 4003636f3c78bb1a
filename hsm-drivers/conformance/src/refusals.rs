//! What keys do not admit, whatever the backend.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, DispersionRule, Exportability, Finish, FoldRule, Input, KcvFunction, KcvRule,
    KeyAttributes, KeyHandle, KeyPath, KeyRank, Leg, MacAlgorithm, MacSpec, Message, ModeOfUse, Padding, Parity,
    Recipe, Step, Truncation, When, WrapFormat,
};

use crate::Failure;
use crate::bench::{Bench, bare, plain};

pub(crate) const KEY: [u8; 16] = *b"conformance key!";

pub(crate) fn check(bench: &Bench<'_>) -> Result<(), Failure> {
    a_dispersion_key_is_no_oracle(bench)?;
    a_key_stays_unless_it_may_leave(bench)?;
    modes_and_usages_hold(bench)?;
    algorithms_do_what_they_are_for(bench)?;
    derivations_are_of_keys_that_have_them(bench)?;
    legs_depend_on_earlier_ones(bench)
}

fn path(algorithm: Algorithm, steps: Vec<Step>, steps_left: u8) -> KeyPath {
    KeyPath { slot: 0, algorithm, steps, steps_left }
}

pub(crate) fn spec(algorithm: MacAlgorithm, len: usize) -> MacSpec {
    MacSpec { algorithm, second: None, padding: Padding::One, initial: None, truncation: Truncation::Left(len) }
}

pub(crate) fn mac() -> Finish {
    Finish::Mac { spec: spec(MacAlgorithm::CbcMac, 4), message: Message::column(0) }
}

fn verify() -> Finish {
    let expected = Input::Constant(vec![0; 4]);
    Finish::VerifyMac { spec: spec(MacAlgorithm::CbcMac, 4), message: Message::column(0), expected }
}

fn encrypt(mode: CipherMode) -> Finish {
    Finish::Encrypt { mode, padding: Padding::None, data: Message::column(0) }
}

fn decrypt(mode: CipherMode) -> Finish {
    Finish::Decrypt { mode, data: Message::column(0) }
}

fn sign() -> Finish {
    Finish::Sign { signer_id: "1234567812345678".to_owned(), message: Message::column(0) }
}

fn verify_signature() -> Finish {
    let signature = Input::Constant(vec![1; 64]);
    Finish::VerifySignature { signer_id: "1234567812345678".to_owned(), message: Message::column(0), signature }
}

fn kcv(function: KcvFunction, take: u8) -> Finish {
    Finish::Kcv { rule: KcvRule { function, take, ..KcvRule::ZEROS } }
}

fn wrap(algorithm: Algorithm, format: WrapFormat) -> Finish {
    Finish::Wrap { under: KeyPath { slot: 1, ..bare(algorithm) }, format }
}

fn unprefixed() -> WrapFormat {
    WrapFormat::Ecb { prefix: Message(Vec::new()), padding: Padding::OneIfNeeded }
}

fn disperse(rule: DispersionRule) -> Step {
    Step::Disperse { rule, parity: Parity::AsComputed, factor: Input::Column(0) }
}

/// Refused over one row, whose one column is `cell`.
pub(crate) fn refused(
    bench: &Bench<'_>,
    rule: &str,
    keys: &[KeyHandle],
    recipe: &Recipe,
    cell: &[u8],
) -> Result<(), Failure> {
    bench.refused(rule, keys, recipe, &Batch::one(vec![Column::one(cell)], keys.len() as u16))
}

/// A key of a scheme, with that many dispersions between it and a card.
fn dispersion_key(bench: &Bench<'_>, algorithm: Algorithm, steps_left: u8) -> Result<KeyHandle, Failure> {
    let rank = KeyRank::Dispersion { steps_left };
    let attributes = KeyAttributes { rank, ..plain(algorithm, "10", ModeOfUse::Any)? };
    bench.open(&bench.store(attributes, KcvRule::ZEROS, &KEY)?)
}

fn a_dispersion_key_is_no_oracle(bench: &Bench<'_>) -> Result<(), Failure> {
    let rule = "a dispersion key is never an oracle";
    let algorithm = Algorithm::TripleDes;
    let key = dispersion_key(bench, algorithm, 2)?;
    let keys = std::slice::from_ref(&key);
    let step = || disperse(DispersionRule::FactorAndComplement);
    let every = [mac(), verify(), encrypt(CipherMode::Ecb), decrypt(CipherMode::Ecb), kcv(KcvFunction::Ecb, 4)];
    for (steps, left) in [(0, 2), (1, 1), (0, 0), (1, 0), (2, 1), (3, 0)] {
        for finish in &every {
            let path = path(algorithm, vec![step(); steps], left);
            refused(bench, rule, keys, &Recipe::single(path, finish.clone()), &[0x11; 8])?;
        }
    }
    let session = || Step::Session { input: Input::Column(0) };
    let fold = || Step::FoldHalves { rule: FoldRule::SingleDes };
    for steps in [vec![session()], vec![fold()], vec![step(), session()], vec![step(), fold(), step()]] {
        let left = 2 - steps.iter().filter(|step| matches!(step, Step::Disperse { .. })).count() as u8;
        for finish in [mac(), kcv(KcvFunction::Ecb, 3)] {
            refused(bench, rule, keys, &Recipe::single(path(algorithm, steps.clone(), left), finish), &[0x11; 8])?;
        }
    }
    // As K'' and as a wrapping key it is no oracle either.
    let plain = bench.key(algorithm, "10", ModeOfUse::Any, &KEY)?;
    let second = KeyPath { slot: 1, ..path(algorithm, vec![step()], 1) };
    let spec = MacSpec { second: Some(second.clone()), ..spec(MacAlgorithm::Emac, 4) };
    let by_second = Finish::Mac { spec, message: Message::column(0) };
    let pair = [plain, key];
    refused(bench, rule, &pair, &Recipe::single(bare(algorithm), by_second), &[0x11; 8])?;
    let exportable = exportable(bench, algorithm)?;
    let under = Finish::Wrap { under: second, format: unprefixed() };
    let [_, key] = pair;
    refused(bench, rule, &[exportable, key], &Recipe::single(bare(algorithm), under), &[0x11; 8])
}

fn exportable(bench: &Bench<'_>, algorithm: Algorithm) -> Result<KeyHandle, Failure> {
    let exportability = Exportability::Sensitive;
    let attributes = KeyAttributes { exportability, ..plain(algorithm, "D0", ModeOfUse::Both)? };
    bench.open(&bench.store(attributes, KcvRule::ZEROS, &KEY)?)
}

fn a_key_stays_unless_it_may_leave(bench: &Bench<'_>) -> Result<(), Failure> {
    let wrapper = bench.key(Algorithm::Aes128, "K0", ModeOfUse::Both, &KEY)?;
    for format in [unprefixed(), WrapFormat::KeyWrap] {
        let wrap = || wrap(Algorithm::Aes128, format.clone());
        let master = dispersion_key(bench, Algorithm::TripleDes, 2)?;
        let step = disperse(DispersionRule::FactorAndComplement);
        for (steps, left) in [(vec![], 2), (vec![step], 1)] {
            let recipe = Recipe::single(path(Algorithm::TripleDes, steps, left), wrap());
            let keys = [master.clone(), wrapper.clone()];
            refused(bench, "a master key does not leave", &keys, &recipe, &[0x11; 8])?;
        }
        let kept = bench.key(bench.cipher, "D0", ModeOfUse::Both, &KEY)?;
        let recipe = Recipe::single(bare(bench.cipher), wrap());
        refused(bench, "a key that is not exportable stays", &[kept, wrapper.clone()], &recipe, &[])?;
        for (rule, usage, mode) in [
            ("a data key does not wrap", "D0", ModeOfUse::Both),
            ("a MAC key does not wrap", "M0", ModeOfUse::Any),
            ("an unwrapping key does not wrap", "K0", ModeOfUse::DecryptOnly),
            ("a deriving key does not wrap", "K0", ModeOfUse::Derive),
        ] {
            let other = bench.key(Algorithm::Aes128, usage, mode, &KEY)?;
            refused(bench, rule, &[exportable(bench, bench.cipher)?, other], &recipe, &[])?;
        }
    }
    Ok(())
}

fn modes_and_usages_hold(bench: &Bench<'_>) -> Result<(), Failure> {
    use ModeOfUse as M;
    let ecb = || encrypt(CipherMode::Ecb);
    let wrong = [
        ("a verifying key makes no MAC", "M0", M::VerifyOnly, mac()),
        ("a generating key verifies no MAC", "M0", M::GenerateOnly, verify()),
        ("a deriving key makes no MAC", "M0", M::Derive, mac()),
        ("a MAC key does not encrypt", "M0", M::Any, ecb()),
        ("a MAC key does not decrypt", "M0", M::Any, decrypt(CipherMode::Ecb)),
        ("a data key makes no MAC", "D0", M::Any, mac()),
        ("a data key verifies no MAC", "D0", M::Any, verify()),
        ("a wrapping key does not encrypt", "K0", M::Both, ecb()),
        ("a wrapping key does not decrypt", "K0", M::Both, decrypt(CipherMode::Ecb)),
        ("a wrapping key makes no MAC", "K0", M::Any, mac()),
        ("an encrypting key does not decrypt", "D0", M::EncryptOnly, decrypt(CipherMode::Ecb)),
        ("a decrypting key does not encrypt", "D0", M::DecryptOnly, ecb()),
        ("a role's generating key does not encrypt", "10", M::GenerateOnly, ecb()),
        ("a role's encrypting key makes no MAC", "10", M::EncryptOnly, mac()),
    ];
    for (rule, usage, mode, finish) in wrong {
        let key = bench.key(bench.cipher, usage, mode, &KEY)?;
        refused(bench, rule, &[key], &Recipe::single(bare(bench.cipher), finish), &[0; 16])?;
    }
    for (rule, usage, mode, finish) in [
        ("a verifying key does not sign", "S0", M::VerifyOnly, sign()),
        ("a data key does not sign", "D0", M::Any, sign()),
        ("a MAC key verifies no signature", "M0", M::Any, verify_signature()),
        ("a generating key verifies no signature", "S0", M::GenerateOnly, verify_signature()),
        ("a signing key makes no MAC", "S0", M::Any, mac()),
        ("a signing key does not encrypt", "S0", M::Any, ecb()),
    ] {
        let one = || {
            let key = bench.key(Algorithm::Sm2, usage, mode, &[0x39; 32])?;
            refused(bench, rule, &[key], &Recipe::single(bare(Algorithm::Sm2), finish), &[0; 16])
        };
        bench.attempt(one)?;
    }
    Ok(())
}

fn algorithms_do_what_they_are_for(bench: &Bench<'_>) -> Result<(), Failure> {
    use Algorithm::{Aes128, Aes256, Des, HmacSha256, HmacSm3, Sm2, Sm4, TripleDes};
    let wide = bench.cipher;
    let of = |algorithm| Finish::Mac { spec: spec(algorithm, 4), message: Message::column(0) };
    let gcm = || CipherMode::Gcm { nonce: Input::Constant(vec![0; 12]), associated: Message(Vec::new()) };
    let cbc = |len| CipherMode::Cbc { initial: Input::Constant(vec![0; len]) };
    let wrong = [
        ("HMAC takes an HMAC key", wide, of(MacAlgorithm::Hmac)),
        ("a CBC-MAC takes a block cipher's key", HmacSm3, mac()),
        ("a CMAC takes a block cipher's key", HmacSha256, of(MacAlgorithm::Cmac)),
        ("a CMAC takes a block cipher's key, no signing key", Sm2, of(MacAlgorithm::Cmac)),
        ("an HMAC key does not encrypt", HmacSha256, encrypt(CipherMode::Ecb)),
        ("an SM2 key does not decrypt", Sm2, decrypt(CipherMode::Ecb)),
        ("GCM is of 16-byte blocks", TripleDes, encrypt(gcm())),
        ("GCM is of 16-byte blocks, backwards too", TripleDes, decrypt(gcm())),
        ("LMAC takes a key as long as a block", Aes256, of(MacAlgorithm::Lmac)),
        ("algorithm 2 takes two keys", wide, of(MacAlgorithm::Emac)),
        ("algorithm 3 takes two keys", Aes128, of(MacAlgorithm::Retail)),
        ("algorithm 4 takes two keys", Des, of(MacAlgorithm::MacDes)),
        ("a first chaining value is one block", wide, encrypt(cbc(8))),
        ("a first chaining value is one block, not two", TripleDes, decrypt(cbc(16))),
        ("an AES key does not sign", Aes256, sign()),
        ("an AES key verifies no signature", Aes256, verify_signature()),
        ("an HMAC key does not sign", HmacSm3, sign()),
        ("an SM4 key does not sign", Sm4, sign()),
        ("a check value by HMAC is of HMAC keys", wide, kcv(KcvFunction::Hmac, 3)),
        ("a check value by ECB is of block ciphers", HmacSm3, kcv(KcvFunction::Ecb, 3)),
        ("a fingerprint is of SM2 keys", Aes128, kcv(KcvFunction::Fingerprint, 3)),
        ("a check value has a length", wide, kcv(KcvFunction::Ecb, 0)),
        ("a check value is not longer than a block", TripleDes, kcv(KcvFunction::Ecb, 9)),
    ];
    for (rule, algorithm, finish) in wrong {
        let bytes = [&KEY[..], b"another of them!"].concat();
        let one = || {
            let key = bench.key(algorithm, "10", ModeOfUse::Any, &bytes[..algorithm.key_len()])?;
            refused(bench, rule, &[key], &Recipe::single(bare(algorithm), finish), &[0; 16])
        };
        bench.attempt(one)?;
    }
    let key = bench.key(wide, "M0", ModeOfUse::Any, &KEY)?;
    let recipe = Recipe::single(bare(TripleDes), mac());
    refused(bench, "a key of another algorithm", std::slice::from_ref(&key), &recipe, &[0; 16])?;
    let other = bench.key(TripleDes, "M0", ModeOfUse::Any, &KEY)?;
    let second = Some(KeyPath { slot: 1, ..bare(TripleDes) });
    let spec = MacSpec { second, ..spec(MacAlgorithm::Emac, 4) };
    let recipe = Recipe::single(bare(wide), Finish::Mac { spec, message: Message::column(0) });
    refused(bench, "K'' is of the algorithm of K'", &[key, other], &recipe, &[0; 16])?;
    for wrapper in [Sm4, TripleDes] {
        let recipe = Recipe::single(bare(Aes128), wrap(wrapper, WrapFormat::KeyWrap));
        let one = || {
            let keys = [exportable(bench, Aes128)?, bench.key(wrapper, "K0", ModeOfUse::Both, &KEY)?];
            refused(bench, "AES key wrap is under AES", &keys, &recipe, &[])
        };
        bench.attempt(one)?;
    }
    Ok(())
}

fn derivations_are_of_keys_that_have_them(bench: &Bench<'_>) -> Result<(), Failure> {
    use Algorithm::{Aes192, Aes256, Des, TripleDes, TripleDes3};
    let wide = bench.cipher;
    use DispersionRule::{FactorAndComplement, Raw};
    let key = |algorithm: Algorithm, rank| {
        let attributes = KeyAttributes { rank, ..plain(algorithm, "10", ModeOfUse::Any)? };
        let bytes = [&KEY[..], b"another of them!"].concat();
        bench.open(&bench.store(attributes, KcvRule::ZEROS, &bytes[..algorithm.key_len()])?)
    };
    let session = || Step::Session { input: Input::Column(0) };
    let fold = |rule| Step::FoldHalves { rule };
    for (rule, algorithm, step, cell) in [
        ("a factor has 8 bytes", TripleDes, disperse(FactorAndComplement), &[1; 7][..]),
        ("a factor has 8 bytes, not 16", wide, disperse(FactorAndComplement), &[1; 16]),
        ("a whole factor has 16 bytes", wide, disperse(Raw), &[1; 8]),
        ("a whole factor is of 16-byte blocks", TripleDes, disperse(Raw), &[1; 16]),
        ("a factor of 8 bytes is not whole", TripleDes, disperse(Raw), &[1; 8]),
        ("single DES does not disperse", Des, disperse(FactorAndComplement), &[1; 8]),
        ("three keys do not disperse", TripleDes3, disperse(FactorAndComplement), &[1; 8]),
        ("AES-256 does not disperse", Aes256, disperse(FactorAndComplement), &[1; 8]),
        ("a session's input has 8 bytes", TripleDes, session(), &[1; 9]),
        ("a session's input has 8 bytes, never none", wide, session(), &[]),
        ("three keys have no session", TripleDes3, session(), &[1; 8]),
        ("AES-192 has no session", Aes192, session(), &[1; 8]),
        ("only 16 bytes have halves", Aes256, fold(FoldRule::WithComplement), &[1; 8]),
        ("only 16 bytes have halves of DES", Des, fold(FoldRule::SingleDes), &[1; 8]),
    ] {
        let rank = match &step {
            Step::Disperse { .. } => KeyRank::Dispersion { steps_left: 1 },
            _ => KeyRank::Plain,
        };
        let message = Message(vec![Input::Constant(vec![0; 8])]);
        let finish = Finish::Mac { spec: spec(MacAlgorithm::CbcMac, 4), message };
        let recipe = Recipe::single(path(algorithm, vec![step], 0), finish);
        bench.attempt(|| refused(bench, rule, &[key(algorithm, rank)?], &recipe, cell))?;
    }
    Ok(())
}

/// Conditions name earlier legs that verify, inputs name earlier legs that put bytes out.
fn legs_depend_on_earlier_ones(bench: &Bench<'_>) -> Result<(), Failure> {
    let key = bench.key(bench.cipher, "10", ModeOfUse::Any, &KEY)?;
    let keys = std::slice::from_ref(&key);
    let leg = |finish: Finish, when| Leg { path: bare(bench.cipher), finish, when };
    let both = |first: Leg, second: Leg| Recipe { legs: vec![first, second] };
    for on in [0, 1, 7] {
        for when in [When::AfterValid(on), When::AfterInvalid(on)] {
            // Leg 0 makes a MAC, leg 1 is the leg itself, leg 7 is none.
            let recipe = both(leg(mac(), When::Always), leg(mac(), when));
            refused(bench, "a condition on a leg that does not verify", keys, &recipe, &[0; 8])?;
        }
    }
    let recipe = both(leg(mac(), When::AfterValid(1)), leg(verify(), When::Always));
    refused(bench, "a condition on a later leg", keys, &recipe, &[0; 8])?;
    let reading = |from: usize| {
        let input = || Input::Output(from);
        let message = || Message(vec![input()]);
        let spec = spec(MacAlgorithm::CbcMac, 4);
        let initial = MacSpec { initial: Some(input()), ..spec.clone() };
        let cbc = CipherMode::Cbc { initial: input() };
        let gcm = CipherMode::Gcm { nonce: Input::Constant(vec![0; 12]), associated: message() };
        let by_session = KeyPath { steps: vec![Step::Session { input: input() }], ..bare(bench.cipher) };
        vec![
            leg(Finish::Mac { spec: spec.clone(), message: message() }, When::Always),
            leg(Finish::VerifyMac { spec, message: Message::column(0), expected: input() }, When::Always),
            leg(Finish::Mac { spec: initial, message: Message::column(0) }, When::Always),
            leg(encrypt(cbc), When::Always),
            leg(decrypt(gcm), When::Always),
            Leg { path: by_session, finish: mac(), when: When::Always },
        ]
    };
    for reader in reading(0) {
        let recipe = both(leg(verify(), When::Always), reader);
        refused(bench, "an input from a leg that puts no bytes out", keys, &recipe, &[0; 8])?;
    }
    for from in [1, 2, 7] {
        for reader in reading(from) {
            let recipe = both(leg(mac(), When::Always), reader);
            refused(bench, "an input from the leg itself or from none", keys, &recipe, &[0; 8])?;
        }
    }
    for reader in reading(1) {
        let recipe = both(reader, leg(mac(), When::Always));
        refused(bench, "an input from a later leg", keys, &recipe, &[0; 8])?;
    }
    Ok(())
}
