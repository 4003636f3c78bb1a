//! Backups, and the counters that a restored daemon must be told.

use std::io::{self, Write};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use claviger_client::{Health, SetTerminal};
use futures_util::stream::poll_fn;
use tokio::sync::mpsc;

use super::document::Binary;
use super::problem::Problems;
use super::{Refusal, State, body, bytes, execute};
use crate::operation::Operation;
use crate::service::{Caller, Outcome};

/// Pieces of a backup that may wait for the connection.
const WAITING: usize = 4;
/// Bytes of a terminal's id.
const TERMINAL: usize = 6;

/// A backup of store and audit log as they are now, encrypted under a key that follows from the storage master key.
#[utoipa::path(post, path = "/v1/backup", tag = "status",
    responses((status = 200, description = "The backup", body = Binary, content_type = "application/octet-stream"), Problems))]
pub(super) async fn back_up(Shared(state): Shared<State>, caller: Caller) -> Result<Response, Refusal> {
    let Outcome::Backup(backup) = execute(&state.service, caller, Operation::BackUp).await? else {
        return Err(Refusal::unexpected());
    };
    let (pieces, mut waiting) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let broken = pieces.clone();
        if let Err(error) = backup.write(Pieces(pieces)) {
            // A stream that breaks off is no backup, and whoever reads it finds out.
            tracing::error!(%error, "a backup was not finished");
            let _ = broken.blocking_send(Err(io::Error::other("the backup was not finished")));
        }
    });
    let pieces = poll_fn(move |context| waiting.poll_recv(context));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(pieces)).into_response())
}

/// Says the last number that a terminal has used: a restored daemon gives it none before.
#[utoipa::path(post, path = "/v1/terminals", tag = "status", request_body = SetTerminal,
    responses((status = 200, description = "It is set", body = Health), Problems))]
pub(super) async fn set_terminal(
    Shared(state): Shared<State>,
    caller: Caller,
    request: Request,
) -> Result<Json<Health>, Refusal> {
    let SetTerminal { tenant, terminal_id, last } = body(request, &state.limits).await?;
    let terminal = bytes("terminal_id", &terminal_id)?;
    if terminal.len() != TERMINAL {
        return Err(Refusal::field("terminal_id", "must be 12 hexadecimal digits"));
    }
    let terminal = hex::encode_upper(terminal);
    execute(&state.service, caller, Operation::SetTerminal { tenant, terminal, last }).await?;
    Ok(Json(Health { status: "ok".to_owned() }))
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .blocking_send(Ok(Bytes::copy_from_slice(bytes)))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
