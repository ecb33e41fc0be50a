use proptest::prelude::*;

use super::*;

fn config_map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
}

fn versions(entries: &[(&str, &str)]) -> Vec<String> {
    from_config_map(&config_map(entries)).unwrap().into_iter().map(|script| script.version).collect()
}

fn refusal(entries: &[(&str, &str)]) -> ScriptError {
    from_config_map(&config_map(entries)).unwrap_err()
}

#[test]
fn inline_text_is_one_script_with_the_phases_name() {
    let scripts = inline("expand", "ALTER TABLE a ADD b int;", Some("ALTER TABLE a DROP b;")).unwrap();
    assert_eq!(
        scripts,
        [VersionedScript {
            version: "expand".into(),
            name: "expand".into(),
            up: "ALTER TABLE a ADD b int;".into(),
            down: Some("ALTER TABLE a DROP b;".into()),
            checksum: checksum("ALTER TABLE a ADD b int;"),
        }]
    );
}

#[test]
fn golang_migrate_names_pair_up_and_down_and_order_by_number() {
    let entries = [
        ("10_index.up.sql", "ten"),
        ("0009_sku.down.sql", "back nine"),
        ("0009_sku.up.sql", "nine"),
        ("20240131120000_late.up.sql", "late"),
    ];
    let scripts = from_config_map(&config_map(&entries)).unwrap();
    assert_eq!(versions(&entries), ["9", "10", "20240131120000"]);
    assert_eq!(scripts[0].name, "0009_sku");
    assert_eq!((scripts[0].up.as_str(), scripts[0].down.as_deref()), ("nine", Some("back nine")));
    assert_eq!(scripts[1].down, None);
}

#[test]
fn flyway_names_order_by_each_number() {
    let entries = [
        ("V1.10__c.sql", "c"),
        ("V1_9__b.sql", "b"),
        ("U1.9__b.sql", "not b"),
        ("V1__a.sql", "a"),
        ("V2.0__d.sql", "d"),
    ];
    assert_eq!(versions(&entries), ["1", "1.9", "1.10", "2"]);
    let scripts = from_config_map(&config_map(&entries)).unwrap();
    assert_eq!(scripts[1].name, "V1_9__b");
    assert_eq!(scripts[1].down.as_deref(), Some("not b"));
}

#[test]
fn versions_that_differ_only_in_zeros_are_duplicates() {
    for (first, second) in [
        ("007_a.up.sql", "7_b.up.sql"),
        ("V1.0__a.sql", "V1__b.sql"),
        ("V1.2__a.sql", "V1_2__b.sql"),
        ("U01__a.sql", "U1__b.sql"),
    ] {
        let error = refusal(&[(first, "x"), (second, "y")]);
        let ScriptError::DuplicateVersion { first: a, second: b, .. } = &error else { panic!("{error}") };
        assert_eq!((a.as_str(), b.as_str()), (first, second));
    }
}

#[test]
fn each_refusal_names_the_key_and_says_what_to_write() {
    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[], "the ConfigMap has no keys; write scripts such as"),
        (&[("README.md", "hi")], "the key `README.md` is no script; write `<version>_<name>.up.sql`"),
        (&[("0001_a.sql", "x")], "the key `0001_a.sql` is no script"),
        (&[("1.2_a.up.sql", "x")], "the key `1.2_a.up.sql` is no script"),
        (&[("V1_a.sql", "x")], "the key `V1_a.sql` is no script"),
        (&[("v1__a.sql", "x")], "the key `v1__a.sql` is no script"),
        (&[("R__views.sql", "x")], "`R__views.sql` is a repeatable script, which has neither a place in the order"),
        (&[("B5__all.sql", "x")], "`B5__all.sql` is a baseline script"),
        (&[("0002_a.down.sql", "x")], "nothing takes it forward; add `0002_a.up.sql`"),
        (&[("U3__a.sql", "x")], "nothing takes it forward; add `V3__a.sql`"),
        (&[("1_a.up.sql", " \n")], "the script `1_a.up.sql` is empty"),
        (&[("1_a.up.sql", "a\0")], "the script `1_a.up.sql` holds a NUL byte at offset 1"),
    ];
    for (entries, expected) in cases {
        let message = refusal(entries).to_string();
        assert!(message.contains(expected), "{entries:?} was refused with {message:?}");
    }
    let mixed = refusal(&[("1_a.up.sql", "x"), ("V2__b.sql", "y")]).to_string();
    assert!(mixed.starts_with("`1_a.up.sql` and `V2__b.sql` follow two namings"), "{mixed}");
    let large = refusal(&[("99999999999999999999_a.up.sql", "x")]).to_string();
    assert!(large.contains("the version of `99999999999999999999_a.up.sql` is too large"), "{large}");
}

#[test]
fn sizes_are_limited_one_by_one_and_together() {
    let long = "x".repeat(MAX_SCRIPT + 1);
    assert_eq!(
        inline("expand", &long, None).unwrap_err(),
        ScriptError::TooLong { key: "up".into(), bytes: MAX_SCRIPT + 1 }
    );
    let fits = "x".repeat(MAX_SCRIPT);
    assert!(inline("expand", &fits, Some(&fits)).is_ok());
    let error = refusal(&[("1_a.up.sql", &fits), ("2_b.up.sql", &fits), ("3_c.up.sql", "x")]);
    assert_eq!(error, ScriptError::TooLarge { bytes: MAX_ALL_SCRIPTS + 1 });
    let many: BTreeMap<String, String> =
        (0..=MAX_SCRIPTS).map(|i| (format!("{i}_a.up.sql"), "SELECT 1".to_owned())).collect();
    assert_eq!(from_config_map(&many).unwrap_err(), ScriptError::TooMany { count: MAX_SCRIPTS + 1 });
}

#[test]
fn a_checksum_sees_every_change_but_line_ends_and_trailing_blanks() {
    let text = "SELECT 1;\nSELECT 2;";
    assert_eq!(checksum(text), checksum("SELECT 1;\r\nSELECT 2;\r\n"));
    assert_eq!(checksum(text), checksum("SELECT 1;\nSELECT 2;\n\n"));
    for changed in ["SELECT 1;\n\nSELECT 2;", "SELECT 1;\nselect 2;", " SELECT 1;\nSELECT 2;"] {
        assert_ne!(checksum(text), checksum(changed), "{changed:?}");
    }
    assert_eq!(checksum("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

proptest! {
    #[test]
    fn any_key_is_read_or_refused_by_name(key in "[-._a-zA-Z0-9]{1,40}") {
        match from_config_map(&config_map(&[(&key, "SELECT 1")])) {
            Ok(scripts) => prop_assert_eq!(scripts.len(), 1),
            Err(error) => prop_assert!(error.to_string().contains(&format!("`{key}`")), "{}", error),
        }
    }

    #[test]
    fn scripts_come_out_in_the_order_of_their_numbers(numbers in proptest::collection::btree_set(any::<u32>(), 1..20)) {
        let data = numbers.iter().map(|n| (format!("{n:0>width$}_a.up.sql", width = (n % 12) as usize), "x".to_owned()));
        let versions: Vec<String> =
            from_config_map(&data.collect()).unwrap().into_iter().map(|script| script.version).collect();
        prop_assert_eq!(versions, numbers.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
}
