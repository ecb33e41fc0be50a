//! What can be said of a migration's queries before they are asked: do they parse, may their provider be asked from this
//! namespace, and which traps are in them.

use super::{
    promql::Query,
    provider::{DEFAULT_PROVIDER, Providers},
};
use crate::{
    api::{Guard, MigrationSpec, Ratio},
    engine::world::{Finding, Weight},
};

/// Looks at each query of a spec.
pub fn findings(spec: &MigrationSpec, namespace: &str, providers: &Providers) -> Vec<Finding> {
    let default = spec.provider.as_deref().unwrap_or(DEFAULT_PROVIDER);
    let asks = Asks { namespace, providers, default };
    let mut findings = Vec::new();
    for (index, guard) in spec.guards.iter().enumerate() {
        findings.extend(asks.guard(&format!("spec.guards[{index}]"), guard));
    }
    for (index, phase) in spec.phases.iter().enumerate() {
        for (position, guard) in phase.guards.iter().enumerate() {
            findings.extend(asks.guard(&format!("spec.phases[{index}].guards[{position}]"), guard));
        }
        if let Some(observe) = &phase.observe {
            let path = format!("spec.phases[{index}].observe");
            findings.extend(asks.provider(&path, observe.provider.as_deref()));
            findings.extend(asks.queries(&path, observe.ratio.as_ref(), observe.query.as_deref()));
        }
    }
    findings
}

struct Asks<'a> {
    namespace: &'a str,
    providers: &'a Providers,
    default: &'a str,
}

impl Asks<'_> {
    fn guard(&self, path: &str, guard: &Guard) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.provider(path, guard.provider.as_deref()).into_iter().collect();
        findings.extend(self.queries(path, guard.ratio.as_ref(), guard.query.as_deref()));
        findings
    }

    fn provider(&self, path: &str, name: Option<&str>) -> Option<Finding> {
        let error = self.providers.find(name.unwrap_or(self.default), self.namespace).err()?;
        Some(Finding { weight: Weight::Refuse, path: format!("{path}.provider"), message: error.to_string() })
    }

    fn queries(&self, path: &str, ratio: Option<&Ratio>, query: Option<&str>) -> Vec<Finding> {
        let texts = match ratio {
            Some(ratio) => vec![("ratio.errors", ratio.errors.as_str()), ("ratio.total", ratio.total.as_str())],
            None => query.iter().map(|query| ("query", *query)).collect(),
        };
        let mut findings = Vec::new();
        for (field, text) in texts {
            let path = format!("{path}.{field}");
            match Query::parse(text) {
                Err(error) => findings.push(Finding { weight: Weight::Refuse, path, message: error.to_string() }),
                Ok(query) => findings.extend(query.traps().iter().map(|trap| Finding {
                    weight: Weight::Warn,
                    path: path.clone(),
                    message: trap.to_string(),
                })),
            }
        }
        findings
    }
}
