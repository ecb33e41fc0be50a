//! `observe`: holds until a query has satisfied its bound over a whole sustained window. The poller does the asking.

use super::{At, refuse};
use crate::{api::ObserveAction, engine::world::Finding, guards::promql};

/// Whether the query parses.
pub fn preflight(at: At<'_>, observe: &ObserveAction) -> Vec<Finding> {
    let path = format!("spec.phases[{}].observe", at.index);
    let texts = match &observe.ratio {
        Some(ratio) => vec![("ratio.errors", &ratio.errors), ("ratio.total", &ratio.total)],
        None => observe.query.iter().map(|query| ("query", query)).collect(),
    };
    texts
        .into_iter()
        .filter_map(|(field, text)| {
            let error = promql::parse(text).err()?;
            Some(refuse(format!("{path}.{field}"), error.to_string()))
        })
        .collect()
}
