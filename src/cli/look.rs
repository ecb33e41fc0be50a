//! How things look: colours, where a person looks at them, and how wide the terminal is.

use std::io::{self, IsTerminal as _};

use clap::{Args, ValueEnum};

/// Width of lines where no terminal says another.
const DEFAULT_WIDTH: usize = 120;
/// Narrower than this nothing can be laid out.
const LEAST_WIDTH: usize = 40;

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Flags about looks.
#[derive(Clone, Debug, Args)]
pub struct LookFlags {
    /// When to colour: `auto` is on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    color: When,
}

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether to colour.
    pub colour: bool,
    /// Whether a terminal shows it, so that lines can be redrawn.
    pub terminal: bool,
    /// Columns.
    pub width: usize,
    /// Rows, where a terminal has them.
    pub height: Option<usize>,
}

/// What a text means, from which its colour follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// A person should look.
    Bad,
    /// Not as it should be yet.
    Warn,
    /// Under way.
    Busy,
    /// Of less weight.
    Faint,
    /// Of more weight.
    Strong,
}

impl LookFlags {
    /// How standard output looks.
    pub fn look(&self) -> Look {
        let (width, height) = size().map_or((DEFAULT_WIDTH, None), |(width, height)| (width, Some(height)));
        let terminal = io::stdout().is_terminal();
        let height = height.filter(|_| terminal);
        let width = if terminal { width.max(LEAST_WIDTH) } else { DEFAULT_WIDTH };
        Look { colour: self.colours(terminal), terminal, width, height }
    }

    /// How standard error looks.
    pub fn look_of_errors(&self) -> Look {
        let terminal = io::stderr().is_terminal();
        Look { colour: self.colours(terminal), terminal, width: DEFAULT_WIDTH, height: None }
    }

    fn colours(&self, terminal: bool) -> bool {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }
}

impl Look {
    /// Without colours and without a terminal.
    #[cfg(test)]
    pub const PLAIN: Look = Look { colour: false, terminal: false, width: DEFAULT_WIDTH, height: None };

    /// A text in the colour of its tone.
    pub fn paint(&self, tone: Tone, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warn => "33",
            Tone::Busy => "36",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        if self.colour && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The same with the terminal's size as it is now.
    #[must_use]
    pub fn resized(self) -> Self {
        match size() {
            Some((width, height)) if self.terminal => {
                Self { width: width.max(LEAST_WIDTH), height: Some(height), ..self }
            }
            _ => self,
        }
    }
}

fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then(|| (usize::from(size.ws_col), usize::from(size.ws_row)))
}

/// How many columns a text takes, its colours not counted.
pub fn columns(text: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for c in text.chars() {
        match (escape, c) {
            (false, '\x1b') => escape = true,
            (false, _) => count += 1,
            (true, 'm') => escape = false,
            (true, _) => {}
        }
    }
    count
}

/// Cuts a line to a width, its colours not counted, and shows that it did.
pub fn cut(line: &str, width: usize) -> String {
    if columns(line) <= width {
        return line.to_owned();
    }
    let mut text = String::new();
    let (mut count, mut escape, mut coloured) = (0, false, false);
    for c in line.chars() {
        if !escape && c != '\x1b' {
            if count + 1 >= width {
                break;
            }
            count += 1;
        }
        match (escape, c) {
            (false, '\x1b') => (escape, coloured) = (true, true),
            (true, 'm') => escape = false,
            _ => {}
        }
        text.push(c);
    }
    text.push('…');
    if coloured {
        text.push_str("\x1b[0m");
    }
    text
}

/// Fills a text with blanks up to a width, its colours not counted.
pub fn pad(text: &str, width: usize) -> String {
    let blanks = width.saturating_sub(columns(text));
    format!("{text}{}", " ".repeat(blanks))
}

/// Rows of cells as aligned columns, two blanks apart. The last column is not filled.
pub fn align(rows: &[Vec<String>]) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| columns(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(at, cell)| pad(cell, widths[at]));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_columns() {
        let look = Look { colour: true, ..Look::PLAIN };
        let red = look.paint(Tone::Bad, "red");
        assert_eq!((columns(&red), red.len() > 3), (3, true));
        assert_eq!(columns(&cut(&look.paint(Tone::Bad, "a long line"), 5)), 5);
        assert!(cut(&look.paint(Tone::Bad, "a long line"), 5).ends_with("\x1b[0m"), "the colour ends with the line");
        assert_eq!(align(&[vec![red, "x".into()], vec!["a".into(), "y".into()]])[1], "a    y");
    }

    #[test]
    fn without_colour_a_text_is_itself() {
        assert_eq!(Look::PLAIN.paint(Tone::Good, "done"), "done");
    }
}
