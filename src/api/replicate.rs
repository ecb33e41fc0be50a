//! Keeping one store in step with another, and what a switch between two stores fences with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    scalar::{Span, Time},
    spec::SecretKey,
};

/// Keeps the new store in step with the old: the first copy, then every change as it is committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicateAction {
    /// Name of the store that is copied, from `spec.stores`.
    #[schemars(length(min = 1, max = 63))]
    pub from: String,
    /// Name of the store that is kept in step. Its tables must be there and empty.
    #[schemars(length(min = 1, max = 63))]
    pub to: String,
    /// Tables by schema and name; `*` stands for any run of characters. Example: `[public.*]`.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 127), regex(pattern = r"^[^.]+\.[^.]+$")))]
    pub tables: Vec<String>,
    /// How many tables, or parts of a large one, are copied at once. Default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub parallelism: Option<u8>,
    /// Whether the new store feeds the old one from the cut-over to the end of the bake, so that going back loses nothing. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub way_back: bool,
    /// Lets the copy begin although a server keeps any amount of WAL for a slot that nobody reads (`max_slot_wal_keep_size = -1`), which can fill its disk. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlimited_wal: bool,
}

/// Copiers at once unless the spec says otherwise.
pub const DEFAULT_PARALLELISM: u8 = 4;

impl ReplicateAction {
    /// Copiers at once.
    pub fn copiers(&self) -> u8 {
        self.parallelism.unwrap_or(DEFAULT_PARALLELISM).max(1)
    }
}

/// How writes are held while traffic moves from one store to another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// The PgBouncer that clients come through: they wait there instead of failing. Without it, a client that writes during the cut-over gets SQLSTATE 25006 and must connect and try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pgbouncer: Option<PgBouncer>,
    /// How long clients may be made to wait before the attempt is given up, to be made again later. Default: `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// Port of the switched Service at which the stores answer: the agent asks there which of them it leads to. Default: 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
}

/// Where the stores answer behind their Service, unless the spec says otherwise.
pub const DEFAULT_STORE_PORT: u16 = 5432;
/// How long writes may be held, unless the spec says otherwise.
pub const DEFAULT_FENCE_DEADLINE: Span = Span::secs(5);

impl Fence {
    /// How long writes may be held.
    pub fn deadline(&self) -> Span {
        self.deadline.unwrap_or(DEFAULT_FENCE_DEADLINE)
    }

    /// Where the stores answer behind their Service.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_STORE_PORT)
    }
}

/// A PgBouncer, each replica of which is paused and resumed by its admin console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PgBouncer {
    /// Secret in the same namespace whose key holds the admin console's URI (`postgres://admin:password@host:6432/pgbouncer`).
    pub admin_secret_ref: SecretKey,
    /// A headless Service whose addresses are the replicas. Default: every address of the URI's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub service: Option<String>,
    /// Name of the database in PgBouncer's configuration.
    #[schemars(length(min = 1, max = 63))]
    pub database: String,
}

/// What happens when going back from one store to another can't fence the new store in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnFenceTimeout {
    /// Traffic moves all the same. Writes that had not reached the old store stay behind on the new one; how many is told.
    PreferTraffic,
    /// Traffic stays until it can move without losing a write.
    PreferData,
}

/// How two stores stand that are kept in step: where writes go, and what the agent was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicationStatus {
    /// Name of the phase that keeps them in step.
    pub phase: String,
    /// Moves of writes from one store to the other that were committed: after an odd number the new store takes them.
    pub term: u32,
    /// The term that the agent was told to move to; absent while it is told to stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered: Option<u32>,
    /// When it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordered_at: Option<Time>,
    /// Number of what it was told last; it obeys no lower one.
    pub epoch: u64,
    /// How long clients waited at the last move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Span>,
    /// Traffic moved by force, and so much of the WAL of the store that it left had not been replicated, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_behind: Option<i64>,
    /// The agent has been told for the last time to leave writes where they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parting: bool,
    /// The agent is being dismissed and the streams taken away: from here on going back would lose writes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_writes_is_read_and_the_rest_has_defaults() {
        let action: ReplicateAction = serde_json::from_value(serde_json::json!({
            "from": "blue", "to": "green", "tables": ["public.*"], "parallelism": 4, "wayBack": true
        }))
        .unwrap();
        assert!(action.way_back && !action.unlimited_wal);
        let fence: Fence = serde_json::from_value(serde_json::json!({
            "pgbouncer": {
                "adminSecretRef": {"name": "pgbouncer-admin", "key": "uri"},
                "service": "pgbouncer-pods",
                "database": "orders"
            },
            "deadline": "5s"
        }))
        .unwrap();
        assert_eq!(fence.deadline(), DEFAULT_FENCE_DEADLINE);
        assert_eq!(Fence::default().deadline(), DEFAULT_FENCE_DEADLINE);
        let few: ReplicateAction =
            serde_json::from_value(serde_json::json!({"from": "a", "to": "b", "tables": ["s.t"]})).unwrap();
        assert_eq!(few.copiers(), DEFAULT_PARALLELISM);
        // Structural schemas know no `additionalProperties: false`.
        let schema = serde_json::to_string(&schemars::schema_for!(ReplicateAction)).unwrap();
        assert!(!schema.contains("additionalProperties"), "{schema}");
    }
}
