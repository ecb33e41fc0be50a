//! The statements of a backfill that depend on what is computed: text out of static parts, quoted names, and expressions
//! that the server has given back.

use super::{assignments::Derivation, chunks::Need};

/// Statements built from what is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statements {
    /// Does the next rows of a chunk that has no lower bound and no position.
    pub work_from_the_start: String,
    /// Does the next rows of a chunk after its position.
    pub work: String,
    /// Keys of rows in need, `$1` at most. Reads the whole table; takes no lock.
    pub in_need: String,
    /// Does the one row of key `$1`, waiting for whoever has it locked within the lock timeout. Answers with the rows
    /// changed.
    pub one_row: String,
}

impl Statements {
    /// Builds them.
    pub fn new(of: &Derivation, need: Need) -> Self {
        let table = &of.table.name;
        let key_names: Vec<_> = (1..=of.key.columns.len()).map(|place| format!("\"~k{place}\"")).collect();
        let scan = scan(of, need);
        let needed = needed(of);
        let in_need = format!(
            "SELECT {key} AS key\nFROM (\n    SELECT {scan}\n    FROM {table} AS \"~t\"\n    OFFSET 0\n) AS scan\n\
             WHERE {needed}\nLIMIT $1",
            key = of.key.as_text(&key_names),
        );
        let one_row = format!(
            "WITH page AS MATERIALIZED (\n    SELECT *\n    FROM (\n        SELECT {scan}\n        FROM {table} AS \"~t\"\n        \
             WHERE {tuple} = {bound}\n        FOR NO KEY UPDATE\n    ) AS scan\n    WHERE {needed}\n)\n\
             UPDATE {table} AS \"~t\"\nSET {set}\nFROM page\nWHERE {same}\nRETURNING 1",
            tuple = of.key.tuple(),
            bound = of.key.bound("$1"),
            set = set(of, "page"),
            same = same_row(of, "page"),
        );
        Self { work_from_the_start: work(of, need, false), work: work(of, need, true), in_need, one_row }
    }
}

/// What is read of each row: key, place, whether the condition holds, what the columns hold and what they are to hold.
/// Each expression is evaluated once a row, and only where the condition holds.
fn scan(of: &Derivation, need: Need) -> String {
    let keys = (1..).zip(&of.key.columns).map(|(place, column)| format!("{} AS \"~k{place}\"", column.name));
    let condition = applies(of, need);
    let place = ["ctid AS \"~ctid\"".to_owned(), "\"~t\".tableoid AS \"~tableoid\"".to_owned()];
    let held = (1..).zip(&of.assignments).map(|(place, set)| format!("{} AS \"~c{place}\"", set.column.name));
    let wanted = (1..)
        .zip(&of.assignments)
        .map(|(place, set)| format!("CASE WHEN {condition} THEN ({}) END AS \"~v{place}\"", set.expression));
    let applies = [format!("{condition} AS \"~applies\"")];
    let all: Vec<_> = keys.chain(place).chain(held).chain(wanted).chain(applies).collect();
    all.join(",\n        ")
}

/// Whether the user's condition is about a row.
fn applies(of: &Derivation, need: Need) -> String {
    match need {
        Need::Marked => format!("(({}) IS TRUE)", of.filter),
        Need::Differing => {
            let read = of.sources.iter().chain(&of.conditions).map(|column| format!("\"~t\".{0} AS {0}", column.name));
            let blank = of.assignments.iter().map(|set| format!("{} AS {}", set.blank, set.column.name));
            let row: Vec<_> = read.chain(blank).collect();
            format!("((SELECT ({}) FROM (SELECT {}) AS blank_row) IS TRUE)", of.filter, row.join(", "))
        }
    }
}

/// Whether a scanned row is in need.
fn needed(of: &Derivation) -> String {
    let differs = (1..).zip(&of.assignments);
    let differs = differs.map(|(place, set)| set.column.differs(&format!("\"~c{place}\""), &format!("\"~v{place}\"")));
    let differs: Vec<_> = differs.collect();
    format!("\"~applies\" AND ({})", differs.join(" OR "))
}

fn set(of: &Derivation, from: &str) -> String {
    let set = (1..).zip(&of.assignments).map(|(place, set)| format!("{} = {from}.\"~v{place}\"", set.column.name));
    set.collect::<Vec<_>>().join(", ")
}

/// How a row that was read is found again. By its place, which costs no index: the place of a row that was changed since
/// then isn't visible. Partitions have the same places, so there the key tells.
fn same_row(of: &Derivation, from: &str) -> String {
    if of.table.is_partitioned {
        let keys =
            (1..).zip(&of.key.columns).map(|(place, column)| format!("\"~t\".{} = {from}.\"~k{place}\"", column.name));
        let same: Vec<_> = keys
            .chain([format!("\"~t\".tableoid = {from}.\"~tableoid\" AND \"~t\".ctid = {from}.\"~ctid\"")])
            .collect();
        same.join(" AND ")
    } else {
        format!("\"~t\".ctid = {from}.\"~ctid\"")
    }
}

/// What a chunk looks for. Where the user's condition tells a filled row from one that isn't, that alone: the expressions
/// are then evaluated once a row, for the value. Else a row is in need where a column differs.
fn looked_for(of: &Derivation, need: Need) -> String {
    let condition = applies(of, need);
    if need == Need::Marked && of.filter_is_marker {
        return condition;
    }
    let set = of.assignments.iter();
    let differs: Vec<_> =
        set.map(|set| set.column.differs(&set.column.name.to_string(), &format!("({})", set.expression))).collect();
    format!("{condition} AND ({})", differs.join(" OR "))
}

/// `$1` position, `$2` upper bound, `$3` rows, `$4` migration UID, `$5` phase, `$6` chunk, `$7` holder, `$8` epoch, `$9`
/// lease in seconds. Locks the chunk's row, and of the table's rows those that it changes. One row.
///
/// All of it sees one snapshot. If as many rows could be locked as are in need, they are the same rows, so a plain UPDATE
/// of the stretch waits for nobody; only otherwise is each row that was locked looked up by its place, which costs more.
#[expect(clippy::too_many_lines, reason = "one statement is read as one")]
fn work(of: &Derivation, need: Need, has_lower: bool) -> String {
    let table = &of.table.name;
    let tuple = of.key.tuple();
    let lower = if has_lower { format!("\n        AND {tuple} > {}", of.key.bound("$1")) } else { String::new() };
    let key_names: Vec<_> = (1..=of.key.columns.len()).map(|place| format!("\"~k{place}\"")).collect();
    let last: Vec<_> = key_names.iter().map(|name| format!("{name} DESC")).collect();
    let columns = of.key.columns.iter().zip(&key_names);
    let keys: Vec<_> = columns.map(|(column, alias)| format!("{} AS {alias}", column.name)).collect();
    let set: Vec<_> = of.assignments.iter().map(|set| format!("{} = ({})", set.column.name, set.expression)).collect();
    let looked_for = looked_for(of, need);
    let stretch = format!("{lower}\n        AND {tuple} <= {}", of.key.bound("(SELECT position FROM reached)"));
    format!(
        "WITH held AS MATERIALIZED (
    SELECT
    FROM alongside.backfill_chunk
    WHERE migration_uid = $4
        AND phase = $5
        AND number = $6
        AND holder = $7
        AND epoch = $8
        AND state = 'Held'
        AND coalesce(position, lower) IS NOT DISTINCT FROM $1::text[]
    FOR NO KEY UPDATE
),
page AS MATERIALIZED (
    SELECT {keys}, ({looked_for}) IS TRUE AS \"~needed\"
    FROM {table} AS \"~t\"
    WHERE (SELECT count(*) FROM held) = 1{lower}
        AND {tuple} <= {upper}
    ORDER BY {columns}
    LIMIT $3::bigint
),
counted AS MATERIALIZED (
    SELECT count(*) AS scanned, count(*) FILTER (WHERE \"~needed\") AS needed FROM page
),
reached AS MATERIALIZED (
    SELECT
        CASE
            WHEN counted.scanned < $3::bigint THEN $2::text[]
            ELSE (SELECT {last_key} FROM page ORDER BY {last} LIMIT 1)
        END AS position,
        counted.scanned < $3::bigint AS at_end
    FROM counted
),
locked AS MATERIALIZED (
    SELECT ctid AS \"~ctid\", \"~t\".tableoid AS \"~tableoid\", {keys}
    FROM {table} AS \"~t\"
    WHERE (SELECT count(*) FROM held) = 1
        AND (SELECT needed FROM counted) > 0{stretch}
        AND {looked_for}
    FOR NO KEY UPDATE SKIP LOCKED
),
all_locked AS MATERIALIZED (
    SELECT (SELECT count(*) FROM locked) = counted.needed AS yes FROM counted
),
changed_all AS (
    UPDATE {table} AS \"~t\"
    SET {set}
    WHERE (SELECT yes FROM all_locked)
        AND (SELECT needed FROM counted) > 0{stretch}
        AND {looked_for}
    RETURNING 1
),
changed_some AS (
    UPDATE {table} AS \"~t\"
    SET {set}
    FROM locked
    WHERE (SELECT NOT yes FROM all_locked)
        AND {same_row}
    RETURNING 1
),
changed AS MATERIALIZED (
    SELECT (SELECT count(*) FROM changed_all) + (SELECT count(*) FROM changed_some) AS changed
),
moved AS (
    UPDATE alongside.backfill_chunk AS chunk
    SET position = reached.position,
        scanned = chunk.scanned + counted.scanned,
        changed = chunk.changed + changed.changed,
        left_behind = chunk.left_behind + greatest(counted.needed - changed.changed, 0),
        transactions = chunk.transactions + 1,
        lease_until = now() + make_interval(secs => $9)
    FROM reached, counted, changed
    WHERE chunk.migration_uid = $4
        AND chunk.phase = $5
        AND chunk.number = $6
        AND (SELECT count(*) FROM held) = 1
    RETURNING 1
)
SELECT
    (SELECT count(*) FROM moved) = 1 AS is_held,
    counted.scanned,
    counted.needed,
    changed.changed,
    reached.position,
    reached.at_end
FROM counted, changed, reached",
        keys = keys.join(", "),
        upper = of.key.bound("$2"),
        columns = of.key.columns(None),
        same_row = same_row(of, "locked"),
        set = set.join(", "),
        last_key = of.key.as_text(&key_names),
        last = last.join(", "),
    )
}
