//! Counters of terminals whose PSAM is the service: what was given once is never given again, not even by a restored store.

use sqlx::Row;

use super::{Store, StoreError};

/// Named so once a store was restored; it says when.
const RESTORED: &str = "restored";

impl Store {
    /// The next number of a terminal, from one; on disk when this returns, so that none is given twice.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the counter is used up, [`StoreError::Held`] in a restored store where nobody has set it.
    pub async fn next_ttc(&self, tenant: &str, terminal_id: &str) -> Result<u32, StoreError> {
        let mut transaction = self.begin().await?;
        let restored = sqlx::query("SELECT 1 FROM meta WHERE name = ?").bind(RESTORED);
        let next = match restored.fetch_optional(&mut *transaction).await? {
            // Of a terminal that it has never heard of it knows just as little.
            Some(_) => {
                "UPDATE terminals SET ttc = ttc + 1 WHERE tenant = ? AND terminal_id = ? AND held = 0 RETURNING ttc"
            }
            None => {
                "INSERT INTO terminals (tenant, terminal_id, ttc) VALUES (?, ?, 1)
                 ON CONFLICT (tenant, terminal_id) DO UPDATE SET ttc = ttc + 1 RETURNING ttc"
            }
        };
        let next = sqlx::query(next).bind(tenant).bind(terminal_id).fetch_optional(&mut *transaction).await?;
        let next: i64 = next.ok_or(StoreError::Held)?.try_get(0)?;
        let next = u32::try_from(next).map_err(|_| StoreError::Conflict)?;
        transaction.commit().await?;
        Ok(next)
    }

    /// The last number that a terminal has used, as far as is known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn last_ttc(&self, tenant: &str, terminal_id: &str) -> Result<u32, StoreError> {
        let last = sqlx::query("SELECT ttc FROM terminals WHERE tenant = ? AND terminal_id = ?");
        let last = last.bind(tenant).bind(terminal_id).fetch_optional(&self.pool).await?;
        let last: i64 = last.map_or(Ok(0), |row| row.try_get(0))?;
        u32::try_from(last).map_err(|_| StoreError::Conflict)
    }

    /// Sets the last number that a terminal has used; never a lower one than is known.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a higher one is known.
    pub async fn set_ttc(&self, tenant: &str, terminal_id: &str, last: u32) -> Result<(), StoreError> {
        let set = "INSERT INTO terminals (tenant, terminal_id, ttc, held) VALUES (?, ?, ?, 0)
            ON CONFLICT (tenant, terminal_id) DO UPDATE SET ttc = excluded.ttc, held = 0 WHERE excluded.ttc >= ttc";
        let set =
            sqlx::query(set).bind(tenant).bind(terminal_id).bind(i64::from(last)).execute(self.writable()?).await?;
        if set.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// Makes a copy of a store one that goes on: what may have happened since it was made is not done again. Terminals wait
    /// for their counters, and what others had approved is approved no longer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn go_on_from_backup(&self, created: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE terminals SET held = 1").execute(&mut *transaction).await?;
        sqlx::query("UPDATE proposals SET state = 'refused' WHERE state = 'open'").execute(&mut *transaction).await?;
        sqlx::query("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)")
            .bind(RESTORED)
            .bind(created)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}
