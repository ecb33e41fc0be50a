//! What can be known of guards before any is asked: may they ask whom they name, do they parse, which traps do they hold.

use super::{
    promql::Query,
    provider::{DEFAULT_PROVIDER, Providers},
};
use crate::{
    api::{Guard, Migration, Ratio},
    engine::world::{Finding, Weight},
};

/// Looks at every guard and observation of a Migration's spec. No network.
pub(super) fn preflight(migration: &Migration, providers: &Providers) -> Vec<Finding> {
    let spec = &migration.spec;
    let namespace = migration.metadata.namespace.as_deref().unwrap_or_default();
    let may_ask = |own: Option<&String>, path: &str| {
        let name = own.or(spec.provider.as_ref()).map_or(DEFAULT_PROVIDER, String::as_str);
        let refusal = providers.find(name, namespace).err()?;
        let field = if own.is_some() || spec.provider.is_none() {
            format!("{path}.provider")
        } else {
            "spec.provider".to_owned()
        };
        Some(finding(Weight::Refuse, field, refusal.to_string()))
    };
    let of_guard = |guard: &Guard, path: String| {
        let queries = queries(guard.ratio.as_ref(), guard.query.as_deref(), &path);
        may_ask(guard.provider.as_ref(), &path)
            .into_iter()
            .chain(queries.into_iter().flat_map(look))
            .collect::<Vec<_>>()
    };
    let of_all = spec.guards.iter().enumerate().flat_map(|(at, guard)| of_guard(guard, format!("spec.guards[{at}]")));
    let of_phases = spec.phases.iter().enumerate().flat_map(|(at, phase)| {
        let path = format!("spec.phases[{at}]");
        let guards = phase.guards.iter().enumerate();
        let mut found: Vec<_> =
            guards.flat_map(|(index, guard)| of_guard(guard, format!("{path}.guards[{index}]"))).collect();
        if let Some(observe) = &phase.observe {
            let path = format!("{path}.observe");
            found.extend(may_ask(observe.provider.as_ref(), &path));
            let queries = queries(observe.ratio.as_ref(), observe.query.as_deref(), &path);
            found.extend(queries.into_iter().flat_map(look));
        }
        found
    });
    let mut found: Vec<_> = of_all.chain(of_phases).collect();
    // One provider that may not be asked concerns every guard, and is told once.
    found.dedup();
    found
}

fn queries<'a>(ratio: Option<&'a Ratio>, query: Option<&'a str>, path: &str) -> Vec<(String, &'a str)> {
    match ratio {
        Some(ratio) => {
            vec![(format!("{path}.ratio.errors"), ratio.errors.as_str()), (format!("{path}.ratio.total"), &ratio.total)]
        }
        None => query.into_iter().map(|query| (format!("{path}.query"), query)).collect(),
    }
}

fn look((path, text): (String, &str)) -> Vec<Finding> {
    match Query::parse(text) {
        Ok(query) => {
            let warn = |trap: &super::promql::Trap| finding(Weight::Warn, path.clone(), trap.to_string());
            query.traps().iter().map(warn).collect()
        }
        Err(error) => vec![finding(Weight::Refuse, path, error.to_string())],
    }
}

fn finding(weight: Weight, path: String, message: String) -> Finding {
    Finding { weight, path, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn found(spec: &Value) -> Vec<String> {
        let json = json!({"metadata": {"name": "move", "namespace": "shop"}, "spec": spec});
        let migration: Migration = serde_json::from_value(json).unwrap();
        let list = json!([
            {"name": "default", "url": "http://localhost:9", "allowedNamespaces": ["shop"]},
            {"name": "private", "url": "http://localhost:9", "allowedNamespaces": ["bank"]},
        ]);
        let providers = Providers::set_up(serde_json::from_value(list).unwrap()).unwrap();
        let told = |finding: &Finding| format!("{:?} {}: {}", finding.weight, finding.path, finding.message);
        preflight(&migration, &providers).iter().map(told).collect()
    }

    #[test]
    fn good_guards_leave_nothing_to_say() {
        let guards = json!([
            {"name": "errors", "max": 0.01, "ratio": {"errors": "sum(rate(e_total[1m]))", "total": "sum(rate(t_total[1m]))"}},
            {"name": "queue", "max": 5, "query": "max(queue_length)"},
        ]);
        assert_eq!(found(&json!({"guards": guards, "phases": [{"name": "bake", "bake": {"for": "1m"}}]})), [""; 0]);
    }

    #[test]
    fn what_does_not_parse_is_refused_with_its_place() {
        let phases = json!([{"name": "bake", "bake": {"for": "1m"}, "guards": [{"name": "queue", "max": 5, "query": "max(queue_length))"}]}]);
        assert_eq!(
            found(&json!({"phases": phases})),
            [
                "Refuse spec.phases[0].guards[0].query: the query doesn't parse at line 1, column 18 (\")\"): unexpected right parenthesis ')'"
            ]
        );
    }

    #[test]
    fn a_trap_is_a_warning_that_says_what_to_write() {
        let guards = json!([{"name": "errors", "max": 0.01, "query": "sum(rate(t_total{code=~\"5..\"}[1m])) / sum(rate(t_total[1m]))"}]);
        let found = found(&json!({"guards": guards, "phases": []}));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("Warn spec.guards[0].query: this returns nothing while no series"), "{found:?}");
    }

    #[test]
    fn a_provider_of_other_namespaces_is_refused_and_its_own_are_named() {
        let guard = |provider: &str| json!([{"name": "queue", "max": 5, "query": "max(q)", "provider": provider}]);
        assert_eq!(
            found(&json!({"guards": guard("private"), "phases": []})),
            [
                "Refuse spec.guards[0].provider: metrics provider `private` isn't allowed in namespace `shop`; the administrator lists a provider's namespaces in `allowedNamespaces`"
            ]
        );
        assert_eq!(
            found(&json!({"guards": guard("mine"), "phases": []})),
            [
                "Refuse spec.guards[0].provider: there is no metrics provider `mine`; the administrator has configured: default"
            ]
        );
    }
}
