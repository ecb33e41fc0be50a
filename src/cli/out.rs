//! Writing to standard output. A reader that has gone (`| head`) is no error.

use std::io::{self, Write as _};

use super::problem::Problem;

/// Prints a text as it is.
pub fn print(text: &str) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Nobody reads any more: there is nobody to tell either.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => other.map_err(Problem::Output),
    }
}

/// Prints a text and a line end.
pub fn line(text: &str) -> Result<(), Problem> {
    print(&format!("{text}\n"))
}
