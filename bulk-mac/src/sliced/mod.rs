//! Ciphers with blocks and keys of 16 bytes, bitsliced: constant-time on any machine.

mod aes;
mod sbox;
mod sm4;

pub(crate) use aes::Aes;
pub(crate) use sm4::Sm4;

use std::marker::PhantomData;

use sbox::Byte;
use zeroize::Zeroize;

use crate::kernel::{Kernel, with_complements};
use crate::transpose::{MOST_LANES, from_planes, put_halves, take_halves, to_planes};
use crate::vector::{Cpu, Vector, Work, zeros};
use crate::wipe::{Room, wipe};

/// 16 bytes of every lane.
pub(crate) type Block<V> = [Byte<V>; 16];

/// A cipher on bit planes.
pub(crate) trait Sliced: Copy {
    /// Its round keys.
    type Schedule<V: Vector>: Zeroize;

    /// Room for round keys.
    fn room<V: Vector>(cpu: V::Cpu) -> Self::Schedule<V>;
    /// Works out the round keys. `#[inline(always)]`.
    fn schedule<V: Vector>(cpu: V::Cpu, key: &Block<V>, schedule: &mut Self::Schedule<V>);
    /// Enciphers. `#[inline(always)]`.
    fn encrypt<V: Vector>(cpu: V::Cpu, schedule: &Self::Schedule<V>, block: &mut Block<V>);
}

/// A bitsliced cipher on one backend: as many rows as its vector has bits.
#[derive(Clone, Copy)]
pub(crate) struct SlicedKernel<C, S>(C, PhantomData<S>);

impl<C, S> SlicedKernel<C, S> {
    pub(crate) fn new(cpu: C) -> Self {
        Self(cpu, PhantomData)
    }
}

/// Keys as they are and as the cipher uses them.
#[derive(Zeroize)]
pub(crate) struct Keys<V: Vector, R: Zeroize> {
    key: Block<V>,
    schedule: R,
}

impl<C: Cpu, S: Sliced> SlicedKernel<C, S> {
    fn block(self) -> Block<C::Vector> {
        [zeros(self.0); 16]
    }

    /// `E(x || ~x)`.
    fn derive(self, from: &<Self as Kernel>::Keys, halves: &[u8], to: &mut <Self as Kernel>::Keys) {
        let mut rows = Room::new(16 * Self::LANES);
        with_complements(halves, &mut rows.0);
        self.0.call(Load { rows: &rows.0, block: &mut to.key });
        self.encrypt(from, &mut to.key);
    }
}

impl<C: Cpu, S: Sliced> Kernel for SlicedKernel<C, S> {
    const LANES: usize = C::Vector::LANES;
    const BLOCK: usize = 16;
    type Keys = Keys<C::Vector, S::Schedule<C::Vector>>;
    type Blocks = Block<C::Vector>;

    fn keys(self) -> Box<Self::Keys> {
        Box::new(Keys { key: self.block(), schedule: S::room(self.0) })
    }

    fn blocks(self) -> Self::Blocks {
        self.block()
    }

    fn load_keys(self, rows: &[u8], keys: &mut Self::Keys) {
        self.0.call(Load { rows, block: &mut keys.key });
    }

    fn store_keys(self, keys: &Self::Keys, rows: &mut [u8]) {
        self.0.call(Store { block: &keys.key, rows });
    }

    fn schedule(self, keys: &mut Self::Keys) {
        self.0.call(Schedule::<_, S> { key: &keys.key, schedule: &mut keys.schedule });
    }

    fn disperse(self, from: &Self::Keys, factors: &[u8], to: &mut Self::Keys) {
        self.derive(from, factors, to);
    }

    fn session(self, from: &Self::Keys, inputs: &[u8], to: &mut Self::Keys) {
        self.derive(from, inputs, to);
    }

    fn fold(self, keys: &mut Self::Keys) {
        self.0.call(Fold(&mut keys.key));
    }

    fn split(self, _: &mut Self::Keys) {}

    fn xor_rows(self, blocks: &mut Self::Blocks, rows: &[u8]) {
        let mut other = self.block();
        self.0.call(Load { rows, block: &mut other });
        self.0.call(Xor { block: blocks, other: &other });
        other.zeroize();
    }

    fn encrypt(self, keys: &Self::Keys, blocks: &mut Self::Blocks) {
        self.0.call(Encrypt::<_, S> { schedule: &keys.schedule, block: blocks });
    }

    fn retail(self, _: &Self::Keys, _: &mut Self::Blocks) {}

    fn store(self, blocks: &Self::Blocks, rows: &mut [u8]) {
        self.0.call(Store { block: blocks, rows });
    }
}

struct Load<'a, V: Vector> {
    rows: &'a [u8],
    block: &'a mut Block<V>,
}

impl<C: Cpu> Work<C> for Load<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut halves = [0; 8 * MOST_LANES];
        let halves = &mut halves[..8 * C::Vector::LANES];
        let [left, right] = self.block.as_flattened_mut().as_chunks_mut::<64>().0 else { return };
        take_halves::<0>(self.rows, halves);
        to_planes(cpu, halves, left);
        take_halves::<8>(self.rows, halves);
        to_planes(cpu, halves, right);
        wipe(halves);
    }
}

struct Store<'a, V: Vector> {
    block: &'a Block<V>,
    rows: &'a mut [u8],
}

impl<C: Cpu> Work<C> for Store<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut halves = [0; 8 * MOST_LANES];
        let halves = &mut halves[..8 * C::Vector::LANES];
        let mut block = *self.block;
        let [left, right] = block.as_flattened_mut().as_chunks_mut::<64>().0 else { return };
        from_planes(cpu, left, halves);
        put_halves::<0>(halves, self.rows);
        from_planes(cpu, right, halves);
        put_halves::<8>(halves, self.rows);
        block.zeroize();
        wipe(halves);
    }
}

struct Xor<'a, V: Vector> {
    block: &'a mut Block<V>,
    other: &'a Block<V>,
}

impl<C: Cpu> Work<C> for Xor<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: C) {
        xor(self.block.as_flattened_mut(), self.other.as_flattened());
    }
}

#[inline(always)]
fn xor<V: Vector>(to: &mut [V], other: &[V]) {
    for (to, other) in to.iter_mut().zip(other) {
        *to = *to ^ *other;
    }
}

struct Fold<'a, V: Vector>(&'a mut Block<V>);

impl<C: Cpu> Work<C> for Fold<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: C) {
        let (left, right) = self.0.split_at_mut(8);
        for (left, right) in left.as_flattened_mut().iter_mut().zip(right.as_flattened_mut()) {
            *left = *left ^ *right;
            *right = !*left;
        }
    }
}

struct Schedule<'a, V: Vector, S: Sliced> {
    key: &'a Block<V>,
    schedule: &'a mut S::Schedule<V>,
}

impl<C: Cpu, S: Sliced> Work<C> for Schedule<'_, C::Vector, S> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        S::schedule(cpu, self.key, self.schedule);
    }
}

struct Encrypt<'a, V: Vector, S: Sliced> {
    schedule: &'a S::Schedule<V>,
    block: &'a mut Block<V>,
}

impl<C: Cpu, S: Sliced> Work<C> for Encrypt<'_, C::Vector, S> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        S::encrypt(cpu, self.schedule, self.block);
    }
}
