//! The S-boxes of AES and SM4 as circuits.

use crate::field::{FROM_AES, FROM_AES_CONSTANT, INTO, INTO_CONSTANT, Matrix};
use crate::vector::Vector;

/// A byte of every lane, the least significant bit first.
pub(super) type Byte<V> = [V; 8];

/// SM4's S-box: AES's between two affine maps.
#[inline(always)]
pub(super) fn sm4<V: Vector>(x: Byte<V>) -> Byte<V> {
    affine(aes(affine(x, &INTO, INTO_CONSTANT)), &FROM_AES, FROM_AES_CONSTANT)
}

/// An affine map that the compiler knows: a sum of input bits for each output bit.
#[inline(always)]
fn affine<V: Vector>(x: Byte<V>, map: &'static Matrix, constant: u8) -> Byte<V> {
    let mut y = [x[0].zeros(); 8];
    for ((bit, row), place) in y.iter_mut().zip(map).zip(0..) {
        for (j, from) in x.iter().enumerate() {
            if row >> j & 1 == 1 {
                *bit = *bit ^ *from;
            }
        }
        if constant >> place & 1 == 1 {
            *bit = !*bit;
        }
    }
    y
}

/// AES's S-box (FIPS 197): the circuit of Boyar and Peralta, "A new combinational logic minimization technique with
/// applications to cryptology" (2010), in their names of wires, which count bits from the most significant.
#[inline(always)]
pub(super) fn aes<V: Vector>([x7, x6, x5, x4, x3, x2, x1, x0]: Byte<V>) -> Byte<V> {
    // A linear layer in.
    let y14 = x3 ^ x5;
    let y13 = x0 ^ x6;
    let y9 = x0 ^ x3;
    let y8 = x0 ^ x5;
    let t0 = x1 ^ x2;
    let y1 = t0 ^ x7;
    let y4 = y1 ^ x3;
    let y12 = y13 ^ y14;
    let y2 = y1 ^ x0;
    let y5 = y1 ^ x6;
    let y3 = y5 ^ y8;
    let t1 = x4 ^ y12;
    let y15 = t1 ^ x5;
    let y20 = t1 ^ x1;
    let y6 = y15 ^ x7;
    let y10 = y15 ^ t0;
    let y11 = y20 ^ y9;
    let y7 = x7 ^ y11;
    let y17 = y10 ^ y11;
    let y19 = y10 ^ y8;
    let y16 = t0 ^ y11;
    let y21 = y13 ^ y16;
    let y18 = x0 ^ y16;
    // The inversion, by way of GF(2^4).
    let t2 = y12 & y15;
    let t3 = y3 & y6;
    let t4 = t3 ^ t2;
    let t5 = y4 & x7;
    let t6 = t5 ^ t2;
    let t7 = y13 & y16;
    let t8 = y5 & y1;
    let t9 = t8 ^ t7;
    let t10 = y2 & y7;
    let t11 = t10 ^ t7;
    let t12 = y9 & y11;
    let t13 = y14 & y17;
    let t14 = t13 ^ t12;
    let t15 = y8 & y10;
    let t16 = t15 ^ t12;
    let t17 = t4 ^ t14;
    let t18 = t6 ^ t16;
    let t19 = t9 ^ t14;
    let t20 = t11 ^ t16;
    let t21 = t17 ^ y20;
    let t22 = t18 ^ y19;
    let t23 = t19 ^ y21;
    let t24 = t20 ^ y18;
    let t25 = t21 ^ t22;
    let t26 = t21 & t23;
    let t27 = t24 ^ t26;
    let t28 = t25 & t27;
    let t29 = t28 ^ t22;
    let t30 = t23 ^ t24;
    let t31 = t22 ^ t26;
    let t32 = t31 & t30;
    let t33 = t32 ^ t24;
    let t34 = t23 ^ t33;
    let t35 = t27 ^ t33;
    let t36 = t24 & t35;
    let t37 = t36 ^ t34;
    let t38 = t27 ^ t36;
    let t39 = t29 & t38;
    let t40 = t25 ^ t39;
    let t41 = t40 ^ t37;
    let t42 = t29 ^ t33;
    let t43 = t29 ^ t40;
    let t44 = t33 ^ t37;
    let t45 = t42 ^ t41;
    let z0 = t44 & y15;
    let z1 = t37 & y6;
    let z2 = t33 & x7;
    let z3 = t43 & y16;
    let z4 = t40 & y1;
    let z5 = t29 & y7;
    let z6 = t42 & y11;
    let z7 = t45 & y17;
    let z8 = t41 & y10;
    let z9 = t44 & y12;
    let z10 = t37 & y3;
    let z11 = t33 & y4;
    let z12 = t43 & y13;
    let z13 = t40 & y5;
    let z14 = t29 & y2;
    let z15 = t42 & y9;
    let z16 = t45 & y14;
    let z17 = t41 & y8;
    // A linear layer out.
    let t46 = z15 ^ z16;
    let t47 = z10 ^ z11;
    let t48 = z5 ^ z13;
    let t49 = z9 ^ z10;
    let t50 = z2 ^ z12;
    let t51 = z2 ^ z5;
    let t52 = z7 ^ z8;
    let t53 = z0 ^ z3;
    let t54 = z6 ^ z7;
    let t55 = z16 ^ z17;
    let t56 = z12 ^ t48;
    let t57 = t50 ^ t53;
    let t58 = z4 ^ t46;
    let t59 = z3 ^ t54;
    let t60 = t46 ^ t57;
    let t61 = z14 ^ t57;
    let t62 = t52 ^ t58;
    let t63 = t49 ^ t58;
    let t64 = z4 ^ t59;
    let t65 = t61 ^ t62;
    let t66 = z1 ^ t63;
    let s0 = t59 ^ t63;
    let s6 = t56 ^ !t62;
    let s7 = t48 ^ !t60;
    let t67 = t64 ^ t65;
    let s3 = t53 ^ t66;
    let s4 = t51 ^ t66;
    let s5 = t47 ^ t65;
    let s1 = t64 ^ !s3;
    let s2 = t55 ^ !t67;
    [s7, s6, s5, s4, s3, s2, s1, s0]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All 256 values of a function of bytes, 64 at a time.
    fn table(function: fn(Byte<u64>) -> Byte<u64>) -> Vec<u8> {
        let quarter = |quarter: u64| {
            let bit = |bit: u64| (0..64).map(|lane| ((64 * quarter + lane) >> bit & 1) << lane).sum();
            let found = function(std::array::from_fn(|i| bit(i as u64)));
            (0..64).map(move |lane| (0..8).map(|bit| ((found[bit] >> lane & 1) as u8) << bit).sum())
        };
        (0..4).flat_map(quarter).collect()
    }

    /// GB/T 32907-2016, table 1.
    #[rustfmt::skip]
    const SM4: [u8; 256] = [
        214, 144, 233, 254, 204, 225, 61, 183, 22, 182, 20, 194, 40, 251, 44, 5,
        43, 103, 154, 118, 42, 190, 4, 195, 170, 68, 19, 38, 73, 134, 6, 153,
        156, 66, 80, 244, 145, 239, 152, 122, 51, 84, 11, 67, 237, 207, 172, 98,
        228, 179, 28, 169, 201, 8, 232, 149, 128, 223, 148, 250, 117, 143, 63, 166,
        71, 7, 167, 252, 243, 115, 23, 186, 131, 89, 60, 25, 230, 133, 79, 168,
        104, 107, 129, 178, 113, 100, 218, 139, 248, 235, 15, 75, 112, 86, 157, 53,
        30, 36, 14, 94, 99, 88, 209, 162, 37, 34, 124, 59, 1, 33, 120, 135,
        212, 0, 70, 87, 159, 211, 39, 82, 76, 54, 2, 231, 160, 196, 200, 158,
        234, 191, 138, 210, 64, 199, 56, 181, 163, 247, 242, 206, 249, 97, 21, 161,
        224, 174, 93, 164, 155, 52, 26, 85, 173, 147, 50, 48, 245, 140, 177, 227,
        29, 246, 226, 46, 130, 102, 202, 96, 192, 41, 35, 171, 13, 83, 78, 111,
        213, 219, 55, 69, 222, 253, 142, 47, 3, 255, 106, 114, 109, 108, 91, 81,
        141, 27, 175, 146, 187, 221, 188, 127, 17, 217, 92, 65, 31, 16, 90, 216,
        10, 193, 49, 136, 165, 205, 123, 189, 45, 116, 208, 18, 184, 229, 180, 176,
        137, 105, 151, 74, 12, 150, 119, 126, 101, 185, 241, 9, 197, 110, 198, 132,
        24, 240, 125, 236, 58, 220, 77, 32, 121, 238, 95, 62, 215, 203, 57, 72,
    ];

    #[test]
    fn sm4_is_its_table_for_all_256_inputs() {
        assert_eq!(table(sm4), SM4);
    }

    #[test]
    fn aes_is_its_definition_for_all_256_inputs() {
        let product = |a: u16, b: u16| {
            (0..8).rev().fold(0, |sum: u16, bit| {
                let doubled = sum << 1 ^ if sum & 0x80 != 0 { 0x11B } else { 0 };
                doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
            })
        };
        let wanted: Vec<u8> = (0..256)
            .map(|x| (0..256).find(|y| product(x, *y) == 1).unwrap_or(0) as u8)
            .map(|x| (0..5).fold(0x63, |sum, turn| sum ^ x.rotate_left(turn)))
            .collect();
        assert_eq!(table(aes), wanted);
        assert_eq!((wanted[0], wanted[1], wanted[255]), (0x63, 0x7C, 0x16));
    }
}
