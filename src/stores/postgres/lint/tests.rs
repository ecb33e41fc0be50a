use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const BEFORE: Leniency<'_> = Leniency { allow: &[], past_no_return: false, strictness: Strictness::Full };
const PAST: Leniency<'_> = Leniency { allow: &[], past_no_return: true, strictness: Strictness::Full };

fn look(text: &str, direction: Direction, leniency: Leniency<'_>) -> Vec<Finding> {
    let script = Script::parse(text);
    lint(&[Subject { name: "0007_add_sku", text, script: &script, direction }], leniency)
}

fn rules(findings: &[Finding], severity: Severity) -> BTreeSet<&str> {
    findings.iter().filter(|finding| finding.severity == severity).map(|finding| finding.rule.as_str()).collect()
}

fn errors(text: &str) -> Vec<String> {
    rules(&look(text, Direction::Up, BEFORE), Severity::Error).into_iter().map(str::to_owned).collect()
}

#[test]
fn additive_scripts_pass_without_a_word() {
    for text in [
        "ALTER TABLE items ADD COLUMN sku text;",
        "ALTER TABLE items ADD COLUMN sku text NOT NULL DEFAULT 'none', ADD COLUMN at timestamptz DEFAULT now();",
        "ALTER TABLE customers ADD COLUMN first_name text, ADD COLUMN last_name text;",
        "CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int NOT NULL, at timestamp, c char(3));",
        "CREATE INDEX CONCURRENTLY items_sku ON items (sku);",
        "ALTER TABLE items ADD CONSTRAINT positive CHECK (n > 0) NOT VALID;",
        "ALTER TABLE items VALIDATE CONSTRAINT positive;",
        "UPDATE items SET sku = 'x' WHERE id = 1; DELETE FROM items WHERE id = 2; INSERT INTO items VALUES (1);",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql BEGIN ATOMIC UPDATE items SET n = 1; END;",
        "CREATE OR REPLACE VIEW v AS SELECT * FROM items; GRANT SELECT ON v TO app;",
        "ALTER TYPE mood ADD VALUE 'calm'; VACUUM ANALYZE items; SAVEPOINT a; ROLLBACK TO a; DISCARD PLANS;",
        "COPY items FROM '/data/items'; COPY items TO PROGRAM 'gzip'",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v; REINDEX TABLE CONCURRENTLY items;",
    ] {
        assert_eq!(look(text, Direction::Up, BEFORE), [], "{text}");
    }
}

#[test]
fn what_makes_users_wait_is_an_error() {
    for (text, rule) in [
        ("CREATE INDEX i ON items (sku)", "require-concurrent-index-creation"),
        ("ALTER TABLE items ADD COLUMN n int NOT NULL", "adding-required-field"),
        ("ALTER TABLE items ALTER COLUMN n SET NOT NULL", "adding-not-nullable-field"),
        ("ALTER TABLE items ALTER COLUMN n TYPE bigint", "changing-column-type"),
        ("ALTER TABLE items ADD COLUMN at timestamptz DEFAULT clock_timestamp()", "adding-field-with-default"),
        ("ALTER TABLE items ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) STORED", "adding-field-with-default"),
        ("ALTER TABLE items ADD COLUMN id bigserial", "table-rewrite"),
        ("ALTER TABLE items SET LOGGED", "table-rewrite"),
        ("ALTER TABLE items SET TABLESPACE fast", "table-rewrite"),
        ("ALTER TABLE items ADD CONSTRAINT positive CHECK (n > 0)", "constraint-missing-not-valid"),
        ("ALTER TABLE items ADD CONSTRAINT one UNIQUE (sku)", "disallowed-unique-constraint"),
        ("ALTER TABLE items ADD PRIMARY KEY (id)", "adding-serial-primary-key-field"),
        ("ALTER TABLE items ADD COLUMN a bigint REFERENCES other (id)", "adding-foreign-key-constraint"),
        (
            "ALTER TABLE items ADD CONSTRAINT p CHECK (n > 0) NOT VALID; ALTER TABLE items VALIDATE CONSTRAINT p",
            "constraint-missing-not-valid",
        ),
        ("REINDEX TABLE items", "require-concurrent-reindex"),
        ("REINDEX SCHEMA shop", "blocking-reindex"),
        ("ALTER TABLE items DETACH PARTITION p", "require-concurrent-partition-detach"),
        ("REFRESH MATERIALIZED VIEW v", "blocking-refresh"),
        ("VACUUM FULL items", "vacuum-full"),
        ("VACUUM (FULL, ANALYZE) items", "vacuum-full"),
        ("CLUSTER items USING i", "cluster"),
        ("LOCK TABLE items IN SHARE MODE", "lock-table"),
        ("UPDATE items SET n = 0", "whole-table-update"),
        ("UPDATE items SET n = 0 WHERE true", "whole-table-update"),
        ("WITH u AS (UPDATE items SET n = 0 RETURNING *) SELECT count(*) FROM u", "whole-table-update"),
        ("DELETE FROM items", "whole-table-delete"),
        ("CREATE ROLE app LOGIN", "server-wide-object"),
        ("ALTER USER app SET work_mem = '1GB'", "server-wide-object"),
        ("CREATE DATABASE other", "server-wide-object"),
    ] {
        assert!(errors(text).contains(&rule.to_owned()), "{text} gave {:?}", errors(text));
        let back = look(text, Direction::Down, PAST);
        assert!(rules(&back, Severity::Error).contains(rule), "{text} on the way back gave {back:?}");
        let allow = errors(text);
        let accepted =
            look(text, Direction::Up, Leniency { allow: &allow, past_no_return: false, strictness: Strictness::Full });
        assert_eq!(rules(&accepted, Severity::Error), BTreeSet::new(), "{text} could not be accepted");
    }
}

#[test]
fn what_breaks_the_old_side_is_an_error_until_the_point_of_no_return() {
    for (text, rule) in [
        ("ALTER TABLE customers DROP COLUMN full_name;", "ban-drop-column"),
        ("DROP TABLE customers", "ban-drop-table"),
        ("DROP SCHEMA old", "ban-drop-schema"),
        ("ALTER TABLE customers RENAME COLUMN a TO b", "renaming-column"),
        ("ALTER TABLE customers RENAME TO clients", "renaming-table"),
        ("TRUNCATE customers", "truncate"),
        ("TRUNCATE customers CASCADE", "ban-truncate-cascade"),
    ] {
        assert!(rules(&look(text, Direction::Up, BEFORE), Severity::Error).contains(rule), "{text}");
        let past = look(text, Direction::Up, PAST);
        assert!(rules(&past, Severity::Warning).contains(rule), "{text} gave {past:?}");
        assert_eq!(rules(&past, Severity::Error), BTreeSet::new(), "{text}");
        assert_eq!(look(text, Direction::Down, BEFORE), [], "{text}: a down script removes what its up script added");
    }
}

#[test]
fn what_may_surprise_clients_is_a_warning_on_the_way_forward_only() {
    for (text, rule) in [
        ("DROP VIEW v", "ban-drop-view"),
        ("DROP FUNCTION f()", "ban-drop-function"),
        ("ALTER TABLE items ALTER COLUMN n DROP NOT NULL", "ban-drop-not-null"),
        ("ALTER TABLE items DROP CONSTRAINT positive", "ban-drop-constraint"),
        ("DROP TRIGGER t ON items", "ban-drop-trigger"),
        ("DROP VIEW v CASCADE", "drop-cascade"),
    ] {
        let forward = look(text, Direction::Up, BEFORE);
        assert!(rules(&forward, Severity::Warning).contains(rule), "{text} gave {forward:?}");
        assert_eq!(rules(&forward, Severity::Error), BTreeSet::new(), "{text}");
        assert_eq!(look(text, Direction::Down, BEFORE), [], "{text}");
    }
    let dropped = look("DROP INDEX i", Direction::Down, BEFORE);
    assert_eq!(rules(&dropped, Severity::Warning), BTreeSet::from(["require-concurrent-index-deletion"]));
}

#[test]
fn what_the_worker_cannot_run_cannot_be_accepted() {
    for (text, rule) in [
        ("BEGIN; SELECT 1", "transaction-control"),
        ("START TRANSACTION", "transaction-control"),
        ("COMMIT", "transaction-control"),
        ("END", "transaction-control"),
        ("ROLLBACK", "transaction-control"),
        ("ABORT", "transaction-control"),
        ("PREPARE TRANSACTION 'x'", "transaction-control"),
        ("COMMIT PREPARED 'x'", "transaction-control"),
        ("COPY items FROM STDIN", "client-copy"),
        ("COPY items TO STDOUT", "client-copy"),
        ("DISCARD ALL", "session-reset"),
        ("SELECT pg_advisory_unlock_all()", "session-reset"),
        ("ALTER SYSTEM SET work_mem = '1GB'", "alter-system"),
        ("DROP DATABASE shop", "drop-database"),
        ("CREATE INDEX CONCURRENTLY ON items (sku)", "unnamed-concurrent-index"),
        ("-- nothing", "empty-script"),
    ] {
        let allow = [rule.to_owned()];
        let findings =
            look(text, Direction::Up, Leniency { allow: &allow, past_no_return: true, strictness: Strictness::Full });
        assert!(rules(&findings, Severity::Error).contains(rule), "{text} gave {findings:?}");
    }
}

#[test]
fn a_down_script_of_comments_alone_says_that_nothing_is_to_undo() {
    assert_eq!(look("-- The column stays: nothing minds it.", Direction::Down, BEFORE), []);
}

#[test]
fn text_that_cannot_be_parsed_is_an_error_that_can_be_accepted() {
    let findings = look("SELECT 1;\nFROBNICATE items", Direction::Up, BEFORE);
    assert_eq!(rules(&findings, Severity::Error), BTreeSet::from([SYNTAX_ERROR]));
    assert_eq!(findings[0].line, Some(2));
    let allow = [SYNTAX_ERROR.to_owned()];
    assert_eq!(
        look(
            "FROBNICATE items",
            Direction::Up,
            Leniency { allow: &allow, past_no_return: false, strictness: Strictness::Full }
        ),
        []
    );
    let body = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELEKT 1 $$;";
    assert_eq!(rules(&look(body, Direction::Up, BEFORE), Severity::Error), BTreeSet::new());
}

#[test]
fn a_table_that_the_scripts_create_may_be_changed_freely() {
    let texts = [
        "CREATE TABLE parts (id bigint, n int); CREATE INDEX parts_n ON parts (n); UPDATE parts SET n = 1;",
        "ALTER TABLE public.\"parts\" ALTER COLUMN n SET NOT NULL; DELETE FROM Parts; CREATE INDEX i ON parts (id);",
        "CREATE INDEX j ON items (sku);",
    ];
    let scripts = texts.map(Script::parse);
    let subjects: Vec<_> = texts
        .iter()
        .zip(&scripts)
        .zip(["one", "two", "three"])
        .map(|((text, script), name)| Subject { name, text, script, direction: Direction::Up })
        .collect();
    let findings = lint(&subjects, BEFORE);
    let places: Vec<_> =
        findings.iter().map(|finding| (finding.script.as_deref().unwrap(), finding.rule.as_str())).collect();
    assert_eq!(places, [("three", "require-concurrent-index-creation")]);
}

#[test]
fn every_finding_says_where_why_and_what_to_do() {
    let text =
        "SELECT 1;\n\nUPDATE items SET n = 0;\nALTER TABLE items DROP CONSTRAINT c;\nCREATE INDEX i ON items (n);";
    let findings = look(text, Direction::Up, BEFORE);
    let places: Vec<_> = findings.iter().map(|finding| (finding.line, finding.severity)).collect();
    assert_eq!(
        places,
        [(Some(3), Severity::Error), (Some(5), Severity::Error), (Some(4), Severity::Warning)],
        "errors come first, then by line"
    );
    for finding in &findings {
        assert_eq!(finding.script.as_deref(), Some("0007_add_sku"));
        for sentence in [&finding.message, &finding.advice] {
            assert!(sentence.ends_with('.') && sentence.len() > 20, "{sentence:?}");
        }
    }
}

#[test]
fn a_comment_in_squawks_own_form_accepts_a_squawk_rule() {
    let text = "-- squawk-ignore changing-column-type\nALTER TABLE items ALTER COLUMN n TYPE text;";
    assert_eq!(look(text, Direction::Up, BEFORE), []);
}

#[test]
fn where_only_what_cannot_run_counts_the_rest_is_left_alone() {
    let leniency = Leniency { strictness: Strictness::OnlyWhatCannotRun, ..BEFORE };
    assert_eq!(look("UPDATE items SET n = 0; LOCK TABLE items", Direction::Down, leniency), []);
    let findings = look("COMMIT; UPDATE items SET n = 0", Direction::Down, leniency);
    assert_eq!(rules(&findings, Severity::Error), BTreeSet::from(["transaction-control"]));
    assert_eq!(rules(&look("FROB", Direction::Down, leniency), Severity::Error), BTreeSet::from([SYNTAX_ERROR]));
}

proptest! {
    // Parsing in a debug build is slow; more cases are a matter of PROPTEST_CASES.
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_text_makes_lint_fail(
        text in "(ALTER|CREATE|DROP|TABLE|INDEX|CONCURRENTLY|ADD|COLUMN|CONSTRAINT|CHECK|NOT|NULL|VALID|DEFAULT|TYPE|SET|\
                 UPDATE|DELETE|FROM|WHERE|VACUUM|FULL|REINDEX|BEGIN|COMMIT|SELECT|COPY|UNIQUE|USING|VALUE|GENERATED|\
                 a|b\\.c|\"Q\"|1|'x'|\\(|\\)|,|;|--|/\\*|\\*/|\\$\\$|\n|'| |squawk-ignore|\\PC){0,40}"
    ) {
        let findings = look(&text.replace("  ", " "), Direction::Up, BEFORE);
        prop_assert!(findings.iter().all(|finding| finding.line >= Some(1)));
    }
}
