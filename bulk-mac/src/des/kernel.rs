//! Triple DES with two keys, for [`crate::run`].

use zeroize::Zeroize;

use super::rounds::{Key, State};
use crate::kernel::Kernel;
use crate::transpose::{from_planes, plane, to_planes};
use crate::vector::{Cpu, Vector, Work, zeros};

/// DES on one backend: as many rows as its vector has bits.
#[derive(Clone, Copy)]
pub(crate) struct Des<C>(pub(crate) C);

/// Two DES keys for each row, of which the left alone may be in use.
#[derive(Zeroize)]
pub(crate) struct Keys<V: Vector> {
    left: Key<V>,
    right: Key<V>,
    single: bool,
}

impl<C: Cpu> Kernel for Des<C> {
    const LANES: usize = C::Vector::LANES;
    const BLOCK: usize = 8;
    type Keys = Keys<C::Vector>;
    type Blocks = State<C::Vector>;

    fn keys(self) -> Box<Self::Keys> {
        Box::new(Keys { left: Key::zeros(self.0), right: Key::zeros(self.0), single: false })
    }

    fn blocks(self) -> Self::Blocks {
        State::zeros(self.0)
    }

    fn load_keys(self, rows: &[u8], keys: &mut Self::Keys) {
        let mut halves = vec![0; 8 * Self::LANES];
        for (key, half) in [(&mut keys.left, 0), (&mut keys.right, 8)] {
            for (to, row) in halves.chunks_exact_mut(8).zip(rows.chunks_exact(16)) {
                to.copy_from_slice(&row[half..half + 8]);
            }
            self.0.call(LoadKey { rows: &halves, key });
        }
        keys.single = false;
        halves.zeroize();
    }

    fn store_keys(self, keys: &Self::Keys, rows: &mut [u8]) {
        let mut halves = vec![0; 8 * Self::LANES];
        for (key, half) in [(&keys.left, 0), (&keys.right, 8)] {
            self.0.call(StoreKey { key, rows: &mut halves });
            for (row, from) in rows.chunks_exact_mut(16).zip(halves.chunks_exact(8)) {
                row[half..half + 8].copy_from_slice(from);
            }
        }
        halves.zeroize();
    }

    fn schedule(self, _: &mut Self::Keys) {}

    fn disperse(self, from: &Self::Keys, factors: &[u8], to: &mut Self::Keys) {
        let mut state = self.blocks();
        for (complement, key) in [(false, &mut to.left), (true, &mut to.right)] {
            self.0.call(Start { rows: factors, complement, state: &mut state });
            self.encrypt(from, &mut state);
            self.0.call(TakeKey { state: &state, key });
        }
        to.single = false;
        state.zeroize();
    }

    fn session(self, from: &Self::Keys, inputs: &[u8], to: &mut Self::Keys) {
        let mut state = self.blocks();
        self.0.call(Start { rows: inputs, complement: false, state: &mut state });
        self.encrypt(from, &mut state);
        self.0.call(TakeKey { state: &state, key: &mut to.left });
        to.single = true;
        state.zeroize();
    }

    fn fold(self, keys: &mut Self::Keys) {
        self.0.call(Fold(keys));
    }

    fn split(self, keys: &mut Self::Keys) {
        keys.single = true;
    }

    fn xor_rows(self, blocks: &mut Self::Blocks, rows: &[u8]) {
        self.0.call(XorRows { rows, state: blocks });
    }

    fn encrypt(self, keys: &Self::Keys, blocks: &mut Self::Blocks) {
        blocks.des(self.0, &keys.left, false);
        if !keys.single {
            blocks.des(self.0, &keys.right, true);
            blocks.des(self.0, &keys.left, false);
        }
    }

    fn retail(self, keys: &Self::Keys, blocks: &mut Self::Blocks) {
        blocks.des(self.0, &keys.right, true);
        blocks.des(self.0, &keys.left, false);
    }

    fn store(self, blocks: &Self::Blocks, rows: &mut [u8]) {
        self.0.call(Store { state: blocks, rows });
    }
}

struct LoadKey<'a, V: Vector> {
    rows: &'a [u8],
    key: &'a mut Key<V>,
}

impl<C: Cpu> Work<C> for LoadKey<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut planes = zeros::<C::Vector, 64>(cpu);
        to_planes(cpu, self.rows, &mut planes);
        self.key.set(|bit| planes[plane(bit)]);
        planes.zeroize();
    }
}

struct StoreKey<'a, V: Vector> {
    key: &'a Key<V>,
    rows: &'a mut [u8],
}

impl<C: Cpu> Work<C> for StoreKey<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut planes = zeros::<C::Vector, 64>(cpu);
        self.key.planes(&mut planes);
        from_planes(cpu, &mut planes, self.rows);
        planes.zeroize();
    }
}

/// Blocks from rows, or from their complements.
struct Start<'a, V: Vector> {
    rows: &'a [u8],
    complement: bool,
    state: &'a mut State<V>,
}

impl<C: Cpu> Work<C> for Start<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut planes = zeros::<C::Vector, 64>(cpu);
        to_planes(cpu, self.rows, &mut planes);
        self.state.set(&planes, self.complement);
    }
}

struct TakeKey<'a, V: Vector> {
    state: &'a State<V>,
    key: &'a mut Key<V>,
}

impl<C: Cpu> Work<C> for TakeKey<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: C) {
        self.state.key(self.key);
    }
}

struct Fold<'a, V: Vector>(&'a mut Keys<V>);

impl<C: Cpu> Work<C> for Fold<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: C) {
        self.0.left.xor(&self.0.right);
        self.0.single = true;
    }
}

struct XorRows<'a, V: Vector> {
    rows: &'a [u8],
    state: &'a mut State<V>,
}

impl<C: Cpu> Work<C> for XorRows<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut planes = zeros::<C::Vector, 64>(cpu);
        to_planes(cpu, self.rows, &mut planes);
        self.state.xor(&planes);
    }
}

struct Store<'a, V: Vector> {
    state: &'a State<V>,
    rows: &'a mut [u8],
}

impl<C: Cpu> Work<C> for Store<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut planes = zeros::<C::Vector, 64>(cpu);
        self.state.planes(&mut planes);
        from_planes(cpu, &mut planes, self.rows);
        planes.zeroize();
    }
}
