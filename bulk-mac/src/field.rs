//! Arithmetic in GF(2^8) that turns the S-box of SM4 into that of AES between two affine maps, worked out by the
//! compiler.
//!
//! SM4's S-box is `A inv(A x + c) + c` over the polynomial 0x1F5 (Erickson, Ding, Christensen 2009); AES inverts
//! over 0x11B. The map that sends the one field to the other is linear over bits, and so merges with `A`.

/// A linear map of bytes: row `i` masks the input bits whose sum is output bit `i`, bit 0 the least significant.
pub(crate) type Matrix = [u8; 8];

/// The polynomial of AES.
const AES: u16 = 0x11B;
/// The polynomial of SM4.
const SM4: u16 = 0x1F5;
/// The constant of SM4's affine map.
pub(crate) const SM4_CONSTANT: u8 = 0xD3;
/// The constant of AES's affine map.
pub(crate) const AES_CONSTANT: u8 = 0x63;

/// From a byte of SM4's state to what AES inverts, less [`INTO_CONSTANT`].
pub(crate) const INTO: Matrix = product(&SM4_TO_AES, &SM4_AFFINE);
/// The constant of the way in.
pub(crate) const INTO_CONSTANT: u8 = apply(&SM4_TO_AES, SM4_CONSTANT);
/// From an inverse in AES's field to SM4's S-box, less [`SM4_CONSTANT`].
pub(crate) const OUT: Matrix = product(&SM4_AFFINE, &inverse(&SM4_TO_AES));
/// The linear part of AES's S-box after the inversion.
pub(crate) const AES_AFFINE: Matrix = rotations(0b1111_0001);
/// From AES's S-box to SM4's, less [`FROM_AES_CONSTANT`].
pub(crate) const FROM_AES: Matrix = product(&OUT, &inverse(&AES_AFFINE));
/// The constant of that.
pub(crate) const FROM_AES_CONSTANT: u8 = apply(&FROM_AES, AES_CONSTANT) ^ SM4_CONSTANT;

const SM4_AFFINE: Matrix = rotations(0xA7);

/// `x` of SM4's field goes to a root of SM4's polynomial in AES's field.
const SM4_TO_AES: Matrix = {
    let mut root = 2;
    while polynomial_at(SM4, root) != 0 {
        root += 1;
    }
    let (mut rows, mut power, mut j) = ([0; 8], 1, 0);
    while j < 8 {
        set_column(&mut rows, j, power);
        power = multiply(power, root);
        j += 1;
    }
    rows
};

/// The value at `x` of a polynomial over bits, in AES's field.
const fn polynomial_at(polynomial: u16, x: u8) -> u8 {
    let (mut sum, mut power, mut i) = (0, 1, 0);
    while i < 9 {
        if polynomial >> i & 1 == 1 {
            sum ^= power;
        }
        power = multiply(power, x);
        i += 1;
    }
    sum
}

/// A product in AES's field.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a as u16, b, 0);
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a <<= 1;
        if a & 0x100 != 0 {
            a ^= AES;
        }
        b >>= 1;
    }
    product as u8
}

/// Row `i` is `first` turned left by `i`.
const fn rotations(first: u8) -> Matrix {
    let (mut rows, mut i) = ([0; 8], 0);
    while i < 8 {
        rows[i as usize] = first.rotate_left(i);
        i += 1;
    }
    rows
}

const fn set_column(rows: &mut Matrix, column: usize, value: u8) {
    let mut i = 0;
    while i < 8 {
        rows[i] |= (value >> i & 1) << column;
        i += 1;
    }
}

/// The map of one byte.
pub(crate) const fn apply(map: &Matrix, x: u8) -> u8 {
    let (mut y, mut i) = (0, 0);
    while i < 8 {
        y |= ((map[i] & x).count_ones() as u8 & 1) << i;
        i += 1;
    }
    y
}

/// First `b`, then `a`.
pub(crate) const fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let (mut rows, mut j) = ([0; 8], 0);
    while j < 8 {
        set_column(&mut rows, j, apply(a, apply(b, 1 << j)));
        j += 1;
    }
    rows
}

/// The sum of two maps.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn sum(a: &Matrix, b: &Matrix) -> Matrix {
    let (mut rows, mut i) = (*a, 0);
    while i < 8 {
        rows[i] ^= b[i];
        i += 1;
    }
    rows
}

/// The map that undoes another.
pub(crate) const fn inverse(map: &Matrix) -> Matrix {
    let (mut rows, mut x) = ([0; 8], 0u16);
    while x < 256 {
        let y = apply(map, x as u8);
        if y.is_power_of_two() {
            set_column(&mut rows, y.trailing_zeros() as usize, x as u8);
        }
        x += 1;
    }
    rows
}

/// `x << 2` (in a byte), `x >> 6`, and the identity, of which the diffusion of SM4 is made.
#[cfg(target_arch = "x86_64")]
pub(crate) const UP_2: Matrix = [0, 0, 1, 2, 4, 8, 16, 32];
/// See [`UP_2`].
#[cfg(target_arch = "x86_64")]
pub(crate) const DOWN_6: Matrix = [64, 128, 0, 0, 0, 0, 0, 0];
/// See [`UP_2`].
#[cfg(target_arch = "x86_64")]
pub(crate) const IDENTITY: Matrix = [1, 2, 4, 8, 16, 32, 64, 128];

/// A matrix as the GFNI instructions take it: row 0 in the most significant byte.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn gfni(map: &Matrix) -> u64 {
    u64::from_be_bytes(*map)
}
