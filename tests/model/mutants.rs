//! Mutants: the model with one rule of the design switched off. Each must break a promise.

use alongside::{
    api::MigrationStatus,
    engine::{Decision, effect::Effect, world::World},
};

use crate::{
    cluster::{Cluster, Landed},
    sim::Sim,
};

/// A rule that is switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// None is.
    None,
}

/// What a mutant made an operator believe, for the orders that it gives then.
#[derive(Debug, Default)]
pub struct Lies;

impl Mutant {
    pub fn apply(self, cluster: &mut Cluster, effect: &Effect) -> Landed {
        cluster.apply(effect)
    }

    pub fn distort(self, _status: &MigrationStatus, _world: &mut World) -> Lies {
        Lies
    }

    pub fn meddle(self, _sim: &Sim, _status: &MigrationStatus, _world: &World, _lies: &Lies, _to: &mut Decision) {}

    pub fn looks_at_old_services(self) -> bool {
        false
    }

    pub fn trusts_what_it_read(self) -> bool {
        false
    }

    pub fn performs_before_it_is_written(self) -> bool {
        false
    }
}
