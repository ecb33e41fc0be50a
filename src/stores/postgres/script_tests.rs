use proptest::prelude::*;

use super::*;

fn texts(text: &str) -> Vec<String> {
    Script::parse(text).statements.into_iter().map(|statement| statement.text).collect()
}

/// The steps as lists of statement numbers, with `!` for those that run apart.
fn steps(text: &str) -> Vec<String> {
    let script = Script::parse(text);
    assert!(script.is_understood(), "{:?}", script.errors);
    script
        .steps_after(0)
        .iter()
        .map(|step| {
            let numbers: Vec<_> = step.numbers().map(|number| number.to_string()).collect();
            let mark = if matches!(step, Step::Apart(..)) { "!" } else { "" };
            format!("{mark}{}", numbers.join("+"))
        })
        .collect()
}

fn nature_of(text: &str) -> Nature {
    let script = Script::parse(text);
    assert!(script.is_understood(), "{text}: {:?}", script.errors);
    script.statements[0].nature.clone()
}

#[test]
fn a_semicolon_in_a_string_a_body_or_a_comment_splits_nothing() {
    let text = "-- first; comment\nSELECT 'a;b', $$c;d$$;\n/* e;f */ DO $x$ BEGIN PERFORM 1; END $x$;\n\
                CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;;\n;SELECT 3 -- end;";
    let script = Script::parse(text);
    assert_eq!(script.errors, []);
    assert_eq!(
        texts(text),
        [
            "SELECT 'a;b', $$c;d$$;",
            "DO $x$ BEGIN PERFORM 1; END $x$;",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;",
            "SELECT 3",
        ]
    );
    let places: Vec<_> = script.statements.iter().map(|statement| (statement.number, statement.line)).collect();
    assert_eq!(places, [(1, 2), (2, 3), (3, 4), (4, 5)]);
}

#[test]
fn a_script_without_special_statements_is_one_step() {
    assert_eq!(steps("CREATE TABLE a (); ALTER TABLE a ADD b int; CREATE INDEX ON a (b)"), ["1+2+3"]);
    assert!(steps("-- nothing\n").is_empty());
}

#[test]
fn statements_that_refuse_a_transaction_are_steps_of_their_own() {
    assert_eq!(
        steps(
            "CREATE TABLE a (b int); INSERT INTO a VALUES (1); CREATE INDEX CONCURRENTLY i ON a (b); VACUUM a; \
             SELECT 1; SELECT 2"
        ),
        ["1+2", "!3", "!4", "5+6"]
    );
}

#[test]
fn each_statement_that_refuses_a_transaction_is_known() {
    let name = |text: &str| text.to_owned();
    for (text, apart) in [
        (
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"Sku\" ON ONLY shop.\"Items\" USING btree (sku)",
            Apart::BuildIndex { index: Some(name("\"Sku\"")), table: name("shop.\"Items\"") },
        ),
        ("CREATE INDEX CONCURRENTLY ON t (a)", Apart::BuildIndex { index: None, table: name("t") }),
        ("DROP INDEX CONCURRENTLY IF EXISTS shop.i", Apart::DropIndex { index: name("shop.i") }),
        ("REINDEX INDEX CONCURRENTLY i", Apart::ReindexIndex { index: name("i") }),
        ("REINDEX (VERBOSE, CONCURRENTLY) TABLE shop.t", Apart::ReindexTable { table: name("shop.t") }),
        ("VACUUM (ANALYZE) t", Apart::Vacuum),
        ("REINDEX SCHEMA shop", Apart::Other),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", Apart::Other),
        ("CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", Apart::Other),
        ("DROP SUBSCRIPTION s", Apart::Other),
        ("CREATE DATABASE d", Apart::Other),
        ("ALTER DATABASE d SET TABLESPACE x", Apart::Other),
        ("ALTER SYSTEM SET work_mem = '1GB'", Apart::Other),
        ("CLUSTER", Apart::Other),
    ] {
        assert_eq!(nature_of(text), Nature::Apart(apart), "{text}");
    }
    for text in [
        "CREATE INDEX i ON t (a)",
        "DROP INDEX i",
        "REINDEX TABLE t",
        "ALTER TABLE t DETACH PARTITION p",
        "ALTER DATABASE d SET work_mem = '1GB'",
        "CLUSTER t USING i",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
    ] {
        assert_eq!(nature_of(text), Nature::Plain, "{text}");
    }
}

#[test]
fn a_new_enum_value_commits_before_the_statement_that_uses_it() {
    assert_eq!(
        steps(
            "ALTER TYPE mood ADD VALUE 'calm'; ALTER TYPE mood ADD VALUE 'wild'; SELECT 1; \
             UPDATE t SET mood = 'calm' WHERE id = 1"
        ),
        ["1", "2+3+4"]
    );
    assert_eq!(steps("ALTER TYPE mood ADD VALUE 'calm'; CREATE TABLE t ()"), ["1+2"]);
}

#[test]
fn a_resumed_script_goes_on_after_what_is_done() {
    let script = Script::parse("SELECT 1; VACUUM; SELECT 2; SELECT 3");
    let left: Vec<_> = script.steps_after(1).iter().map(Step::numbers).collect();
    assert_eq!(left, [2..3, 3..5]);
    let left: Vec<_> = script.steps_after(3).iter().map(Step::numbers).collect();
    assert_eq!(left, [Range { start: 4, end: 5 }]);
    assert!(script.steps_after(4).is_empty());
    assert_eq!(script.beginning(2), "SELECT 1;\nVACUUM;");
}

#[test]
fn statements_that_set_the_session_are_known() {
    let text = "SET search_path = a; SET LOCAL x.y = 1; SET ROLE r; RESET ROLE; RESET ALL; \
                SELECT pg_catalog.set_config('search_path', '', false); SELECT 1; SET CONSTRAINTS ALL DEFERRED";
    let sets: Vec<_> = Script::parse(text).statements.iter().map(|statement| statement.sets_session).collect();
    assert_eq!(sets, [true, true, true, true, true, true, false, false]);
}

#[test]
fn text_that_is_not_understood_stays_whole() {
    for (text, line) in [
        ("SELECT 1;\n\\set x 1\nSELECT 2;", 2),
        ("COPY t FROM stdin;\n1\t2\n\\.\n", 2),
        ("SELECT 1;\nFROBNICATE t;", 2),
        ("SELECT 'open", 1),
        ("SELECT $x$ open", 1),
    ] {
        let script = Script::parse(text);
        assert!(!script.is_understood(), "{text}");
        assert_eq!(script.errors[0].line, line, "{text}");
        assert_eq!(script.statements.len(), 1, "{text}");
        assert_eq!(script.statements[0].text, text.trim());
    }
}

#[test]
fn an_error_in_a_functions_body_leaves_the_statements_sure() {
    let script = Script::parse("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELEKT 1 $$; SELECT 2");
    assert!(script.is_understood());
    assert_eq!(script.statements.len(), 2);
    assert!(script.errors.iter().all(|error| error.in_body) && !script.errors.is_empty());
}

#[test]
fn brackets_nested_beyond_reason_are_not_handed_to_the_parser() {
    let nested = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Script::parse(&nested(MAX_NESTING)).is_understood());
    let refused = Script::parse(&nested(MAX_NESTING + 1));
    assert_eq!(refused.errors[0].message, "brackets are nested more than 500 deep");
}

proptest! {
    #[test]
    fn splitting_never_fails_and_the_steps_hold_every_statement(text in "([a-z'\"$;() \\n-]|SELECT |CREATE |'x;y'|\\$\\$;\\$\\$){0,60}") {
        let script = Script::parse(&text);
        let steps = script.steps_after(0);
        let numbers: Vec<usize> = steps.iter().flat_map(Step::numbers).collect();
        prop_assert_eq!(numbers, (1..=script.statements.len()).collect::<Vec<_>>());
        for statement in &script.statements {
            prop_assert!(text.contains(&statement.text));
        }
    }
}
