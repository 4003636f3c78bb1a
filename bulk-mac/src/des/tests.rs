use super::*;

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
        for (number, (circuit, tables)) in circuits.iter().zip(sboxes::SBOXES.as_chunks::<2>().0).enumerate() {
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
