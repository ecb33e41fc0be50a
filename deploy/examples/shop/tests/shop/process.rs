//! The shop's processes, started from the binary that is under test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use serde_json::Value;

use crate::postgres::Postgres;
use crate::{DEADLINE, eventually};

/// A `shop serve` or `shop load`, listening. Dropped, it is killed.
pub struct Shop {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the fault switches of a `shop serve` listen.
    pub admin: Option<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Shop {
    /// Starts `shop serve` on ports of the system's choice.
    pub fn serve(postgres: &Postgres, version: &str, options: &[&str]) -> Self {
        let mut command = command(&["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
        command.arg(format!("--version={version}")).args(options);
        command.env("DATABASE_URL", postgres.url()).env("POD_NAME", format!("{version}-pod"));
        Self::start(command)
    }

    /// Starts `shop load` towards an address.
    pub fn load(to: SocketAddr, options: &[&str]) -> Self {
        let mut command = command(&["load", "--listen=127.0.0.1:0"]);
        command.arg(format!("--url=http://{to}")).args(options);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (found, listening) = mpsc::channel();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "listening" {
                    drop(found.send(event));
                }
                kept.lock().unwrap().push(line);
            }
        });
        let Ok(event) = listening.recv_timeout(DEADLINE) else {
            drop(child.kill());
            panic!("the shop doesn't listen: {:#?}", lines.lock().unwrap());
        };
        let address = |field: &str| event[field].as_str().map(|text| text.parse().unwrap());
        Self { child, address: address("address").unwrap(), admin: address("admin_address"), log: lines }
    }

    /// Asks it to end, as Kubernetes does.
    pub fn terminate(&self) {
        signal("TERM", self.child.id());
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the shop ends", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        drop(self.child.kill());
        self.child.wait().unwrap();
        if thread::panicking() {
            eprintln!("{}:\n{}\n", self.address, self.log.lock().unwrap().join("\n"));
        }
    }
}

/// Runs `shop` to its end.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Runs `shop init-db`, which has to succeed.
pub fn init_db(postgres: &Postgres) {
    let output = command(&["init-db", "--items=100"]).env("DATABASE_URL", postgres.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The binary under test, with nothing of this process's environment.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.env_clear().args(arguments);
    command
}

/// Sends a signal to one process.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "could not send {name} to {pid}");
}
