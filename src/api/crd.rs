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
    for template in ["template", "undo"] {
        trim_template(descend(schema, &format!("spec.phases.[].job.{template}")));
    }
    for field in ["affinity", "tolerations", "resources", "imagePullSecrets"] {
        drop_descriptions(descend(schema, &format!("spec.podTemplate.{field}")));
    }
    for list in ["spec.stores", "spec.guards", "spec.phases", "spec.phases.[].guards"] {
        let node = descend(schema, list);
        node["x-kubernetes-list-type"] = json!("map");
        node["x-kubernetes-list-map-keys"] = json!(["name"]);
    }
    for labels in [
        "spec.phases.[].switch.from",
        "spec.phases.[].switch.to",
        "spec.podTemplate.labels",
        "spec.podTemplate.annotations",
        "spec.podTemplate.nodeSelector",
    ] {
        bound_map(descend(schema, labels));
    }
    loosen_status(descend(schema, "status"));
    for rule in rules::all() {
        let node = descend(schema, rule.at);
        let rules = node
            .as_object_mut()
            .expect("a schema node is an object")
            .entry("x-kubernetes-validations")
            .or_insert_with(|| json!([]));
        rules
            .as_array_mut()
            .expect("validations are a list")
            .push(json!({ "rule": rule.rule, "message": rule.message }));
    }
    tidy(schema);
    serde_json::from_value(crd).expect("what was a CRD still is one")
}

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

/// A Job template without its prose, and with a metadata of just labels and annotations: 77 KB instead of 407.
fn trim_template(node: &mut Value) {
    drop_descriptions(node);
    for path in ["metadata", "spec.template.metadata"] {
        *descend(node, path) = json!({
            "type": "object",
            "properties": {
                "labels": { "type": "object", "maxProperties": 32, "additionalProperties": { "type": "string" } },
                "annotations": { "type": "object", "maxProperties": 32, "additionalProperties": { "type": "string" } },
            },
        });
    }
    let containers = descend(node, "spec.template.spec.containers");
    containers["maxItems"] = json!(16);
}

/// Removes `description` from a node and all below it, but not a property of that name.
fn drop_descriptions(node: &mut Value) {
    each_schema(node, &mut |schema| {
        schema.remove("description");
    });
}

/// Bounds a map of labels so that CEL's cost estimate stays finite.
fn bound_map(node: &mut Value) {
    // schemars writes a map's bounds as a string's or list's; the API server wants them as properties'.
    for wrong in ["minLength", "maxLength", "minItems", "maxItems"] {
        node.as_object_mut().expect("a schema node is an object").remove(wrong);
    }
    node["maxProperties"] = json!(8);
    node["additionalProperties"] = json!({ "type": "string", "maxLength": 63 });
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
    fn status_is_schema_without_rules() {
        let crd = serde_json::to_value(crd()).unwrap();
        let status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].to_string();
        for strict in ["x-kubernetes-validations", "\"enum\"", "maxItems", "\"required\""] {
            assert!(!status.contains(strict), "status carries {strict}");
        }
    }
}
