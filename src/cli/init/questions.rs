//! Questions on a terminal. Where nobody can answer, what is missing is an error that names the flag.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    str::FromStr,
};

use super::super::{
    look::{Look, Tone},
    problem::Problem,
};

/// How often a question is asked again after an answer that makes no sense.
const PATIENCE: usize = 5;

/// Asks.
pub struct Asker {
    look: Look,
    answers: bool,
}

impl Asker {
    /// Asks on the terminal, where there is one.
    pub fn of_terminal(look: Look) -> Self {
        Self { look, answers: io::stdin().is_terminal() && io::stderr().is_terminal() }
    }

    /// What a flag says, or else what is answered.
    pub fn needed<T: FromStr<Err = String>>(
        &mut self,
        given: Option<T>,
        flag: &str,
        question: &str,
    ) -> Result<T, Problem> {
        if let Some(given) = given {
            return Ok(given);
        }
        for _ in 0..PATIENCE {
            let answer = self.ask(question, flag)?;
            match answer.parse() {
                Ok(value) if !answer.is_empty() => return Ok(value),
                Ok(_) => {}
                Err(why) => eprintln!("  {}", self.look.paint(Tone::Warn, why)),
            }
        }
        Err(missing(flag, question))
    }

    /// The same where no answer is an answer too. Without a terminal, nothing.
    pub fn optional(&mut self, given: Option<String>, flag: &str, question: &str) -> Result<Option<String>, Problem> {
        if given.is_some() || !self.answers {
            return Ok(given);
        }
        let answer = self.ask(&format!("{question} (empty for none)"), flag)?;
        Ok((!answer.is_empty()).then_some(answer))
    }

    /// One of several, by its number or its name.
    pub fn choice(&mut self, question: &str, choices: &[&str]) -> Result<usize, Problem> {
        let list: Vec<_> = choices.iter().enumerate().map(|(at, one)| format!("{} {one}", at + 1)).collect();
        for _ in 0..PATIENCE {
            let answer = self.ask(&format!("{question} {}", list.join(", ")), choices[0])?;
            let by_number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let chosen = by_number.filter(|at| *at < choices.len());
            if let Some(chosen) = chosen.or_else(|| choices.iter().position(|one| *one == answer)) {
                return Ok(chosen);
            }
        }
        Err(missing(choices[0], question))
    }

    fn ask(&self, question: &str, flag: &str) -> Result<String, Problem> {
        if !self.answers {
            return Err(missing(flag, question));
        }
        eprint!("{} ", self.look.paint(Tone::Strong, question));
        io::stderr().flush().map_err(Problem::Output)?;
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer).map_err(Problem::Output)?;
        // The end of the input is no answer, now or ever.
        if read == 0 { Err(missing(flag, question)) } else { Ok(answer.trim().to_owned()) }
    }
}

fn missing(flag: &str, question: &str) -> Problem {
    Problem::Usage {
        why: format!("nobody answers: {question}"),
        instead: format!("write {flag}; kubectl alongside init --help has all"),
    }
}
