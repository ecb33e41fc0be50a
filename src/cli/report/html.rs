//! A report as one HTML file: styles and charts are in it, and it asks nothing of any network.

use std::fmt::Write as _;

use super::{
    super::get::state_word,
    facts::Facts,
    markdown::{self, ABOUT_GUARDS},
    svg,
};
use crate::api::State;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(facts: &Facts) -> String {
    let title = format!("Migration {} in {}", escape(&facts.name), escape(&facts.namespace));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main>\n<h1>{title}</h1>\n"
    );
    let class = match facts.state {
        State::Succeeded => "good",
        State::Stalled | State::RolledBack | State::RollingBack => "bad",
        State::Pending | State::Preflight | State::Running | State::Waiting => "plain",
    };
    let state = state_word(facts.state);
    let _ = writeln!(page, "<p class=\"state {class}\"><b>{state}</b> {}</p>", escape(&facts.message));
    table(&mut page, &[], &markdown::summary(facts));
    heading(&mut page, "Phases");
    chart(&mut page, svg::timeline(facts));
    let head = ["phase", "kind", "state", "began", "took", "tries", "what it reported"];
    table(&mut page, &head, &markdown::phases(facts));
    if !facts.guards.is_empty() {
        heading(&mut page, "Guards");
        table(&mut page, &["guard", "before the flip", "last", "limit", "verdict", "since"], &markdown::guards(facts));
        for guard in &facts.guards {
            let Some(drawn) = svg::before_and_after(guard) else { continue };
            let _ = writeln!(page, "<h3>{}</h3>", escape(&guard.name));
            chart(&mut page, Some(drawn));
        }
        let _ = writeln!(page, "<p class=\"faint\">{}</p>", escape(ABOUT_GUARDS));
    }
    evidence(&mut page, facts);
    way_back(&mut page, facts);
    heading(&mut page, "Who approved");
    if facts.approvals.is_empty() {
        page.push_str("<p>Nobody was asked, or has answered.</p>\n");
    } else {
        table(&mut page, &["phase", "by", "when"], &markdown::approvals(facts));
    }
    heading(&mut page, "History");
    table(&mut page, &["when", "what", "phase", "by", "why"], &markdown::history(facts));
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(page, "<footer>Written {} by kubectl-alongside {version}</footer>", facts.written_at);
    page.push_str("</main></body></html>\n");
    page
}

fn evidence(page: &mut String, facts: &Facts) {
    if facts.evidence.is_empty() && facts.evidence_unseen.is_none() {
        return;
    }
    heading(page, "Evidence");
    if let Some(why) = &facts.evidence_unseen {
        let _ = writeln!(page, "<p>Evidence could not be read: {}</p>", escape(why));
    }
    for one in &facts.evidence {
        let (phase, finding, message) = (escape(&one.phase), escape(&one.finding), escape(&one.message));
        let map = escape(&one.config_map);
        let _ =
            writeln!(page, "<p><b>{phase}: {finding}</b> {message} <span class=\"faint\">(ConfigMap {map})</span></p>");
        table(page, &["what", "rows", "differing", "to its end"], &markdown::tables(&one.tables));
    }
}

fn way_back(page: &mut String, facts: &Facts) {
    if facts.traffic.is_empty() && facts.rollback.is_none() {
        return;
    }
    heading(page, "Traffic and the way back");
    if !facts.traffic.is_empty() {
        let head = ["Service", "old side", "new side", "where it is", "moved", "back"];
        table(page, &head, &markdown::traffic(facts));
    }
    if let Some(rollback) = &facts.rollback {
        let _ = writeln!(page, "<p class=\"state bad\">{}</p>", escape(&rollback.message));
        table(page, &["lane", "after the sample that showed it"], &markdown::lanes(facts));
    }
}

fn heading(page: &mut String, text: &str) {
    let _ = writeln!(page, "<h2>{}</h2>", escape(text));
}

fn chart(page: &mut String, svg: Option<String>) {
    if let Some(svg) = svg {
        let _ = writeln!(page, "<figure>{svg}</figure>");
    }
}

fn table(page: &mut String, head: &[&str], rows: &[Vec<String>]) {
    page.push_str("<table>");
    if !head.is_empty() {
        page.push_str("<thead>");
        row(page, "th", head);
        page.push_str("</thead>");
    }
    page.push_str("<tbody>");
    for cells in rows {
        row(page, "td", cells);
    }
    page.push_str("</tbody></table>\n");
}

fn row<T: AsRef<str>>(page: &mut String, element: &str, cells: &[T]) {
    page.push_str("<tr>");
    for cell in cells {
        let _ = write!(page, "<{element}>{}</{element}>", escape(cell.as_ref()));
    }
    page.push_str("</tr>");
}

/// A text that can stand anywhere in a page.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
