//! The pure core: what to do next, from the plan, what is remembered, what is seen and what time it is.
//!
//! No clock, no network, no randomness and no logging: everything comes in as a value and goes out as one.

mod adopt;
mod advice;
mod cause;
mod conditions;
mod decide;
mod draft;
pub mod effect;
mod explain;
mod forward;
mod gate;
pub mod guard;
mod hold;
mod jobs;
pub mod mark;
pub mod plan;
mod rest;
mod rollback;
pub mod scripts;
mod traffic;
pub mod verb;
pub mod world;

pub use adopt::revision_name;
pub use decide::{decide, is_lane_1, order_back_in, way_back_in};
pub use draft::{Decision, Note, Plans};
pub use explain::verdict_word;
pub use hold::{Class, Hold};
pub use plan::Plan;
pub use rest::rests;
pub use traffic::{CONFIRM_DEADLINE, DEFAULT_DRAIN_DEADLINE, DEFAULT_RESTART_DEADLINE, has_flipped, in_effect};
pub use world::World;
