//! The permutations of FIPS 46-3, as indices counted from zero.

/// IP.
pub(crate) const INITIAL: [u8; 64] = from_one([
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32,
    24, 16, 8, 57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47,
    39, 31, 23, 15, 7,
]);

/// The inverse of [`INITIAL`].
pub(crate) const FINAL: [u8; 64] = {
    let mut inverse = [0; 64];
    let mut i = 0;
    while i < 64 {
        inverse[INITIAL[i] as usize] = i as u8;
        i += 1;
    }
    inverse
};

/// Where P puts S-box output bit `i`.
pub(crate) const PLACE: [u8; 32] = {
    let p: [u8; 32] = [
        16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11,
        4, 25,
    ];
    let mut place = [0; 32];
    let mut i = 0;
    while i < 32 {
        place[p[i] as usize - 1] = i as u8;
        i += 1;
    }
    place
};

/// PC-1: which key bits make the registers C and D.
pub(crate) const PC1: [u8; 56] = from_one([
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36, 63, 55,
    47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
]);

/// PC-2: which bits of C, then of D, make a round key.
pub(crate) const PC2: [u8; 48] = {
    let mut pc2 = from_one([
        14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37, 47, 55,
        30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
    ]);
    let mut i = 24;
    while i < 48 {
        pc2[i] -= 28;
        i += 1;
    }
    pc2
};

/// How far C and D have turned in each round, modulo their length.
pub(crate) const TURNED: [u8; 16] = [1, 2, 4, 6, 8, 10, 12, 14, 15, 17, 19, 21, 23, 25, 27, 0];

/// The standard counts bits from one.
const fn from_one<const N: usize>(mut table: [u8; N]) -> [u8; N] {
    let mut i = 0;
    while i < N {
        table[i] -= 1;
        i += 1;
    }
    table
}
