//! How it looks: lines on a terminal, with colours only where there is one.

use std::{
    io::{IsTerminal as _, stdout},
    sync::OnceLock,
};

use alongside::api::Time;

use crate::record::{Record, Side};

/// Columns of the time before a line.
const TIME_COLUMNS: usize = 8;

fn colourful() -> bool {
    static COLOURFUL: OnceLock<bool> = OnceLock::new();
    *COLOURFUL.get_or_init(|| stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
}

fn painted(code: &str, text: &str) -> String {
    if colourful() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// In bold.
pub fn bold(text: &str) -> String {
    painted("1", text)
}

/// For what is as it should be.
pub fn good(text: &str) -> String {
    painted("32", text)
}

/// For what is not.
pub fn bad(text: &str) -> String {
    painted("31", text)
}

/// For what is beside the point.
pub fn faint(text: &str) -> String {
    painted("2", text)
}

/// A heading.
pub fn heading(text: &str) {
    println!("\n{}", bold(text));
}

/// A line of a story, with the seconds since its beginning.
pub fn line(begin: Time, at: Time, text: &str) {
    let time = format!("{:>1$}", seconds(at.0 - begin.0), TIME_COLUMNS);
    println!("{}  {text}", faint(&time));
}

/// A line without a time.
pub fn plain(text: &str) {
    println!("{:TIME_COLUMNS$}  {text}", "");
}

/// Milliseconds as seconds: `1.24 s`.
pub fn seconds(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let hundredths = (milliseconds.abs() + 5) / 10;
    format!("{sign}{}.{:02} s", hundredths / 100, hundredths % 100)
}

/// A number with its thousands apart: `12,345`.
pub fn count(number: impl TryInto<u64>) -> String {
    let digits = number.try_into().unwrap_or(u64::MAX).to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of failures: good only at zero.
pub fn failures(number: usize) -> String {
    let text = count(number as u64);
    if number == 0 { good(&text) } else { bad(&text) }
}

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Who answered, second by second: a row for blue, for green and for failures.
pub fn picture(record: &Record) -> Vec<(&'static str, String)> {
    let Some(first) = record.requests().iter().map(|request| request.ended.0).min() else { return Vec::new() };
    let last = record.requests().iter().map(|request| request.ended.0).max().unwrap_or(first);
    let columns = usize::try_from((last - first) / 1_000).unwrap_or_default() + 1;
    let mut rows = [("blue", vec![0_u32; columns]), ("green", vec![0; columns]), ("failed", vec![0; columns])];
    for request in record.requests() {
        let column = usize::try_from((request.ended.0 - first) / 1_000).unwrap_or_default();
        let row = match (request.is_good(), request.side) {
            (true, Some(Side::Blue)) => 0,
            (true, Some(Side::Green)) => 1,
            (true, None) | (false, _) => 2,
        };
        rows[row].1[column] += 1;
    }
    let most = rows.iter().flat_map(|(_, counts)| counts).max().copied().unwrap_or(1).max(1);
    rows.map(|(name, counts)| (name, counts.iter().map(|count| level(*count, most)).collect())).into()
}

fn level(count: u32, most: u32) -> char {
    match count {
        0 => ' ',
        count => LEVELS[((count * 8).div_ceil(most) as usize - 1).min(7)],
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn seconds_are_rounded_to_hundredths_and_keep_their_sign() {
        for (milliseconds, text) in [(0, "0.00 s"), (1_236, "1.24 s"), (-15, "-0.02 s"), (61_000, "61.00 s")] {
            assert_eq!(seconds(milliseconds), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn the_picture_has_a_column_for_each_second_and_shows_even_one_failure() {
        let mut csv = "sent_ms,ended_ms,connection,operation,version,outcome\n".to_owned();
        for n in 0..100 {
            writeln!(csv, "0,{n},new,read,v1,ok\n0,{},new,read,v2,ok", 1_000 + n).unwrap();
        }
        csv += "0,1500,new,read,,connect\n";
        let rows = picture(&Record::parse(&csv).unwrap());
        assert_eq!(rows, [("blue", "█ ".to_owned()), ("green", " █".to_owned()), ("failed", " ▁".to_owned())]);
    }
}
