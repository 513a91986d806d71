//! `cxi-agent exporter`: metrics of the node's NICs and of their driver for Prometheus.
//!
//! ```text
//! /sys ──────────────────────────► collector ──► exposition ──► OpenMetrics or text ──► HTTP(S)
//! /run/cxi ──► statistics (thread) ───┘
//! ```
//!
//! A scrape reads the node, so a value is as old as its scrape, or a second older where several ask; only retry
//! handlers, which may hang, are read on a thread of their own. What is not there or cannot be read is absent from the
//! answer, never 0; what cannot be read is counted and logged. It holds no device open, and it opens no connections of
//! its own.

mod args;
mod collector;
mod counters;
mod device;
mod exposition;
mod metrics;
mod negotiation;
mod problems;
mod retry;
mod scraper;
mod selection;
mod server;
mod statistics;
mod telemetry;
mod tls;

pub use args::Args;
pub use collector::{Collector, STATISTICS_WAIT};
pub use counters::{Behaviour, Exported, FAMILIES, Family, default_counters};
pub use exposition::{Exposition, Format, Kind, Metric};
pub use metrics::ALL as METRICS;
pub use scraper::Scraper;
pub use selection::{Selection, Term, TermError};
pub use server::serve;
pub use tls::{Tls, TlsError};
