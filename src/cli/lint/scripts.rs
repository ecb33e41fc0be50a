//! The SQL of a migration's scripts: what the worker would say of it before its first effect. Scripts of ConfigMaps are
//! found where the ConfigMap is among the files.

use std::collections::BTreeMap;

use super::{
    Document, File, Finding, Weight,
    yaml::{Kind, Node, Path},
};
use crate::{
    api::{Migration, Script, SqlAction},
    engine::{
        Plan,
        scripts::{self, VersionedScript},
    },
    stores::{
        self,
        postgres::{
            lint::{self, Direction, Leniency, Strictness, Subject},
            script,
        },
    },
};

/// Looks at the scripts of every `sql` phase.
pub fn look(document: &Document, migration: &Migration, files: &[File]) -> Vec<Finding> {
    let plan = Plan { hash: String::new(), spec: migration.spec.clone() };
    let no_return = plan.point_of_no_return();
    let phases = Path::parse("spec.phases");
    let mut findings = Vec::new();
    for (index, phase) in plan.phases().iter().enumerate() {
        let Some(sql) = phase.sql.as_deref() else { continue };
        let path = phases.item(index).field("sql");
        let place = Where { document, files, path: &path };
        match place.scripts(&phase.name, sql) {
            Ok(found) => {
                let past_no_return = no_return.is_some_and(|last| index >= last);
                findings.extend(place.lint(&found, sql, past_no_return));
            }
            Err(finding) => findings.push(*finding),
        }
    }
    findings
}

/// A field of a mapping: its name, where that stands, and its value.
type Field = (String, super::Place, Node);

/// Scripts, and where each text stands.
struct Found<'a> {
    scripts: Vec<VersionedScript>,
    texts: Vec<(&'a std::path::Path, &'a Node)>,
}

struct Where<'a> {
    document: &'a Document,
    files: &'a [File],
    path: &'a Path,
}

impl<'a> Where<'a> {
    fn scripts(&self, phase: &str, sql: &SqlAction) -> Result<Found<'a>, Box<Finding>> {
        let refuse = |path: &Path, error: String| Box::new(Finding::new("scripts", Weight::Error, path.clone(), error));
        if let Some(source) = &sql.from {
            let path = self.path.field("from").field("configMap");
            let (file, data) = self.config_map(&source.config_map).ok_or_else(|| unseen(&source.config_map, &path))?;
            let texts: BTreeMap<String, String> =
                data.iter().filter_map(|(key, _, node)| Some((key.clone(), text_of(node)?.to_owned()))).collect();
            let scripts = scripts::from_config_map(&texts).map_err(|error| refuse(&path, error.to_string()))?;
            return Ok(Found { scripts, texts: data.iter().map(|(_, _, node)| (file, node)).collect() });
        }
        let mut texts = Vec::new();
        let mut read = |script: &Option<Script>, name: &str| -> Result<Option<String>, Box<Finding>> {
            let Some(script) = script else { return Ok(None) };
            let path = self.path.field(name);
            if let Some(inline) = &script.inline {
                let (node, _) = self.document.node.find(&path.field("inline"));
                texts.push((self.own_file(), node));
                return Ok(Some(inline.clone()));
            }
            let Some(key) = &script.config_map_key else { return Ok(None) };
            let path = path.field("configMapKey");
            let (file, data) = self.config_map(&key.name).ok_or_else(|| unseen(&key.name, &path))?;
            let node = data.iter().find(|(name, ..)| *name == key.key).map(|(_, _, node)| node);
            let node = node
                .ok_or_else(|| refuse(&path.field("key"), format!("ConfigMap {} has no key {}", key.name, key.key)))?;
            texts.push((file, node));
            Ok(text_of(node).map(str::to_owned))
        };
        let (up, down) = (read(&sql.up, "up")?, read(&sql.down, "down")?);
        let Some(up) = up else { return Ok(Found { scripts: Vec::new(), texts }) };
        let scripts = scripts::inline(phase, &up, down.as_deref());
        Ok(Found { scripts: scripts.map_err(|error| refuse(self.path, error.to_string()))?, texts })
    }

    fn own_file(&self) -> &'a std::path::Path {
        let own = |file: &&File| file.documents.iter().any(|document| std::ptr::eq(document, self.document));
        &self.files.iter().find(own).expect("the document is of one of the files").path
    }

    /// The texts of a ConfigMap of the Migration's own namespace.
    fn config_map(&self, name: &str) -> Option<(&'a std::path::Path, &'a [Field])> {
        self.files.iter().find_map(|file| {
            let document = file.documents.iter().find(|document| {
                document.is("ConfigMap")
                    && document.name() == Some(name)
                    && document.namespace() == self.document.namespace()
            })?;
            match &document.node.get("data")?.kind {
                Kind::Mapping(data) => Some((file.path.as_path(), data.as_slice())),
                Kind::Scalar(..) | Kind::List(_) => None,
            }
        })
    }

    fn lint(&self, found: &Found<'a>, sql: &SqlAction, past_no_return: bool) -> Vec<Finding> {
        let allow = sql.lint.as_ref().map_or(&[][..], |lint| &lint.allow);
        let leniency = Leniency { allow, past_no_return, strictness: Strictness::Full };
        let mut findings = Vec::new();
        for direction in [Direction::Up, Direction::Down] {
            let texts: Vec<(&VersionedScript, &str, script::Script)> = found
                .scripts
                .iter()
                .filter_map(|one| {
                    let text = match direction {
                        Direction::Up => Some(one.up.as_str()),
                        Direction::Down => one.down.as_deref(),
                    }?;
                    Some((one, text, script::Script::parse(text)))
                })
                .collect();
            let subjects: Vec<Subject<'_>> =
                texts.iter().map(|(one, text, script)| Subject { name: &one.name, text, script, direction }).collect();
            for finding in lint::lint(&subjects, leniency) {
                let text =
                    texts.iter().find(|(one, ..)| Some(&one.name) == finding.script.as_ref()).map(|(_, text, _)| *text);
                findings.push(self.place(finding, text, found));
            }
        }
        findings
    }

    /// A finding about a script, shown on its line in the file that the script stands in.
    fn place(&self, finding: stores::Finding, text: Option<&str>, found: &Found<'_>) -> Finding {
        let weight = match finding.severity {
            stores::Severity::Error => Weight::Error,
            stores::Severity::Warning => Weight::Warning,
        };
        let rule = format!("sql/{}", finding.rule);
        let mut placed = Finding::new(rule, weight, self.path.clone(), finding.message).advised(Some(finding.advice));
        let stands = found.texts.iter().find(|(_, node)| text_of(node) == text);
        if let Some((file, node)) = stands {
            let line = node.line_of(finding.line.unwrap_or(1));
            let column = if line == node.at.line { node.at.column } else { 1 };
            placed.at = Some(((*file).to_owned(), super::Place { line, column }));
        }
        placed
    }
}

fn text_of(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar(text, _) => Some(text),
        Kind::Mapping(_) | Kind::List(_) => None,
    }
}

fn unseen(name: &str, path: &Path) -> Box<Finding> {
    let message = format!("ConfigMap {name} is not among the files, so its scripts are not looked at");
    let advice = "give its file too; preflight looks at them in any case";
    Box::new(Finding::new("scripts", Weight::Note, path.clone(), message).advised(Some(advice.to_owned())))
}
