//! The S-boxes as circuits, in the gates that a vector has.

mod gates;
mod ternary;

use crate::vector::Vector;

/// S-boxes `2 * PAIR + 1` and `2 * PAIR + 2`, in and out with the most significant bit first.
#[inline(always)]
pub(super) fn pair<V: Vector, const PAIR: usize>(a: [V; 6], b: [V; 6]) -> [[V; 4]; 2] {
    if V::TERNARY { with_three_inputs::<V, PAIR>(a, b) } else { with_two_inputs::<V, PAIR>(a, b) }
}

#[inline(always)]
pub(super) fn with_two_inputs<V: Vector, const PAIR: usize>(a: [V; 6], b: [V; 6]) -> [[V; 4]; 2] {
    match PAIR {
        0 => [gates::s1(a), gates::s2(b)],
        1 => [gates::s3(a), gates::s4(b)],
        2 => [gates::s5(a), gates::s6(b)],
        _ => [gates::s7(a), gates::s8(b)],
    }
}

#[inline(always)]
pub(super) fn with_three_inputs<V: Vector, const PAIR: usize>(a: [V; 6], b: [V; 6]) -> [[V; 4]; 2] {
    match PAIR {
        0 => ternary::s1_s2(a, b),
        1 => ternary::s3_s4(a, b),
        2 => ternary::s5_s6(a, b),
        _ => ternary::s7_s8(a, b),
    }
}
