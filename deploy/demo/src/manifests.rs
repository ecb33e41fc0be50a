//! The manifests of the shop and of its Migration, put into the namespace of an act. Pure.

use alongside::api::Migration;
use serde_json::{Value, json};

const DATABASE: &str = include_str!("../../examples/shop/manifests/10-postgres.yaml");
const PROMETHEUS: &str = include_str!("../../examples/shop/manifests/20-prometheus.yaml");
const BLUE: &str = include_str!("../../examples/shop/manifests/30-inventory.yaml");
const LOAD: &str = include_str!("../../examples/shop/manifests/40-load.yaml");
const PROMETHEUS_CONFIG: &str = include_str!("../manifests/prometheus.yml");
const SCRIPTS: &str = include_str!("../manifests/scripts.yaml");
const MIGRATION: &str = include_str!("../manifests/migration.yaml");

/// The namespace that the manifests are written for.
const WRITTEN_FOR: &str = "shop";

/// Where the cluster finds its images.
#[derive(Clone, Debug)]
pub struct Images {
    /// What stands before each name: a registry, or `localhost`.
    pub prefix: String,
    /// The tag of the two images that are made here, `alongside` and `shop`.
    pub tag: String,
}

impl Images {
    /// The operator's image, without its tag.
    pub fn operator(&self) -> String {
        format!("{}/alongside", self.prefix)
    }

    /// Returns where an image of the manifests is found.
    fn found(&self, written: &str) -> String {
        let name = written.strip_prefix("localhost/").unwrap_or(written);
        match name.strip_suffix(":dev") {
            Some(made_here) => format!("{}/{made_here}:{}", self.prefix, self.tag),
            None => format!("{}/{name}", self.prefix),
        }
    }
}

/// Manifests, ready for `kubectl apply`.
#[derive(Debug)]
pub struct Manifests {
    items: Vec<Value>,
}

impl Manifests {
    /// The database, the first version, and the load, which waits for its act.
    pub fn shop(namespace: &str, images: &Images) -> Self {
        let mut shop = Self::read(&[DATABASE, PROMETHEUS, BLUE, LOAD], namespace, images);
        // One Prometheus is enough for all acts: it has a namespace of its own.
        shop.items.retain(|item| item["metadata"]["name"] != "prometheus");
        for item in &mut shop.items {
            if item["kind"] == "Deployment" && item["metadata"]["name"] == "load" {
                item["spec"]["replicas"] = json!(0);
            }
        }
        shop
    }

    /// The one Prometheus, which scrapes the shops of all acts.
    pub fn prometheus(namespace: &str, images: &Images) -> Self {
        let mut prometheus = Self::read(&[PROMETHEUS], namespace, images);
        prometheus.items.retain(|item| item["metadata"]["name"] == "prometheus");
        for item in &mut prometheus.items {
            if item["kind"] == "ConfigMap" {
                item["data"]["prometheus.yml"] = json!(PROMETHEUS_CONFIG);
            }
        }
        prometheus
    }

    /// The second version, as one of the shop's manifests has it.
    pub fn green(written: &str, namespace: &str, images: &Images) -> Self {
        Self::read(&[written], namespace, images)
    }

    /// The Migration and its scripts.
    pub fn migration(namespace: &str, images: &Images) -> Self {
        Self::read(&[SCRIPTS, MIGRATION], namespace, images)
    }

    /// The Secret with the database's password.
    pub fn secret(namespace: &str, password: &str) -> Self {
        Self {
            items: vec![json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": "inventory-db", "namespace": namespace },
                "stringData": {
                    "password": password,
                    "uri": format!("postgres://inventory:{password}@inventory-db.{namespace}.svc:5432/inventory"),
                },
            })],
        }
    }

    /// As one text.
    pub fn text(&self) -> String {
        json!({ "apiVersion": "v1", "kind": "List", "items": self.items }).to_string()
    }

    fn read(texts: &[&str], namespace: &str, images: &Images) -> Self {
        let mut items = Vec::new();
        for text in texts {
            let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("each manifest is read by a test");
            items.extend(documents);
        }
        for item in &mut items {
            item["metadata"]["namespace"] = json!(namespace);
            place(item, namespace, images);
        }
        Self { items }
    }
}

/// The Migration of an act as the operator reads it.
pub fn migration(namespace: &str) -> Migration {
    let text = MIGRATION.replace("namespace=\"shop\"", &format!("namespace=\"{namespace}\""));
    serde_saphyr::from_str(&text).expect("the manifest is read by a test")
}

/// Puts the namespace and the images into every text below a value.
fn place(value: &mut Value, namespace: &str, images: &Images) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(image) if name == "image" => *image = images.found(image),
                    _ => place(field, namespace, images),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| place(value, namespace, images)),
        Value::String(text) => {
            *text = text
                .replace(&format!("namespace=\"{WRITTEN_FOR}\""), &format!("namespace=\"{namespace}\""))
                .replace(&format!(".{WRITTEN_FOR}.svc"), &format!(".{namespace}.svc"));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::ACTS;

    fn images() -> Images {
        Images { prefix: "registry.example/team".to_owned(), tag: "t1".to_owned() }
    }

    fn all(namespace: &str) -> Vec<Manifests> {
        let images = images();
        let mut all = vec![
            Manifests::shop(namespace, &images),
            Manifests::prometheus(namespace, &images),
            Manifests::migration(namespace, &images),
            Manifests::secret(namespace, "secret"),
        ];
        all.extend(ACTS.iter().map(|act| Manifests::green(act.green, namespace, &images)));
        all
    }

    #[test]
    fn nothing_is_left_in_the_namespace_that_the_manifests_are_written_for() {
        for manifests in all("elsewhere") {
            assert!(!manifests.items.is_empty());
            for item in &manifests.items {
                assert_eq!(item["metadata"]["namespace"], "elsewhere", "{item}");
            }
            let text = manifests.text();
            assert!(!text.contains("\"shop\\\"") && !text.contains(".shop."), "{text}");
        }
    }

    #[test]
    fn every_image_is_where_the_user_put_it() {
        let mut seen = Vec::new();
        for manifests in all("elsewhere") {
            let text = manifests.text();
            seen.extend(text.split("\"image\":\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        }
        seen.sort();
        seen.dedup();
        let expected = ["postgres:15", "prometheus:2", "shop:t1"].map(|name| format!("registry.example/team/{name}"));
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_load_waits_for_its_act() {
        let shop = Manifests::shop("elsewhere", &images());
        let load = shop.items.iter().find(|item| item["kind"] == "Deployment" && item["metadata"]["name"] == "load");
        assert_eq!(load.unwrap()["spec"]["replicas"], 0);
    }

    #[test]
    fn prometheus_scrapes_the_shop_of_each_act() {
        for act in &ACTS {
            for service in ["inventory-pods", "load"] {
                let name = format!("{service}.{}.svc", act.namespace);
                assert!(PROMETHEUS_CONFIG.contains(&name), "{name} isn't scraped");
            }
        }
    }

    #[test]
    fn the_migration_is_one_that_the_operator_can_read_and_asks_about_its_own_namespace() {
        for act in &ACTS {
            let migration = migration(act.namespace);
            let queries = serde_json::to_string(&migration.spec.guards).unwrap();
            let own = format!("namespace=\\\"{}\\\"", act.namespace);
            let asked = queries.matches("namespace=").count();
            assert_eq!((asked, queries.matches(&own).count()), (5, 5), "{queries}");
            let kinds: Vec<_> = migration.spec.phases.iter().map(|phase| phase.name.as_str()).collect();
            assert_eq!(kinds, ["expand", "cut-over", "bake", "contract"]);
        }
    }
}
