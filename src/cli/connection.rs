//! Which daemon, and who we are to it.

use anyhow::{Context, bail};
use std::path::Path;
use std::sync::Arc;

use claviger_client::{Client, Connection, key_pem, needs_passphrase};
use claviger_key_ceremonies::PersonalKey;
use zeroize::Zeroizing;

use super::Global;
use super::dev::Directory;
use super::token_key::{TlsKey, TokenKey, is_in_token};
use crate::permissions::{Loose, only_one_person_reads};

/// Refuses a file with a secret of somebody's that others can read. What is not there is said where it is used.
pub(super) fn nobody_else_reads(file: &Path) -> anyhow::Result<()> {
    match only_one_person_reads(file) {
        Err(Loose::Look { .. }) | Ok(()) => Ok(()),
        Err(loose) => Err(loose.into()),
    }
}

impl Global {
    /// A client by `--data DIR --as NAME`, or by `--url --ca --cert --key`.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.connection()?)?.approved(self.approval.clone()))
    }

    /// Where the daemon is, and the certificate that we show it.
    pub(super) fn connection(&self) -> anyhow::Result<Connection> {
        let mut connection = match (&self.url, &self.data) {
            (Some(url), _) => {
                let missing = "with --url, give --ca, --cert and --key as well";
                Connection {
                    url: url.clone(),
                    ca: self.ca.clone().context(missing)?,
                    certificate: self.cert.clone().context(missing)?,
                    key: self.key.clone().context(missing)?,
                    passphrase: None,
                    signer: None,
                }
            }
            (None, Some(data)) => {
                let name = self
                    .name
                    .as_deref()
                    .context("say who you are with --as NAME (card-management, clearing, officer ...)")?;
                Directory::at(data).connection(name)?
            }
            (None, None) => bail!(
                "say which daemon: --data DIR --as NAME for a development daemon, or --url with --ca, --cert and --key"
            ),
        };
        if let Some(key) = self.key_in_token(&connection.key)? {
            connection.signer = Some(Arc::new(TlsKey(key)));
        } else {
            connection.passphrase = self.passphrase_of(&connection.key)?;
        }
        Ok(connection)
    }

    /// A person's key, to sign with.
    pub(super) fn personal_key(&self, certificate: &Path, key: &Path) -> anyhow::Result<PersonalKey> {
        let certificate = std::fs::read_to_string(certificate).with_context(|| certificate.display().to_string())?;
        if let Some(key) = self.key_in_token(key)? {
            let sign = move |text: &[u8]| key.sign(text).map_err(|error| format!("{error:#}"));
            return Ok(PersonalKey::elsewhere(certificate, Box::new(sign))?);
        }
        let passphrase = self.passphrase_of(key)?;
        let pem = key_pem(key, passphrase.as_deref().map(String::as_str))?;
        Ok(PersonalKey::from_pem(certificate, &pem)?)
    }

    /// The key, if it is in a token; that is opened once.
    fn key_in_token(&self, key: &Path) -> anyhow::Result<Option<Arc<TokenKey>>> {
        let Some(uri) = key.to_str().filter(|_| is_in_token(key)) else { return Ok(None) };
        if let Some(known) = self.token.get() {
            return Ok(Some(Arc::clone(known)));
        }
        let opened = Arc::new(TokenKey::open(uri)?);
        Ok(Some(Arc::clone(self.token.get_or_init(|| opened))))
    }

    /// The passphrase that a key is under, if it is under one: of the file that was named, or of whoever sits here.
    fn passphrase_of(&self, key: &Path) -> anyhow::Result<Option<Zeroizing<String>>> {
        if let Some(known) = self.passphrase.get() {
            return Ok(known.clone());
        }
        nobody_else_reads(key)?;
        let given = match &self.passphrase_file {
            // What is not there is said where the key is used.
            _ if !needs_passphrase(key).unwrap_or(false) => None,
            Some(file) => {
                nobody_else_reads(file)?;
                let text = Zeroizing::new(std::fs::read_to_string(file).with_context(|| file.display().to_string())?);
                Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            None => {
                let prompt = format!("Passphrase of {}: ", key.display());
                let typed = rpassword::prompt_password(prompt).context(
                    "the key is under a passphrase: there must be a terminal to type it at, or --key-passphrase-file",
                )?;
                Some(Zeroizing::new(typed))
            }
        };
        Ok(self.passphrase.get_or_init(|| given).clone())
    }
}
