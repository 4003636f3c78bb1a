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
    let b7 = b1.ternary::<0x96>(b2, b0);
    let a8 = a7.ternary::<0x78>(a5, a4);
    let b8 = b1.ternary::<0x95>(b0, b2);
    let a9 = a4.ternary::<0x9E>(a2, a1);
    let b9 = b7.ternary::<0x89>(b4, b8);
    let a10 = a8.ternary::<0x6E>(a9, a2);
    let b10 = b4.ternary::<0x7C>(b1, b0);
    let a11 = a2.ternary::<0xA6>(a0, a10);
    let b11 = b7.ternary::<0x1E>(b2, b10);
    let a12 = a5.ternary::<0x3C>(a7, a0);
    let b12 = b9.ternary::<0xB1>(b11, b3);
    let a13 = a12.ternary::<0x69>(a2, a0);
    let b13 = b9.ternary::<0xD2>(b1, b2);
    let a14 = a2.ternary::<0xB9>(a9, a13);
    let a15 = a11.ternary::<0x74>(a0, a14);
    let b14 = b4.ternary::<0x79>(b12, b7);
    let a16 = a5.ternary::<0x7C>(a9, a10);
    let b15 = b0.ternary::<0xD9>(b13, b14);
    let a17 = a15.ternary::<0xD5>(a16, a14);
    let b16 = b15.ternary::<0x9E>(b2, b3);
    let a18 = a15.ternary::<0x8D>(a17, a3);
    let b17 = b12.ternary::<0xAD>(b7, b16);
    let a19 = a3.ternary::<0x78>(a16, a8);
    let b18 = b12.ternary::<0x87>(b5, b17);
    let a20 = a12.ternary::<0xD2>(a4, a3);
    let b19 = b5.ternary::<0xA9>(b17, b12);
    let a21 = a11.ternary::<0x91>(a8, a20);
    let a22 = a19.ternary::<0x95>(a21, a13);
    let b20 = b8.ternary::<0xFB>(b15, b7);
    let a23 = a20.ternary::<0xCA>(a16, a14);
    let b21 = b20.ternary::<0x69>(b14, b3);
    let a24 = a14.ternary::<0x6E>(a1, a23);
    let b22 = b15.ternary::<0xE9>(b13, b3);
    let a25 = a23.ternary::<0xE4>(a7, a11);
    let b23 = b22.ternary::<0x69>(b11, b15);
    let a26 = a24.ternary::<0x8D>(a25, a3);
    let b24 = b21.ternary::<0x8D>(b23, b5);
    let a27 = a16.ternary::<0xD1>(a19, a9);
    let b25 = b5.ternary::<0x53>(b23, b21);
    let a28 = a0.ternary::<0xCA>(a27, a20);
    [[a18, a22, a26, a28], [b18, b19, b24, b25]]
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
    let a7 = a4.ternary::<0x92>(a3, a2);
    let b7 = b0.ternary::<0x94>(b1, b2);
    let a8 = a0.ternary::<0x78>(a3, a7);
    let b8 = b0.ternary::<0x9A>(b4, b7);
    let a9 = a3.ternary::<0x65>(a4, a2);
    let b9 = b2.ternary::<0x39>(b3, b4);
    let a10 = a9.ternary::<0x1E>(a0, a7);
    let b10 = b1.ternary::<0x6C>(b2, b4);
    let a11 = a8.ternary::<0x9D>(a10, a0);
    let b11 = b8.ternary::<0xB7>(b9, b10);
    let a12 = a1.ternary::<0x3D>(a11, a9);
    let b12 = b11.ternary::<0x96>(b7, b4);
    let a13 = a7.ternary::<0x69>(a0, a2);
    let b13 = b11.ternary::<0xE1>(b1, b0);
    let a14 = a10.ternary::<0x1B>(a13, a5);
    let b14 = b1.ternary::<0x24>(b11, b12);
    let a15 = a13.ternary::<0x68>(a2, a14);
    let a16 = a15.ternary::<0x03>(a1, a14);
    let b15 = b3.ternary::<0x38>(b14, b9);
    let a17 = a5.ternary::<0x69>(a14, a16);
    let b16 = b13.ternary::<0xA6>(b2, b15);
    let a18 = a10.ternary::<0x25>(a8, a17);
    let b17 = b12.ternary::<0xD2>(b16, b5);
    let a19 = a12.ternary::<0x5C>(a7, a18);
    let b18 = b7.ternary::<0xC8>(b13, b1);
    let a20 = a3.ternary::<0xE9>(a19, a14);
    let b19 = b9.ternary::<0xBC>(b18, b14);
    let a21 = a15.ternary::<0x3D>(a2, a0);
    let b20 = b3.ternary::<0xA6>(b14, b0);
    let a22 = a21.ternary::<0x6A>(a5, a10);
    let b21 = b5.ternary::<0xB0>(b20, b18);
    let a23 = a20.ternary::<0x74>(a1, a22);
    let b22 = b8.ternary::<0x96>(b19, b21);
    let a24 = a8.ternary::<0xBA>(a13, a15);
    let a25 = a18.ternary::<0x63>(a24, a3);
    let b23 = b22.ternary::<0x78>(b20, b5);
    let a26 = a4.ternary::<0xB6>(a11, a3);
    let b24 = b21.ternary::<0x96>(b16, b17);
    let a27 = a5.ternary::<0x6A>(a8, a26);
    let b25 = b16.ternary::<0x39>(b7, b20);
    let a28 = a25.ternary::<0xA6>(a1, a27);
    let b26 = b1.ternary::<0xA3>(b17, b25);
    let a29 = a16.ternary::<0x70>(a18, a4);
    let b27 = b2.ternary::<0x1B>(b17, b25);
    let a30 = a23.ternary::<0xD4>(a13, a28);
    let b28 = b26.ternary::<0xE1>(b27, b3);
    let a31 = a12.ternary::<0x2E>(a5, a30);
    let b29 = b24.ternary::<0x96>(b23, b28);
    let a32 = a29.ternary::<0xA6>(a3, a31);
    [[a23, a28, a32, a17], [b17, b23, b29, b24]]
}
