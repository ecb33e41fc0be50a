//! A database on its way to another server: under writes through PgBouncer, with traffic that moves only together with the
//! writes, there and back, and an account of every write that was acknowledged.

use std::{process::Command, time::Duration};

use alongside::{
    api::{MigrationStatus, PhaseState, RollbackReason, State},
    operator::fault,
};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};

use crate::{
    crashes::{Victim, is_at_rest},
    home::Home,
    journey::{phase, told},
    phases::{approval, bake, phases},
    shop::load_images,
    story::{Story, stories},
    support::{
        cluster::root,
        load::{Load, ROWS, SCHEMA},
        wait::within,
    },
};

/// How long databases may take to come up, and the agent to be heard.
const PATIENCE: Duration = Duration::from_mins(2);
/// Clients that write all along, each so long after the other write: the whole cluster has two processors.
const CLIENTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(10);
/// What is ours in a store, for as long as a move goes on.
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'alongside%') \
    + (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication) \
    + (SELECT count(*) FROM pg_subscription) \
    + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'alongside%')";

/// The stories of this file.
pub fn stories() -> Vec<Story> {
    let killed = |boundary: String| {
        let sentence = format!("an_operator_killed_at_{}_moves_writes_once_each_way", boundary.replace('.', "_"));
        Story::new(&sentence, move |home| killed_at(boundary.clone(), home))
    };
    let orders = fault::all().into_iter().filter(|boundary| boundary.starts_with("Order"));
    let told = stories![
        a_database_moves_under_writes_and_is_taken_back_without_one_lost,
        a_database_moves_for_good_and_nothing_of_the_move_is_left_in_either,
        a_breach_in_the_bake_takes_writes_and_traffic_back_by_itself,
        an_agent_that_is_killed_is_followed_by_another_and_the_way_back_stays,
    ];
    // Four servers and their clients are as much as the machine bears: a story that waits for it in vain says nothing.
    told.into_iter().chain(orders.map(killed)).map(Story::alone).collect()
}

async fn a_database_moves_under_writes_and_is_taken_back_without_one_lost(home: Home) {
    let orders = Orders::opens(&home).await;
    let _operator = home.leader("a").await;
    let load = orders.is_written_to().await;
    let migration = home.migrates("to-green", spec([copy(), prove(), cut_over(), approval()])).await;
    let status = migration.is("the copy is in step", |status| phase_is(status, "copy", PhaseState::Done)).await;
    assert!(status.phases[0].job.as_ref().is_some_and(|job| !job.settled), "its agent goes on");

    let status = migration.holds_for("Approval").await;
    assert!(phase(&status, "prove").message.as_deref().unwrap_or_default().starts_with("Equal"), "{status:?}");
    let moved = status.replication.clone().expect("two stores are in step");
    assert_eq!((moved.term, orders.leads_to().await.as_str()), (1, "green"));
    println!("clients waited {:?} at the cut-over", moved.held);
    load.go_on_for(150).await;
    let there = orders.number("green", "SELECT count(*) FROM ledger WHERE op > 0").await;
    assert!(there > 150, "{there}");

    migration.is_aborted().await;
    let status = migration.comes_to(State::RolledBack).await;
    println!("clients waited {:?} on the way back", status.replication.as_ref().and_then(|known| known.held));
    assert_eq!(orders.leads_to().await, "blue");
    load.go_on_for(150).await;
    let account = load.stop().await;
    let writes = account.settle(&orders.client("blue").await, "after the way back").await;
    assert_eq!(account.refusals, Vec::<String>::new(), "clients behind PgBouncer wait instead of failing");
    println!("{writes} acknowledged writes, the slowest took {:?}", account.longest);
    orders.are_clean().await;
}

async fn a_database_moves_for_good_and_nothing_of_the_move_is_left_in_either(home: Home) {
    let orders = Orders::opens(&home).await;
    let _operator = home.leader("a").await;
    let load = orders.is_written_to().await;
    let migration = home.migrates("to-green", spec([copy(), cut_over(), bake("5s")])).await;
    let status = migration.comes_to(State::Succeeded).await;
    assert_eq!((told(&status, "PhaseCleanedUp"), orders.leads_to().await.as_str()), (1, "green"));
    load.go_on_for(100).await;
    let account = load.stop().await;
    account.settle(&orders.client("green").await, "after the move").await;
    assert_eq!(account.refusals, Vec::<String>::new());
    orders.are_clean().await;
    // The new store numbers on where the old one stopped.
    orders.run("green", "INSERT INTO ledger (op) VALUES (-1)").await;
}

async fn a_breach_in_the_bake_takes_writes_and_traffic_back_by_itself(home: Home) {
    let orders = Orders::opens(&home).await;
    home.figure_is("orders_errors", 0.0).await;
    let _operator = home.leader("a").await;
    let load = orders.is_written_to().await;
    let mut spec = spec([copy(), cut_over(), bake("1h")]);
    let query = format!("max(orders_errors{{home=\"{}\"}})", home.name());
    spec["guards"] = json!([{ "name": "errors", "query": query, "max": 0.5, "interval": "1s" }]);
    let migration = home.migrates("to-green", spec).await;
    migration.has("bake", PhaseState::Running).await;
    load.go_on_for(100).await;
    home.figure_is("orders_errors", 1.0).await;
    let status = migration.comes_to(State::RolledBack).await;
    let rollback = status.rollback.clone().expect("it was rolled back");
    assert_eq!(rollback.reason, RollbackReason::Breach);
    let restored = rollback.new_connections_restored.expect("traffic went back");
    println!("traffic was back {:?} after the breach was seen", restored.since(rollback.seen_at));
    load.go_on_for(100).await;
    let account = load.stop().await;
    account.settle(&orders.client("blue").await, "after the breach").await;
    assert_eq!((account.refusals, orders.leads_to().await.as_str()), (Vec::new(), "blue"));
    orders.are_clean().await;
}

async fn an_agent_that_is_killed_is_followed_by_another_and_the_way_back_stays(home: Home) {
    let orders = Orders::opens(&home).await;
    let _operator = home.leader("a").await;
    let load = orders.is_written_to().await;
    let migration = home.migrates("to-green", spec([copy(), cut_over(), approval()])).await;
    let status = migration.holds_for("Approval").await;
    let first = phase(&status, "copy").job.clone().expect("it has an agent").name;
    let pods = home.all::<Pod>();
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={first}"));
    for pod in pods.list(&of_job).await.expect("pods can be listed").items {
        let name = pod.metadata.name.expect("a pod has a name");
        pods.delete(&name, &DeleteParams::default().grace_period(0)).await.expect("the pod can be deleted");
    }
    let ready = |status: &MigrationStatus| {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "RollbackReady");
        let followed = status.phases[0].job.as_ref().is_some_and(|job| job.name != first);
        followed && ready.is_some_and(|ready| ready.status == "True")
    };
    let status = migration.is("another agent has taken over", ready).await;
    assert_eq!((phase(&status, "copy").state, phase(&status, "copy").tries), (PhaseState::Done, 2));
    migration.is_aborted().await;
    migration.comes_to(State::RolledBack).await;
    let account = load.stop().await;
    account.settle(&orders.client("blue").await, "after an agent was killed").await;
    assert_eq!((account.refusals, orders.leads_to().await.as_str()), (Vec::new(), "blue"));
    orders.are_clean().await;
}

async fn killed_at(boundary: String, home: Home) {
    let orders = Orders::opens(&home).await;
    let load = orders.is_written_to().await;
    // It says that the agent isn't heard each time that it starts.
    let mut victim = Victim::new(&home, &boundary).at_most(5);
    victim.rises();
    let migration = home.migrates("to-green", spec([copy(), cut_over(), approval()])).await;
    let waits = |m: &alongside::api::Migration| {
        m.status.as_ref().and_then(|status| status.hold.as_ref()).is_some_and(|hold| hold.reason == "Approval")
    };
    victim.carries(&migration, "the writes have moved", waits).await;
    assert_eq!(orders.leads_to().await, "green");
    migration.is_aborted().await;
    victim.carries(&migration, "all is taken back", |m| is_at_rest(m, State::RolledBack)).await;
    let status = migration.status().await;
    let moved = status.replication.expect("two stores were in step");
    assert_eq!((moved.term, orders.leads_to().await.as_str()), (2, "blue"));
    let account = load.stop().await;
    account.settle(&orders.client("blue").await, &format!("killed at {boundary}")).await;
    orders.are_clean().await;
    assert!(victim.kills > 0, "the journey never came to {boundary}");
}

fn phase_is(status: &MigrationStatus, name: &str, state: PhaseState) -> bool {
    status.phases.iter().any(|phase| phase.name == name && phase.state == state)
}

fn spec(planned: impl IntoIterator<Item = Value>) -> Value {
    let store = |name: &str| json!({ "name": name, "postgres": { "secretRef": { "name": format!("orders-{name}"), "key": "uri" } } });
    let mut spec = phases(planned);
    spec["stores"] = json!([store("blue"), store("green")]);
    spec
}

fn copy() -> Value {
    json!({ "name": "copy", "replicate": { "from": "blue", "to": "green", "tables": ["public.*"], "wayBack": true } })
}

fn prove() -> Value {
    let checksum = json!({ "sample": "100%" });
    json!({ "name": "prove", "verify": {
        "from": "blue", "to": "green", "tables": ["public.*"], "counts": true, "checksum": checksum,
    } })
}

fn cut_over() -> Value {
    let bouncer = json!({
        "adminSecretRef": { "name": "pgbouncer-admin", "key": "uri" }, "service": "pgbouncer-pods", "database": "orders",
    });
    json!({ "name": "cut-over", "switch": {
        "service": "orders-db", "from": { "pg": "blue" }, "to": { "pg": "green" }, "drain": { "wait": "100ms" },
        "fence": { "pgbouncer": bouncer, "deadline": "5s" }, "onFenceTimeout": "PreferData",
    } })
}

/// Two databases and PgBouncer in a story's home, from the example's own manifests.
struct Orders {
    home: Home,
    password: String,
}

impl Orders {
    async fn opens(home: &Home) -> Self {
        home.stage().images(|| load_images(home)).await;
        let folder = root().join("deploy/examples/orders/manifests");
        let secrets = Command::new("sh").arg(folder.join("secrets.sh")).env("NAMESPACE", home.name()).output();
        let secrets = String::from_utf8(secrets.expect("sh can be run").stdout).expect("Secrets are text");
        let password = secrets.lines().find_map(|line| line.strip_prefix("  password: "));
        let password = password.expect("there is a password").to_owned();
        let cluster = home.stage().cluster();
        cluster.apply(&secrets);
        for part in ["10-postgres.yaml", "20-pgbouncer.yaml"] {
            let yaml = std::fs::read_to_string(folder.join(part)).expect("the example has this manifest");
            let here = yaml.replace("namespace: orders", &format!("namespace: {}", home.name()));
            cluster.apply(&here.replace("orders-db.orders.svc", &format!("orders-db.{}.svc", home.name())));
        }
        let orders = Self { home: home.clone(), password };
        for store in ["blue", "green"] {
            orders.run(store, SCHEMA).await;
        }
        orders.run("blue", ROWS).await;
        within(PATIENCE, "PgBouncer leads to the database", async || {
            let place = orders.place("pgbouncer", 6432).await;
            place.connect(NoTls).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
        orders
    }

    /// Where a Service of this home is.
    async fn place(&self, service: &str, port: u16) -> Config {
        let services = self.home.all::<Service>();
        let service = services.get(service).await.expect("the Service is there");
        let address = service.spec.and_then(|spec| spec.cluster_ip).expect("the Service has an address");
        let mut place = Config::new();
        place.host(address).port(port).user("orders").password(&self.password).dbname("orders");
        place.connect_timeout(Duration::from_secs(5));
        place
    }

    /// Clients that write through PgBouncer until they are stopped.
    async fn is_written_to(&self) -> Load {
        let place = self.place("pgbouncer", 6432).await;
        Load::paced(&[place], CLIENTS, PAUSE)
    }

    /// A session with one of the databases, whoever serves.
    async fn client(&self, store: &str) -> Client {
        let place = self.place(&format!("orders-{store}"), 5432).await;
        let (client, connection) =
            within(PATIENCE, &format!("{store} is up"), async || place.connect(NoTls).await).await;
        tokio::spawn(connection);
        client
    }

    async fn run(&self, store: &str, sql: &str) {
        self.client(store).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{store}: {error:?}"));
    }

    async fn number(&self, store: &str, sql: &str) -> i64 {
        let row = self.client(store).await.query_one(sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{store}: {sql}: {error:?}")).get(0)
    }

    /// Which database the Service's selector names.
    async fn leads_to(&self) -> String {
        let service = self.home.all::<Service>().get("orders-db").await.expect("the Service is there");
        let selector = service.spec.and_then(|spec| spec.selector).expect("the Service has a selector");
        selector["pg"].clone()
    }

    /// Nothing of the move is in either store any more.
    async fn are_clean(&self) {
        for store in ["blue", "green"] {
            assert_eq!(self.number(store, LEFT).await, 0, "something is left in {store}");
        }
    }
}
