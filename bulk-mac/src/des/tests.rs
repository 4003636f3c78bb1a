use super::*;

/// The S-boxes as FIPS 46-3 prints them: four rows of sixteen for each.
#[rustfmt::skip]
const TABLES: [[u8; 64]; 8] = [
    [14,4,13,1,2,15,11,8,3,10,6,12,5,9,0,7,0,15,7,4,14,2,13,1,10,6,12,11,9,5,3,8,4,1,14,8,13,6,2,11,15,12,9,7,3,10,5,0,15,12,8,2,4,9,1,7,5,11,3,14,10,0,6,13],
    [15,1,8,14,6,11,3,4,9,7,2,13,12,0,5,10,3,13,4,7,15,2,8,14,12,0,1,10,6,9,11,5,0,14,7,11,10,4,13,1,5,8,12,6,9,3,2,15,13,8,10,1,3,15,4,2,11,6,7,12,0,5,14,9],
    [10,0,9,14,6,3,15,5,1,13,12,7,11,4,2,8,13,7,0,9,3,4,6,10,2,8,5,14,12,11,15,1,13,6,4,9,8,15,3,0,11,1,2,12,5,10,14,7,1,10,13,0,6,9,8,7,4,15,14,3,11,5,2,12],
    [7,13,14,3,0,6,9,10,1,2,8,5,11,12,4,15,13,8,11,5,6,15,0,3,4,7,2,12,1,10,14,9,10,6,9,0,12,11,7,13,15,1,3,14,5,2,8,4,3,15,0,6,10,1,13,8,9,4,5,11,12,7,2,14],
    [2,12,4,1,7,10,11,6,8,5,3,15,13,0,14,9,14,11,2,12,4,7,13,1,5,0,15,10,3,9,8,6,4,2,1,11,10,13,7,8,15,9,12,5,6,3,0,14,11,8,12,7,1,14,2,13,6,15,0,9,10,4,5,3],
    [12,1,10,15,9,2,6,8,0,13,3,4,14,7,5,11,10,15,4,2,7,12,9,5,6,1,13,14,0,11,3,8,9,14,15,5,2,8,12,3,7,0,4,10,1,13,11,6,4,3,2,12,9,5,15,10,11,14,1,7,6,0,8,13],
    [4,11,2,14,15,0,8,13,3,12,9,7,5,10,6,1,13,0,11,7,4,9,1,10,14,3,5,12,2,15,8,6,1,4,11,13,12,3,7,14,10,15,6,8,0,5,9,2,6,11,13,8,1,4,10,7,9,5,0,15,14,2,3,12],
    [13,2,8,4,6,15,11,1,10,9,3,14,5,0,12,7,1,15,13,8,10,3,7,4,12,5,6,11,0,14,9,2,7,11,4,1,9,12,14,2,0,6,10,13,15,3,5,8,2,1,14,7,4,10,8,13,15,12,9,0,3,5,6,11],
];

/// A function of two neighbouring S-boxes' inputs.
type Pair = fn([u64; 6], [u64; 6]) -> [[u64; 4]; 2];

#[test]
fn every_circuit_is_its_table_for_all_64_inputs() {
    let two: [Pair; 4] = [
        sbox::with_two_inputs::<u64, 0>,
        sbox::with_two_inputs::<u64, 1>,
        sbox::with_two_inputs::<u64, 2>,
        sbox::with_two_inputs::<u64, 3>,
    ];
    let three: [Pair; 4] = [
        sbox::with_three_inputs::<u64, 0>,
        sbox::with_three_inputs::<u64, 1>,
        sbox::with_three_inputs::<u64, 2>,
        sbox::with_three_inputs::<u64, 3>,
    ];
    // Lane x carries input x, so one call covers all of them; the neighbour gets others.
    let planes = |turn: u64| std::array::from_fn(|bit| (0..64u64).map(|x| ((x ^ turn) >> (5 - bit) & 1) << x).sum());
    for circuits in [two, three] {
        for (number, (circuit, tables)) in circuits.iter().zip(TABLES.as_chunks::<2>().0).enumerate() {
            for turn in 0..64 {
                let output = circuit(planes(0), planes(turn));
                for ((table, output), turn) in tables.iter().zip(output).zip([0, turn]) {
                    for lane in 0..64usize {
                        let x = lane ^ turn as usize;
                        let row = (x >> 5) << 1 | x & 1;
                        let column = x >> 1 & 15;
                        let found = output.iter().fold(0, |value, plane| value << 1 | (plane >> lane & 1) as u8);
                        assert_eq!(found, table[16 * row + column], "pair {number} of {x:06b}");
                    }
                }
            }
        }
    }
}

#[test]
fn planes_and_back_is_the_identity() {
    let rows: [[u8; 8]; 64] =
        std::array::from_fn(|i| 0x9E37_79B9_7F4A_7C15u64.wrapping_mul(i as u64 + 1).to_be_bytes());
    let mut planes = [0; 64];
    to_planes(Word, rows.as_flattened(), &mut planes);
    assert_eq!(planes[plane(0)] >> 5 & 1, u64::from(rows[5][0] >> 7), "plane 0 holds the most significant bits");
    let mut back = [0; 512];
    from_planes(Word, &mut planes, &mut back);
    assert_eq!(back, rows.as_flattened());
}

#[test]
fn known_answers_in_every_lane() {
    // FIPS 81 and the worked example of PBOC dispersion.
    let cases: [(&str, &str, &str); 3] = [
        ("0123456789ABCDEF", "4E6F772069732074", "3FA40E8A984D4815"),
        ("C4D689158AD9FB9D23105B91CE046D0E", "2011000270735501", "B8A15DA5F7043C31"),
        ("C4D689158AD9FB9D23105B91CE046D0E", "DFEEFFFD8F8CAAFE", "7D9FD8F8DFE2BD75"),
    ];
    for (key, plain, cipher) in cases {
        let key = bytes(key);
        for rows in [1, 2, 63, 64] {
            let group = KeyGroup::new(&key.repeat(rows), key.len()).unwrap();
            let mut blocks = vec![Block::try_from(bytes(plain)).unwrap(); rows];
            group.encrypt(&mut blocks);
            assert!(blocks.iter().all(|b| b[..] == bytes(cipher)), "{rows} rows");
            group.decrypt(&mut blocks);
            assert!(blocks.iter().all(|b| b[..] == bytes(plain)), "{rows} rows back");
        }
    }
}

#[test]
fn lanes_do_not_touch_each_other() {
    let keys: Vec<u8> = (0..64 * 24).map(|i| (i * 37 + i / 24) as u8).collect();
    let together = KeyGroup::new(&keys, 24).unwrap();
    let plain: Vec<Block> = (0..64u8).map(|i| [i; 8]).collect();
    let mut all = plain.clone();
    together.encrypt(&mut all);
    for lane in 0..64 {
        let mut one = [plain[lane]];
        KeyGroup::new(&keys[24 * lane..24 * lane + 24], 24).unwrap().encrypt(&mut one);
        assert_eq!(one[0], all[lane], "lane {lane}");
    }
}

#[test]
fn equal_halves_make_single_des_and_parity_does_not_matter() {
    let single = KeyGroup::new(&bytes("0123456789ABCDEF"), 8).unwrap();
    let double = KeyGroup::new(&bytes("0022446688AACCEE0123456789ABCDEF"), 16).unwrap();
    let (mut a, mut b) = ([[0x5A; 8]], [[0x5A; 8]]);
    single.encrypt(&mut a);
    double.encrypt(&mut b);
    assert_eq!(a, b);
}

#[test]
fn malformed_key_groups_are_refused() {
    for (len, key_len) in [(0, 8), (12, 8), (8, 7), (65 * 8, 8), (32, 0)] {
        assert!(KeyGroup::new(&vec![0; len], key_len).is_none(), "{len} bytes of {key_len}");
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}
