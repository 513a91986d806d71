//! Log lines: JSON for machines, text for people, on standard error.

use std::{env, error::Error, io};

use tracing::Dispatch;
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt as _,
    fmt::{MakeWriter, format},
    util::SubscriberInitExt as _,
};

/// What is said unless `RUST_LOG` asks for something else.
const USUAL: &str = "info";

/// Libraries that talk to the API server. kube logs the whole answer at level `warn` when it cannot read it, and an answer may be a
/// list of pods with passwords in their environment; below that, requests and answers are what all of them log. They say no more
/// than errors unless `RUST_LOG` names one of them: `debug` alone does not.
const DISCREET: &str = "kube_client=error,kube_core=error,kube_runtime=error,hyper=error,hyper_util=error,h2=error,\
                        tower=error,tower_http=error,tonic=error";

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
    let asked = env::var("RUST_LOG").ok();
    dispatch(format, asked.as_deref(), io::stderr).init();
}

/// What [`init`] starts, for any writer, with what `RUST_LOG` would say.
pub fn dispatch<W>(format: Format, asked: Option<&str>, writer: W) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter(asked)).with_writer(writer);
    match format {
        Format::Json => Dispatch::new(subscriber.json().flatten_event(true).finish()),
        Format::Text => {
            let fields = format::debug_fn(|writer, field, value| {
                let value = on_one_line(&format!("{value:?}"));
                match field.name() {
                    "message" => writer.write_str(&value),
                    // Of records of the `log` crate; the line has them already.
                    name if name.starts_with("log.") => Ok(()),
                    name => write!(writer, "{name}={value}"),
                }
            });
            Dispatch::new(subscriber.with_ansi(false).fmt_fields(fields.delimited(" ")).finish())
        }
    }
}

/// What `asked` says, on top of [`DISCREET`]; [`USUAL`] when it says nothing that can be read. Of two directives for one target the
/// later one counts, and one for a target before one for everything.
fn filter(asked: Option<&str>) -> EnvFilter {
    let with = |asked: &str| EnvFilter::builder().parse(format!("{DISCREET},{asked}"));
    let asked = asked.filter(|asked| !asked.trim().is_empty());
    asked.and_then(|asked| with(asked).ok()).or_else(|| with(USUAL).ok()).unwrap_or_else(|| EnvFilter::new(USUAL))
}

/// The text with its control characters escaped. Others choose parts of many messages; none of them may look like a line of its own.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
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
    use std::sync::{Arc, Mutex};

    use rstest::rstest;
    use tracing::{error, info, warn};

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, asked: Option<&str>, events: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        tracing::dispatcher::with_default(&dispatch(format, asked, move || writer.clone()), events);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// What kube says of an answer that it cannot read, and two of our own lines.
    fn talk() {
        warn!(target: "kube_client::client", "{{\"password\": 1}}, error");
        tracing::debug!(target: "hyper_util::client", "body");
        error!(target: "kube_client::client::builder", "failed with status 500");
        tracing::debug!("detail");
        info!("news");
    }

    #[rstest]
    #[case(None, &["failed with status 500", "news"])]
    #[case(Some(""), &["failed with status 500", "news"])]
    #[case(Some("no=such=thing"), &["failed with status 500", "news"])]
    #[case(Some("warn"), &["failed with status 500"])]
    #[case(Some("debug"), &["failed with status 500", "detail", "news"])]
    #[case(Some("trace"), &["failed with status 500", "detail", "news"])]
    #[case(Some("info,kube_client=warn"), &["password", "failed with status 500", "news"])]
    #[case(Some("error,kube_client=off"), &[])]
    fn libraries_say_no_more_than_errors_unless_one_is_asked(#[case] asked: Option<&str>, #[case] expected: &[&str]) {
        let all = ["password", "body", "failed with status 500", "detail", "news"];
        let text = logged(Format::Text, asked, talk);
        let said: Vec<_> = all.into_iter().filter(|words| text.contains(words)).collect();
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn a_message_is_one_line_in_either_format() {
        let forged = "it failed\n2026-01-01T00:00:00Z  INFO all is well\r\u{85}\u{2028}\u{1b}[2K";
        for format in [Format::Text, Format::Json] {
            let text = logged(format, None, || warn!(error = %forged, pod = forged, "{forged}"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(
                text.ends_with('\n') && !text.trim_end().contains(|c: char| c.is_control() && format == Format::Text)
            );
        }
        let text = logged(Format::Text, None, || warn!(error = %forged, "said: {forged}"));
        assert!(text.contains(r"said: it failed\n2026"), "{text}");
        assert!(text.contains(r"error=it failed\n2026"), "{text}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("open it")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_once() {
        assert_eq!(chain(&Outer(std::io::Error::other("no"))), "open it: no");
    }
}
