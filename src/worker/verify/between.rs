//! Verifying between two stores: who they are, which tables, and then table by table.

use std::{collections::BTreeMap, sync::Mutex};

use tokio_util::sync::CancellationToken;

use super::{
    evidence::{Evidence, LeftOut},
    halt::{Halt, Patience},
    pool::{Opening, Pool, store_seen},
    table::TableRun,
    task::{BarrierTask, DEFAULT_STATEMENT_TIMEOUT, VerifyRole, VerifyTask},
};
use crate::{
    api::{
        Percent,
        verify::{Equal, Repair},
    },
    stores::postgres::{
        Postgres, Session,
        barrier::{self, Heartbeat},
        catalog::{self, Pattern, Relation, Table},
        checksum::{self, Method, ValueKind, pin_settings},
        duplicates,
        ident::QualifiedName,
    },
    worker::task::StoreRef,
};

/// What a verification between two stores goes by.
pub(super) struct Context<'a> {
    pub task: &'a VerifyTask,
    pub from: &'a StoreRef,
    pub to: &'a StoreRef,
    /// Absent between stores at rest.
    pub heartbeat: Option<Heartbeat>,
    pub stop: &'a CancellationToken,
}

impl Context<'_> {
    /// The share of rows to compare, from 0 to 1; none where rows are only counted.
    pub fn sample(&self) -> Option<f64> {
        self.task.action.sample().map(Percent::fraction)
    }

    /// Whether differences are repaired.
    pub fn repairs(&self) -> bool {
        match self.task.action.repair {
            Repair::Report => false,
            Repair::Fix => true,
        }
    }

    /// By what two values of a kind are equal.
    pub fn equal(&self, kind: ValueKind) -> Equal {
        let policies = &self.task.action.equality;
        match kind {
            ValueKind::Numeric => policies.numeric,
            ValueKind::Float => policies.float,
            ValueKind::Interval => policies.interval,
            ValueKind::Jsonb => policies.jsonb,
            ValueKind::Other => policies.other,
            ValueKind::None => Equal::Text,
        }
    }

    /// Lets a statement over a whole table take its time, until the transaction ends. It can still be cancelled.
    pub async fn without_limit(&self, sessions: &[&Session]) -> Result<(), Halt> {
        for session in sessions {
            session.run("SET LOCAL statement_timeout = 0").await?;
        }
        Ok(())
    }
}

/// Verifies. What was seen is in `evidence`, also when it ends early.
pub(super) async fn verify(ctx: &Context<'_>, evidence: &Mutex<Evidence>) -> Result<(), Halt> {
    let name = ctx.task.application_name();
    let (from, to) = (Postgres::new(&ctx.from.uri_file, &name), Postgres::new(&ctx.to.uri_file, &name));
    // What can be cut into smaller pieces gets the task's own limit; a question of the catalog can't.
    let statement_timeout = ctx.task.statement_timeout.0.max(DEFAULT_STATEMENT_TIMEOUT.0);
    let opening = Opening { statement_timeout, stop: ctx.stop };
    let mut patience = Patience::new(ctx.task.retry, ctx.stop);
    let mut runs: Option<Vec<TableRun>> = None;
    loop {
        let attempt = async {
            let pool = Box::pin(Pool::open(opening, &from, &to, ctx.task.action.connections())).await?;
            same_stores(ctx, &pool, evidence).await?;
            if runs.is_none() {
                runs = Some(prepare(ctx, opening, &from, &to, &pool, evidence).await?);
            }
            match ctx.task.role {
                VerifyRole::Preflight => return Ok(()),
                VerifyRole::Verify => {}
            }
            if let Some(heartbeat) = &ctx.heartbeat {
                heartbeat.prepare(pool.from()).await?;
            }
            for run in runs.iter_mut().flatten() {
                let end = run.run(ctx, &pool, &mut patience).await;
                note(evidence, run);
                end?;
            }
            Ok(())
        };
        match Box::pin(attempt).await {
            Err(Halt::Lost(why)) => patience.again(&why).await?,
            end => return end,
        }
    }
}

/// Puts what was seen of a table into the evidence, in place of what was there before.
fn note(evidence: &Mutex<Evidence>, run: &TableRun) {
    let mut evidence = lock(evidence);
    match evidence.tables.iter_mut().find(|table| table.name == run.seen.name) {
        Some(table) => table.clone_from(&run.seen),
        None => evidence.tables.push(run.seen.clone()),
    }
}

fn lock(evidence: &Mutex<Evidence>) -> std::sync::MutexGuard<'_, Evidence> {
    evidence.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes sure that the stores are two, and the same ones as before a connection was lost.
async fn same_stores(ctx: &Context<'_>, pool: &Pool, evidence: &Mutex<Evidence>) -> Result<(), Halt> {
    let seen = vec![store_seen(pool.from(), &ctx.from.name).await?, store_seen(pool.to(), &ctx.to.name).await?];
    if seen[0].system_identifier == seen[1].system_identifier && seen[0].database == seen[1].database {
        return Err(Halt::Refused(format!(
            "The stores {} and {} are one database; compared with itself it would always be equal.",
            ctx.from.name, ctx.to.name
        )));
    }
    let mut evidence = lock(evidence);
    if !evidence.stores.is_empty() && evidence.stores != seen {
        return Err(Halt::Failed(
            "A store is another server than when the verification began, or has failed over since; it must begin anew."
                .to_owned(),
        ));
    }
    evidence.stores = seen;
    Ok(())
}

/// Finds out what is to be compared and how.
async fn prepare(
    ctx: &Context<'_>,
    opening: Opening<'_>,
    from: &Postgres,
    to: &Postgres,
    pool: &Pool,
    evidence: &Mutex<Evidence>,
) -> Result<Vec<TableRun>, Halt> {
    let action = &ctx.task.action;
    let refuse = |error: &dyn std::fmt::Display| Halt::Refused(format!("{error}."));
    let ignore: Result<Vec<_>, _> = action.ignore.iter().map(|text| Pattern::parse(text, 3)).collect();
    let ignore = ignore.map_err(|error| refuse(&error))?;
    // With the role's own search path, by which unqualified names go.
    let session = opening.plain(from).await?;
    let relations = catalog::relations(&session).await?;
    let mut selection = catalog::select(&action.tables, &relations).map_err(|error| refuse(&error))?;
    // A barrier on the heartbeat's own table would wait for itself.
    let is_heartbeat = |name: &QualifiedName| ctx.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.table() == name);
    selection.tables.retain(|relation| !is_heartbeat(&relation.name));
    pin_settings(&session).await?;
    let here = catalog::tables(&session, &selection.tables).await?;
    let there = on_the_other_side(&opening.pinned(to).await?, &here).await?;
    let (method, method_name) = method(pool).await?;
    let trim = action.equality.numeric == Equal::Value;
    let seed = lock(evidence).seed;
    let (mut runs, mut wrong) = (Vec::new(), Vec::new());
    for table in &here {
        let Some(other) = there.get(&table.relation.name) else {
            wrong.push(format!("{} is not there in store {}", table.relation, ctx.to.name));
            continue;
        };
        match checksum::plan(table, other, &ignore, trim) {
            Ok(comparison) => {
                let suspicions = duplicates::suspicions(table, other);
                runs.push(TableRun::new(comparison, method, seed, ctx.sample(), suspicions));
            }
            Err(why) => wrong.push(why.to_string()),
        }
        if let (Some(_), Some(why)) = (&ctx.heartbeat, out_of_step(ctx, pool, &table.relation.name).await?) {
            wrong.push(why);
        }
    }
    if !wrong.is_empty() {
        return Err(Halt::Refused(format!("{}.", wrong.join("; "))));
    }
    let mut evidence = lock(evidence);
    evidence.method = Some(method_name);
    let left_out = selection.left_out.iter();
    evidence.left_out =
        left_out.map(|(name, why)| LeftOut { name: name.to_string(), why: (*why).to_owned() }).collect();
    Ok(runs)
}

/// The tables of the same names on the other side.
async fn on_the_other_side(session: &Session, here: &[Table]) -> Result<BTreeMap<QualifiedName, Table>, Halt> {
    let relations: Vec<Relation> = catalog::relations(session).await?;
    let named = relations.into_iter().filter(|relation| {
        relation.kind.objection().is_none() && here.iter().any(|table| table.relation.name == relation.name)
    });
    let tables = catalog::tables(session, &named.collect::<Vec<_>>()).await?;
    Ok(tables.into_iter().map(|table| (table.relation.name.clone(), table)).collect())
}

/// How rows are hashed: the fastest way in which both servers come to the same for a known row.
async fn method(pool: &Pool) -> Result<(Method, String), Halt> {
    for method in Method::ALL {
        let (here, there) = (method.known_vector(pool.from()).await, method.known_vector(pool.to()).await);
        // An old server may not know one of the types; then the next way is tried.
        if let (Ok(here), Ok(there)) = (&here, &there)
            && here == there
        {
            return Ok((method, method.as_str().to_owned()));
        }
        for answer in [here, there] {
            match answer {
                Ok(_) | Err(crate::stores::postgres::QueryError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(Halt::Refused("The two servers come to different digests of a known row; they can't be compared.".to_owned()))
}

/// Why the heartbeat would say nothing of a table.
async fn out_of_step(ctx: &Context<'_>, pool: &Pool, table: &QualifiedName) -> Result<Option<String>, Halt> {
    let BarrierTask::Replication { schema, table: heartbeat } = &ctx.task.barrier else { return Ok(None) };
    let heartbeat = QualifiedName { schema: schema.clone(), name: heartbeat.clone() };
    let (links, beats) = (barrier::links(pool.to(), table).await?, barrier::links(pool.to(), &heartbeat).await?);
    let [link] = links.as_slice() else {
        return Ok(Some(match links.len() {
            0 => format!("{table} comes by no subscription of store {}", ctx.to.name),
            _ => format!("{table} comes by several subscriptions of store {}", ctx.to.name),
        }));
    };
    let why = if !beats.iter().any(|beat| beat.subscription == link.subscription) {
        format!(
            "the heartbeat's table {heartbeat} does not come by the subscription {} that feeds it",
            link.subscription
        )
    } else if !link.enabled {
        format!("the subscription {} that feeds it is disabled", link.subscription)
    } else if !link.in_step {
        format!("the subscription {} is still copying it", link.subscription)
    } else {
        return Ok(None);
    };
    Ok(Some(format!("{table} can't be compared: {why}")))
}
