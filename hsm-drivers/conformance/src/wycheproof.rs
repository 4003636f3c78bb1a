//! The vectors of Project Wycheproof, through the driver: every set that is for an algorithm and an operation
//! of a driver. There is none for SM4 in CBC, for DES or for SM2.
//!
//! Valid cases are reproduced alone; then all cases of a group are verified or opened in one batch, each row
//! under its own key. Cases that ask for what a driver does not offer (a key or a nonce of another length) must
//! be refused, and are counted apart.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Finish, Input, KeyColumn, KeyHandle, MacAlgorithm, MacSpec, Message,
    ModeOfUse, Padding, Recipe, Truncation,
};
use wycheproof::{TestResult, aead, cipher, mac, mac_with_nonce};

use crate::bench::{Bench, bare, failure, plain};
use crate::{Failure, Tally};

/// The length in bytes of the one nonce that a driver takes.
const NONCE: usize = 12;

pub(crate) fn check(bench: &Bench<'_>) -> Result<Tally, Failure> {
    let (cmacs, no_keys) = macs(bench, "aes_cmac", mac::TestName::AesCmac, MacAlgorithm::Cmac, aes)?;
    let hmac_sm3 = |_| Some(Algorithm::HmacSm3);
    let (of_sm3, _) = macs(bench, "hmac_sm3", mac::TestName::HmacSm3, MacAlgorithm::Hmac, hmac_sm3)?;
    let hmac_sha256 = |_| Some(Algorithm::HmacSha256);
    let (of_sha256, _) = macs(bench, "hmac_sha256", mac::TestName::HmacSha256, MacAlgorithm::Hmac, hmac_sha256)?;
    let (aes_gcm, aes_gcm_refused) = gcms(bench, sealed("aes_gcm", aead::TestName::AesGcm)?, aes)?;
    let (aes_gmac, aes_gmac_refused) = gcms(bench, gmacs("aes_gmac")?, aes)?;
    let sm4 = |_| Some(Algorithm::Sm4);
    let (sm4_gcm, sm4_gcm_refused) = gcms(bench, sealed("sm4_gcm", aead::TestName::Sm4Gcm)?, sm4)?;
    Ok(vec![
        ("wycheproof aes_cmac", cmacs),
        ("wycheproof aes_cmac, not as long as an AES key: refused", no_keys),
        ("wycheproof hmac_sm3", of_sm3),
        ("wycheproof hmac_sha256", of_sha256),
        ("wycheproof aes_gcm", aes_gcm),
        ("wycheproof aes_gcm, nonce not of 96 bits: refused", aes_gcm_refused),
        ("wycheproof aes_gmac", aes_gmac),
        ("wycheproof aes_gmac, nonce not of 96 bits: refused", aes_gmac_refused),
        ("wycheproof sm4_gcm", sm4_gcm),
        ("wycheproof sm4_gcm, nonce not of 96 bits: refused", sm4_gcm_refused),
        ("wycheproof aes_cbc_pkcs5", cbc_pkcs5(bench)?),
    ])
}

/// AES of a key's length in bytes.
pub(crate) fn aes(len: usize) -> Option<Algorithm> {
    [Algorithm::Aes128, Algorithm::Aes192, Algorithm::Aes256].into_iter().find(|aes| aes.key_len() == len)
}

/// Those that must succeed; "acceptable" says that a stricter implementation may refuse, and ours does not.
fn succeeds(result: TestResult) -> bool {
    !result.must_fail()
}

/// Opens a key for each case, runs `task` on them and closes them again.
fn with_keys<'k, T>(
    bench: &Bench<'_>,
    algorithm: Algorithm,
    usage: &str,
    mode: ModeOfUse,
    keys: impl Iterator<Item = &'k [u8]>,
    task: impl FnOnce(&[KeyHandle]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let opened: Vec<KeyHandle> =
        keys.map(|key| bench.key(algorithm, usage, mode, key)).collect::<Result<_, Failure>>()?;
    let result = task(&opened);
    opened.iter().for_each(|key| bench.driver.close(key));
    result
}

/// A batch in which each row has a key of its own, in the order of the handles.
fn a_key_each(columns: Vec<Column>, rows: usize) -> Batch {
    Batch { rows, columns, keys: vec![KeyColumn::PerRow((0..rows as u16).collect())] }
}

/// Cases run, and cases whose key no key of the algorithm can be.
fn macs(
    bench: &Bench<'_>,
    name: &str,
    set: mac::TestName,
    mac: MacAlgorithm,
    algorithm: impl Fn(usize) -> Option<Algorithm>,
) -> Result<(usize, usize), Failure> {
    let (mut run, mut refused) = (0, 0);
    for group in mac::TestSet::load(set).map_err(|error| failure(name, error))?.test_groups {
        match algorithm(group.key_size / 8) {
            Some(algorithm) => {
                let group_run = || mac_group(bench, name, &group, mac, algorithm).map(|()| group.tests.len());
                run += bench.attempt(group_run)?.unwrap_or(0);
            }
            None => {
                for test in &group.tests {
                    let attributes = plain(Algorithm::Aes128, "M6", ModeOfUse::GenerateAndVerify)?;
                    bench.not_imported(&format!("{name}#{}", test.tc_id), attributes, &test.key)?;
                    refused += 1;
                }
            }
        }
    }
    Ok((run, refused))
}

fn mac_group(
    bench: &Bench<'_>,
    name: &str,
    group: &mac::TestGroup,
    algorithm: MacAlgorithm,
    of_key: Algorithm,
) -> Result<(), Failure> {
    let truncation = Truncation::Left(group.tag_size / 8);
    let spec = MacSpec { algorithm, second: None, padding: Padding::None, initial: None, truncation };
    let make = Recipe::single(bare(of_key), Finish::Mac { spec: spec.clone(), message: Message::column(0) });
    let verify = Finish::VerifyMac { spec, message: Message::column(0), expected: Input::Column(1) };
    let tests = &group.tests;
    let keys = tests.iter().map(|test| &test.key[..]);
    with_keys(bench, of_key, "M6", ModeOfUse::GenerateAndVerify, keys, |keys| {
        for (test, key) in tests.iter().zip(keys).filter(|(test, _)| succeeds(test.result)) {
            let id = format!("{name}#{}", test.tc_id);
            let batch = Batch::one(vec![Column::one(&test.msg[..])], 1);
            bench.expect(&id, &bench.bytes(&id, std::slice::from_ref(key), &make, &batch)?, &test.tag)?;
        }
        let messages = Column::from_rows(tests.iter().map(|test| &test.msg[..]));
        let tags = Column::from_rows(tests.iter().map(|test| &test.tag[..]));
        let batch = a_key_each(vec![messages, tags], tests.len());
        let outcome = bench.run(name, keys, &Recipe::single(bare(of_key), verify), &batch)?;
        let verdicts = outcome.verdicts(0).unwrap_or_default();
        for (row, test) in tests.iter().enumerate() {
            if verdicts.get(row) != Some(&succeeds(test.result)) {
                return Err(failure(&format!("{name}#{}", test.tc_id), "the verdict is wrong"));
            }
        }
        Ok(())
    })
}

/// A case of GCM; GMAC is GCM of nothing with the message as associated data.
struct Sealed {
    id: String,
    key: Vec<u8>,
    nonce: Vec<u8>,
    associated: Vec<u8>,
    text: Vec<u8>,
    /// Ciphertext and tag.
    sealed: Vec<u8>,
    opens: bool,
}

fn sealed(name: &str, set: aead::TestName) -> Result<Vec<Sealed>, Failure> {
    let set = aead::TestSet::load(set).map_err(|error| failure(name, error))?;
    let cases = set.test_groups.into_iter().flat_map(|group| group.tests).map(|test| Sealed {
        id: format!("{name}#{}", test.tc_id),
        key: test.key.to_vec(),
        nonce: test.nonce.to_vec(),
        associated: test.aad.to_vec(),
        text: test.pt.to_vec(),
        sealed: [&test.ct[..], &test.tag[..]].concat(),
        opens: succeeds(test.result),
    });
    Ok(cases.collect())
}

fn gmacs(name: &str) -> Result<Vec<Sealed>, Failure> {
    let set = mac_with_nonce::TestSet::load(mac_with_nonce::TestName::Gmac).map_err(|error| failure(name, error))?;
    let cases = set.test_groups.into_iter().flat_map(|group| group.tests).map(|test| Sealed {
        id: format!("{name}#{}", test.tc_id),
        key: test.key.to_vec(),
        nonce: test.nonce.to_vec(),
        associated: test.msg.to_vec(),
        text: Vec::new(),
        sealed: test.tag.to_vec(),
        opens: succeeds(test.result),
    });
    Ok(cases.collect())
}

/// Cases run, and cases whose nonce a driver does not take.
fn gcms(
    bench: &Bench<'_>,
    cases: Vec<Sealed>,
    algorithm: impl Fn(usize) -> Option<Algorithm>,
) -> Result<(usize, usize), Failure> {
    let (fitting, others): (Vec<Sealed>, Vec<Sealed>) = cases.into_iter().partition(|case| case.nonce.len() == NONCE);
    let of = |case: &Sealed| algorithm(case.key.len()).ok_or_else(|| failure(&case.id, "the key has no algorithm"));
    let (mut run, mut refused) = (0, 0);
    for case in &others {
        let algorithm = of(case)?;
        refused += usize::from(bench.attempt(|| gcm_refused(bench, case, algorithm))?.is_some());
    }
    for group in fitting.chunk_by(|a, b| a.key.len() == b.key.len()) {
        let algorithm = of(&group[0])?;
        run += bench.attempt(|| gcm_group(bench, group, algorithm).map(|()| group.len()))?.unwrap_or(0);
    }
    Ok((run, refused))
}

fn gcm() -> CipherMode {
    CipherMode::Gcm { nonce: Input::Column(1), associated: Message::column(2) }
}

fn encrypt(mode: CipherMode, padding: Padding, algorithm: Algorithm) -> Recipe {
    Recipe::single(bare(algorithm), Finish::Encrypt { mode, padding, data: Message::column(0) })
}

fn decrypt(mode: CipherMode, algorithm: Algorithm) -> Recipe {
    Recipe::single(bare(algorithm), Finish::Decrypt { mode, data: Message::column(0) })
}

fn gcm_refused(bench: &Bench<'_>, case: &Sealed, algorithm: Algorithm) -> Result<(), Failure> {
    let keys = std::iter::once(&case.key[..]);
    with_keys(bench, algorithm, "D0", ModeOfUse::Both, keys, |keys| {
        let columns = |data: &[u8]| [data, &case.nonce, &case.associated].map(Column::one).to_vec();
        let seal = encrypt(gcm(), Padding::None, algorithm);
        bench.refused(&case.id, keys, &seal, &Batch::one(columns(&case.text), 1))?;
        bench.refused(&case.id, keys, &decrypt(gcm(), algorithm), &Batch::one(columns(&case.sealed), 1))
    })
}

fn gcm_group(bench: &Bench<'_>, group: &[Sealed], algorithm: Algorithm) -> Result<(), Failure> {
    let keys = group.iter().map(|case| &case.key[..]);
    with_keys(bench, algorithm, "D0", ModeOfUse::Both, keys, |keys| {
        let seal = encrypt(gcm(), Padding::None, algorithm);
        for (case, key) in group.iter().zip(keys).filter(|(case, _)| case.opens) {
            let columns = [&case.text, &case.nonce, &case.associated].map(|cell| Column::one(&cell[..])).to_vec();
            let made = bench.bytes(&case.id, std::slice::from_ref(key), &seal, &Batch::one(columns, 1))?;
            bench.expect(&case.id, &made, &case.sealed)?;
        }
        let columns = vec![
            Column::from_rows(group.iter().map(|case| &case.sealed[..])),
            Column::from_rows(group.iter().map(|case| &case.nonce[..])),
            Column::from_rows(group.iter().map(|case| &case.associated[..])),
        ];
        let batch = a_key_each(columns, group.len());
        let outcome = bench.run(&group[0].id, keys, &decrypt(gcm(), algorithm), &batch)?;
        for (row, case) in group.iter().enumerate() {
            match outcome.bytes(0, row) {
                Some(text) if case.opens => bench.expect(&case.id, text, &case.text)?,
                None if !case.opens => {}
                Some(_) => return Err(failure(&case.id, "a wrong tag was opened")),
                None => return Err(failure(&case.id, "a right tag was not opened")),
            }
        }
        Ok(())
    })
}

/// Cases run. A driver puts out whole blocks and leaves it to its caller to take the padding off: in the invalid
/// cases it must put out exactly the blocks whose padding is wrong.
fn cbc_pkcs5(bench: &Bench<'_>) -> Result<usize, Failure> {
    let name = "aes_cbc_pkcs5";
    let set = cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).map_err(|error| failure(name, error))?;
    let mut run = 0;
    for group in &set.test_groups {
        let algorithm = aes(group.key_size / 8).ok_or_else(|| failure(name, "a key that is of no AES"))?;
        let keys = group.tests.iter().map(|test| &test.key[..]);
        let cases = |keys: &[KeyHandle]| {
            group.tests.iter().zip(keys).try_for_each(|(test, key)| cbc_case(bench, test, key, algorithm))
        };
        let all = || with_keys(bench, algorithm, "D0", ModeOfUse::Both, keys, cases).map(|()| group.tests.len());
        run += bench.attempt(all)?.unwrap_or(0);
    }
    Ok(run)
}

fn cbc_case(bench: &Bench<'_>, test: &cipher::Test, key: &KeyHandle, algorithm: Algorithm) -> Result<(), Failure> {
    let id = format!("aes_cbc_pkcs5#{}", test.tc_id);
    let mode = || CipherMode::Cbc { initial: Input::Column(1) };
    let run = |recipe: &Recipe, data: &[u8]| {
        let batch = Batch::one([data, &test.nonce].map(Column::one).to_vec(), 1);
        bench.bytes(&id, std::slice::from_ref(key), recipe, &batch)
    };
    let blocks = run(&decrypt(mode(), algorithm), &test.ct)?;
    let again = run(&encrypt(mode(), Padding::None, algorithm), &blocks)?;
    bench.expect(&id, &again, &test.ct)?;
    let padded = run(&encrypt(mode(), Padding::Pkcs7, algorithm), &test.pt)?;
    if succeeds(test.result) {
        bench.expect(&id, &padded, &test.ct)?;
        return bench.expect(&id, without_pkcs7(&blocks).unwrap_or_default(), &test.pt);
    }
    if padded == test.ct[..] || without_pkcs7(&blocks).is_some() {
        return Err(failure(&id, "a padding that is wrong was made or came out right"));
    }
    Ok(())
}

/// What stands before a right PKCS #7 padding.
fn without_pkcs7(blocks: &[u8]) -> Option<&[u8]> {
    let count = usize::from(*blocks.last()?);
    let (text, padding) = blocks.split_at(blocks.len().checked_sub(count)?);
    let right = (1..=16).contains(&count) && padding.iter().all(|byte| usize::from(*byte) == count);
    right.then_some(text)
}
