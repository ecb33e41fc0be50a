//! The engine's scenarios: what it decides, told as sentences.

mod back;
mod cluster;
mod fixture;
mod forward;
mod scene;
