//! Samples, and the two text formats they are written in.
//!
//! Own code because `prometheus-client` writes OpenMetrics only and keeps a registry of metrics that live on, while here
//! every scrape starts from nothing: what is not read is not there. Formats: OpenMetrics 1.0
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>) and the Prometheus text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
};

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, except that it may start again at 0. Its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// The source does not say.
    Unknown,
}

/// Name, type and meaning of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Name of its samples.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// Meaning, one line.
    pub help: &'static str,
}

/// Text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Text,
}

impl Format {
    /// Value of the header Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Label names and values as they are written between the braces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels(Arc<str>);

impl Labels {
    /// These labels. Names are taken as they are.
    pub fn new(labels: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (name, value) in labels {
            push_label(&mut text, name, value);
        }
        Self(text.into())
    }

    /// The same and one more.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut text = String::with_capacity(self.0.len() + name.len() + value.len() + 4);
        text.push_str(&self.0);
        push_label(&mut text, name, value);
        Self(text.into())
    }
}

fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// Value of a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A whole number, written with all its digits.
    Whole(u64),
    /// Any number.
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Real(value) if value.is_infinite() => f.write_str(if *value > 0.0 { "+Inf" } else { "-Inf" }),
            Self::Real(value) => value.fmt(f),
        }
    }
}

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Exposition(BTreeMap<Cow<'static, str>, Family>);

#[derive(Clone, Debug)]
struct Family {
    kind: Kind,
    help: Cow<'static, str>,
    /// By labels, since a format with the same sample twice is refused as a whole.
    samples: BTreeMap<Labels, Value>,
}

impl Exposition {
    /// Adds a sample.
    pub fn add(&mut self, metric: &Metric, labels: &Labels, value: impl Into<Value>) {
        self.add_named(metric.name.into(), metric.kind, || metric.help.into(), labels.clone(), value.into());
    }

    /// Adds a sample of a metric whose name is found at run time.
    pub fn add_named(
        &mut self,
        name: Cow<'static, str>,
        kind: Kind,
        help: impl FnOnce() -> Cow<'static, str>,
        labels: Labels,
        value: Value,
    ) {
        let family = self.0.entry(name).or_insert_with(|| Family { kind, help: help(), samples: BTreeMap::new() });
        family.samples.insert(labels, value);
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.0.values().map(|family| family.samples.len()).sum()
    }

    /// Adds all samples of `other`.
    pub fn append(&mut self, other: Self) {
        for (name, family) in other.0 {
            match self.0.get_mut(&name) {
                Some(present) => present.samples.extend(family.samples),
                None => {
                    self.0.insert(name, family);
                }
            }
        }
    }

    /// The text in this format.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::with_capacity(128 * self.samples() + 1024);
        for (name, family) in &self.0 {
            // Writing to a String does not fail.
            let _ = family.write(&mut text, name, format);
        }
        if format == Format::OpenMetrics {
            text.push_str("# EOF\n");
        }
        text
    }
}

impl Family {
    fn write(&self, text: &mut String, name: &str, format: Format) -> fmt::Result {
        let (described, kind) = match (format, self.kind) {
            // The family of a counter is called without the ending that its samples have.
            (Format::OpenMetrics, Kind::Counter) => (name.strip_suffix("_total").unwrap_or(name), "counter"),
            (Format::Text, Kind::Counter) => (name, "counter"),
            (_, Kind::Gauge) => (name, "gauge"),
            (Format::OpenMetrics, Kind::Unknown) => (name, "unknown"),
            (Format::Text, Kind::Unknown) => (name, "untyped"),
        };
        write!(text, "# HELP {described} ")?;
        for character in self.help.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '"' if format == Format::OpenMetrics => text.push_str("\\\""),
                other => text.push(other),
            }
        }
        writeln!(text, "\n# TYPE {described} {kind}")?;
        for (Labels(labels), value) in &self.samples {
            if labels.is_empty() {
                writeln!(text, "{name} {value}")?;
            } else {
                writeln!(text, "{name}{{{labels}}} {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RETRIES: Metric = Metric { name: "cxi_retry_total", kind: Kind::Counter, help: "A \"help\" \\ text" };
    const LINK: Metric = Metric { name: "cxi_link", kind: Kind::Gauge, help: "Link" };

    fn exposition() -> Exposition {
        let mut exposition = Exposition::default();
        let nic = Labels::new(&[("node", "n1"), ("device", "cxi0")]);
        exposition.add(&RETRIES, &nic, u64::MAX);
        exposition.add(&LINK, &nic.with("netdev", "a\"\\\nb"), true);
        exposition.add(&LINK, &Labels::new(&[]), 0.25);
        let help = || "No help".into();
        exposition.add_named("cxi_telemetry_x".into(), Kind::Unknown, help, nic, 7_u64.into());
        exposition
    }

    #[test]
    fn open_metrics() {
        assert_eq!(
            exposition().text(Format::OpenMetrics),
            "# HELP cxi_link Link\n\
             # TYPE cxi_link gauge\n\
             cxi_link 0.25\n\
             cxi_link{node=\"n1\",device=\"cxi0\",netdev=\"a\\\"\\\\\\nb\"} 1\n\
             # HELP cxi_retry A \\\"help\\\" \\\\ text\n\
             # TYPE cxi_retry counter\n\
             cxi_retry_total{node=\"n1\",device=\"cxi0\"} 18446744073709551615\n\
             # HELP cxi_telemetry_x No help\n\
             # TYPE cxi_telemetry_x unknown\n\
             cxi_telemetry_x{node=\"n1\",device=\"cxi0\"} 7\n\
             # EOF\n"
        );
    }

    #[test]
    fn prometheus_text() {
        let text = exposition().text(Format::Text);
        assert!(
            text.contains("# HELP cxi_retry_total A \"help\" \\\\ text\n# TYPE cxi_retry_total counter\n"),
            "{text}"
        );
        assert!(text.contains("# TYPE cxi_telemetry_x untyped\n"), "{text}");
        assert!(!text.contains("EOF"), "{text}");
    }

    #[test]
    fn the_same_sample_is_there_once() {
        let mut first = exposition();
        let count = first.samples();
        first.append(exposition());
        assert_eq!(first.samples(), count);
        assert_eq!(first.text(Format::Text), exposition().text(Format::Text));
    }

    #[test]
    fn numbers() {
        for (value, text) in
            [(Value::Real(1e21), "1000000000000000000000"), (Value::Real(f64::INFINITY), "+Inf"), (1_u32.into(), "1")]
        {
            assert_eq!(value.to_string(), text);
        }
        assert_eq!(Value::Real(f64::NAN).to_string(), "NaN");
        assert_eq!(Value::Real(f64::NEG_INFINITY).to_string(), "-Inf");
    }

    /// Reads back what is written between the quotes of a label.
    fn unescape(text: &str) -> String {
        let mut out = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some('n') => out.push('\n'),
                    Some(escaped @ ('"' | '\\')) => out.push(escaped),
                    other => panic!("{other:?} is not escaped"),
                },
                '"' | '\n' => panic!("{text}"),
                other => out.push(other),
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn any_label_value_is_one_line_and_reads_back(value in "\\PC{0,6}[\"\\\\\n]{0,4}\\PC{0,3}") {
            let mut exposition = Exposition::default();
            exposition.add(&LINK, &Labels::new(&[("x", &value)]), 1_u64);
            let text = exposition.text(Format::OpenMetrics);
            prop_assert_eq!(text.lines().count(), 4);
            let sample = text.lines().nth(2).unwrap();
            let written = sample.strip_prefix("cxi_link{x=\"").unwrap().strip_suffix("\"} 1").unwrap();
            prop_assert_eq!(unescape(written), value);
        }
    }
}
