//! A real PostgreSQL server on loopback, with TLS and passwords, for as long as a test holds it.
//!
//! It runs as the user `postgres` where the test runs as root, which the server refuses for itself. It ends with the
//! test: by [`Server`]'s drop, or by the kernel if the test process is killed.

use std::{
    fmt::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};
use tokio_postgres::{Client, NoTls, Row, types::ToSql};

/// Of the superuser `postgres`. It has every character that a URI has a meaning for.
pub const PASSWORD: &str = "s3cr@t:/?#&=%41 ";
/// The same inside a URI.
pub const PASSWORD_IN_URI: &str = "s3cr%40t%3A%2F%3F%23%26%3D%2541%20";
const START_DEADLINE: Duration = Duration::from_mins(1);
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A running server.
pub struct Server {
    folder: PathBuf,
    port: u16,
    pid: Pid,
    keeper: Option<JoinHandle<()>>,
    databases: AtomicU32,
    /// Settings beside those that every server has.
    settings: Vec<(&'static str, &'static str)>,
}

/// Settings of a server that can be copied and kept in step, of several tests at once.
pub const LOGICAL: &[(&str, &str)] = &[
    ("wal_level", "logical"),
    ("max_replication_slots", "40"),
    ("max_wal_senders", "40"),
    ("max_logical_replication_workers", "20"),
    ("max_worker_processes", "30"),
    ("max_slot_wal_keep_size", "4GB"),
    ("wal_retrieve_retry_interval", "100ms"),
];

impl Server {
    /// The server that tests of this process share. It ends when the last of them lets go, and begins anew after that.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server of its own: for tests that harm it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, such as [`LOGICAL`].
    pub fn start_with(settings: &[(&'static str, &'static str)]) -> Self {
        let folder = new_folder("postgres");
        let data = folder.join("data");
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD).expect("the folder is new and ours");
        write_certificates(&folder);
        give_to_postgres(&folder);
        let mut initdb = as_postgres(&binary("initdb"), &[]);
        initdb.args(["--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        initdb.arg(format!("--pwfile={}", password.display())).arg(format!("--pgdata={}", data.display()));
        run(initdb);
        // Another process may take a free port before the server does.
        for _ in 0..5 {
            let port = free_port();
            let (keeper, pid) = spawn(&folder, &data, port, settings);
            let (folder, settings, databases) = (folder.clone(), settings.to_vec(), AtomicU32::new(0));
            let mut server = Self { folder, port, pid, keeper: Some(keeper), databases, settings };
            if server.is_up() {
                return server;
            }
            server.stop();
        }
        panic!("no server came up; its log: {}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server's first process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The certificate authority that the server's certificate, for `localhost` alone, comes from.
    pub fn certificate_authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// A new, empty database.
    pub async fn database(self: &Arc<Self>) -> Database {
        let name = format!("shop_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let admin = connect(self.port, "postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new name");
        Database { server: Arc::clone(self), name }
    }

    /// Ends the server as a crash does, and starts it again on the same port.
    pub fn crash_and_restart(&mut self) {
        self.stop();
        let (keeper, pid) = spawn(&self.folder, &self.folder.join("data"), self.port, &self.settings);
        (self.keeper, self.pid) = (Some(keeper), pid);
        assert!(self.is_up(), "the server comes up again");
    }

    /// Waits until the server answers; false if it ended instead.
    fn is_up(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < START_DEADLINE {
            if self.keeper.as_ref().is_none_or(JoinHandle::is_finished) {
                return false;
            }
            let mut ready = Command::new(binary("pg_isready"));
            ready.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if ready.status().is_ok_and(|status| status.success()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not come up within {START_DEADLINE:?}");
    }

    fn stop(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        // "Immediate": there is nothing to save.
        let _ = rustix::process::kill_process(self.pid, Signal::QUIT);
        let start = Instant::now();
        while !keeper.is_finished() && start.elapsed() < STOP_DEADLINE {
            std::thread::sleep(Duration::from_millis(10));
        }
        if !keeper.is_finished() {
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
        let _ = keeper.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A database of one test.
pub struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// The server that it is on.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A URI with the superuser's password.
    pub fn uri(&self) -> String {
        self.uri_at(self.server.port)
    }

    /// The same through another port, such as a proxy's.
    pub fn uri_at(&self, port: u16) -> String {
        format!("postgres://postgres:{PASSWORD_IN_URI}@127.0.0.1:{port}/{}", self.name)
    }

    /// A session of the test's own.
    pub async fn connect(&self) -> Client {
        connect(self.server.port, &self.name).await
    }

    /// Runs SQL text.
    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.connect().await.batch_execute(sql).await {
            panic!("{sql}: {error:?}");
        }
    }

    /// The rows that a query answers with.
    pub async fn rows(&self, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        match self.connect().await.query(sql, values).await {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error:?}"),
        }
    }

    /// The one number that a query answers with.
    pub async fn count(&self, sql: &str) -> i64 {
        self.rows(sql, &[]).await[0].get(0)
    }
}

async fn connect(port: u16, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).user("postgres").password(PASSWORD).dbname(database);
    let (client, connection) = config.application_name("test").connect(NoTls).await.expect("the server is up");
    tokio::spawn(connection);
    client
}

/// Starts the server in a thread that waits for its end: the kernel ends the server with the thread that started it.
fn spawn(folder: &Path, data: &Path, port: u16, more: &[(&str, &str)]) -> (JoinHandle<()>, Pid) {
    let settings = [
        ("port", port.to_string()),
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", folder.display().to_string()),
        ("fsync", "off".to_owned()),
        ("ssl", "on".to_owned()),
        ("ssl_cert_file", folder.join("server.crt").display().to_string()),
        ("ssl_key_file", folder.join("server.key").display().to_string()),
        ("max_connections", "100".to_owned()),
    ];
    let mut server = as_postgres(&binary("postgres"), &["--pdeathsig", "INT"]);
    server.arg("-D").arg(data);
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in settings.into_iter().chain(more) {
        server.arg("-c").arg(format!("{name}={value}"));
    }
    let log = std::fs::File::create(folder.join("log")).expect("the folder is ours");
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    spawn_kept(server)
}

/// Starts a process in a thread that waits for its end.
pub fn spawn_kept(mut command: Command) -> (JoinHandle<()>, Pid) {
    let (tell, hear) = mpsc::channel();
    let keeper = std::thread::spawn(move || {
        let mut child: Child = command.spawn().expect("setpriv comes with Debian");
        let _ = tell.send(Pid::from_child(&child));
        let _ = child.wait();
    });
    (keeper, hear.recv().expect("the keeper tells the process id first"))
}

/// A command that runs as the user `postgres` where we are root. `options` are setpriv's.
pub fn as_postgres(program: &Path, options: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(options);
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

/// Makes a folder the user `postgres`'s where we are root.
pub fn give_to_postgres(folder: &Path) {
    if rustix::process::geteuid().is_root() {
        let mut chown = Command::new("chown");
        chown.args(["-R", "postgres:postgres"]).arg(folder);
        run(chown);
    }
}

fn run(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Where Debian puts the newest version, or else wherever the PATH leads.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    newest.map_or_else(|| name.into(), |version| format!("/usr/lib/postgresql/{version}/bin/{name}").into())
}

/// A new folder for temporary files.
pub fn new_folder(kind: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("alongside-{kind}-{}-{count}", std::process::id()));
    // A killed run with the same process id may have left one.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("the name is free");
    folder
}

/// A port that is free right now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    listener.local_addr().expect("it is bound").port()
}

/// An authority, and a certificate of it for `localhost`, but for no address.
fn write_certificates(folder: &Path) {
    let authority_key = rcgen::KeyPair::generate().expect("ring makes keys");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    let certificate = authority.self_signed(&authority_key).expect("a key signs itself");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("ring makes keys");
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a good name");
    let signed = server.signed_by(&key, &issuer).expect("the authority signs");
    let mut chain = String::new();
    let _ = write!(chain, "{}", signed.pem());
    for (name, text) in [("ca.crt", certificate.pem()), ("server.crt", chain), ("server.key", key.serialize_pem())] {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        let mode = if name == "ca.crt" { 0o644 } else { 0o600 };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("the file is ours");
    }
}
