//! Traps in PromQL that is valid: what returns nothing, or too much, just when it matters.

use std::fmt;

use promql_parser::{
    label::Matcher,
    parser::{BinaryExpr, Expr, LabelModifier, VectorSelector, token},
};

use super::inner;

/// Endings of the names by which counters and histograms go.
const COUNTER_ENDINGS: &[&str] = &["_total", "_count", "_sum", "_bucket"];

/// What may go wrong with a query though it is valid; the text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trap {
    /// A share of errors that is empty, not zero, while there is no error.
    EmptyWithoutErrors {
        /// The dividend.
        errors: String,
        /// The divisor.
        total: String,
    },
    /// A counter's bare value, which only ever rises.
    CounterWithoutRate {
        /// The counter.
        selector: String,
    },
    /// More than one series can come back.
    ManySeries,
    /// A comparison that drops its value instead of answering 0.
    Filters,
    /// Nothing comes back while all is well.
    Absent,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyWithoutErrors { errors, total } => write!(
                f,
                "this returns nothing while no series of errors exists, and NaN without traffic; write `ratio: {{errors: {errors}, total: {total}}}`"
            ),
            Self::CounterWithoutRate { selector } => {
                write!(f, "{selector} looks like a counter, which only rises; write `rate({selector}[1m])`")
            }
            Self::ManySeries => f.write_str(
                "more than one series can come back, and a guard rejects that; aggregate to one, as in `sum(...)` or `max(...)`",
            ),
            Self::Filters => {
                f.write_str("a comparison returns nothing where it is false; drop it and write the limit as `max` or `min`")
            }
            Self::Absent => f.write_str(
                "absent() returns nothing while all is well, which never passes; write `count(...)` with a `min`",
            ),
        }
    }
}

/// Every trap in an expression.
pub(super) fn traps(expression: &Expr) -> Vec<Trap> {
    let mut found = Vec::new();
    let root = inner(expression);
    if let Some(share) = share_of_errors(root) {
        found.push(share);
    }
    match root {
        Expr::Binary(binary) if binary.op.is_comparison_operator() && !binary.return_bool() => {
            found.push(Trap::Filters);
        }
        Expr::Call(call) if matches!(call.func.name, "absent" | "absent_over_time") => found.push(Trap::Absent),
        _ => {}
    }
    if may_be_many(root) {
        found.push(Trap::ManySeries);
    }
    bare_counters(root, &mut found);
    found
}

/// A division whose dividend reads a narrower choice of the divisor's series, and says nothing about their absence.
fn share_of_errors(root: &Expr) -> Option<Trap> {
    let Expr::Binary(binary) = root else { return None };
    match binary.op.id() {
        token::T_DIV if !provides_for_absence(&binary.lhs) => {
            let (part, whole) = (selectors(&binary.lhs), selectors(&binary.rhs));
            let narrower = part.iter().any(|part| whole.iter().any(|whole| is_narrower(part, whole)));
            narrower.then(|| Trap::EmptyWithoutErrors {
                errors: inner(&binary.lhs).to_string(),
                total: inner(&binary.rhs).to_string(),
            })
        }
        // `100 * errors / total`, `errors / total * 100`, `1 - errors / total`
        _ => share_of_errors(inner(&binary.lhs)).or_else(|| share_of_errors(inner(&binary.rhs))),
    }
}

fn is_narrower(part: &VectorSelector, whole: &VectorSelector) -> bool {
    let has = |matcher: &Matcher| part.matchers.matchers.contains(matcher);
    let same_or_named_as_errors = part.name == whole.name || names_errors(part.name.as_deref());
    same_or_named_as_errors
        && (part.name != whole.name || part.matchers.matchers.len() > whole.matchers.matchers.len())
        && whole.matchers.matchers.iter().all(has)
}

fn names_errors(name: Option<&str>) -> bool {
    name.is_some_and(|name| ["error", "fail", "5xx"].iter().any(|word| name.contains(word)))
}

fn provides_for_absence(expression: &Expr) -> bool {
    match inner(expression) {
        Expr::Binary(BinaryExpr { op, lhs, rhs, .. }) => {
            op.id() == token::T_LOR || (provides_for_absence(lhs) && provides_for_absence(rhs))
        }
        Expr::Aggregate(aggregate) => provides_for_absence(&aggregate.expr),
        Expr::NumberLiteral(_) => true,
        Expr::Call(call) => call.func.name == "vector",
        _ => false,
    }
}

/// Whether an expression can come back as more than one series.
fn may_be_many(expression: &Expr) -> bool {
    match inner(expression) {
        Expr::VectorSelector(_) | Expr::MatrixSelector(_) | Expr::Extension(_) => true,
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => false,
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            _ if matches!(
                aggregate.op.id(),
                token::T_TOPK | token::T_BOTTOMK | token::T_COUNT_VALUES | token::T_LIMITK
            ) =>
            {
                true
            }
            None => false,
            Some(LabelModifier::Include(labels)) => !labels.labels.is_empty(),
            Some(LabelModifier::Exclude(_)) => may_be_many(&aggregate.expr),
        },
        Expr::Unary(unary) => may_be_many(&unary.expr),
        Expr::Paren(paren) => may_be_many(&paren.expr),
        Expr::Subquery(subquery) => may_be_many(&subquery.expr),
        Expr::Binary(binary) => match binary.op.id() {
            token::T_LOR => may_be_many(&binary.lhs) || may_be_many(&binary.rhs),
            token::T_LUNLESS => may_be_many(&binary.lhs),
            _ if is_number(&binary.lhs) => may_be_many(&binary.rhs),
            _ if is_number(&binary.rhs) => may_be_many(&binary.lhs),
            // One series on either side leaves one match at most.
            _ => may_be_many(&binary.lhs) && may_be_many(&binary.rhs),
        },
        Expr::Call(call) => match call.func.name {
            "scalar" | "vector" | "time" | "absent" | "absent_over_time" => false,
            "histogram_quantile" => call.args.args.get(1).is_some_and(|buckets| !is_one_histogram(buckets)),
            _ => call.args.args.iter().any(|argument| may_be_many(argument)),
        },
    }
}

fn is_number(expression: &Expr) -> bool {
    match inner(expression) {
        Expr::NumberLiteral(_) => true,
        Expr::Call(call) => matches!(call.func.name, "scalar" | "time" | "pi"),
        _ => false,
    }
}

fn is_one_histogram(buckets: &Expr) -> bool {
    match inner(buckets) {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => labels.labels.iter().all(|label| label == "le"),
            None => true,
            Some(LabelModifier::Exclude(_)) => false,
        },
        _ => false,
    }
}

fn bare_counters(expression: &Expr, found: &mut Vec<Trap>) {
    match expression {
        Expr::VectorSelector(selector) => {
            let is_counter = |name: &String| COUNTER_ENDINGS.iter().any(|ending| name.ends_with(ending));
            if selector.name.as_ref().is_some_and(is_counter) {
                found.push(Trap::CounterWithoutRate { selector: selector.to_string() });
            }
        }
        Expr::MatrixSelector(_) | Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        Expr::Aggregate(aggregate) if aggregate.op.id() == token::T_COUNT => {}
        Expr::Aggregate(aggregate) => bare_counters(&aggregate.expr, found),
        Expr::Unary(unary) => bare_counters(&unary.expr, found),
        Expr::Paren(paren) => bare_counters(&paren.expr, found),
        Expr::Subquery(subquery) => bare_counters(&subquery.expr, found),
        Expr::Binary(binary) => {
            bare_counters(&binary.lhs, found);
            bare_counters(&binary.rhs, found);
        }
        // Their argument's value doesn't enter the result.
        Expr::Call(call) if matches!(call.func.name, "absent" | "absent_over_time" | "timestamp") => {}
        Expr::Call(call) => call.args.args.iter().for_each(|argument| bare_counters(argument, found)),
    }
}

fn selectors(expression: &Expr) -> Vec<&VectorSelector> {
    match expression {
        Expr::VectorSelector(selector) => vec![selector],
        Expr::MatrixSelector(matrix) => vec![&matrix.vs],
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => Vec::new(),
        Expr::Aggregate(aggregate) => selectors(&aggregate.expr),
        Expr::Unary(unary) => selectors(&unary.expr),
        Expr::Paren(paren) => selectors(&paren.expr),
        Expr::Subquery(subquery) => selectors(&subquery.expr),
        Expr::Binary(binary) => [selectors(&binary.lhs), selectors(&binary.rhs)].concat(),
        Expr::Call(call) => call.args.args.iter().flat_map(|argument| selectors(argument)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use promql_parser::parser::parse;

    fn found(text: &str) -> Vec<Trap> {
        traps(&parse(text).unwrap())
    }

    #[test]
    fn a_plain_error_rate_is_a_trap_and_the_way_out_is_written_out() {
        let trap = found("sum(rate(req_total{app=\"a\",code=~\"5..\"}[1m])) / sum(rate(req_total{app=\"a\"}[1m]))");
        assert_eq!(
            trap[0].to_string(),
            "this returns nothing while no series of errors exists, and NaN without traffic; write `ratio: {errors: sum(rate(req_total{app=\"a\",code=~\"5..\"}[1m])), total: sum(rate(req_total{app=\"a\"}[1m]))}`"
        );
        for text in [
            "100 * sum(rate(r_total{code=~\"5..\"}[1m])) / sum(rate(r_total[1m]))",
            "1 - (sum(rate(r_total{code!~\"5..\"}[1m])) / sum(rate(r_total[1m])))",
            "sum(rate(errors_total[1m])) / sum(rate(requests_total[1m]))",
        ] {
            assert!(matches!(found(text)[..], [Trap::EmptyWithoutErrors { .. }]), "{text}: {:?}", found(text));
        }
    }

    #[test]
    fn an_error_rate_that_provides_for_no_errors_is_none() {
        assert_eq!(found("(sum(rate(r_total{code=~\"5..\"}[1m])) or vector(0)) / sum(rate(r_total[1m]))"), []);
    }

    #[test]
    fn an_average_is_no_error_rate() {
        assert_eq!(found("sum(rate(d_sum[1m])) / sum(rate(d_count[1m]))"), []);
    }

    #[test]
    fn a_counter_without_a_window_is_a_trap() {
        assert_eq!(found("sum(req_total)"), [Trap::CounterWithoutRate { selector: "req_total".to_owned() }]);
        assert_eq!(found("count(req_total)"), []);
        assert_eq!(found("max(queue_depth)"), []);
    }

    #[test]
    fn a_query_that_can_bring_many_series_is_a_trap() {
        for text in ["up", "sum by (pod) (rate(a[1m]))", "rate(a[1m])", "topk(3, a)", "a / b", "avg without (pod) (a)"]
        {
            assert_eq!(found(text), [Trap::ManySeries], "{text}");
        }
        for text in [
            "sum(up)",
            "scalar(up)",
            "sum(a) / sum(b)",
            "histogram_quantile(0.99, sum by (le) (rate(d_bucket[1m])))",
            "a * sum(b)",
            "max_over_time(sum(a)[1m:1s])",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
    }

    #[test]
    fn what_returns_nothing_when_all_is_well_is_a_trap() {
        assert_eq!(found("sum(a) > 5"), [Trap::Filters]);
        assert_eq!(found("sum(a) > bool 5"), []);
        assert_eq!(found("absent(up)"), [Trap::Absent]);
    }
}
