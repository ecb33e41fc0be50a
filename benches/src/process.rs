//! The measured programs, as processes.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A program that ends with this value.
pub struct Process(Child);

impl Process {
    /// Starts it, with what it says in `log`.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Self {
        let file = File::create(log).expect("a log can be made");
        let both = file.try_clone().expect("a log has two ends");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(both);
        let child = command.spawn().unwrap_or_else(|error| panic!("{} can't be started: {error}", program.display()));
        Self(child)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.0.kill().expect("a process of ours can be killed");
        self.0.wait().expect("a process of ours can be waited for");
    }

    /// Processor time that it has used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        // The name, in parentheses, may hold spaces; user and system time are the 14th and 15th field.
        let after = &stat[stat.rfind(')').expect("its name ends") + 2..];
        let ticks: u64 = after.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // A tick is 10 ms on every Linux that this runs on.
        Duration::from_millis(ticks * 10)
    }

    /// Resident memory, in KiB: now, and at most so far.
    pub fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        (field("VmRSS:").unwrap_or(0), field("VmHWM:").unwrap_or(0))
    }

    /// How many file descriptors it holds.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One plain HTTP request to this machine; the answer's body.
pub async fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}

/// The sum of a metric over all its series.
pub fn metric(text: &str, name: &str, filter: impl Fn(&str) -> bool) -> f64 {
    let ours = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && filter(line);
    text.lines().filter(ours).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
