//! Log lines: JSON for machines, text for people, on standard error.

use std::error::Error;

use tracing_subscriber::EnvFilter;

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object per line.
    #[default]
    Json,
    /// A line for people.
    Text,
}

/// Starts logging at level `info`, or as the environment variable `RUST_LOG` says.
pub fn init(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Json => subscriber.json().flatten_event(true).init(),
        Format::Text => subscriber.with_ansi(false).init(),
    }
}

/// An error with everything that caused it, on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open it")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("no"))), "open it: no");
    }
}
