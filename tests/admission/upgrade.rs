//! A CRD with stricter rules over objects of an earlier one: the operator must go on writing their status.

use std::time::Duration;

use alongside::api::crd::crd;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    guards, phases,
    server::{CLUSTER, Case, migration, name_of, words},
    support::wait::within,
    whole,
};

/// A group of its own, so that the CRD of the other tests stays as it is.
const GROUP: &str = "upgrade.alongside.dev";

fn strict() -> Value {
    let mut crd = serde_json::to_value(crd()).unwrap();
    crd["metadata"]["name"] = json!(format!("migrations.{GROUP}"));
    crd["spec"]["group"] = json!(GROUP);
    crd["spec"]["names"]["shortNames"] = json!([]);
    crd["spec"]["names"]["categories"] = json!([]);
    crd
}

/// The same types without any rule or bound: laxer than any release will have been. Required fields stay required, for
/// no operator could read an object without them.
fn lax() -> Value {
    let mut crd = strict();
    loosen(&mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    crd
}

fn loosen(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for strict in [
        "x-kubernetes-validations",
        "enum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "maxProperties",
    ] {
        fields.remove(strict);
    }
    for child in ["items", "additionalProperties"] {
        fields.entry(child).and_modify(loosen);
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(loosen);
    }
}

#[test]
fn objects_that_todays_rules_refuse_keep_their_way_back() {
    CLUSTER.run(async || {
        let client = CLUSTER.client();
        let migrations: Api<DynamicObject> = Api::namespaced_with(
            client.clone(),
            "default",
            &ApiResource {
                group: GROUP.into(),
                version: "v1alpha1".into(),
                api_version: format!("{GROUP}/v1alpha1"),
                kind: "Migration".into(),
                plural: "migrations".into(),
            },
        );
        install(&client, &lax()).await;
        within(Duration::from_secs(30), "the lax CRD is served", async || {
            migrations.list(&ListParams::default()).await
        })
        .await;
        let old = create_all(&migrations).await;
        assert!(old.len() >= 75, "only {} of the bad specs could be created under lax rules", old.len());

        install(&client, &strict()).await;
        within(Duration::from_secs(30), "the strict CRD is in force", async || {
            let nothing = object("nothing", "phases: [{name: nothing}]");
            match migrations.create(&PostParams { dry_run: true, ..PostParams::default() }, &nothing).await {
                Err(error) if words(&error).contains("a phase needs an action") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;

        for name in old {
            let as_the_operator = PatchParams::default();
            for status in [json!({ "begun": 1, "state": "Running" }), json!({ "state": "RollingBack", "epoch": 2 })] {
                let patch = Patch::Merge(json!({ "status": status }));
                let written = migrations.patch_status(&name, &as_the_operator, &patch).await;
                written.unwrap_or_else(|error| panic!("status of {name}: {}", words(&error)));
            }
            for metadata in [
                json!({ "finalizers": ["alongside.dev/migration"] }),
                json!({ "annotations": { "alongside.dev/abort": "*@1234/1" } }),
                json!({ "finalizers": [] }),
            ] {
                let written =
                    migrations.patch(&name, &as_the_operator, &Patch::Merge(json!({ "metadata": metadata }))).await;
                written.unwrap_or_else(|error| panic!("metadata of {name}: {}", words(&error)));
            }
        }
    });
}

async fn install(client: &Client, crd: &Value) {
    let name = crd["metadata"]["name"].as_str().expect("a CRD has a name");
    let crds: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            plural: "customresourcedefinitions".into(),
        },
    );
    let applied = crds.patch(name, &PatchParams::apply("admission-tests").force(), &Patch::Apply(crd)).await;
    applied.unwrap_or_else(|error| panic!("{}", words(&error)));
}

/// Creates what users can write wrong, as far as it is of the right types, and returns the names.
async fn create_all(migrations: &Api<DynamicObject>) -> Vec<String> {
    let mut names = Vec::new();
    for Case { sentence, wrote, .. } in [guards::CASES, phases::CASES, whole::CASES].concat() {
        let object = object(sentence, wrote);
        if migrations.create(&PostParams::default(), &object).await.is_ok() {
            names.push(name_of(sentence));
        }
    }
    names
}

fn object(sentence: &str, spec: &str) -> DynamicObject {
    let mut object: DynamicObject = serde_saphyr::from_str::<Value>(&migration(&name_of(sentence), spec))
        .ok()
        .and_then(|value| serde_json::from_value(value).ok())
        .unwrap_or_else(|| {
            DynamicObject::new(&name_of(sentence), &ApiResource::erase::<alongside::api::Migration>(&()))
        });
    if let Some(types) = &mut object.types {
        types.api_version = format!("{GROUP}/v1alpha1");
    }
    object
}
