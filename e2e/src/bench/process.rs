//! What the operator's process says of itself: memory from `/proc`, durations from its metrics.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result};

use crate::{operator::Operator, scrape::metrics};

/// Resident memory of the operator in MiB.
///
/// # Errors
/// If its process is not there.
pub fn rss_mib(operator: &Operator) -> Result<f64> {
    let supervisor = operator.supervisor();
    for entry in fs::read_dir("/proc").context("list processes")?.flatten() {
        // A process that ended meanwhile is none of ours.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("Name:") == Some("cxi-operator") && field("PPid:") == Some(supervisor.to_string().as_str()) {
            let kib = field("VmRSS:").and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok());
            return Ok(kib.context("read VmRSS of the operator")? / 1024.0);
        }
    }
    anyhow::bail!("the operator does not run")
}

/// The bucket of `cxi_reconcile_duration_seconds` that holds the 99th percentile.
///
/// # Errors
/// If the operator does not answer, or has not reconciled yet.
pub fn reconcile_p99(address: SocketAddr) -> Result<String> {
    p99(&metrics(address)?).context("the operator's metrics show no reconcile durations")
}

fn p99(metrics: &str) -> Option<String> {
    let buckets: Vec<(&str, u64)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("cxi_reconcile_duration_seconds_bucket{le=\""))
        .filter_map(|rest| rest.split_once("\"} "))
        .filter_map(|(limit, count)| Some((limit, count.trim().parse().ok()?)))
        .collect();
    let (_, total) = buckets.iter().find(|(limit, _)| *limit == "+Inf")?;
    let (limit, _) = buckets.iter().find(|(_, count)| count * 100 >= total * 99)?;
    Some(if *limit == "+Inf" { "> 1 s".into() } else { format!("≤ {limit} s") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_that_holds_99_of_100() {
        let text = "cxi_reconcile_duration_seconds_bucket{le=\"0.001\"} 98\n\
                    cxi_reconcile_duration_seconds_bucket{le=\"0.01\"} 99\n\
                    cxi_reconcile_duration_seconds_bucket{le=\"+Inf\"} 100\n";
        assert_eq!(p99(text).as_deref(), Some("≤ 0.01 s"));
        assert_eq!(p99(""), None);
    }
}
