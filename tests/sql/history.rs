//! Behaviours 23 and 24: what took effect is known, and nothing runs twice.

use alongside::worker::{
    task::{LintTask, Role, Task},
    verdict::Outcome,
};

use crate::bench::{Bench, attempt, back, ends, run, succeed, versions};

const TABLES: &str = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";

#[tokio::test]
async fn scripts_run_in_the_order_of_their_numbers_and_are_written_down() {
    let bench = Bench::new().await;
    let task = bench.config_map(&[
        ("10_index.up.sql", "CREATE INDEX parts_n ON parts (n);"),
        ("0009_parts.up.sql", "CREATE TABLE parts (n int);\nINSERT INTO parts VALUES (1);"),
        ("0009_parts.down.sql", "DROP TABLE parts;"),
    ]);
    let verdict = succeed(&task).await;
    assert_eq!(verdict.applied, versions(&["9", "10"]));
    assert_eq!(verdict.message, "Applied 9, 10.");
    let rows = bench
        .database
        .rows(
            "SELECT version, name, role, attempt, try, statements, done, migration_uid, migration, phase, checksum
             FROM alongside.script_history WHERE applied_at IS NOT NULL ORDER BY id",
            &[],
        )
        .await;
    let first: Vec<String> = ["version", "name", "role", "migration_uid", "migration", "phase", "checksum"]
        .map(|column| rows[0].get(column))
        .into();
    let checksum = &task.scripts[0].checksum;
    assert_eq!(first, ["9", "0009_parts", "Up", "uid-1", "shop/inventory-v2", "expand", checksum]);
    let numbers: Vec<i32> = ["attempt", "try", "statements", "done"].map(|column| rows[0].get(column)).into();
    assert_eq!(numbers, [1, 1, 2, 2]);
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn a_script_already_applied_is_not_applied_again() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE counter (n int)").await;
    let task = bench.inline("INSERT INTO counter VALUES (1);", None);
    succeed(&task).await;
    let verdict = succeed(&attempt(&task, 2)).await;
    assert_eq!(verdict.message, "Everything was in effect already.");
    assert_eq!(verdict.applied, versions(&["expand"]));
    assert_eq!(bench.database.count("SELECT count(*) FROM counter").await, 1);
}

#[tokio::test]
async fn an_applied_script_whose_text_has_changed_is_refused() {
    let bench = Bench::new().await;
    let one = ("1_a.up.sql", "CREATE TABLE a ();");
    succeed(&bench.config_map(&[one])).await;
    // The new second script comes first in nothing: not even it runs, since the first can't.
    let changed = bench.config_map(&[("1_a.up.sql", "CREATE TABLE a (b int);"), ("2_c.up.sql", "CREATE TABLE c ();")]);
    let verdict = ends(&attempt(&changed, 2), Outcome::Refused, "1_a (version 1) has been in effect since").await;
    assert!(verdict.message.contains("its text has changed"), "{verdict:?}");
    assert!(verdict.is_terminal());
    assert_eq!(bench.database.count(TABLES).await, 1);
}

#[tokio::test]
async fn a_rollback_takes_back_in_reverse_what_is_in_effect_and_a_retry_applies_it_again() {
    let bench = Bench::new().await;
    let task = bench.config_map(&[
        ("1_a.up.sql", "CREATE TABLE a (id int PRIMARY KEY);"),
        ("1_a.down.sql", "DROP TABLE a;"),
        ("2_b.up.sql", "CREATE TABLE b (a int REFERENCES a (id));"),
        ("2_b.down.sql", "DROP TABLE b;"),
    ]);
    succeed(&task).await;
    let undone = succeed(&back(&task)).await;
    assert_eq!((undone.applied, undone.undone), (versions(&[]), versions(&["1", "2"])));
    assert_eq!(undone.message, "Took back 2, 1.");
    assert_eq!(bench.database.count(TABLES).await, 0);
    let again = succeed(&back(&Task { try_: 2, ..task.clone() })).await;
    assert_eq!(again.message, "Nothing was in effect any more.");
    let verdict = succeed(&attempt(&task, 2)).await;
    assert_eq!(verdict.message, "Applied 1, 2.");
    assert_eq!(verdict.undone, versions(&[]));
    assert_eq!(bench.database.count(TABLES).await, 2);
}

#[tokio::test]
async fn nothing_is_taken_back_while_one_script_in_effect_has_no_way_back() {
    let bench = Bench::new().await;
    let task = bench.config_map(&[
        ("1_a.up.sql", "CREATE TABLE a ();"),
        ("2_b.up.sql", "CREATE TABLE b ();"),
        ("2_b.down.sql", "DROP TABLE b;"),
    ]);
    succeed(&task).await;
    ends(&back(&task), Outcome::Refused, "1_a (version 1) is in effect and has no down script").await;
    assert_eq!(bench.database.count(TABLES).await, 2);
}

#[tokio::test]
async fn a_down_script_of_comments_alone_takes_back_by_doing_nothing() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE a ();", Some("-- The table may stay."));
    succeed(&task).await;
    assert_eq!(succeed(&back(&task)).await.undone, versions(&["expand"]));
    assert_eq!(bench.database.count(TABLES).await, 1);
}

#[tokio::test]
async fn a_script_that_failed_in_its_transaction_leaves_the_schema_as_it_was() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE a ();\nCREATE TABLE b ();\nSELECT 1,\n  nonsense;\nCREATE TABLE c ();", None);
    let verdict = ends(&task, Outcome::Failed, "Nothing of it has taken effect.").await;
    let failed = verdict.failed_statement.as_ref().expect("the server refused a statement");
    assert_eq!((failed.number, failed.of, failed.line), (3, 4, 4));
    assert_eq!(failed.text, "SELECT 1,\n  nonsense;");
    assert_eq!(verdict.sqlstate.as_deref(), Some("42703"));
    assert!(verdict.is_terminal(), "the same statement fails again");
    assert_eq!(bench.database.count(TABLES).await, 0);
    assert_eq!(bench.database.count("SELECT count(*) FROM alongside.script_history").await, 0);
}

#[tokio::test]
async fn a_transaction_refused_at_its_end_leaves_the_schema_as_it_was() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE one (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)").await;
    let task = bench.inline("INSERT INTO one VALUES (1); INSERT INTO one VALUES (1);", None);
    let verdict = ends(&task, Outcome::Failed, "its transaction was refused").await;
    assert_eq!(verdict.sqlstate.as_deref(), Some("23505"));
    assert!(!verdict.is_terminal());
    assert_eq!(bench.database.count("SELECT count(*) FROM one").await, 0);
}

#[tokio::test]
async fn a_script_that_failed_half_way_says_which_statements_have_taken_effect_and_goes_on_after_them() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (id int); INSERT INTO items VALUES (1), (1)").await;
    let up = "CREATE TABLE a ();\nCREATE INDEX CONCURRENTLY items_id ON items (id);\n\
              CREATE UNIQUE INDEX CONCURRENTLY items_one ON items (id);\nCREATE TABLE b ();";
    let task = bench.inline(up, None);
    let verdict = ends(&task, Outcome::Failed, "1 to 2 have taken effect and stay").await;
    assert_eq!(verdict.failed_statement.as_ref().map(|failed| (failed.number, failed.line)), Some((3, 3)));
    assert_eq!(verdict.sqlstate.as_deref(), Some("23505"));
    assert_eq!(verdict.applied, versions(&[]), "a half of it is not in effect");
    assert_eq!(bench.database.count("SELECT done::bigint FROM alongside.script_history").await, 2);
    bench.database.run("DELETE FROM items").await;
    let verdict = succeed(&Task { try_: 2, ..task }).await;
    assert_eq!(verdict.applied, versions(&["expand"]));
    assert_eq!(bench.database.count(TABLES).await, 3);
    assert_eq!(bench.database.count("SELECT count(*) FROM alongside.script_history").await, 1);
}

#[tokio::test]
async fn a_half_done_script_may_be_mended_where_it_has_not_been() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE a ();\nVACUUM;\nSELECT nonsense;", None);
    ends(&task, Outcome::Failed, "1 to 2 have taken effect").await;
    let rewritten = bench.inline("CREATE TABLE other ();\nVACUUM;\nSELECT 1;", None);
    ends(&attempt(&rewritten, 2), Outcome::Refused, "put the text of statements 1 to 2 back").await;
    let mended = bench.inline("CREATE TABLE a ();\nVACUUM;\nCREATE TABLE b ();", None);
    succeed(&attempt(&mended, 3)).await;
    assert_eq!(bench.database.count(TABLES).await, 2);
}

#[tokio::test]
async fn settings_that_a_half_done_script_made_hold_again_when_it_goes_on() {
    let bench = Bench::new().await;
    bench
        .database
        .run("CREATE SCHEMA app; CREATE TABLE app.items (id int); INSERT INTO app.items VALUES (1), (1)")
        .await;
    let up = "SET search_path = app;\nCREATE UNIQUE INDEX CONCURRENTLY items_id ON items (id);\nCREATE TABLE parts ();";
    let task = bench.inline(up, None);
    ends(&task, Outcome::Failed, "the first has taken effect").await;
    bench.database.run("DELETE FROM app.items").await;
    succeed(&Task { try_: 2, ..task }).await;
    assert_eq!(bench.database.count("SELECT count(*) FROM pg_tables WHERE schemaname = 'app'").await, 2);
}

#[tokio::test]
async fn what_one_script_sets_is_not_there_for_the_next() {
    let bench = Bench::new().await;
    bench.database.run("CREATE SCHEMA app").await;
    let task = bench.config_map(&[
        ("1_a.up.sql", "SET search_path = app; SET ROLE pg_monitor; RESET ROLE; CREATE TABLE a ();"),
        ("2_b.up.sql", "CREATE TABLE b ();"),
    ]);
    succeed(&task).await;
    assert_eq!(bench.database.count(TABLES).await, 1);
}

#[tokio::test]
async fn a_script_that_takes_on_another_role_is_written_down_all_the_same() {
    let bench = Bench::new().await;
    let role = format!("owner_{}", bench.database.name());
    bench.database.run(&format!("CREATE ROLE {role}; CREATE SCHEMA app AUTHORIZATION {role}")).await;
    let up = format!("SET ROLE {role};\nCREATE TABLE app.a ();\nVACUUM;\nCREATE TABLE app.b ();");
    succeed(&bench.inline(&up, None)).await;
    let owned = format!("SELECT count(*) FROM pg_tables WHERE schemaname = 'app' AND tableowner = '{role}'");
    assert_eq!(bench.database.count(&owned).await, 2, "the role holds after VACUUM, too");
    bench.database.run(&format!("DROP SCHEMA app CASCADE; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_new_enum_value_can_be_used_later_in_the_same_script() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE t (m mood)").await;
    let task = bench.inline("ALTER TYPE mood ADD VALUE 'wild'; INSERT INTO t VALUES ('wild');", None);
    succeed(&task).await;
    assert_eq!(bench.database.count("SELECT count(*) FROM t WHERE m = 'wild'").await, 1);
}

#[tokio::test]
async fn a_worker_that_comes_late_does_nothing() {
    let bench = Bench::new().await;
    let task = bench.inline("CREATE TABLE a ();", Some("DROP TABLE a;"));
    succeed(&task).await;
    succeed(&back(&task)).await;
    // The pod of the first Job was frozen until the rollback was over.
    ends(&task, Outcome::Refused, "this worker, of attempt 1, Up 1, came late and did nothing").await;
    assert_eq!(bench.database.count(TABLES).await, 0);
    succeed(&attempt(&task, 2)).await;
    ends(&back(&task), Outcome::Refused, "came late").await;
    assert_eq!(bench.database.count(TABLES).await, 1);
}

#[tokio::test]
async fn phases_and_migrations_keep_histories_of_their_own() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE counter (n int)").await;
    let task = bench.config_map(&[("1_a.up.sql", "INSERT INTO counter VALUES (1);")]);
    succeed(&task).await;
    succeed(&Task { phase: "contract".into(), ..task.clone() }).await;
    let mut other = task.clone();
    other.migration.uid = "uid-2".into();
    succeed(&other).await;
    assert_eq!(bench.database.count("SELECT count(*) FROM counter").await, 3);
    let adopting = Task { adopt: vec!["uid-1".into()], ..task.clone() };
    let adopting =
        Task { migration: alongside::worker::task::MigrationRef { uid: "uid-3".into(), ..task.migration }, ..adopting };
    assert_eq!(succeed(&adopting).await.message, "Everything was in effect already.");
    assert_eq!(bench.database.count("SELECT count(*) FROM counter").await, 3);
}

#[tokio::test]
async fn lint_refuses_before_the_first_effect() {
    let bench = Bench::new().await;
    bench.database.run("CREATE TABLE items (id int)").await;
    let task = bench.config_map(&[("1_a.up.sql", "CREATE TABLE a ();"), ("2_b.up.sql", "UPDATE items SET id = 1;")]);
    let verdict = ends(&task, Outcome::Refused, "2_b, line 1: An UPDATE of every row").await;
    assert_eq!(verdict.findings[0].rule, "whole-table-update");
    assert_eq!(verdict.applied, None, "the store wasn't even asked");
    assert_eq!(bench.database.count(TABLES).await, 1);
    let lint = LintTask { allow: vec!["whole-table-update".into()], past_no_return: false };
    succeed(&Task { lint, ..task }).await;
}

#[tokio::test]
async fn text_that_only_the_server_understands_runs_as_one_piece_if_it_is_accepted() {
    let bench = Bench::new().await;
    let lint = LintTask { allow: vec!["syntax-error".into()], past_no_return: false };
    // An operator of an extension that the parser knows nothing of would look like this to it.
    let unknown = "CREATE TABLE a (); CREATE TABLE b (); SELECT 1 AS a b;";
    let task = Task { lint: lint.clone(), ..bench.inline(unknown, None) };
    ends(&task, Outcome::Failed, "Nothing of it has taken effect.").await;
    assert_eq!(bench.database.count(TABLES).await, 0);
    let hidden = "CREATE TABLE a (); COMMIT; SELECT (1;".replace("SELECT (1;", "\n\\echo");
    ends(&Task { lint: lint.clone(), ..bench.inline(&hidden, None) }, Outcome::Failed, "").await;
    assert_eq!(bench.database.count(TABLES).await, 0);
}

#[tokio::test]
async fn a_layout_of_a_newer_version_is_left_alone() {
    let bench = Bench::new().await;
    succeed(&bench.inline("CREATE TABLE a ();", None)).await;
    bench.database.run("INSERT INTO alongside.layout VALUES (99)").await;
    let task = Task { phase: "other".into(), ..bench.inline("CREATE TABLE b ();", None) };
    ends(&task, Outcome::Refused, "made by a newer version (step 99)").await;
    let verdict = run(&Task { role: Role::Preflight, ..task }).await;
    assert_eq!(verdict.findings[0].rule, "newer-layout");
    assert_eq!(bench.database.count(TABLES).await, 1);
}
