//! Which format a scraper gets: the header Accept.

use crate::exporter::exposition::Format;

/// The format that `accept` likes best; the Prometheus text format for a client that names neither, as curl does.
///
/// No client is refused: a scraper that asks for something else is better served with text than with an error, which is
/// what the client libraries of Prometheus do as well.
pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Format {
    let (mut open_metrics, mut text) = (0, 0);
    for range in accept.into_iter().flat_map(|header| header.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let mut quality = 1000;
        let mut version = None;
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value.trim()),
                "version" => version = Some(value.trim().trim_matches('"').to_owned()),
                _ => {}
            }
        }
        match (media.as_str(), version.as_deref()) {
            // Its first version has no other syntax for what is written here.
            ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => {
                open_metrics = quality.max(open_metrics);
            }
            ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => text = quality.max(text),
            _ => {}
        }
    }
    if open_metrics > 0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
}

/// A quality from 0 to 1 in thousandths (RFC 9110, 12.4.2); 0 for what is none, so that nonsense is not preferred.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return 0;
    }
    let fraction = format!("{fraction:0<3}").parse().unwrap_or(0);
    match whole {
        "0" => fraction,
        "1" if fraction == 0 => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    // What Prometheus 2 and 3 send.
    #[case(
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        Format::OpenMetrics
    )]
    #[case(
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        Format::OpenMetrics
    )]
    #[case("application/openmetrics-text", Format::OpenMetrics)]
    #[case("Application/OpenMetrics-Text; version=\"1.0.0\"", Format::OpenMetrics)]
    #[case("*/*", Format::Text)]
    #[case("", Format::Text)]
    #[case("text/html", Format::Text)]
    #[case("text/plain;version=0.0.4;q=1,application/openmetrics-text;q=0.9", Format::Text)]
    #[case("text/*;q=0.5,application/openmetrics-text;q=0.5", Format::OpenMetrics)]
    #[case("application/openmetrics-text;q=0", Format::Text)]
    #[case("application/openmetrics-text;version=2.0.0", Format::Text)]
    #[case("application/openmetrics-text;q=2", Format::Text)]
    fn chooses(#[case] accept: &str, #[case] format: Format) {
        assert_eq!(negotiate([accept]), format);
    }

    #[test]
    fn without_the_header_and_with_several() {
        assert_eq!(negotiate([]), Format::Text);
        assert_eq!(negotiate(["text/html", "application/openmetrics-text"]), Format::OpenMetrics);
    }

    #[test]
    fn any_input_gets_a_format_that_it_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let plain = "text/plain;version=0.0.4;q=0.4,Application/OpenMetrics-Text; version=\"1.0.0\"; q=1.000";
        cxi_any_input::text(&[prometheus, plain, "application/openmetrics-text"], &|accept| {
            let open_metrics = negotiate([accept]) == Format::OpenMetrics;
            assert!(!open_metrics || accept.to_ascii_lowercase().contains("application/openmetrics-text"));
            open_metrics.into()
        });
    }

    #[test]
    fn the_better_quality_wins() {
        for open in 1..=999_u16 {
            for text in [1, open - 1, open, open + 1, 999].into_iter().filter(|text| (1..=999).contains(text)) {
                let accept = format!("application/openmetrics-text;q=0.{open:03},text/plain;q=0.{text:03}");
                assert_eq!(negotiate([accept.as_str()]) == Format::OpenMetrics, open >= text, "{accept}");
            }
        }
    }
}
