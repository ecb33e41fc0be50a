//! Every Migration that the repository shows to users, applied as written.

use std::path::{Path, PathBuf};

use alongside::api::Migration;
use kube::{Api, ResourceExt as _};

use crate::{
    server::{CLUSTER, migrations},
    support::cluster::root,
};

/// A Migration, and where it is shown.
struct Shown {
    file: PathBuf,
    yaml: String,
}

#[test]
fn every_migration_that_is_shown_is_accepted_as_written_and_read_by_the_operator() {
    let shown = all();
    let examples = shown.iter().filter(|shown| shown.file.starts_with(root().join("deploy/examples"))).count();
    assert!(examples >= 2, "{examples} examples");
    for Shown { file, yaml } in shown {
        let file = file.display();
        let migration: Migration = serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{file}: {error}"));
        if let Some(namespace) = &migration.metadata.namespace {
            // It may be there from another example.
            CLUSTER.say("kubectl", &["create", "namespace", namespace], "");
        }
        let applied = CLUSTER.say("kubectl", &["apply", "-f", "-"], &yaml);
        assert!(applied.success, "{file}: {}", applied.stderr);
        let read = CLUSTER.run(async || {
            let migrations: Api<Migration> = match &migration.metadata.namespace {
                Some(namespace) => Api::namespaced(CLUSTER.client(), namespace),
                None => migrations(CLUSTER.client()),
            };
            migrations.get(&migration.name_any()).await
        });
        let read = read.unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(read.spec, migration.spec, "{file}: what is read is what was written");
    }
}

/// Migrations in the examples, in the README and in the documentation.
fn all() -> Vec<Shown> {
    let mut files = vec![root().join("README.md")];
    for folder in ["deploy", "docs", "charts"] {
        walk(&root().join(folder), &mut files);
    }
    let mut shown = Vec::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        let documents = match file.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => text.split("\n---\n").map(str::to_owned).collect(),
            Some("md") => blocks(&text),
            _ => continue,
        };
        let migrations = documents.into_iter().filter(|yaml| yaml.lines().any(|line| line == "kind: Migration"));
        shown.extend(migrations.map(|yaml| Shown { file: file.clone(), yaml }));
    }
    shown
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What tools are tested with is shown to nobody.
        if path.ends_with("testdata") {
            continue;
        }
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// The YAML documents in a page's fenced blocks.
fn blocks(page: &str) -> Vec<String> {
    let fenced = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    fenced.flat_map(|block| block.split("\n---\n")).map(str::to_owned).collect()
}
