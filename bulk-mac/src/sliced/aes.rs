//! AES-128 (FIPS 197) on bit planes.

use zeroize::Zeroize;

use super::sbox::{self, Byte};
use super::{Block, Sliced, xor};
use crate::vector::{Vector, zeros};

/// The cipher.
#[derive(Clone, Copy)]
pub(crate) struct Aes;

impl Sliced for Aes {
    type Schedule<V: Vector> = [Block<V>; 11];

    fn room<V: Vector>(cpu: V::Cpu) -> Self::Schedule<V> {
        [[zeros(cpu); 16]; 11]
    }

    #[inline(always)]
    fn schedule<V: Vector>(_: V::Cpu, key: &Block<V>, schedule: &mut Self::Schedule<V>) {
        let mut here = *key;
        let mut constant = 1;
        schedule[0] = here;
        for kept in &mut schedule[1..] {
            for i in 0..4 {
                let turned = sbox::aes(here[12 + (i + 1) % 4]);
                xor(&mut here[i], &turned);
            }
            for (place, bit) in here[0].iter_mut().enumerate() {
                if constant >> place & 1 == 1 {
                    *bit = !*bit;
                }
            }
            constant = constant << 1 ^ if constant & 0x80 != 0 { 0x11B } else { 0 };
            for i in 4..16 {
                let before = here[i - 4];
                xor(&mut here[i], &before);
            }
            *kept = here;
        }
        here.as_flattened_mut().iter_mut().for_each(Zeroize::zeroize);
    }

    #[inline(always)]
    fn encrypt<V: Vector>(_: V::Cpu, schedule: &Self::Schedule<V>, block: &mut Block<V>) {
        let [first, middle @ .., last] = schedule;
        xor(block.as_flattened_mut(), first.as_flattened());
        for key in middle {
            substitute_and_shift(block);
            for column in block.as_chunks_mut::<4>().0 {
                mix(column);
            }
            xor(block.as_flattened_mut(), key.as_flattened());
        }
        substitute_and_shift(block);
        xor(block.as_flattened_mut(), last.as_flattened());
    }
}

/// SubBytes and ShiftRows.
#[inline(always)]
fn substitute_and_shift<V: Vector>(block: &mut Block<V>) {
    let before = *block;
    for (at, byte) in block.iter_mut().enumerate() {
        *byte = sbox::aes(before[(at + 4 * (at % 4)) % 16]);
    }
}

/// MixColumns of one column.
#[inline(always)]
fn mix<V: Vector>(column: &mut [Byte<V>; 4]) {
    let before = *column;
    let mut sum = before[0];
    for byte in &before[1..] {
        xor(&mut sum, byte);
    }
    for (i, byte) in column.iter_mut().enumerate() {
        let mut pair = before[i];
        xor(&mut pair, &before[(i + 1) % 4]);
        xor(byte, &sum);
        xor(byte, &doubled(&pair));
    }
}

/// The product with x.
#[inline(always)]
fn doubled<V: Vector>(byte: &Byte<V>) -> Byte<V> {
    let top = byte[7];
    [top, byte[0] ^ top, byte[1], byte[2] ^ top, byte[3] ^ top, byte[4], byte[5], byte[6]]
}
