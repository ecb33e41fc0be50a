//! Plans: frozen into ControllerRevisions, and read back from nowhere else.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::ConfigMap},
    apimachinery::pkg::runtime::RawExtension,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde::{Deserialize, Serialize};

use crate::{
    actions::{refuse, wait},
    api::{CHILD_FINALIZER, Migration, MigrationSpec, NAME_LABEL, PhaseState, Script, UID_LABEL},
    engine::{
        Plan,
        plan::{self, Action},
        scripts::{self, VersionedScript},
        world::Finding,
    },
};

/// Scripts of each phase that has some.
pub type Scripts = BTreeMap<String, Vec<VersionedScript>>;

/// A plan and the texts that it depends on.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// The plan.
    pub plan: Plan,
    /// The scripts, by phase.
    pub scripts: Scripts,
}

/// What a ControllerRevision holds.
#[derive(Serialize, Deserialize)]
struct Stored {
    spec: MigrationSpec,
    scripts: Scripts,
}

/// Why a plan could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The API server did not answer well.
    #[error("could not read or write ControllerRevision {name}")]
    Api {
        /// Name of the revision.
        name: String,
        /// What it said.
        #[source]
        source: kube::Error,
    },
    /// The revision isn't what we wrote.
    #[error("ControllerRevision {name} doesn't hold plan {hash}: it was changed, or belongs to another migration")]
    Foreign {
        /// Name of the revision.
        name: String,
        /// The hash looked for.
        hash: String,
    },
}

/// Reads and writes plans; remembers those that were read, for they never change.
#[derive(Default)]
pub struct PlanStore {
    known: Mutex<HashMap<(String, String), Arc<Frozen>>>,
}

impl PlanStore {
    /// The frozen plan that status names. `None` where its revision isn't there.
    pub async fn frozen(&self, migration: &Migration, client: &Client) -> Result<Option<Arc<Frozen>>, PlanError> {
        let Some(wanted) = migration.status.as_ref().and_then(|status| status.plan.clone()) else { return Ok(None) };
        let uid = migration.uid().unwrap_or_default();
        let key = (uid.clone(), wanted.hash.clone());
        if let Some(known) = self.lock().get(&key) {
            return Ok(Some(known.clone()));
        }
        let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &migration.namespace().unwrap_or_default());
        let name = wanted.revision;
        let found = api.get_opt(&name).await.map_err(|source| PlanError::Api { name: name.clone(), source })?;
        let Some(revision) = found else { return Ok(None) };
        let foreign = || PlanError::Foreign { name: name.clone(), hash: wanted.hash.clone() };
        let frozen = Arc::new(revision.data.and_then(|data| thaw(data.0, &wanted.hash)).ok_or_else(foreign)?);
        self.lock().insert(key, frozen.clone());
        Ok(Some(frozen))
    }

    /// Forgets what is known of a Migration that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().retain(|(owner, _), _| owner != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<Frozen>>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

/// The plan of this hash, if that is what is stored.
fn thaw(data: serde_json::Value, hash: &str) -> Option<Frozen> {
    let as_written = Plan::hash_of(data.get("spec")?, data.get("scripts")?);
    let Stored { spec, scripts } = serde_json::from_value(data).ok()?;
    // A server may write a number otherwise than it was given, such as 1 for 1.0.
    if as_written != hash && freeze(&spec, scripts.clone()).plan.hash != hash {
        return None;
    }
    Some(Frozen { plan: Plan { hash: hash.to_owned(), spec }, scripts })
}

fn freeze(spec: &MigrationSpec, scripts: Scripts) -> Frozen {
    let extra = serde_json::to_value(&scripts).expect("scripts are plain data");
    Frozen { plan: Plan::freeze(spec, &extra), scripts }
}

/// What the spec would freeze to now. Scripts of phases that have begun stay what they were.
pub async fn candidate(
    migration: &Migration,
    frozen: Option<&Frozen>,
    client: &Client,
) -> Result<Frozen, Vec<Finding>> {
    let mut resolved = Scripts::new();
    let mut findings = Vec::new();
    for (index, phase) in migration.spec.phases.iter().enumerate() {
        let Action::Sql(sql) = plan::action(phase) else { continue };
        if let Some(kept) =
            frozen.filter(|_| has_begun(migration, &phase.name)).and_then(|f| f.scripts.get(&phase.name))
        {
            resolved.insert(phase.name.clone(), kept.clone());
            continue;
        }
        let path = format!("spec.phases[{index}].sql");
        let namespace = migration.namespace().unwrap_or_default();
        let reader = Reader { client, namespace: &namespace, path: &path };
        let found = match &sql.from {
            Some(source) => reader.whole(&source.config_map).await,
            None => reader.pair(&phase.name, sql.up.as_ref(), sql.down.as_ref()).await,
        };
        match found {
            Ok(scripts) => {
                let missing = scripts.iter().find(|script| script.down.is_none());
                if let Some(script) = missing.filter(|_| sql.on_rollback == crate::api::OnRollback::Down) {
                    let name = &script.name;
                    findings.push(refuse(&path, format!("script {name} has no down script, and onRollback is Down")));
                }
                resolved.insert(phase.name.clone(), scripts);
            }
            Err(finding) => findings.push(finding),
        }
    }
    if findings.is_empty() { Ok(freeze(&migration.spec, resolved)) } else { Err(findings) }
}

fn has_begun(migration: &Migration, phase: &str) -> bool {
    let phases = migration.status.iter().flat_map(|status| &status.phases);
    phases.into_iter().any(|known| known.name == phase && known.state != PhaseState::Pending)
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
    path: &'a str,
}

impl Reader<'_> {
    async fn config_map(&self, name: &str) -> Result<BTreeMap<String, String>, Finding> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), self.namespace);
        match api.get_opt(name).await {
            Ok(Some(map)) => Ok(map.data.unwrap_or_default()),
            Ok(None) => {
                Err(refuse(self.path, format!("ConfigMap {name} does not exist in namespace {}", self.namespace)))
            }
            Err(error) => Err(wait(self.path, format!("ConfigMap {name} could not be read: {error}"))),
        }
    }

    async fn whole(&self, name: &str) -> Result<Vec<VersionedScript>, Finding> {
        let data = self.config_map(name).await?;
        scripts::from_config_map(&data).map_err(|error| refuse(self.path, format!("ConfigMap {name}: {error}")))
    }

    async fn pair(
        &self,
        phase: &str,
        up: Option<&Script>,
        down: Option<&Script>,
    ) -> Result<Vec<VersionedScript>, Finding> {
        let up = match up {
            Some(script) => self.text(script).await?,
            None => return Err(refuse(self.path, "there is no script: write `up` or `from`")),
        };
        let down = match down {
            Some(script) => Some(self.text(script).await?),
            None => None,
        };
        scripts::inline(phase, &up, down.as_deref()).map_err(|error| refuse(self.path, error.to_string()))
    }

    async fn text(&self, script: &Script) -> Result<String, Finding> {
        if let Some(inline) = &script.inline {
            return Ok(inline.clone());
        }
        let Some(key) = &script.config_map_key else {
            return Err(refuse(self.path, "a script is either `inline` or a `configMapKey`"));
        };
        let mut data = self.config_map(&key.name).await?;
        data.remove(&key.key).ok_or_else(|| refuse(self.path, format!("ConfigMap {} has no key {}", key.name, key.key)))
    }
}

/// Writes a plan down. "Already exists" is success if it holds the same plan.
pub async fn store(migration: &Migration, name: &str, frozen: &Frozen, client: &Client) -> Result<(), PlanError> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &migration.namespace().unwrap_or_default());
    let stored = Stored { spec: frozen.plan.spec.clone(), scripts: frozen.scripts.clone() };
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([
                (UID_LABEL.to_owned(), migration.uid().unwrap_or_default()),
                (NAME_LABEL.to_owned(), migration.name_any()),
            ])),
            owner_references: Some(migration.controller_owner_ref(&()).into_iter().collect()),
            // A cascading deletion would take the plan before its rollback is over.
            finalizers: Some(vec![CHILD_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(serde_json::to_value(&stored).expect("a plan is plain data"))),
        revision: migration.metadata.generation.unwrap_or(0),
    };
    match create(client, &api, &revision).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let live = api.get(name).await.map_err(|source| PlanError::Api { name: name.to_owned(), source })?;
            let ours = live.labels().get(UID_LABEL) == migration.uid().as_ref();
            let hash = frozen.plan.hash.clone();
            if ours && live.data.is_some_and(|data| thaw(data.0, &hash).is_some()) {
                Ok(())
            } else {
                Err(PlanError::Foreign { name: name.to_owned(), hash })
            }
        }
        Err(source) => Err(PlanError::Api { name: name.to_owned(), source }),
    }
}

/// Creates a revision with its data written as Go's encoder would write it.
///
/// The API server compares a revision's data byte for byte, and its own encoder rewrites these characters whenever the
/// object is patched: written otherwise, not even its finalizer could be taken off again ("data: field is immutable").
async fn create(
    client: &Client,
    api: &Api<ControllerRevision>,
    revision: &ControllerRevision,
) -> Result<ControllerRevision, kube::Error> {
    let text = serde_json::to_string(revision).map_err(kube::Error::SerdeError)?;
    let text = ['<', '>', '&', '\u{2028}', '\u{2029}']
        .into_iter()
        .fold(text, |text, c| text.replace(c, &format!("\\u{:04x}", u32::from(c))));
    let request = kube::core::Request::new(api.resource_url())
        .create(&PostParams::default(), text.into_bytes())
        .map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A plan as the first release stored it.
    fn stored() -> serde_json::Value {
        json!({
            "spec": {
                "deletionPolicy": "Rollback",
                "guards": [{
                    "name": "errors", "query": "sum(rate(errors[1m]))", "max": 0.01, "interval": "1s",
                    "noData": "Hold", "nan": "Hold", "unavailable": "Hold", "lowTraffic": "Hold",
                    "onBreach": "Rollback",
                }],
                "phases": [
                    {
                        "name": "expand",
                        "sql": { "store": "inventory", "up": { "inline": "select 1" }, "onRollback": "Keep" },
                    },
                    { "name": "bake", "bake": { "for": "10m" } },
                ],
                "stores": [{ "name": "inventory", "postgres": { "secretRef": { "name": "db", "key": "uri" } } }],
            },
            "scripts": { "expand": [] },
        })
    }

    #[test]
    fn a_stored_plan_keeps_its_hash_in_every_release() {
        let known = thaw(stored(), "c136b0f800").expect("it holds the plan of this hash");
        assert_eq!(known.plan.hash, "c136b0f800");
        assert_eq!(known.plan.phases().len(), 2);
    }

    #[test]
    fn a_field_that_the_release_which_froze_the_plan_did_not_know_changes_no_hash() {
        let mut older = stored();
        older["spec"].as_object_mut().expect("an object").remove("deletionPolicy");
        let hash = Plan::hash_of(&older["spec"], &older["scripts"]);
        assert!(thaw(older, &hash).is_some());
    }

    #[test]
    fn a_plan_that_was_changed_is_foreign() {
        let mut changed = stored();
        changed["spec"]["guards"][0]["max"] = json!(0.5);
        assert!(thaw(changed, "c136b0f800").is_none());
    }
}
