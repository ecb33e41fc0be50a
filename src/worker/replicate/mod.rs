//! Keeping a store in step with another: what is asked beforehand, the first copy, and the way out.

pub mod copy;
pub mod door;
pub mod preflight;
pub mod task;

pub use task::ReplicateTask;
