//! Sequences: logical replication leaves them out, so at a cut-over the new side's are set past the old side's.

use super::{
    ident::QualifiedName,
    movable::like,
    session::{QueryError, Session},
};

/// How many numbers the new side skips beyond what the old side can have given out: for whoever looks at the number of
/// a row that failed, and for sessions that still hold cached numbers.
const MARGIN: i64 = 32;

/// A sequence, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Its name.
    pub name: QualifiedName,
    /// The last number given out, or set aside for a session's cache; absent before the first.
    pub last: Option<i64>,
    /// From one number to the next; negative where it counts down.
    pub step: i64,
    /// Smallest number.
    pub least: i64,
    /// Largest number.
    pub greatest: i64,
    /// Numbers that a session sets aside at once.
    pub cache: i64,
}

impl Sequence {
    /// What the last number of the other side's must be at least (or at most, where it counts down); nothing to do before
    /// the first number.
    pub fn beyond(&self) -> Option<i64> {
        let ahead = self.step.saturating_mul(self.cache.saturating_add(MARGIN));
        Some(self.last?.saturating_add(ahead).clamp(self.least, self.greatest))
    }

    /// Whether it is at a number or past it, in its own direction.
    pub fn is_past(&self, number: i64) -> bool {
        self.last.is_some_and(|last| if self.step > 0 { last >= number } else { last <= number })
    }
}

/// Reads the sequences that the tables use, and those that the patterns name.
pub async fn read(session: &Session, tables: &[u32], patterns: &[String]) -> Result<Vec<Sequence>, QueryError> {
    let rows = session.rows(include_str!("sql/sequences.sql"), &[&tables, &like(patterns)]).await?;
    let read = |row: &tokio_postgres::Row| Sequence {
        name: QualifiedName { schema: row.get("schema"), name: row.get("name") },
        last: row.get("last"),
        step: row.get("step"),
        least: row.get("least"),
        greatest: row.get("greatest"),
        cache: row.get("cache"),
    };
    Ok(rows.iter().map(read).collect())
}

/// What has to be set on the target so that none of its sequences gives out a number of the source's. A sequence that is
/// past it already stays.
pub fn raises(source: &[Sequence], target: &[Sequence]) -> Vec<(QualifiedName, i64)> {
    let needed = source.iter().filter_map(|sequence| Some((&sequence.name, sequence.beyond()?)));
    let of_target = |name: &QualifiedName| target.iter().find(|sequence| sequence.name == *name);
    let missing = needed.filter(|(name, number)| of_target(name).is_none_or(|there| !there.is_past(*number)));
    missing.map(|(name, number)| (name.clone(), number)).collect()
}

/// Sets sequences to last numbers.
pub async fn set(session: &Session, numbers: &[(QualifiedName, i64)]) -> Result<(), QueryError> {
    if numbers.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = numbers.iter().map(|(name, _)| name.to_string()).collect();
    let values: Vec<i64> = numbers.iter().map(|(_, value)| *value).collect();
    session.rows(include_str!("sql/set_sequences.sql"), &[&names, &values]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(name: &str, last: Option<i64>, step: i64) -> Sequence {
        let name = QualifiedName { schema: "public".into(), name: name.into() };
        Sequence { name, last, step, least: -1_000, greatest: 1_000, cache: 1 }
    }

    #[test]
    fn the_new_side_begins_past_what_the_old_side_can_have_given_out() {
        assert_eq!(sequence("a", Some(10), 1).beyond(), Some(43));
        assert_eq!(sequence("a", Some(-10), -2).beyond(), Some(-76));
        assert_eq!(sequence("a", Some(990), 1).beyond(), Some(1_000));
        assert_eq!(sequence("a", None, 1).beyond(), None);
    }

    #[test]
    fn only_what_is_behind_is_raised_and_once_is_enough() {
        let source = [sequence("a", Some(10), 1), sequence("b", None, 1), sequence("c", Some(-5), -1)];
        let target = [sequence("a", Some(20), 1), sequence("b", Some(1), 1), sequence("c", Some(-900), -1)];
        let raised = raises(&source, &target);
        assert_eq!(raised, [(source[0].name.clone(), 43)]);
        assert_eq!(raises(&source, &[sequence("a", Some(43), 1), target[2].clone()]), []);
        assert_eq!(raises(&source, &[]).len(), 2);
    }
}
