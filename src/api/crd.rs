//! The CustomResourceDefinition: the types' schema, cut to what an API server likes, with the rules put in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{rules, spec::Migration};

/// Largest CRD that client-side `kubectl apply` can still handle: its annotation holds the whole text.
pub const MAX_BYTES: usize = 200 * 1024;

/// Builds the CRD that is installed.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = serde_json::to_value(Migration::crd()).expect("a CRD is plain data");
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for template in TEMPLATES {
        trim_template(descend(schema, template));
    }
    for field in ["affinity", "tolerations", "resources", "imagePullSecrets"] {
        drop_descriptions_below(descend(schema, &format!("spec.podTemplate.{field}")));
    }
    for list in ["spec.stores", "spec.guards", "spec.phases", "spec.phases.[].guards"] {
        let node = descend(schema, list);
        node["x-kubernetes-list-type"] = json!("map");
        node["x-kubernetes-list-map-keys"] = json!(["name"]);
    }
    descend(schema, "spec.phases.[].switch.services")["x-kubernetes-list-type"] = json!("set");
    for labels in [
        "spec.phases.[].switch.from",
        "spec.phases.[].switch.to",
        "spec.podTemplate.labels",
        "spec.podTemplate.nodeSelector",
    ] {
        let value = json!({ "type": "string", "maxLength": 63, "pattern": rules::LABEL_VALUE_PATTERN });
        bound_map(descend(schema, labels), &value);
    }
    bound_map(
        descend(schema, "spec.phases.[].backfill.set"),
        &json!({ "type": "string", "minLength": 1, "maxLength": 2048 }),
    );
    descend(schema, "spec.phases.[].backfill.set")["minProperties"] = json!(1);
    bound_map(descend(schema, "spec.podTemplate.annotations"), &json!({ "type": "string", "maxLength": 1024 }));
    loosen_status(descend(schema, "status"));
    for rule in rules::all() {
        add_rule(descend(schema, &rule.at), &rule);
    }
    each_schema(schema, &mut explain_pattern);
    each_schema(descend(schema, "spec"), &mut bound_integers);
    tidy(schema);
    serde_json::from_value(crd).expect("what was a CRD still is one")
}

/// Where Job templates are embedded; they make up most of the CRD.
pub const TEMPLATES: [&str; 2] = ["spec.phases.[].job.template", "spec.phases.[].job.undo"];

/// Walks to a node: property names separated by dots, `[]` for a list's items.
fn descend<'a>(schema: &'a mut Value, path: &str) -> &'a mut Value {
    let mut node = schema;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        node = match step {
            "[]" => &mut node["items"],
            name => &mut node["properties"][name],
        };
        assert!(node.is_object(), "the schema has no node {step} of {path}");
    }
    node
}

fn add_rule(node: &mut Value, rule: &rules::Rule) {
    let mut validation = json!({ "rule": rule.rule, "message": rule.message });
    if let Some(said) = rule.said {
        validation["messageExpression"] = json!(said);
    }
    if let Some(field) = rule.field {
        validation["fieldPath"] = json!(field);
    }
    if rule.old_self_is_optional {
        validation["optionalOldSelf"] = json!(true);
    }
    validations(node.as_object_mut().expect("a schema node is an object")).push(validation);
}

fn validations(node: &mut Map<String, Value>) -> &mut Vec<Value> {
    node.entry("x-kubernetes-validations").or_insert_with(|| json!([])).as_array_mut().expect("validations are a list")
}

/// Puts a rule with a message for people in the place of a pattern. It goes first: it is what the rest relies on.
fn explain_pattern(schema: &mut Map<String, Value>) {
    let Some(Value::String(pattern)) = schema.remove("pattern") else { return };
    let (_, message) = rules::PATTERNS
        .iter()
        .find(|(known, _)| *known == pattern)
        .unwrap_or_else(|| panic!("the pattern {pattern} has no message in rules::PATTERNS"));
    validations(schema).insert(0, json!({ "rule": rules::matches(&pattern), "message": message }));
}

/// The API server checks no `format: int32`, and one object that the operator's types can't read would end its watch of
/// all others. Integers of 64 bits are refused by the API server itself where they don't fit.
fn bound_integers(schema: &mut Map<String, Value>) {
    if schema.get("format").is_some_and(|format| format == "int32") {
        schema.entry("minimum").or_insert_with(|| json!(i32::MIN));
        schema.entry("maximum").or_insert_with(|| json!(i32::MAX));
    }
    let port = schema.get_mut("properties").and_then(|properties| properties.get_mut("port"));
    if let Some(port) = port.filter(|port| port["x-kubernetes-int-or-string"] == true) {
        port["maximum"] = json!(u16::MAX);
    }
}

/// A Job template without its prose, without what no Job can have, and with a metadata of just labels and annotations:
/// 45 KB instead of 200.
fn trim_template(node: &mut Value) {
    drop_descriptions_below(node);
    for path in ["metadata", "spec.template.metadata"] {
        *descend(node, path) = json!({
            "type": "object",
            "properties": {
                "labels": { "type": "object", "maxProperties": 32, "additionalProperties": { "type": "string" } },
                "annotations": { "type": "object", "maxProperties": 32, "additionalProperties": { "type": "string" } },
            },
        });
    }
    for path in ["", "spec.template"] {
        require(descend(node, path), "spec");
    }
    let containers = descend(node, "spec.template.spec.containers");
    containers["minItems"] = json!(1);
    containers["maxItems"] = json!(16);
    for (path, never) in NOT_IN_A_JOB {
        let properties = descend(node, path)["properties"].as_object_mut().expect("an object has properties");
        for name in *never {
            assert!(properties.remove(*name).is_some(), "there is no {name} to remove from {path}");
        }
    }
}

/// What the API server accepts in no Job, or what no kubelet of a supported version can mount by itself any more: a
/// driver does, by `csi` or by a claim.
const NOT_IN_A_JOB: &[(&str, &[&str])] = &[
    ("spec.template.spec", &["ephemeralContainers"]),
    (
        "spec.template.spec.volumes.[]",
        &[
            "flocker",
            "gitRepo",
            "glusterfs",
            "photonPersistentDisk",
            "quobyte",
            "rbd",
            "cephfs",
            "scaleIO",
            "storageos",
            "awsElasticBlockStore",
            "azureDisk",
            "azureFile",
            "cinder",
            "flexVolume",
            "gcePersistentDisk",
            "portworxVolume",
            "vsphereVolume",
        ],
    ),
];

fn require(node: &mut Value, property: &str) {
    let schema = node.as_object_mut().expect("a schema node is an object");
    let required = schema.entry("required").or_insert_with(|| json!([])).as_array_mut().expect("required is a list");
    required.push(json!(property));
}

/// Removes `description` from all below a node, but not a property of that name.
fn drop_descriptions_below(node: &mut Value) {
    let own = node.get("description").cloned();
    each_schema(node, &mut |schema| {
        schema.remove("description");
    });
    if let Some(own) = own {
        node["description"] = own;
    }
}

/// Bounds a map so that CEL's cost estimate stays finite.
fn bound_map(node: &mut Value, value: &Value) {
    // schemars writes a map's bounds as a string's or list's; the API server wants them as properties'.
    for wrong in ["minLength", "maxLength", "minItems", "maxItems"] {
        node.as_object_mut().expect("a schema node is an object").remove(wrong);
    }
    node["maxProperties"] = json!(8);
    node["additionalProperties"] = value.clone();
}

/// Status carries no rules, enums or bounds, nor required fields: an operator of any version must be able to write it.
fn loosen_status(node: &mut Value) {
    each_schema(node, &mut |schema| {
        for strict in [
            "enum",
            "maxItems",
            "minItems",
            "maxLength",
            "minLength",
            "pattern",
            "maximum",
            "minimum",
            "required",
            "maxProperties",
            "default",
        ] {
            schema.remove(strict);
        }
    });
}

/// What neither reader nor server needs.
fn tidy(node: &mut Value) {
    each_schema(node, &mut |schema| {
        // `format: uint32` and its like aren't formats that the API server knows.
        if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
            schema.remove("format");
        }
        // A nullable field that is `null` in a user's YAML means the same as an absent one; the schema needn't say so.
        schema.remove("nullable");
    });
}

/// Calls `visit` on each schema object under `node`, itself included.
fn each_schema(node: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(schema) = node else { return };
    visit(schema);
    for key in ["items", "additionalProperties", "not"] {
        if let Some(child) = schema.get_mut(key) {
            each_schema(child, visit);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for child in properties.values_mut() {
            each_schema(child, visit);
        }
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(children)) = schema.get_mut(key) {
            for child in children {
                each_schema(child, visit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_is_small_enough_for_client_side_apply() {
        let size = serde_json::to_vec(&crd()).unwrap().len();
        assert!(size < MAX_BYTES, "{size} bytes");
    }

    #[test]
    fn at_the_root_stand_only_rules_about_changes() {
        for rule in rules::all().iter().filter(|rule| rule.at.is_empty()) {
            assert!(
                rule.rule.starts_with("oldSelf.hasValue() || ") || rule.rule.starts_with("!has(oldSelf.status)"),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn every_rule_says_what_to_write_and_none_says_it_twice() {
        let rules = rules::all();
        for (index, rule) in rules.iter().enumerate() {
            assert!(rule.message.len() > 30, "{rule:?}");
            assert!(!rules[..index].contains(rule), "{rule:?}");
        }
    }

    #[test]
    fn no_pattern_is_left_without_words() {
        assert!(!serde_json::to_string(&crd()).unwrap().contains("\"pattern\":"));
    }

    #[test]
    fn status_is_schema_without_rules() {
        let crd = serde_json::to_value(crd()).unwrap();
        let status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].to_string();
        for strict in ["x-kubernetes-validations", "\"enum\"", "maxItems", "\"required\""] {
            assert!(!status.contains(strict), "status carries {strict}");
        }
    }
}
