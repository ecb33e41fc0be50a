//! What can be asked of a server before anything is done to it. Changes nothing.

use tokio_util::sync::CancellationToken;

use super::{
    connect::Postgres,
    index::{self, IndexState},
    session::{QueryError, Session},
    touched::Touched,
};
use crate::stores::finding::{Finding, Severity};

/// Oldest server that is supported: its `DROP INDEX CONCURRENTLY`, 64-bit transaction ids and progress views are needed.
const OLDEST_VERSION: i32 = 130_000;
/// Rule: the history can't be kept, nor perhaps read.
pub const NO_HISTORY_RIGHTS: &str = "no-history-rights";

/// Looks at whether the server is one that scripts can be run on. `postgres` is the way to a second session.
pub async fn suitability(
    session: &Session,
    postgres: &Postgres,
    stop: &CancellationToken,
) -> Result<Vec<Finding>, QueryError> {
    // First of all: behind such a pooler even the other questions may go astray.
    if shares_a_backend(session, postgres, stop).await? {
        return Ok(vec![error(
            "pooled-connection",
            "A pooler in transaction mode stands between: it hands one server session to several clients, so neither \
             locks nor settings of a session hold."
                .to_owned(),
            "Point the Secret's URI at the server itself, or at a pool in session mode.",
        )]);
    }
    let rows = session.rows(include_str!("sql/server.sql"), &[]).await?;
    let facts = rows.iter().map(|row| Facts {
        version_number: row.get("version_number"),
        version: row.get("version"),
        in_recovery: row.get("in_recovery"),
        read_only: row.get("read_only"),
    });
    Ok(facts.flat_map(judge).collect())
}

/// What a server says of itself.
struct Facts {
    version_number: i32,
    version: String,
    in_recovery: bool,
    read_only: bool,
}

fn judge(facts: Facts) -> Vec<Finding> {
    let Facts { version_number, version, in_recovery, read_only } = facts;
    let mut findings = Vec::new();
    if version_number < OLDEST_VERSION {
        let message = format!("The server runs PostgreSQL {version}; the oldest that is supported is 13.");
        findings.push(error("server-version", message, "Upgrade the server first."));
    }
    if in_recovery {
        let message = "The server is a standby, which takes no writes.".to_owned();
        findings.push(error("read-only-server", message, "Point the Secret's URI at the primary."));
    } else if read_only {
        let message = "The role or database is set to read-only transactions.".to_owned();
        let advice = "The worker writes all the same; make sure that this is wanted here.";
        findings.push(warning("read-only-default", message, advice));
    }
    findings
}

/// Whether two sessions that are open at the same time are one on the server. Not being able to open a second one is no
/// answer, and no reason to stop.
async fn shares_a_backend(
    session: &Session,
    postgres: &Postgres,
    stop: &CancellationToken,
) -> Result<bool, QueryError> {
    let Ok(second) = postgres.connect(stop).await else { return Ok(false) };
    let first_backend = session.backend().await?;
    let Ok(second_backend) = second.backend().await else { return Ok(false) };
    Ok(first_backend == second_backend)
}

/// Looks at whether the role may do what the scripts do, and keep their history.
pub async fn rights(session: &Session, touched: &Touched) -> Result<Vec<Finding>, QueryError> {
    let mut findings = Vec::new();
    let server = session.rows(include_str!("sql/server.sql"), &[]).await?;
    let role: String = server.first().map(|row| row.get("role")).unwrap_or_default();
    let rows = session.rows(include_str!("sql/layout_rights.sql"), &[]).await?;
    for row in &rows {
        if !row.get::<_, bool>("may_make") || !row.get::<_, bool>("may_use") {
            findings.push(error(
                NO_HISTORY_RIGHTS,
                format!("The role {role} may not keep the scripts' history in the schema `alongside`."),
                "Have an administrator run CREATE SCHEMA alongside AUTHORIZATION for this role, or grant it CREATE and \
                 USAGE on the schema and SELECT, INSERT and UPDATE on its tables.",
            ));
        }
    }
    let changed: Vec<&str> = touched.changed.iter().map(String::as_str).collect();
    for row in session.rows(include_str!("sql/foreign_owners.sql"), &[&changed]).await? {
        let (name, owner): (String, String) = (row.get("name"), row.get("owner"));
        findings.push(error(
            "not-owner",
            format!("The role {role} can't change {name}, which belongs to {owner}."),
            "Make the role a member of the owner, or use the owner's credentials in the Secret.",
        ));
    }
    let made_in: Vec<Option<&str>> = touched.made_in.iter().map(Option::as_deref).collect();
    for row in session.rows(include_str!("sql/closed_schemas.sql"), &[&made_in]).await? {
        let name: String = row.get("name");
        findings.push(error(
            "no-right-to-create",
            format!("The role {role} may not create anything in the schema {name}."),
            "Grant it CREATE on the schema.",
        ));
    }
    Ok(findings)
}

/// Looks at what the scripts would meet right now: leftovers of failed builds, and transactions they would wait for.
pub async fn obstacles(
    session: &Session,
    touched: &Touched,
    lock_timeout: std::time::Duration,
) -> Result<Vec<Finding>, QueryError> {
    let mut findings = Vec::new();
    for (name, table) in &touched.built {
        match index::state(session, name, table).await? {
            IndexState::Absent | IndexState::Valid => {}
            IndexState::Invalid(found) => findings.push(warning(
                "invalid-index",
                format!("{found} is INVALID: an earlier build of it failed."),
                "Nothing: it is dropped and built again.",
            )),
            IndexState::InProgress(found) => findings.push(warning(
                "index-in-progress",
                format!("Somebody is building {found} right now."),
                "Nothing: the script waits for it.",
            )),
            IndexState::Taken(found) => findings.push(error(
                "index-name-taken",
                format!("{found} exists and isn't an index of {table}."),
                "Give the index another name.",
            )),
        }
    }
    let changed: Vec<&str> = touched.changed.iter().map(String::as_str).collect();
    let sql = include_str!("sql/long_transactions.sql");
    let any_snapshot = !touched.built.is_empty();
    for row in session.rows(sql, &[&changed, &lock_timeout.as_secs_f64(), &any_snapshot]).await? {
        let (pid, seconds): (i32, i64) = (row.get("pid"), row.get("seconds"));
        let (application, state): (String, String) = (row.get("application_name"), row.get("state"));
        let what = match row.get::<_, Option<String>>("relation") {
            Some(relation) => format!("holds a lock on {relation}"),
            None => "has an old snapshot, for which a concurrent index build waits".to_owned(),
        };
        findings.push(warning(
            "long-transaction",
            format!("Backend {pid} ({application}, {state}) has a transaction open for {seconds} s and {what}."),
            "End it, or the script tries again and again until it has ended by itself.",
        ));
    }
    Ok(findings)
}

fn error(rule: &str, message: String, advice: &str) -> Finding {
    store_finding(rule, Severity::Error, message, advice)
}

fn warning(rule: &str, message: String, advice: &str) -> Finding {
    store_finding(rule, Severity::Warning, message, advice)
}

fn store_finding(rule: &str, severity: Severity, message: String, advice: &str) -> Finding {
    Finding { rule: rule.to_owned(), severity, script: None, line: None, message, advice: advice.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(version_number: i32, in_recovery: bool, read_only: bool) -> Vec<String> {
        let facts = Facts { version_number, version: "x".to_owned(), in_recovery, read_only };
        judge(facts).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_server_too_old_or_one_that_takes_no_writes_is_refused() {
        assert_eq!(rules(130_000, false, false), [""; 0]);
        assert_eq!(rules(129_999, false, false), ["server-version"]);
        assert_eq!(rules(170_002, true, true), ["read-only-server"]);
        assert_eq!(rules(170_002, false, true), ["read-only-default"]);
    }
}
