//! Idea one: an operation is a value.
//!
//! A recipe is one or more *legs*. A leg leads from a stored key down a path of derivation steps to a
//! finish. The API, the card schemes, the drivers, the policy check and the audit record all speak of
//! the same recipe.

use serde::{Deserialize, Serialize};

use crate::{Algorithm, BlockHeader, EnvelopeForm, KcvRule, NewKey};

/// One or more legs over one batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Recipe {
    /// Run in order, row by row; a leg may use what an earlier one put out.
    pub legs: Vec<Leg>,
}

/// A key path, what is done at its end, and for which rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leg {
    /// From a stored key downwards.
    pub path: KeyPath,
    /// What is done with the key at the end of the path.
    pub finish: Finish,
    /// For which rows.
    pub when: When,
}

/// For which rows a leg runs. The numbers are those of earlier legs that verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum When {
    /// All.
    Always,
    /// Those whose MAC was right in that leg.
    AfterValid(usize),
    /// Those whose MAC was wrong in that leg.
    AfterInvalid(usize),
}

/// A stored key and the steps that lead down from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyPath {
    /// Which key column of the batch names the stored key.
    pub slot: usize,
    /// The recipe is for keys of this algorithm; a batch with another is refused.
    pub algorithm: Algorithm,
    /// Root first.
    pub steps: Vec<Step>,
    /// Dispersions that still stand between the end of the path and a card's key; zero for all that MACs or
    /// enciphers. Checked against the key's rank, so that what leaves is classed rightly.
    pub steps_left: u8,
}

/// One derivation: a key to a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Dispersion (分散) by a factor: a level of the scheme, down to a card.
    Disperse {
        /// How the factor is enciphered.
        rule: DispersionRule,
        /// Of the derived key's bytes.
        parity: Parity,
        /// 8 bytes, or 16 for [`DispersionRule::Raw`].
        factor: Input,
    },
    /// A session key of a purse transaction from 8 bytes of input. DES family: `E(K, x)`, 8 bytes, then
    /// single DES. Others: `E(K, x || ~x)`, 16 bytes.
    Session {
        /// 8 bytes; for 16-byte blocks also 16, which are then the block itself.
        input: Input,
    },
    /// The two halves of a 16-byte key XORed.
    FoldHalves {
        /// What becomes of the 8 bytes.
        rule: FoldRule,
    },
}

/// How a factor disperses a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DispersionRule {
    /// `E(K, f) || E(K, ~f)` for 8-byte blocks; `E(K, f || ~f)` for 16-byte blocks.
    FactorAndComplement,
    /// A 16-byte factor used as the block itself (16-byte blocks only).
    Raw,
}

/// The parity bits of a derived DES key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Parity {
    /// As computed: PBOC, MOHURD and JT/T purses.
    AsComputed,
    /// Adjusted to odd: EMV.
    Odd,
}

/// What folding makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FoldRule {
    /// A single-DES key `L ^ R`: the TAC rule of 3DES cards.
    SingleDes,
    /// A 16-byte key `(L ^ R) || ~(L ^ R)`: a candidate for the TAC of SM4 cards.
    WithComplement,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Input {
    /// A column of the batch.
    Column(usize),
    /// The same bytes for every row.
    Constant(Vec<u8>),
    /// What an earlier leg put out, by its number.
    Output(usize),
}

/// The concatenation of its parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message(pub Vec<Input>);

impl Message {
    /// One column, whole.
    pub fn column(index: usize) -> Self {
        Self(vec![Input::Column(index)])
    }
}

/// What is done with the key at the end of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Finish {
    /// Puts out a MAC.
    Mac {
        /// How.
        spec: MacSpec,
        /// Over what.
        message: Message,
    },
    /// Compares a MAC in constant time and puts out whether it was right, never the MAC.
    VerifyMac {
        /// How.
        spec: MacSpec,
        /// Over what.
        message: Message,
        /// The MAC to compare with.
        expected: Input,
    },
    /// Puts out a ciphertext.
    Encrypt {
        /// How.
        mode: CipherMode,
        /// Padding of what is not authenticated encryption.
        padding: Padding,
        /// What.
        data: Message,
    },
    /// Puts out a plaintext; for GCM, rows whose tag is wrong do not run.
    Decrypt {
        /// How.
        mode: CipherMode,
        /// What.
        data: Message,
    },
    /// Puts out a key check value.
    Kcv {
        /// How.
        rule: KcvRule,
    },
    /// Puts out the key itself under another.
    Wrap {
        /// The wrapping key, which may be dispersed as well.
        under: KeyPath,
        /// The layout.
        format: WrapFormat,
    },
    /// Puts out the key itself in an SM2 envelope (GM/T 0018, 0016, 0009).
    Envelop {
        /// Whose it will be: `X || Y`, 64 bytes, big endian.
        recipient: Vec<u8>,
        /// The layout.
        form: EnvelopeForm,
    },
    /// Puts out the public half of an SM2 key: `X || Y`, 64 bytes, big endian.
    PublicKey,
    /// Keeps the key inside as a stored key of its own; for a batch of one row, since a key has one name.
    Store {
        /// What the child will be.
        child: Box<NewKey>,
    },
    /// An SM2 signature `r || s`, 64 bytes (GB/T 32918.2), over `SM3(Z_A || M)`.
    Sign {
        /// The signer's identity that goes into `Z_A`; the standard's default is `1234567812345678`.
        signer_id: String,
        /// M.
        message: Message,
    },
    /// Verifies such a signature with the key's public half.
    VerifySignature {
        /// The signer's identity that goes into `Z_A`; the standard's default is `1234567812345678`.
        signer_id: String,
        /// M.
        message: Message,
        /// `r || s`.
        signature: Input,
    },
}

/// The layout of a wrapped key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WrapFormat {
    /// `E(prefix || key)` in ECB: a key-set
    /// file with no prefix, a WRITE KEY command with `LD || header` as prefix.
    Ecb {
        /// What stands before the key.
        prefix: Message,
        /// Behind it; [`Padding::OneIfNeeded`] in PBOC.
        padding: Padding,
    },
    /// AES key wrap (RFC 3394, KW of SP 800-38F) with the default initial value: eight bytes longer than the
    /// key. Under AES only, and only for keys of whole 8-byte units, at least two.
    KeyWrap,
    /// An X9.143 or ISO 20038 key block, as text; the key looks as long as the longest of its algorithm.
    KeyBlock(Box<BlockHeader>),
}

/// How a MAC is made.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MacSpec {
    /// Which.
    pub algorithm: MacAlgorithm,
    /// The second key K'' of algorithms 2 to 4, where it is not the right half of a 16-byte DES key.
    pub second: Option<KeyPath>,
    /// Of the message; HMAC and CMAC have their own and take [`Padding::None`].
    pub padding: Padding,
    /// First chaining value of a CBC chain, one block; zeros if absent.
    pub initial: Option<Input>,
    /// What is kept.
    pub truncation: Truncation,
}

/// MAC algorithms, numbered as ISO/IEC 9797-1:2011 and GB/T 15852.1-2020 number them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MacAlgorithm {
    /// Algorithm 1: CBC-MAC.
    CbcMac,
    /// Algorithm 2: CBC-MAC, the result enciphered under K''.
    Emac,
    /// Algorithm 3: the retail MAC of ANSI X9.19: chain under K', last block decrypted under K'' and
    /// enciphered under K'.
    Retail,
    /// Algorithm 4: as 2, with the first block enciphered twice.
    MacDes,
    /// Algorithm 5: CMAC (SP 800-38B).
    Cmac,
    /// Algorithm 6: LMAC, the last block under a derived key.
    Lmac,
    /// Algorithm 7: TrCBC.
    TrCbc,
    /// HMAC (FIPS 198-1) with the hash that the key is for.
    Hmac,
}

/// How a message is made whole blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Padding {
    /// Must already be whole.
    None,
    /// ISO 9797-1 method 1: zeros where needed, one zero block for nothing.
    Zeros,
    /// ISO 9797-1 method 2: always 80, then zeros.
    One,
    /// ISO 9797-1 method 3: zeros, and a block with the length in bits in front.
    Length,
    /// 80 and zeros, but only where needed: secure-messaging encryption (not MACs).
    OneIfNeeded,
    /// PKCS #7.
    Pkcs7,
}

/// What is kept of a MAC's last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Truncation {
    /// The leftmost bytes.
    Left(usize),
    /// The rightmost bytes.
    Right(usize),
    /// 16 bytes XOR-folded to 8, then the leftmost.
    FoldLeft(usize),
    /// 16 bytes XOR-folded to 8 and again to 4.
    FoldTwice,
}

impl Truncation {
    /// Bytes that remain.
    pub fn len(self) -> usize {
        match self {
            Self::Left(n) | Self::Right(n) | Self::FoldLeft(n) => n,
            Self::FoldTwice => 4,
        }
    }

    /// Whether nothing remains, which no rule allows.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A mode of a block cipher.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CipherMode {
    /// Block by block.
    Ecb,
    /// Chained (SP 800-38A).
    Cbc {
        /// One block.
        initial: Input,
    },
    /// Authenticated (SP 800-38D, RFC 8998 for SM4); a 16-byte tag follows the ciphertext.
    Gcm {
        /// 12 bytes, never twice under one key.
        nonce: Input,
        /// Authenticated, not enciphered.
        associated: Message,
    },
}

impl Recipe {
    /// A recipe of one leg.
    pub fn single(path: KeyPath, finish: Finish) -> Self {
        Self { legs: vec![Leg { path, finish, when: When::Always }] }
    }

    /// How many key columns a batch for this recipe has.
    pub fn slots(&self) -> usize {
        self.paths().map(|path| path.slot + 1).max().unwrap_or(0)
    }

    /// Every key path, wrapping ones included.
    pub fn paths(&self) -> impl Iterator<Item = &KeyPath> {
        self.legs.iter().flat_map(|leg| std::iter::once(&leg.path).chain(leg.finish.other_path()))
    }

    /// Whether running it twice gives the same answer and leaves nothing behind: what may be retried or
    /// sent to two backends at once.
    pub fn is_repeatable(&self) -> bool {
        !self.legs.iter().any(|leg| matches!(leg.finish, Finish::Store { .. } | Finish::Sign { .. }))
    }
}

impl Leg {
    /// The earlier legs whose output this one reads; it runs only for rows that they ran for.
    pub fn reads(&self) -> Vec<usize> {
        let mut inputs: Vec<&Input> = Vec::new();
        for path in std::iter::once(&self.path).chain(self.finish.other_path()) {
            inputs.extend(path.inputs());
        }
        let mode_inputs = |mode: &'_ CipherMode| match mode {
            CipherMode::Ecb => Vec::new(),
            CipherMode::Cbc { initial } => vec![initial.clone()],
            CipherMode::Gcm { nonce, associated } => associated.0.iter().chain([nonce]).cloned().collect(),
        };
        let of_mode;
        match &self.finish {
            Finish::Mac { spec, message } => inputs.extend(message.0.iter().chain(&spec.initial)),
            Finish::VerifyMac { spec, message, expected } => {
                inputs.extend(message.0.iter().chain(&spec.initial).chain([expected]));
            }
            Finish::Encrypt { mode, data, .. } | Finish::Decrypt { mode, data } => {
                of_mode = mode_inputs(mode);
                inputs.extend(data.0.iter().chain(&of_mode));
            }
            Finish::Wrap { format: WrapFormat::Ecb { prefix, .. }, .. } => inputs.extend(&prefix.0),
            Finish::Sign { message, .. } => inputs.extend(&message.0),
            Finish::VerifySignature { message, signature, .. } => inputs.extend(message.0.iter().chain([signature])),
            Finish::Kcv { .. }
            | Finish::Store { .. }
            | Finish::Envelop { .. }
            | Finish::PublicKey
            | Finish::Wrap { format: WrapFormat::KeyWrap | WrapFormat::KeyBlock(_), .. } => {}
        }
        inputs.into_iter().filter_map(Input::output).collect()
    }
}

impl KeyPath {
    /// The earlier legs whose output the steps read; a row that they did not run for has no key here.
    pub fn reads(&self) -> Vec<usize> {
        self.inputs().filter_map(Input::output).collect()
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.steps.iter().filter_map(|step| match step {
            Step::Disperse { factor: input, .. } | Step::Session { input } => Some(input),
            Step::FoldHalves { .. } => None,
        })
    }
}

impl Input {
    /// The leg that puts it out, if one does.
    fn output(&self) -> Option<usize> {
        if let Self::Output(leg) = self { Some(*leg) } else { None }
    }
}

impl Finish {
    /// Whether it makes something new, which only an active key may.
    pub fn protects(&self) -> bool {
        matches!(
            self,
            Self::Mac { .. }
                | Self::Encrypt { .. }
                | Self::Wrap { .. }
                | Self::Envelop { .. }
                | Self::Store { .. }
                | Self::Sign { .. }
        )
    }

    /// Whether it gives a verdict, which a later leg may depend on.
    pub fn verifies(&self) -> bool {
        matches!(self, Self::VerifyMac { .. } | Self::VerifySignature { .. })
    }

    /// Whether it gives bytes, which a later leg may read.
    pub fn puts_out(&self) -> bool {
        !self.verifies() && !matches!(self, Self::Store { .. })
    }

    /// The second key path of a finish that needs one: the wrapping key, or K'' of a MAC.
    pub fn other_path(&self) -> Option<&KeyPath> {
        match self {
            Self::Wrap { under, .. } => Some(under),
            Self::Mac { spec, .. } | Self::VerifyMac { spec, .. } => spec.second.as_ref(),
            _ => None,
        }
    }

    /// The verb, as policies, profiles and audit records name it.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Mac { .. } => "mac",
            Self::VerifyMac { .. } => "verify-mac",
            Self::Encrypt { .. } => "encrypt",
            Self::Decrypt { .. } => "decrypt",
            Self::Kcv { .. } => "kcv",
            Self::Wrap { .. } => "wrap",
            Self::Envelop { .. } => "envelop",
            Self::PublicKey => "public-key",
            Self::Store { .. } => "store",
            Self::Sign { .. } => "sign",
            Self::VerifySignature { .. } => "verify-signature",
        }
    }
}
