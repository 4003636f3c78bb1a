//! The workloads, and what they take at the least.

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Keys, LastStep, Mac, PerRow, Platform, Texts};

/// What a record asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) cipher: Cipher,
    pub(crate) key: CardKey,
    /// The algorithm, and bytes of a message before it is padded. Without it the card's key is all that is asked for.
    pub(crate) mac: Option<(Mac, usize)>,
    /// Master keys of which each row begins with one, in no order.
    masters: usize,
}

/// How a record comes to its key from the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CardKey {
    /// It is the master key.
    Master,
    /// A session key of the master key.
    Session,
    /// So many levels of dispersion.
    Dispersed(usize),
    /// One level, and `L ^ R`.
    Folded,
}

const DES: Cipher = Cipher::TripleDes;
const SM4: Cipher = Cipher::Sm4;
const AES: Cipher = Cipher::Aes128;
const CARD: CardKey = CardKey::Dispersed(1);

const fn shape(name: &'static str, cipher: Cipher, key: CardKey, mac: Option<(Mac, usize)>) -> Shape {
    Shape { name, cipher, key, mac, masters: 1 }
}

impl Shape {
    pub(crate) const ALL: [Self; 23] = [
        shape("w1-3des-tac", DES, CardKey::Folded, Some((Mac::Cbc, 22))),
        Self { masters: 16, ..shape("w1-3des-tac-mixed-masters", DES, CardKey::Folded, Some((Mac::Cbc, 22))) },
        shape("w2-sm4-tac", SM4, CARD, Some((Mac::Cbc, 24))),
        shape("w3-aes-cmac", AES, CARD, Some((Mac::Cmac, 22))),
        shape("w4-retail-mac", DES, CARD, Some((Mac::Retail, 64))),
        shape("3des-session-mac", DES, CardKey::Session, Some((Mac::Cbc, 22))),
        shape("sm4-session-mac", SM4, CardKey::Session, Some((Mac::Cbc, 24))),
        shape("aes-session-mac", AES, CardKey::Session, Some((Mac::Cmac, 22))),
        shape("3des-fixed-key-mac", DES, CardKey::Master, Some((Mac::Retail, 64))),
        shape("sm4-fixed-key-mac", SM4, CardKey::Master, Some((Mac::Cbc, 24))),
        shape("aes-fixed-key-mac", AES, CardKey::Master, Some((Mac::Cmac, 22))),
        shape("3des-dispersion", DES, CARD, None),
        shape("3des-dispersion-2-levels", DES, CardKey::Dispersed(2), None),
        shape("3des-dispersion-3-levels", DES, CardKey::Dispersed(3), None),
        shape("3des-dispersion-4-levels", DES, CardKey::Dispersed(4), None),
        shape("sm4-dispersion", SM4, CARD, None),
        shape("sm4-dispersion-2-levels", SM4, CardKey::Dispersed(2), None),
        shape("sm4-dispersion-3-levels", SM4, CardKey::Dispersed(3), None),
        shape("sm4-dispersion-4-levels", SM4, CardKey::Dispersed(4), None),
        shape("aes-dispersion", AES, CARD, None),
        shape("aes-dispersion-2-levels", AES, CardKey::Dispersed(2), None),
        shape("aes-dispersion-3-levels", AES, CardKey::Dispersed(3), None),
        shape("aes-dispersion-4-levels", AES, CardKey::Dispersed(4), None),
    ];

    /// Levels of dispersion.
    pub(crate) fn levels(self) -> usize {
        match self.key {
            CardKey::Master | CardKey::Session => 0,
            CardKey::Dispersed(levels) => levels,
            CardKey::Folded => 1,
        }
    }

    /// Whether the key is made by enciphering one block of 16 bytes a record under the master key.
    pub(crate) fn is_one_block(self) -> bool {
        self.cipher != DES && self.mac.is_none() && self.levels() == 1
    }

    /// Bytes of a message before padding, and blocks after it.
    fn text(self) -> (usize, usize) {
        match self.mac {
            None => (0, 0),
            // Padded even where it is whole blocks long, but by CMAC.
            Some((Mac::Cmac, length)) => (length, length.div_ceil(16)),
            Some((_, length)) => (length, length / self.cipher.block_len() + 1),
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
        if self.cipher == DES { self.of_des(platform, lanes) } else { self.of_wide_blocks(platform, lanes) }
    }

    fn of_des(self, platform: Platform, lanes: f64) -> f64 {
        let wide = platform == Platform::Avx512;
        let blocks = self.text().1 as f64;
        // 16 rounds of the gates of all S-boxes, 48 exclusive ors with the key and 32 into the state.
        let pass = 16.0 * (gates(wide) + 48.0 + 32.0) / lanes;
        // Six stages over 64 vectors, each a shift and a selection.
        let transpose = 6.0 * 64.0 * if wide { 2.0 } else { 4.0 } / lanes;
        let key = match self.key {
            CardKey::Session => 3.0 * pass + transpose,
            _ => self.levels() as f64 * (6.0 * pass + transpose),
        };
        let masters = if self.masters > 1 { 2.0 * transpose } else { 0.0 };
        let retail = if self.is(Mac::Retail) { 2.0 * pass } else { 0.0 };
        let out = if self.mac.is_none() { 2.0 * transpose } else { transpose };
        key + masters + retail + out + blocks * (pass + transpose + 64.0 / lanes)
    }

    fn of_wide_blocks(self, platform: Platform, lanes: f64) -> f64 {
        let blocks = self.text().1 as f64;
        // A block for each level or session key, and a schedule for each key but the master's own.
        let keys = self.levels() as f64 + if self.key == CardKey::Session { 1.0 } else { 0.0 };
        let schedules = keys - if self.mac.is_none() { 1.0 } else { 0.0 };
        let zero = if self.is(Mac::Cmac) { 1.0 } else { 0.0 };
        match (self.cipher, platform) {
            // Per 16 records: 9.5 a data round, 8.5 a key round; 24 to bring a block into words.
            (Cipher::Sm4, Platform::Avx512) => {
                (32.0 * 9.5 * (keys + blocks) + 32.0 * 8.5 * schedules + 24.0 * (blocks + keys)) / 16.0
            }
            // For the records of a register, 4 or 1: 11 a block, with one more and 8 besides for CMAC's zero block. For
            // the keys of four words' registers: 14 a key round.
            (Cipher::Aes128, Platform::Avx512 | Platform::Avx2) => {
                let registers = if platform == Platform::Avx512 { 4.0 } else { 1.0 };
                (11.0 * (keys + blocks + zero) + 8.0 * zero + 14.0 * 10.0 * schedules / 4.0) / registers
            }
            // Four S-boxes of 113 gates and two affine maps of about 25 each.
            (Cipher::Sm4, _) => {
                let round = 4.0 * 163.0 + 128.0 + 160.0;
                let load = 2.0 * 6.0 * 64.0 * 4.0;
                (32.0 * round * (keys + blocks + schedules) + load * (keys + blocks + 1.0)) / lanes
            }
            // Sixteen S-boxes of 113 gates, MixColumns, the round key; four S-boxes a key round.
            _ => {
                let round = 16.0 * 113.0 + 4.0 * 108.0 + 128.0;
                let load = 2.0 * 6.0 * 64.0 * 4.0;
                let schedule = 10.0 * (4.0 * 113.0 + 128.0) * schedules;
                (10.0 * round * (keys + blocks + zero) + schedule + load * (keys + blocks + zero + 1.0)) / lanes
            }
        }
    }

    fn is(self, mac: Mac) -> bool {
        self.mac.is_some_and(|(algorithm, _)| algorithm == mac)
    }
}

/// Gates of the eight S-boxes, of three inputs or of two, as their circuits' files have them.
fn gates(ternary: bool) -> f64 {
    let circuits = if ternary {
        include_str!("../../bulk-mac/tools/sbox_circuits_ternary.txt")
    } else {
        include_str!("../../bulk-mac/tools/sbox_circuits.txt")
    };
    let is_gate = |line: &&str| !line.is_empty() && !line.starts_with(['#', 'S']) && !line.starts_with("out");
    circuits.lines().filter(is_gate).count() as f64
}

/// One record as a peer takes it.
pub(crate) struct Record {
    /// A factor for each level, or the session's input.
    pub(crate) factors: Vec<[u8; 8]>,
    /// Padded, except for CMAC.
    pub(crate) text: Vec<u8>,
}

/// The block that a factor or a session's input becomes where blocks have 16 bytes.
pub(crate) fn with_complement(factor: [u8; 8]) -> [u8; 16] {
    std::array::from_fn(|i| if i < 8 { factor[i] } else { !factor[i - 8] })
}

/// Another implementation.
pub(crate) trait Peer {
    /// The MAC or key of one record.
    fn record(&mut self, shape: Shape, record: &Record) -> [u8; 16];

    /// Enciphers blocks under the master key, by the interface for many.
    fn blocks(&mut self, cipher: Cipher, blocks: &mut [[u8; 16]]);

    /// The MACs or keys of some records.
    fn records(&mut self, shape: Shape, records: &[Record], made: &mut [[u8; 16]]) {
        if shape.is_one_block() {
            made.iter_mut().zip(records).for_each(|(made, record)| *made = with_complement(record.factors[0]));
            return self.blocks(shape.cipher, made);
        }
        made.iter_mut().zip(records).for_each(|(made, record)| *made = self.record(shape, record));
    }
}

/// A batch of one workload as columns, with its TACs.
pub(crate) struct Load {
    pub(crate) shape: Shape,
    pub(crate) records: Vec<Record>,
    masters: Vec<[u8; 16]>,
    chosen: Vec<u32>,
    factors: Vec<Vec<[u8; 8]>>,
    columns: Vec<Vec<u8>>,
    tacs: Vec<u8>,
}

impl Load {
    /// `rows` records. With several master keys, all of them are equal: what the peers are given is then the same.
    pub(crate) fn new(shape: Shape, master: [u8; 16], rows: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut byte = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let (length, blocks) = shape.text();
        let block = shape.cipher.block_len();
        let inputs = shape.levels().max(1);
        let mut columns = vec![Vec::with_capacity(rows * block); blocks];
        let mut records = Vec::with_capacity(rows);
        for _ in 0..rows {
            let factors: Vec<[u8; 8]> = (0..inputs).map(|_| std::array::from_fn(|_| byte())).collect();
            let message: Vec<u8> = (0..length).map(|_| byte()).collect();
            let mut padded = message.clone();
            if blocks > 0 {
                padded.push(0x80);
                padded.resize(blocks * block, 0);
            }
            for (column, block) in columns.iter_mut().zip(padded.chunks_exact(block)) {
                column.extend_from_slice(block);
            }
            records.push(Record { factors, text: if shape.cipher == AES { message } else { padded } });
        }
        let factor = |level: usize| records.iter().map(move |record: &Record| record.factors[level]);
        Self {
            shape,
            masters: vec![master; shape.masters],
            chosen: (0..rows as u32).map(|row| row.wrapping_mul(7) % 16).collect(),
            factors: (0..inputs).map(|level| factor(level).collect()).collect(),
            columns,
            records,
            tacs: Vec::new(),
        }
    }

    /// Takes the TACs that a peer makes, and holds every platform and `other` to them.
    pub(crate) fn settle(&mut self, peer: &mut impl Peer, other: &mut impl Peer) {
        let (mut made, mut others) = (vec![[0; 16]; self.records.len()], vec![[0; 16]; self.records.len()]);
        peer.records(self.shape, &self.records, &mut made);
        other.records(self.shape, &self.records, &mut others);
        assert!(made == others, "the peers differ on {}", self.shape.name);
        self.tacs = made.iter().flat_map(|mac| &mac[..4]).copied().collect();
        for platform in Platform::available() {
            let Some(bulk) = BulkMac::on(platform) else { continue };
            if self.shape.mac.is_none() {
                let mut keys = vec![[0; 16]; self.records.len()];
                self.disperse(bulk, &mut keys);
                assert!(keys == made, "{} on {platform:?}", self.shape.name);
            } else {
                assert!(self.verify(bulk).iter().all(|valid| *valid), "{} on {platform:?}", self.shape.name);
                self.tacs[1] ^= 0x10;
                let wrong = self.verify(bulk).iter().filter(|valid| !**valid).count();
                assert_eq!(wrong, 1, "{} on {platform:?}", self.shape.name);
                self.tacs[1] ^= 0x10;
            }
        }
    }

    /// The whole batch once.
    pub(crate) fn run(&self, bulk: BulkMac, keys: &mut [[u8; 16]]) -> usize {
        if self.shape.mac.is_none() {
            self.disperse(bulk, keys);
            return usize::from(keys[0][0]);
        }
        self.verify(bulk).iter().filter(|valid| **valid).count()
    }

    fn keys<'a>(&'a self, levels: &'a [&'a [[u8; 8]]]) -> Keys<'a> {
        Keys {
            cipher: self.shape.cipher,
            masters: &self.masters,
            chosen: if self.masters.len() > 1 { PerRow::Each(&self.chosen) } else { PerRow::Same(0) },
            levels,
            last: match self.shape.key {
                CardKey::Folded => LastStep::Fold,
                CardKey::Session => LastStep::Session(&self.factors[0]),
                CardKey::Master | CardKey::Dispersed(_) => LastStep::Whole,
            },
        }
    }

    /// Whether keys for each record are a part of it.
    pub(crate) fn has_parts(&self) -> bool {
        self.shape.mac.is_some() && self.shape.key != CardKey::Master
    }

    /// The first part alone: the records' keys.
    pub(crate) fn disperse(&self, bulk: BulkMac, out: &mut [[u8; 16]]) {
        let levels: Vec<&[[u8; 8]]> = self.factors[..self.shape.levels()].iter().map(Vec::as_slice).collect();
        bulk.disperse(&self.keys(&levels), out).unwrap();
    }

    /// The second part alone: the same texts, all under the master key.
    pub(crate) fn verify_under_one_key(&self, bulk: BulkMac) -> Vec<bool> {
        let last = if self.shape.key == CardKey::Dispersed(1) { LastStep::Whole } else { LastStep::Fold };
        let keys = Keys { chosen: PerRow::Same(0), last, ..self.keys(&[]) };
        self.verify_with(bulk, &keys)
    }

    fn verify(&self, bulk: BulkMac) -> Vec<bool> {
        let levels: Vec<&[[u8; 8]]> = self.factors[..self.shape.levels()].iter().map(Vec::as_slice).collect();
        self.verify_with(bulk, &self.keys(&levels))
    }

    fn verify_with(&self, bulk: BulkMac, keys: &Keys) -> Vec<bool> {
        let (mac, _) = self.shape.mac.unwrap();
        let columns: Vec<&[u8]> = self.columns.iter().map(Vec::as_slice).collect();
        let texts = Texts { columns: &columns, blocks: PerRow::Same(columns.len() as u32), padded: PerRow::Same(true) };
        bulk.verify(keys, mac, &texts, &Expected { width: 4, bytes: &self.tacs }).unwrap()
    }
}
