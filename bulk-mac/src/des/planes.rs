//! Rows to bit planes and back: the transpose of a 64 by 64 bit matrix.

use crate::LANES;

/// Plane `i` gets bit `i` of every row, where bit 0 is the most significant as in FIPS 46-3; row `r` is
/// bit `r` of the plane.
pub(super) fn to_planes(rows: &[u64; LANES]) -> [u64; 64] {
    let mut matrix = *rows;
    transpose(&mut matrix);
    matrix.reverse();
    matrix
}

/// The inverse of [`to_planes`].
pub(super) fn from_planes(planes: &[u64; 64]) -> [u64; LANES] {
    let mut matrix = *planes;
    matrix.reverse();
    transpose(&mut matrix);
    matrix
}

/// In place, by swapping ever smaller quarters (Hacker's Delight, section 7-3).
fn transpose(matrix: &mut [u64; 64]) {
    let mut width = 32;
    let mut mask = u64::MAX >> 32;
    while width != 0 {
        let mut row = 0;
        while row < 64 {
            let other = row + width;
            let swapped = (matrix[row] >> width ^ matrix[other]) & mask;
            matrix[row] ^= swapped << width;
            matrix[other] ^= swapped;
            row = (other + 1) & !width;
        }
        width >>= 1;
        mask ^= mask << width;
    }
}
