//! The table of the chart's values, from `values.yaml` itself: a comment that begins with `# --` says what the value
//! below it is for.

use std::fmt::Write as _;

/// Why the values can't be told.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Each value needs a word on what it is for.
    #[error("line {line}: {key} has no comment `# -- ...` above it")]
    NoComment {
        /// Counted from 1.
        line: usize,
        /// The value's path.
        key: String,
    },
}

/// A value that users can set.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    key: String,
    default: String,
    what: String,
}

/// The table in Markdown.
pub fn table(values: &str) -> Result<String, Unreadable> {
    let mut text = String::from("| value | default | what it is for |\n|---|---|---|\n");
    for Entry { key, default, what } in entries(values)? {
        let _ = writeln!(text, "| `{key}` | `{}` | {} |", default.replace('|', "\\|"), what.replace('|', "\\|"));
    }
    Ok(text)
}

/// Reads `key: value` lines by their indentation. A key without a value on its line opens a group, whose own comment
/// is a heading and not part of the table.
fn entries(values: &str) -> Result<Vec<Entry>, Unreadable> {
    let mut entries = Vec::new();
    let mut groups: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for (index, line) in values.lines().enumerate() {
        let text = line.trim_start();
        if let Some(words) = text.strip_prefix("# -- ") {
            comment = vec![words];
            continue;
        }
        if let Some(words) = text.strip_prefix("# ").filter(|_| !comment.is_empty()) {
            comment.push(words);
            continue;
        }
        let Some((key, default)) = text.split_once(':').filter(|_| !text.starts_with('#')) else {
            comment.clear();
            continue;
        };
        let indent = line.len() - text.len();
        groups.retain(|(depth, _)| *depth < indent);
        let default = default.trim();
        if default.is_empty() {
            groups.push((indent, key));
            comment.clear();
            continue;
        }
        let path: Vec<_> = groups.iter().map(|(_, group)| *group).chain([key]).collect();
        let key = path.join(".");
        if comment.is_empty() {
            return Err(Unreadable::NoComment { line: index + 1, key });
        }
        entries.push(Entry { key, default: default.to_owned(), what: comment.join(" ") });
        comment.clear();
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, default: &str, what: &str) -> Entry {
        Entry { key: key.to_owned(), default: default.to_owned(), what: what.to_owned() }
    }

    #[test]
    fn a_value_is_told_with_its_path_and_default() {
        let values = "# -- How many.\nreplicas: 2\nimage:\n  # -- Where it is,\n  # and from whom.\n  name: a/b\n  # -- Tag.\n  tag: \"\"\n";
        let expected = [
            entry("replicas", "2", "How many."),
            entry("image.name", "a/b", "Where it is, and from whom."),
            entry("image.tag", "\"\"", "Tag."),
        ];
        assert_eq!(entries(values).unwrap(), expected);
    }

    #[test]
    fn a_value_that_nothing_is_said_about_is_an_error() {
        let error = entries("a:\n  b: 1\n").unwrap_err();
        assert_eq!(error.to_string(), "line 2: a.b has no comment `# -- ...` above it");
    }
}
