//! Completions for shells, and the man page.

use clap::{Args, ValueEnum};
use clap_complete::{Generator as _, Shell};

use super::{exit::Code, out, problem::Problem};

/// Arguments of `completion`.
#[derive(Debug, Args)]
pub struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
    /// `kubectl` looks for a program `kubectl_complete-alongside` on the PATH: prints that one.
    #[arg(long)]
    kubectl: bool,
}

/// Kubectl runs this with the words so far, and reads one proposal a line.
const KUBECTL_COMPLETE: &str = r#"#!/bin/sh
# Completes `kubectl alongside ...`: put it on the PATH as kubectl_complete-alongside, executable.
exec kubectl-alongside __complete "$@"
"#;

/// Prints completions.
pub fn complete(arguments: &Completion) -> Result<Code, Problem> {
    if arguments.kubectl {
        out::print(KUBECTL_COMPLETE)?;
        return Ok(Code::Done);
    }
    let mut command = super::command().name("kubectl-alongside").bin_name("kubectl-alongside");
    command.build();
    let mut text = Vec::new();
    arguments.shell.generate(&command, &mut text);
    out::print(&String::from_utf8_lossy(&text))?;
    Ok(Code::Done)
}

/// Prints the man page.
pub fn man() -> Result<Code, Problem> {
    let mut text = Vec::new();
    let command = super::command().disable_help_subcommand(true);
    let page = clap_mangen::Man::new(command).title("kubectl-alongside");
    page.render(&mut text).map_err(Problem::Output)?;
    out::print(&String::from_utf8_lossy(&text))?;
    Ok(Code::Done)
}

/// Arguments of `__complete`: the words after `kubectl alongside`, the last of which is being written.
#[derive(Debug, Args)]
pub struct Words {
    /// The words.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What kubectl's completion does with the proposals, as Cobra numbers it: no file names.
const NO_FILES: u8 = 4;

/// Proposes how the last word may go on.
pub fn propose(words: &Words) -> Result<Code, Problem> {
    for proposal in proposals(&words.words) {
        out::line(&proposal)?;
    }
    out::line(&format!(":{NO_FILES}"))?;
    Ok(Code::Done)
}

fn proposals(words: &[String]) -> Vec<String> {
    let command = super::command();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let verb = before.iter().find(|word| !word.starts_with('-'));
    let known = verb.and_then(|verb| command.find_subcommand(verb));
    let mut all: Vec<String> = Vec::new();
    if last.starts_with('-') {
        let flags = known.into_iter().chain([&command]).flat_map(clap::Command::get_arguments);
        all.extend(flags.filter_map(|flag| flag.get_long().map(|long| format!("--{long}"))));
    } else if let Some(previous) = before.last().and_then(|word| word.strip_prefix("--")) {
        let flags = known.into_iter().chain([&command]).flat_map(clap::Command::get_arguments);
        let values = flags.filter(|flag| flag.get_long() == Some(previous));
        all.extend(values.flat_map(clap::Arg::get_possible_values).map(|value| value.get_name().to_owned()));
    } else if verb.is_none() {
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        all.extend(verbs.map(|verb| verb.get_name().to_owned()));
    } else if verb.is_some_and(|verb| verb == "completion") {
        all.extend(Shell::value_variants().iter().map(ToString::to_string));
    }
    all.retain(|proposal| proposal.starts_with(last));
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(words: &[&str]) -> Vec<String> {
        proposals(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_word_goes_on_as_the_command_line_allows() {
        assert_eq!(after(&["appr"]), ["approve"]);
        assert!(after(&[""]).contains(&"lint".to_owned()) && !after(&[""]).contains(&"__complete".to_owned()));
        assert_eq!(after(&["lint", "--form"]), ["--format"]);
        assert_eq!(after(&["lint", "--format", ""]), ["github", "human", "sarif"]);
        assert_eq!(after(&["get", "--names"]), ["--namespace"]);
    }
}
