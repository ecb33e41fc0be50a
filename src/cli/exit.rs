//! How the plugin ends: what a script can tell by the exit code alone.

use std::process::ExitCode;

/// An exit code. The numbers are an interface: scripts compare with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What was asked for is done or so.
    Done,
    /// It could not be done; the message says why.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The migration has been taken back, or is being.
    RolledBack,
    /// The migration is stalled: a person is needed.
    Stalled,
    /// The migration waits for a person: an approval, a pause, `until`.
    AwaitsPerson,
    /// The time was over before that what was waited for.
    TimedOut,
    /// The verb would have done nothing, so nothing was written.
    Refused,
    /// Lint found errors.
    Findings,
}

impl Code {
    /// Its number.
    pub const fn number(self) -> u8 {
        match self {
            Code::Done => 0,
            Code::Failed => 1,
            Code::Usage => 2,
            Code::RolledBack => 3,
            Code::Stalled => 4,
            Code::AwaitsPerson => 5,
            Code::TimedOut => 6,
            Code::Refused => 7,
            Code::Findings => 8,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        ExitCode::from(code.number())
    }
}
