//! The eight S-boxes of DES (FIPS 46-3) in gates of three inputs, two boxes side by side.
//! Written by `tools/emit_sboxes.py` from `tools/sbox_circuits_ternary.txt`: change those, not this.

use crate::vector::Vector;

#[inline(always)]
pub(super) fn s1_s2<V: Vector>([a0, a1, a2, a3, a4, a5]: [V; 6], [b0, b1, b2, b3, b4, b5]: [V; 6]) -> [[V; 4]; 2] {
    let a7 = a3.ternary::<0x4E>(a0, a2);
    let b7 = b0.ternary::<0xAE>(b5, b1);
    let a8 = a4.ternary::<0xC4>(a5, a3);
    let b8 = b5.ternary::<0x9D>(b2, b7);
    let a9 = a4.ternary::<0x59>(a2, a3);
    let b9 = b5.ternary::<0xC9>(b8, b0);
    let a10 = a8.ternary::<0xC3>(a9, a4);
    let b10 = b9.ternary::<0x4B>(b3, b7);
    let a11 = a9.ternary::<0xC1>(a2, a5);
    let b11 = b4.ternary::<0x8C>(b0, b10);
    let a12 = a4.ternary::<0x6B>(a10, a11);
    let b12 = b9.ternary::<0x76>(b11, b5);
    let a13 = a7.ternary::<0xB5>(a10, a12);
    let b13 = b0.ternary::<0x4A>(b1, b3);
    let a14 = a0.ternary::<0x53>(a12, a10);
    let b14 = b4.ternary::<0x94>(b1, b13);
    let a15 = a13.ternary::<0xB1>(a14, a1);
    let a16 = a10.ternary::<0x92>(a0, a1);
    let b15 = b12.ternary::<0x69>(b2, b14);
    let a17 = a12.ternary::<0x9C>(a0, a5);
    let b16 = b3.ternary::<0x60>(b11, b12);
    let a18 = a17.ternary::<0x92>(a5, a11);
    let b17 = b16.ternary::<0x19>(b4, b10);
    let a19 = a18.ternary::<0x8C>(a9, a15);
    let b18 = b1.ternary::<0x9A>(b2, b13);
    let a20 = a1.ternary::<0x96>(a17, a19);
    let b19 = b18.ternary::<0x2C>(b5, b4);
    let a21 = a4.ternary::<0xE5>(a20, a8);
    let b20 = b8.ternary::<0x4E>(b9, b19);
    let a22 = a1.ternary::<0x5B>(a13, a21);
    let b21 = b17.ternary::<0x69>(b9, b20);
    let a23 = a0.ternary::<0xB5>(a20, a1);
    let b22 = b15.ternary::<0xE1>(b10, b21);
    let a24 = a4.ternary::<0xFD>(a10, a20);
    let a25 = a23.ternary::<0x96>(a2, a24);
    let b23 = b20.ternary::<0x45>(b1, b4);
    let a26 = a16.ternary::<0x47>(a22, a25);
    let b24 = b23.ternary::<0xB0>(b15, b19);
    let a27 = a20.ternary::<0x72>(a2, a1);
    let b25 = b24.ternary::<0x96>(b10, b1);
    let a28 = a8.ternary::<0xA4>(a16, a21);
    let b26 = b15.ternary::<0x6A>(b25, b3);
    let a29 = a20.ternary::<0x8D>(a27, a28);
    let b27 = b22.ternary::<0x1E>(b4, b26);
    let a30 = a26.ternary::<0x6C>(a15, a21);
    let b28 = b21.ternary::<0x78>(b7, b4);
    let a31 = a29.ternary::<0x96>(a30, a1);
    let b29 = b21.ternary::<0x47>(b28, b11);
    let a32 = a15.ternary::<0xD3>(a21, a22);
    let b30 = b27.ternary::<0x1E>(b29, b2);
    let a33 = a8.ternary::<0x93>(a31, a32);
    [[a15, a26, a29, a33], [b15, b21, b30, b25]]
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
    let a7 = a5.ternary::<0x6C>(a1, a4);
    let b7 = b4.ternary::<0x5B>(b2, b0);
    let a8 = a0.ternary::<0x9D>(a7, a5);
    let b8 = b7.ternary::<0x4B>(b1, b2);
    let a9 = a5.ternary::<0x17>(a0, a8);
    let b9 = b2.ternary::<0xE9>(b0, b4);
    let a10 = a4.ternary::<0x87>(a8, a2);
    let b10 = b9.ternary::<0x69>(b7, b1);
    let a11 = a8.ternary::<0x69>(a10, a9);
    let b11 = b8.ternary::<0x4A>(b10, b4);
    let a12 = a11.ternary::<0xBE>(a1, a4);
    let b12 = b9.ternary::<0x1C>(b0, b11);
    let a13 = a2.ternary::<0x96>(a7, a5);
    let b13 = b8.ternary::<0x1E>(b12, b3);
    let a14 = a0.ternary::<0x16>(a1, a10);
    let b14 = b13.ternary::<0xB0>(b1, b10);
    let a15 = a4.ternary::<0x29>(a0, a2);
    let b15 = b4.ternary::<0xE6>(b13, b10);
    let a16 = a1.ternary::<0x69>(a15, a5);
    let a17 = a1.ternary::<0x3C>(a14, a16);
    let b16 = b4.ternary::<0xD8>(b14, b15);
    let a18 = a13.ternary::<0xB5>(a9, a17);
    let b17 = b11.ternary::<0xAC>(b0, b3);
    let a19 = a12.ternary::<0x93>(a18, a3);
    let b18 = b3.ternary::<0xC6>(b10, b8);
    let a20 = a3.ternary::<0x9E>(a11, a16);
    let b19 = b5.ternary::<0x95>(b17, b18);
    let a21 = a15.ternary::<0xB6>(a0, a13);
    let b20 = b3.ternary::<0x07>(b9, b15);
    let a22 = a20.ternary::<0xE2>(a21, a15);
    let b21 = b19.ternary::<0xE1>(b5, b9);
    let a23 = a9.ternary::<0x35>(a19, a22);
    let b22 = b21.ternary::<0x43>(b15, b14);
    let a24 = a11.ternary::<0x74>(a3, a16);
    let b23 = b17.ternary::<0x91>(b2, b22);
    let a25 = a14.ternary::<0x07>(a13, a21);
    let a26 = a1.ternary::<0x75>(a25, a12);
    let b24 = b19.ternary::<0x9C>(b20, b23);
    let a27 = a26.ternary::<0x1D>(a9, a5);
    let b25 = b16.ternary::<0xC6>(b14, b24);
    let a28 = a13.ternary::<0x46>(a16, a14);
    let b26 = b13.ternary::<0x72>(b25, b5);
    let a29 = a18.ternary::<0xB4>(a17, a26);
    let b27 = b23.ternary::<0x2D>(b11, b9);
    let a30 = a28.ternary::<0x3D>(a29, a1);
    let b28 = b27.ternary::<0x59>(b20, b5);
    let a31 = a27.ternary::<0xA6>(a3, a30);
    let b29 = b23.ternary::<0x69>(b1, b28);
    let a32 = a7.ternary::<0x47>(a29, a3);
    let b30 = b5.ternary::<0xC9>(b15, b16);
    let a33 = a30.ternary::<0x6C>(a32, a25);
    let b31 = b30.ternary::<0x1E>(b24, b2);
    let a34 = a33.ternary::<0x4B>(a2, a17);
    [[a23, a24, a31, a34], [b26, b29, b31, b19]]
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
