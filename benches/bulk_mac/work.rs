//! The workloads, and what they take at the least.

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Keys, LastStep, Mac, PerRow, Platform, Texts};

/// What a record asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One level of dispersion, `L ^ R`, single-DES CBC-MAC over 22 bytes.
    DesTac,
    /// The same, each row from one of 16 masters, in no order.
    DesTacMixed,
    /// One level of dispersion, SM4 CBC-MAC over 24 bytes.
    Sm4Tac,
    /// One level of dispersion, AES-CMAC over 22 bytes.
    AesCmac,
    /// One level of dispersion, retail MAC over 64 bytes.
    Retail,
    /// A session key for each record, single-DES CBC-MAC over 22 bytes.
    DesSession,
    /// One SM4 key for all, CBC-MAC over 24 bytes.
    Sm4Fixed,
    /// One level of dispersion of triple-DES keys.
    DisperseDes,
    /// One level of dispersion of SM4 keys.
    DisperseSm4,
    /// One level of dispersion of AES keys.
    DisperseAes,
}

impl Shape {
    pub(crate) const ALL: [Self; 10] = [
        Self::DesTac,
        Self::DesTacMixed,
        Self::Sm4Tac,
        Self::AesCmac,
        Self::Retail,
        Self::DesSession,
        Self::Sm4Fixed,
        Self::DisperseDes,
        Self::DisperseSm4,
        Self::DisperseAes,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DesTac => "w1-3des-tac",
            Self::DesTacMixed => "w1-3des-tac-mixed-masters",
            Self::Sm4Tac => "w2-sm4-tac",
            Self::AesCmac => "w3-aes-cmac",
            Self::Retail => "w4-retail-mac",
            Self::DesSession => "3des-session-mac",
            Self::Sm4Fixed => "sm4-fixed-key-mac",
            Self::DisperseDes => "3des-dispersion",
            Self::DisperseSm4 => "sm4-dispersion",
            Self::DisperseAes => "aes-dispersion",
        }
    }

    pub(crate) fn is_des(self) -> bool {
        self.cipher() == Cipher::TripleDes
    }

    pub(crate) fn is_aes(self) -> bool {
        self.cipher() == Cipher::Aes128
    }

    pub(crate) fn disperses(self) -> bool {
        !matches!(self, Self::DesSession | Self::Sm4Fixed)
    }

    fn only_disperses(self) -> bool {
        matches!(self, Self::DisperseDes | Self::DisperseSm4 | Self::DisperseAes)
    }

    fn cipher(self) -> Cipher {
        match self {
            Self::Sm4Tac | Self::Sm4Fixed | Self::DisperseSm4 => Cipher::Sm4,
            Self::AesCmac | Self::DisperseAes => Cipher::Aes128,
            _ => Cipher::TripleDes,
        }
    }

    fn mac(self) -> Mac {
        match self {
            Self::Retail => Mac::Retail,
            Self::AesCmac => Mac::Cmac,
            _ => Mac::Cbc,
        }
    }

    /// Bytes of message before padding, and blocks after it.
    fn text(self) -> (usize, usize) {
        match self {
            Self::DesTac | Self::DesTacMixed | Self::DesSession => (22, 3),
            Self::Sm4Tac | Self::Sm4Fixed => (24, 2),
            Self::AesCmac => (22, 2),
            Self::Retail => (64, 9),
            Self::DisperseDes | Self::DisperseSm4 | Self::DisperseAes => (0, 0),
        }
    }

    /// Vector operations for each record, counted from the algorithms: what any code with these circuits has to
    /// issue, loads and stores left out.
    pub(crate) fn operations(self, platform: Platform) -> f64 {
        let lanes = match platform {
            Platform::Avx512 => 512.0,
            Platform::Avx2 => 256.0,
            Platform::Portable => 128.0,
        };
        let wide = platform == Platform::Avx512;
        let blocks = self.text().1 as f64;
        if self.is_des() {
            // 16 rounds of the gates of all S-boxes, 48 exclusive ors with the key and 32 into the state.
            let pass = 16.0 * (if wide { 220.0 } else { 450.0 } + 48.0 + 32.0) / lanes;
            // Six stages over 64 vectors, each a shift and a selection.
            let transpose = 6.0 * 64.0 * if wide { 2.0 } else { 4.0 } / lanes;
            let key = match self {
                Self::DesSession => 3.0 * pass + transpose,
                _ => 6.0 * pass + transpose,
            };
            let masters = if self == Self::DesTacMixed { 2.0 * transpose } else { 0.0 };
            let retail = if self == Self::Retail { 2.0 * pass } else { 0.0 };
            let out = if self.only_disperses() { 2.0 * transpose } else { transpose };
            return key + masters + retail + out + blocks * (pass + transpose + 64.0 / lanes);
        }
        let key = if self.disperses() { 1.0 } else { 0.0 };
        let uses_key = self.disperses() && !self.only_disperses();
        let schedules = if uses_key { 1.0 } else { 0.0 };
        match (self.cipher(), wide) {
            // Per 16 records: 9.5 a data round, 8.5 a key round; 24 to bring a block into words.
            (Cipher::Sm4, true) => {
                (32.0 * 9.5 * (key + blocks) + 32.0 * 8.5 * schedules + 24.0 * (blocks + key)) / 16.0
            }
            // For the records of a register, 4 or 1: 11 a block, with one more and 8 besides for CMAC's zero block. For
            // the keys of four words' registers: 14 a key round.
            (Cipher::Aes128, _) if platform != Platform::Portable => {
                let zero = if self.mac() == Mac::Cmac { 1.0 } else { 0.0 };
                let registers = if wide { 4.0 } else { 1.0 };
                (11.0 * (key + blocks + zero) + 8.0 * zero + 14.0 * 10.0 * schedules / 4.0) / registers
            }
            // Four S-boxes of 113 gates and two affine maps of about 25 each.
            (Cipher::Sm4, false) => {
                let round = 4.0 * 163.0 + 128.0 + 160.0;
                let load = 2.0 * 6.0 * 64.0 * 4.0;
                (32.0 * round * (key + blocks + schedules) + load * (key + blocks + 1.0)) / lanes
            }
            // Sixteen S-boxes of 113 gates, MixColumns, the round key; four S-boxes a key round.
            _ => {
                let zero = if self.mac() == Mac::Cmac { 1.0 } else { 0.0 };
                let round = 16.0 * 113.0 + 4.0 * 108.0 + 128.0;
                let load = 2.0 * 6.0 * 64.0 * 4.0;
                let schedule = 10.0 * (4.0 * 113.0 + 128.0) * schedules;
                (10.0 * round * (key + blocks + zero) + schedule + load * (key + blocks + zero + 1.0)) / lanes
            }
        }
    }
}

/// One record as a peer takes it: a factor or session input, and a text, padded except for CMAC.
pub(crate) struct Record {
    pub(crate) factor: [u8; 8],
    pub(crate) text: Vec<u8>,
}

/// Another implementation.
pub(crate) trait Peer {
    /// The MAC or key of one record.
    fn record(&mut self, shape: Shape, record: &Record) -> [u8; 16];
}

/// A batch of one workload as columns, with its TACs.
pub(crate) struct Load {
    pub(crate) shape: Shape,
    pub(crate) records: Vec<Record>,
    masters: Vec<[u8; 16]>,
    chosen: Vec<u32>,
    factors: Vec<[u8; 8]>,
    columns: Vec<Vec<u8>>,
    tacs: Vec<u8>,
}

impl Load {
    /// `rows` records. With mixed masters, all of them are equal: what the peers are given is then the same.
    pub(crate) fn new(shape: Shape, master: [u8; 16], rows: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut byte = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let (length, blocks) = shape.text();
        let block = shape.cipher().block_len();
        let mut columns = vec![Vec::with_capacity(rows * block); blocks];
        let mut records = Vec::with_capacity(rows);
        for _ in 0..rows {
            let factor = std::array::from_fn(|_| byte());
            let message: Vec<u8> = (0..length).map(|_| byte()).collect();
            let mut padded = message.clone();
            if blocks > 0 {
                padded.push(0x80);
                padded.resize(blocks * block, 0);
            }
            for (column, block) in columns.iter_mut().zip(padded.chunks_exact(block)) {
                column.extend_from_slice(block);
            }
            records.push(Record { factor, text: if shape.is_aes() { message } else { padded } });
        }
        Self {
            shape,
            masters: vec![master; if shape == Shape::DesTacMixed { 16 } else { 1 }],
            chosen: (0..rows as u32).map(|row| row.wrapping_mul(7) % 16).collect(),
            factors: records.iter().map(|record| record.factor).collect(),
            columns,
            records,
            tacs: Vec::new(),
        }
    }

    /// Takes the TACs that a peer makes, and holds every platform and `other` to them.
    pub(crate) fn settle(&mut self, peer: &mut impl Peer, other: &mut impl Peer) {
        let made: Vec<[u8; 16]> = self.records.iter().map(|record| peer.record(self.shape, record)).collect();
        for (record, made) in self.records.iter().zip(&made) {
            assert_eq!(other.record(self.shape, record), *made, "the peers differ on {}", self.shape.name());
        }
        self.tacs = made.iter().flat_map(|mac| &mac[..4]).copied().collect();
        for platform in Platform::available() {
            let Some(bulk) = BulkMac::on(platform) else { continue };
            if self.shape.only_disperses() {
                let mut keys = vec![[0; 16]; self.records.len()];
                self.disperse(bulk, &mut keys);
                assert_eq!(keys, made, "{} on {platform:?}", self.shape.name());
            } else {
                assert!(self.verify(bulk).iter().all(|valid| *valid), "{} on {platform:?}", self.shape.name());
                self.tacs[1] ^= 0x10;
                let wrong = self.verify(bulk).iter().filter(|valid| !**valid).count();
                assert_eq!(wrong, 1, "{} on {platform:?}", self.shape.name());
                self.tacs[1] ^= 0x10;
            }
        }
    }

    /// The whole batch once.
    pub(crate) fn run(&self, bulk: BulkMac, keys: &mut [[u8; 16]]) -> usize {
        if self.shape.only_disperses() {
            self.disperse(bulk, keys);
            return usize::from(keys[0][0]);
        }
        self.verify(bulk).iter().filter(|valid| **valid).count()
    }

    fn keys<'a>(&'a self, levels: &'a [&'a [[u8; 8]]]) -> Keys<'a> {
        Keys {
            cipher: self.shape.cipher(),
            masters: &self.masters,
            chosen: if self.masters.len() > 1 { PerRow::Each(&self.chosen) } else { PerRow::Same(0) },
            levels: if self.shape.disperses() { levels } else { &[] },
            last: match self.shape {
                Shape::DesTac | Shape::DesTacMixed => LastStep::Fold,
                Shape::DesSession => LastStep::Session(&self.factors),
                _ => LastStep::Whole,
            },
        }
    }

    /// Whether dispersion is a part of it.
    pub(crate) fn has_parts(&self) -> bool {
        self.shape.disperses() && !self.shape.only_disperses()
    }

    /// The first part alone: the cards' keys.
    pub(crate) fn disperse(&self, bulk: BulkMac, out: &mut [[u8; 16]]) {
        bulk.disperse(&self.keys(&[&self.factors]), out).unwrap();
    }

    fn verify(&self, bulk: BulkMac) -> Vec<bool> {
        let columns: Vec<&[u8]> = self.columns.iter().map(Vec::as_slice).collect();
        let texts = Texts { columns: &columns, blocks: PerRow::Same(columns.len() as u32), padded: PerRow::Same(true) };
        let expected = Expected { width: 4, bytes: &self.tacs };
        bulk.verify(&self.keys(&[&self.factors]), self.shape.mac(), &texts, &expected).unwrap()
    }
}
