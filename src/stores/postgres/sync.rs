//! The trigger that keeps derived columns true under live writes, from before the first chunk until the migration is over.
//!
//! How it decides, row by row:
//!
//! | write | what happens |
//! |---|---|
//! | INSERT | filled if `where` holds of the new row |
//! | UPDATE that names a column of `set` | left alone: its writer knows the new columns and says what they hold |
//! | UPDATE that changes what an expression reads | filled again, if `where` would hold were the columns still blank |
//! | UPDATE that changes the key, or what `where` reads | filled if `where` holds: a row can't slip behind the cursor |
//! | any other | not even called |
//!
//! Whether a write names a column isn't told by values: `UPDATE ... SET full_name = 'Mary Ann Smith', first_name = 'Mary
//! Ann'` leaves `first_name` as it was if it was that before, and must not be overruled. The server knows: a trigger
//! `UPDATE OF first_name` fires by name. So there are two triggers for UPDATE: the first fires by name and notes it in a
//! transaction-local setting, the second reads the note and clears it.
//!
//! An expression that fails on a row doesn't fail the application's write: the columns are left blank, so that the row
//! counts as one in need, and the backfill names it.
//!
//! The function runs as whoever writes. Its `search_path` is the one that the expressions were understood under. What it
//! doesn't protect from: a session with `session_replication_role = replica` is covered (the triggers fire always), a
//! superuser who switches them off is noticed ([`Sync::print`]), a row that leaves `where`, changes and comes back keeps
//! what it had.

use super::{
    assignments::{Column, Derivation},
    history::digest,
    ident::Ident,
    session::{QueryError, Session},
};

/// The triggers and the function of one phase's backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    id: String,
}

impl Sync {
    /// Of this migration's phase. Names are the same each time.
    pub fn of(migration_uid: &str, phase: &str) -> Self {
        let mut id = digest(&format!("alongside/backfill\0{migration_uid}\0{phase}"));
        id.truncate(12);
        Self { id }
    }

    /// Names of the triggers. They begin with a tilde so that they come last among those that run before a write: what
    /// other triggers have changed is seen.
    pub fn triggers(&self) -> Vec<String> {
        (1..=3).map(|number| format!("~alongside_{}_{number}", self.id)).collect()
    }

    /// Name of the function, in the schema `alongside`.
    pub fn function(&self) -> String {
        format!("sync_{}", self.id)
    }

    /// The transaction-local setting by which the first trigger tells the second.
    fn note(&self) -> String {
        format!("alongside.named_{}", self.id)
    }

    /// Makes function and triggers, in the transaction that is open, in place of what there may be. Takes a SHARE ROW
    /// EXCLUSIVE lock on the table to the end of the transaction: writers wait, and none is under way at the commit.
    pub async fn install(&self, session: &Session, of: &Derivation) -> Result<(), QueryError> {
        let path: String = session
            .value(
                "SELECT coalesce(string_agg(pg_catalog.quote_ident(schema), ', ' ORDER BY place), '')
                 FROM unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS path (schema, place)",
                &[],
            )
            .await?;
        // The table's lock first: whoever waits for it holds nothing yet.
        session.run(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", of.table.name)).await?;
        for statement in self.definition(of, &path) {
            session.run(&statement).await?;
        }
        Ok(())
    }

    /// The statements that make it. `path` is the search path that the expressions were understood under.
    pub fn definition(&self, of: &Derivation, path: &str) -> Vec<String> {
        let table = &of.table.name;
        let function = format!("alongside.{}", Ident(self.function()));
        let triggers: Vec<_> = self.triggers().into_iter().map(Ident).collect();
        let names: Vec<_> = of.assignments.iter().map(|assignment| assignment.column.name.to_string()).collect();
        let keys = of.key.columns.iter().map(|column| format!("OLD.{0} IS DISTINCT FROM NEW.{0}", column.name));
        let reads = of.sources.iter().chain(&of.conditions).map(old_differs_from_new);
        let changed: Vec<_> = reads.chain(keys).collect();
        let changed = changed.join(" OR ");
        let mut statements = vec![
            self.function_text(of, path),
            format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
            format!(
                "CREATE TRIGGER {} BEFORE UPDATE OF {} ON {table} FOR EACH ROW WHEN ({changed}) \
                 EXECUTE FUNCTION {function}('named')",
                triggers[0],
                names.join(", ")
            ),
            format!(
                "CREATE TRIGGER {} BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({changed}) \
                 EXECUTE FUNCTION {function}('changed')",
                triggers[1]
            ),
            format!(
                "CREATE TRIGGER {} BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {function}('inserted')",
                triggers[2]
            ),
        ];
        let drops = triggers.iter().map(|name| format!("DROP TRIGGER IF EXISTS {name} ON {table}"));
        statements.splice(0..0, drops);
        // Also for rows that logical replication applies.
        statements.extend(triggers.iter().map(|name| format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")));
        statements
    }

    fn function_text(&self, of: &Derivation, path: &str) -> String {
        let note = self.note();
        let path = if path.is_empty() { String::new() } else { format!("{path}, ") };
        let targets: Vec<_> =
            of.assignments.iter().map(|assignment| format!("NEW.{}", assignment.column.name)).collect();
        let expressions: Vec<_> =
            of.assignments.iter().map(|assignment| format!("({})", assignment.expression)).collect();
        let blank_targets: Vec<_> = of
            .assignments
            .iter()
            .map(|assignment| format!("NEW.{} := {};", assignment.column.name, assignment.blank))
            .collect();
        let read: Vec<_> =
            of.sources.iter().chain(&of.conditions).map(|column| format!("NEW.{0} AS {0}", column.name)).collect();
        let set = of.assignments.iter();
        let as_written: Vec<_> = set.clone().map(|of| format!("NEW.{0} AS {0}", of.column.name)).collect();
        let blank: Vec<_> = set.map(|of| format!("{} AS {}", of.blank, of.column.name)).collect();
        let sources: Vec<_> = of.sources.iter().map(old_differs_from_new).collect();
        // Expressions may read nothing at all.
        let source_changed = if sources.is_empty() { "false".to_owned() } else { sources.join(" OR ") };
        let row = |more: &[String]| read.iter().chain(more).cloned().collect::<Vec<_>>().join(", ");
        let filter = &of.filter;
        format!(
            "CREATE OR REPLACE FUNCTION alongside.{name}() RETURNS trigger LANGUAGE plpgsql \
             SET search_path TO pg_catalog, {path}pg_temp AS $alongside$
#variable_conflict use_column
DECLARE
    wanted boolean;
BEGIN
    IF TG_ARGV[0] = 'named' THEN
        PERFORM pg_catalog.set_config('{note}', 'on', true);
        RETURN NEW;
    END IF;
    IF TG_ARGV[0] = 'changed' AND pg_catalog.current_setting('{note}', true) = 'on' THEN
        PERFORM pg_catalog.set_config('{note}', 'off', true);
        RETURN NEW;
    END IF;
    BEGIN
        IF TG_ARGV[0] = 'inserted' THEN
            SELECT ({filter}) INTO wanted FROM (SELECT {as_written}) AS new_row;
        ELSIF {source_changed} THEN
            SELECT ({filter}) INTO wanted FROM (SELECT {as_blank}) AS new_row;
        ELSE
            SELECT ({filter}) INTO wanted FROM (SELECT {as_written}) AS new_row;
        END IF;
        IF wanted THEN
            SELECT {expressions} INTO {targets} FROM (SELECT {as_written}) AS new_row;
        END IF;
    EXCEPTION WHEN others THEN
        RAISE LOG 'alongside: left columns of % blank: %', TG_RELID::regclass, SQLERRM;
        {blank_targets}
    END;
    RETURN NEW;
END
$alongside$",
            name = Ident(self.function()),
            as_written = row(&as_written),
            as_blank = row(&blank),
            expressions = expressions.join(", "),
            targets = targets.join(", "),
            blank_targets = blank_targets.join("\n        "),
        )
    }

    /// What the triggers and the function are like; `None` where one is absent or switched off. Another text means that
    /// they were away for a time, however short.
    pub async fn print(&self, session: &Session, table: u32) -> Result<Option<String>, QueryError> {
        let (triggers, function) = (self.triggers(), self.function());
        session.value(include_str!("sql/sync_state.sql"), &[&table, &triggers, &function]).await
    }

    /// Drops triggers and function, in the transaction that is open. What is absent is no error.
    pub async fn remove(&self, session: &Session) -> Result<(), QueryError> {
        // By what is there, not by the table's name: it may have been renamed.
        let rows = session
            .rows(
                "SELECT DISTINCT schema.nspname::text AS schema, relation.relname::text AS name
                 FROM pg_catalog.pg_trigger AS live
                 JOIN pg_catalog.pg_class AS relation ON relation.oid = live.tgrelid
                 JOIN pg_catalog.pg_namespace AS schema ON schema.oid = relation.relnamespace
                 WHERE live.tgname = ANY ($1::text[])
                     AND live.tgparentid = 0",
                &[&self.triggers()],
            )
            .await?;
        for row in &rows {
            let table = super::ident::QualifiedName { schema: row.get("schema"), name: row.get("name") };
            for trigger in self.triggers() {
                session.run(&format!("DROP TRIGGER IF EXISTS {} ON {table}", Ident(trigger))).await?;
            }
        }
        session.run(&format!("DROP FUNCTION IF EXISTS alongside.{}()", Ident(self.function()))).await
    }

    /// What is left of it, by name: nothing, after [`Sync::remove`].
    pub async fn left(&self, session: &Session) -> Result<Vec<String>, QueryError> {
        let rows = session.rows(include_str!("sql/sync_left.sql"), &[&self.triggers(), &self.function()]).await?;
        Ok(rows.iter().map(|row| row.get("what")).collect())
    }

    /// Other row triggers that an UPDATE of the columns fires.
    pub async fn company(&self, session: &Session, of: &Derivation) -> Result<Vec<Company>, QueryError> {
        let numbers: Vec<i16> = of.assignments.iter().map(|assignment| assignment.column.number).collect();
        let rows =
            session.rows(include_str!("sql/sync_company.sql"), &[&of.table.oid, &self.triggers(), &numbers]).await?;
        let company = |row: &tokio_postgres::Row| Company {
            name: row.get("name"),
            is_before: row.get("is_before"),
            comes_last: row.get("comes_last"),
            on_update: row.get("on_update"),
        };
        Ok(rows.iter().map(company).collect())
    }

    /// Roles that write the table but may not call what the trigger calls on their behalf, each with the function.
    pub async fn shut_out(session: &Session, of: &Derivation) -> Result<Vec<(String, String)>, QueryError> {
        if of.functions.is_empty() {
            return Ok(Vec::new());
        }
        let rows = session.rows(include_str!("sql/sync_callers.sql"), &[&of.table.oid, &of.functions]).await?;
        Ok(rows.iter().map(|row| (row.get("role"), row.get("function"))).collect())
    }
}

/// Another trigger beside ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Company {
    /// Its name.
    pub name: String,
    /// It runs before the write.
    pub is_before: bool,
    /// It runs after ours, before the write.
    pub comes_last: bool,
    /// An UPDATE of the columns that are set fires it.
    pub on_update: bool,
}

fn old_differs_from_new(column: &Column) -> String {
    column.differs(&format!("OLD.{}", column.name), &format!("NEW.{}", column.name))
}
