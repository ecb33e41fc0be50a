//! Guards in the world: asks Prometheus, remembers what it said, and tells who needs to know.
//!
//! ```text
//! reconcile --watch--> Board --declares--> one poll a query --asks--> Prometheus
//!     ^                  |  <---- readings ------'
//!     +------look--------+--events--> lane 1 (a breach, first) and reconcile (a change)
//! ```

pub mod ask;
mod board;
pub mod clock;
mod events;
mod metrics;
mod pace;
mod poller;
mod preflight;
pub mod prometheus;
pub mod promql;
pub mod provider;
mod slot;
mod watch;
mod window;

pub use board::Board;
pub use events::Events;
pub use provider::Providers;
pub use watch::{BoardEvent, BoardView, EventKind, Trouble, WatchKey, WatchSet};
