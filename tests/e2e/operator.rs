//! An operator as a child process: started, stopped at a boundary, killed, frozen and thawed.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{home::Home, stage::IMAGE, support::wait::within};

/// How long an operator may take to start, or to follow one that is gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running operator; it is killed when this is dropped.
pub struct Operator {
    name: String,
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Operator {
    /// Starts an operator under a name of its own in the lease. Its log and its faults are in the home's folder.
    pub fn start(home: &Home, name: &str, program: &Path, providers: &Path, flags: &[String]) -> Self {
        let folder = home.folder().join(name);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        let log = File::options().append(true).create(true).open(folder.join("log")).expect("a file can be made");
        let address = home.stage().address();
        let child = home
            .stage()
            .cluster()
            .command("env")
            .arg(format!("KUBECONFIG={}", home.stage().credentials().display()))
            .arg(format!("ALONGSIDE_FAULT_DIR={}", folder.display()))
            .arg("RUST_LOG=info,kube_client=warn,alongside=debug")
            .arg(program)
            .arg("operator")
            .args(flags)
            .arg(format!("--identity={name}"))
            .arg(format!("--image={IMAGE}"))
            .arg(format!("--namespace-scope={}", home.name()))
            .arg(format!("--lease-namespace={}", home.name()))
            .arg(format!("--http={address}"))
            .arg(format!("--providers={}", providers.display()))
            .arg(format!("--signing-key={}", home.stage().signing_key().display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be opened twice"))
            .stderr(log)
            .spawn()
            .expect("tests/cluster/in can be run");
        Self { name: name.to_owned(), child, address, folder }
    }

    /// Waits until it leads.
    pub async fn leads(&self) {
        let sentence = format!("operator {} leads", self.name);
        within(PATIENCE, &sentence, async || match self.metric("alongside_leader").await? {
            leads if leads > 0.5 => Ok(()),
            _ => Err("another does".to_owned()),
        })
        .await;
    }

    /// Waits until its caches are warm while another leads.
    pub async fn stands_by(&self) {
        let sentence = format!("operator {} stands by", self.name);
        within(PATIENCE, &sentence, async || {
            match (self.get("readyz").await, self.metric("alongside_leader").await?) {
                (Ok(_), leads) if leads < 0.5 => Ok(()),
                (ready, leads) => Err(format!("{ready:?}, leads: {leads}")),
            }
        })
        .await;
    }

    /// The value of one of its metrics. Its name as Prometheus reads it.
    pub async fn metric(&self, name: &str) -> Result<f64, String> {
        let text = self.get("metrics").await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).ok_or_else(|| format!("it has no metric {name}"))
    }

    /// Waits until one of its metrics speaks of `name`.
    pub async fn measures(&self, name: &str) {
        let sentence = format!("operator {} measures something of {name}", self.name);
        within(PATIENCE, &sentence, async || {
            let text = self.get("metrics").await?;
            if text.contains(name) { Ok(()) } else { Err("it doesn't".to_owned()) }
        })
        .await;
    }

    /// Waits until none of its metrics speaks of `name` any more.
    pub async fn measures_no_more(&self, name: &str) {
        let sentence = format!("operator {} measures nothing of {name}", self.name);
        within(PATIENCE, &sentence, async || {
            let text = self.get("metrics").await?;
            text.lines().find(|line| line.contains(name)).map_or(Ok(()), |line| Err(line.to_owned()))
        })
        .await;
    }

    /// What it answers at a path of its own.
    pub async fn get(&self, path: &str) -> Result<String, String> {
        let url = format!("http://{}/{path}", self.address);
        let answer = reqwest::get(url).await.map_err(|error| error.to_string())?;
        let well = answer.status().is_success();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if well { Ok(text) } else { Err(text) }
    }

    /// Has it stop at a boundary, from now on; whatever it is stopped at goes on. `nth` tells this stop from others.
    pub fn is_to_stop_at(&self, boundary: &str, nth: u32) {
        let hold = format!("{boundary} {nth}");
        // Written beside and moved: it never reads half of it.
        std::fs::write(self.folder.join("hold.new"), hold).expect("a file can be written");
        std::fs::rename(self.folder.join("hold.new"), self.folder.join("hold")).expect("a file can be renamed");
    }

    /// Lets it go on from wherever it is stopped, and stop nowhere.
    pub fn may_go_on(&self) {
        std::fs::remove_file(self.folder.join("hold")).ok();
    }

    /// Whether it has come to the boundary that it is to stop at.
    pub fn has_stopped(&self) -> bool {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let hold = read("hold");
        hold.is_some() && read("reached") == hold
    }

    /// Waits until it has come to the boundary.
    pub async fn comes_to_a_stop(&self) {
        let sentence = format!("operator {} comes to the boundary", self.name);
        within(PATIENCE, &sentence, async || if self.has_stopped() { Ok(()) } else { Err("not yet") }).await;
    }

    /// Stops it in mid-thought, as a frozen node would.
    pub fn freezes(&self) {
        signal(&self.child, Signal::STOP);
    }

    /// Lets it go on as if nothing had happened.
    pub fn thaws(&self) {
        signal(&self.child, Signal::CONT);
    }

    /// `kill -9`.
    #[expect(clippy::wrong_self_convention, reason = "it reads as a sentence")]
    pub fn is_killed(mut self) {
        end(&mut self.child);
    }

    /// Asks it to hand over, and waits until it has ended by itself.
    pub async fn hands_over(mut self) {
        signal(&self.child, Signal::TERM);
        let child = &mut self.child;
        within(PATIENCE, "the operator ends when it is asked to", async || match child.try_wait() {
            Ok(Some(status)) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Waits until its log has a line that holds `words`.
    pub async fn says(&self, words: &str) {
        within(PATIENCE, &format!("operator {} says {words:?}", self.name), async || {
            if self.log().reads().contains(words) { Ok(()) } else { Err("not yet") }
        })
        .await;
    }

    /// Its log, which outlives it.
    pub fn log(&self) -> Log {
        Log(self.folder.join("log"))
    }
}

/// The log of an operator.
pub struct Log(PathBuf);

impl Log {
    /// All that stands in it.
    pub fn reads(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        end(&mut self.child);
        // The next one under this name starts afresh.
        std::fs::remove_file(self.folder.join("hold")).ok();
        std::fs::remove_file(self.folder.join("reached")).ok();
    }
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the child is there");
}

/// Kills a child, frozen or not, and waits for its end.
pub fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}
