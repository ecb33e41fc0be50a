//! The reference of the resource in Markdown, from the very schema that is installed.

use std::{collections::BTreeMap, fmt::Write as _};

use alongside::api::{
    ABORT_ANNOTATION, APPROVE_ANNOTATION, APPROVED_BY_ANNOTATION, PAUSE_ANNOTATION, RETRY_ANNOTATION,
    ROLLBACK_ANNOTATION, access, rules,
    scalar::{PERCENT_PATTERN, SPAN_PATTERN},
};
use serde_json::Value;

/// Types of Kubernetes' own that are embedded as they are, and where `kubectl explain` tells about them.
const EMBEDDED: &[(&str, &str)] = &[
    ("spec.phases[].job.template", "Job template, as `kubectl explain cronjob.spec.jobTemplate` tells"),
    ("spec.phases[].job.undo", "Job template, as `kubectl explain cronjob.spec.jobTemplate` tells"),
    ("spec.podTemplate.affinity", "as `kubectl explain pod.spec.affinity` tells"),
    ("spec.podTemplate.imagePullSecrets", "as `kubectl explain pod.spec.imagePullSecrets` tells"),
    ("spec.podTemplate.resources", "as `kubectl explain pod.spec.containers.resources` tells"),
    ("spec.podTemplate.tolerations", "as `kubectl explain pod.spec.tolerations` tells"),
    ("status.conditions", "list of conditions, as in any Kubernetes object"),
];

/// Writes the page.
pub fn page(crd: &Value) -> String {
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut page = Page { text: String::new(), told: BTreeMap::new(), waiting: Vec::new() };
    let _ = write!(
        page.text,
        "<!-- Written by crdgen from src/api; change that instead. -->\n\
         # Migration\n\n\
         `{}/{}`, namespaced, short name `{}`. {}\n\n\
         `kubectl explain migration.spec` prints the same. A duration is a number and a unit (`500ms`, `30s`, `1h30m`, \
         `3d`), a share a number and a percent sign (`5%`). What the API server refuses is listed below each table, \
         with what it says.\n\n",
        text(&crd["spec"]["group"]),
        text(&version["name"]),
        text(&crd["spec"]["names"]["shortNames"][0]),
        text(&schema["description"]),
    );
    page.changes(schema);
    page.annotations();
    for top in ["spec", "status"] {
        page.waiting.push((top.to_owned(), schema["properties"][top].clone()));
        page.sections();
    }
    page.text
}

struct Page {
    text: String,
    /// Where each object has been told about, by its schema without its own description.
    told: BTreeMap<String, String>,
    /// Objects met on the way, to be told about next.
    waiting: Vec<(String, Value)>,
}

impl Page {
    fn changes(&mut self, schema: &Value) {
        self.text.push_str("## Changes\n\nThe plan is frozen when a migration begins. Later phases may change.\n\n");
        self.refusals(schema, None);
        self.text.push('\n');
    }

    fn annotations(&mut self) {
        let _ = write!(
            self.text,
            "## Annotations\n\n\
             What people tell a migration to do. The value is `<phase>@<plan hash>/<attempt>`, as `status.binding` \
             shows it, so that one that is out of date does nothing; it acts once. Setting it takes a right on the \
             migration, a verb of its own in the group `alongside.dev`.\n\n\
             | annotation | what it does | right |\n|---|---|---|\n"
        );
        let (approve, abort) = (access::VERB_APPROVE, access::VERB_ABORT);
        for (annotation, what, right) in [
            (APPROVE_ANNOTATION, "Approves the phase.", approve),
            (APPROVED_BY_ANNOTATION, "Who approves: the name of the user who sets `approve`.", approve),
            (PAUSE_ANNOTATION, "Holds every forward step for as long as it is there.", abort),
            (ABORT_ANNOTATION, "Stops and takes everything back. The phase may be `*`.", abort),
            (ROLLBACK_ANNOTATION, "Takes back what went well, until the end of the bake. The phase may be `*`.", abort),
            (RETRY_ANNOTATION, "Begins a new attempt, or tries a stalled step again. The phase may be `*`.", abort),
        ] {
            let _ = writeln!(self.text, "| `{annotation}` | {what} | `{right}` |");
        }
        self.text.push('\n');
    }

    fn sections(&mut self) {
        while !self.waiting.is_empty() {
            let (path, node) = self.waiting.remove(0);
            self.section(&path, &node);
        }
    }

    fn section(&mut self, path: &str, node: &Value) {
        let level = if path.contains('.') { "###" } else { "##" };
        let _ = write!(
            self.text,
            "{level} `{path}`\n\n{}\n\n| field | type | what |\n|---|---|---|\n",
            text(&node["description"])
        );
        let required = node["required"].as_array().cloned().unwrap_or_default();
        let properties = node["properties"].as_object().expect("a section is about an object");
        let mut found = Vec::new();
        for (name, field) in properties {
            let mut kind = self.kind(&format!("{path}.{name}"), field, &mut found);
            if required.iter().any(|required| required == name) {
                kind.push_str(", required");
            }
            if let Some(default) = field.get("default") {
                let _ = write!(kind, ", default `{}`", default.as_str().map_or(default.to_string(), str::to_owned));
            }
            let _ = writeln!(self.text, "| `{name}` | {kind} | {} |", text(&field["description"]).replace('|', "\\|"));
        }
        self.text.push('\n');
        let before = self.text.len();
        self.refusals(node, None);
        // An object's own rules stand in its own section.
        for (name, field) in properties.iter().filter(|(_, field)| field["properties"].is_null()) {
            self.refusals(field, Some(name));
        }
        if self.text.len() > before {
            self.text.insert_str(before, "Refused, with these words:\n\n");
            self.text.push('\n');
        }
        found.append(&mut self.waiting);
        self.waiting = found;
    }

    /// What can be written there. An object that hasn't been told about yet is put on `found`.
    fn kind(&mut self, path: &str, node: &Value, found: &mut Vec<(String, Value)>) -> String {
        if let Some((_, words)) = EMBEDDED.iter().find(|(embedded, _)| *embedded == path) {
            return (*words).to_owned();
        }
        if let Some(values) = node["enum"].as_array() {
            return values.iter().map(|value| format!("`{}`", text(value))).collect::<Vec<_>>().join(" or ");
        }
        match node["type"].as_str() {
            Some("object") if node["properties"].is_object() => self.object(path, node, found),
            Some("object") => match node["maxProperties"].as_u64() {
                Some(most) => format!("map of up to {most} strings"),
                None => "map of strings".to_owned(),
            },
            Some("array") => {
                let items = self.kind(&format!("{path}[]"), &node["items"], found);
                match node["maxItems"].as_u64() {
                    Some(most) => format!("list of up to {most}: {items}"),
                    None => format!("list: {items}"),
                }
            }
            Some("string") => string(node),
            Some("integer") => match (node["minimum"].as_f64(), node["maximum"].as_f64()) {
                (Some(least), Some(most)) => format!("integer, {least} to {most}"),
                _ => "integer".to_owned(),
            },
            Some(other) => other.to_owned(),
            None => "integer or string".to_owned(),
        }
    }

    fn object(&mut self, path: &str, node: &Value, found: &mut Vec<(String, Value)>) -> String {
        let mut bare = node.clone();
        bare.as_object_mut().expect("an object's schema is one").remove("description");
        let first = self.told.entry(bare.to_string()).or_insert_with(|| {
            found.push((path.to_owned(), node.clone()));
            path.to_owned()
        });
        format!("[{}](#{})", first.rsplit('.').next().unwrap_or(first), anchor(first))
    }

    fn refusals(&mut self, node: &Value, field: Option<&str>) {
        let mut last = "";
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let is_pattern =
                rules::PATTERNS.iter().any(|(pattern, _)| rule["rule"] == rules::matches(pattern).as_str());
            let message = text(&rule["message"]);
            if is_pattern || message == last {
                continue;
            }
            last = message;
            let _ = match field {
                Some(field) => writeln!(self.text, "- `{field}`: {message}"),
                None => writeln!(self.text, "- {message}"),
            };
        }
    }
}

fn string(node: &Value) -> String {
    let has = |pattern: &str| {
        let rule = rules::matches(pattern);
        node["x-kubernetes-validations"]
            .as_array()
            .is_some_and(|rules| rules.iter().any(|at| at["rule"] == rule.as_str()))
    };
    if has(SPAN_PATTERN) {
        "duration".to_owned()
    } else if has(PERCENT_PATTERN) {
        "share".to_owned()
    } else if node["format"] == "date-time" {
        "time".to_owned()
    } else {
        match node["maxLength"].as_u64() {
            Some(most) => format!("string of up to {most}"),
            None => "string".to_owned(),
        }
    }
}

/// The anchor that GitHub gives to a heading in backticks.
fn anchor(path: &str) -> String {
    path.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
