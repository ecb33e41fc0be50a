//! What each test works on: two servers, a database on either, a Service, an agent as a process of its own, and who is the
//! operator to it.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use alongside::{
    api::{Fence, OnFenceTimeout, ReplicateAction, Span},
    stores::postgres::{Postgres, Session, replication::Names},
    worker::{
        agent::{
            course::Side,
            state::{self, State},
        },
        ladder::Ladder,
        replicate::task::{Place, ReplicateTask, Role, SwitchTask},
        signed::{Request, Signer, now},
        task::{MigrationRef, StoreRef},
        verdict::Verdict,
    },
};
use rustix::process::{Pid, Signal};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::{
    service::Service,
    support::{
        load::{ROWS, SCHEMA},
        postgres::{LOGICAL, PASSWORD, PASSWORD_IN_URI, Server, free_port, new_folder},
        wait::within,
    },
};

/// How long any state may take to come about. Far more than it takes, for busy machines.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Two servers.
pub struct Servers {
    pub blue: Server,
    pub green: Server,
}

impl Servers {
    /// Those that tests of this process share, each in databases of its own. They end with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Servers>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let servers = Arc::new(Self::start());
            *shared = Arc::downgrade(&servers);
            servers
        })
    }

    /// Starts both.
    pub fn start() -> Self {
        let green = std::thread::spawn(|| Server::start_with(LOGICAL));
        let blue = Server::start_with(LOGICAL);
        Self { blue, green: green.join().expect("it starts") }
    }
}

/// A database of one name on either server, and a Service that leads to blue's.
pub struct Bench {
    pub database: String,
    pub service: Arc<Service>,
    /// Between the agent and the servers: cutting it cuts the agent off.
    pub agents_way: (Service, Service),
    ports: (u16, u16),
    folder: PathBuf,
    signer: Arc<Signer>,
    http: reqwest::Client,
    agents: AtomicU32,
    uid: String,
}

impl Bench {
    /// With the clients' schema on both sides and rows on blue's.
    pub async fn new(servers: &Servers) -> Self {
        let bench = Self::with_schema(servers, SCHEMA).await;
        run(&bench.connect(Side::Blue).await, ROWS).await;
        bench
    }

    /// With this schema on both sides.
    pub async fn with_schema(servers: &Servers, schema: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let database = format!("shop_{count}");
        let ports = (servers.blue.port(), servers.green.port());
        for port in [ports.0, ports.1] {
            run(&connect(port, "postgres").await, &format!("CREATE DATABASE {database}")).await;
            run(&connect(port, &database).await, schema).await;
        }
        let folder = new_folder("cutover");
        let agents_way = (Service::to(ports.0).await, Service::to(ports.1).await);
        let key = Signer::generate().expect("ring makes keys");
        let bench = Self {
            service: Arc::new(Service::to(ports.0).await),
            agents_way,
            ports,
            folder,
            signer: Arc::new(Signer::from_pkcs8(&key).expect("it was just made")),
            http: reqwest::Client::new(),
            agents: AtomicU32::new(0),
            uid: format!("uid-{count}"),
            database,
        };
        for side in Side::ALL {
            bench.write_uri(side, "postgres", PASSWORD_IN_URI);
        }
        bench
    }

    /// Puts a URI with these credentials into a side's Secret.
    pub fn write_uri(&self, side: Side, user: &str, password: &str) {
        let way = match side {
            Side::Blue => &self.agents_way.0,
            Side::Green => &self.agents_way.1,
        };
        let uri = format!("postgres://{user}:{password}@127.0.0.1:{}/{}", way.port(), self.database);
        std::fs::write(self.folder.join(side.as_str()), uri).expect("the folder is ours");
    }

    /// The smallest task: everything in `public`, with a way back and without PgBouncer.
    pub fn task(&self) -> ReplicateTask {
        let store = |name: &str| StoreRef { name: name.into(), uri_file: self.folder.join(name), secret: None };
        ReplicateTask {
            format_version: 1,
            migration: MigrationRef { uid: self.uid.clone(), namespace: "shop".into(), name: "orders-to-pg17".into() },
            phase: "copy".into(),
            attempt: 1,
            try_: 1,
            role: Role::Conduct,
            from: store("blue"),
            to: store("green"),
            action: ReplicateAction {
                from: "blue".into(),
                to: "green".into(),
                tables: vec!["public.*".into()],
                parallelism: Some(3),
                way_back: true,
                unlimited_wal: false,
            },
            switch: Some(SwitchTask {
                service: Place { host: "127.0.0.1".into(), port: self.service.port() },
                fence: Fence { deadline: Some(Span::secs(5)), ..Fence::default() },
                pgbouncer_uri_file: None,
                on_fence_timeout: Some(OnFenceTimeout::PreferData),
            }),
            max_lag: Span::secs(2),
            listen: format!("127.0.0.1:{}", free_port()),
            operator_keys: vec![self.signer.public_key()],
            retry: Ladder::default(),
        }
    }

    /// The same with clients behind these PgBouncers.
    pub fn task_behind(&self, bouncers: &[u16]) -> ReplicateTask {
        let hosts: Vec<_> = bouncers.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let file = self.folder.join("admin");
        std::fs::write(&file, format!("postgres://admin@{}/pgbouncer", hosts.join(","))).expect("the folder is ours");
        let mut task = self.task();
        let switch = task.switch.as_mut().expect("the smallest task has one");
        switch.pgbouncer_uri_file = Some(file);
        switch.fence.pgbouncer = Some(alongside::api::PgBouncer {
            admin_secret_ref: alongside::api::SecretKey { name: "admin".into(), key: "uri".into() },
            service: None,
            database: self.database.clone(),
        });
        task
    }

    /// Where clients connect to that write: ports of loopback.
    pub fn places(&self, ports: &[u16]) -> Vec<tokio_postgres::Config> {
        let place = |port: &u16| {
            let mut place = tokio_postgres::Config::new();
            place.host("127.0.0.1").port(*port).user("postgres").password(PASSWORD).dbname(&self.database);
            place
        };
        ports.iter().map(place).collect()
    }

    /// A session of the test's own.
    pub async fn connect(&self, side: Side) -> Client {
        connect(self.port(side), &self.database).await
    }

    pub fn port(&self, side: Side) -> u16 {
        match side {
            Side::Blue => self.ports.0,
            Side::Green => self.ports.1,
        }
    }

    /// Starts an agent process with this task, as its pod does.
    pub fn agent(&self, task: &ReplicateTask) -> Agent {
        let number = self.agents.fetch_add(1, Ordering::Relaxed);
        let (file, report) = (self.folder.join(format!("task-{number}")), self.folder.join(format!("report-{number}")));
        std::fs::write(&file, serde_json::to_vec(task).expect("a task is JSON")).expect("the folder is ours");
        let log = std::fs::File::create(self.folder.join(format!("log-{number}"))).expect("the folder is ours");
        let mut command = Command::new(env!("CARGO_BIN_EXE_alongside"));
        command.args(["worker", "agent", "--task"]).arg(file).arg("--termination-log").arg(&report);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let caller = Caller {
            at: task.listen.clone(),
            uid: self.uid.clone(),
            signer: Arc::clone(&self.signer),
            http: self.http.clone(),
            // The agent's own first number is its attempt, 1.
            commands: Arc::new(AtomicU64::new(1)),
        };
        Agent {
            child: command.spawn().expect("the binary is built"),
            report,
            log: self.folder.join(format!("log-{number}")),
            caller,
        }
    }

    /// Starts an agent and waits until it is in step.
    pub async fn settled_agent(&self, task: &ReplicateTask) -> Agent {
        let agent = self.agent(task);
        agent.until("the agent is in step", |state| state.settled).await;
        agent
    }

    /// What the operator does about a committed move: leads the Service there, and says so.
    pub fn operator(&self, caller: &Caller) -> Operator {
        let (service, caller, ports) = (Arc::clone(&self.service), caller.clone(), self.ports);
        Operator(tokio::spawn(async move {
            let mut version = 0;
            loop {
                let Some(state) = caller.state_after(version).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                version = state.version;
                if let Some(side) = state.flip_to {
                    service.lead_to(if side == Side::Blue { ports.0 } else { ports.1 });
                    let _ = caller.post("/flipped", &caller.command(None)).await;
                }
            }
        }))
    }

    /// Puts a URI with these options into a side's Secret, past whatever may be cut.
    pub fn write_uri_with(&self, side: Side, options: &str) {
        let port = self.port(side);
        let uri = format!("postgres://postgres:{PASSWORD_IN_URI}@127.0.0.1:{port}/{}?{options}", self.database);
        std::fs::write(self.folder.join(side.as_str()), uri).expect("the folder is ours");
    }

    /// A store as the agent has it.
    pub fn store(&self, side: Side) -> Postgres {
        Postgres::new(self.folder.join(side.as_str()), "test")
    }

    /// A session as the agent has them.
    pub async fn session(&self, side: Side) -> Session {
        let session = self.store(side).connect(&CancellationToken::new()).await.expect("the server is up");
        session.reset(Duration::from_secs(5), None).await.expect("it sets its settings");
        session
    }

    /// What our own objects are called.
    pub fn names(&self) -> Names {
        Names::new(&self.uid, "copy")
    }

    /// What of ours is on either side.
    pub async fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for side in Side::ALL {
            let sql = include_str!("../../src/stores/postgres/sql/replication_leftovers.sql");
            let rows = self.connect(side).await.query(sql, &[&"alongside%"]).await.expect("it answers");
            // Slots are seen from every database of a server.
            let own = self.names().schema();
            let words = rows.iter().map(|row| row.get::<_, String>(0)).filter(|what| what.contains(&own));
            found.extend(words.map(|what| format!("{what} on {}", side.as_str())));
        }
        found
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agents' logs are in {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Somebody who does the operator's part. Ends when it is dropped.
pub struct Operator(JoinHandle<()>);

impl Drop for Operator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks an agent, with signed requests.
#[derive(Clone)]
pub struct Caller {
    pub at: String,
    uid: String,
    signer: Arc<Signer>,
    http: reqwest::Client,
    /// Commands made so far: each has a number of its own.
    commands: Arc<AtomicU64>,
}

impl Caller {
    /// A command under the next number.
    pub fn command(&self, term: Option<u32>) -> state::Command {
        state::Command {
            uid: self.uid.clone(),
            epoch: self.commands.fetch_add(1, Ordering::Relaxed) + 1,
            term,
            only_try: false,
            deadline: None,
            on_fence_timeout: None,
        }
    }

    async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Option<reqwest::Response> {
        let request = Request { method, path, uid: &self.uid, time: now(), body: &body };
        let headers = self.signer.headers(&request);
        let url = format!("http://{}{path}", self.at);
        let builder = if method == "GET" { self.http.get(url) } else { self.http.post(url) };
        let builder = headers.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value));
        builder.body(body).timeout(Duration::from_secs(25)).send().await.ok()
    }

    /// The state, once it is newer than this version.
    pub async fn state_after(&self, version: u64) -> Option<State> {
        self.send("GET", &format!("/state?after={version}"), Vec::new()).await?.json().await.ok()
    }

    /// The state now.
    pub async fn state(&self) -> Option<State> {
        self.send("GET", "/state", Vec::new()).await?.json().await.ok()
    }

    /// Sends a command; the answer's code, and the state or the refusal.
    pub async fn post(&self, path: &str, command: &state::Command) -> Option<(u16, serde_json::Value)> {
        let response = self.send("POST", path, serde_json::to_vec(command).expect("a command is JSON")).await?;
        Some((response.status().as_u16(), response.json().await.ok()?))
    }

    /// Sends a command until an agent takes it.
    pub async fn order(&self, path: &str, term: Option<u32>) {
        within(DEADLINE, "the agent takes an order", async || match self.post(path, &self.command(term)).await {
            Some((202, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

/// An agent process. Dropping it kills it.
pub struct Agent {
    child: Child,
    report: PathBuf,
    pub log: PathBuf,
    pub caller: Caller,
}

impl Agent {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), signal);
    }

    /// Waits until its state is so, and returns it.
    pub async fn until(&self, sentence: &str, is_so: impl Fn(&State) -> bool) -> State {
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        within(DEADLINE, sentence, async || match self.caller.state().await {
            Some(state) if is_so(&state) => Ok(state),
            Some(state) => Err(format!("{state:#?}")),
            None if self.report.exists() => panic!("{sentence}: the agent has ended; its log: {}", log()),
            None => Err(format!("no answer; its log: {}", log())),
        })
        .await
    }

    /// Waits until it has settled in a term.
    pub async fn until_settled_in(&self, term: u32) -> State {
        self.until(&format!("settled in term {term}"), |state| state.settled && state.term.unwrap_or(0) == term).await
    }

    /// Waits for its end and returns what it reported.
    pub async fn end(&mut self) -> Verdict {
        let child = &mut self.child;
        within(DEADLINE, "the agent ends", async || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it runs"),
            Err(_) => Err("it can't be asked"),
        })
        .await;
        let text = std::fs::read_to_string(&self.report).expect("it reports");
        serde_json::from_str(&text).expect("a verdict")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session on a port of loopback.
pub async fn connect(port: u16, database: &str) -> Client {
    connect_as("postgres", port, database).await
}

/// The same as somebody else.
pub async fn connect_as(user: &str, port: u16, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user(user).password(PASSWORD).dbname(database);
    let (client, connection) = config.application_name("test").connect(NoTls).await.expect("the server is up");
    tokio::spawn(connection);
    client
}

/// Runs SQL text.
pub async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {error:?}");
    }
}
