//! What is asked of both stores before the first effect. Changes nothing: what it tries, it rolls back.

use std::collections::BTreeMap;

use tokio_util::sync::CancellationToken;

use super::{
    copy::differences,
    door::{Door, DoorError},
    task::ReplicateTask,
};
use crate::stores::{
    Finding, Severity,
    postgres::{
        QueryError, Session,
        replication::{self, Names, Stream, SubscribeError, Table},
        sequence,
    },
};

/// The oldest server whose streams are used: its publications and statistics are needed.
const OLDEST_VERSION: i64 = 150_000;
/// Each time that a stream is enabled its first worker waits up to this long, in milliseconds; the server's default of
/// 5 s is what clients would see as a lag at every change of direction.
const MAX_RETRY_INTERVAL: i64 = 200;

/// Rule: the role lacks a right.
const NO_RIGHT: &str = "no-right";
/// What it may not do, where everything else depends on it.
const IDENTIFY: &str = "read who the server is";

/// Which of the two is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Source,
    Target,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Source => "The old store",
            Self::Target => "The new store",
        }
    }
}

/// Asks everything that can be asked beforehand. Errors stand in the way; the rest is worth knowing.
pub async fn preflight(
    task: &ReplicateTask,
    source: &Door,
    target: &Door,
    stop: &CancellationToken,
) -> Result<Vec<Finding>, DoorError> {
    let (from, to) = (source.open(stop).await?, target.open(stop).await?);
    let mut findings = Vec::new();
    for (part, session) in [(Part::Source, &from), (Part::Target, &to)] {
        let needs = Needs {
            publishes: part == Part::Source || task.action.way_back,
            subscribes: part == Part::Target || task.action.way_back,
            copies_in: part == Part::Target,
            unlimited_wal: task.action.unlimited_wal,
        };
        findings.extend(settings(part, &needs, session).await?);
        findings.extend(rights(part, &needs, session).await?);
    }
    // Without these nothing else can be asked.
    if findings.iter().any(|finding| finding.rule == NO_RIGHT && finding.message.contains(IDENTIFY)) {
        return Ok(findings);
    }
    match contents(task, [source, target], [&from, &to], &mut findings).await {
        Ok(()) => {}
        // 42501: said with the object's name, as the server says it.
        Err(QueryError::Refused(refusal)) if refusal.sqlstate == "42501" => findings.push(error(
            NO_RIGHT,
            format!("A store refused a question: {refusal}."),
            "Use the credentials of the tables' owner.",
        )),
        Err(error) => return Err(error.into()),
    }
    Ok(findings)
}

/// What is in the stores, and whether they reach each other.
async fn contents(
    task: &ReplicateTask,
    [source, target]: [&Door; 2],
    [from, to]: [&Session; 2],
    findings: &mut Vec<Finding>,
) -> Result<(), QueryError> {
    let (blue, green) = (replication::identity(from).await?, replication::identity(to).await?);
    if blue.system_identifier == green.system_identifier && blue.database == green.database {
        findings.push(error(
            "same-store",
            "Both stores are the same database.".to_owned(),
            "Point the new store's Secret at the new server.",
        ));
    }
    let from_tables = replication::tables(from, &task.action.tables).await?;
    let to_tables = replication::tables(to, &task.action.tables).await?;
    let same = |message| error("tables-differ", message, "Bring the new store's schema in line first.");
    findings.extend(differences(&from_tables, &to_tables).into_iter().map(same));
    findings.extend(owners(Part::Source, &from_tables));
    findings.extend(identities(Part::Source, &from_tables));
    if task.action.way_back {
        let of_source = |table: &&Table| from_tables.iter().any(|there| there.name == table.name);
        let shared: Vec<_> = to_tables.iter().filter(of_source).cloned().collect();
        findings.extend(identities(Part::Target, &shared));
    }
    findings.extend(owners(Part::Target, &to_tables));
    findings.extend(rows(to, &source.names, &from_tables, &to_tables).await?);
    findings.extend(sequences(task, from, to, &from_tables, &to_tables).await?);
    for what in replication::left_out(from, &task.action.tables).await? {
        findings.push(warning(
            "not-replicated",
            format!("Logical replication leaves out {what}."),
            "Carry it over by yourself, or leave it behind.",
        ));
    }
    findings.extend(reachable(Part::Target, to, source, Stream::Forward).await?);
    if task.action.way_back {
        findings.extend(reachable(Part::Source, from, target, Stream::Reverse).await?);
    }
    Ok(())
}

/// What a store is there for.
#[expect(clippy::struct_excessive_bools, reason = "each is a part of its own")]
struct Needs {
    publishes: bool,
    subscribes: bool,
    copies_in: bool,
    unlimited_wal: bool,
}

async fn settings(part: Part, needs: &Needs, session: &Session) -> Result<Vec<Finding>, QueryError> {
    Ok(judge(part, needs, &replication::settings(session).await?))
}

/// The settings that stand in the way, or that will be felt.
fn judge(part: Part, needs: &Needs, facts: &BTreeMap<String, String>) -> Vec<Finding> {
    let who = part.name();
    let text = |name: &str| facts.get(name).map_or("", String::as_str);
    // A setting that the server doesn't have is no limit.
    let number = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
    let mut findings = Vec::new();
    if number("server_version_num") < OLDEST_VERSION {
        findings.push(error(
            "server-version",
            format!("{who} runs PostgreSQL {}; the oldest that can be replicated is 15.", text("server_version")),
            "Upgrade it first, or move by dump and restore.",
        ));
    }
    if needs.publishes {
        if text("wal_level") != "logical" {
            findings.push(error(
                "wal-level",
                format!("{who} writes its WAL at the level {}, which holds no rows.", text("wal_level")),
                "Set wal_level = logical and restart the server.",
            ));
        }
        // One slot to stream from, and one more while the first copy's is replaced.
        for (setting, used, what) in [
            ("max_replication_slots", "slots_used", "replication slots"),
            ("max_wal_senders", "senders_used", "WAL senders"),
        ] {
            if number(setting) - number(used) < 2 {
                findings.push(error(
                    "too-few-slots",
                    format!("{who} has {} {what}, {} of them in use; two must be free.", text(setting), text(used)),
                    "Raise the setting and restart the server, or drop what nobody uses.",
                ));
            }
        }
        if number("max_slot_wal_keep_size") < 0 && !needs.unlimited_wal {
            findings.push(error(
                "unlimited-wal",
                format!("{who} keeps any amount of WAL for a slot that nobody reads: its disk can fill."),
                "Set max_slot_wal_keep_size to what the disk can spare, or write `unlimitedWal: true`.",
            ));
        }
    }
    if needs.subscribes {
        if number("max_logical_replication_workers") < 2 || number("max_worker_processes") < 4 {
            findings.push(error(
                "too-few-workers",
                format!("{who} has too few processes to apply a stream."),
                "Set max_logical_replication_workers and max_worker_processes to 4 and 8 at least, and restart it.",
            ));
        }
        if number("wal_retrieve_retry_interval") > MAX_RETRY_INTERVAL {
            findings.push(error(
                "slow-start",
                format!(
                    "{who} waits {} ms before a stream begins again, at every change of direction.",
                    text("wal_retrieve_retry_interval")
                ),
                "Set wal_retrieve_retry_interval = 100ms and reload its configuration.",
            ));
        }
    }
    findings
}

async fn rights(part: Part, needs: &Needs, session: &Session) -> Result<Vec<Finding>, QueryError> {
    let rights = replication::rights(session).await?;
    let mut findings = Vec::new();
    let mut lacks = |missing: bool, what: &str, advice: &str| {
        if missing {
            let message = format!("{}: the role {} may not {what}.", part.name(), rights.role);
            findings.push(error(NO_RIGHT, message, advice));
        }
    };
    lacks(!rights.may_create, "make a schema of our own", "Grant it CREATE on the database.");
    lacks(
        needs.publishes && !rights.may_replicate,
        "make a replication slot",
        "Run ALTER ROLE ... REPLICATION, or use the provider's role for it.",
    );
    lacks(
        needs.subscribes && !rights.may_subscribe,
        "make a subscription",
        "Make it a superuser for the time of the move, or from PostgreSQL 16 on grant it pg_create_subscription.",
    );
    lacks(
        needs.subscribes && needs.publishes && !rights.may_begin_after,
        "say where the stream back begins",
        "Run GRANT EXECUTE ON FUNCTION pg_replication_origin_advance(text, pg_lsn) for it.",
    );
    lacks(
        !rights.may_identify,
        IDENTIFY,
        "Run GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() for it.",
    );
    lacks(
        needs.copies_in && !rights.may_set_role,
        "load rows without firing their triggers",
        "Make it a superuser for the time of the move, or from PostgreSQL 15 on run GRANT SET ON PARAMETER \
         session_replication_role.",
    );
    Ok(findings)
}

fn owners(part: Part, tables: &[Table]) -> Vec<Finding> {
    let foreign = tables.iter().filter(|table| !table.owned);
    let finding = |table: &Table| {
        error(
            "not-owner",
            format!(
                "{}: the role can't publish {} or put the gate on it, as it isn't its owner.",
                part.name(),
                table.name
            ),
            "Make the role a member of the owner, or use the owner's credentials in the Secret.",
        )
    };
    foreign.map(finding).collect()
}

fn identities(part: Part, tables: &[Table]) -> Vec<Finding> {
    let without = tables.iter().filter(|table| !table.has_identity);
    let finding = |table: &Table| {
        error(
            "no-replica-identity",
            format!("{}: the rows of {} can't be told apart in a stream of changes.", part.name(), table.name),
            "Give it a primary key, or run ALTER TABLE ... REPLICA IDENTITY USING INDEX or FULL.",
        )
    };
    without.map(finding).collect()
}

/// Rows in the new store's tables, unless they are of a copy that was begun before.
async fn rows(to: &Session, names: &Names, from: &[Table], tables: &[Table]) -> Result<Vec<Finding>, QueryError> {
    let begun = replication::leftovers(to, names).await?;
    if !begun.is_empty() {
        return Ok(Vec::new());
    }
    let mut findings = Vec::new();
    for table in tables.iter().filter(|table| from.iter().any(|there| there.name == table.name)) {
        if to.value::<bool>(&format!("SELECT EXISTS (SELECT FROM {})", table.name), &[]).await? {
            findings.push(error(
                "target-not-empty",
                format!("The table {} of the new store has rows.", table.name),
                "Empty it, or leave it out of `tables`.",
            ));
        }
    }
    Ok(findings)
}

async fn sequences(
    task: &ReplicateTask,
    from: &Session,
    to: &Session,
    from_tables: &[Table],
    to_tables: &[Table],
) -> Result<Vec<Finding>, QueryError> {
    let oids = |tables: &[Table]| tables.iter().map(|table| table.oid).collect::<Vec<_>>();
    let source = sequence::read(from, &oids(from_tables), &task.action.tables).await?;
    let target = sequence::read(to, &oids(to_tables), &task.action.tables).await?;
    let missing = source.iter().filter(|there| !target.iter().any(|here| here.name == there.name));
    let finding = |sequence: &sequence::Sequence| {
        error(
            "sequence-missing",
            format!("The new store has no sequence {}.", sequence.name),
            "Bring the new store's schema in line first.",
        )
    };
    Ok(missing.map(finding).collect())
}

/// Whether a store's server reaches the other store by itself: only it can tell. What is tried is rolled back.
async fn reachable(part: Part, session: &Session, other: &Door, stream: Stream) -> Result<Vec<Finding>, QueryError> {
    session.run("BEGIN").await?;
    let tried = Names::new("preflight", other.names.schema().as_str());
    let answer = replication::subscribe(session, &tried, stream, &other.postgres, false).await;
    session.roll_back().await?;
    let why = match answer {
        Ok(()) => return Ok(Vec::new()),
        Err(SubscribeError::Source(error)) => error.to_string(),
        Err(SubscribeError::Query(QueryError::Refused(refusal))) => refusal.to_string(),
        Err(SubscribeError::Query(error)) => return Err(error),
    };
    Ok(vec![error(
        "stores-apart",
        format!("{}'s server can't subscribe to the other store: {why}.", part.name()),
        "Let the servers reach each other under the names that the Secrets hold.",
    )])
}

fn error(rule: &str, message: String, advice: &str) -> Finding {
    finding(rule, Severity::Error, message, advice)
}

fn warning(rule: &str, message: String, advice: &str) -> Finding {
    finding(rule, Severity::Warning, message, advice)
}

fn finding(rule: &str, severity: Severity, message: String, advice: &str) -> Finding {
    Finding { rule: rule.to_owned(), severity, script: None, line: None, message, advice: advice.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(part: Part, change: &[(&str, &str)]) -> Vec<String> {
        let good = [
            ("server_version_num", "150004"),
            ("wal_level", "logical"),
            ("max_replication_slots", "10"),
            ("slots_used", "0"),
            ("max_wal_senders", "10"),
            ("senders_used", "1"),
            ("max_slot_wal_keep_size", "4096"),
            ("max_logical_replication_workers", "4"),
            ("max_worker_processes", "8"),
            ("wal_retrieve_retry_interval", "100"),
        ];
        let facts = good.iter().chain(change).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let source = part == Part::Source;
        let needs = Needs { publishes: source, subscribes: !source, copies_in: !source, unlimited_wal: false };
        judge(part, &needs, &facts).into_iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_store_is_asked_for_what_its_part_needs_and_no_more() {
        assert_eq!(rules(Part::Source, &[]), [""; 0]);
        assert_eq!(rules(Part::Target, &[("wal_level", "replica"), ("max_slot_wal_keep_size", "-1")]), [""; 0]);
        assert_eq!(rules(Part::Source, &[("wal_level", "replica")]), ["wal-level"]);
        assert_eq!(rules(Part::Source, &[("slots_used", "9")]), ["too-few-slots"]);
        assert_eq!(rules(Part::Source, &[("max_slot_wal_keep_size", "-1")]), ["unlimited-wal"]);
        assert_eq!(rules(Part::Target, &[("wal_retrieve_retry_interval", "5000")]), ["slow-start"]);
        assert_eq!(rules(Part::Target, &[("max_logical_replication_workers", "1")]), ["too-few-workers"]);
        assert_eq!(rules(Part::Source, &[("server_version_num", "140000")]), ["server-version"]);
    }
}
