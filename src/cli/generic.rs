//! `claviger mac`, `encrypt`, `decrypt`, `sign`, `verify-signature`, `derive`, `random`: work with stored keys.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Args, Subcommand};
use claviger_client::{
    CipherItem, CipherResult, Client, Decrypt, DisperseKey, Encrypt, Key, KeyReference, MacGenerate, MacItem,
    MacResult, MacVerify, RandomBytes, RandomRequest, Sign, SignResult, SignatureItem, Valid, VerifySignature,
};

use super::Global;
use super::output::Output;

/// A stored key.
#[derive(Args)]
pub(super) struct StoredKey {
    /// City or operator
    #[arg(long)]
    tenant: String,
    /// Card scheme
    #[arg(long, default_value = "generic")]
    scheme: String,
    /// What the scheme calls the key: MAC1, MAC3, CMAC, HMAC, DATA, SIGN ...
    #[arg(long)]
    role: String,
    /// Two hexadecimal digits
    #[arg(long)]
    version: String,
    /// sm4, aes128, 3des ...
    #[arg(long)]
    algorithm: String,
    /// A dispersion factor already in the key, root first
    #[arg(long = "factor", value_name = "HEX")]
    factors: Vec<String>,
}

/// Make and verify MACs under generic keys
#[derive(Subcommand)]
#[command(after_help = "Examples:
  claviger --data ./dev --as card-management mac generate 48656C6C6F --tenant demo \\
      --role CMAC --version 01 --algorithm sm4
  claviger --data ./dev --as clearing mac verify 48656C6C6F 8A1B2C3D4E5F6071 --tenant demo \\
      --role CMAC --version 01 --algorithm sm4")]
pub(super) enum Mac {
    /// Make the MAC of a message
    #[command(after_help = "Example:
  claviger --data ./dev --as card-management mac generate 48656C6C6F --tenant demo \\
      --role CMAC --version 01 --algorithm sm4")]
    Generate {
        /// The message, hexadecimal
        message: String,
        #[command(flatten)]
        key: Box<StoredKey>,
        /// Of CBC-MACs: none, zeros, one or length
        #[arg(long, default_value = "one")]
        padding: String,
        /// Leftmost bytes that are kept
        #[arg(long)]
        length: Option<usize>,
    },
    /// Verify the MAC of a message; exits 1 if it is wrong
    #[command(after_help = "Example:
  claviger --data ./dev --as clearing mac verify 48656C6C6F 8A1B2C3D4E5F6071 --tenant demo \\
      --role CMAC --version 01 --algorithm sm4")]
    Verify {
        /// The message, hexadecimal
        message: String,
        /// The MAC, hexadecimal
        mac: String,
        #[command(flatten)]
        key: Box<StoredKey>,
        /// Of CBC-MACs: none, zeros, one or length
        #[arg(long, default_value = "one")]
        padding: String,
    },
}

/// Encipher under a generic key
#[derive(Args)]
#[command(after_help = "Example:
  claviger --data ./dev --as card-management encrypt 48656C6C6F --tenant demo \\
      --role DATA --version 01 --algorithm aes128")]
pub(super) struct Encipher {
    /// The text, hexadecimal
    data: String,
    #[command(flatten)]
    key: StoredKey,
    /// ecb, cbc or gcm
    #[arg(long, default_value = "gcm")]
    mode: String,
    /// Of ECB and CBC: none, zeros, one or pkcs7
    #[arg(long, default_value = "pkcs7")]
    padding: String,
    /// Authenticated by GCM, not enciphered, hexadecimal
    #[arg(long, value_name = "HEX", default_value = "")]
    associated: String,
}

/// Decipher under a generic key; exits 1 if a ciphertext is not authentic, or its padding is none
#[derive(Args)]
#[command(after_help = "Example:
  claviger --data ./dev --as card-management decrypt 1F2E3D4C5B6A... --tenant demo \\
      --role DATA --version 01 --algorithm aes128 --iv 0102030405060708090A0B0C")]
pub(super) struct Decipher {
    /// The ciphertext, hexadecimal
    data: String,
    #[command(flatten)]
    key: StoredKey,
    /// ecb, cbc or gcm
    #[arg(long, default_value = "gcm")]
    mode: String,
    /// Of ECB and CBC, taken off the text: none, one or pkcs7
    #[arg(long, default_value = "pkcs7")]
    padding: String,
    /// Initial value or nonce, hexadecimal
    #[arg(long, value_name = "HEX")]
    iv: Option<String>,
    /// Authenticated by GCM, not enciphered, hexadecimal
    #[arg(long, value_name = "HEX", default_value = "")]
    associated: String,
}

/// Sign with an SM2 key
#[derive(Args)]
#[command(after_help = "Example:
  claviger --data ./dev --as card-management sign 48656C6C6F --tenant demo \\
      --role SIGN --version 01 --algorithm sm2")]
pub(super) struct SignMessage {
    /// The message, hexadecimal
    message: String,
    #[command(flatten)]
    key: StoredKey,
    /// The signer's identity
    #[arg(long, default_value = "1234567812345678")]
    signer_id: String,
}

/// Verify an SM2 signature; exits 1 if it is wrong
#[derive(Args)]
#[command(after_help = "Example:
  claviger --data ./dev --as clearing verify-signature 48656C6C6F 5D1C... --tenant demo \\
      --role SIGN --version 01 --algorithm sm2")]
pub(super) struct VerifyMessage {
    /// The message, hexadecimal
    message: String,
    /// `r || s`, hexadecimal
    signature: String,
    #[command(flatten)]
    key: StoredKey,
    /// The signer's identity
    #[arg(long, default_value = "1234567812345678")]
    signer_id: String,
}

/// Disperse a stored key to a child that stays inside, as a key of its own
#[derive(Args)]
#[command(
    after_help = "Example: a city's own TAC key from the root's\n  claviger --data ./dev --as officer derive --tenant demo --scheme cjt166 \\\n      --role DTK --version 01 --algorithm 3des --child 1150FF0000000000"
)]
pub(super) struct Derive {
    #[command(flatten)]
    key: StoredKey,
    /// The factor of the next level, root first; several for several levels
    #[arg(long = "child", value_name = "HEX", required = true)]
    children: Vec<String>,
}

/// Random bytes of a backend's generator
#[derive(Args)]
#[command(after_help = "Example:
  claviger --data ./dev --as card-management random 16")]
pub(super) struct Random {
    /// How many, 1 to 1024
    len: usize,
}

impl Mac {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let client = global.client()?;
        match self {
            Self::Generate { message, key, padding, length } => {
                let request = MacGenerate { key: key.reference(), padding, length, messages: vec![message] };
                let made: MacResult = client.post("/v1/mac/generate", &request).await?;
                output.result(&made, || made.macs.join("\n"));
                Ok(ExitCode::SUCCESS)
            }
            Self::Verify { message, mac, key, padding } => {
                let request = MacVerify { key: key.reference(), padding, items: vec![MacItem { message, mac }] };
                told(&client.post("/v1/mac/verify", &request).await?, output)
            }
        }
    }
}

impl Encipher {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let item = CipherItem { data: self.data, iv: None, associated: self.associated };
        let request = Encrypt { key: self.key.reference(), mode: self.mode, padding: self.padding, items: vec![item] };
        cipher(&global.client()?, "/v1/encrypt", &request, output).await
    }
}

impl Decipher {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let item = CipherItem { data: self.data, iv: self.iv, associated: self.associated };
        let request = Decrypt { key: self.key.reference(), mode: self.mode, padding: self.padding, items: vec![item] };
        cipher(&global.client()?, "/v1/decrypt", &request, output).await
    }
}

impl SignMessage {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let request = Sign { key: self.key.reference(), signer_id: self.signer_id, messages: vec![self.message] };
        let made: SignResult = global.client()?.post("/v1/sign", &request).await?;
        output.result(&made, || made.signatures.join("\n"));
        Ok(ExitCode::SUCCESS)
    }
}

impl VerifyMessage {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let items = vec![SignatureItem { message: self.message, signature: self.signature }];
        let request = VerifySignature { key: self.key.reference(), signer_id: self.signer_id, items };
        told(&global.client()?.post("/v1/verify-signature", &request).await?, output)
    }
}

impl Derive {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let request = DisperseKey { parent: self.key.reference(), factors: self.children };
        let key: Key = global.client()?.post("/v1/keys/disperse", &request).await?;
        output.result(&key, || super::keys::line(&key));
        Ok(ExitCode::SUCCESS)
    }
}

impl Random {
    pub(super) async fn run(self, global: &Global, output: &Output) -> anyhow::Result<ExitCode> {
        let drawn: RandomBytes = global.client()?.post("/v1/random", &RandomRequest { len: self.len }).await?;
        output.result(&drawn, || drawn.bytes.clone());
        Ok(ExitCode::SUCCESS)
    }
}

impl StoredKey {
    fn reference(self) -> KeyReference {
        let Self { tenant, scheme, role, version, algorithm, factors } = self;
        KeyReference { tenant, scheme, role, version, algorithm, factors }
    }
}

async fn cipher(
    client: &Client,
    path: &str,
    request: &impl serde::Serialize,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let CipherResult { items } = client.post(path, request).await?;
    let [item] = items.as_slice() else { bail!("the daemon answered for {} texts", items.len()) };
    let Some(item) = item else {
        output.say("claviger: the ciphertext is not authentic");
        return Ok(ExitCode::from(1));
    };
    output.result(item, || match &item.iv {
        Some(iv) => format!("{}\niv {iv}", item.data),
        None => item.data.clone(),
    });
    Ok(ExitCode::SUCCESS)
}

/// Says whether one item was right.
fn told(found: &Valid, output: &Output) -> anyhow::Result<ExitCode> {
    let valid = found.valid == [true];
    output.result(found, || if valid { "valid" } else { "invalid" }.to_owned());
    Ok(if valid { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
