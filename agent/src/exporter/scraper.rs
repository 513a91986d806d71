//! Scrapes: one reading of the node at a time, and none where the last one is still good.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use hyper::body::Bytes;
use tokio::{sync::Semaphore, time::timeout};
use tracing::warn;

use crate::exporter::{
    collector::Collector,
    exposition::{Exposition, Format},
};

/// How long a scrape may take, waiting for others included: the time that Prometheus gives it unless told otherwise.
const SCRAPE_LIMIT: Duration = Duration::from_secs(10);

/// One reading at a time. One that hangs keeps its turn, so that there are never two.
pub struct Scraper {
    collector: Arc<Mutex<Collector>>,
    turn: Arc<Semaphore>,
    last: Arc<Mutex<Option<Reading>>>,
    max_age: Duration,
    limit: Duration,
}

/// What was read of the node, in the formats that clients asked for.
struct Reading {
    at: Instant,
    exposition: Exposition,
    open_metrics: OnceLock<Bytes>,
    text: OnceLock<Bytes>,
}

impl Scraper {
    /// Reads by `collector`, and not again until the last reading is older than `max_age`: any client that can
    /// connect could otherwise keep the node reading its hardware without pause.
    pub fn new(collector: Collector, max_age: Duration) -> Self {
        Self {
            collector: Arc::new(Mutex::new(collector)),
            turn: Arc::new(Semaphore::new(1)),
            last: Arc::default(),
            max_age,
            limit: SCRAPE_LIMIT,
        }
    }

    /// The same with another limit.
    #[cfg(test)]
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The node in this format; `None` when it took too long.
    pub async fn scrape(&self, format: Format) -> Option<Bytes> {
        let scrape = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            if let Some(reading) = lock(&self.last).as_ref().filter(|reading| reading.at.elapsed() < self.max_age) {
                return Some(reading.written(format));
            }
            let (collector, last) = (Arc::clone(&self.collector), Arc::clone(&self.last));
            let read = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                // Never two of them in memory.
                drop(lock(&last).take());
                let reading = Reading::new(lock(&collector).collect());
                let written = reading.written(format);
                *lock(&last) = Some(reading);
                written
            });
            read.await.inspect_err(|error| warn!("a scrape was lost: {error}")).ok()
        };
        timeout(self.limit, scrape).await.ok().flatten()
    }
}

impl Reading {
    fn new(exposition: Exposition) -> Self {
        Self { at: Instant::now(), exposition, open_metrics: OnceLock::new(), text: OnceLock::new() }
    }

    fn written(&self, format: Format) -> Bytes {
        let written = match format {
            Format::OpenMetrics => &self.open_metrics,
            Format::Text => &self.text,
        };
        written.get_or_init(|| self.exposition.text(format).into()).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use cxi_hardware_lab::Tree;

    use super::*;
    use crate::exporter::{collector::STATISTICS_WAIT, selection::Selection};

    const TEST_LIMIT: Duration = Duration::from_secs(30);

    fn scraper(tree: &Tree, max_age: Duration) -> Scraper {
        let collector = Collector::new(tree.root(), "n1".into(), Selection::default(), STATISTICS_WAIT).unwrap();
        Scraper::new(collector, max_age).with_limit(TEST_LIMIT)
    }

    #[tokio::test]
    async fn the_node_is_not_read_again_for_each_who_asks() {
        let tree = Tree::new();
        let scraper = scraper(&tree, TEST_LIMIT);
        let nics = async |format| {
            let body = scraper.scrape(format).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            (text.contains("cxi_device_count{node=\"n1\"} 0\n"), text.ends_with("# EOF\n"))
        };
        assert_eq!(nics(Format::Text).await, (true, false));
        tree.add("cxi0", "0000:c1:00.0");
        assert_eq!(nics(Format::Text).await, (true, false), "from the same reading");
        assert_eq!(nics(Format::OpenMetrics).await, (true, true), "in the other format too");
        let scraper = Scraper { max_age: Duration::ZERO, ..scraper };
        let fresh = scraper.scrape(Format::Text).await.unwrap();
        assert!(String::from_utf8(fresh.to_vec()).unwrap().contains("cxi_device_count{node=\"n1\"} 1\n"));
    }

    #[tokio::test]
    async fn a_driver_that_hangs_costs_an_answer_and_one_thread() {
        let tree = Tree::new();
        tree.add("cxi0", "0000:c1:00.0");
        fs::create_dir(tree.path("sys/devices/0000:c1:00.0/telemetry")).unwrap();
        // A named pipe without a writer: opening it takes for ever.
        let pipe = tree.path("sys/devices/0000:c1:00.0/telemetry/hni_rx_jabber");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let scraper = scraper(&tree, Duration::ZERO).with_limit(Duration::from_millis(20));
        let threads = || fs::read_dir("/proc/self/task").unwrap().count();

        assert_eq!(scraper.scrape(Format::Text).await, None);
        let before = threads();
        for _ in 0..40 {
            assert_eq!(scraper.scrape(Format::Text).await, None);
        }
        // The tests beside this one have some of their own.
        assert!(threads() < before + 20, "{} threads after {before}", threads());

        // The driver answers again.
        fs::write(&pipe, "1@1.000000000\n").unwrap();
        fs::remove_file(&pipe).unwrap();
        let scraper = scraper.with_limit(TEST_LIMIT);
        assert!(scraper.scrape(Format::Text).await.is_some());
    }
}
