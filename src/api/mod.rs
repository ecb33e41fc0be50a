//! The `Migration` resource: spec, status and the rules that its schema carries. No logic, no network.

pub mod access;
pub mod action;
pub mod backfill;
pub mod crd;
pub mod guard;
pub mod replicate;
pub mod rules;
pub mod scalar;
pub mod spec;
pub mod status;
pub mod verify;

pub use action::{
    BakeAction, Drain, DrainHook, JobAction, LintOptions, ObserveAction, OnRollback, Script, ScriptKey, ScriptSource,
    SqlAction, SwitchAction,
};
pub use backfill::BackfillAction;
pub use guard::{Guard, HoldPolicy, OnBreach, Ratio};
pub use replicate::{Fence, OnFenceTimeout, PgBouncer, ReplicateAction, ReplicationStatus};
pub use scalar::{Percent, Span, Time};
pub use spec::{
    Approval, DeletionPolicy, Migration, MigrationSpec, Phase, PodTemplate, PostgresStore, SecretKey, Store,
};
pub use status::*;
pub use verify::VerifyAction;

/// The API group; annotations, labels and finalizers carry it as their prefix.
pub const GROUP: &str = "alongside.dev";
/// Keeps a Migration from vanishing between its first effect and its end.
pub const FINALIZER: &str = "alongside.dev/migration";
/// Keeps a Job or plan from a cascading deletion until its outcome is in status.
pub const CHILD_FINALIZER: &str = "alongside.dev/unsettled";
/// Names the field manager of each write to an object that isn't the operator's own (design section 7).
pub const FIELD_MANAGER: &str = "alongside";
/// On a Service: who moved it last. Every write to the Service is a compare-and-swap on this value.
pub const EPOCH_ANNOTATION: &str = "alongside.dev/epoch";
/// Verb: approves the phase it is bound to (`<phase>@<plan hash>/<attempt>`).
pub const APPROVE_ANNOTATION: &str = "alongside.dev/approve";
/// Who approved; the admission policy forces it to be the requesting user.
pub const APPROVED_BY_ANNOTATION: &str = "alongside.dev/approved-by";
/// Verb: holds every forward step for as long as it is bound to the present phase.
pub const PAUSE_ANNOTATION: &str = "alongside.dev/pause";
/// Verb: stops and takes everything back. The phase may be `*`.
pub const ABORT_ANNOTATION: &str = "alongside.dev/abort";
/// Verb: takes back a migration that went well so far, until the end of its bake. The phase may be `*`.
pub const ROLLBACK_ANNOTATION: &str = "alongside.dev/rollback";
/// Verb: after `RolledBack` begins a new attempt; while `Stalled` tries the stalled step again. The phase may be `*`.
pub const RETRY_ANNOTATION: &str = "alongside.dev/retry";
/// Label on every child: the UID of its Migration.
pub const UID_LABEL: &str = "alongside.dev/migration-uid";
/// Label on every child: the name of its Migration.
pub const NAME_LABEL: &str = "alongside.dev/migration";
/// Label on every child: the phase it was made for.
pub const PHASE_LABEL: &str = "alongside.dev/phase";
