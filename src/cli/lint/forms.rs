//! Findings for people, for code scanners and for GitHub.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Value, json};

use super::{
    super::look::{Look, Tone},
    Finding, Report, Weight,
};

/// For people: a line each with its place, and below it what to do.
pub fn human(report: &Report, look: &Look) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let (word, tone) = match finding.weight {
            Weight::Error => ("error", Tone::Bad),
            Weight::Warning => ("warning", Tone::Warn),
            Weight::Note => ("note", Tone::Faint),
        };
        let path = if finding.path.0.is_empty() { String::new() } else { format!("{}: ", finding.path) };
        let word = look.paint(tone, word);
        let rule = look.paint(Tone::Faint, format!("[{}]", finding.rule));
        let _ = writeln!(text, "{}: {word}: {path}{} {rule}", place(finding), finding.message);
        if let Some(advice) = &finding.advice {
            let _ = writeln!(text, "  {advice}");
        }
    }
    text.push_str(&summary(report));
    text.push('\n');
    text
}

fn summary(report: &Report) -> String {
    let count = |weight| report.findings.iter().filter(|finding| finding.weight == weight).count();
    let plural = |count: usize, word: &str| if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") };
    let found = format!("{}, {}", plural(count(Weight::Error), "error"), plural(count(Weight::Warning), "warning"));
    match report.migrations {
        0 if report.findings.is_empty() => "there is no Migration in these files".to_owned(),
        migrations => format!("{found} in {}", plural(migrations, "migration")),
    }
}

fn place(finding: &Finding) -> String {
    match &finding.at {
        Some((file, at)) => format!("{}:{}:{}", file.display(), at.line, at.column),
        None => "?".to_owned(),
    }
}

/// Workflow commands of GitHub's runner.
pub fn github(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let word = match finding.weight {
            Weight::Error => "error",
            Weight::Warning => "warning",
            Weight::Note => "notice",
        };
        let mut properties = Vec::new();
        if let Some((file, at)) = &finding.at {
            properties.push(format!("file={}", property(&file.display().to_string())));
            properties.push(format!("line={},col={}", at.line, at.column));
        }
        properties.push(format!("title={}", property(&finding.rule)));
        let advice = finding.advice.as_ref().map(|advice| format!("\n{advice}")).unwrap_or_default();
        let message = data(&format!("{}{advice}", said(finding)));
        let _ = writeln!(text, "::{word} {}::{message}", properties.join(","));
    }
    text
}

fn said(finding: &Finding) -> String {
    if finding.path.0.is_empty() { finding.message.clone() } else { format!("{}: {}", finding.path, finding.message) }
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// SARIF 2.1.0.
pub fn sarif(report: &Report) -> String {
    let rules: BTreeSet<&str> = report.findings.iter().map(|finding| finding.rule.as_str()).collect();
    let rules: Vec<Value> = rules.into_iter().map(|rule| json!({ "id": rule, "name": rule })).collect();
    let results: Vec<Value> = report.findings.iter().map(result).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "kubectl-alongside",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    let mut text = serde_json::to_string_pretty(&log).expect("a JSON value can be written");
    text.push('\n');
    text
}

fn result(finding: &Finding) -> Value {
    let level = match finding.weight {
        Weight::Error => "error",
        Weight::Warning => "warning",
        Weight::Note => "note",
    };
    let advice = finding.advice.as_ref().map(|advice| format!(". {advice}")).unwrap_or_default();
    let mut result = json!({
        "ruleId": finding.rule,
        "level": level,
        "message": { "text": format!("{}{advice}", said(finding)) },
    });
    if let Some((file, at)) = &finding.at {
        result["locations"] = json!([{ "physicalLocation": {
            "artifactLocation": { "uri": uri(&file.display().to_string()) },
            "region": { "startLine": at.line, "startColumn": at.column },
        }}]);
    }
    result
}

/// A path as a relative URI.
fn uri(path: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let path = path.strip_prefix("./").unwrap_or(path);
    path.bytes().map(|byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(uri("./a b/c%.yaml"), "a%20b/c%25.yaml");
    }

    #[test]
    fn github_reads_no_line_end_within_a_message() {
        assert_eq!((data("a\nb%"), property("a:b,c")), ("a%0Ab%25".to_owned(), "a%3Ab%2Cc".to_owned()));
    }
}
