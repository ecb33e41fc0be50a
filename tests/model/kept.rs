//! A value with its hash: states share it, and comparing two costs nothing.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

use alongside::api::{MigrationStatus, Time};

/// A shared value that is compared by its hash.
#[derive(Clone, Debug)]
pub struct Kept<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Hash> Kept<T> {
    pub fn new(value: T) -> Self {
        let hash = hash_of(&value);
        Self { hash, value: Arc::new(value) }
    }
}

impl Kept<MigrationStatus> {
    /// Keeps a status without what no decision reads: texts, the audit trail, and times that are only shown. The test
    /// `the_model_forgets_nothing_that_the_engine_reads` compares decisions with and without.
    pub fn status(mut status: MigrationStatus) -> Self {
        const SHOWN: Time = Time(0);
        status.history.clear();
        status.guards.clear();
        status.conditions.clear();
        status.message.clear();
        status.next = None;
        status.progress.clear();
        status.baselines.clear();
        if let Some(hold) = &mut status.hold {
            hold.deadline = None;
            hold.on_deadline = None;
        }
        if let Some(plan) = &mut status.plan {
            plan.adopted_at = SHOWN;
        }
        for phase in &mut status.phases {
            phase.finished_at = phase.finished_at.map(|_| SHOWN);
            phase.message = phase.message.as_ref().map(|_| String::new());
        }
        if let Some(rollback) = &mut status.rollback {
            rollback.message.clear();
            rollback.sample_at = None;
            rollback.seen_at = SHOWN;
            for at in [
                &mut rollback.new_connections_restored,
                &mut rollback.drained,
                &mut rollback.jobs_stopped,
                &mut rollback.undone,
                &mut rollback.done,
            ] {
                *at = at.map(|_| SHOWN);
            }
        }
        let text = serde_json::to_string(&status).expect("a status is plain data");
        Self { hash: hash_of(&text), value: Arc::new(status) }
    }
}

pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl<T> Deref for Kept<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<T> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Kept<T> {}
