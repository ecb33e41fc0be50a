//! The parts of the Helm chart that follow from `src/api`.

use std::fmt::Write as _;

use alongside::api::access::{self, Access, Named};
use serde_json::{Value, json};

use crate::{crd_yaml, yaml};

/// The CRD as a template: it can be left out, and it stays when the release is uninstalled.
pub fn crd_template(crd: &Value) -> String {
    let text = crd_yaml(crd);
    assert!(!text.contains("{{"), "a template would run what is in the CRD");
    let (head, tail) = text.split_once(METADATA).expect("the metadata is a line of its own");
    format!("{{{{- if .Values.crds.install }}}}\n{head}{MARKED_METADATA}{tail}{{{{- end }}}}\n")
}

const METADATA: &str = "metadata: {name: migrations.alongside.dev}\n";

const MARKED_METADATA: &str = "\
metadata:
  name: migrations.alongside.dev
  labels:
    {{- include \"alongside.labels\" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
";

/// The rules of every role, as named templates.
pub fn access_template() -> String {
    let mut text = String::from("{{/* Written by crdgen from src/api/access.rs; change that instead. */}}\n");
    for (name, rules) in [
        ("operator", access::OPERATOR),
        ("operatorAtHome", access::OPERATOR_AT_HOME),
        ("viewer", access::VIEWER),
        ("editor", access::EDITOR),
        ("approver", access::APPROVER),
    ] {
        let _ = write!(text, "\n{{{{- define \"alongside.access.{name}\" -}}}}\n");
        for rule in rules {
            text.push_str(&rule_text(rule));
        }
        text.push_str("{{- end }}\n");
    }
    text
}

fn rule_text(access: &Access) -> String {
    let Access { group, resources, verbs, only, why } = access;
    let mut text = format!(
        "# {why}\n- apiGroups: {}\n  resources: {}\n  verbs: {}\n",
        yaml::line(&json!([group])),
        yaml::line(&json!(resources)),
        yaml::line(&json!(verbs)),
    );
    match only {
        Some(Named::Lease) => text.push_str("  resourceNames: [{{ include \"alongside.leaseName\" . | quote }}]\n"),
        None => {}
    }
    text
}
