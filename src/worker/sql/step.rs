//! The steps of one script: what runs together in a transaction, and what runs apart from any.
//!
//! The history is written inside the transaction of what it tells of. Around a statement that runs apart it is written
//! before (`begun`) and after (`done`); between the two nobody knows, and whoever comes next looks:
//!
//! 1. note "begun: 3";
//! 2. CREATE INDEX CONCURRENTLY takes effect;
//! 3. the worker is killed;
//! 4. the next worker finds "begun: 3" and a valid index, and goes on with statement 4 rather than fail on "already
//!    exists".

use std::time::Duration;

use super::{halt::Halt, standing::Start, wait::Waits};
use crate::{
    stores::postgres::{
        QueryError, Session,
        history::{History, Progress, Recorded, Turn, digest},
        index::{self, IndexState},
        script::{Apart, Script, Statement, Step},
        session::Refusal,
    },
    worker::verdict::FailedStatement,
};

/// How long a concurrent build may wait inside the server for older transactions to end. It keeps nobody waiting but
/// VACUUM and other schema changes of that table, and giving up throws the whole build away.
const CONCURRENT_LOCK_TIMEOUT: Duration = Duration::from_mins(10);

/// Runs the steps of one script one way.
pub(super) struct Runner<'a> {
    pub session: &'a Session,
    pub history: &'a History<'a>,
    pub waits: &'a Waits<'a>,
    pub lock_timeout: Duration,
    pub turn: Turn,
    pub version: &'a str,
    pub name: &'a str,
    pub checksum: &'a str,
    pub script: &'a Script,
}

/// How far the script is: its row in the history, and the statements that have taken effect.
#[derive(Clone, Copy)]
struct At {
    row: Option<i64>,
    done: usize,
}

/// Why a transaction didn't come about.
enum Trouble<'s> {
    /// A statement, or one of ours.
    Query(QueryError, Option<&'s Statement>),
    /// The script has ended the transaction it ran in.
    EndedByScript,
}

/// What became of a try to run a statement apart.
enum Tried {
    /// It has taken effect.
    Done,
    /// Not now; what stands in the way.
    NotNow(String),
}

impl Runner<'_> {
    /// Runs what is left of the script. Counts each step that has taken effect.
    pub async fn run(&self, start: Start, steps: &mut usize) -> Result<(), Halt> {
        self.restore_settings(start.done).await?;
        let mut at = At { row: start.row, done: start.done };
        let left = self.script.steps_after(start.done);
        if left.is_empty() {
            self.record_apart(at, None).await?;
        }
        for step in left {
            at = match step {
                Step::Together(statements) => self.together(statements, at).await?,
                Step::Apart(statement, apart) => {
                    let in_doubt = start.begun == Some(statement.number);
                    self.apart(statement, apart, at, in_doubt).await?
                }
            };
            *steps += 1;
        }
        Ok(())
    }

    /// Runs again what set the session in the statements that are done: a resumed script has a new session.
    async fn restore_settings(&self, done: usize) -> Result<(), Halt> {
        for statement in self.script.statements[..done].iter().filter(|statement| statement.sets_session) {
            match self.session.run(&statement.text).await {
                Err(QueryError::Refused(refusal)) => return Err(self.failure(&refusal, Some(statement), done, "")),
                other => other?,
            }
        }
        Ok(())
    }

    async fn together(&self, statements: &[Statement], at: At) -> Result<At, Halt> {
        let mut patience = self.waits.patience();
        loop {
            let trouble = match self.try_together(statements, at).await {
                Ok(at) => return Ok(at),
                Err(trouble) => trouble,
            };
            let (error, statement) = match trouble {
                Trouble::EndedByScript => return Err(self.ended_by_script()),
                Trouble::Query(error, statement) => (error, statement),
            };
            let refusal = match error {
                QueryError::Refused(refusal) => refusal,
                QueryError::Stopped => {
                    self.session.roll_back().await?;
                    return Err(self.stopped(at.done));
                }
                other => return Err(other.into()),
            };
            // Everything lets go of its locks before it is tried again.
            self.session.roll_back().await?;
            if !refusal.may_pass() {
                return Err(self.failure(&refusal, statement, at.done, ""));
            }
            if !patience.again(&refusal).await.map_err(|_| self.stopped(at.done))? {
                let note = format!(" It took {}.", patience.spent());
                return Err(self.failure(&refusal, statement, at.done, &note));
            }
        }
    }

    async fn try_together<'s>(&self, statements: &'s [Statement], at: At) -> Result<At, Trouble<'s>> {
        let ours = |error| Trouble::Query(error, None);
        let transaction = self.session.begin().await.map_err(ours)?;
        for statement in statements {
            self.session.run(&statement.text).await.map_err(|error| Trouble::Query(error, Some(statement)))?;
        }
        // Only text that the parser doesn't understand can hide a COMMIT.
        if self.session.transaction().await.map_err(ours)? != transaction {
            return Err(Trouble::EndedByScript);
        }
        self.session.as_ourselves().await.map_err(ours)?;
        let after = At { row: at.row, done: at.done + statements.len() };
        let row = self.record(after, None).await.map_err(ours)?;
        // What is checked at the end of a transaction is refused here: nothing has taken effect then either.
        self.session.commit().await.map_err(ours)?;
        Ok(At { row: Some(row), ..after })
    }

    async fn apart(&self, statement: &Statement, apart: &Apart, at: At, in_doubt: bool) -> Result<At, Halt> {
        let done = At { done: at.done + 1, ..at };
        if in_doubt && self.look_back(statement, apart, at).await? {
            return self.settle(done).await;
        }
        let row = Some(self.record_apart(at, Some(statement.number)).await?);
        let (at, done) = (At { row, ..at }, At { row, ..done });
        let mut patience = self.waits.patience();
        loop {
            let why = match self.try_apart(statement, apart, at).await? {
                Tried::Done => return self.settle(done).await,
                Tried::NotNow(why) => why,
            };
            if !patience.again(&why).await.map_err(|_| self.stopped(at.done))? {
                self.record_apart(at, None).await?;
                return Err(Halt::failed(format!(
                    "{}: statement {} of {} (line {}) could not be run in {}: {why}. {}",
                    self.name,
                    statement.number,
                    self.script.statements.len(),
                    statement.line,
                    patience.spent(),
                    self.so_far(at.done)
                )));
            }
        }
    }

    async fn settle(&self, done: At) -> Result<At, Halt> {
        Ok(At { row: Some(self.record_apart(done, None).await?), ..done })
    }

    /// Whether a statement that an earlier worker had begun has taken effect.
    async fn look_back(&self, statement: &Statement, apart: &Apart, at: At) -> Result<bool, Halt> {
        match apart {
            Apart::BuildIndex { index: Some(name), table } => {
                Ok(index::state(self.session, name, table).await? == IndexState::Valid)
            }
            Apart::DropIndex { index } => Ok(!index::exists(self.session, index).await?),
            // Doing these once more does no harm.
            Apart::ReindexIndex { .. } | Apart::ReindexTable { .. } | Apart::Vacuum => Ok(false),
            Apart::BuildIndex { index: None, .. } | Apart::Other => {
                let (row, next) = (at.row.unwrap_or_default(), at.done + 1);
                let digest = digest(&self.script.beginning(next));
                Err(Halt::refused(format!(
                    "{}: statement {} (line {}) was begun by a worker that was lost, and nobody can tell from outside \
                     whether it took effect. Look. If it did not, run `UPDATE alongside.script_history SET begun = NULL \
                     WHERE id = {row};`. If it did, run `UPDATE alongside.script_history SET begun = NULL, done = {next}, \
                     done_checksum = '{digest}', applied_at = CASE statements WHEN {next} THEN now() END WHERE id = \
                     {row};`. Then retry.",
                    self.name, statement.number, statement.line
                )))
            }
        }
    }

    async fn try_apart(&self, statement: &Statement, apart: &Apart, at: At) -> Result<Tried, Halt> {
        if let Some(why) = self.make_way(apart, at).await? {
            return Ok(Tried::NotNow(why));
        }
        let lock_timeout = if apart.waits_without_harm() {
            self.lock_timeout.max(CONCURRENT_LOCK_TIMEOUT.min(self.waits.limit()))
        } else {
            self.lock_timeout
        };
        let before = self.session.set_lock_timeout(&lock_timeout.as_millis().max(1).to_string()).await?;
        match self.session.run(&statement.text).await {
            Ok(()) => {
                self.session.set_lock_timeout(&before).await?;
                self.confirm(apart).await
            }
            Err(QueryError::Refused(refusal)) => {
                let left = self.clear_away(apart).await;
                self.session.set_lock_timeout(&before).await?;
                if refusal.may_pass() {
                    return Ok(Tried::NotNow(refusal.to_string()));
                }
                // The server has said no: it was not begun after all.
                self.record_apart(at, None).await?;
                Err(self.failure(&refusal, Some(statement), at.done, &left))
            }
            Err(QueryError::Stopped) => {
                self.session.wind_up();
                let left = self.clear_away(apart).await;
                let Halt::Stopped { message } = self.stopped(at.done) else { unreachable!("a stop is a stop") };
                Err(Halt::Stopped { message: format!("{message}{left}") })
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Clears away what an earlier build has left, and says what must end first.
    async fn make_way(&self, apart: &Apart, at: At) -> Result<Option<String>, Halt> {
        match apart {
            Apart::BuildIndex { index: Some(name), table } => match index::state(self.session, name, table).await? {
                IndexState::Absent | IndexState::Valid => Ok(None),
                IndexState::Invalid(found) => {
                    tracing::warn!(index = %found, "drops an INVALID index that a failed build has left");
                    match index::drop_invalid(self.session, &found).await {
                        Ok(()) => Ok(None),
                        Err(QueryError::Refused(refusal)) if refusal.may_pass() => Ok(Some(refusal.to_string())),
                        Err(error) => Err(error.into()),
                    }
                }
                IndexState::InProgress(found) => Ok(Some(format!("somebody else is building {found}"))),
                IndexState::Taken(found) => Err(Halt::failed(format!(
                    "{}: {found} exists and isn't an index of {table}; give the index another name. {}",
                    self.name,
                    self.so_far(at.done)
                ))),
            },
            Apart::ReindexIndex { .. } | Apart::ReindexTable { .. } => {
                self.clear_away(apart).await;
                Ok(None)
            }
            Apart::BuildIndex { index: None, .. } | Apart::DropIndex { .. } | Apart::Vacuum | Apart::Other => Ok(None),
        }
    }

    /// An index counts as built once the server calls it valid.
    async fn confirm(&self, apart: &Apart) -> Result<Tried, Halt> {
        if let Apart::BuildIndex { index: Some(name), table } = apart
            && index::state(self.session, name, table).await? != IndexState::Valid
        {
            return Ok(Tried::NotNow(format!("{name} is INVALID after its build")));
        }
        Ok(Tried::Done)
    }

    /// Drops what a failed build has left: it would slow down writes and refuse duplicates. Says what it couldn't drop.
    async fn clear_away(&self, apart: &Apart) -> String {
        let leftovers = match apart {
            Apart::BuildIndex { index: Some(name), table } => {
                index::state(self.session, name, table).await.map(|state| match state {
                    IndexState::Invalid(found) => vec![found],
                    IndexState::Absent | IndexState::Valid | IndexState::InProgress(_) | IndexState::Taken(_) => {
                        Vec::new()
                    }
                })
            }
            Apart::ReindexIndex { index: target } | Apart::ReindexTable { table: target } => {
                index::reindex_leftovers(self.session, target).await
            }
            Apart::BuildIndex { index: None, .. } | Apart::DropIndex { .. } | Apart::Vacuum | Apart::Other => {
                Ok(Vec::new())
            }
        };
        let Ok(leftovers) = leftovers else {
            return " Whether an INVALID index is left could not be seen; the next try looks again.".to_owned();
        };
        let mut left = Vec::new();
        for index in leftovers {
            if let Err(error) = index::drop_invalid(self.session, &index).await {
                tracing::warn!(%index, %error, "could not drop an INVALID index");
                left.push(index.to_string());
            }
        }
        if left.is_empty() {
            String::new()
        } else {
            format!(" INVALID indexes are left and slow down writes until the next try: {}.", left.join(", "))
        }
    }

    /// Writes down how far the script is, in a transaction of its own: the script may have taken on a role that has no
    /// business in our tables.
    async fn record_apart(&self, at: At, begun: Option<usize>) -> Result<i64, QueryError> {
        self.session.begin().await?;
        self.session.as_ourselves().await?;
        let row = self.record(at, begun).await?;
        self.session.commit().await?;
        Ok(row)
    }

    /// Writes down how far the script is, in whatever transaction is open.
    async fn record(&self, at: At, begun: Option<usize>) -> Result<i64, QueryError> {
        let number = |count: usize| i32::try_from(count).expect("a script of 256 KiB has fewer statements");
        let progress = Progress {
            statements: number(self.script.statements.len()),
            done: number(at.done),
            done_checksum: digest(&self.script.beginning(at.done)),
            begun: begun.map(number),
        };
        let recorded = Recorded { version: self.version, name: self.name, checksum: self.checksum };
        self.history.record(at.row, self.turn, &recorded, &progress).await
    }

    fn failure(&self, refusal: &Refusal, statement: Option<&Statement>, done: usize, note: &str) -> Halt {
        let of = self.script.statements.len();
        let place = match statement {
            Some(statement) => {
                let line = statement.line + lines_before(&statement.text, refusal.position);
                Some(FailedStatement {
                    script: self.name.to_owned(),
                    number: statement.number,
                    of,
                    line,
                    text: self.session.redact(&statement.text),
                })
            }
            None => None,
        };
        let what = place.as_ref().map_or_else(
            || "its transaction".to_owned(),
            |place| format!("statement {} of {of} (line {})", place.number, place.line),
        );
        let so_far = self.so_far(done);
        Halt::Failed {
            message: format!("{}: {what} was refused: {refusal}. {so_far}{note}", self.name),
            statement: place,
            sqlstate: Some(refusal.sqlstate.clone()),
        }
    }

    fn ended_by_script(&self) -> Halt {
        Halt::failed(format!(
            "{}: the script has ended the transaction that it ran in, so what it has committed isn't in the history. Take \
             BEGIN and COMMIT out of it, and take back by hand what has taken effect.",
            self.name
        ))
    }

    fn stopped(&self, done: usize) -> Halt {
        Halt::Stopped { message: format!("Stopped in {}. {}", self.name, self.so_far(done)) }
    }

    /// Which statements have taken effect.
    fn so_far(&self, done: usize) -> String {
        let of = self.script.statements.len();
        match done {
            0 => "Nothing of it has taken effect.".to_owned(),
            1 => format!("Of its {of} statements the first has taken effect and stays; another try goes on after it."),
            _ => format!(
                "Of its {of} statements 1 to {done} have taken effect and stay; another try goes on after them."
            ),
        }
    }
}

/// Line ends before a position in characters from 1.
fn lines_before(text: &str, position: Option<u32>) -> usize {
    let before = position.map_or(0, |position| position.saturating_sub(1) as usize);
    text.chars().take(before).filter(|c| *c == '\n').count()
}
