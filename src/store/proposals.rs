//! Operations that wait for approval, and what was said to them.

use sqlx::Row;

use super::{Store, StoreError};

/// A proposed operation.
#[derive(Debug, Clone)]
pub struct ProposalRow {
    /// Unique for ever.
    pub id: String,
    /// Whose keys it is about.
    pub tenant: String,
    /// Who asked for it.
    pub proposer: String,
    /// The statement, as the service writes it.
    pub statement: String,
    /// `open`, `used` or `refused`.
    pub state: String,
}

/// What one officer said to it.
#[derive(Debug, Clone)]
pub struct VoteRow {
    /// The proposal.
    pub proposal_id: String,
    /// Who.
    pub officer: String,
    /// `approve` or `refuse`.
    pub vote: String,
    /// Certificate and signature, as the service writes them.
    pub signed: String,
}

fn read(row: &sqlx::sqlite::SqliteRow) -> Result<ProposalRow, StoreError> {
    Ok(ProposalRow {
        id: row.try_get(0)?,
        tenant: row.try_get(1)?,
        proposer: row.try_get(2)?,
        statement: row.try_get(3)?,
        state: row.try_get(4)?,
    })
}

impl Store {
    /// Adds a proposal.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn propose(&self, row: &ProposalRow) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO proposals (id, tenant, proposer, statement, state) VALUES (?, ?, ?, ?, ?)")
            .bind(&row.id)
            .bind(&row.tenant)
            .bind(&row.proposer)
            .bind(&row.statement)
            .bind(&row.state)
            .execute(self.writable()?)
            .await?;
        Ok(())
    }

    /// The proposal of an id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn proposal(&self, id: &str) -> Result<Option<ProposalRow>, StoreError> {
        let find = sqlx::query("SELECT id, tenant, proposer, statement, state FROM proposals WHERE id = ?");
        find.bind(id).fetch_optional(&self.pool).await?.as_ref().map(read).transpose()
    }

    /// A tenant's proposals, those made last first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn proposals(&self, tenant: &str) -> Result<Vec<ProposalRow>, StoreError> {
        let list = "SELECT id, tenant, proposer, statement, state FROM proposals WHERE tenant = ? ORDER BY rowid DESC";
        sqlx::query(list).bind(tenant).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Those of a tenant that were neither used nor refused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_proposals(&self, tenant: &str) -> Result<Vec<ProposalRow>, StoreError> {
        let list = "SELECT id, tenant, proposer, statement, state FROM proposals WHERE tenant = ? AND state = 'open'";
        sqlx::query(list).bind(tenant).fetch_all(&self.pool).await?.iter().map(read).collect()
    }

    /// Adds what an officer says to a proposal that is open; a refusal closes it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the officer has spoken before, or the proposal is no longer open.
    pub async fn vote(&self, row: &VoteRow, refuses: bool) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let state = if refuses { "refused" } else { "open" };
        let open = sqlx::query("UPDATE proposals SET state = ? WHERE id = ? AND state = 'open'")
            .bind(state)
            .bind(&row.proposal_id)
            .execute(&mut *transaction)
            .await?;
        let voted = sqlx::query("INSERT OR IGNORE INTO votes (proposal_id, officer, vote, signed) VALUES (?, ?, ?, ?)")
            .bind(&row.proposal_id)
            .bind(&row.officer)
            .bind(&row.vote)
            .bind(&row.signed)
            .execute(&mut *transaction)
            .await?;
        if open.rows_affected() + voted.rows_affected() != 2 {
            return Err(StoreError::Conflict);
        }
        Ok(transaction.commit().await?)
    }

    /// What was said to a proposal, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn votes(&self, proposal_id: &str) -> Result<Vec<VoteRow>, StoreError> {
        let list = "SELECT proposal_id, officer, vote, signed FROM votes WHERE proposal_id = ? ORDER BY rowid";
        let rows = sqlx::query(list).bind(proposal_id).fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            Ok(VoteRow {
                proposal_id: row.try_get(0)?,
                officer: row.try_get(1)?,
                vote: row.try_get(2)?,
                signed: row.try_get(3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Takes the one use that an open proposal is good for.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it is no longer open.
    pub async fn use_proposal(&self, id: &str) -> Result<(), StoreError> {
        let used = sqlx::query("UPDATE proposals SET state = 'used' WHERE id = ? AND state = 'open'");
        let used = used.bind(id).execute(self.writable()?).await?;
        if used.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }
}
