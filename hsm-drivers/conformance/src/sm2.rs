//! SM2 signatures: the vectors verify, those that a driver makes verify, altered ones do not.
//!
//! Encryption, signatures over a finished digest and the compression of points are no operations of a driver.

use claviger_hsm_api::{Algorithm, Batch, Column, Finish, Input, KeyColumn, Message, ModeOfUse, Recipe};

use crate::bench::{Bench, Case, bare, failure};
use crate::{Failure, Tally};

/// The order of the group (GB/T 32918.5), big-endian.
pub(crate) const ORDER: [u8; 32] = [
    0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x72, 0x03, 0xDF,
    0x6B, 0x21, 0xC6, 0x05, 0x2B, 0x53, 0xBB, 0xF4, 0x09, 0x39, 0xD5, 0x41, 0x23,
];

pub(crate) fn check(bench: &Bench<'_>) -> Result<Tally, Failure> {
    let (signing, others): (Vec<Case>, Vec<Case>) =
        bench.cases("sm2.json")?.into_iter().partition(|case| case.text("op") == Some("SM2 sign"));
    let mut count = 0;
    for case in &signing {
        count += usize::from(bench.attempt(|| signs(bench, case))?.is_some());
    }
    Ok(vec![("sm2.json", count), ("sm2.json, encryption, finished digests and compression: not run", others.len())])
}

/// The standard's own example.
pub(crate) fn standard(bench: &Bench<'_>) -> Result<Case, Failure> {
    let mut cases = bench.cases("sm2.json")?.into_iter();
    cases
        .find(|case| case.id.ends_with("#sm2-sign-std"))
        .ok_or_else(|| failure("sm2.json", "the standard's example is missing"))
}

fn signs(bench: &Bench<'_>, case: &Case) -> Result<(), Failure> {
    let key = bench.key(Algorithm::Sm2, "S0", ModeOfUse::GenerateAndVerify, &case.bytes("private_key")?)?;
    let keys = std::slice::from_ref(&key);
    let signer_id = String::from_utf8(case.bytes("id_bytes")?).map_err(|error| failure(&case.id, error))?;
    let message = case.bytes("message")?;
    let sign = Finish::Sign { signer_id: signer_id.clone(), message: Message::column(0) };
    let sign = Recipe::single(bare(Algorithm::Sm2), sign);
    let ours = bench.bytes(&case.id, keys, &sign, &Batch::one(vec![Column::one(message.clone())], 1))?;
    let (r, s) = (case.bytes("expected_r")?, case.bytes("expected_s")?);
    let (good, bad) = ([[&r[..], &s].concat(), ours], wrong(&r, &s));
    let signatures = || good.iter().chain(&bad).map(|signature| &signature[..]);
    let count = signatures().count();
    let verdicts = |signer_id: &str, message: &[u8]| {
        let columns = vec![Column::from_rows((0..count).map(|_| message)), Column::from_rows(signatures())];
        let finish = Finish::VerifySignature {
            signer_id: signer_id.to_owned(),
            message: Message::column(0),
            signature: Input::Column(1),
        };
        let batch = Batch { rows: count, columns, keys: vec![KeyColumn::Same(0)] };
        let outcome = bench.run(&case.id, keys, &Recipe::single(bare(Algorithm::Sm2), finish), &batch)?;
        Ok(outcome.verdicts(0).unwrap_or_default().to_vec())
    };
    let expected: Vec<bool> = (0..count).map(|row| row < good.len()).collect();
    let nothing = vec![false; count];
    let longer = [&message[..], &[0]].concat();
    for (rule, found, wanted) in [
        ("right and altered signatures", verdicts(&signer_id, &message)?, &expected),
        ("another message", verdicts(&signer_id, &longer)?, &nothing),
        ("another signer", verdicts(&format!("{signer_id}0"), &message)?, &nothing),
    ] {
        if found != *wanted {
            return Err(failure(&case.id, format!("{rule}: the verdicts are {found:?}")));
        }
    }
    bench.driver.close(&key);
    Ok(())
}

/// What must not verify: a bit turned, values out of range, `r + s = n`, other lengths, another encoding.
fn wrong(r: &[u8], s: &[u8]) -> Vec<Vec<u8>> {
    let pair = |r: &[u8], s: &[u8]| [r, s].concat();
    let turned = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let der = [&[0x30, 0x46, 0x02, 0x21, 0x00][..], r, &[0x02, 0x21, 0x00], s].concat();
    vec![
        pair(&turned(r, 31), s),
        pair(&turned(r, 0), s),
        pair(r, &turned(s, 31)),
        pair(r, &turned(s, 0)),
        pair(s, r),
        pair(&[0; 32], s),
        pair(r, &[0; 32]),
        pair(&[0; 32], &[0; 32]),
        pair(&ORDER, s),
        pair(r, &ORDER),
        pair(&[0xFF; 32], s),
        pair(r, &[0xFF; 32]),
        pair(r, &minus(&ORDER, r)),
        pair(r, s)[..63].to_vec(),
        [r, s, &[0]].concat(),
        Vec::new(),
        der,
    ]
}

/// `a - b` of big-endian numbers of one length, where `a` is not smaller.
pub(crate) fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut difference = a.to_vec();
    let mut borrow = false;
    for (digit, b) in difference.iter_mut().zip(b).rev() {
        let (once, under) = digit.overflowing_sub(*b);
        let (twice, again) = once.overflowing_sub(u8::from(borrow));
        *digit = twice;
        borrow = under || again;
    }
    difference
}
