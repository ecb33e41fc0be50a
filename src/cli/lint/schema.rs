//! The CRD's schema held against a document, as the API server holds it: types, bounds, required and unknown fields.

use serde_json::{Map, Value};

use super::{Finding, Weight, yaml::Path};

/// Name of what is found here.
pub const RULE: &str = "schema";
/// How far a misspelt name may be from the right one to be proposed, in edits.
const NEAR: usize = 2;

/// Holds a value against a schema node and all below it.
pub fn check(value: &Value, schema: &Value, path: &Path, findings: &mut Vec<Finding>) {
    let mut say = |path: Path, message: String| findings.push(Finding::new(RULE, Weight::Error, path, message));
    if schema["x-kubernetes-int-or-string"] == true {
        if let Some(message) = int_or_string(value, schema, path) {
            say(path.clone(), message);
        }
        return;
    }
    match (schema["type"].as_str(), value) {
        (Some("object"), Value::Object(fields)) => object(fields, schema, path, findings),
        (Some("array"), Value::Array(items)) => list(items, schema, path, findings),
        (Some("string"), Value::String(text)) => {
            if let Some(message) = text_message(text, schema) {
                say(path.clone(), message);
            }
        }
        (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
            if let Some(message) = out_of_bounds(number.as_f64().unwrap_or(0.0), schema) {
                say(path.clone(), message);
            }
        }
        (Some("number"), Value::Number(number)) => {
            if let Some(message) = out_of_bounds(number.as_f64().unwrap_or(0.0), schema) {
                say(path.clone(), message);
            }
        }
        (Some("boolean"), Value::Bool(_)) | (None, _) => {}
        (Some(wanted), other) => {
            let mut message = format!("must be {}, and is {}", with_article(wanted), kind_of(other));
            if wanted == "string" && !other.is_object() && !other.is_array() {
                message.push_str(": put it in quotes");
            }
            say(path.clone(), message);
        }
    }
}

fn object(fields: &Map<String, Value>, schema: &Value, path: &Path, findings: &mut Vec<Finding>) {
    let properties = schema["properties"].as_object();
    for (name, value) in fields {
        let at = path.field(name);
        if let Some(known) = properties.and_then(|properties| properties.get(name)) {
            check(value, known, &at, findings);
        } else if schema["additionalProperties"].is_object() {
            check(value, &schema["additionalProperties"], &at, findings);
        } else if let Some(properties) = properties.filter(|_| schema["x-kubernetes-preserve-unknown-fields"] != true) {
            let near = nearest(name, properties.keys().map(String::as_str));
            let advice = near.map(|near| format!("did you mean `{near}`?"));
            let message = format!("`{name}` is no field here");
            findings.push(Finding::new(RULE, Weight::Error, at, message).advised(advice));
        }
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            let message = format!("`{required}` is missing");
            findings.push(Finding::new(RULE, Weight::Error, path.field(required), message));
        }
    }
    let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
    if let Some(most) = bound("maxProperties").filter(|most| fields.len() > *most) {
        let message = format!("has {} entries; up to {most} are allowed", fields.len());
        findings.push(Finding::new(RULE, Weight::Error, path.clone(), message));
    }
    if let Some(least) = bound("minProperties").filter(|least| fields.len() < *least) {
        let message = format!("has {} entries; at least {least} must be there", fields.len());
        findings.push(Finding::new(RULE, Weight::Error, path.clone(), message));
    }
}

fn list(items: &[Value], schema: &Value, path: &Path, findings: &mut Vec<Finding>) {
    for (index, item) in items.iter().enumerate() {
        check(item, &schema["items"], &path.item(index), findings);
    }
    let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
    if let Some(most) = bound("maxItems").filter(|most| items.len() > *most) {
        let message = format!("has {} items; up to {most} are allowed", items.len());
        findings.push(Finding::new(RULE, Weight::Error, path.clone(), message));
    }
    if let Some(least) = bound("minItems").filter(|least| items.len() < *least) {
        let message = format!("has {} items; at least {least} must be there", items.len());
        findings.push(Finding::new(RULE, Weight::Error, path.clone(), message));
    }
    let keys: Vec<_> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().collect();
    let key_of = |item: &Value| -> Vec<Value> {
        keys.iter().filter_map(|key| item.get(key.as_str().unwrap_or_default()).cloned()).collect()
    };
    for (index, item) in items.iter().enumerate() {
        let again = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => items[..index].iter().any(|other| !key_of(item).is_empty() && key_of(other) == key_of(item)),
            Some("set") => items[..index].contains(item),
            _ => false,
        };
        if again {
            let name = key_of(item).first().unwrap_or(item).to_string();
            let message = format!("there is {name} already in this list");
            findings.push(Finding::new(RULE, Weight::Error, path.item(index), message));
        }
    }
}

fn text_message(text: &str, schema: &Value) -> Option<String> {
    let bound = |name: &str| schema[name].as_u64().and_then(|bound| usize::try_from(bound).ok());
    let length = text.chars().count();
    if let Some(allowed) = schema["enum"].as_array() {
        let words: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        if !words.contains(&text) {
            return Some(format!("{text:?} is none of {}", words.join(", ")));
        }
    }
    if let Some(most) = bound("maxLength").filter(|most| length > *most) {
        return Some(format!("has {length} characters; up to {most} are allowed"));
    }
    if bound("minLength").is_some_and(|least| length < least) {
        return Some("must not be empty".to_owned());
    }
    if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
        return Some(format!("{text:?} is no point in time, such as 2026-01-31T12:00:00Z"));
    }
    None
}

fn out_of_bounds(number: f64, schema: &Value) -> Option<String> {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(least), _) if number < least => Some(format!("is {number}; {least} or more is allowed")),
        (_, Some(most)) if number > most => Some(format!("is {number}; {most} or less is allowed")),
        _ => None,
    }
}

fn int_or_string(value: &Value, schema: &Value, path: &Path) -> Option<String> {
    let is_quantity = path.0.iter().rev().nth(1).is_some_and(
        |step| matches!(step, super::yaml::Step::Field(name) if ["limits", "requests"].contains(&name.as_str())),
    );
    match value {
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            out_of_bounds(number.as_f64().unwrap_or(0.0), schema)
        }
        Value::String(text) if is_quantity && !is_quantity_text(text) => {
            Some(format!("{text:?} is no quantity, such as 500m, 2, 128Mi or 1Gi"))
        }
        Value::String(_) => None,
        // A quantity of 0.5 is read from JSON's text.
        Value::Number(_) if is_quantity => None,
        other => Some(format!("must be a whole number or a text, and is {}", kind_of(other))),
    }
}

/// Whether Kubernetes reads a text as a quantity: a number, and a suffix of powers of 1000 or 1024, or an exponent.
fn is_quantity_text(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let has_digits = number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].contains(&suffix);
    let exponent = suffix.strip_prefix(['e', 'E']).is_some_and(|rest| rest.parse::<i32>().is_ok());
    has_digits && (known || exponent)
}

fn with_article(kind: &str) -> &'static str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "true or false",
    }
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("{value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let distances = known.map(|other| (edits(&lower, &other.to_lowercase()), other));
    distances.filter(|(distance, _)| *distance <= NEAR).min().map(|(_, other)| other)
}

/// How many letters have to be changed, added or left out to make one word the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (at, known) in other.iter().enumerate() {
            let changed = diagonal + usize::from(*known != letter);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        assert_eq!(nearest("deletionpolicy", ["deletionPolicy", "phases"].into_iter()), Some("deletionPolicy"));
        assert_eq!(nearest("gaurds", ["guards", "phases"].into_iter()), Some("guards"));
        assert_eq!(nearest("canary", ["guards", "phases"].into_iter()), None);
    }

    #[test]
    fn quantities_are_told_from_other_texts() {
        for good in ["1", "500m", "0.5", "1Gi", "1e3", "-2", "+1Mi", "100k"] {
            assert!(is_quantity_text(good), "{good}");
        }
        for bad in ["", "much", "1 Gi", "1gb", "1.2.3", "Mi", "1KB"] {
            assert!(!is_quantity_text(bad), "{bad}");
        }
    }
}
