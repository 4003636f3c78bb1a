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
    fn schedule<V: Vector>(_: V::Cpu, key: &Block<V>, schedule: &mut Self::Schedule<V>) {
        let mut words = *key;
        for (word, constant) in words.as_chunks_mut::<4>().0.iter_mut().zip(FK) {
            xor_constant(word, constant);
        }
        for (round, (kept, constant)) in schedule.iter_mut().zip(CK).enumerate() {
            let mut t = sum_of_others(&words, round);
            xor_constant(&mut t, constant);
            t = substitute(t);
            let word = word_mut(&mut words, round);
            xor(word.as_flattened_mut(), t.as_flattened());
            xor_turned::<V, 13>(word, &t);
            xor_turned::<V, 23>(word, &t);
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
            xor(word.as_flattened_mut(), t.as_flattened());
            xor_turned::<V, 2>(word, &t);
            xor_turned::<V, 10>(word, &t);
            xor_turned::<V, 18>(word, &t);
            xor_turned::<V, 24>(word, &t);
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

/// `word ^= other <<< BY`.
#[inline(always)]
fn xor_turned<V: Vector, const BY: usize>(word: &mut Word<V>, other: &Word<V>) {
    // Bit `p` of a word, from the least significant, is bit `p % 8` of byte `3 - p / 8`. A byte is its own loop, so
    // that the places are known to the compiler.
    turned_byte::<V, BY, 0>(&mut word[3], other);
    turned_byte::<V, BY, 1>(&mut word[2], other);
    turned_byte::<V, BY, 2>(&mut word[1], other);
    turned_byte::<V, BY, 3>(&mut word[0], other);
}

#[inline(always)]
fn turned_byte<V: Vector, const BY: usize, const BYTE: usize>(to: &mut Byte<V>, other: &Word<V>) {
    for (bit, to) in to.iter_mut().enumerate() {
        let from = (8 * BYTE + bit + 32 - BY) % 32;
        *to = *to ^ other[3 - from / 8][from % 8];
    }
}

/// `word ^= constant`, which everybody knows: bits of it may be branched upon.
#[inline(always)]
fn xor_constant<V: Vector>(word: &mut Word<V>, constant: u32) {
    for (byte, constant) in word.iter_mut().zip(constant.to_be_bytes()) {
        for (p, bit) in byte.iter_mut().enumerate() {
            if constant >> p & 1 == 1 {
                *bit = !*bit;
            }
        }
    }
}

#[inline(always)]
fn wipe<V: Vector>(words: &mut Block<V>) {
    words.as_flattened_mut().iter_mut().for_each(zeroize::Zeroize::zeroize);
}
