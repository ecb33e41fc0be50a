//! Rows of one side that a unique index of the other side would not let in (behaviour 40).

use super::{
    catalog::{Table, UniqueIndex},
    reading::{Reading, Side},
};

/// A unique index that one side has and the other has not: the other side may hold what it forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The side without it, whose rows are looked at.
    pub side: Side,
    /// The index, on the other side.
    pub index: UniqueIndex,
}

/// What is to be looked at between two tables. An index on columns that the other side doesn't have says nothing of it.
pub fn suspicions(from: &Table, to: &Table) -> Vec<Suspicion> {
    let of = |with: &Table, without: &Table, side| {
        let missing = with
            .unique
            .iter()
            .filter(|index| index.valid)
            .filter(|index| !without.unique.iter().any(|other| other.valid && is_same(index, other)));
        let known = missing.filter(|index| {
            index.columns.as_ref().is_none_or(|columns| columns.iter().all(|name| without.column(name).is_some()))
        });
        known.map(|index| Suspicion { side, index: index.clone() }).collect::<Vec<_>>()
    };
    let mut all = of(to, from, Side::From);
    all.extend(of(from, to, Side::To));
    all
}

fn is_same(one: &UniqueIndex, other: &UniqueIndex) -> bool {
    // In whatever order: uniqueness doesn't depend on it.
    let sorted = |index: &UniqueIndex| {
        let mut parts = index.parts.clone();
        parts.sort();
        parts
    };
    sorted(one) == sorted(other)
        && one.predicate == other.predicate
        && one.nulls_not_distinct == other.nulls_not_distinct
}

impl Suspicion {
    /// The first groups of rows that the index would not let in: what they share, how many they are, and the keys of the
    /// first of them. `$1` groups at most, `$2` keys of each. Reads the whole table; takes no lock but for reading.
    pub fn groups(&self, reading: &Reading) -> String {
        let parts: Vec<_> = self.index.parts.iter().map(|part| format!("({part})")).collect();
        let texts: Vec<_> = parts.iter().map(|part| format!("{part}::text")).collect();
        let mut conditions: Vec<String> =
            self.index.predicate.iter().map(|predicate| format!("({predicate})")).collect();
        if !self.index.nulls_not_distinct {
            conditions.extend(parts.iter().map(|part| format!("{part} IS NOT NULL")));
        }
        let place = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
        format!(
            "SELECT ARRAY[{}]::text[] AS values, pg_catalog.count(*) AS rows, \
             pg_catalog.to_jsonb((pg_catalog.array_agg(pg_catalog.to_jsonb({keys}) ORDER BY {keys}))[1:$2::integer])::text AS keys\nFROM {}\n\
             WHERE {place}\nGROUP BY {}\nHAVING pg_catalog.count(*) > 1\nORDER BY 1\nLIMIT $1::bigint",
            texts.join(", "),
            reading.source(),
            parts.join(", "),
            keys = reading.key_texts()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(parts: &[&str], predicate: Option<&str>) -> UniqueIndex {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        UniqueIndex::for_test(parts, predicate.map(str::to_owned))
    }

    #[test]
    fn an_index_is_the_same_whatever_the_order_of_its_columns() {
        assert!(is_same(&index(&["a", "b"], None), &index(&["b", "a"], None)));
        assert!(!is_same(&index(&["a"], None), &index(&["a", "b"], None)));
        assert!(!is_same(&index(&["a"], Some("b > 0")), &index(&["a"], None)));
        let mut strict = index(&["a"], None);
        strict.nulls_not_distinct = true;
        assert!(!is_same(&strict, &index(&["a"], None)) && !is_same(&index(&["a"], None), &strict));
    }
}
