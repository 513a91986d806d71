//! What happened when.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Instant,
};

/// What happened since the start, for whoever reads the log of a run.
pub(crate) struct Timeline {
    begin: Instant,
    text: String,
}

impl Timeline {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        Self { begin: Instant::now(), text: String::new() }
    }

    /// Something has just happened.
    pub(crate) fn note(&mut self, what: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:>7.1} s  {what}", self.begin.elapsed().as_secs_f64());
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        // To standard error itself: what a test prints is thrown away when it passes. There is nobody to tell of a failure.
        let _ = io::stderr().write_all(format!("\nOLM:\n{}", self.text).as_bytes());
    }
}
