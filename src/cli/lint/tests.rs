use super::*;

fn found(text: &str) -> Vec<String> {
    let files = [File::of(PathBuf::from("m.yaml"), text)];
    let told = |finding: Finding| {
        let line = finding.at.map_or(0, |(_, at)| at.line);
        format!("{line} {:?} {} {}: {}", finding.weight, finding.rule, finding.path, finding.message)
    };
    lint(&files).findings.into_iter().map(told).collect()
}

fn migration(spec: &str) -> String {
    format!("apiVersion: alongside.dev/v1alpha1\nkind: Migration\nmetadata: {{name: m}}\nspec:\n{spec}")
}

#[test]
fn what_is_right_leaves_nothing_to_say() {
    let spec = "
  stores: [{name: db, postgres: {secretRef: {name: db, key: uri}}}]
  guards: [{name: errors, max: 0.01, ratio: {errors: 'sum(rate(e_total[1m]))', total: 'sum(rate(t_total[1m]))'}}]
  phases:
  - {name: expand, sql: {store: db, up: {inline: ALTER TABLE a ADD COLUMN b text;}}}
  - {name: cut-over, switch: {service: shop, from: {version: v1}, to: {version: v2}}}
  - {name: bake, bake: {for: 1d}}";
    assert_eq!(found(&migration(spec)), [""; 0]);
}

#[test]
fn wrong_types_and_names_are_told_at_their_line() {
    let spec = "  until: 3\n  phases:\n  - name: ask\n    approval: Maybe\n    retrys: 2\n";
    assert_eq!(
        found(&migration(spec)),
        [
            "5 Error schema spec.until: must be a text, and is the number 3: put it in quotes",
            "8 Error schema spec.phases[0].approval: \"Maybe\" is none of Required, NotRequired",
            "9 Error schema spec.phases[0].retrys: `retrys` is no field here",
        ]
    );
}

#[test]
fn a_rule_speaks_with_its_own_words() {
    let spec = "  until: bake\n  phases:\n  - {name: ask, approval: Required}\n";
    assert_eq!(
        found(&migration(spec)),
        ["5 Error rule spec.until: `until` is `bake`, which names no phase: write the name of one, or leave it out"]
    );
    let spec = "  phases:\n  - {name: look, observe: {query: up, max: 1, for: soon}}\n";
    assert_eq!(
        found(&migration(spec)),
        [
            "6 Error rule spec.phases[0].observe.for: write a number and a unit, such as `500ms`, `30s`, `10m`, `24h` or `3d`"
        ]
    );
}

#[test]
fn scripts_are_looked_at_on_their_own_lines() {
    let spec = "  stores: [{name: db, postgres: {secretRef: {name: db, key: uri}}}]
  phases:
  - name: expand
    sql:
      store: db
      up:
        inline: |
          ALTER TABLE a ADD COLUMN b text;
          CREATE INDEX a_b ON a (b);
";
    let found = found(&migration(spec));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with("13 Error sql/require-concurrent-index-creation spec.phases[0].sql: "), "{found:#?}");
}

#[test]
fn scripts_of_a_config_map_are_found_beside_the_migration() {
    let spec = "  stores: [{name: db, postgres: {secretRef: {name: db, key: uri}}}]
  phases:
  - {name: expand, sql: {store: db, from: {configMap: scripts}}}
";
    let alone = found(&migration(spec));
    assert!(alone.len() == 1 && alone[0].contains("Note scripts spec.phases[0].sql.from.configMap"), "{alone:#?}");
    let data = "data:\n  0001_a.up.sql: |\n    SELECT 1;\n    VACUUM FULL a;\n";
    let with = format!("{}---\nkind: ConfigMap\nmetadata: {{name: scripts}}\n{data}", migration(spec));
    let with = found(&with);
    assert!(with.len() == 1 && with[0].starts_with("14 Error sql/"), "{with:#?}");
    let wrong = format!("{}---\nkind: ConfigMap\nmetadata: {{name: scripts}}\ndata: {{readme: x}}\n", migration(spec));
    assert!(found(&wrong)[0].contains("Error scripts"), "{:#?}", found(&wrong));
}

#[test]
fn queries_are_looked_at() {
    let spec = "  guards:
  - {name: a, max: 1, query: 'max(b))'}
  - {name: b, max: 1, query: 'sum(rate(t_total{code=~\"5..\"}[1m])) / sum(rate(t_total[1m]))'}
  phases: [{name: ask, approval: Required}]
";
    let found = found(&migration(spec));
    assert!(found[0].starts_with("6 Error promql spec.guards[0].query: the query doesn't parse at line 1, column 7"));
    assert!(found[1].starts_with("7 Warning promql-trap spec.guards[1].query: "), "{found:#?}");
}

#[test]
fn other_kinds_and_groups_are_passed_over() {
    let text = "kind: Deployment\nspec: {phases: 3}\n---\napiVersion: other.dev/v1\nkind: Migration\n---\n# nothing\n";
    assert_eq!(found(text), [""; 0]);
}

#[test]
fn a_quantity_that_is_none_is_found() {
    let spec =
        "  podTemplate: {resources: {limits: {memory: much, cpu: 0.5}}}\n  phases: [{name: ask, approval: Required}]\n";
    assert_eq!(
        found(&migration(spec)),
        [
            "5 Error schema spec.podTemplate.resources.limits.memory: \"much\" is no quantity, such as 500m, 2, 128Mi or 1Gi"
        ]
    );
}
