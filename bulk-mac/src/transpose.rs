//! Rows of 64 bits to bit planes and back.
//!
//! Word `q` of vector `i` is row `i * WORDS + q`. Transposing the 64 by 64 bits that word `q` of all vectors
//! make gives, in the same word of vector `p`, bit `p` of those rows. The transpose undoes itself.

use crate::vector::{Vector, zeros};

/// Which plane holds bit `i` of a row's eight bytes, counted from the most significant bit of the first byte as
/// the standards do: rows are loaded as little-endian words.
pub(crate) const fn plane(i: usize) -> usize {
    i / 8 * 8 + 7 - i % 8
}

/// Lanes of the widest vector.
pub(crate) const MOST_LANES: usize = 512;

/// The eight bytes from `AT` on of each row of 16.
#[inline(always)]
pub(crate) fn take_halves<const AT: usize>(rows: &[u8], halves: &mut [u8]) {
    for (half, row) in halves.as_chunks_mut::<8>().0.iter_mut().zip(rows.as_chunks::<16>().0) {
        half.copy_from_slice(&row[AT..AT + 8]);
    }
}

/// The inverse of [`take_halves`].
#[inline(always)]
pub(crate) fn put_halves<const AT: usize>(halves: &[u8], rows: &mut [u8]) {
    for (row, half) in rows.as_chunks_mut::<16>().0.iter_mut().zip(halves.as_chunks::<8>().0) {
        row[AT..AT + 8].copy_from_slice(half);
    }
}

/// The planes of `8 * LANES` bytes of rows.
#[inline(always)]
pub(crate) fn to_planes<V: Vector>(cpu: V::Cpu, rows: &[u8], planes: &mut [V; 64]) {
    let size = 8 * V::WORDS;
    let rows = &rows[..64 * size];
    for offset in 0..8 {
        let mut eight = zeros::<V, 8>(cpu);
        for (i, vector) in eight.iter_mut().enumerate() {
            *vector = V::load(cpu, &rows[(offset + 8 * i) * size..][..size]);
        }
        far(cpu, &mut eight);
        for (i, vector) in eight.iter().enumerate() {
            planes[offset + 8 * i] = *vector;
        }
    }
    for group in planes.as_chunks_mut::<8>().0 {
        near(cpu, group);
    }
}

/// The rows of 64 planes, which are left without meaning.
#[inline(always)]
pub(crate) fn from_planes<V: Vector>(cpu: V::Cpu, planes: &mut [V; 64], rows: &mut [u8]) {
    let size = 8 * V::WORDS;
    let rows = &mut rows[..64 * size];
    for offset in 0..8 {
        let mut eight = zeros::<V, 8>(cpu);
        for (i, vector) in eight.iter_mut().enumerate() {
            *vector = planes[offset + 8 * i];
        }
        far(cpu, &mut eight);
        for (i, vector) in eight.iter().enumerate() {
            planes[offset + 8 * i] = *vector;
        }
    }
    for (group, rows) in planes.as_chunks_mut::<8>().0.iter_mut().zip(rows.chunks_exact_mut(8 * size)) {
        near(cpu, group);
        for (vector, row) in group.iter().zip(rows.chunks_exact_mut(size)) {
            vector.store(row);
        }
    }
}

/// The three stages between vectors 32, 16 and 8 apart, of which `eight` is every eighth: with all eight in
/// registers the matrix is read and written twice rather than six times.
#[inline(always)]
fn far<V: Vector>(cpu: V::Cpu, eight: &mut [V; 8]) {
    stage::<V, 32, 4>(cpu, eight, 0x0000_0000_FFFF_FFFF);
    stage::<V, 16, 2>(cpu, eight, 0x0000_FFFF_0000_FFFF);
    stage::<V, 8, 1>(cpu, eight, 0x00FF_00FF_00FF_00FF);
}

/// The three stages between vectors 4, 2 and 1 apart.
#[inline(always)]
fn near<V: Vector>(cpu: V::Cpu, eight: &mut [V; 8]) {
    stage::<V, 4, 4>(cpu, eight, 0x0F0F_0F0F_0F0F_0F0F);
    stage::<V, 2, 2>(cpu, eight, 0x3333_3333_3333_3333);
    stage::<V, 1, 1>(cpu, eight, 0x5555_5555_5555_5555);
}

/// Exchanges the off-diagonal quarters of squares of twice `SHIFT` bits (Hacker's Delight, section 7-3).
#[inline(always)]
fn stage<V: Vector, const SHIFT: u32, const APART: usize>(cpu: V::Cpu, eight: &mut [V; 8], mask: u64) {
    let mask = V::splat(cpu, mask);
    for i in (0..8).filter(|i| i & APART == 0) {
        let (low, high) = (eight[i], eight[i + APART]);
        eight[i] = mask.select(low, high.shl::<SHIFT>());
        eight[i + APART] = mask.select(low.shr::<SHIFT>(), high);
    }
}
