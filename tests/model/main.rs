//! The model: the engine's own `decide` under every order of crashes, late writes, old caches, other hands and time.

mod caught;
#[path = "../engine/cluster.rs"]
mod cluster;
mod explore;
#[path = "../engine/fixture.rs"]
#[allow(dead_code, reason = "the scenarios use the rest")]
mod fixture;
mod heal;
mod kept;
mod mutants;
mod people;
mod promises;
mod properties;
mod runs;
mod sim;
mod state;
#[path = "../engine/stores.rs"]
#[allow(dead_code, reason = "the scenarios use the rest")]
mod stores;
mod walks;
