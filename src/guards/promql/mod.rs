//! PromQL as its author wrote it: does it parse, which series does it read, which traps does it hold. No network.

mod lint;
mod position;
mod source;

use promql_parser::parser::{self, Expr, value::ValueType};

pub use lint::Trap;
pub use source::Source;

/// Whether a query can be asked.
///
/// # Errors
/// It doesn't parse, or it can never answer with one fresh number.
pub fn parse(text: &str) -> Result<(), QueryError> {
    Query::parse(text).map(|_| ())
}

/// Why a query can't be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// It isn't PromQL.
    #[error("the query doesn't parse at line {line}, column {column} ({near}): {why}")]
    Syntax {
        /// Line of the first token that can't stand where it stands, from 1.
        line: usize,
        /// Column of it, in characters, from 1.
        column: usize,
        /// That token, or `end of the query`.
        near: String,
        /// What the parser says.
        why: String,
    },
    /// It parses, but its parts don't fit together.
    #[error("the query isn't valid: {why}")]
    Meaning {
        /// What the parser says.
        why: String,
    },
    /// It answers with something that has no single value.
    #[error("the query answers with a {kind}; a guard needs one number: an instant vector of one series, or a scalar")]
    NotANumber {
        /// What it answers with.
        kind: String,
    },
    /// It reads no series, so nothing in its answer could ever be fresh.
    #[error("the query reads no series, so nothing says that its answer is fresh")]
    ReadsNothing,
    /// It reads metrics of several names at once: Prometheus can't be asked for the time of such series' samples.
    #[error(
        "{selector} chooses metrics by a pattern, and how fresh those are can't be asked; write each metric's name"
    )]
    Nameless {
        /// The selector.
        selector: String,
    },
}

/// A query that can be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// As its author wrote it.
    text: String,
    scalar: bool,
    /// The series it reads.
    sources: Vec<Source>,
    /// What may go wrong with it though it is valid.
    traps: Vec<Trap>,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// It doesn't parse, or it can never answer with one fresh number.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let expression = parser::parse(text).map_err(|why| position::explain(text, why))?;
        let scalar = match expression.value_type() {
            ValueType::Scalar => true,
            ValueType::Vector => false,
            kind @ (ValueType::Matrix | ValueType::String) => {
                return Err(QueryError::NotANumber { kind: kind.to_string() });
            }
        };
        let sources = source::sources(&expression);
        if sources.is_empty() {
            return Err(QueryError::ReadsNothing);
        }
        if let Some(nameless) = sources.iter().find(|source| !source.named) {
            return Err(QueryError::Nameless { selector: nameless.selector.clone() });
        }
        Ok(Self { text: text.to_owned(), scalar, traps: lint::traps(&expression), sources })
    }

    /// The series it reads, each once.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// What may go wrong with it though it is valid.
    pub fn traps(&self) -> &[Trap] {
        &self.traps
    }

    /// The query as an instant vector that can be part of a larger query.
    ///
    /// The line break ends a comment that the author may have left at the end.
    pub fn as_vector(&self) -> String {
        let function = if self.scalar { "vector" } else { "" };
        format!("{function}({}\n)", self.text)
    }
}

/// Takes an expression out of its parentheses.
fn inner(expression: &Expr) -> &Expr {
    match expression {
        Expr::Paren(paren) => inner(&paren.expr),
        Expr::Aggregate(_)
        | Expr::Unary(_)
        | Expr::Binary(_)
        | Expr::Subquery(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Call(_)
        | Expr::Extension(_) => expression,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_asked_as_it_was_written() {
        let text = "sum(rate(a[1m])) # per second";
        assert_eq!(Query::parse(text).unwrap().as_vector(), "(sum(rate(a[1m])) # per second\n)");
    }

    #[test]
    fn a_scalar_is_asked_as_a_vector() {
        assert_eq!(Query::parse("scalar(up)").unwrap().as_vector(), "vector(scalar(up)\n)");
    }

    #[test]
    fn a_query_without_one_number_is_refused() {
        assert_eq!(Query::parse("up[5m]"), Err(QueryError::NotANumber { kind: "matrix".to_owned() }));
        assert_eq!(Query::parse("\"up\""), Err(QueryError::NotANumber { kind: "string".to_owned() }));
    }

    #[test]
    fn a_query_that_chooses_metrics_by_a_pattern_is_refused() {
        for text in ["sum({__name__=~\"a|b\"})", "sum(a) + sum({job=\"x\"})"] {
            assert!(matches!(Query::parse(text), Err(QueryError::Nameless { .. })), "{text}");
        }
        assert!(Query::parse("sum({__name__=\"a\"})").is_ok());
    }

    #[test]
    fn a_query_that_reads_nothing_is_refused() {
        for text in ["vector(1)", "time()", "1 + 1"] {
            assert_eq!(Query::parse(text), Err(QueryError::ReadsNothing), "{text}");
        }
    }
}
