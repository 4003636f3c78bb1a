//! The sixteen rounds on bit planes.

use zeroize::Zeroize;

use super::sbox;
use super::tables::{FINAL, INITIAL, PC1, PC2, PLACE, TURNED};
use crate::transpose::plane;
use crate::vector::{Cpu, Vector, Work, zeros};

/// One DES key for each lane.
///
/// The registers C and D are kept twice over, so that turned by `n` places they are what begins at `n`: the key
/// schedule is a slice, and which planes a round reads depends on nothing secret.
#[derive(Zeroize, Clone)]
pub(super) struct Key<V: Vector> {
    c: [V; 56],
    d: [V; 56],
    parity: [V; 8],
}

impl<V: Vector> Key<V> {
    #[inline(always)]
    pub(super) fn zeros(cpu: V::Cpu) -> Self {
        Self { c: zeros(cpu), d: zeros(cpu), parity: zeros(cpu) }
    }

    /// From a function that gives key bit `i`, counted as the standard does.
    #[inline(always)]
    pub(super) fn set(&mut self, bit: impl Fn(usize) -> V) {
        for i in 0..28 {
            let (c, d) = (bit(usize::from(PC1[i])), bit(usize::from(PC1[i + 28])));
            (self.c[i], self.c[i + 28], self.d[i], self.d[i + 28]) = (c, c, d, d);
        }
        for (i, parity) in self.parity.iter_mut().enumerate() {
            *parity = bit(8 * i + 7);
        }
    }

    /// The key bits as planes of rows.
    #[inline(always)]
    pub(super) fn planes(&self, planes: &mut [V; 64]) {
        for i in 0..28 {
            planes[plane(usize::from(PC1[i]))] = self.c[i];
            planes[plane(usize::from(PC1[i + 28]))] = self.d[i];
        }
        for (i, parity) in self.parity.iter().enumerate() {
            planes[plane(8 * i + 7)] = *parity;
        }
    }

    /// Exclusive or with another key, parity bits too.
    #[inline(always)]
    pub(super) fn xor(&mut self, other: &Self) {
        let pairs = self.c.iter_mut().zip(&other.c).chain(self.d.iter_mut().zip(&other.d));
        for (own, other) in pairs.chain(self.parity.iter_mut().zip(&other.parity)) {
            *own = *own ^ *other;
        }
    }

    /// C and D as they stand in one round.
    #[inline(always)]
    fn turned(&self, round: usize) -> Option<(&[V; 28], &[V; 28])> {
        let by = usize::from(TURNED[round]);
        Some((self.c[by..].first_chunk()?, self.d[by..].first_chunk()?))
    }
}

/// One block for each lane, between the initial permutation and its inverse. Chains stay there: the permutation
/// is linear.
#[derive(Zeroize, Clone)]
pub(crate) struct State<V: Vector> {
    halves: [[V; 32]; 2],
    /// Which of the two is the left one. An odd number of DES passes leaves them the other way round.
    left: usize,
}

impl<V: Vector> State<V> {
    #[inline(always)]
    pub(super) fn zeros(cpu: V::Cpu) -> Self {
        Self { halves: [zeros(cpu), zeros(cpu)], left: 0 }
    }

    /// From planes of rows.
    #[inline(always)]
    pub(super) fn set(&mut self, planes: &[V; 64]) {
        self.left = 0;
        for (i, from) in INITIAL.iter().enumerate() {
            self.halves[i / 32][i % 32] = planes[plane(usize::from(*from))];
        }
    }

    /// Turns every bit over.
    #[inline(always)]
    pub(super) fn complement(&mut self) {
        for bit in self.halves.as_flattened_mut() {
            *bit = !*bit;
        }
    }

    /// Exclusive or with planes of rows.
    #[inline(always)]
    pub(super) fn xor(&mut self, planes: &[V; 64]) {
        for (i, from) in INITIAL.iter().enumerate() {
            let bit = &mut self.halves[(i / 32) ^ (self.left & 1)][i % 32];
            *bit = *bit ^ planes[plane(usize::from(*from))];
        }
    }

    /// To planes of rows.
    #[inline(always)]
    pub(super) fn planes(&self, planes: &mut [V; 64]) {
        for (i, from) in INITIAL.iter().enumerate() {
            planes[plane(usize::from(*from))] = self.halves[(i / 32) ^ (self.left & 1)][i % 32];
        }
    }

    /// The blocks as keys.
    #[inline(always)]
    pub(super) fn key(&self, key: &mut Key<V>) {
        key.set(|bit| {
            let i = usize::from(FINAL[bit]);
            self.halves[(i / 32) ^ (self.left & 1)][i % 32]
        });
    }

    /// DES in one direction under each lane's key.
    #[inline(always)]
    pub(super) fn des<C: Cpu<Vector = V>>(&mut self, cpu: C, key: &Key<V>, decrypt: bool) {
        let [a, b] = &mut self.halves;
        let (left, right) = if self.left == 0 { (a, b) } else { (b, a) };
        cpu.call(Rounds { left, right, key, decrypt });
        // The output of DES is R16 L16: the halves change places once more.
        self.left ^= 1;
    }
}

/// Sixteen rounds; afterwards `left` is L16 and `right` is R16.
struct Rounds<'a, V: Vector> {
    left: &'a mut [V; 32],
    right: &'a mut [V; 32],
    key: &'a Key<V>,
    decrypt: bool,
}

impl<C: Cpu> Work<C> for Rounds<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: C) {
        let (mut target, mut source) = (self.left, self.right);
        for round in 0..16 {
            let Some((c, d)) = self.key.turned(if self.decrypt { 15 - round } else { round }) else { return };
            feistel(target, source, c, d);
            std::mem::swap(&mut target, &mut source);
        }
    }
}

/// `target ^= P(S(E(source) ^ round key))`; the permutation P is where each output bit is put.
#[inline(always)]
fn feistel<V: Vector>(target: &mut [V; 32], source: &[V; 32], c: &[V; 28], d: &[V; 28]) {
    pair::<V, 0>(target, source, c);
    pair::<V, 1>(target, source, c);
    pair::<V, 2>(target, source, d);
    pair::<V, 3>(target, source, d);
}

/// Two neighbouring S-boxes, which take their key bits from the same register.
#[inline(always)]
fn pair<V: Vector, const PAIR: usize>(target: &mut [V; 32], source: &[V; 32], register: &[V; 28]) {
    let input = |number: usize| {
        let bit = |i: usize| source[(4 * number + 31 + i) % 32] ^ register[usize::from(PC2[6 * number + i])];
        [bit(0), bit(1), bit(2), bit(3), bit(4), bit(5)]
    };
    let [a, b] = sbox::pair::<V, PAIR>(input(2 * PAIR), input(2 * PAIR + 1));
    // One by one: of a loop the compiler would make one, and look each place up.
    put::<V, PAIR, 0>(target, a[0]);
    put::<V, PAIR, 1>(target, a[1]);
    put::<V, PAIR, 2>(target, a[2]);
    put::<V, PAIR, 3>(target, a[3]);
    put::<V, PAIR, 4>(target, b[0]);
    put::<V, PAIR, 5>(target, b[1]);
    put::<V, PAIR, 6>(target, b[2]);
    put::<V, PAIR, 7>(target, b[3]);
}

/// An output bit of two S-boxes where P puts it.
#[inline(always)]
fn put<V: Vector, const PAIR: usize, const BIT: usize>(target: &mut [V; 32], bit: V) {
    let place = const { PLACE[8 * PAIR + BIT] as usize };
    target[place] = target[place] ^ bit;
}
