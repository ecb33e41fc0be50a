//! Where a query stops making sense. The parser says what is wrong, not where.

use promql_parser::parser;

use super::QueryError;

/// Ways in which a piece of PromQL can go on. A piece that parses with one of them was right up to its end.
const CONTINUATIONS: &[&str] = &[
    "",
    "x",
    "1",
    "(x)",
    "x)",
    "1m]",
    "m]",
    "]",
    "x[1m])",
    "[1m])",
    "1m])",
    "1, x)",
    ", x)",
    "\"a\")",
    "\"a\"}",
    "=\"a\"}",
    "}",
    "a=\"a\"}",
    "(a) x",
    "(a) (x)",
    "a) (x)",
    ") (x)",
    ") x",
    "1m",
    "1m:1m]",
    ":1m]",
    " x",
    " 1",
    "x, \"a\", \"a\", \"a\", \"a\")",
];

/// Turns the parser's refusal into one with a place, where the text itself is at fault.
pub(super) fn explain(text: &str, why: String) -> QueryError {
    // A message about types or functions is about a whole expression; it names its culprit already.
    if is_about_meaning(&why) {
        return QueryError::Meaning { why: suggest_window(why) };
    }
    let tokens = tokens(text);
    // What can't go on can't after one more token either, so halving finds the first.
    let viable = tokens.partition_point(|&(_, end)| can_go_on(&text[..end]));
    let (at, near) = match tokens.get(viable) {
        Some(&(start, end)) => (start, format!("{:?}", &text[start..end])),
        None => (tokens.last().map_or(0, |&(_, end)| end), "end of the query".to_owned()),
    };
    let (line, column) = line_and_column(text, at);
    QueryError::Syntax { line, column, near, why }
}

fn suggest_window(why: String) -> String {
    if why.contains("expected type matrix") {
        format!("{why}; write a window, such as [1m], after the selector")
    } else {
        why
    }
}

fn can_go_on(piece: &str) -> bool {
    let closers = closers(piece);
    CONTINUATIONS.iter().any(|more| {
        let attempt = format!("{piece}{more}");
        let rest = if more.is_empty() { closers.clone() } else { self::closers(&attempt) };
        // A refusal for meaning only proves that the text's form was right.
        parser::parse(&format!("{attempt}{rest}")).map_or_else(|why| is_about_meaning(&why), |_| true)
    })
}

fn is_about_meaning(why: &str) -> bool {
    why.contains("expected type")
        || why.contains("argument")
        || why.contains("only allowed")
        || why.contains("unknown function")
}

/// The brackets still open, as what closes them.
fn closers(piece: &str) -> String {
    let mut open = Vec::new();
    let mut quote = None;
    let mut characters = piece.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(mark), c) if c == mark => quote = None,
            (Some('"' | '\''), '\\') => _ = characters.next(),
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(') => open.push(')'),
            (None, '[') => open.push(']'),
            (None, '{') => open.push('}'),
            (None, ')' | ']' | '}') => _ = open.pop(),
            (Some(_) | None, _) => {}
        }
    }
    open.iter().rev().collect()
}

/// Byte ranges of the tokens: words, numbers, strings, and single signs; space and comments are none.
fn tokens(text: &str) -> Vec<(usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.');
    let mut found = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        let mut end = start + c.len_utf8();
        if c.is_whitespace() {
            continue;
        }
        if c == '#' {
            while rest.next_if(|&(_, c)| c != '\n').is_some() {}
            continue;
        }
        if matches!(c, '"' | '\'' | '`') {
            while let Some((at, inside)) = rest.next() {
                end = at + inside.len_utf8();
                if inside == '\\' && c != '`' {
                    rest.next();
                } else if inside == c {
                    break;
                }
            }
        } else if is_word(c) {
            while let Some((at, inside)) = rest.next_if(|&(_, c)| is_word(c)) {
                end = at + inside.len_utf8();
            }
        } else if matches!(c, '=' | '!' | '<' | '>') {
            while let Some((at, inside)) = rest.next_if(|&(_, c)| matches!(c, '=' | '~')) {
                end = at + inside.len_utf8();
            }
        }
        found.push((start, end.min(text.len())));
    }
    found
}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> String {
        match explain(text, parser::parse(text).unwrap_err()) {
            QueryError::Syntax { line, column, near, .. } => format!("{line}:{column} {near}"),
            other => other.to_string(),
        }
    }

    #[test]
    fn the_first_token_that_cannot_stand_is_named() {
        for (text, at) in [
            ("sum(rate(a[1m]) by (x))", "1:17 \"by\""),
            ("sum(rate(a[1m])))", "1:17 \")\""),
            ("sum(rate(a[1m])", "1:16 end of the query"),
            ("a + / b", "1:5 \"/\""),
            ("a{x==\"1\"}", "1:4 \"==\""),
            ("a b", "1:3 \"b\""),
            ("sum by (x) rate(a[1m])", "1:12 \"rate\""),
            ("sum(a)\n  / *\n sum(b)", "2:5 \"*\""),
            ("", "1:1 end of the query"),
        ] {
            assert_eq!(place(text), at, "{text}");
        }
    }

    #[test]
    fn a_long_query_is_explained_as_well_as_a_short_one() {
        let good = vec!["sum(rate(requests_total{code=\"500\"}[1m]))"; 45].join(" +\n");
        assert!(good.len() < 2_048);
        assert_eq!(place(&format!("{good} +\n+ * b")), "46:3 \"*\"");
    }

    #[test]
    fn what_is_wrong_in_meaning_names_its_culprit() {
        assert!(place("rate(a)").contains("write a window, such as [1m]"), "{}", place("rate(a)"));
        assert!(place("foo(a)").contains("foo"), "{}", place("foo(a)"));
    }
}
