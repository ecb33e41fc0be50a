//! Guards in the world: asks Prometheus, remembers what it said, and tells who needs to know.

pub mod promql;
