//! A real PgBouncer on loopback in front of a [`Server`]. It ends with the test, as the server does.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use super::{
    postgres::{PASSWORD, Server, as_postgres, free_port, give_to_postgres, new_folder, spawn_kept},
    wait::within,
};

/// How long a server connection stays with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Until the client leaves.
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// A running PgBouncer.
pub struct PgBouncer {
    port: u16,
    pid: Pid,
    keeper: Option<JoinHandle<()>>,
    folder: PathBuf,
}

impl PgBouncer {
    /// Starts one for every database of a server. It asks no password of its clients.
    pub async fn start(server: &Server, mode: PoolMode) -> Self {
        Self::in_front_of(server.port(), mode).await
    }

    /// The same for whatever listens on a port of loopback.
    pub async fn in_front_of(server_port: u16, mode: PoolMode) -> Self {
        let folder = new_folder("pgbouncer");
        let port = free_port();
        let pool_mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port} user=postgres password='{PASSWORD}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\nadmin_users = admin\n\
             default_pool_size = 40\nmax_client_conn = 500\nserver_login_retry = 1\n\
             pool_mode = {pool_mode}\nlogfile = {}\n",
            folder.join("log").display()
        );
        std::fs::write(folder.join("pgbouncer.ini"), config).expect("the folder is ours");
        give_to_postgres(&folder);
        let mut command: Command = as_postgres("/usr/sbin/pgbouncer".as_ref(), &["--pdeathsig", "INT"]);
        command.arg("-q").arg(folder.join("pgbouncer.ini"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (keeper, pid) = spawn_kept(command);
        let bouncer = Self { port, pid, keeper: Some(keeper), folder };
        within(Duration::from_secs(30), "PgBouncer listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await
        })
        .await;
        bouncer
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.pid, Signal::TERM);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
