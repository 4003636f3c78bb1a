//! Ceremonies: each one's transcript, line by line.

use sqlx::Row;

use super::{Store, StoreError};

impl Store {
    /// Adds a ceremony with its first line.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_ceremony(&self, id: &str, tenant: &str, line: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("INSERT INTO ceremonies (id, tenant) VALUES (?, ?)")
            .bind(id)
            .bind(tenant)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO ceremony_lines (ceremony_id, n, line) VALUES (?, 1, ?)")
            .bind(id)
            .bind(line)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    /// Adds a line to one.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if it has one of that number.
    pub async fn add_ceremony_line(&self, id: &str, n: u64, line: &str) -> Result<(), StoreError> {
        let added = sqlx::query("INSERT OR IGNORE INTO ceremony_lines (ceremony_id, n, line) VALUES (?, ?, ?)")
            .bind(id)
            .bind(i64::try_from(n).unwrap_or(i64::MAX))
            .bind(line)
            .execute(self.writable()?)
            .await?;
        if added.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    /// Whose a ceremony is; none if there is none of that id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tenant_of_ceremony(&self, id: &str) -> Result<Option<String>, StoreError> {
        let find = sqlx::query("SELECT tenant FROM ceremonies WHERE id = ?").bind(id);
        Ok(find.fetch_optional(&self.pool).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// The transcript of one, each line with its end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn transcript(&self, id: &str) -> Result<String, StoreError> {
        let list = sqlx::query("SELECT line FROM ceremony_lines WHERE ceremony_id = ? ORDER BY n").bind(id);
        let mut text = String::new();
        for row in list.fetch_all(&self.pool).await? {
            text.push_str(row.try_get(0)?);
            text.push('\n');
        }
        Ok(text)
    }

    /// Ids of all ceremonies.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all_ceremonies(&self) -> Result<Vec<String>, StoreError> {
        let list = sqlx::query("SELECT id FROM ceremonies ORDER BY rowid");
        list.fetch_all(&self.pool).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Ids of a tenant's ceremonies, those opened last first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ceremonies(&self, tenant: &str) -> Result<Vec<String>, StoreError> {
        let list = sqlx::query("SELECT id FROM ceremonies WHERE tenant = ? ORDER BY rowid DESC").bind(tenant);
        list.fetch_all(&self.pool).await?.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }
}
