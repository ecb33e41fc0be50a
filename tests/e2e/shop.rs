//! The example app on its database: a schema that expands, and clients that keep their connections.

use std::{process::Command, time::Duration};

use alongside::{
    api::{PhaseState, State, UID_LABEL},
    engine::effect::{JobRole, job_name},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    deletion::no_child_is_left,
    home::Home,
    journey::phase,
    phases::{approval, bake, guard, guarded, phases},
    stage::IMAGE,
    story::{Story, stories},
    support::{cluster::root, wait::within},
};

/// How long the database and the app may take to be there.
const PATIENCE: Duration = Duration::from_mins(2);
/// The image of the example app in this run.
const SHOP: &str = "localhost/shop:e2e";
/// Time between two requests of a client: shorter than the app's own patience with an idle connection.
const PAUSE: Duration = Duration::from_millis(100);

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    stories![
        a_schema_and_kept_connections_go_forward_and_a_breach_takes_both_back,
        a_script_that_fails_leaves_the_schema_as_it_was_and_says_why,
        a_secret_that_is_not_there_is_named_and_asked_for_again,
        a_schema_is_taken_back_when_its_migration_is_deleted_and_no_script_is_left,
        a_task_that_someone_else_has_put_in_the_jobs_way_is_never_run,
    ]
}

async fn a_schema_and_kept_connections_go_forward_and_a_breach_takes_both_back(home: Home) {
    let shop = Shop::opens(&home, &["30-inventory.yaml", "v2/good.yaml"]).await;
    let _operator = home.leader("a").await;
    home.figure_is("trouble", 0.1).await;
    let client = shop.has_a_client().await;
    let expand = Shop::expands("ALTER TABLE items ADD COLUMN sku text");
    let hook = json!({ "path": "/drain", "port": 8080 });
    let (from, to) = (json!({ "version": "v1" }), json!({ "version": "v2" }));
    let cut_over = json!({ "name": "cut-over", "switch": { "service": "inventory", "from": from, "to": to, "drain": { "hook": hook } } });
    let mut spec = guarded([guard(&home, "trouble")], [expand, cut_over, bake("1h")]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.holds_for("Baking").await;
    assert_eq!(status.traffic[0].remaining, Some(0));
    assert!(shop.has_the_column());
    client.is_answered_by("v2").await;

    home.figure_is("trouble", 0.9).await;
    let status = migration.comes_to(State::RolledBack).await;
    assert_eq!(status.traffic[0].remaining, Some(0));
    assert_eq!(phase(&status, "expand").state, PhaseState::Undone);
    assert!(!shop.has_the_column());
    client.is_answered_by("v1").await;
    // One connection, kept all along: it is somewhere else only because it was asked to leave, once in each direction.
    assert_eq!(client.tells().await, ["v1", "v2", "v1"]);
}

async fn a_script_that_fails_leaves_the_schema_as_it_was_and_says_why(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    let _operator = home.leader("a").await;
    let mut expand =
        Shop::expands("ALTER TABLE items ADD COLUMN sku text; SELECT 1 / (count(*) - count(*)) FROM items");
    expand["retries"] = json!(0);
    let mut spec = phases([expand, approval()]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.comes_to(State::RolledBack).await;
    let rollback = status.rollback.expect("it was rolled back");
    assert!(rollback.message.contains("division by zero"), "{}", rollback.message);
    assert!(!shop.has_the_column());
}

async fn a_secret_that_is_not_there_is_named_and_asked_for_again(home: Home) {
    home.stage().images(|| load_images(&home)).await;
    let _operator = home.leader("a").await;
    let script = json!({ "store": "inventory", "up": { "inline": "SELECT 1" }, "onRollback": "Keep" });
    let mut spec = phases([json!({ "name": "expand", "sql": script })]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    let status = migration.holds_for("RetryLater").await;
    assert!(status.message.contains("There is no Secret inventory-db with the key uri"), "{}", status.message);
    assert_eq!(phase(&status, "expand").state, PhaseState::Pending);
    Shop::opens(&home, &[]).await;
    migration.comes_to(State::Succeeded).await;
}

async fn a_schema_is_taken_back_when_its_migration_is_deleted_and_no_script_is_left(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    let _operator = home.leader("a").await;
    let mut spec = phases([Shop::expands("ALTER TABLE items ADD COLUMN sku text"), approval()]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Approval").await;
    assert!(shop.has_the_column());
    migration.is_deleted(PropagationPolicy::Foreground).await;
    migration.is_gone().await;
    assert!(!shop.has_the_column());
    no_child_is_left(&home).await;
}

async fn a_task_that_someone_else_has_put_in_the_jobs_way_is_never_run(home: Home) {
    let shop = Shop::opens(&home, &[]).await;
    let operator = home.leader("a").await;
    let wanted = "ALTER TABLE items ADD COLUMN sku text";
    let mut spec = phases([approval(), Shop::expands(wanted)]);
    spec["stores"] = Shop::store();
    let migration = home.migrates("to-v2", spec).await;
    migration.holds_for("Approval").await;

    // They have seen the task of the question before, and put theirs under the next name, in our name.
    let maps = home.all::<ConfigMap>();
    let uid = migration.object().await.uid().expect("it has a UID");
    let asked = maps.list(&ListParams::default().labels(&format!("{UID_LABEL}={uid}"))).await;
    let asked = asked.expect("ConfigMaps can be listed").items.pop().expect("the store was asked");
    let theirs =
        asked.data.expect("a task is data")["task.json"].replace("Preflight", "Up").replace(wanted, "DROP TABLE items");
    let name = job_name("to-v2", &uid, "", "expand", JobRole::Do, 1, 1);
    let map = json!({
        "metadata": { "name": name, "labels": { UID_LABEL: uid } },
        "data": { "task.json": theirs },
        "immutable": true,
    });
    home.create::<ConfigMap>(map).await;
    migration.is_approved().await;
    operator.says(&format!("ConfigMap {name} exists and is not the task of its Job")).await;
    assert_eq!(home.all::<Job>().get_opt(&name).await.expect("Jobs can be read"), None);

    maps.delete(&name, &DeleteParams::default()).await.expect("the ConfigMap can be deleted");
    migration.comes_to(State::Succeeded).await;
    assert!(shop.has_the_column());
}

/// The example app in a story's home.
pub struct Shop {
    home: Home,
}

impl Shop {
    /// Brings up the database, and what else the story needs, from the example's own manifests.
    pub async fn opens(home: &Home, parts: &[&str]) -> Self {
        home.stage().images(|| load_images(home)).await;
        let shop = Self { home: home.clone() };
        let folder = root().join("deploy/examples/shop/manifests");
        let secret = Command::new("sh").arg(folder.join("secret.sh")).output().expect("sh can be run");
        shop.applies(&String::from_utf8(secret.stdout).expect("the Secret is text"));
        for part in ["10-postgres.yaml"].iter().chain(parts) {
            shop.applies(&std::fs::read_to_string(folder.join(part)).expect("the example has this manifest"));
        }
        shop.has_its_table().await;
        shop
    }

    fn applies(&self, yaml: &str) {
        let here = yaml
            .replace("namespace: shop", &format!("namespace: {}", self.home.name()))
            .replace("inventory-db.shop.svc", &format!("inventory-db.{}.svc", self.home.name()))
            .replace("localhost/shop:dev", SHOP)
            .replace("replicas: 2", "replicas: 1");
        self.home.stage().cluster().apply(&here);
    }

    async fn has_its_table(&self) {
        within(PATIENCE, "the table is there", async || {
            let said = self.asks("SELECT count(*) FROM items");
            if said.trim() == "1000" { Ok(()) } else { Err(said) }
        })
        .await;
    }

    pub fn has_the_column(&self) -> bool {
        let columns =
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'sku'";
        match self.asks(columns).trim() {
            "1" => true,
            "0" => false,
            other => panic!("the database does not say: {other}"),
        }
    }

    /// What the database answers, as text.
    pub fn asks(&self, query: &str) -> String {
        let name = format!("--namespace={}", self.home.name());
        let psql =
            ["psql", "--username=inventory", "--host=/var/run/postgresql", "--tuples-only", "--no-align", "--command"];
        let args = [&["exec", "inventory-db-0", &name, "--"][..], &psql, &[query]].concat();
        let said = self.home.stage().cluster().say("kubectl", &args, "");
        if said.success { said.stdout } else { said.stderr }
    }

    /// The number that the database answers.
    pub fn number(&self, query: &str) -> i64 {
        let said = self.asks(query);
        said.trim().parse().unwrap_or_else(|_| panic!("{query}: {said}"))
    }

    /// The database as a store of a migration.
    pub fn store() -> serde_json::Value {
        json!([{ "name": "inventory", "postgres": { "secretRef": { "name": "inventory-db", "key": "uri" } } }])
    }

    /// A phase that runs this script, and drops the column `sku` on the way back.
    pub fn expands(up: &str) -> serde_json::Value {
        let down = "ALTER TABLE items DROP COLUMN sku";
        let sql = json!({
            "store": "inventory",
            "up": { "inline": up },
            "down": { "inline": down },
            "onRollback": "Down",
        });
        json!({ "name": "expand", "sql": sql })
    }

    /// Sends a client that keeps its connection and asks by it again and again.
    async fn has_a_client(&self) -> KeepAlive {
        let services = self.home.all::<k8s_openapi::api::core::v1::Service>();
        let service = services.get("inventory").await.expect("the Service is there");
        let address = service.spec.and_then(|spec| spec.cluster_ip).expect("the Service has an address");
        let url = format!("http://{address}/items/1");
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(1).timeout(Duration::from_secs(5));
        let client = client.build().expect("a client without TLS options has nothing that could fail");
        within(PATIENCE, "the app answers", async || {
            client.get(&url).send().await.and_then(reqwest::Response::error_for_status)
        })
        .await;
        let (go, mut gone) = oneshot::channel();
        let (tell, seen) = tokio::sync::watch::channel(Vec::<String>::new());
        let asks = tokio::spawn(async move {
            while gone.try_recv().is_err() {
                let answer = client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
                let answer = answer.expect("no request fails");
                let by = answer.headers().get("x-served-by").and_then(|by| by.to_str().ok()).unwrap_or_default();
                let version = by.split('/').next().unwrap_or_default().to_owned();
                // Only a body that was read to its end gives the connection back.
                answer.bytes().await.expect("no answer is cut short");
                tell.send_if_modified(|seen| {
                    let new = seen.last() != Some(&version);
                    seen.extend(new.then_some(version));
                    new
                });
                tokio::time::sleep(PAUSE).await;
            }
        });
        KeepAlive { go, asks, seen }
    }
}

/// A client that keeps its connection.
struct KeepAlive {
    go: oneshot::Sender<()>,
    asks: JoinHandle<()>,
    seen: tokio::sync::watch::Receiver<Vec<String>>,
}

impl KeepAlive {
    /// Waits until the connection leads to this version.
    async fn is_answered_by(&self, version: &str) {
        within(PATIENCE, &format!("the client is answered by {version}"), async || {
            let seen = self.seen.borrow().clone();
            if seen.last().is_some_and(|last| last == version) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// Which versions have answered, one after the other. None of the requests has failed.
    async fn tells(self) -> Vec<String> {
        self.go.send(()).expect("the client is there until it is told to go");
        self.asks.await.expect("no request fails");
        self.seen.borrow().clone()
    }
}

/// The database, the app and the worker, as images.
pub fn load_images(home: &Home) {
    let scripts = root().join("tests/cluster");
    let printed = |mut command: Command| {
        let output = command.output().expect("the cluster's scripts can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("a path is text").trim().to_owned()
    };
    let image = |name: &str, program: &std::path::Path, entrypoint: &str| {
        let mut command = Command::new(scripts.join("image-from-binary"));
        command.arg(name).arg(program).arg(entrypoint);
        printed(command)
    };
    let mut postgres = Command::new(scripts.join("images"));
    postgres.args(["postgres", "pgbouncer"]);
    let operator = std::path::Path::new(env!("CARGO_BIN_EXE_alongside"));
    let shop = operator.with_file_name("shop");
    assert!(shop.exists(), "the example app is not built: cargo build --workspace --features alongside/fault-points");
    let archives = [printed(postgres), image(IMAGE, operator, "alongside"), image(SHOP, &shop, "shop")];
    let archives: Vec<_> = archives.iter().flat_map(|paths| paths.lines()).collect();
    home.stage().cluster().load(&archives);
}
