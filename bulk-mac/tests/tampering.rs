//! Whatever single bit of a record is flipped, exactly that record's verdict flips.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Mac, Platform};
use common::{Case, Last, Numbers, Shape};
use proptest::prelude::*;

/// A part of a record that its verdict stands on.
#[derive(Clone, Copy, Debug)]
enum Part {
    Master,
    Factor,
    Session,
    Text,
    Tac,
}

fn ciphers() -> impl Strategy<Value = (Cipher, Mac)> {
    prop_oneof![
        Just((Cipher::TripleDes, Mac::Cbc)),
        Just((Cipher::TripleDes, Mac::Retail)),
        Just((Cipher::Sm4, Mac::Cbc)),
        Just((Cipher::Sm4, Mac::Cmac)),
        Just((Cipher::Aes128, Mac::Cbc)),
        Just((Cipher::Aes128, Mac::Cmac)),
    ]
}

fn parts() -> impl Strategy<Value = Part> {
    prop_oneof![Just(Part::Master), Just(Part::Factor), Just(Part::Session), Just(Part::Text), Just(Part::Tac)]
}

/// A case whose rows all have a master of their own, its TACs, and the verdicts on `tier`.
fn verdicts(tier: BulkMac, case: &Case, tacs: &[u8]) -> Vec<bool> {
    let expected = Expected { width: 4, bytes: tacs };
    case.lend(|keys, texts| tier.verify(keys, case.mac, texts, &expected)).unwrap()
}

fn tacs(case: &Case, rows: usize) -> Vec<u8> {
    (0..rows).flat_map(|row| case.mac_of(row)[..4].to_vec()).collect()
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (8 * bytes.len());
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
}

/// Flips one bit of a part of row `row`. `None` if the case has no such part, or the bit is a parity bit of DES.
fn tamper(case: &mut Case, tacs: &mut [u8], part: Part, row: usize, bit: usize) -> Option<()> {
    let block = case.cipher.block_len();
    match part {
        Part::Master => {
            if case.cipher == Cipher::TripleDes && bit % 8 == 7 {
                return None;
            }
            flip(&mut case.masters[row], bit);
        }
        Part::Factor if case.levels.is_empty() => return None,
        Part::Factor => {
            let level = bit / 64 % case.levels.len();
            flip(&mut case.levels[level][row], bit);
        }
        Part::Session => match &mut case.last {
            Last::Session(inputs) => flip(&mut inputs[row], bit),
            Last::Whole | Last::Fold => return None,
        },
        Part::Text => {
            let blocks = case.blocks.as_ref().map_or(case.columns.len(), |blocks| blocks[row] as usize);
            let column = &mut case.columns[bit / 128 % blocks];
            flip(&mut column[row * block..][..block], bit);
        }
        Part::Tac => flip(&mut tacs[4 * row..][..4], bit),
    }
    Some(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn one_flipped_bit_flips_one_verdict(
        (cipher, mac) in ciphers(),
        seed in 1..u64::MAX,
        // As many batches of few rows as of many: they run on other kernels.
        rows in prop_oneof![2..24usize, 2..600usize],
        (levels, columns, last) in (0..4usize, 1..4usize, 0..3u8),
        mixed: bool,
        part in parts(),
        (row, bit) in (any::<prop::sample::Index>(), 0..4096usize),
    ) {
        let last = if mac == Mac::Retail { 0 } else { last };
        let mut case = Case::new(
            &mut Numbers(seed),
            Shape { cipher, mac, rows, masters: rows, levels, last, columns, mixed },
        );
        // Every row its own master, so that a bit of a master is a bit of one record.
        case.chosen = Some((0..rows as u32).collect());
        let mut tacs = tacs(&case, rows);
        let row = row.index(rows);
        let (whole, given) = (case.clone(), tacs.clone());
        prop_assume!(tamper(&mut case, &mut tacs, part, row, bit).is_some());
        // A fold cancels nothing else: a flipped factor or master changes the folded key, except by a chance of 2^-56.
        for platform in Platform::available() {
            let tier = BulkMac::on(platform).unwrap();
            prop_assert_eq!(verdicts(tier, &whole, &given), vec![true; rows]);
            let wanted: Vec<bool> = (0..rows).map(|at| at != row).collect();
            prop_assert_eq!(verdicts(tier, &case, &tacs), wanted, "{:?} of row {} on {:?}", part, row, platform);
        }
    }
}

#[test]
fn all_32_bits_of_a_tac_count_in_every_lane() {
    [1, 20, 512].into_iter().for_each(all_32_bits_count);
}

fn all_32_bits_count(rows: usize) {
    let shape = Shape {
        cipher: Cipher::TripleDes,
        mac: Mac::Cbc,
        rows,
        masters: 3,
        levels: 1,
        last: 1,
        columns: 3,
        mixed: false,
    };
    let case = Case::new(&mut Numbers(5), shape);
    let tacs = tacs(&case, rows);
    for platform in Platform::available() {
        let tier = BulkMac::on(platform).unwrap();
        for bit in 0..32 {
            let mut tampered = tacs.clone();
            tampered.chunks_exact_mut(4).for_each(|tac| flip(tac, bit));
            assert_eq!(verdicts(tier, &case, &tampered), vec![false; rows], "bit {bit} on {platform:?}");
        }
    }
}

#[test]
fn parity_bits_of_a_des_master_do_not_count() {
    let rows = 70;
    for (mac, last) in [(Mac::Cbc, 0), (Mac::Cbc, 1), (Mac::Cbc, 2), (Mac::Retail, 0)] {
        let shape =
            Shape { cipher: Cipher::TripleDes, mac, rows, masters: 1, levels: 1, last, columns: 2, mixed: false };
        let mut case = Case::new(&mut Numbers(6), shape);
        let tacs = tacs(&case, rows);
        case.masters[0].iter_mut().for_each(|byte| *byte ^= 1);
        for platform in Platform::available() {
            assert_eq!(verdicts(BulkMac::on(platform).unwrap(), &case, &tacs), vec![true; rows]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    use claviger_bulk_mac::{Keys, LastStep, Misfit, PerRow, Texts};
    let factors = [[0; 8]; 3];
    let levels = [&factors[..]];
    let keys = Keys {
        cipher: Cipher::TripleDes,
        masters: &[[0; 16]],
        chosen: PerRow::Same(0),
        levels: &levels,
        last: LastStep::Whole,
    };
    let column = [0; 24];
    let columns = [&column[..]];
    let texts = Texts { columns: &columns, blocks: PerRow::Same(1), padded: PerRow::Same(false) };
    let bytes = [0; 12];
    let expected = Expected { width: 4, bytes: &bytes };
    let bulk = BulkMac::new();
    assert!(bulk.verify(&keys, Mac::Cbc, &texts, &expected).is_ok());
    assert!(bulk.verify(&keys, Mac::Retail, &texts, &expected).is_ok());
    let refused = |keys: &Keys<'_>, mac, texts: &Texts<'_>, width, bytes| {
        bulk.verify(keys, mac, texts, &Expected { width, bytes }).unwrap_err()
    };
    assert_eq!(refused(&keys, Mac::Cmac, &texts, 4, &bytes), Misfit::Algorithm);
    assert_eq!(refused(&Keys { last: LastStep::Fold, ..keys }, Mac::Retail, &texts, 4, &bytes), Misfit::Algorithm);
    assert_eq!(refused(&keys, Mac::Cbc, &texts, 0, &bytes), Misfit::Width);
    assert_eq!(refused(&keys, Mac::Cbc, &texts, 9, &bytes), Misfit::Width);
    assert_eq!(refused(&keys, Mac::Cbc, &texts, 4, &bytes[..8]), Misfit::Rows);
    assert_eq!(refused(&keys, Mac::Cbc, &texts, 5, &bytes), Misfit::Rows);
    assert_eq!(refused(&Keys { chosen: PerRow::Same(1), ..keys }, Mac::Cbc, &texts, 4, &bytes), Misfit::Master);
    let chosen = PerRow::Each(&[0, 0, 1]);
    assert_eq!(refused(&Keys { chosen, ..keys }, Mac::Cbc, &texts, 4, &bytes), Misfit::Master);
    for blocks in [PerRow::Same(0), PerRow::Same(2), PerRow::Each(&[1, 0, 1]), PerRow::Each(&[1, 2, 1])] {
        assert_eq!(refused(&keys, Mac::Cbc, &Texts { blocks, ..texts }, 4, &bytes), Misfit::Blocks);
    }
    let short = LastStep::Session(&factors[..2]);
    assert_eq!(refused(&Keys { last: short, ..keys }, Mac::Cbc, &texts, 4, &bytes), Misfit::Rows);
    assert_eq!(bulk.macs(&keys, Mac::Cbc, &texts, &mut [0; 23]), Err(Misfit::Rows));
    assert_eq!(bulk.disperse(&keys, &mut [[0; 16]; 2]), Err(Misfit::Rows));
}
