//! Progress of long work: a ticking line per step on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a plain log is told that a step still runs: seldom enough for CI logs, often enough that a step of
/// minutes does not look hung.
const STILL_RUNNING: Duration = Duration::from_secs(20);

/// Where progress goes.
#[derive(Debug)]
pub struct Progress(Sink);

#[derive(Debug)]
enum Sink {
    Terminal(MultiProgress),
    Plain,
    Silent,
}

impl Progress {
    /// Ticking lines if standard error is a terminal, else plain lines, both on standard error.
    pub fn stderr() -> Self {
        Self(if std::io::stderr().is_terminal() { Sink::Terminal(MultiProgress::new()) } else { Sink::Plain })
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self(Sink::Silent)
    }

    /// Prints one line.
    pub fn note(&self, line: &str) {
        match &self.0 {
            Sink::Terminal(lines) => {
                // A progress line that cannot be drawn is not worth failing a build for.
                let _ = lines.println(line);
            }
            Sink::Plain => print(line),
            Sink::Silent => {}
        }
    }

    /// Begins a step, such as "building etcd".
    pub fn step(&self, what: &str) -> Step {
        let display = match &self.0 {
            Sink::Terminal(lines) => {
                let bar = lines.add(ProgressBar::new_spinner());
                // The template is a constant; the fallback keeps this total.
                let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner());
                bar.set_style(style);
                bar.set_prefix(what.to_owned());
                bar.enable_steady_tick(Duration::from_millis(120));
                Display::Spinner(bar)
            }
            Sink::Plain => {
                print(&format!("{what} …"));
                Display::Ticker(Ticker::start(what.to_owned()))
            }
            Sink::Silent => Display::Nothing,
        };
        Step { what: what.to_owned(), since: Instant::now(), display }
    }
}

/// One step under way; dropped without [`Step::done`] it counts as failed.
#[derive(Debug)]
pub struct Step {
    what: String,
    since: Instant,
    display: Display,
}

#[derive(Debug)]
enum Display {
    Spinner(ProgressBar),
    Ticker(Ticker),
    Nothing,
}

impl Step {
    /// Shows a passing detail; only a terminal shows it.
    pub fn detail(&self, detail: &str) {
        if let Display::Spinner(bar) = &self.display {
            bar.set_message(detail.to_owned());
        }
    }

    /// Shows which part of the step begins, on a plain log as a line of its own.
    pub fn goes_on_with(&self, part: &str) {
        match &self.display {
            Display::Spinner(bar) => bar.set_message(part.to_owned()),
            Display::Ticker(_) => print(&format!("{} … {part}", self.what)),
            Display::Nothing => {}
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.finish("done");
    }

    fn finish(&mut self, outcome: &str) {
        let line = format!("{} … {outcome} ({:.1} s)", self.what, self.since.elapsed().as_secs_f64());
        match std::mem::replace(&mut self.display, Display::Nothing) {
            Display::Spinner(bar) => {
                bar.set_style(
                    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar.finish_with_message(line);
            }
            Display::Ticker(ticker) => {
                ticker.stop();
                print(&line);
            }
            Display::Nothing => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.finish("failed");
    }
}

/// A thread that says now and then that a step still runs.
#[derive(Debug)]
struct Ticker {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Ticker {
    fn start(what: String) -> Self {
        let (stop, stopped) = mpsc::channel();
        let since = Instant::now();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(STILL_RUNNING) == Err(RecvTimeoutError::Timeout) {
                print(&format!("{what} … {} s", since.elapsed().as_secs()));
            }
        });
        Self { stop, thread }
    }

    fn stop(self) {
        drop(self.stop);
        // The thread cannot panic but for a closed standard error, which is no reason to fail a build.
        let _ = self.thread.join();
    }
}

fn print(line: &str) {
    // Not `eprintln!`, which panics when standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}
