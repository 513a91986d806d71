//! Log lines, as text for people or as JSON for machines. `RUST_LOG` chooses what is logged, as in `cxi_operator=debug`.

use std::io::stderr;

use tracing_subscriber::EnvFilter;

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line of text per message.
    Text,
    /// One JSON object per message, its fields at the top level.
    #[default]
    Json,
}

/// Sends log lines of this process to standard error.
pub fn install(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match format {
        Format::Text => log.with_ansi(false).init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
}
