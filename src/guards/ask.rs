//! One poll: a value and the freshness of what is behind it, asked in one request so that both are of one moment.
//!
//! Two requests could straddle a scrape: the value would be the old sample's and the time the new one's, and the new
//! sample's own value would then be taken for one that has been counted already. So both are parts of one query, told
//! apart by a label, and Prometheus evaluates them at one point of its own clock.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use super::promql::{Query, QueryError};
use crate::{
    api::{Ratio, Span, Time},
    engine::guard::{Outcome, Reading},
};

/// The label that tells the parts of a composed query apart.
const PART: &str = "alongside_part";

/// What is asked for one guard or observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    text: Arc<str>,
    shape: Shape,
    /// For each source, in order, whether the value says nothing without it.
    required: Vec<bool>,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Value,
    Ratio { min_rate: Option<f64> },
}

/// Why there is nothing to ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The query can't be asked.
    #[error("`query`: {0}")]
    Query(#[source] QueryError),
    /// The ratio's dividend can't be asked.
    #[error("`ratio.errors`: {0}")]
    Errors(#[source] QueryError),
    /// The ratio's divisor can't be asked.
    #[error("`ratio.total`: {0}")]
    Total(#[source] QueryError),
    /// Neither a query nor a ratio.
    #[error("there is neither `ratio` nor `query`")]
    Nothing,
}

impl Question {
    /// Composes the query for what a spec says.
    ///
    /// # Errors
    /// A part doesn't parse or can't answer with one fresh number.
    pub fn compose(ratio: Option<&Ratio>, query: Option<&str>) -> Result<Self, QuestionError> {
        match (ratio, query) {
            (Some(ratio), _) => {
                let errors = Query::parse(&ratio.errors).map_err(QuestionError::Errors)?;
                let total = Query::parse(&ratio.total).map_err(QuestionError::Total)?;
                let shape = Shape::Ratio { min_rate: ratio.min_rate };
                Ok(Self::of_parts(shape, &[("errors", &errors), ("total", &total)], &total))
            }
            (None, Some(query)) => {
                let query = Query::parse(query).map_err(QuestionError::Query)?;
                Ok(Self::of_parts(Shape::Value, &[("value", &query)], &query))
            }
            (None, None) => Err(QuestionError::Nothing),
        }
    }

    fn of_parts(shape: Shape, parts: &[(&str, &Query)], fresh: &Query) -> Self {
        let mut text = String::new();
        for (name, query) in parts {
            append(&mut text, name, &query.as_vector());
        }
        for (index, source) in fresh.sources().iter().enumerate() {
            append(&mut text, &format!("at{index}"), &format!("max(timestamp({}))", source.selector));
        }
        let required = fresh.sources().iter().map(|source| source.required).collect();
        Self { text: text.into(), shape, required }
    }

    /// The query as Prometheus gets it.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// What an answer means to a guard that takes samples up to `max_age` for data.
    pub fn read(&self, answer: &Answer, max_age: Span) -> Reading {
        let sample_at = self.sample_at(&answer.parts);
        // Prometheus evaluated it at some time after it was asked: the wait for the answer is added in full.
        let age = sample_at.map(|at| Span(answer.evaluated_at.since(at).0 + answer.seen_at.since(answer.asked_at).0));
        let outcome = self.outcome(&answer.parts, age, max_age);
        Reading { seen_at: answer.seen_at, sample_at, age, outcome }
    }

    /// The value at one moment, of an answer or of a step of a range; `None` where it says nothing.
    pub fn value(&self, parts: &Parts) -> Option<f64> {
        match self.outcome(parts, Some(Span::default()), Span::default()) {
            Outcome::Value(value) => Some(value),
            Outcome::Nan => Some(f64::NAN),
            Outcome::NoData
            | Outcome::Stale { .. }
            | Outcome::Unavailable
            | Outcome::LowTraffic { .. }
            | Outcome::MultiSeries { .. } => None,
        }
    }

    /// When the newest sample of the source that lags most was taken, so that a new reading is new in all its parts.
    ///
    /// Sources whose absence the author has provided for count only if there are no others.
    pub fn sample_at(&self, parts: &Parts) -> Option<Time> {
        let times = |required: bool| {
            let chosen = self.required.iter().enumerate().filter(move |&(_, &is)| is == required);
            chosen.map(|(index, _)| parts.sampled.get(&index).copied())
        };
        if self.required.contains(&true) {
            // One that is missing makes the whole unknown.
            times(true).min().flatten()
        } else {
            times(false).flatten().min()
        }
    }

    fn outcome(&self, parts: &Parts, age: Option<Span>, max_age: Span) -> Outcome {
        let value = match self.shape {
            Shape::Value => one(&parts.value),
            Shape::Ratio { min_rate } => ratio(parts, min_rate),
        };
        match (value, age) {
            (Outcome::NoData | Outcome::MultiSeries { .. }, _) => value,
            (_, None) => Outcome::NoData,
            (_, Some(age)) if age > max_age => Outcome::Stale { age },
            (_, Some(_)) => value,
        }
    }
}

fn append(text: &mut String, part: &str, vector: &str) {
    if !text.is_empty() {
        text.push_str("\nor ");
    }
    // `__name__` matches whether or not it is there, so every series gets the label.
    write!(text, "label_replace({vector}, \"{PART}\", \"{part}\", \"__name__\", \".*\")")
        .expect("writing to a String doesn't fail");
}

fn one(series: &[f64]) -> Outcome {
    match *series {
        [] => Outcome::NoData,
        [value] if value.is_finite() => Outcome::Value(value),
        [_] => Outcome::Nan,
        _ => Outcome::MultiSeries { series: series.len() },
    }
}

fn ratio(parts: &Parts, min_rate: Option<f64>) -> Outcome {
    let total = match one(&parts.total) {
        Outcome::Value(total) => total,
        other => return other,
    };
    let errors = match one(&parts.errors) {
        Outcome::Value(errors) => errors,
        // A counter of errors doesn't exist before the first error, and the total has data.
        Outcome::NoData => 0.0,
        other => return other,
    };
    if total <= 0.0 || min_rate.is_some_and(|least| total < least) {
        return Outcome::LowTraffic { total };
    }
    one(&[errors / total])
}

/// What Prometheus said to a question, before any guard's own terms.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// When it was asked.
    pub asked_at: Time,
    /// When the answer was there.
    pub seen_at: Time,
    /// When it was evaluated, by Prometheus's clock.
    pub evaluated_at: Time,
    /// Its parts.
    pub parts: Parts,
}

/// The parts of a composed query's result.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    value: Vec<f64>,
    errors: Vec<f64>,
    total: Vec<f64>,
    sampled: BTreeMap<usize, Time>,
}

impl Parts {
    /// When the newest sample of any source was taken: the rhythm of what is asked.
    pub fn newest(&self) -> Option<Time> {
        self.sampled.values().max().copied()
    }

    /// Adds one series of the result. Series without the label are none of ours and are left out.
    pub fn add(&mut self, labels: &BTreeMap<String, String>, value: f64) {
        match labels.get(PART).map(String::as_str) {
            Some("value") => self.value.push(value),
            Some("errors") => self.errors.push(value),
            Some("total") => self.total.push(value),
            Some(part) => {
                if let Some(index) = part.strip_prefix("at").and_then(|index| index.parse().ok()) {
                    self.sampled.insert(index, seconds(value));
                }
            }
            None => {}
        }
    }
}

/// A time as Prometheus writes it, in seconds with a fraction.
pub(super) fn seconds(value: f64) -> Time {
    // Milliseconds since 1970 stay exact in an f64 for 285,000 years.
    #[allow(clippy::cast_possible_truncation, reason = "the cast saturates, and no sample is that far away")]
    Time((value * 1_000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Span = Span::secs(30);

    fn question(query: &str) -> Question {
        Question::compose(None, Some(query)).unwrap()
    }

    fn ratio(errors: &str, total: &str, min_rate: Option<f64>) -> Question {
        let ratio = Ratio { errors: errors.to_owned(), total: total.to_owned(), min_rate };
        Question::compose(Some(&ratio), None).unwrap()
    }

    /// An answer evaluated at 1,000 s by Prometheus's clock, an hour ahead of ours, 250 ms after it was asked.
    fn answer(parts: &[(&str, f64)]) -> Answer {
        let mut found = Parts::default();
        for &(part, value) in parts {
            found.add(&BTreeMap::from([(PART.to_owned(), part.to_owned())]), value);
        }
        Answer { asked_at: Time(100_000), seen_at: Time(100_250), evaluated_at: Time(1_000_000), parts: found }
    }

    fn outcome(question: &Question, parts: &[(&str, f64)]) -> Outcome {
        question.read(&answer(parts), MAX_AGE).outcome
    }

    #[test]
    fn value_and_freshness_are_asked_in_one_query() {
        assert_eq!(
            &**question("sum(rate(a{x=\"1\"}[1m])) / sum(b)").text(),
            "label_replace((sum(rate(a{x=\"1\"}[1m])) / sum(b)\n), \"alongside_part\", \"value\", \"__name__\", \".*\")\n\
             or label_replace(max(timestamp(a{x=\"1\"})), \"alongside_part\", \"at0\", \"__name__\", \".*\")\n\
             or label_replace(max(timestamp(b)), \"alongside_part\", \"at1\", \"__name__\", \".*\")"
        );
    }

    #[test]
    fn a_ratio_is_as_fresh_as_its_total() {
        assert_eq!(
            &**ratio("sum(bad)", "sum(all)", None).text(),
            "label_replace((sum(bad)\n), \"alongside_part\", \"errors\", \"__name__\", \".*\")\n\
             or label_replace((sum(all)\n), \"alongside_part\", \"total\", \"__name__\", \".*\")\n\
             or label_replace(max(timestamp(all)), \"alongside_part\", \"at0\", \"__name__\", \".*\")"
        );
    }

    #[test]
    fn what_is_composed_parses() {
        for question in
            [question("sum(a) # why\n/ sum(b)"), question("scalar(a)"), ratio("sum(a)", "sum(b) or vector(0)", None)]
        {
            assert_eq!(super::super::promql::parse(question.text()), Ok(()), "{}", question.text());
        }
    }

    #[test]
    fn an_age_is_told_by_prometheus_clock_and_grows_by_the_wait_for_the_answer() {
        let reading = question("a").read(&answer(&[("value", 7.0), ("at0", 995.5)]), MAX_AGE);
        assert_eq!(reading.outcome, Outcome::Value(7.0));
        assert_eq!(reading.sample_at, Some(Time(995_500)));
        assert_eq!(reading.age, Some(Span::millis(4_750)));
        assert_eq!(reading.seen_at, Time(100_250));
    }

    #[test]
    fn the_source_that_lags_most_tells_the_age() {
        let reading = question("a + b").read(&answer(&[("value", 7.0), ("at0", 999.0), ("at1", 960.0)]), MAX_AGE);
        assert_eq!(reading.outcome, Outcome::Stale { age: Span::millis(40_250) });
        assert_eq!(reading.sample_at, Some(Time(960_000)));
    }

    #[test]
    fn a_value_without_one_of_its_sources_is_no_data() {
        assert_eq!(outcome(&question("a + b"), &[("value", 7.0), ("at0", 999.0)]), Outcome::NoData);
        assert_eq!(outcome(&question("a"), &[("value", 7.0)]), Outcome::NoData);
    }

    #[test]
    fn a_source_whose_absence_is_provided_for_may_be_absent_but_not_all_of_them() {
        let errors = question("(sum(e) or vector(0)) / sum(t)");
        assert_eq!(outcome(&errors, &[("value", 0.0), ("at1", 999.0)]), Outcome::Value(0.0));
        let either = question("sum(a) or sum(b)");
        assert_eq!(outcome(&either, &[("value", 3.0), ("at1", 999.0)]), Outcome::Value(3.0));
        let nothing = question("sum(e) or vector(0)");
        assert_eq!(outcome(&nothing, &[("value", 0.0)]), Outcome::NoData);
    }

    #[test]
    fn errors_that_are_missing_are_zero_only_while_the_total_has_data() {
        let share = ratio("e", "t", None);
        assert_eq!(outcome(&share, &[("total", 8.0), ("at0", 999.0)]), Outcome::Value(0.0));
        assert_eq!(outcome(&share, &[("errors", 2.0), ("total", 8.0), ("at0", 999.0)]), Outcome::Value(0.25));
        assert_eq!(outcome(&share, &[("errors", 2.0)]), Outcome::NoData);
        assert_eq!(outcome(&share, &[("total", 8.0), ("at0", 900.0)]), Outcome::Stale { age: Span::millis(100_250) });
        assert_eq!(outcome(&share, &[("total", f64::NAN), ("at0", 999.0)]), Outcome::Nan);
        assert_eq!(outcome(&share, &[("errors", f64::NAN), ("total", 8.0), ("at0", 999.0)]), Outcome::Nan);
        let doubled = [("errors", 1.0), ("errors", 2.0), ("total", 8.0), ("at0", 999.0)];
        assert_eq!(outcome(&share, &doubled), Outcome::MultiSeries { series: 2 });
    }

    #[test]
    fn little_traffic_is_called_what_it_is() {
        let low = |total: f64| Outcome::LowTraffic { total };
        assert_eq!(outcome(&ratio("e", "t", None), &[("total", 0.0), ("at0", 999.0)]), low(0.0));
        assert_eq!(outcome(&ratio("e", "t", Some(2.0)), &[("total", 1.9), ("at0", 999.0)]), low(1.9));
        assert_eq!(outcome(&ratio("e", "t", Some(2.0)), &[("total", 2.0), ("at0", 999.0)]), Outcome::Value(0.0));
    }
}
