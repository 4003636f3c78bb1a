//! The eight S-boxes of DES (FIPS 46-3) in gates of three inputs, two boxes side by side.
//! Written by `tools/emit_sboxes.py` from `tools/sbox_circuits_ternary.txt`: change those, not this.

use crate::vector::Vector;

#[inline(always)]
pub(super) fn s1_s2<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a5.ternary::<0xD0>(a4, a3);
    let b7 = b1.ternary::<0xF4>(b5, b0);
    let a8 = a2.ternary::<0x93>(a3, a4);
    let b8 = b2.ternary::<0x86>(b7, b5);
    let a9 = a7.ternary::<0x96>(a2, a8);
    let b9 = b5.ternary::<0x39>(b8, b0);
    let a10 = a8.ternary::<0x0D>(a2, a5);
    let b10 = b9.ternary::<0xD2>(b7, b3);
    let a11 = a9.ternary::<0x49>(a4, a10);
    let b11 = b4.ternary::<0x8A>(b10, b0);
    let a12 = a3.ternary::<0xB1>(a0, a2);
    let b12 = b9.ternary::<0x67>(b5, b11);
    let a13 = a11.ternary::<0xE3>(a12, a9);
    let b13 = b1.ternary::<0x62>(b0, b3);
    let a14 = a0.ternary::<0xAC>(a11, a9);
    let b14 = b4.ternary::<0x6D>(b13, b1);
    let a15 = a13.ternary::<0xD1>(a1, a14);
    let a16 = a8.ternary::<0xED>(a15, a14);
    let b15 = b2.ternary::<0x96>(b12, b14);
    let a17 = a0.ternary::<0xE1>(a11, a5);
    let b16 = b13.ternary::<0x78>(b1, b9);
    let a18 = a9.ternary::<0x6A>(a16, a17);
    let b17 = b5.ternary::<0x65>(b16, b10);
    let a19 = a1.ternary::<0x69>(a7, a18);
    let b18 = b16.ternary::<0x21>(b8, b17);
    let a20 = a4.ternary::<0xD3>(a7, a19);
    let b19 = b3.ternary::<0xDB>(b18, b10);
    let a21 = a20.ternary::<0xF2>(a9, a2);
    let b20 = b4.ternary::<0x95>(b19, b17);
    let a22 = a9.ternary::<0x86>(a0, a21);
    let b21 = b15.ternary::<0x52>(b7, b5);
    let a23 = a19.ternary::<0xAB>(a13, a1);
    let b22 = b12.ternary::<0x90>(b13, b2);
    let a24 = a23.ternary::<0x38>(a22, a17);
    let a25 = a2.ternary::<0xD6>(a24, a21);
    let b23 = b21.ternary::<0xFE>(b22, b4);
    let a26 = a22.ternary::<0xE4>(a25, a1);
    let b24 = b1.ternary::<0x69>(b23, b10);
    let a27 = a2.ternary::<0xD1>(a1, a22);
    let b25 = b20.ternary::<0x7B>(b4, b24);
    let a28 = a7.ternary::<0xA1>(a2, a20);
    let b26 = b11.ternary::<0x6D>(b25, b20);
    let a29 = a27.ternary::<0x4E>(a19, a28);
    let b27 = b20.ternary::<0x56>(b10, b15);
    let a30 = a15.ternary::<0x69>(a29, a1);
    let b28 = b24.ternary::<0x93>(b3, b15);
    let a31 = a26.ternary::<0x95>(a20, a30);
    let b29 = b27.ternary::<0x2D>(b4, b28);
    let a32 = a24.ternary::<0x62>(a15, a4);
    let b30 = b2.ternary::<0xA9>(b26, b29);
    let a33 = a31.ternary::<0x2D>(a32, a7);
    [[a15, a26, a29, a33], [b15, b20, b30, b24]]
}

#[inline(always)]
pub(super) fn s3_s4<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a2.ternary::<0x6A>(a4, a1);
    let b7 = b1.ternary::<0x69>(b2, b0);
    let a8 = a7.ternary::<0x78>(a5, a4);
    let b8 = b0.ternary::<0x6E>(b4, b1);
    let a9 = a4.ternary::<0x9E>(a2, a1);
    let b9 = b2.ternary::<0x36>(b7, b8);
    let a10 = a8.ternary::<0x6E>(a9, a2);
    let b10 = b4.ternary::<0x86>(b7, b1);
    let a11 = a2.ternary::<0xA6>(a0, a10);
    let b11 = b7.ternary::<0x97>(b0, b4);
    let a12 = a5.ternary::<0x3C>(a7, a0);
    let b12 = b10.ternary::<0x1B>(b11, b1);
    let a13 = a12.ternary::<0x69>(a2, a0);
    let b13 = b3.ternary::<0x53>(b9, b12);
    let a14 = a2.ternary::<0xB9>(a9, a13);
    let a15 = a11.ternary::<0x74>(a0, a14);
    let b14 = b7.ternary::<0xE9>(b4, b13);
    let a16 = a5.ternary::<0x7C>(a9, a10);
    let b15 = b14.ternary::<0x3D>(b10, b11);
    let a17 = a15.ternary::<0xD5>(a16, a14);
    let b16 = b2.ternary::<0xD6>(b3, b15);
    let a18 = a15.ternary::<0x8D>(a17, a3);
    let b17 = b13.ternary::<0x8C>(b16, b7);
    let a19 = a3.ternary::<0x78>(a16, a8);
    let b18 = b17.ternary::<0xE4>(b13, b5);
    let a20 = a12.ternary::<0xD2>(a4, a3);
    let b19 = b13.ternary::<0x4E>(b17, b5);
    let a21 = a11.ternary::<0x91>(a8, a20);
    let a22 = a19.ternary::<0x95>(a21, a13);
    let b20 = b4.ternary::<0xED>(b9, b12);
    let a23 = a20.ternary::<0xCA>(a16, a14);
    let b21 = b14.ternary::<0x97>(b3, b20);
    let a24 = a14.ternary::<0x6E>(a1, a23);
    let b22 = b20.ternary::<0xC9>(b21, b15);
    let a25 = a23.ternary::<0xE4>(a7, a11);
    let b23 = b7.ternary::<0x4E>(b21, b15);
    let a26 = a24.ternary::<0x8D>(a25, a3);
    let b24 = b22.ternary::<0xD8>(b23, b5);
    let a27 = a16.ternary::<0xD1>(a19, a9);
    let b25 = b22.ternary::<0xD1>(b5, b23);
    let a28 = a0.ternary::<0xCA>(a27, a20);
    [[a18, a22, a26, a28], [b18, b19, b24, b25]]
}

#[inline(always)]
pub(super) fn s5_s6<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a1.ternary::<0x87>(a4, a5);
    let b7 = b2.ternary::<0x16>(b4, b0);
    let a8 = a2.ternary::<0x69>(a7, a5);
    let b8 = b2.ternary::<0x76>(b0, b7);
    let a9 = a4.ternary::<0x29>(a0, a2);
    let b9 = b4.ternary::<0xC2>(b0, b2);
    let a10 = a8.ternary::<0xE1>(a0, a9);
    let b10 = b2.ternary::<0x59>(b1, b9);
    let a11 = a1.ternary::<0x96>(a9, a5);
    let b11 = b8.ternary::<0x65>(b3, b10);
    let a12 = a1.ternary::<0xE4>(a4, a5);
    let b12 = b9.ternary::<0x96>(b1, b7);
    let a13 = a0.ternary::<0x93>(a12, a7);
    let b13 = b11.ternary::<0x3E>(b12, b4);
    let a14 = a5.ternary::<0x5B>(a0, a7);
    let b14 = b3.ternary::<0x0D>(b7, b13);
    let a15 = a13.ternary::<0xB4>(a14, a2);
    let b15 = b10.ternary::<0xC1>(b4, b12);
    let a16 = a0.ternary::<0x49>(a13, a15);
    let a17 = a11.ternary::<0x52>(a9, a16);
    let b16 = b0.ternary::<0xB8>(b15, b3);
    let a18 = a10.ternary::<0x3A>(a9, a17);
    let b17 = b12.ternary::<0x1E>(b3, b10);
    let a19 = a9.ternary::<0x6C>(a16, a14);
    let b18 = b16.ternary::<0x93>(b17, b5);
    let a20 = a18.ternary::<0xD2>(a3, a19);
    let b19 = b5.ternary::<0x59>(b7, b18);
    let a21 = a10.ternary::<0x76>(a4, a8);
    let b20 = b11.ternary::<0x07>(b1, b12);
    let a22 = a21.ternary::<0x68>(a15, a4);
    let b21 = b19.ternary::<0xCB>(b13, b20);
    let a23 = a3.ternary::<0xAC>(a10, a22);
    let b22 = b21.ternary::<0x84>(b18, b2);
    let a24 = a5.ternary::<0xCA>(a20, a23);
    let b23 = b14.ternary::<0x3C>(b22, b20);
    let a25 = a3.ternary::<0xAC>(a15, a11);
    let b24 = b13.ternary::<0x35>(b20, b4);
    let a26 = a11.ternary::<0x14>(a7, a1);
    let a27 = a21.ternary::<0x7A>(a8, a26);
    let b25 = b23.ternary::<0x95>(b24, b20);
    let a28 = a17.ternary::<0xB5>(a1, a27);
    let b26 = b25.ternary::<0xD1>(b5, b11);
    let a29 = a15.ternary::<0x9D>(a4, a13);
    let b27 = b21.ternary::<0x38>(b1, b13);
    let a30 = a29.ternary::<0xA1>(a26, a5);
    let b28 = b27.ternary::<0x74>(b14, b12);
    let a31 = a28.ternary::<0x78>(a3, a30);
    let b29 = b16.ternary::<0xB3>(b2, b14);
    let a32 = a14.ternary::<0x79>(a27, a9);
    let b30 = b5.ternary::<0x69>(b28, b29);
    let a33 = a7.ternary::<0x74>(a27, a3);
    let b31 = b5.ternary::<0x39>(b13, b24);
    let a34 = a28.ternary::<0x65>(a19, a33);
    let b32 = b2.ternary::<0xA9>(b23, b31);
    let a35 = a32.ternary::<0x6C>(a34, a2);
    [[a24, a25, a31, a35], [b26, b30, b32, b18]]
}

#[inline(always)]
pub(super) fn s7_s8<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a4.ternary::<0x92>(a3, a2);
    let b7 = b1.ternary::<0x6B>(b0, b2);
    let a8 = a0.ternary::<0x78>(a3, a7);
    let b8 = b4.ternary::<0x9C>(b3, b2);
    let a9 = a3.ternary::<0x65>(a4, a2);
    let b9 = b8.ternary::<0xB5>(b7, b1);
    let a10 = a9.ternary::<0x1E>(a0, a7);
    let b10 = b4.ternary::<0x63>(b2, b9);
    let a11 = a8.ternary::<0x9D>(a10, a0);
    let b11 = b7.ternary::<0xB4>(b0, b4);
    let a12 = a1.ternary::<0x3D>(a11, a9);
    let b12 = b10.ternary::<0x14>(b11, b8);
    let a13 = a7.ternary::<0x69>(a0, a2);
    let b13 = b7.ternary::<0x69>(b4, b12);
    let a14 = a10.ternary::<0x1B>(a13, a5);
    let b14 = b4.ternary::<0x03>(b11, b9);
    let a15 = a13.ternary::<0x68>(a2, a14);
    let b15 = b10.ternary::<0x85>(b8, b9);
    let a16 = a15.ternary::<0x03>(a1, a14);
    let b16 = b1.ternary::<0xF7>(b0, b2);
    let a17 = a5.ternary::<0x69>(a14, a16);
    let b17 = b16.ternary::<0x80>(b0, b8);
    let a18 = a10.ternary::<0x25>(a8, a17);
    let b18 = b0.ternary::<0x6B>(b8, b17);
    let a19 = a12.ternary::<0x5C>(a7, a18);
    let a20 = a3.ternary::<0xE9>(a19, a14);
    let b19 = b14.ternary::<0xE9>(b15, b18);
    let a21 = a15.ternary::<0x3D>(a2, a0);
    let b20 = b13.ternary::<0x2D>(b19, b5);
    let a22 = a21.ternary::<0x6A>(a5, a10);
    let b21 = b9.ternary::<0x36>(b11, b12);
    let a23 = a20.ternary::<0x74>(a1, a22);
    let b22 = b21.ternary::<0x2D>(b17, b5);
    let a24 = a8.ternary::<0xBA>(a13, a15);
    let b23 = b0.ternary::<0xBC>(b15, b11);
    let a25 = a18.ternary::<0x63>(a24, a3);
    let b24 = b2.ternary::<0xD8>(b20, b23);
    let a26 = a4.ternary::<0xB6>(a11, a3);
    let b25 = b12.ternary::<0xE1>(b3, b10);
    let a27 = a5.ternary::<0x6A>(a8, a26);
    let b26 = b25.ternary::<0x08>(b16, b5);
    let a28 = a25.ternary::<0xA6>(a1, a27);
    let b27 = b20.ternary::<0x96>(b19, b26);
    let a29 = a16.ternary::<0x70>(a18, a4);
    let b28 = b23.ternary::<0x1B>(b20, b1);
    let a30 = a23.ternary::<0xD4>(a13, a28);
    let b29 = b27.ternary::<0x69>(b22, b28);
    let a31 = a12.ternary::<0x2E>(a5, a30);
    let b30 = b24.ternary::<0x63>(b29, b3);
    let a32 = a29.ternary::<0xA6>(a3, a31);
    [[a23, a28, a32, a17], [b20, b22, b30, b27]]
}
