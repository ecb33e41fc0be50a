//! Keeping a store in step with another.
