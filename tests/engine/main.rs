//! The engine's scenarios: what it decides, told as sentences.

mod back;
mod cluster;
mod deletion;
mod fixture;
mod forward;
mod guards;
mod jobs;
mod plans;
mod scene;
mod verbs;
