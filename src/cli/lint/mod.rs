//! `lint`: what the API server, preflight and the worker would say of a Migration, said without any of them.

mod cel;
pub mod files;
mod forms;
mod queries;
mod schema;
mod scripts;
pub mod yaml;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{exit::Code, look::Look, out, problem::Problem};
use crate::{
    api::{Migration, MigrationSpec, crd::crd},
    engine::{Plan, world},
};
pub use files::File;

use files::Document;
use yaml::{Path, Place};

/// Arguments of `lint`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files or folders of YAML or JSON; `-` is standard input. Objects of other kinds are passed over, but ConfigMaps are
    /// looked through for the scripts that migrations name.
    #[arg(long, short = 'f', required = true, num_args = 1.., value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    format: Form,
    /// Warnings count as errors.
    #[arg(long)]
    strict: bool,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Human,
    /// SARIF 2.1.0, as code scanners read it.
    Sarif,
    /// Workflow commands, which GitHub shows beside the line.
    Github,
}

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It would be refused, or fail.
    Error,
    /// It works, and may not do what is meant.
    Warning,
    /// Worth knowing.
    Note,
}

/// Something found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of what found it.
    pub rule: String,
    /// How much it weighs.
    pub weight: Weight,
    /// Where in the document.
    pub path: Path,
    /// Where in the file, once that is known.
    pub at: Option<(PathBuf, Place)>,
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub advice: Option<String>,
}

impl Finding {
    /// A finding whose place in the file is that of its path.
    pub fn new(rule: impl Into<String>, weight: Weight, path: Path, message: impl Into<String>) -> Self {
        Self { rule: rule.into(), weight, path, at: None, message: message.into(), advice: None }
    }

    /// With what to do instead.
    #[must_use]
    pub fn advised(self, advice: Option<String>) -> Self {
        Self { advice, ..self }
    }
}

/// What linting has come to.
#[derive(Debug, Default)]
pub struct Report {
    /// What was found, in the order of files and lines.
    pub findings: Vec<Finding>,
    /// How many Migrations were looked at.
    pub migrations: usize,
}

/// Runs it.
pub fn run(arguments: &Arguments, look: &Look) -> Result<Code, Problem> {
    let files = files::read_all(&arguments.filename)?;
    let report = lint(&files);
    let text = match arguments.format {
        Form::Human => forms::human(&report, look),
        Form::Sarif => forms::sarif(&report),
        Form::Github => forms::github(&report),
    };
    out::print(&text)?;
    let counts = |finding: &Finding| match finding.weight {
        Weight::Error => true,
        Weight::Warning => arguments.strict,
        Weight::Note => false,
    };
    Ok(if report.findings.iter().any(counts) { Code::Findings } else { Code::Done })
}

/// Looks at every Migration of the files.
pub fn lint(files: &[File]) -> Report {
    let mut report = Report::default();
    let mut linter = Linter::new(files);
    for file in files {
        if let Some(error) = &file.error {
            let at = Some((file.path.clone(), error.at));
            let finding = Finding { at, ..Finding::new("yaml", Weight::Error, Path::default(), &error.message) };
            report.findings.push(finding);
        }
        for document in file.documents.iter().filter(|document| document.is_migration()) {
            report.migrations += 1;
            let found = linter.look(document);
            let placed = found.into_iter().map(|finding| {
                let at = finding.at.clone().or_else(|| {
                    let (_, at) = document.node.find(&finding.path);
                    Some((file.path.clone(), at))
                });
                Finding { at, ..finding }
            });
            report.findings.extend(placed);
        }
    }
    report.findings.sort_by(|one, other| (&one.at, one.weight).cmp(&(&other.at, other.weight)));
    report.findings.dedup();
    report
}

struct Linter<'a> {
    files: &'a [File],
    schema: Value,
    rules: cel::Rules,
}

impl<'a> Linter<'a> {
    fn new(files: &'a [File]) -> Self {
        let crd = serde_json::to_value(crd()).expect("a CRD is plain data");
        let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        // What every object has, and no CRD says.
        let text = json!({ "type": "string" });
        schema["properties"]["apiVersion"] = text.clone();
        schema["properties"]["kind"] = text;
        schema["properties"]["metadata"] = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
        Self { files, schema, rules: cel::Rules::default() }
    }

    fn look(&mut self, document: &Document) -> Vec<Finding> {
        let mut findings = Vec::new();
        let value = document.node.value();
        head(&value, &mut findings);
        let root = Path::default();
        schema::check(&value, &self.schema, &root, &mut findings);
        self.rules.check(&value, &self.schema, &root, &mut findings);
        let migration = match serde_json::from_value::<Migration>(value.clone()) {
            Ok(migration) => {
                let plan = Plan { hash: String::new(), spec: migration.spec.clone() };
                // What a rule has said already, in words of the spec, is not said again in those of the plan.
                if findings.iter().all(|finding| finding.rule != cel::RULE) {
                    findings.extend(plan.contradictions().iter().map(of_plan));
                }
                migration
            }
            Err(error) => {
                // The schema has mostly said it, and better.
                if findings.iter().all(|finding| finding.weight != Weight::Error) {
                    let message = format!("the operator can't read it: {error}");
                    findings.push(Finding::new(schema::RULE, Weight::Error, root.field("spec"), message));
                }
                what_can_be_read(&value)
            }
        };
        findings.extend(queries::look(&migration.spec));
        findings.extend(scripts::look(document, &migration, self.files));
        findings
    }
}

/// The guards and phases of a Migration that can't be read as a whole, each in its place; what can't be read of them is
/// left out.
fn what_can_be_read(value: &Value) -> Migration {
    fn readable<T: DeserializeOwned>(item: &Value, keep: &[&str], instead: &Value) -> T {
        let own = T::deserialize(item);
        let kept = own.or_else(|_| {
            let parts = keep.iter().filter_map(|name| Some(((*name).to_owned(), item.get(*name)?.clone())));
            let mut part = instead.clone();
            part.as_object_mut().expect("it has fields").extend(parts);
            T::deserialize(&part)
        });
        kept.or_else(|_| T::deserialize(instead)).expect("what is put in its place can be read")
    }
    let list = |name: &str| value["spec"][name].as_array().map(Vec::as_slice).unwrap_or_default();
    let nothing = json!({ "name": "" });
    let guards = list("guards").iter().map(|guard| readable(guard, &["query", "ratio"], &nothing));
    let phases = list("phases").iter().map(|phase| readable(phase, &["name", "sql", "observe", "guards"], &nothing));
    let spec = MigrationSpec { guards: guards.collect(), phases: phases.collect(), ..MigrationSpec::default() };
    Migration { spec, ..Migration::new("", MigrationSpec::default()) }
}

fn of_plan(finding: &world::Finding) -> Finding {
    let weight = match finding.weight {
        world::Weight::Refuse => Weight::Error,
        world::Weight::Wait | world::Weight::Warn => Weight::Warning,
    };
    Finding::new("plan", weight, Path::parse(&finding.path), &finding.message)
}

/// What the API server asks of any object.
fn head(value: &Value, findings: &mut Vec<Finding>) {
    let root = Path::default();
    let mut say = |path: Path, message: String| findings.push(Finding::new(schema::RULE, Weight::Error, path, message));
    if value["apiVersion"] != "alongside.dev/v1alpha1" {
        let message = format!("there is no Migration in {}: write alongside.dev/v1alpha1", value["apiVersion"]);
        say(root.field("apiVersion"), message);
    }
    let metadata = root.field("metadata");
    match (value["metadata"]["name"].as_str(), value["metadata"]["generateName"].as_str()) {
        (Some(name), _) if !is_name(name) => {
            let message = format!("{name:?} is no name: write lower-case letters, digits, `-` and `.`");
            say(metadata.field("name"), message);
        }
        (None, None) => say(metadata.field("name"), "`name` is missing".to_owned()),
        _ => {}
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends(part.chars().next())
            && ends(part.chars().next_back())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

#[cfg(test)]
mod tests;
