//! The PromQL of guards and observations: whether it parses, and which traps it holds.

use super::{Finding, Weight, yaml::Path};
use crate::{
    api::{Guard, MigrationSpec, Ratio},
    guards::promql::Query,
};

/// Looks at every query of a spec.
pub fn look(spec: &MigrationSpec) -> Vec<Finding> {
    let root = Path::parse("spec");
    let of_guard = |guard: &Guard, path: &Path| of_queries(guard.ratio.as_ref(), guard.query.as_deref(), path);
    let guards = root.field("guards");
    let of_all = spec.guards.iter().enumerate().flat_map(|(at, guard)| of_guard(guard, &guards.item(at)));
    let phases = root.field("phases");
    let of_phases = spec.phases.iter().enumerate().flat_map(|(at, phase)| {
        let path = phases.item(at);
        let own = path.field("guards");
        let mut found: Vec<_> =
            phase.guards.iter().enumerate().flat_map(|(at, guard)| of_guard(guard, &own.item(at))).collect();
        if let Some(observe) = &phase.observe {
            found.extend(of_queries(observe.ratio.as_ref(), observe.query.as_deref(), &path.field("observe")));
        }
        found
    });
    of_all.chain(of_phases).collect()
}

fn of_queries(ratio: Option<&Ratio>, query: Option<&str>, path: &Path) -> Vec<Finding> {
    let ratio = ratio.into_iter().flat_map(|ratio| {
        let path = path.field("ratio");
        [(path.field("errors"), ratio.errors.as_str()), (path.field("total"), ratio.total.as_str())]
    });
    let query = query.into_iter().map(|query| (path.field("query"), query));
    ratio.chain(query).flat_map(|(path, text)| of_query(text, &path)).collect()
}

fn of_query(text: &str, path: &Path) -> Vec<Finding> {
    match Query::parse(text) {
        Ok(query) => {
            let warn = |trap: &crate::guards::promql::Trap| {
                Finding::new("promql-trap", Weight::Warning, path.clone(), trap.to_string())
            };
            query.traps().iter().map(warn).collect()
        }
        Err(error) => vec![Finding::new("promql", Weight::Error, path.clone(), error.to_string())],
    }
}
