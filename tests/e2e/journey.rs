//! A migration under way, as the person sees it who began it.

use std::time::{Duration, Instant};

use alongside::api::{FINALIZER, Migration, MigrationStatus, PhaseState, PhaseStatus, State};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PropagationPolicy},
    runtime::wait::await_condition,
};
use serde_json::{Value, json};

use crate::home::Home;

/// How long a migration may take to come to where a story waits for it.
const PATIENCE: Duration = Duration::from_secs(90);
/// The person's name, as the API server knows it: the administrator's.
const PERSON: &str = "admin";

/// A migration under way.
pub struct Journey {
    name: String,
    migrations: Api<Migration>,
}

impl Journey {
    /// Begins it.
    pub async fn begins(home: &Home, name: &str, spec: Value) -> Self {
        home.create::<Migration>(json!({ "metadata": { "name": name }, "spec": spec })).await;
        Self::of(home, name)
    }

    /// One that somebody else begins.
    pub fn of(home: &Home, name: &str) -> Self {
        Self { name: name.to_owned(), migrations: home.all() }
    }

    /// The Migration as it is.
    pub async fn object(&self) -> Migration {
        self.migrations.get(&self.name).await.expect("the Migration is there")
    }

    /// Its status as it is.
    pub async fn status(&self) -> MigrationStatus {
        self.object().await.status.unwrap_or_default()
    }

    /// Waits until something is so of it, and returns its status then.
    ///
    /// # Panics
    /// After [`PATIENCE`], with the sentence and what it is like instead.
    pub async fn is(&self, sentence: &str, so: impl Fn(&MigrationStatus) -> bool + Clone + Send) -> MigrationStatus {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let so = so.clone();
            let condition =
                move |seen: Option<&Migration>| seen.and_then(|migration| migration.status.as_ref()).is_some_and(&so);
            let seen = await_condition(self.migrations.clone(), &self.name, condition);
            match tokio::time::timeout(PATIENCE.saturating_sub(begin.elapsed()), seen).await {
                Ok(Ok(migration)) => return migration.and_then(|migration| migration.status).unwrap_or_default(),
                // The API server is away for a moment.
                Ok(Err(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(_) => break,
            }
        }
        panic!("migration {} is not so in time: {sentence}", self.name);
    }

    /// Waits until it is in this state. Another end is no longer waited for.
    pub async fn comes_to(&self, state: State) -> MigrationStatus {
        let ended = |state| matches!(state, State::Succeeded | State::RolledBack);
        let seen = self.is(&format!("it comes to {state:?}"), move |s| s.state == state || ended(s.state)).await;
        assert_eq!(seen.state, state, "{}", seen.message);
        seen
    }

    /// Waits until it holds for this reason.
    pub async fn holds_for(&self, reason: &'static str) -> MigrationStatus {
        let holds = move |status: &MigrationStatus| status.hold.as_ref().is_some_and(|hold| hold.reason == reason);
        self.is(&format!("it holds for {reason}"), holds).await
    }

    /// Waits until this phase is in this state.
    pub async fn has(&self, name: &'static str, state: PhaseState) -> MigrationStatus {
        let so = move |s: &MigrationStatus| s.phases.iter().any(|phase| phase.name == name && phase.state == state);
        self.is(&format!("phase {name} is {state:?}"), so).await
    }

    /// Waits until a guard says this.
    pub async fn hears(&self, guard: &'static str, verdict: &'static str) -> MigrationStatus {
        let so = move |s: &MigrationStatus| s.guards.iter().any(|seen| seen.name == guard && seen.verdict == verdict);
        self.is(&format!("guard {guard} says {verdict}"), so).await
    }

    /// Waits until it has let go of everything and could be deleted.
    pub async fn has_let_go(&self) {
        let free = |seen: Option<&Migration>| {
            seen.is_none_or(|migration| migration.finalizers().iter().all(|finalizer| finalizer != FINALIZER))
        };
        let seen = tokio::time::timeout(PATIENCE, await_condition(self.migrations.clone(), &self.name, free)).await;
        seen.expect("it lets go in time").expect("migrations can be watched");
    }

    /// Waits until it is gone.
    pub async fn is_gone(&self) {
        let gone = |seen: Option<&Migration>| seen.is_none();
        let seen = tokio::time::timeout(PATIENCE, await_condition(self.migrations.clone(), &self.name, gone)).await;
        seen.expect("it is gone in time").expect("migrations can be watched");
    }

    /// Sets a verb, bound to where the migration is now, or to any phase of the plan.
    async fn sets(&self, verb: &str, any: bool) {
        let binding = self.status().await.binding.expect("a plan is frozen");
        let value = if any { binding.replacen(binding.split('@').next().unwrap_or_default(), "*", 1) } else { binding };
        self.annotates(json!({ format!("alongside.dev/{verb}"): value })).await;
    }

    /// Writes annotations.
    pub async fn annotates(&self, annotations: Value) {
        self.patches(json!({ "metadata": { "annotations": annotations } })).await;
    }

    /// Changes the Migration as its owner does.
    pub async fn patches(&self, patch: Value) {
        self.tries_to_patch(patch).await.expect("the Migration can be changed");
    }

    /// Tries to change the Migration as its owner does.
    pub async fn tries_to_patch(&self, patch: Value) -> Result<Migration, kube::Error> {
        self.migrations.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    /// Asks for all to be taken back.
    pub async fn is_aborted(&self) {
        self.sets("abort", true).await;
    }

    /// Asks for another attempt.
    pub async fn is_retried(&self) {
        self.sets("retry", true).await;
    }

    /// Pauses.
    pub async fn is_paused(&self) {
        self.sets("pause", true).await;
    }

    /// Lifts the pause.
    pub async fn is_resumed(&self) {
        self.annotates(json!({ "alongside.dev/pause": null })).await;
    }

    /// Approves the phase that waits.
    pub async fn is_approved(&self) {
        let binding = self.status().await.binding.expect("a plan is frozen");
        self.annotates(json!({ "alongside.dev/approve": binding, "alongside.dev/approved-by": PERSON })).await;
    }

    /// Deletes it, and what it owns, by this policy.
    pub async fn is_deleted(&self, policy: PropagationPolicy) {
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        self.migrations.delete(&self.name, &params).await.expect("the Migration can be deleted");
    }
}

/// How often something stands in the audit trail.
pub fn told(status: &MigrationStatus, what: &str) -> usize {
    status.history.iter().filter(|entry| entry.what == what).count()
}

/// A phase's status.
pub fn phase<'a>(status: &'a MigrationStatus, name: &str) -> &'a PhaseStatus {
    status.phases.iter().find(|phase| phase.name == name).expect("the plan has this phase")
}
