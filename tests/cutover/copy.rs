//! The first copy, and what is left of it.
