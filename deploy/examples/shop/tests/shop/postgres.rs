//! A Postgres of a test's own: in a folder of its own, reached by a socket in that folder, ended by
//! its process id.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::{Client, NoTls};

use crate::eventually;
use crate::process::signal;

const BIN: &str = "/usr/lib/postgresql/15/bin";

static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A database cluster, running or not. Dropped, it is ended and its folder removed.
pub struct Postgres {
    folder: PathBuf,
    server: Option<Child>,
}

impl Postgres {
    /// Makes a cluster that doesn't run yet.
    pub fn stopped() -> Self {
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("shop-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        if let Some(account) = account() {
            chown(&folder, Some(account.uid), Some(account.gid)).unwrap();
        }
        let postgres = Self { folder, server: None };
        let made = postgres
            .program("initdb")
            .args(["--username=shop", "--auth=trust", "--no-sync", "--no-instructions"])
            .arg("-D")
            .arg(postgres.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres
    }

    /// Makes a cluster and waits until it answers.
    pub async fn running() -> Self {
        let mut postgres = Self::stopped();
        postgres.start().await;
        postgres
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&mut self) {
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data()).arg("-k").arg(&self.folder);
        server.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        let log = fs::File::create(self.folder.join("log")).unwrap();
        self.server = Some(server.stderr(log).spawn().unwrap());
        eventually("Postgres answers", async || self.connect().await.ok()).await;
    }

    /// Ends the server, with its connections.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal("INT", server.id());
            server.wait().unwrap();
        }
    }

    /// The URL as the shop is told it.
    pub fn url(&self) -> String {
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://shop@{folder}/postgres")
    }

    /// The folder, for files of the test's own.
    pub fn folder(&self) -> &PathBuf {
        &self.folder
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Runs statements.
    pub async fn execute(&self, sql: &str) {
        self.connect().await.unwrap().batch_execute(sql).await.unwrap();
    }

    /// Returns how many pieces have been taken of all items.
    pub async fn taken(&self) -> i64 {
        let client = self.connect().await.unwrap();
        let row = client.query_one("SELECT sum(taken)::bigint FROM items", &[]).await.unwrap();
        row.get(0)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Postgres refuses to run as root: then its programs run as the account of its package.
    fn program(&self, name: &str) -> Command {
        let mut program = Command::new(format!("{BIN}/{name}"));
        program.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(Account { uid, gid }) = account() {
            program.uid(uid).gid(gid);
        }
        program
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

struct Account {
    uid: u32,
    gid: u32,
}

/// The account `postgres`, where this runs as root; else none, and its own will do.
fn account() -> Option<Account> {
    let own = Command::new("id").arg("-u").output().unwrap();
    if own.stdout.trim_ascii() != b"0" {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<_> = line.expect("Debian's package makes the account postgres").split(':').collect();
    Some(Account { uid: fields[2].parse().unwrap(), gid: fields[3].parse().unwrap() })
}
