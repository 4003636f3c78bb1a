//! Every platform that this machine has against RustCrypto, row by row.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Mac, Platform};
use common::{Case, Numbers, Shape};

/// Batches that end before, at and after the end of a run on every platform, in few lanes and in many, and runs of all its
/// lanes.
const ROWS: [usize; 26] =
    [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 20, 21, 63, 64, 65, 127, 192, 193, 255, 256, 257, 511, 512, 513];

fn tiers() -> Vec<BulkMac> {
    Platform::available().map(|platform| BulkMac::on(platform).unwrap()).collect()
}

fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for cipher in [Cipher::TripleDes, Cipher::Sm4, Cipher::Aes128] {
        for mac in [Mac::Cbc, Mac::Retail, Mac::Cmac] {
            for last in 0..3 {
                let defined = match mac {
                    Mac::Cbc => true,
                    Mac::Retail => cipher == Cipher::TripleDes && last == 0,
                    Mac::Cmac => cipher != Cipher::TripleDes,
                };
                for mixed in [false, true] {
                    if defined {
                        let (rows, masters, levels, columns) = (0, 1, 0, 0);
                        shapes.push(Shape { cipher, mac, rows, masters, levels, last, columns, mixed });
                    }
                }
            }
        }
    }
    shapes
}

#[test]
fn macs_are_those_of_rustcrypto_in_every_lane_tail_and_length() {
    let mut numbers = Numbers(1);
    for shape in shapes() {
        for (at, rows) in ROWS.into_iter().enumerate() {
            // Levels, lengths and masters take turns with the tails.
            let (levels, columns, masters) = (at % 5, 1 + at % 4, [1, 7][at % 2]);
            let case = Case::new(&mut numbers, Shape { rows, levels, columns, masters, ..shape });
            let wanted: Vec<u8> = (0..rows).flat_map(|row| case.mac_of(row)).collect();
            for tier in tiers() {
                let mut found = vec![0xA5; wanted.len()];
                case.lend(|keys, texts| tier.macs(keys, case.mac, texts, &mut found)).unwrap();
                assert_eq!(found, wanted, "{rows} rows of {shape:?} on {:?}", tier.platform());
            }
        }
    }
}

#[test]
fn dispersed_keys_are_those_of_rustcrypto_with_their_parity() {
    let mut numbers = Numbers(2);
    for cipher in [Cipher::TripleDes, Cipher::Sm4, Cipher::Aes128] {
        for last in 0..3 {
            for (at, rows) in ROWS.into_iter().enumerate() {
                let (levels, masters) = (at % 5, [5, 1][at % 2]);
                let shape = Shape { cipher, mac: Mac::Cbc, rows, masters, levels, last, columns: 1, mixed: false };
                let case = Case::new(&mut numbers, shape);
                for tier in tiers() {
                    let mut found = vec![[0xA5; 16]; rows];
                    case.lend(|keys, _| tier.disperse(keys, &mut found)).unwrap();
                    for (row, found) in found.iter().enumerate() {
                        let wanted = case.key(row);
                        assert_eq!(found[..wanted.len()], wanted, "row {row} of {shape:?} on {:?}", tier.platform());
                    }
                }
            }
        }
    }
}

#[test]
fn verdicts_are_true_for_every_width_and_false_for_every_bit() {
    let mut numbers = Numbers(3);
    let whole = shapes().into_iter().filter(|shape| !shape.mixed);
    for (shape, rows) in whole.flat_map(|shape| [20, 515].map(|rows| (shape, rows))) {
        let case = Case::new(&mut numbers, Shape { rows, levels: 1, columns: 2, masters: 3, ..shape });
        let block = case.cipher.block_len();
        let blocks: Vec<Vec<u8>> = (0..rows).map(|row| case.mac_of(row)).collect();
        for tier in tiers() {
            for width in 1..=block {
                let mut bytes: Vec<u8> = blocks.iter().flat_map(|mac| &mac[..width]).copied().collect();
                let verify = |bytes: &[u8]| {
                    let expected = Expected { width, bytes };
                    case.lend(|keys, texts| tier.verify(keys, case.mac, texts, &expected)).unwrap()
                };
                assert_eq!(verify(&bytes), vec![true; rows]);
                // Row r has bit r of its MAC wrong, as far as it has so many; all bits of a TAC meet many lanes.
                for row in 0..rows {
                    let bit = row % (8 * width + 1);
                    if bit < 8 * width {
                        bytes[row * width + bit / 8] ^= 0x80 >> (bit % 8);
                    }
                }
                let wanted: Vec<bool> = (0..rows).map(|row| row % (8 * width + 1) == 8 * width).collect();
                assert_eq!(verify(&bytes), wanted, "{width} bytes of {shape:?} on {:?}", tier.platform());
            }
        }
    }
}
