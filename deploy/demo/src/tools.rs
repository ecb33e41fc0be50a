//! kubectl and helm as subprocesses, none of which may take longer than it is given. Touches the network.

use std::{
    io::{self, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

/// How often a subprocess is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why a tool gave no answer. What was written to it is never shown: it may be a Secret.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It isn't there, or may not be run.
    #[error("{program} could not be started")]
    Start {
        /// Its name.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It was ended.
    #[error("`{command}` was not done after {limit:?}")]
    TooLong {
        /// What was run.
        command: String,
        /// What it was given.
        limit: Duration,
    },
    /// It failed by itself.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// What was run.
        command: String,
        /// What it wrote to its standard error.
        said: String,
    },
    /// It answered something else than was asked for.
    #[error("the answer to `{command}` can't be read")]
    Unreadable {
        /// What was run.
        command: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// kubectl and helm, set to one cluster.
#[derive(Clone, Debug)]
pub struct Tools {
    context: Option<String>,
}

impl Tools {
    /// The cluster of a context in the user's kubeconfig, or the current one.
    pub fn new(context: Option<String>) -> Self {
        Self { context }
    }

    /// Runs kubectl and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str], limit: Duration) -> Result<String, ToolError> {
        run(self.command("kubectl", "--context", arguments), None, limit)
    }

    /// Runs kubectl with something to read, and returns what it prints.
    pub fn kubectl_with(&self, input: &str, arguments: &[&str], limit: Duration) -> Result<String, ToolError> {
        run(self.command("kubectl", "--context", arguments), Some(input), limit)
    }

    /// Runs helm and returns what it prints.
    pub fn helm(&self, arguments: &[&str], limit: Duration) -> Result<String, ToolError> {
        run(self.command("helm", "--kube-context", arguments), None, limit)
    }

    /// Runs kubectl and reads the JSON that it prints.
    pub fn read<T: DeserializeOwned>(&self, arguments: &[&str], limit: Duration) -> Result<T, ToolError> {
        let text = self.kubectl(arguments, limit)?;
        serde_json::from_str(&text)
            .map_err(|source| ToolError::Unreadable { command: format!("kubectl {}", arguments.join(" ")), source })
    }

    /// Follows an object from now on.
    pub fn watch<T: DeserializeOwned + Send + 'static>(
        &self,
        namespace: &str,
        object: &str,
    ) -> Result<Watch<T>, ToolError> {
        let arguments = ["--namespace", namespace, "get", object, "--watch", "--output=json"];
        Watch::begin(self.command("kubectl", "--context", &arguments))
    }

    fn command(&self, program: &'static str, context_flag: &str, arguments: &[&str]) -> (&'static str, Command) {
        let mut command = Command::new(program);
        if let Some(context) = &self.context {
            command.arg(context_flag).arg(context);
        }
        command.args(arguments);
        (program, command)
    }
}

fn shown(program: &str, command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    std::iter::once(program.into()).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn run(
    (program, mut command): (&'static str, Command),
    input: Option<&str>,
    limit: Duration,
) -> Result<String, ToolError> {
    let shown = shown(program, &command);
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ToolError::Start { program, source })?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (status, printed, said) = thread::scope(|scope| {
        let (stdin, stdout, stderr) = pipes;
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A tool that fails early doesn't read to the end; it says why itself.
            scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        let printed = scope.spawn(|| read_all(stdout));
        let said = scope.spawn(|| read_all(stderr));
        let status = end_of(&mut child, limit);
        (status, printed.join().unwrap_or_default(), said.join().unwrap_or_default())
    });
    match status {
        None => Err(ToolError::TooLong { command: shown, limit }),
        Some(status) if status.success() => Ok(printed),
        Some(_) => Err(ToolError::Failed { command: shown, said: said.trim().to_owned() }),
    }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is worth having.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end of a process, and ends it where that takes too long.
fn end_of(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            end(child);
            return None;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// An object as it changes. Ends its kubectl when it is dropped.
pub struct Watch<T> {
    child: Child,
    changes: Receiver<T>,
}

/// What a watch has to say.
#[derive(Debug)]
pub enum Change<T> {
    /// The object as it is now.
    To(T),
    /// Nothing within the time.
    None,
    /// The API server ended the watch, as it may; begin another.
    Ended,
}

impl<T: DeserializeOwned + Send + 'static> Watch<T> {
    fn begin((program, mut command): (&'static str, Command)) -> Result<Self, ToolError> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| ToolError::Start { program, source })?;
        let (sender, changes) = sync_channel(64);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for change in objects(stdout) {
                    if sender.send(change).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self { child, changes })
    }

    /// Waits for the next change.
    pub fn next(&self, limit: Duration) -> Change<T> {
        match self.changes.recv_timeout(limit) {
            Ok(object) => Change::To(object),
            Err(RecvTimeoutError::Timeout) => Change::None,
            Err(RecvTimeoutError::Disconnected) => Change::Ended,
        }
    }
}

fn objects<T: DeserializeOwned>(stdout: ChildStdout) -> impl Iterator<Item = T> {
    serde_json::Deserializer::from_reader(BufReader::new(stdout)).into_iter::<T>().map_while(Result::ok)
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> (&'static str, Command) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        ("sh", command)
    }

    #[test]
    fn a_tool_that_takes_too_long_is_ended() {
        let ended = run(sh("exec sleep 60"), None, Duration::from_millis(50));
        assert!(matches!(ended, Err(ToolError::TooLong { .. })), "{ended:?}");
    }

    #[test]
    fn a_failure_shows_what_the_tool_said_and_never_what_it_read() {
        let failed =
            run(sh("cat >/dev/null; echo no such thing >&2; exit 3"), Some("password"), Duration::from_mins(1));
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("no such thing") && !text.contains("password"), "{text}");
    }

    #[test]
    fn what_a_tool_reads_and_prints_goes_through_whole() {
        let long = "line\n".repeat(100_000);
        assert_eq!(run(sh("cat"), Some(&long), Duration::from_mins(1)).unwrap(), long);
    }

    #[test]
    fn a_watch_yields_each_object_and_says_when_it_ends() {
        let watch = Watch::<u32>::begin(sh("printf '1\\n2\\n'")).unwrap();
        let limit = Duration::from_mins(1);
        assert!(matches!(watch.next(limit), Change::To(1)));
        assert!(matches!(watch.next(limit), Change::To(2)));
        assert!(matches!(watch.next(limit), Change::Ended));
    }
}
