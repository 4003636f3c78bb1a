//! The eight S-boxes of DES (FIPS 46-3) in gates of three inputs, two boxes side by side.
//! Written by `tools/emit_sboxes.py` from `tools/sbox_circuits_ternary.txt`: change those, not this.

use crate::vector::Vector;

#[inline(always)]
pub(super) fn s1_s2<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a4.ternary::<0x5D>(a3, a5);
    let b7 = b1.ternary::<0x94>(b3, b0);
    let a8 = a3.ternary::<0x4B>(a2, a4);
    let b8 = b2.ternary::<0x86>(b1, b5);
    let a9 = a7.ternary::<0xC3>(a8, a0);
    let b9 = b5.ternary::<0x5E>(b8, b0);
    let a10 = a9.ternary::<0x2C>(a0, a1);
    let b10 = b3.ternary::<0x97>(b9, b1);
    let a11 = a5.ternary::<0xE3>(a2, a9);
    let b11 = b7.ternary::<0x1D>(b9, b10);
    let a12 = a11.ternary::<0x5E>(a9, a4);
    let b12 = b11.ternary::<0x69>(b8, b3);
    let a13 = a1.ternary::<0xC2>(a2, a0);
    let b13 = b12.ternary::<0x57>(b9, b4);
    let a14 = a3.ternary::<0x4E>(a0, a13);
    let b14 = b13.ternary::<0x83>(b7, b1);
    let a15 = a9.ternary::<0x46>(a12, a14);
    let a16 = a10.ternary::<0x76>(a1, a15);
    let b15 = b14.ternary::<0x69>(b9, b2);
    let a17 = a13.ternary::<0x96>(a10, a14);
    let b16 = b2.ternary::<0x6C>(b10, b8);
    let a18 = a8.ternary::<0x2F>(a16, a17);
    let b17 = b16.ternary::<0xA4>(b14, b5);
    let a19 = a1.ternary::<0xB4>(a12, a5);
    let b18 = b12.ternary::<0x43>(b4, b3);
    let a20 = a18.ternary::<0x96>(a19, a0);
    let b19 = b17.ternary::<0x83>(b18, b5);
    let a21 = a7.ternary::<0x7C>(a4, a20);
    let b20 = b17.ternary::<0xBD>(b1, b0);
    let a22 = a21.ternary::<0x92>(a13, a2);
    let b21 = b17.ternary::<0x92>(b15, b20);
    let a23 = a19.ternary::<0x53>(a20, a2);
    let b22 = b7.ternary::<0x66>(b1, b12);
    let a24 = a14.ternary::<0x85>(a18, a12);
    let a25 = a23.ternary::<0x54>(a17, a24);
    let b23 = b21.ternary::<0x9C>(b22, b4);
    let a26 = a22.ternary::<0x5C>(a25, a10);
    let b24 = b3.ternary::<0x78>(b23, b15);
    let a27 = a21.ternary::<0x58>(a11, a7);
    let b25 = b0.ternary::<0xE2>(b13, b20);
    let a28 = a27.ternary::<0xAC>(a20, a23);
    let b26 = b19.ternary::<0x36>(b15, b12);
    let a29 = a14.ternary::<0x51>(a2, a4);
    let b27 = b2.ternary::<0x09>(b18, b17);
    let a30 = a16.ternary::<0x1B>(a29, a7);
    let b28 = b25.ternary::<0x93>(b26, b27);
    let a31 = a28.ternary::<0x87>(a26, a21);
    let b29 = b24.ternary::<0xC9>(b28, b4);
    let a32 = a30.ternary::<0x69>(a1, a31);
    [[a16, a26, a28, a32], [b15, b19, b29, b23]]
}

#[inline(always)]
pub(super) fn s3_s4<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a2.ternary::<0x6A>(a4, a1);
    let b7 = b2.ternary::<0x69>(b0, b1);
    let a8 = a7.ternary::<0x78>(a5, a4);
    let b8 = b3.ternary::<0xBC>(b4, b0);
    let a9 = a4.ternary::<0x9E>(a2, a1);
    let b9 = b8.ternary::<0xB0>(b7, b2);
    let a10 = a8.ternary::<0x6E>(a9, a2);
    let b10 = b2.ternary::<0x76>(b3, b1);
    let a11 = a2.ternary::<0xA6>(a0, a10);
    let b11 = b9.ternary::<0xA6>(b10, b4);
    let a12 = a5.ternary::<0x3C>(a7, a0);
    let b12 = b3.ternary::<0x5D>(b1, b7);
    let a13 = a12.ternary::<0x69>(a2, a0);
    let b13 = b10.ternary::<0x51>(b12, b9);
    let a14 = a2.ternary::<0xB9>(a9, a13);
    let a15 = a11.ternary::<0x74>(a0, a14);
    let b14 = b0.ternary::<0x1E>(b4, b2);
    let a16 = a5.ternary::<0x7C>(a9, a10);
    let b15 = b11.ternary::<0x9D>(b13, b14);
    let a17 = a15.ternary::<0xD5>(a16, a14);
    let b16 = b15.ternary::<0x61>(b2, b3);
    let a18 = a15.ternary::<0x8D>(a17, a3);
    let b17 = b7.ternary::<0xC3>(b11, b16);
    let a19 = a3.ternary::<0x78>(a16, a8);
    let b18 = b11.ternary::<0xCE>(b16, b12);
    let a20 = a12.ternary::<0xD2>(a4, a3);
    let b19 = b5.ternary::<0x5C>(b17, b18);
    let a21 = a11.ternary::<0x91>(a8, a20);
    let a22 = a19.ternary::<0x95>(a21, a13);
    let b20 = b17.ternary::<0x1B>(b18, b5);
    let a23 = a20.ternary::<0xCA>(a16, a14);
    let b21 = b11.ternary::<0x84>(b7, b1);
    let a24 = a14.ternary::<0x6E>(a1, a23);
    let b22 = b21.ternary::<0x16>(b3, b13);
    let a25 = a23.ternary::<0xE4>(a7, a11);
    let b23 = b7.ternary::<0x68>(b22, b15);
    let a26 = a24.ternary::<0x8D>(a25, a3);
    let b24 = b22.ternary::<0x87>(b5, b23);
    let a27 = a16.ternary::<0xD1>(a19, a9);
    let b25 = b22.ternary::<0x1E>(b5, b23);
    let a28 = a0.ternary::<0xCA>(a27, a20);
    [[a18, a22, a26, a28], [b19, b20, b24, b25]]
}

#[inline(always)]
pub(super) fn s5_s6<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a5.ternary::<0x93>(a1, a4);
    let b7 = b4.ternary::<0x5B>(b2, b0);
    let a8 = a7.ternary::<0x53>(a5, a0);
    let b8 = b7.ternary::<0x4B>(b1, b2);
    let a9 = a4.ternary::<0xD6>(a0, a2);
    let b9 = b2.ternary::<0xE9>(b0, b4);
    let a10 = a7.ternary::<0x69>(a5, a2);
    let b10 = b9.ternary::<0x69>(b7, b1);
    let a11 = a7.ternary::<0xC2>(a5, a0);
    let b11 = b8.ternary::<0x4A>(b10, b4);
    let a12 = a0.ternary::<0xC1>(a10, a11);
    let b12 = b9.ternary::<0x1C>(b0, b11);
    let a13 = a8.ternary::<0x3C>(a4, a10);
    let b13 = b8.ternary::<0x1E>(b12, b3);
    let a14 = a3.ternary::<0x43>(a12, a13);
    let b14 = b13.ternary::<0xB0>(b1, b10);
    let a15 = a0.ternary::<0x46>(a9, a14);
    let b15 = b4.ternary::<0xE6>(b13, b10);
    let a16 = a5.ternary::<0x69>(a9, a1);
    let a17 = a11.ternary::<0x36>(a13, a2);
    let b16 = b4.ternary::<0xD8>(b14, b15);
    let a18 = a16.ternary::<0x97>(a3, a17);
    let b17 = b11.ternary::<0xAC>(b0, b3);
    let a19 = a12.ternary::<0xB2>(a18, a9);
    let b18 = b3.ternary::<0xC6>(b10, b8);
    let a20 = a8.ternary::<0xCA>(a15, a19);
    let b19 = b5.ternary::<0x95>(b17, b18);
    let a21 = a17.ternary::<0x87>(a3, a18);
    let b20 = b3.ternary::<0x07>(b9, b15);
    let a22 = a9.ternary::<0xE0>(a8, a5);
    let b21 = b19.ternary::<0xE1>(b5, b9);
    let a23 = a5.ternary::<0x16>(a10, a12);
    let b22 = b21.ternary::<0x43>(b15, b14);
    let a24 = a22.ternary::<0x97>(a23, a5);
    let b23 = b17.ternary::<0x91>(b2, b22);
    let a25 = a12.ternary::<0x8B>(a1, a4);
    let a26 = a13.ternary::<0xAD>(a24, a25);
    let b24 = b19.ternary::<0x9C>(b20, b23);
    let a27 = a5.ternary::<0x72>(a26, a8);
    let b25 = b16.ternary::<0xC6>(b14, b24);
    let a28 = a10.ternary::<0xC2>(a25, a24);
    let b26 = b13.ternary::<0x72>(b25, b5);
    let a29 = a17.ternary::<0x7C>(a16, a23);
    let b27 = b23.ternary::<0x2D>(b11, b9);
    let a30 = a28.ternary::<0x52>(a23, a29);
    let b28 = b27.ternary::<0x59>(b20, b5);
    let a31 = a27.ternary::<0x6A>(a3, a30);
    let b29 = b23.ternary::<0x69>(b1, b28);
    let a32 = a28.ternary::<0x5C>(a3, a7);
    let b30 = b5.ternary::<0xC9>(b15, b16);
    let a33 = a32.ternary::<0x2D>(a26, a2);
    let b31 = b30.ternary::<0x1E>(b24, b2);
    let a34 = a33.ternary::<0x87>(a22, a30);
    [[a20, a21, a31, a34], [b26, b29, b31, b19]]
}

#[inline(always)]
pub(super) fn s7_s8<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a5.ternary::<0xEB>(a2, a0);
    let b7 = b0.ternary::<0x6D>(b2, b1);
    let a8 = a4.ternary::<0xA7>(a2, a3);
    let b8 = b0.ternary::<0x65>(b4, b7);
    let a9 = a8.ternary::<0xA5>(a4, a0);
    let b9 = b4.ternary::<0x9C>(b3, b2);
    let a10 = a0.ternary::<0xD2>(a4, a3);
    let b10 = b1.ternary::<0x95>(b4, b2);
    let a11 = a2.ternary::<0xE2>(a10, a8);
    let b11 = b8.ternary::<0xDE>(b9, b10);
    let a12 = a2.ternary::<0x6E>(a9, a11);
    let b12 = b7.ternary::<0x96>(b11, b4);
    let a13 = a7.ternary::<0xDA>(a12, a5);
    let b13 = b11.ternary::<0xBD>(b12, b1);
    let a14 = a0.ternary::<0xEF>(a1, a11);
    let b14 = b0.ternary::<0xE1>(b3, b13);
    let a15 = a14.ternary::<0xB7>(a12, a3);
    let a16 = a13.ternary::<0x2C>(a1, a15);
    let b15 = b11.ternary::<0xE1>(b1, b14);
    let a17 = a7.ternary::<0x96>(a16, a11);
    let b16 = b15.ternary::<0x56>(b2, b13);
    let a18 = a5.ternary::<0x9C>(a2, a12);
    let b17 = b15.ternary::<0x49>(b3, b16);
    let a19 = a5.ternary::<0xCA>(a11, a9);
    let b18 = b5.ternary::<0x65>(b17, b12);
    let a20 = a18.ternary::<0x56>(a1, a19);
    let b19 = b1.ternary::<0xC4>(b15, b7);
    let a21 = a1.ternary::<0x76>(a3, a12);
    let b20 = b5.ternary::<0x25>(b0, b19);
    let a22 = a20.ternary::<0xB2>(a0, a21);
    let b21 = b20.ternary::<0x96>(b9, b8);
    let a23 = a1.ternary::<0xD2>(a22, a5);
    let a24 = a4.ternary::<0x29>(a3, a14);
    let b22 = b14.ternary::<0x75>(b19, b5);
    let a25 = a7.ternary::<0x82>(a3, a22);
    let b23 = b17.ternary::<0x69>(b18, b22);
    let a26 = a23.ternary::<0x63>(a24, a25);
    let b24 = b23.ternary::<0x3D>(b14, b21);
    let a27 = a17.ternary::<0x8E>(a26, a9);
    let b25 = b24.ternary::<0xC9>(b22, b3);
    let a28 = a9.ternary::<0x5E>(a27, a20);
    let b26 = b11.ternary::<0x59>(b24, b21);
    let a29 = a23.ternary::<0x79>(a14, a0);
    let b27 = b17.ternary::<0xB8>(b19, b4);
    let a30 = a5.ternary::<0xC5>(a29, a27);
    let b28 = b25.ternary::<0x69>(b26, b27);
    let a31 = a3.ternary::<0x6A>(a28, a30);
    [[a17, a26, a31, a20], [b18, b21, b28, b23]]
}
