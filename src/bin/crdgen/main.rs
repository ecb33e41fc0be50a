//! Writes every file that is made from the types and tables of `src/api`, the chart's values and Argo CD's scripts:
//! `crdgen --write`. With `--check` it changes nothing and fails if a file is not what it would write.

mod argocd;
mod chart;
mod reference;
mod values;
mod yaml;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use alongside::api::crd::crd;
use clap::Parser;
use serde_json::Value;

/// Writes the CRD, the chart's copy of it, its roles, and the reference documentation.
#[derive(Parser)]
#[group(required = true, multiple = false)]
struct Arguments {
    /// Write the files.
    #[arg(long)]
    write: bool,
    /// Write nothing; fail if a file differs from what would be written.
    #[arg(long)]
    check: bool,
}

/// Why a file could not be made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("could not read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("could not write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} has no lines `{mark}`")]
    NoMark { path: PathBuf, mark: &'static str },
    #[error("charts/alongside/values.yaml: {0}")]
    Values(#[from] values::Unreadable),
}

/// A file as it should be.
struct Generated {
    /// Path from the repository's root.
    path: &'static str,
    text: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    match generate(root)
        .and_then(|files| if arguments.check { Ok(differing(root, &files)) } else { write(root, &files) })
    {
        Ok(differing) if differing.is_empty() => ExitCode::SUCCESS,
        Ok(differing) => {
            for path in differing {
                eprintln!("{path} is not what `cargo run --bin crdgen -- --write` writes");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            let mut cause: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = cause {
                eprintln!("error: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn generate(root: &Path) -> Result<Vec<Generated>, Error> {
    let crd = serde_json::to_value(crd()).expect("a CRD is plain data");
    let values = read(root, "charts/alongside/values.yaml")?;
    let readme = read(root, "charts/alongside/README.md")?;
    let argocd = argocd::config_map(&scripts(root)?);
    Ok(vec![
        Generated { path: "deploy/argocd/argocd-cm.yaml", text: argocd },
        // Helm can only read what is in the chart's own folder.
        Generated {
            path: "deploy/grafana/alongside.json",
            text: read(root, "charts/alongside/dashboards/alongside.json")?,
        },
        Generated { path: "crds/alongside.dev_migrations.yaml", text: crd_yaml(&crd) },
        Generated { path: "charts/alongside/templates/crd.yaml", text: chart::crd_template(&crd) },
        Generated { path: "charts/alongside/templates/_access.tpl", text: chart::access_template() },
        Generated { path: "docs/reference/migration.md", text: reference::page(&crd) },
        Generated {
            path: "charts/alongside/README.md",
            text: between_marks(root, "charts/alongside/README.md", &readme, &values::table(&values)?)?,
        },
    ])
}

fn differing(root: &Path, files: &[Generated]) -> Vec<&'static str> {
    let differs = |file: &&Generated| fs::read_to_string(root.join(file.path)).ok().as_ref() != Some(&file.text);
    files.iter().filter(differs).map(|file| file.path).collect()
}

fn write(root: &Path, files: &[Generated]) -> Result<Vec<&'static str>, Error> {
    for file in files {
        let path = root.join(file.path);
        let folder = path.parent().expect("a file is in a folder");
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, &file.text))
            .map_err(|source| Error::Write { path, source })?;
    }
    Ok(Vec::new())
}

fn scripts(root: &Path) -> Result<argocd::Scripts, Error> {
    let script =
        |path: &str| read(root, &format!("deploy/argocd/resource_customizations/alongside.dev/Migration/{path}"));
    let actions = argocd::ACTIONS.iter().map(|name| script(&format!("actions/{name}/action.lua")));
    Ok(argocd::Scripts {
        health: script("health.lua")?,
        discovery: script("actions/discovery.lua")?,
        actions: actions.collect::<Result<_, _>>()?,
    })
}

fn read(root: &Path, path: &str) -> Result<String, Error> {
    let path = root.join(path);
    fs::read_to_string(&path).map_err(|source| Error::Read { path, source })
}

/// The CRD as YAML; the two Job templates, most of it and of interest to nobody, are a line each.
fn crd_yaml(crd: &Value) -> String {
    let is_template = |path: &[&str]| matches!(path, [.., "job", "properties", "template" | "undo"]);
    format!("# Written by crdgen from src/api; change that instead.\n{}", yaml::document(crd, &is_template))
}

const BEGIN: &str = "<!-- written by crdgen from values.yaml; change that instead -->";
const END: &str = "<!-- end -->";

/// Puts `text` between the marks of a file that is otherwise written by hand.
fn between_marks(root: &Path, path: &str, page: &str, text: &str) -> Result<String, Error> {
    let no_mark = |mark| Error::NoMark { path: root.join(path), mark };
    let (head, rest) = page.split_once(BEGIN).ok_or_else(|| no_mark(BEGIN))?;
    let (_, tail) = rest.split_once(END).ok_or_else(|| no_mark(END))?;
    Ok(format!("{head}{BEGIN}\n{text}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use alongside::api::crd::MAX_BYTES;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

    use super::*;

    #[test]
    fn the_file_holds_the_very_crd() {
        let text = crd_yaml(&serde_json::to_value(crd()).unwrap());
        assert_eq!(serde_saphyr::from_str::<CustomResourceDefinition>(&text).unwrap(), crd());
    }

    #[test]
    fn the_file_is_as_small_as_the_crd_must_be() {
        let text = crd_yaml(&serde_json::to_value(crd()).unwrap());
        assert!(text.len() < MAX_BYTES, "{} bytes", text.len());
    }

    #[test]
    fn every_generated_file_is_up_to_date() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(differing(root, &generate(root).unwrap()), Vec::<&str>::new());
    }
}
