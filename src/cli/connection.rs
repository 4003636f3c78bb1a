//! Which daemon, and who we are to it.

use anyhow::{Context, bail};
use claviger_client::{Client, Connection};

use super::Global;
use super::dev::Directory;

impl Global {
    /// A client by `--data DIR --as NAME`, or by `--url --ca --cert --key`.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.connection()?)?.approved(self.approval.clone()))
    }

    /// Where the daemon is, and the certificate that we show it.
    pub(super) fn connection(&self) -> anyhow::Result<Connection> {
        Ok(match (&self.url, &self.data) {
            (Some(url), _) => {
                let missing = "with --url, give --ca, --cert and --key as well";
                Connection {
                    url: url.clone(),
                    ca: self.ca.clone().context(missing)?,
                    certificate: self.cert.clone().context(missing)?,
                    key: self.key.clone().context(missing)?,
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
        })
    }
}
