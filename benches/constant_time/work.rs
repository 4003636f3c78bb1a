//! A few records of each workload, and what becomes of them.

use claviger_bulk_mac::{BulkMac, Cipher, Expected, Keys, LastStep, Mac, PerRow, Texts};

use super::Question;

/// Rows of a call: a few, which run in few lanes and where what a call costs besides them hides no difference, and as many as
/// run bitsliced on every platform.
pub(crate) const SIZES: [usize; 2] = [16, 200];

/// What is verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    DesTac,
    Sm4Tac,
    AesCmac,
    Retail,
}

impl Work {
    pub(crate) const ALL: [Self; 4] = [Self::DesTac, Self::Sm4Tac, Self::AesCmac, Self::Retail];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DesTac => "w1-3des-tac",
            Self::Sm4Tac => "w2-sm4-tac",
            Self::AesCmac => "w3-aes-cmac",
            Self::Retail => "w4-retail-mac",
        }
    }

    fn cipher(self) -> Cipher {
        match self {
            Self::DesTac | Self::Retail => Cipher::TripleDes,
            Self::Sm4Tac => Cipher::Sm4,
            Self::AesCmac => Cipher::Aes128,
        }
    }

    fn mac(self) -> (Mac, LastStep<'static>) {
        match self {
            Self::DesTac => (Mac::Cbc, LastStep::Fold),
            Self::Sm4Tac => (Mac::Cbc, LastStep::Whole),
            Self::AesCmac => (Mac::Cmac, LastStep::Whole),
            Self::Retail => (Mac::Retail, LastStep::Whole),
        }
    }
}

/// SplitMix64.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

/// The secrets of a call.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) masters: Vec<[u8; 16]>,
    pub(crate) factors: Vec<[u8; 8]>,
    pub(crate) texts: [Vec<u8>; 2],
    pub(crate) macs: Vec<u8>,
}

impl Records {
    pub(crate) fn random(work: Work, rows: usize, random: &mut Numbers) -> Self {
        let block = work.cipher().block_len();
        let mut records = Self {
            masters: vec![[0; 16]; rows],
            factors: vec![[0; 8]; rows],
            texts: [vec![0; rows * block], vec![0; rows * block]],
            macs: vec![0; 4 * rows],
        };
        random.fill(records.masters.as_flattened_mut());
        random.fill(records.factors.as_flattened_mut());
        records.texts.iter_mut().for_each(|text| random.fill(text));
        records.macs = records.right(work);
        records
    }

    /// The MACs as they should be.
    fn right(&self, work: Work) -> Vec<u8> {
        let block = work.cipher().block_len();
        let mut found = vec![0; self.masters.len() * block];
        self.lend(work, |keys, mac, texts| BulkMac::new().macs(keys, mac, texts, &mut found)).unwrap();
        found.chunks_exact(block).flat_map(|mac| mac[..4].to_vec()).collect()
    }

    /// Others that differ from these in what is asked for.
    pub(crate) fn other(&self, question: Question, work: Work, random: &mut Numbers) -> Self {
        let new = Self::random(work, self.masters.len(), random);
        match question {
            Question::Key => Self { masters: new.masters, ..self.clone() },
            Question::Data => Self { masters: self.masters.clone(), ..new },
            Question::Position => self.clone(),
        }
    }

    /// These with every MAC wrong in one byte.
    pub(crate) fn wrong_at(&self, byte: usize) -> Self {
        let mut wrong = self.clone();
        wrong.macs.iter_mut().skip(byte).step_by(4).for_each(|byte| *byte ^= 0xFF);
        wrong
    }

    /// Copies one of two into this memory. Both are read, so that the caches do not know which it was.
    pub(crate) fn copy_one(&mut self, of: [&Self; 2], second: bool) {
        let mask = std::hint::black_box(0u8.wrapping_sub(u8::from(second)));
        let copy = |to: &mut [u8], first: &[u8], second: &[u8]| {
            for ((to, first), second) in to.iter_mut().zip(first).zip(second) {
                *to = first ^ mask & (first ^ second);
            }
        };
        let [first, second] = of;
        copy(self.masters.as_flattened_mut(), first.masters.as_flattened(), second.masters.as_flattened());
        copy(self.factors.as_flattened_mut(), first.factors.as_flattened(), second.factors.as_flattened());
        for (number, text) in self.texts.iter_mut().enumerate() {
            copy(text, &first.texts[number], &second.texts[number]);
        }
        copy(&mut self.macs, &first.macs, &second.macs);
    }

    pub(crate) fn verify(&self, bulk: BulkMac, work: Work) -> Vec<bool> {
        let expected = Expected { width: 4, bytes: &self.macs };
        self.lend(work, |keys, mac, texts| bulk.verify(keys, mac, texts, &expected)).unwrap()
    }

    fn lend<T>(&self, work: Work, run: impl FnOnce(&Keys<'_>, Mac, &Texts<'_>) -> T) -> T {
        let (mac, last) = work.mac();
        let chosen: Vec<u32> = (0..self.masters.len() as u32).collect();
        let levels = [self.factors.as_slice()];
        let keys = Keys {
            cipher: work.cipher(),
            masters: &self.masters,
            chosen: PerRow::Each(&chosen),
            levels: &levels,
            last,
        };
        let columns = [self.texts[0].as_slice(), &self.texts[1]];
        run(&keys, mac, &Texts { columns: &columns, blocks: PerRow::Same(2), padded: PerRow::Same(true) })
    }

    /// Compares with the right MACs as nobody should: a comparison ends at the first wrong byte.
    pub(crate) fn leaky(&self, right: &[u8]) -> usize {
        (0..64)
            .flat_map(|_| self.macs.chunks_exact(4).zip(right.chunks_exact(4)))
            .map(|(mac, right)| {
                let same = |(one, other): &(&u8, &u8)| std::hint::black_box(**one) == std::hint::black_box(**other);
                mac.iter().zip(right).take_while(same).count()
            })
            .sum()
    }
}
