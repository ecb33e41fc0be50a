//! Writes YAML that people can read and that stays small: what fits on a line is put on one, and chosen parts are
//! put on one line whatever their length.

use serde_json::{Map, Value};

/// Longest line that a collection is squeezed into.
const WIDTH: usize = 118;

/// Words that YAML 1.1 or 1.2 reads as something else than text.
const RESERVED: &[&str] = &["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// Writes `value` as a document. `on_one_line` is asked with the path of keys to each collection.
pub fn document(value: &Value, on_one_line: &dyn Fn(&[&str]) -> bool) -> String {
    let mut writer = Writer { text: String::new(), on_one_line };
    writer.block(value, 0, &mut Vec::new());
    writer.text
}

/// Writes `value` on one line.
pub fn line(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(line).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}: {}", scalar_text(key), line(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => scalar_text(text),
        // `100.0` is what a float makes of the bound of an integer.
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

/// Text as YAML: as it is where nothing can be misread, else with JSON's quotes, which YAML reads too.
fn scalar_text(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./- ".contains(c))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

struct Writer<'a> {
    text: String,
    on_one_line: &'a dyn Fn(&[&str]) -> bool,
}

impl Writer<'_> {
    /// Writes a collection's entries, each on lines of its own at `indent`.
    fn block<'v>(&mut self, value: &'v Value, indent: usize, path: &mut Vec<&'v str>) {
        match value {
            Value::Object(entries) => self.entries(entries, indent, path, ""),
            Value::Array(items) => {
                for item in items {
                    self.item(item, indent, path);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.push_line(indent, &line(value));
            }
        }
    }

    fn entries<'v>(
        &mut self,
        entries: &'v Map<String, Value>,
        indent: usize,
        path: &mut Vec<&'v str>,
        first_prefix: &str,
    ) {
        for (index, (key, value)) in entries.iter().enumerate() {
            let (prefix, at) = if index == 0 && !first_prefix.is_empty() {
                (first_prefix, indent - first_prefix.len())
            } else {
                ("", indent)
            };
            let head = format!("{prefix}{}:", scalar_text(key));
            path.push(key);
            if let Some(squeezed) = self.squeezed(value, indent + key.len() + 2, path) {
                self.push_line(at, &format!("{head} {squeezed}"));
            } else {
                self.push_line(at, &head);
                self.block(value, indent + 2, path);
            }
            path.pop();
        }
    }

    fn item<'v>(&mut self, item: &'v Value, indent: usize, path: &mut Vec<&'v str>) {
        if let Some(squeezed) = self.squeezed(item, indent + 2, path) {
            self.push_line(indent, &format!("- {squeezed}"));
        } else if let Value::Object(entries) = item {
            self.entries(entries, indent + 2, path, "- ");
        } else {
            self.push_line(indent, "-");
            self.block(item, indent + 2, path);
        }
    }

    /// The value on one line, if it belongs there.
    fn squeezed(&self, value: &Value, column: usize, path: &[&str]) -> Option<String> {
        let squeezed = line(value);
        let empty_or_scalar = match value {
            Value::Object(entries) => entries.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        };
        (empty_or_scalar || column + squeezed.len() <= WIDTH || (self.on_one_line)(path)).then_some(squeezed)
    }

    fn push_line(&mut self, indent: usize, line: &str) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_fits_goes_on_a_line_and_the_rest_below() {
        let long = "word ".repeat(30);
        let value = json!({ "kind": "A", "list": [{ "a": 1, "b": long }, { "c": [1, 2] }], "yes": "no", "none": {} });
        let text = document(&value, &|_| false);
        assert_eq!(
            text,
            format!("kind: A\nlist:\n  - a: 1\n    b: \"{long}\"\n  - {{c: [1, 2]}}\nnone: {{}}\n\"yes\": \"no\"\n")
        );
    }

    #[test]
    fn a_chosen_part_is_one_line_whatever_its_length() {
        let value = json!({ "template": { "a": "x".repeat(200) } });
        assert_eq!(document(&value, &|path| path == ["template"]).lines().count(), 1);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~]{0,20}".prop_map(Value::from),
            "[a-z:#\\[\\]{},&*!|>'\"%@`\\n\\t\\\\-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{1,30}", inner, 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(value in any_value()) {
            let text = document(&value, &|_| false);
            let read: Value = serde_saphyr::from_str(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
            prop_assert_eq!(read, value);
        }
    }
}
