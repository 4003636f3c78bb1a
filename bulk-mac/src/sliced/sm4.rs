//! SM4 (GB/T 32907-2016) on bit planes.

use super::sbox::{self, Byte};
use super::{Block, Sliced, xor};
use crate::sm4_constants::{CK, FK};
use crate::vector::{Vector, zeros};

/// The cipher.
#[derive(Clone, Copy)]
pub(crate) struct Sm4;

/// A word of every lane: its bytes from the most significant.
type Word<V> = [Byte<V>; 4];

impl Sliced for Sm4 {
    type Schedule<V: Vector> = [Word<V>; 32];

    fn room<V: Vector>(cpu: V::Cpu) -> Self::Schedule<V> {
        [[zeros(cpu); 4]; 32]
    }

    #[inline(always)]
    fn schedule<V: Vector>(cpu: V::Cpu, key: &Block<V>, schedule: &mut Self::Schedule<V>) {
        let mut words = *key;
        for (word, constant) in words.as_chunks_mut::<4>().0.iter_mut().zip(FK) {
            xor_constant(cpu, word, constant);
        }
        for (round, (kept, constant)) in schedule.iter_mut().zip(CK).enumerate() {
            let mut t = sum_of_others(&words, round);
            xor_constant(cpu, &mut t, constant);
            t = substitute(t);
            let word = word_mut(&mut words, round);
            for turn in [0, 13, 23] {
                xor_turned(word, &t, turn);
            }
            *kept = *word;
        }
        wipe(&mut words);
    }

    #[inline(always)]
    fn encrypt<V: Vector>(_: V::Cpu, schedule: &Self::Schedule<V>, block: &mut Block<V>) {
        for (round, key) in schedule.iter().enumerate() {
            let mut t = sum_of_others(block, round);
            xor(t.as_flattened_mut(), key.as_flattened());
            t = substitute(t);
            let word = word_mut(block, round);
            for turn in [0, 2, 10, 18, 24] {
                xor_turned(word, &t, turn);
            }
        }
        // R: the four words in reverse.
        for i in 0..4 {
            block.swap(i, 12 + i);
            block.swap(4 + i, 8 + i);
        }
    }
}

/// The word that a round replaces. `words` is a ring.
#[inline(always)]
fn word_mut<V: Vector>(words: &mut Block<V>, round: usize) -> &mut Word<V> {
    &mut words.as_chunks_mut::<4>().0[round % 4]
}

#[inline(always)]
fn sum_of_others<V: Vector>(words: &Block<V>, round: usize) -> Word<V> {
    let words = words.as_chunks::<4>().0;
    let mut sum = words[(round + 1) % 4];
    xor(sum.as_flattened_mut(), words[(round + 2) % 4].as_flattened());
    xor(sum.as_flattened_mut(), words[(round + 3) % 4].as_flattened());
    sum
}

#[inline(always)]
fn substitute<V: Vector>(mut word: Word<V>) -> Word<V> {
    for byte in &mut word {
        *byte = sbox::sm4(*byte);
    }
    word
}

/// `word ^= other <<< by`.
#[inline(always)]
fn xor_turned<V: Vector>(word: &mut Word<V>, other: &Word<V>, by: usize) {
    // Bit `p` of a word, from the least significant, is bit `p % 8` of byte `3 - p / 8`.
    for p in 0..32 {
        let from = (p + 32 - by) % 32;
        let bit = &mut word[3 - p / 8][p % 8];
        *bit = *bit ^ other[3 - from / 8][from % 8];
    }
}

#[inline(always)]
fn xor_constant<V: Vector>(cpu: V::Cpu, word: &mut Word<V>, constant: u32) {
    for p in 0..32 {
        let mask = u64::from(constant >> p & 1).wrapping_neg();
        let bit = &mut word[3 - p / 8][p % 8];
        *bit = *bit ^ V::splat(cpu, mask);
    }
}

#[inline(always)]
fn wipe<V: Vector>(words: &mut Block<V>) {
    words.as_flattened_mut().iter_mut().for_each(zeroize::Zeroize::zeroize);
}
