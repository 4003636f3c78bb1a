//! Triple DES with two keys, for [`crate::run`].

use zeroize::Zeroize;

use super::rounds::{Key, State};
use crate::kernel::Kernel;
use crate::transpose::{MOST_LANES, from_planes, plane, put_halves, take_halves, to_planes};
use crate::vector::{Cpu, Vector, Work, zeros};
use crate::wipe::wipe;

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
        self.0.call(LoadKey::<_, 0> { rows, key: &mut keys.left });
        self.0.call(LoadKey::<_, 8> { rows, key: &mut keys.right });
        keys.single = false;
    }

    fn store_keys(self, keys: &Self::Keys, rows: &mut [u8]) {
        self.0.call(StoreKey::<_, 0> { key: &keys.left, rows });
        self.0.call(StoreKey::<_, 8> { key: &keys.right, rows });
    }

    fn schedule(self, _: &mut Self::Keys) {}

    fn disperse(self, from: &Self::Keys, factors: &[u8], to: &mut Self::Keys) {
        let mut state = self.blocks();
        self.0.call(Start { rows: factors, state: &mut state });
        let mut complement = state.clone();
        self.0.call(Complement(&mut complement));
        for (state, key) in [(&mut state, &mut to.left), (&mut complement, &mut to.right)] {
            self.encrypt(from, state);
            self.0.call(TakeKey { state, key });
        }
        to.single = false;
        (state, complement).zeroize();
    }

    fn session(self, from: &Self::Keys, inputs: &[u8], to: &mut Self::Keys) {
        let mut state = self.blocks();
        self.0.call(Start { rows: inputs, state: &mut state });
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

/// One half of 16-byte keys, from byte `AT` on.
struct LoadKey<'a, V: Vector, const AT: usize> {
    rows: &'a [u8],
    key: &'a mut Key<V>,
}

impl<C: Cpu, const AT: usize> Work<C> for LoadKey<'_, C::Vector, AT> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut halves = [0; 8 * MOST_LANES];
        let halves = &mut halves[..8 * C::Vector::LANES];
        take_halves::<AT>(self.rows, halves);
        let mut planes = zeros::<C::Vector, 64>(cpu);
        to_planes(cpu, halves, &mut planes);
        self.key.set(|bit| planes[plane(bit)]);
        planes.zeroize();
        wipe(halves);
    }
}

struct StoreKey<'a, V: Vector, const AT: usize> {
    key: &'a Key<V>,
    rows: &'a mut [u8],
}

impl<C: Cpu, const AT: usize> Work<C> for StoreKey<'_, C::Vector, AT> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut halves = [0; 8 * MOST_LANES];
        let halves = &mut halves[..8 * C::Vector::LANES];
        let mut planes = zeros::<C::Vector, 64>(cpu);
        self.key.planes(&mut planes);
        from_planes(cpu, &mut planes, halves);
        planes.zeroize();
        put_halves::<AT>(halves, self.rows);
        wipe(halves);
    }
}

/// Blocks from rows.
struct Start<'a, V: Vector> {
    rows: &'a [u8],
    state: &'a mut State<V>,
}

impl<C: Cpu> Work<C> for Start<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, cpu: C) {
        let mut planes = zeros::<C::Vector, 64>(cpu);
        to_planes(cpu, self.rows, &mut planes);
        self.state.set(&planes);
        planes.zeroize();
    }
}

/// Blocks with every bit turned over.
struct Complement<'a, V: Vector>(&'a mut State<V>);

impl<C: Cpu> Work<C> for Complement<'_, C::Vector> {
    type Output = ();

    #[inline(always)]
    fn run(self, _: C) {
        self.0.complement();
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
        planes.zeroize();
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
