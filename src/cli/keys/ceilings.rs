//! `claviger keys raise-ceiling` and `lower-ceiling`.

use clap::Args;
use claviger_client::{Client, Key, RaiseCeiling};

use super::Selection;

#[derive(Args)]
pub(in crate::cli) struct Raise {
    #[command(flatten)]
    selection: Selection,
    /// The most that may leave meanwhile: session-key or card-key
    #[arg(long, value_name = "CEILING")]
    to: String,
    /// For how long, from when it is done: 30m, 8h; up to 168h
    #[arg(long = "for", value_name = "TIME")]
    lasting: String,
}

impl Raise {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<Key> {
        let key = self.selection.find(client).await?;
        let raise = RaiseCeiling { ceiling: self.to, lasting: self.lasting };
        Ok(client.post(&format!("/v1/keys/{}/ceiling", key.id), &raise).await?)
    }
}

pub(super) async fn lower(selection: Selection, client: &Client) -> anyhow::Result<Key> {
    let key = selection.find(client).await?;
    Ok(client.delete(&format!("/v1/keys/{}/ceiling", key.id)).await?)
}
