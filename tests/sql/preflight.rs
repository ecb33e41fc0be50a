//! What is asked before the first effect, and behaviour 25 in the store's own words.

use alongside::{
    stores::{Finding, Severity},
    worker::{
        task::{LintTask, MigrationRef, Role, Task},
        verdict::{Outcome, Verdict},
    },
};

use crate::bench::{Bench, ends, run, succeed};

fn preflight(task: &Task) -> Task {
    Task { role: Role::Preflight, ..task.clone() }
}

fn rules(verdict: &Verdict) -> Vec<&str> {
    verdict.findings.iter().map(|finding| finding.rule.as_str()).collect()
}

fn finding<'v>(verdict: &'v Verdict, rule: &str) -> &'v Finding {
    let found = verdict.findings.iter().find(|finding| finding.rule == rule);
    found.unwrap_or_else(|| panic!("no {rule} in {verdict:#?}"))
}

/// A bench whose URI is of a role that may connect, and no more. Its own to drop at the end.
async fn bench_of_a_guest() -> (Bench, String) {
    let bench = Bench::new().await;
    let role = format!("guest_{}", bench.database.name());
    bench.database.run(&format!("CREATE ROLE {role} LOGIN PASSWORD 'guest-pass'")).await;
    let port = bench.database.server().port();
    bench.write_uri(&format!("postgres://{role}:guest-pass@127.0.0.1:{port}/{}", bench.database.name()));
    (bench, role)
}

#[tokio::test]
async fn a_phase_that_nothing_speaks_against_passes_and_leaves_no_trace() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (id int)").await;
    let task = bench.inline("ALTER TABLE items ADD COLUMN sku text;", Some("ALTER TABLE items DROP COLUMN sku;"));
    let verdict = succeed(&preflight(&task)).await;
    assert_eq!((verdict.message.as_str(), rules(&verdict).len()), ("Nothing stands in the way.", 0));
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'alongside'").await, 0);
    succeed(&task).await;
    succeed(&preflight(&task)).await;
}

#[tokio::test]
async fn lint_looks_at_both_ways() {
    let bench = Bench::new().await;
    let task = bench.config_map(&[
        ("1_a.up.sql", "CREATE TABLE a ();\nALTER TABLE items ADD COLUMN n int NOT NULL;"),
        ("1_a.down.sql", "DROP TABLE a;\nUPDATE items SET n = NULL;"),
    ]);
    let verdict = ends(&preflight(&task), Outcome::Refused, "(and 1 more)").await;
    let places: Vec<_> =
        verdict.findings.iter().map(|found| (found.rule.as_str(), found.script.as_deref(), found.line)).collect();
    assert_eq!(places, [("adding-required-field", Some("1_a"), Some(2)), ("whole-table-update", Some("1_a"), Some(2))]);
    let lint =
        LintTask { allow: vec!["adding-required-field".into(), "whole-table-update".into()], past_no_return: false };
    succeed(&preflight(&Task { lint, ..task })).await;
}

#[tokio::test]
async fn dropping_what_the_old_side_reads_waits_for_the_point_of_no_return() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE customers (full_name text)").await;
    let task = bench.inline("ALTER TABLE customers DROP COLUMN full_name;", None);
    let verdict = ends(&preflight(&task), Outcome::Refused, "`pointOfNoReturn: true`").await;
    assert_eq!(rules(&verdict), ["ban-drop-column"]);
    let contract = Task { lint: LintTask { past_no_return: true, ..LintTask::default() }, ..task };
    let verdict = succeed(&preflight(&contract)).await;
    assert_eq!(finding(&verdict, "ban-drop-column").severity, Severity::Warning);
    assert_eq!(verdict.message, "Nothing stands in the way; 1 finding is worth knowing.");
    succeed(&contract).await;
}

#[tokio::test]
async fn a_role_without_rights_is_told_which_it_lacks() {
    let (bench, role) = bench_of_a_guest().await;
    bench.database.run("CREATE TABLE items (id int); REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let task = bench.inline("ALTER TABLE items ADD COLUMN sku text; CREATE TABLE parts ();", None);
    let verdict = ends(&preflight(&task), Outcome::Refused, "may not keep the scripts' history").await;
    assert_eq!(rules(&verdict), ["no-history-rights", "not-owner", "no-right-to-create"]);
    assert_eq!(
        finding(&verdict, "not-owner").message,
        format!("The role {role} can't change items, which belongs to postgres.")
    );
    assert!(finding(&verdict, "no-right-to-create").message.ends_with("in the schema public."));
    ends(&task, Outcome::Refused, "CREATE SCHEMA alongside AUTHORIZATION").await;
    // What the advice says is enough.
    bench
        .database
        .run(&format!("CREATE SCHEMA alongside AUTHORIZATION {role}; ALTER TABLE items OWNER TO {role}"))
        .await;
    bench.database.run(&format!("GRANT CREATE ON SCHEMA public TO {role}")).await;
    succeed(&preflight(&task)).await;
    succeed(&task).await;
    bench.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_history_that_another_role_keeps_needs_a_grant() {
    let (bench, role) = bench_of_a_guest().await;
    let guest_uri = std::fs::read_to_string(bench.path("uri")).unwrap();
    bench.write_uri(&bench.database.uri());
    let task = bench.inline("SELECT 1;", None);
    succeed(&task).await;
    bench.write_uri(&guest_uri);
    let other = Task { phase: "other".into(), ..task };
    let verdict = ends(&preflight(&other), Outcome::Refused, "may not keep the scripts' history").await;
    assert_eq!(rules(&verdict), ["no-history-rights"]);
    bench
        .database
        .run(&format!(
            "GRANT CREATE, USAGE ON SCHEMA alongside TO {role};
             GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA alongside TO {role}"
        ))
        .await;
    succeed(&preflight(&other)).await;
    succeed(&other).await;
    bench.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_changed_script_is_found_before_anything_runs() {
    let bench = Bench::new().await;
    succeed(&bench.inline("CREATE TABLE a ();", None)).await;
    let changed = Task { attempt: 2, ..bench.inline("CREATE TABLE b ();", None) };
    let verdict = ends(&preflight(&changed), Outcome::Refused, "its text has changed").await;
    assert_eq!(rules(&verdict), ["script-conflict"]);
}

#[tokio::test]
async fn history_of_an_earlier_migration_of_the_same_name_has_to_be_adopted() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE a ();", None);
    succeed(&task).await;
    // A restore, or a Migration deleted and made again: same name, new UID.
    let restored = Task { migration: MigrationRef { uid: "uid-2".into(), ..task.migration.clone() }, ..task };
    let verdict =
        ends(&preflight(&restored), Outcome::Refused, "history of another shop/inventory-v2 (UID uid-1)").await;
    assert_eq!(rules(&verdict), ["foreign-history"]);
    let adopting = Task { adopt: vec!["uid-1".into()], ..restored };
    succeed(&preflight(&adopting)).await;
    assert_eq!(succeed(&adopting).await.message, "Everything was in effect already.");
}

#[tokio::test]
async fn the_same_text_in_effect_by_another_migration_is_worth_knowing() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE IF NOT EXISTS a ();", None);
    succeed(&task).await;
    let migration = MigrationRef { uid: "uid-2".into(), namespace: "shop".into(), name: "other".into() };
    let verdict = succeed(&preflight(&Task { migration, ..task })).await;
    let found = finding(&verdict, "applied-by-another");
    assert_eq!(found.severity, Severity::Warning);
    assert!(found.message.starts_with("shop/inventory-v2 has put expand into effect"), "{found:?}");
}

#[tokio::test]
async fn leftovers_of_builds_and_long_transactions_are_told() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (sku text); INSERT INTO items VALUES ('a'), ('a')").await;
    let build = "CREATE UNIQUE INDEX CONCURRENTLY items_sku ON items (sku);";
    bench.database.connect().await.batch_execute(build).await.expect_err("'a' is there twice");
    let reader = bench.database.connect().await;
    reader.batch_execute("BEGIN; SELECT * FROM items").await.unwrap();
    let old = bench.database.connect().await;
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").await.unwrap();
    let task = bench.inline(build, None);
    let older = format!(
        "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'
             AND now() - xact_start > interval '{} ms'",
        task.lock_timeout.0.as_millis()
    );
    bench.until("both transactions are older than the lock timeout", &older).await;
    let verdict = succeed(&preflight(&task)).await;
    assert_eq!(
        finding(&verdict, "invalid-index").message,
        "\"public\".\"items_sku\" is INVALID: an earlier build of it failed."
    );
    let long: Vec<_> = verdict.findings.iter().filter(|found| found.rule == "long-transaction").collect();
    assert_eq!(long.len(), 2, "{long:?}");
    assert!(long[0].message.contains("holds a lock on items"), "{long:?}");
    assert!(long[1].message.contains("has an old snapshot"), "{long:?}");
}

#[tokio::test]
async fn a_name_already_taken_is_found_before_the_build() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (sku text); CREATE TABLE items_sku ()").await;
    let task = bench.inline("CREATE INDEX CONCURRENTLY items_sku ON items (sku);", None);
    let verdict = ends(&preflight(&task), Outcome::Refused, "exists and isn't an index of items").await;
    assert_eq!(rules(&verdict), ["index-name-taken"]);
}

#[tokio::test]
async fn a_role_set_to_read_only_is_told_and_can_write_all_the_same() {
    let (bench, role) = bench_of_a_guest().await;
    let database = bench.database.name();
    bench
        .database
        .run(&format!("GRANT CREATE ON DATABASE {database} TO {role}; CREATE SCHEMA app AUTHORIZATION {role}"))
        .await;
    bench.database.run(&format!("ALTER ROLE {role} SET default_transaction_read_only = on")).await;
    bench.database.run(&format!("ALTER ROLE {role} SET default_transaction_isolation = 'serializable'")).await;
    let task = bench.inline("CREATE TABLE app.a ();\nVACUUM app.a;", None);
    assert_eq!(rules(&succeed(&preflight(&task)).await), ["read-only-default"]);
    succeed(&task).await;
    bench.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn every_error_is_told_at_once() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (sku text); CREATE TABLE items_sku ()").await;
    let task = bench.inline(
        "CREATE INDEX CONCURRENTLY items_sku ON items (sku);\nUPDATE items SET sku = '';\nLOCK TABLE items;",
        None,
    );
    let verdict = run(&preflight(&task)).await;
    assert_eq!(rules(&verdict), ["whole-table-update", "lock-table", "index-name-taken"]);
    assert_eq!(verdict.outcome, Outcome::Refused);
}
