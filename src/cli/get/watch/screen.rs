//! A terminal's other screen, on which a picture is drawn again and again, and which gives back what stood there before.

use std::io::Write as _;

use super::super::super::{
    look::{Look, Tone, cut},
    out,
    problem::Problem,
};

const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The other screen, until it is dropped.
pub struct Screen {
    look: Look,
    last: String,
}

impl Screen {
    /// Goes over to it.
    pub fn open(look: Look) -> Self {
        // A terminal that can't be written to is found out by the first drawing.
        let _ = out::print(ENTER);
        Self { look, last: String::new() }
    }

    /// How things look on it, in its present size.
    pub fn look(&self) -> Look {
        self.look.resized()
    }

    /// Draws a picture over the one before, without a flicker: each line is cut to the width, the rest to the height.
    pub fn draw(&mut self, text: &str) -> Result<(), Problem> {
        let look = self.look();
        let height = look.height.unwrap_or(usize::MAX).max(2);
        let lines: Vec<_> = text.lines().collect();
        let mut picture = String::from(HOME);
        let shown = if lines.len() < height { lines.len() } else { height - 2 };
        for line in &lines[..shown] {
            picture.push_str(&cut(line, look.width));
            picture.push_str(CLEAR_LINE);
            picture.push_str("\r\n");
        }
        if shown < lines.len() {
            let more = format!("… {} more lines: a higher terminal shows them", lines.len() - shown);
            picture.push_str(&look.paint(Tone::Faint, more));
            picture.push_str(CLEAR_LINE);
        }
        picture.push_str(CLEAR_BELOW);
        text.clone_into(&mut self.last);
        out::print(&picture)
    }
}

impl Drop for Screen {
    /// What was seen last stays to be read, where commands and their answers stand.
    fn drop(&mut self) {
        let mut stdout = std::io::stdout().lock();
        let _ = write!(stdout, "{LEAVE}{}", self.last);
        let _ = stdout.flush();
    }
}
