//! The smallest valid Migration, and chained changes to it. Names differ on purpose, so that a swap is caught.

use alongside::{
    api::{
        Approval, BakeAction, DeletionPolicy, Drain, DrainHook, Fence, Guard, JobAction, MigrationSpec, ObserveAction,
        OnBreach, OnFenceTimeout, OnRollback, Percent, Phase, Ratio, Script, Span, SqlAction, Store, SwitchAction,
    },
    engine::{Plan, world::Finding},
};

use k8s_openapi::api::batch::v1::JobTemplateSpec;

use crate::{cluster::labels, stores::COPY};

/// UID of the Migration.
pub const UID: &str = "0f00-ba12";
/// Name of the Migration.
pub const NAME: &str = "inventory-v2";
/// Namespace of the Migration.
pub const NAMESPACE: &str = "shop";
/// The Service that the first switch moves.
pub const STOCK: &str = "stock";
/// The Service that moves together with it where there are two.
pub const ORDERS: &str = "orders";
/// The store that scripts, backfills and verifications work on.
pub const STORE: &str = "ledger";
/// The guard that every Migration here has.
pub const ERRORS: &str = "error-rate";

#[derive(Clone, Debug, Default)]
pub struct Migrating {
    pub spec: MigrationSpec,
}

pub fn phase(name: &str) -> Phase {
    Phase {
        name: name.to_owned(),
        sql: None,
        job: None,
        replicate: None,
        backfill: None,
        verify: None,
        switch: None,
        observe: None,
        bake: None,
        approval: None,
        guards: vec![],
        timeout: None,
        retries: None,
        point_of_no_return: false,
    }
}

pub fn guard(name: &str) -> Guard {
    Guard {
        name: name.to_owned(),
        provider: None,
        ratio: Some(Ratio { errors: "errors".to_owned(), total: "total".to_owned(), min_rate: None }),
        query: None,
        max: Some(0.01),
        min: None,
        max_increase: None,
        max_decrease: None,
        min_delta: None,
        baseline_window: None,
        for_: None,
        consecutive: None,
        on_breach: OnBreach::Rollback,
        dry_run: false,
        interval: None,
        timeout: None,
        max_age: None,
        warm_up: None,
        no_data: alongside::api::HoldPolicy::Hold,
        nan: alongside::api::HoldPolicy::Hold,
        unavailable: alongside::api::HoldPolicy::Hold,
        low_traffic: alongside::api::HoldPolicy::Hold,
        hold_budget: None,
    }
}

/// A Migration with one guard and no phase yet.
pub fn migration() -> Migrating {
    let mut spec = MigrationSpec::default();
    spec.guards.push(guard(ERRORS));
    Migrating { spec }
}

impl Migrating {
    fn with(mut self, phase: Phase) -> Self {
        self.spec.phases.push(phase);
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Phase)) -> Self {
        change(self.spec.phases.last_mut().expect("a phase comes before its changes"));
        self
    }

    fn with_store(mut self) -> Self {
        if self.spec.stores.is_empty() {
            let secret_ref = alongside::api::SecretKey { name: "ledger-db".to_owned(), key: "uri".to_owned() };
            let postgres = alongside::api::PostgresStore { secret_ref };
            self.spec.stores.push(Store { name: STORE.to_owned(), postgres });
        }
        self
    }

    /// A backfill whose trigger stays for as long as there is a way back.
    pub fn backfill(self, name: &str) -> Self {
        let backfill = serde_json::json!({
            "store": STORE, "table": "item", "set": {"sku": "upper(code)"}, "where": "sku IS NULL", "sync": "Trigger",
        });
        let backfill = serde_json::from_value(backfill).expect("it is a backfill");
        self.with_store().with(Phase { backfill: Some(Box::new(backfill)), ..phase(name) })
    }

    /// A proof that every row holds what it should.
    pub fn verify(self, name: &str) -> Self {
        let verify = serde_json::json!({ "store": STORE, "table": "item", "expect": ["sku = upper(code)"] });
        let verify = serde_json::from_value(verify).expect("it is a verification");
        self.with_store().with(Phase { verify: Some(Box::new(verify)), ..phase(name) })
    }

    pub fn sql(self, name: &str) -> Self {
        let up = Some(Script { inline: Some("ALTER TABLE item ADD sku text".to_owned()), config_map_key: None });
        let down = Some(Script { inline: Some("ALTER TABLE item DROP sku".to_owned()), config_map_key: None });
        let sql = SqlAction {
            store: STORE.to_owned(),
            up,
            down,
            from: None,
            on_rollback: OnRollback::Down,
            lock_timeout: None,
            statement_timeout: None,
            lint: None,
        };
        self.with_store().with(Phase { sql: Some(Box::new(sql)), ..phase(name) })
    }

    /// A Job with an undo.
    pub fn job(self, name: &str) -> Self {
        let job = JobAction { template: JobTemplateSpec::default(), undo: Some(JobTemplateSpec::default()) };
        self.with(Phase { job: Some(Box::new(job)), ..phase(name) })
    }

    /// A Job without an undo.
    pub fn one_way_job(self, name: &str) -> Self {
        let job = JobAction { template: JobTemplateSpec::default(), undo: None };
        self.with(Phase { job: Some(Box::new(job)), ..phase(name) })
    }

    pub fn switch(self, name: &str, services: &[&str]) -> Self {
        let switch = SwitchAction {
            service: None,
            services: services.iter().map(|&service| service.to_owned()).collect(),
            from: labels(&[("version", "v1")]),
            to: labels(&[("version", "v2")]),
            drain: Some(Drain { hook: Some(DrainHook { path: "/leave".to_owned(), port: 8081 }), ..Drain::default() }),
            capacity: None,
            keep_old: None,
            fence: None,
            on_fence_timeout: None,
        };
        self.with(Phase { switch: Some(Box::new(switch)), ..phase(name) })
    }

    /// The last switch moves traffic together with the writes.
    pub fn fenced(self) -> Self {
        self.last(|phase| {
            let switch = phase.switch.as_mut().expect("a switch");
            switch.fence = Some(Fence { deadline: Some(Span::secs(3)), ..Fence::default() });
            switch.on_fence_timeout = Some(OnFenceTimeout::PreferData);
        })
    }

    /// Keeps a new store in step with the old one.
    pub fn replicate(self) -> Self {
        let replicate = serde_json::json!({
            "from": STORE, "to": "ledger-17", "tables": ["public.*"], "wayBack": true,
        });
        let replicate = serde_json::from_value(replicate).expect("it is a replication");
        self.with_store().with(Phase { replicate: Some(Box::new(replicate)), ..phase(COPY) })
    }

    pub fn observe(self, name: &str, seconds: u64) -> Self {
        let observe = ObserveAction {
            provider: None,
            ratio: None,
            query: Some("mismatches".to_owned()),
            max: Some(0.0),
            min: None,
            for_: Span::secs(seconds),
            interval: None,
            max_age: None,
        };
        self.with(Phase { observe: Some(Box::new(observe)), ..phase(name) })
    }

    pub fn bake(self, name: &str, seconds: u64) -> Self {
        self.with(Phase { bake: Some(BakeAction { for_: Span::secs(seconds) }), ..phase(name) })
    }

    pub fn approval(self, name: &str) -> Self {
        self.with(Phase { approval: Some(Approval::Required), ..phase(name) })
    }

    pub fn approved(self) -> Self {
        self.last(|phase| phase.approval = Some(Approval::Required))
    }

    /// The last phase can't be taken back, and needs nobody's approval.
    pub fn no_return(self) -> Self {
        self.last(|phase| {
            phase.point_of_no_return = true;
            phase.approval = Some(Approval::NotRequired);
        })
    }

    pub fn timeout(self, seconds: u64) -> Self {
        self.last(|phase| phase.timeout = Some(Span::secs(seconds)))
    }

    pub fn retries(self, retries: u32) -> Self {
        self.last(|phase| phase.retries = Some(retries))
    }

    pub fn change(self, change: impl FnOnce(&mut Phase)) -> Self {
        self.last(change)
    }

    pub fn drain(self, drain: Option<Drain>) -> Self {
        self.last(|phase| phase.switch.as_mut().expect("a switch").drain = drain)
    }

    /// The switch of the plan drains by waiting.
    pub fn drain_wait(mut self, seconds: u64) -> Self {
        let switch = self.spec.phases.iter_mut().find_map(|phase| phase.switch.as_mut()).expect("a switch");
        switch.drain = Some(Drain { wait: Some(Span::secs(seconds)), ..Drain::default() });
        self
    }

    pub fn capacity(self, percent: f64) -> Self {
        self.last(|phase| phase.switch.as_mut().expect("a switch").capacity = Some(Percent(percent)))
    }

    pub fn until(mut self, phase: &str) -> Self {
        self.spec.until = Some(phase.to_owned());
        self
    }

    pub fn orphan(mut self) -> Self {
        self.spec.deletion_policy = DeletionPolicy::Orphan;
        self
    }

    /// Names of the guards of all phases.
    pub fn guards(&self) -> impl Iterator<Item = &str> {
        self.spec.guards.iter().map(|guard| guard.name.as_str())
    }

    pub fn unguarded(mut self) -> Self {
        self.spec.guards.clear();
        self
    }

    pub fn guard(mut self, guard: Guard) -> Self {
        self.spec.guards.retain(|known| known.name != guard.name);
        self.spec.guards.push(guard);
        self
    }

    pub fn plan(&self) -> Plan {
        Plan::freeze(&self.spec, &serde_json::Value::Null)
    }
}

/// A Job, a switch and a bake: the smallest that has something to lose.
pub fn job_switch_bake() -> Migrating {
    migration().job("expand").switch("cut-over", &[STOCK]).bake("bake", 600)
}

pub fn switch_bake() -> Migrating {
    migration().switch("cut-over", &[STOCK]).bake("bake", 600)
}

/// A table's new shape, filled and proven before traffic moves to it.
pub fn backfilled() -> Migrating {
    migration()
        .backfill("backfill")
        .verify("prove")
        .switch("cut-over", &[STOCK])
        .bake("bake", 600)
        .one_way_job("contract")
        .no_return()
        .approved()
}

/// A database that moves: copied, proven, its Service switched with the writes.
pub fn database_move() -> Migrating {
    migration()
        .replicate()
        .switch("cut-over", &[STOCK])
        .fenced()
        .bake("bake", 600)
        .one_way_job("retire")
        .no_return()
        .approved()
}

/// A whole expand and contract.
pub fn expand_contract() -> Migrating {
    job_switch_bake().one_way_job("contract").no_return()
}

pub fn finding(path: &str, message: &str, weight: alongside::engine::world::Weight) -> Finding {
    Finding { weight, path: path.to_owned(), message: message.to_owned() }
}
