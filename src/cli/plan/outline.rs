//! A plan in words. Pure.

use std::collections::BTreeMap;

use super::super::words::{labels, short, word_of};
use crate::{
    api::{
        Approval, BackfillAction, Drain, Guard, Migration, Phase, PhaseState, ReplicateAction, Script, SqlAction,
        SwitchAction, VerifyAction,
        backfill::{FilledValues, Sync},
    },
    engine::{
        Plan,
        plan::{self, Action, Undo},
        scripts,
    },
};

/// Texts of ConfigMaps, by the ConfigMap's name and the key.
pub type Scripts = BTreeMap<String, BTreeMap<String, String>>;

/// One phase in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// The kind of its action.
    pub kind: &'static str,
    /// How far it is, once it has begun.
    pub state: Option<&'static str>,
    /// What it does.
    pub does: Vec<String>,
    /// What taking it back means.
    pub way_back: String,
    /// Why a person must approve, if one must.
    pub approval: Option<&'static str>,
    /// The guards that hold meanwhile.
    pub guards: String,
    /// How often it is tried and for how long.
    pub tries: Option<String>,
    /// From it on nothing is taken back.
    pub is_first_past_no_return: bool,
}

/// All phases of a migration in words.
pub fn outline(migration: &Migration, scripts: &Scripts) -> Vec<Step> {
    let plan = Plan { hash: String::new(), spec: migration.spec.clone() };
    let no_return = plan.point_of_no_return();
    let is_past = |index: usize| no_return.is_some_and(|first| index >= first);
    let step = |(index, phase): (usize, &Phase)| Step {
        number: index + 1,
        name: phase.name.clone(),
        kind: plan::action(phase).kind(),
        state: state(migration, &phase.name),
        does: does(phase, scripts),
        way_back: if is_past(index) { "none".to_owned() } else { way_back(phase) },
        approval: approval(phase),
        guards: guards(&plan, index),
        tries: tries(phase),
        is_first_past_no_return: no_return == Some(index),
    };
    plan.phases().iter().enumerate().map(step).collect()
}

fn state(migration: &Migration, phase: &str) -> Option<&'static str> {
    let known = migration.status.as_ref()?.phases.iter().find(|known| known.name == phase)?;
    (known.state != PhaseState::Pending).then(|| word_of(known.state))
}

fn does(phase: &Phase, scripts: &Scripts) -> Vec<String> {
    match plan::action(phase) {
        Action::Sql(sql) => of_sql(sql, scripts),
        Action::Job(job) => {
            let pod = job.template.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
            let images = pod.into_iter().flat_map(|pod| &pod.containers);
            let images = images.map(|one| one.image.clone().unwrap_or_else(|| one.name.clone()));
            vec![format!("runs a Job: {}", images.collect::<Vec<_>>().join(", "))]
        }
        Action::Replicate(replicate) => of_replication(replicate),
        Action::Backfill(backfill) => of_backfill(backfill),
        Action::Verify(verify) => of_verification(verify),
        Action::Switch(switch) => of_switch(switch),
        Action::Observe(observe) => {
            let query = observe.query.clone().unwrap_or_else(|| "the ratio of errors".to_owned());
            let bounds =
                [observe.max.map(|max| format!("at most {max}")), observe.min.map(|min| format!("at least {min}"))];
            let bounds = bounds.into_iter().flatten().collect::<Vec<_>>().join(" and ");
            vec![format!("holds until {query} has been {bounds} for {} without a break", short(observe.for_))]
        }
        Action::Bake(bake) => vec![format!("keeps the old side alive for {} of guarded time", short(bake.for_))],
        Action::Approval => vec!["waits for a person, and does nothing else".to_owned()],
    }
}

fn of_sql(sql: &SqlAction, known: &Scripts) -> Vec<String> {
    let wait = sql.lock_timeout.map_or_else(|| "2s".to_owned(), short);
    let mut lines = Vec::new();
    if let Some(source) = &sql.from {
        let map = &source.config_map;
        lines.push(format!("runs the scripts of ConfigMap {map} against store {}", sql.store));
        match known.get(map).map(scripts::from_config_map) {
            Some(Ok(scripts)) => lines.extend(scripts.iter().map(|script| {
                let back = if script.down.is_some() { "" } else { " (no down script)" };
                format!("  {} {}{back}", script.version, script.name)
            })),
            Some(Err(error)) => lines.push(format!("  {error}")),
            None => lines.push("  (the ConfigMap is not here to be looked at)".to_owned()),
        }
    } else {
        let place = |script: &Option<Script>| match script {
            Some(Script { config_map_key: Some(key), .. }) => format!("key {} of ConfigMap {}", key.key, key.name),
            Some(Script { inline: Some(text), .. }) => first_line(text),
            Some(_) | None => "nothing".to_owned(),
        };
        lines.push(format!("runs against store {}: {}", sql.store, place(&sql.up)));
    }
    lines.push(format!("no statement waits longer than {wait} for its lock before it lets go and tries again"));
    lines
}

fn first_line(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

fn of_replication(replicate: &ReplicateAction) -> Vec<String> {
    let tables = replicate.tables.join(", ");
    let mut lines = vec![format!(
        "copies {tables} of store {} to store {}, {} at once, and keeps them in step from then on",
        replicate.from,
        replicate.to,
        replicate.copiers()
    )];
    if replicate.way_back {
        lines.push(format!(
            "from the cut-over on, {} feeds {}, so that going back loses nothing",
            replicate.to, replicate.from
        ));
    }
    lines
}

fn of_backfill(backfill: &BackfillAction) -> Vec<String> {
    let columns = backfill.set.keys().cloned().collect::<Vec<_>>().join(", ");
    let rows =
        backfill.filter.as_ref().map_or_else(|| "that hold something else".to_owned(), |of| format!("where {of}"));
    let mut lines =
        vec![format!("fills {columns} of table {} in store {}, in rows {rows}", backfill.table, backfill.store)];
    match backfill.sync {
        Sync::Trigger => lines.push("a trigger fills them for new writes too, until the migration is over".to_owned()),
        Sync::None => {}
    }
    let throttle = backfill.throttle.as_ref();
    let limits = [
        throttle.and_then(|limits| limits.guard.as_ref()).map(|guard| format!("guard {guard} stays below its limit")),
        throttle.and_then(|limits| limits.max_lag).map(|lag| format!("replicas lag less than {}", short(lag))),
        throttle.and_then(|limits| limits.duty).map(|duty| format!("{duty} of the time")),
        backfill.rate.map(|rate| format!("{rate} rows a second")),
    ];
    let limits: Vec<_> = limits.into_iter().flatten().collect();
    if !limits.is_empty() {
        lines.push(format!("no faster than: {}", limits.join(", ")));
    }
    lines
}

fn of_verification(verify: &VerifyAction) -> Vec<String> {
    if let (Some(store), Some(table)) = (&verify.store, &verify.table) {
        let expected = verify.expect.join(" and ");
        return vec![format!("proves of each row of {table} in store {store} that {expected}")];
    }
    let (from, to) = (verify.from.as_deref().unwrap_or("?"), verify.to.as_deref().unwrap_or("?"));
    let what = match verify.sample() {
        Some(share) if share.0 >= 100.0 => "each row".to_owned(),
        Some(share) => format!("{share} of the rows"),
        None => "the number of rows".to_owned(),
    };
    vec![format!("proves that stores {from} and {to} hold the same in {}: {what}", verify.tables.join(", "))]
}

fn of_switch(switch: &SwitchAction) -> Vec<String> {
    let services = switch.service_names().join(", ");
    let capacity = switch.capacity.map_or_else(|| "as many".to_owned(), |share| format!("{share} as many"));
    let mut lines = vec![
        format!("moves traffic of Service {services} from {} to {}", labels(&switch.from), labels(&switch.to)),
        format!("once the new side has {capacity} serving pods as the old"),
        drain(switch.drain.as_ref()),
    ];
    if let Some(fence) = &switch.fence {
        let clients = if fence.pgbouncer.is_some() { "clients wait in PgBouncer" } else { "clients must try again" };
        lines.push(format!("writes are held meanwhile, for up to {}: {clients}", short(fence.deadline())));
    }
    lines
}

fn drain(drain: Option<&Drain>) -> String {
    let deadline = drain.and_then(|drain| drain.deadline).map(|deadline| format!(", for up to {}", short(deadline)));
    let deadline = deadline.unwrap_or_default();
    match drain {
        Some(Drain { hook: Some(hook), .. }) => {
            format!(
                "then asks each pod of the old side to close its connections (POST :{}{}){deadline}",
                hook.port, hook.path
            )
        }
        Some(Drain { restart_pods: Some(true), .. }) => format!("then evicts the old side's pods one by one{deadline}"),
        Some(Drain { wait: Some(wait), .. }) => {
            format!("then waits {} for connections to the old side to end", short(*wait))
        }
        Some(_) | None => "then waits for connections to the old side to end".to_owned(),
    }
}

fn way_back(phase: &Phase) -> String {
    match (plan::undo(phase), plan::action(phase)) {
        (Undo::Traffic, Action::Switch(switch)) if plan::is_bound(switch) => {
            "traffic moves back with the writes, by the agent".to_owned()
        }
        (Undo::Traffic, _) => "traffic moves back at once, and the new side is drained".to_owned(),
        (Undo::Job, Action::Sql(_)) => "the down scripts run, once traffic is back".to_owned(),
        (Undo::Job, Action::Job(_)) => "the undo Job runs, once traffic is back".to_owned(),
        (Undo::Job, Action::Backfill(backfill)) => match backfill.on_rollback {
            FilledValues::Keep => "what was filled stays; a trigger goes".to_owned(),
            FilledValues::Delete => "what was filled is emptied again; a trigger goes".to_owned(),
        },
        (Undo::Job, Action::Replicate(_)) => "streams, slots and gates are taken away; the copied rows stay".to_owned(),
        (Undo::Job, _) => "an undo Job runs, once traffic is back".to_owned(),
        (Undo::Nothing { because }, Action::Sql(_) | Action::Job(_)) => because.to_owned(),
        (Undo::Nothing { because }, _) => format!("nothing to take back: {because}"),
    }
}

fn approval(phase: &Phase) -> Option<&'static str> {
    match phase.approval {
        Some(Approval::Required) => Some("required"),
        Some(Approval::NotRequired) => None,
        None => phase.point_of_no_return.then_some("required, as it can't be taken back"),
    }
}

fn guards(plan: &Plan, index: usize) -> String {
    let guards = plan.guards_during(index);
    if guards.is_empty() {
        return "none".to_owned();
    }
    let own = &plan.phases()[index].guards;
    let name = |guard: &Guard| {
        let own = own.iter().any(|known| known.name == guard.name);
        let notes = [own.then_some("of its own"), guard.dry_run.then_some("only reports")];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        let notes = if notes.is_empty() { String::new() } else { format!(", {}", notes.join(", ")) };
        format!("{} ({}{notes})", guard.name, super::super::get::limits(guard))
    };
    guards.iter().map(name).collect::<Vec<_>>().join("; ")
}

fn tries(phase: &Phase) -> Option<String> {
    let is_tried = match plan::action(phase) {
        Action::Sql(_) | Action::Job(_) | Action::Replicate(_) | Action::Backfill(_) | Action::Verify(_) => true,
        Action::Switch(_) | Action::Observe(_) | Action::Bake(_) | Action::Approval => false,
    };
    let count = is_tried.then(|| format!("up to {}", plan::max_tries(phase)));
    let time = phase.timeout.map(|timeout| format!("{} in all", short(timeout)));
    let facts: Vec<_> = [count, time].into_iter().flatten().collect();
    (!facts.is_empty()).then(|| facts.join(", "))
}
