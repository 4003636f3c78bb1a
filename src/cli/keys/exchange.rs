//! `claviger keys unwrap`, `export` and `public-key`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use claviger_client::{
    Client, EnvelopeForm, ExportKey, ExportedKey, Key, KeyReference, PublicKey, UnwrapKey, WrappedKey,
};

use super::{Description, Selection, reference};
use crate::cli::output::Output;

/// How keys go from one party to another.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// ANSI X9.143 (TR-31) or ISO 20038, under a key of role KBPK
    KeyBlock,
    /// ECB with a check value, under a key of role KEK
    Ecb,
    /// SM2 envelope, for a key of role EXCHANGE
    Sm2Envelope,
}

/// What two parties agree on beside the form.
#[derive(Args)]
struct Agreed {
    /// The layout of SM2 envelopes: sdf (GM/T 0018), skf (GM/T 0016), der (GM/T 0009)
    #[arg(long, value_name = "NAME", default_value = "sdf")]
    layout: String,
    /// The integers of SM2 structures are big endian
    #[arg(long)]
    big_endian: bool,
    /// What stands first in the envelope of an SM2 key pair of layout sdf
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u32,
    /// What fills up keys in ECB that are no whole blocks: none, one-if-partial, zeros-if-partial
    #[arg(long, value_name = "NAME", default_value = "none")]
    padding: String,
}

impl Agreed {
    fn envelope(self) -> EnvelopeForm {
        EnvelopeForm { name: self.layout, big_endian: self.big_endian, first: self.first }
    }
}

#[derive(Args)]
pub(in crate::cli) struct Unwrap {
    #[command(flatten)]
    description: Description,
    /// The form that it came in
    #[arg(long, value_enum, default_value = "key-block")]
    form: Form,
    /// The key that it is wrapped under, as SCHEME/ROLE/VERSION/ALGORITHM
    #[arg(long, value_name = "KEY")]
    under: String,
    /// The file that it came in: a key block as text, anything else in hexadecimal
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The check value that the key must show; needed for ECB
    #[arg(long, value_name = "HEX")]
    kcv: Option<String>,
    /// The key block is of Claviger's own form under SM4
    #[arg(long)]
    sm4_local: bool,
    #[command(flatten)]
    agreed: Agreed,
}

#[derive(Args)]
pub(in crate::cli) struct Export {
    #[command(flatten)]
    selection: Selection,
    /// The form that it leaves in
    #[arg(long, value_enum, default_value = "key-block")]
    form: Form,
    /// The key that it is wrapped under, as SCHEME/ROLE/VERSION/ALGORITHM
    #[arg(long, value_name = "KEY")]
    under: Option<String>,
    /// The other party's SM2 public key, in hexadecimal
    #[arg(long, value_name = "HEX")]
    recipient: Option<String>,
    /// The key block's version: B, D, E, or D-SM4
    #[arg(long, value_name = "VERSION", default_value = "D")]
    block: String,
    /// What the other party may do with it, if less than may be done here: an X9.143 mode of use
    #[arg(long, value_name = "LETTER")]
    mode: Option<String>,
    /// Whether it may leave the other party: N, E or S
    #[arg(long, value_name = "LETTER", default_value = "N")]
    exportability: String,
    /// The file to write it to; the output if none is named
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    agreed: Agreed,
}

impl Unwrap {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<Key> {
        let key = self.description.body()?;
        let under = reference(&key.tenant, &self.under)?;
        let came = read(&self.file)?;
        let wrapped = match self.form {
            Form::KeyBlock => WrappedKey::KeyBlock { block: came, sm4_local: self.sm4_local },
            Form::Ecb => WrappedKey::Ecb {
                ciphertext: came,
                kcv: self.kcv.clone().context("give --kcv: a key in ECB comes with its check value")?,
                padding: self.agreed.padding,
                function: "ecb".to_owned(),
                input: "zero".to_owned(),
            },
            Form::Sm2Envelope => WrappedKey::Sm2Envelope { envelope: came, layout: self.agreed.envelope() },
        };
        Ok(client.post("/v1/keys/unwrap", &UnwrapKey { key, under, wrapped, kcv: self.kcv, held: None }).await?)
    }
}

impl Export {
    pub(super) async fn run(self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let key = self.selection.find(client).await?;
        let under = |under: Option<String>| -> anyhow::Result<KeyReference> {
            reference(&key.tenant, &under.context("give --under, the key that it is wrapped under")?)
        };
        let wanted = match self.form {
            Form::KeyBlock => ExportKey::KeyBlock {
                under: under(self.under)?,
                version: self.block,
                mode: self.mode,
                exportability: self.exportability,
            },
            Form::Ecb => ExportKey::Ecb { under: under(self.under)?, padding: self.agreed.padding },
            Form::Sm2Envelope => ExportKey::Sm2Envelope {
                recipient: self.recipient.context("give --recipient, the other party's public key")?,
                layout: self.agreed.envelope(),
            },
        };
        if let Some(path) = self.out.as_deref().filter(|path| path.exists()) {
            bail!("{} is there already", path.display());
        }
        let exported: ExportedKey = client.post(&format!("/v1/keys/{}/export", key.id), &wanted).await?;
        match &self.out {
            Some(path) => {
                std::fs::write(path, format!("{}\n", exported.wrapped))
                    .with_context(|| format!("{} cannot be written", path.display()))?;
                output.result(&exported, || format!("{} kcv {}", path.display(), exported.kcv));
            }
            None => {
                output.say(format!("check value {}", exported.kcv));
                output.result(&exported, || exported.wrapped.clone());
            }
        }
        Ok(())
    }
}

pub(super) async fn public_key(selection: Selection, client: &Client, output: &Output) -> anyhow::Result<()> {
    let key = selection.find(client).await?;
    let public: PublicKey = client.get(&format!("/v1/keys/{}/public-key", key.id), &()).await?;
    output.result(&public, || public.public_key.clone());
    Ok(())
}

/// What comes has at most some thousand characters.
const LONGEST: u64 = 64 << 10;

pub(in crate::cli) fn read(path: &Path) -> anyhow::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    file.take(LONGEST).read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(text.split_whitespace().collect())
}
