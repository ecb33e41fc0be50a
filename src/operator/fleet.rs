//! What every Migration is like, as metrics: read from the cache at each scrape, so that a Migration that goes away takes
//! its series along. A few series a Migration; standbys show the same as the leader, so queries aggregate by `max`.

use kube::{ResourceExt, runtime::reflector::Store};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::api::{Migration, PhaseState};

/// The Migrations of the cache.
#[derive(Debug)]
pub struct Fleet(Store<Migration>);

impl Fleet {
    /// Reads them from this cache.
    pub fn of(migrations: Store<Migration>) -> Self {
        Self(migrations)
    }

    /// One gauge over all Migrations: `more` labels and a value for each that has one.
    fn encode<const N: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: impl Fn(&Migration) -> Option<([(&'static str, String); N], i64)>,
    ) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for migration in self.0.state() {
            let Some((more, value)) = of(&migration) else { continue };
            let mut labels =
                vec![("namespace", migration.namespace().unwrap_or_default()), ("migration", migration.name_any())];
            labels.extend(more);
            ConstGauge::new(value).encode(family.encode_family(&labels.as_slice())?)?;
        }
        Ok(())
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let encoder = &mut encoder;
        self.encode(encoder, "migration_state", "1 for the state that a Migration is in", |migration| {
            let state = migration.status.as_ref().map(|status| status.state).unwrap_or_default();
            Some(([("state", format!("{state:?}"))], 1))
        })?;
        self.encode(
            encoder,
            "migration_hold",
            "1 for the reason why a Migration takes no step forward",
            |migration| {
                let hold = migration.status.as_ref()?.hold.as_ref()?;
                Some(([("reason", hold.reason.clone())], 1))
            },
        )?;
        self.encode(encoder, "migration_phases", "Phases that a Migration has", |migration| {
            // One that rests is cached without its spec.
            let planned = migration.status.as_ref().map_or(0, |status| status.phases.len());
            Some(([], count(planned.max(migration.spec.phases.len()))))
        })?;
        self.encode(encoder, "migration_phases_done", "Phases of a Migration that are done", |migration| {
            let phases = &migration.status.as_ref()?.phases;
            Some(([], count(phases.iter().filter(|phase| phase.state == PhaseState::Done).count())))
        })?;
        self.encode(
            encoder,
            "migration_rollback_ready",
            "Whether traffic that has moved can go back; absent where none has",
            |migration| {
                let conditions = &migration.status.as_ref()?.conditions;
                let ready = conditions.iter().find(|condition| condition.type_ == "RollbackReady")?;
                Some(([], i64::from(ready.status == "True")))
            },
        )
    }
}

fn count(phases: usize) -> i64 {
    i64::try_from(phases).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector, watcher};
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn a_migration_is_shown_as_it_is_and_no_longer_once_it_is_gone() {
        let migration: Migration = serde_json::from_value(serde_json::json!({
            "apiVersion": "alongside.dev/v1alpha1", "kind": "Migration",
            "metadata": { "name": "to-v2", "namespace": "shop" },
            "spec": { "phases": [{ "name": "ask", "approval": "Required" }, { "name": "bake", "bake": { "for": "1h" } }] },
            "status": {
                "state": "Waiting", "hold": { "reason": "Approval", "since": "2026-11-24T03:00:00Z" },
                "phases": [{ "name": "ask", "state": "Done" }, { "name": "bake" }],
            },
        }))
        .expect("it is a Migration");
        let (store, mut writer) = reflector::store();
        let mut registry = Registry::with_prefix("alongside");
        registry.register_collector(Box::new(Fleet::of(store)));
        let shown = |registry: &Registry| {
            let mut page = String::new();
            text::encode(&mut page, registry).expect("writing to a String cannot fail");
            page
        };
        writer.apply_watcher_event(&watcher::Event::Apply(migration.clone()));
        let page = shown(&registry);
        for line in [
            "alongside_migration_state{namespace=\"shop\",migration=\"to-v2\",state=\"Waiting\"} 1",
            "alongside_migration_hold{namespace=\"shop\",migration=\"to-v2\",reason=\"Approval\"} 1",
            "alongside_migration_phases{namespace=\"shop\",migration=\"to-v2\"} 2",
            "alongside_migration_phases_done{namespace=\"shop\",migration=\"to-v2\"} 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("rollback_ready{"), "{page}");
        writer.apply_watcher_event(&watcher::Event::Delete(migration));
        assert!(!shown(&registry).contains("to-v2"));
    }
}
