//! The plan: the spec as it was when it was frozen, with every question about it answered once.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::api::{
    Approval, BackfillAction, BakeAction, Guard, JobAction, MigrationSpec, ObserveAction, OnRollback, Phase,
    ReplicateAction, SqlAction, SwitchAction, VerifyAction, backfill::Sync,
};

use super::world::{Finding, Weight};

/// A frozen plan. Effects come from nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Hash over all that the plan holds; verbs are bound to it.
    pub hash: String,
    /// The spec at the time. Its `until`, its `deletionPolicy` and the pace of its backfills are not the plan's: they are
    /// read from the live object.
    pub spec: MigrationSpec,
}

/// A phase's action, one variant a kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action<'a> {
    /// Runs scripts.
    Sql(&'a SqlAction),
    /// Runs a Job of the user's.
    Job(&'a JobAction),
    /// Keeps one store in step with another.
    Replicate(&'a ReplicateAction),
    /// Fills new columns.
    Backfill(&'a BackfillAction),
    /// Proves data right.
    Verify(&'a VerifyAction),
    /// Moves traffic.
    Switch(&'a SwitchAction),
    /// Holds until a query satisfies.
    Observe(&'a ObserveAction),
    /// Keeps the old side.
    Bake(&'a BakeAction),
    /// Waits for a person and does nothing else.
    Approval,
}

impl Action<'_> {
    /// The kind's name, as in the spec.
    pub fn kind(self) -> &'static str {
        match self {
            Action::Sql(_) => "sql",
            Action::Job(_) => "job",
            Action::Replicate(_) => "replicate",
            Action::Backfill(_) => "backfill",
            Action::Verify(_) => "verify",
            Action::Switch(_) => "switch",
            Action::Observe(_) => "observe",
            Action::Bake(_) => "bake",
            Action::Approval => "approval",
        }
    }
}

/// What taking a phase back means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Traffic moves back: lane 1.
    Traffic,
    /// A Job runs: lane 3.
    Job,
    /// Nothing has to be done.
    Nothing {
        /// Why not.
        because: &'static str,
    },
}

/// Tries of a `sql` or `job` action where the spec says nothing: the first and two more.
pub const DEFAULT_RETRIES: u32 = 2;

impl Plan {
    /// Freezes a spec. `extra` is whatever else the plan's effects depend on, such as the text of scripts.
    pub fn freeze(spec: &MigrationSpec, extra: &serde_json::Value) -> Self {
        let mut frozen = spec.clone();
        frozen.until = None;
        frozen.deletion_policy = crate::api::DeletionPolicy::default();
        frozen.phases.iter_mut().for_each(drop_pace);
        let spec_json = serde_json::to_value(&frozen).expect("a spec that was read as JSON can be written as JSON");
        Self { hash: Self::hash_of(&spec_json, extra), spec: frozen }
    }

    /// The hash of a plan by what is written down of it. A release that knows more fields would write a spec otherwise
    /// than the one that froze it, so a plan is known by its text and not by what it is read as.
    pub fn hash_of(spec: &serde_json::Value, extra: &serde_json::Value) -> String {
        let mut text = String::new();
        canonical(spec, &mut text);
        canonical(extra, &mut text);
        hex(&Sha256::digest(text.as_bytes())[..5])
    }

    /// The phases in order.
    pub fn phases(&self) -> &[Phase] {
        &self.spec.phases
    }

    /// The phase of this name.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases().iter().find(|phase| phase.name == name)
    }

    /// Position of a phase.
    pub fn index_of(&self, phase: &str) -> Option<usize> {
        self.phases().iter().position(|p| p.name == phase)
    }

    /// Position of the first phase after which there is no way back.
    pub fn point_of_no_return(&self) -> Option<usize> {
        self.phases().iter().position(|p| p.point_of_no_return)
    }

    /// What the phases say that can't be true at once. Admission refuses most of it; a plan that got past it is refused
    /// before its first effect.
    pub fn contradictions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut moved = BTreeSet::new();
        for (index, phase) in self.phases().iter().enumerate() {
            let Some(switch) = &phase.switch else { continue };
            for service in switch.service_names() {
                if !moved.insert(service) {
                    findings.push(Finding {
                        weight: Weight::Refuse,
                        path: format!("spec.phases[{index}].switch"),
                        message: format!("Service {service} is moved twice; a migration moves each Service once"),
                    });
                }
            }
            if phase.point_of_no_return {
                findings.push(Finding {
                    weight: Weight::Refuse,
                    path: format!("spec.phases[{index}].pointOfNoReturn"),
                    message: "a switch can be taken back: put the point of no return on the phase that can't"
                        .to_owned(),
                });
            }
        }
        findings
    }

    /// The guards that hold during a phase: the migration's, with the phase's own added or put in their place.
    pub fn guards_during(&self, phase: usize) -> Vec<Guard> {
        let own = self.phases().get(phase).map_or(&[][..], |p| &p.guards[..]);
        let kept = self.spec.guards.iter().filter(|g| own.iter().all(|o| o.name != g.name));
        kept.chain(own).cloned().collect()
    }
}

/// The action of a phase.
pub fn action(phase: &Phase) -> Action<'_> {
    let Phase { sql, job, replicate, backfill, verify, switch, observe, bake, .. } = phase;
    let first = [
        sql.as_deref().map(Action::Sql),
        job.as_deref().map(Action::Job),
        replicate.as_deref().map(Action::Replicate),
        backfill.as_deref().map(Action::Backfill),
        verify.as_deref().map(Action::Verify),
        switch.as_deref().map(Action::Switch),
        observe.as_deref().map(Action::Observe),
        bake.as_ref().map(Action::Bake),
    ];
    // Admission lets a phase without an action through only with `approval: Required`, and none with two.
    first.into_iter().flatten().next().unwrap_or(Action::Approval)
}

/// Takes out of a phase how fast it works: that may be changed while it does, and needs no new plan.
fn drop_pace(phase: &mut Phase) {
    if let Some(backfill) = &mut phase.backfill {
        (backfill.throttle, backfill.workers, backfill.rate) = (None, None, None);
    }
}

/// What taking a phase back means.
pub fn undo(phase: &Phase) -> Undo {
    match action(phase) {
        Action::Sql(sql) => match sql.on_rollback {
            OnRollback::Down => Undo::Job,
            OnRollback::Keep => Undo::Nothing { because: "the schema change stays: sql.onRollback is Keep" },
        },
        Action::Job(job) => match &job.undo {
            Some(_) => Undo::Job,
            None => Undo::Nothing { because: "the job has no undo" },
        },
        Action::Replicate(_) | Action::Backfill(_) => Undo::Job,
        Action::Switch(_) => Undo::Traffic,
        Action::Verify(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => {
            Undo::Nothing { because: "it changed nothing" }
        }
    }
}

/// When a phase asks its stores, in a Job, what can be asked before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// It has none.
    Never,
    /// Before the migration's first effect.
    First,
    /// As soon as every earlier phase that may change the schema is done: what it works on may not be there before.
    OnceTheSchemaIsThere,
}

/// When a phase asks its stores.
pub fn asks_stores(phase: &Phase) -> Asks {
    match action(phase) {
        Action::Sql(_) => Asks::First,
        Action::Replicate(_) | Action::Backfill(_) | Action::Verify(_) => Asks::OnceTheSchemaIsThere,
        Action::Job(_) | Action::Switch(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => Asks::Never,
    }
}

/// Whether a phase may make what a later one works on: its tables and columns, or the stream that feeds them.
pub fn makes_what_others_need(phase: &Phase) -> bool {
    match action(phase) {
        Action::Sql(_) | Action::Job(_) | Action::Replicate(_) => true,
        Action::Backfill(_)
        | Action::Verify(_)
        | Action::Switch(_)
        | Action::Observe(_)
        | Action::Bake(_)
        | Action::Approval => false,
    }
}

/// Whether a phase, once done, keeps something up in its stores for as long as there is a way back. It is cleared away at
/// the point of no return, or with the last phase.
pub fn keeps_up(phase: &Phase) -> bool {
    match action(phase) {
        // Its trigger keeps the new columns true for as long as the old side may write.
        Action::Backfill(backfill) => backfill.sync == Sync::Trigger,
        // Its streams, slots and gates.
        Action::Replicate(_) => true,
        Action::Sql(_)
        | Action::Job(_)
        | Action::Verify(_)
        | Action::Switch(_)
        | Action::Observe(_)
        | Action::Bake(_)
        | Action::Approval => false,
    }
}

/// Whether a phase's worker goes on working once the phase is done: for as long as there is a way back.
pub fn conducts(phase: &Phase) -> bool {
    match action(phase) {
        Action::Replicate(_) => true,
        Action::Sql(_)
        | Action::Job(_)
        | Action::Backfill(_)
        | Action::Verify(_)
        | Action::Switch(_)
        | Action::Observe(_)
        | Action::Bake(_)
        | Action::Approval => false,
    }
}

/// Whether a switch leads from one store to another that is kept in step with it: traffic moves only with the writes.
pub fn is_bound(switch: &SwitchAction) -> bool {
    switch.fence.is_some()
}

/// Whether a person must approve before a phase begins.
pub fn needs_approval(phase: &Phase) -> bool {
    match phase.approval {
        Some(Approval::Required) => true,
        Some(Approval::NotRequired) => false,
        None => phase.point_of_no_return,
    }
}

/// How often a failed action is tried in all.
pub fn max_tries(phase: &Phase) -> u32 {
    phase.retries.unwrap_or(DEFAULT_RETRIES) + 1
}

/// Writes JSON with sorted keys, so that the hash depends on what it says and not on who wrote it.
fn canonical(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (key, child) in entries {
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(child, out);
                out.push(',');
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}
