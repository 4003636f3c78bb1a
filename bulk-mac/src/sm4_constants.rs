//! The constants of SM4's key schedule (GB/T 32907-2016, 7.3).

/// FK.
pub(crate) const FK: [u32; 4] = [0xA3B1_BAC6, 0x56AA_3350, 0x677D_9197, 0xB270_22DC];

/// CK: byte `j` of word `i` is `7 (4 i + j)` modulo 256.
pub(crate) const CK: [u32; 32] = {
    let mut words = [0; 32];
    let mut byte = 0;
    while byte < 128 {
        words[byte / 4] = words[byte / 4] << 8 | (7 * byte as u32) & 0xFF;
        byte += 1;
    }
    words
};
