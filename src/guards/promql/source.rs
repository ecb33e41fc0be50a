//! The series that a query reads: the freshness of its answer is theirs.

use promql_parser::{
    label::{MatchOp, Matchers},
    parser::{Expr, VectorSelector, token},
};

/// Series that a query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// An instant selector of the series as they are now, without offset or `@`.
    pub selector: String,
    /// Without these series the query's value says nothing. Not so beside an `or`, behind an `unless` or in `absent`,
    /// where the author has said what their absence means.
    pub required: bool,
    /// It reads one metric only. The times of several can't be asked at once: without their names, which `timestamp()`
    /// drops, their series are the same.
    pub named: bool,
}

/// Every source of an expression, each selector once; required if any of its uses is.
pub(super) fn sources(expression: &Expr) -> Vec<Source> {
    let mut found = Vec::new();
    walk(expression, true, &mut found);
    found
}

fn walk(expression: &Expr, required: bool, found: &mut Vec<Source>) {
    match expression {
        Expr::VectorSelector(selector) => note(selector, required, found),
        Expr::MatrixSelector(matrix) => note(&matrix.vs, required, found),
        Expr::Aggregate(aggregate) => {
            walk(&aggregate.expr, required, found);
            if let Some(parameter) = &aggregate.param {
                walk(parameter, required, found);
            }
        }
        Expr::Unary(unary) => walk(&unary.expr, required, found),
        Expr::Paren(paren) => walk(&paren.expr, required, found),
        Expr::Subquery(subquery) => walk(&subquery.expr, required, found),
        Expr::Binary(binary) => {
            let (left, right) = match binary.op.id() {
                token::T_LOR => (false, false),
                token::T_LUNLESS => (required, false),
                _ => (required, required),
            };
            walk(&binary.lhs, left, found);
            walk(&binary.rhs, right, found);
        }
        Expr::Call(call) => {
            let required = required && !matches!(call.func.name, "absent" | "absent_over_time");
            for argument in &call.args.args {
                walk(argument, required, found);
            }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn note(selector: &VectorSelector, required: bool, found: &mut Vec<Source>) {
    let now =
        VectorSelector { name: selector.name.clone(), matchers: clone(&selector.matchers), offset: None, at: None };
    let selector = now.to_string();
    match found.iter_mut().find(|source| source.selector == selector) {
        Some(known) => known.required |= required,
        None => found.push(Source { selector, required, named: is_named(&now) }),
    }
}

fn is_named(selector: &VectorSelector) -> bool {
    let by_label = selector.matchers.matchers.iter().any(|one| one.name == "__name__" && one.op == MatchOp::Equal);
    selector.name.is_some() || by_label
}

fn clone(matchers: &Matchers) -> Matchers {
    Matchers { matchers: matchers.matchers.clone(), or_matchers: matchers.or_matchers.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use promql_parser::parser::parse;

    fn read(text: &str) -> Vec<(String, bool)> {
        sources(&parse(text).unwrap()).into_iter().map(|source| (source.selector, source.required)).collect()
    }

    #[test]
    fn every_selector_counts_once_and_as_it_is_now() {
        assert_eq!(
            read("sum(rate(a{x=\"1\"}[5m])) / sum(rate(a{x=\"1\"}[5m] offset 1w)) + max_over_time(b[1m:1s] @ end())"),
            [("a{x=\"1\"}".to_owned(), true), ("b".to_owned(), true)]
        );
    }

    #[test]
    fn a_source_whose_absence_is_provided_for_is_not_required() {
        assert_eq!(
            read("(sum(rate(e[1m])) or vector(0)) / sum(rate(t[1m]))"),
            [("e".to_owned(), false), ("t".to_owned(), true)]
        );
        assert_eq!(read("a unless absent(b)"), [("a".to_owned(), true), ("b".to_owned(), false)]);
        assert_eq!(read("(a or b) + a"), [("a".to_owned(), true), ("b".to_owned(), false)]);
    }

    #[test]
    fn a_selector_survives_being_written_again() {
        for text in
            [r#"a{path="C:\\x\"y",re=~"a|b.*"}"#, r#"{__name__=~"x.+",job!="y"}"#, "job:errors:rate1m", r"a{x='q'}"]
        {
            let once = read(text)[0].0.clone();
            assert_eq!(parse(&once).unwrap(), parse(text).unwrap(), "{text} became {once}");
        }
    }
}
