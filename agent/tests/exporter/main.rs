//! The exporter against trees of a node, and its program against a scraper.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod program;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cxi_agent::{
    Expectation,
    exporter::{Collector, Format, Selection},
};
use cxi_hardware::Root;
use cxi_hardware_lab::Tree;

/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(30);
const NIC: &str = "node=\"n1\",device=\"cxi0\",pci=\"0000:c1:00.0\"";

fn root(tree: &Tree) -> Root {
    tree.root().with_run(tree.path("run"))
}

/// A collector that waits for statistics as long as they need.
fn patient(tree: &Tree) -> Collector {
    Collector::new(root(tree), "n1".into(), Selection::default(), LONG).unwrap()
}

fn scrape(collector: &mut Collector) -> String {
    collector.collect().text(Format::Text)
}

/// The value of the sample that is written so.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn telemetry(tree: &Tree, address: &str, counter: &str, text: &str) {
    tree.write(&format!("sys/devices/{address}/telemetry/{counter}"), text);
}

/// A named pipe without a writer: opening it takes for ever, as a file of a hung retry handler does.
fn hang(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_node_without_nics_says_so() {
    let tree = Tree::new();
    let text = scrape(&mut patient(&tree));
    assert_eq!(value(&text, "cxi_device_count{node=\"n1\"}"), Some(0.0));
    assert_eq!(value(&text, "cxi_driver_loaded{node=\"n1\",module=\"cxi_ss1\"}"), Some(1.0));
    assert_eq!(value(&text, "cxi_driver_loaded{node=\"n1\",module=\"cxi_eth\"}"), Some(0.0));
    assert!(!text.contains("cxi_device_link_state"), "{text}");
    tree.load(&[]);
    fs::remove_dir_all(tree.path("sys/class/cxi")).unwrap();
    let text = scrape(&mut patient(&tree));
    assert_eq!(value(&text, "cxi_device_count{node=\"n1\"}"), Some(0.0));
    assert_eq!(value(&text, "cxi_driver_loaded{node=\"n1\",module=\"cxi_ss1\"}"), Some(0.0));
    for subject in ["device_discovery", "modules", "attribute", "telemetry", "retry_handler"] {
        assert_eq!(value(&text, &format!("cxi_scrape_errors_total{{node=\"n1\",type=\"{subject}\"}}")), Some(0.0));
    }
}

#[test]
fn what_cannot_be_known_is_not_said() {
    let tree = Tree::new();
    fs::remove_dir(tree.path("sys/class/cxi")).unwrap();
    tree.write("sys/class/cxi", "");
    tree.write("proc/modules", "nonsense\n");
    let mut collector = patient(&tree);
    scrape(&mut collector);
    let text = scrape(&mut collector);
    assert!(!text.contains("cxi_device_count") && !text.contains("cxi_driver_loaded"), "{text}");
    assert_eq!(value(&text, "cxi_scrape_errors_total{node=\"n1\",type=\"device_discovery\"}"), Some(2.0));
    assert_eq!(value(&text, "cxi_scrape_errors_total{node=\"n1\",type=\"modules\"}"), Some(2.0));
}

#[test]
fn a_module_on_its_way_is_neither_loaded_nor_not() {
    let tree = Tree::new();
    fs::remove_file(tree.path("sys/module/cxi_user/initstate")).unwrap();
    let text = scrape(&mut patient(&tree));
    assert!(!text.contains("module=\"cxi_user\""), "{text}");
    assert_eq!(value(&text, "cxi_driver_loaded{node=\"n1\",module=\"cxi_ss1\"}"), Some(1.0));
}

#[test]
fn a_nic_is_told_with_everything() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let device = "sys/devices/0000:c1:00.0";
    for (file, text) in [
        ("net/hsn0/address", "02:00:00:00:00:01\n"),
        ("net/hsn0/mtu", "9000\n"),
        ("properties/pct_eq", "12\n"),
        ("properties/rgids_avail", "250\n"),
        ("properties/pcie_uncorr_err", "1\n"),
        ("aer_dev_correctable", "RxErr 2\nTOTAL_ERR_COR 2\n"),
        ("link_restarts/time_0", "1000\n"),
        ("link_restarts/time_1", "0\n"),
        ("port/0/link/counters/link_down", "4\n"),
    ] {
        tree.write(&format!("{device}/{file}"), text);
    }
    for (counter, text) in [
        ("pct_spt_timeouts", "7@1700000000.000000001\n"),
        ("hni_pkts_sent_by_tc_3", "9@1700000000.000000001\n"),
        ("hni_sts_rx_ok_octets", "72057594037927934@1700000000.000000001\n"),
        ("pct_prf_spt_status_spt_in_use", "5@1700000000.000000001\n"),
        ("hni_rx_ok_27", "1@1700000000.000000001\n"),
        ("hni_rx_jabber", "many\n"),
        ("hni_rx_fragment", "72057594037927935@1700000000.000000001\n"),
    ] {
        telemetry(&tree, "0000:c1:00.0", counter, text);
    }
    tree.write("run/cxi/cxi0/spt_timeouts", "323\n");
    tree.write("run/cxi/cxi0/nacks", "1200\n");
    let nic = format!("{NIC},netdev=\"hsn0\"");
    let text = scrape(&mut patient(&tree));
    for (sample, expected) in [
        (format!("cxi_device_link_state{{{nic}}}"), 1.0),
        (format!("cxi_device_health_status{{{nic}}}"), 1.0),
        (format!("cxi_device_numa_node{{{nic}}}"), 0.0),
        (format!("cxi_device_link_speed_bytes_per_second{{{nic}}}"), 50e9),
        (format!("cxi_device_resource_groups_available{{{nic}}}"), 250.0),
        (format!("cxi_device_pcie_errors_total{{{nic},severity=\"uncorrected\"}}"), 1.0),
        (format!("cxi_device_pcie_aer_errors_total{{{nic},severity=\"correctable\"}}"), 2.0),
        (format!("cxi_device_link_restarts{{{nic},window=\"1h\"}}"), 0.0),
        (format!("cxi_device_link_last_restart_timestamp_seconds{{{nic}}}"), 1000.0),
        (format!("cxi_device_link_down_total{{{nic}}}"), 4.0),
        (format!("cxi_retry_handler_running{{{nic}}}"), 1.0),
        (format!("cxi_retry_total{{{nic}}}"), 1523.0),
        (format!("cxi_retry_nack_total{{{nic}}}"), 1200.0),
        (format!("cxi_retry_timeout_total{{{nic}}}"), 323.0),
        (format!("cxi_retry_handler_statistics_stuck{{{nic}}}"), 0.0),
        (format!("cxi_telemetry_pct_spt_timeouts_total{{{nic}}}"), 7.0),
        (format!("cxi_telemetry_hni_pkts_sent_by_tc_total{{{nic},tc=\"3\"}}"), 9.0),
        (format!("cxi_telemetry_pct_prf_spt_status_spt_in_use{{{nic}}}"), 5.0),
        (
            format!(
                "cxi_device_info{{{nic},pci_id=\"1590:0371\",cassini_generation=\"2\",type=\"pf\",mac=\"02:00:00:00:00:01\",nid=\"0x1a3\"}}"
            ),
            1.0,
        ),
        ("cxi_scrape_errors_total{node=\"n1\",type=\"telemetry\"}".into(), 2.0),
        ("cxi_scrape_errors_total{node=\"n1\",type=\"attribute\"}".into(), 0.0),
    ] {
        assert_eq!(value(&text, &sample), Some(expected), "{sample} in\n{text}");
    }
    assert!(text.contains("octets_total{") && text.contains("} 72057594037927934\n"), "all digits:\n{text}");
    // Neither what is not there, nor what makes no sense, nor what is not asked for.
    for absent in
        ["severity=\"fatal\"", "jabber", "fragment", "hni_rx_ok", "cxi_retry_handler_failed", "link_up_failed"]
    {
        assert!(!text.contains(absent), "{absent} in\n{text}");
    }
}

#[test]
fn a_virtual_function_has_no_retry_handler_and_no_telemetry() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.1");
    std::os::unix::fs::symlink("../0000:c1:00.0", tree.path("sys/devices/0000:c1:00.1/physfn")).unwrap();
    tree.write("sys/devices/0000:c1:00.0/properties/link", "1\n");
    tree.write("run/cxi/cxi0/nacks", "1\n");
    let text = scrape(&mut patient(&tree));
    assert!(text.contains("type=\"vf\"") && text.contains("cxi_device_link_state"), "{text}");
    assert!(!text.contains("cxi_retry") && !text.contains("cxi_telemetry"), "{text}");
}

#[test]
fn health_is_what_pods_can_rely_on() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let mut collector = patient(&tree);
    let mut health = || value(&scrape(&mut collector), &format!("cxi_device_health_status{{{NIC},netdev=\"\"}}"));
    assert_eq!(health(), Some(1.0));
    tree.write("sys/devices/0000:c1:00.0/properties/link", "0\n");
    assert_eq!(health(), Some(0.0));
    tree.write("sys/devices/0000:c1:00.0/properties/link", "");
    assert_eq!(health(), None);
    fs::remove_file(tree.path("dev/cxi0")).unwrap();
    assert_eq!(health(), Some(0.0));
}

#[test]
fn an_address_that_is_not_set_yet_is_no_error() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    tree.add("cxi37", "0000:c2:00.1");
    std::os::unix::fs::symlink("../0000:c1:00.0", tree.path("sys/devices/0000:c2:00.1/physfn")).unwrap();
    tree.write("sys/devices/0000:c1:00.0/properties/nid", "0xffffffff\n");
    tree.write("sys/devices/0000:c2:00.1/properties/nid", "0x10001f\n");
    // The port does not say, and the interface has never had a speed.
    fs::remove_file(tree.path("sys/devices/0000:c1:00.0/port/0/link/speed")).unwrap();
    tree.write("sys/devices/0000:c1:00.0/net/hsn0/speed", "0\n");
    let text = scrape(&mut patient(&tree));
    assert_eq!(value(&text, "cxi_scrape_errors_total{node=\"n1\",type=\"attribute\"}"), Some(0.0), "{text}");
    let info =
        |device: &str| text.lines().find(|line| line.starts_with("cxi_device_info{") && line.contains(device)).unwrap();
    assert!(!info("device=\"cxi0\"").contains("nid=\"0x"), "{text}");
    assert!(info("device=\"cxi37\"").contains("nid=\"0x10001f\""), "{text}");
    assert!(!text.contains("cxi_device_link_speed_bytes_per_second{node=\"n1\",device=\"cxi0\""), "{text}");
}

/// What a supervisor says of the retry handler of the NIC at c1.
fn record(tree: &Tree, state: &str, boot: &str, instance: u64) {
    let text = format!(
        "{{\"device\":\"cxi0\",\"pciAddress\":\"0000:c1:00.0\",\"state\":\"{state}\",\
         \"since\":\"2026-01-01T00:00:00Z\",\"bootID\":\"{boot}\",\"instance\":{instance}}}"
    );
    tree.write("run/cxi/retry-handler/0000:c1:00.0.json", &text);
}

const BOOT: &str = "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c";

fn instance(tree: &Tree) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(tree.path("sys/class/cxi/cxi0")).unwrap())
}

#[test]
fn a_nic_is_healthy_where_its_cxidevice_says_so() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let mut collector = patient(&tree);
    let mut told = |state: &str, queue: &str| {
        record(&tree, state, BOOT, instance(&tree));
        tree.write("sys/devices/0000:c1:00.0/properties/pct_eq", queue);
        let text = scrape(&mut collector);
        let sample = |name: &str| value(&text, &format!("{name}{{{NIC},netdev=\"\"}}"));
        (sample("cxi_device_health_status"), sample("cxi_retry_handler_running"))
    };
    assert_eq!(told("Running", "12\n"), (Some(1.0), Some(1.0)));
    assert_eq!(told("Running", "0\n"), (Some(0.0), Some(0.0)), "not attached any more");
    assert_eq!(told("Starting", "0\n"), (Some(0.0), Some(0.0)));
    assert_eq!(told("Stopping", "12\n"), (Some(0.0), Some(1.0)));
    assert_eq!(told("Host", "0\n"), (Some(0.0), Some(0.0)));
    assert_eq!(told("Host", "12\n"), (Some(1.0), Some(1.0)));
}

#[test]
fn a_retry_handler_is_missed_only_where_one_has_to_be() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let told = |expected| {
        let text = scrape(&mut patient(&tree).expecting(expected));
        let sample = |name: &str| value(&text, &format!("{name}{{{NIC},netdev=\"\"}}"));
        (sample("cxi_device_health_status"), sample("cxi_retry_handler_running"))
    };
    assert_eq!(told(Expectation::Ignore), (Some(1.0), None));
    assert_eq!(told(Expectation::Stay), (Some(1.0), None));
    assert_eq!(told(Expectation::Attached), (Some(0.0), Some(0.0)));
    tree.write("sys/devices/0000:c1:00.0/properties/pct_eq", "12\n");
    for expected in [Expectation::Ignore, Expectation::Stay, Expectation::Attached] {
        assert_eq!(told(expected), (Some(1.0), Some(1.0)), "{expected:?}");
    }
}

#[test]
fn a_failed_retry_handler_is_told_until_the_device_comes_back() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    let mut collector = patient(&tree);
    let mut told = || {
        let text = scrape(&mut collector);
        let sample = |name: &str| value(&text, &format!("{name}{{{NIC},netdev=\"\"}}"));
        (sample("cxi_retry_handler_failed"), sample("cxi_device_health_status"))
    };
    assert_eq!(told(), (None, Some(1.0)));
    record(&tree, "Failed", BOOT, instance(&tree));
    assert_eq!(told(), (Some(1.0), Some(0.0)));
    record(&tree, "Failed", BOOT, instance(&tree) + 1);
    assert_eq!(told(), (None, Some(1.0)));
    record(&tree, "Failed", "another", instance(&tree));
    assert_eq!(told(), (None, Some(1.0)), "before the node was started anew");
}

#[test]
fn counters_come_and_go_without_becoming_zero() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    telemetry(&tree, "0000:c1:00.0", "hni_rx_jabber", "3@1.000000000\n");
    telemetry(&tree, "0000:c1:00.0", "hni_rx_fragment", "4@1.000000000\n");
    let mut collector = patient(&tree);
    let mut sample =
        |name: &str| value(&scrape(&mut collector), &format!("cxi_telemetry_{name}_total{{{NIC},netdev=\"\"}}"));
    assert_eq!((sample("hni_rx_jabber"), sample("hni_rx_fragment")), (Some(3.0), Some(4.0)));
    fs::remove_file(tree.path("sys/devices/0000:c1:00.0/telemetry/hni_rx_jabber")).unwrap();
    assert_eq!((sample("hni_rx_jabber"), sample("hni_rx_fragment")), (None, Some(4.0)));
    // The driver was loaded again: other counters at once, and what it started at.
    fs::rename(tree.path("sys/devices/0000:c1:00.0/telemetry"), tree.path("old")).unwrap();
    telemetry(&tree, "0000:c1:00.0", "hni_rx_jabber", "0@2.000000000\n");
    assert_eq!((sample("hni_rx_jabber"), sample("hni_rx_fragment")), (Some(0.0), None));
}

#[test]
fn an_interface_that_was_moved_to_a_pod_does_not_end_the_series() {
    let tree = Tree::new();
    tree.add("cxi0", "0000:c1:00.0");
    fs::create_dir_all(tree.path("sys/devices/0000:c1:00.0/net/hsn0")).unwrap();
    let mut collector = patient(&tree);
    let sample = format!("cxi_device_link_state{{{NIC},netdev=\"hsn0\"}}");
    assert_eq!(value(&scrape(&mut collector), &sample), Some(1.0));
    fs::remove_dir_all(tree.path("sys/devices/0000:c1:00.0/net")).unwrap();
    assert_eq!(value(&scrape(&mut collector), &sample), Some(1.0));
    tree.remove("cxi0", "0000:c1:00.0");
    assert!(!scrape(&mut collector).contains("hsn0"), "forgotten with the device");
}

#[test]
fn a_device_that_comes_and_goes_spoils_no_scrape() {
    let tree = Arc::new(Tree::new());
    tree.add("cxi0", "0000:c1:00.0");
    telemetry(&tree, "0000:c1:00.0", "hni_rx_jabber", "3@1.000000000\n");
    let ended = Arc::new(AtomicBool::new(false));
    let changer = {
        let (tree, ended) = (Arc::clone(&tree), Arc::clone(&ended));
        thread::spawn(move || {
            let mut turns = 0;
            while !ended.load(Ordering::Relaxed) {
                telemetry(&tree, "0000:c2:00.0", "hni_rx_jabber", "3@1.000000000\n");
                tree.add("cxi1", "0000:c2:00.0");
                thread::yield_now();
                tree.remove("cxi1", "0000:c2:00.0");
                turns += 1;
            }
            turns
        })
    };
    let mut collector = Collector::new(root(&tree), "n1".into(), Selection::default(), Duration::ZERO).unwrap();
    let (mut scrapes, mut seen) = (0, 0);
    let began = Instant::now();
    // Without a scrape that saw the other device nothing was tried.
    while scrapes < 300 || seen == 0 {
        assert!(
            began.elapsed() < Duration::from_mins(1),
            "{scrapes} scrapes, and none saw the device that comes and goes"
        );
        let text = scrape(&mut collector);
        scrapes += 1;
        assert_eq!(value(&text, &format!("cxi_telemetry_hni_rx_jabber_total{{{NIC},netdev=\"\"}}")), Some(3.0));
        let other = "node=\"n1\",device=\"cxi1\",pci=\"0000:c2:00.0\",netdev=\"\"";
        seen += usize::from(value(&text, &format!("cxi_device_link_state{{{other}}}")).is_some());
    }
    ended.store(true, Ordering::Relaxed);
    assert!(changer.join().unwrap() > 0);
}

#[test]
fn a_retry_handler_that_hangs_keeps_no_scrape_and_no_other_nic() {
    let tree = Tree::new();
    for number in 0..2 {
        tree.add(&format!("cxi{number}"), &format!("0000:c{number}:00.0"));
        tree.write(&format!("run/cxi/cxi{number}/parked_nids"), "1\n");
    }
    hang(&tree.path("run/cxi/cxi0/nacks"));
    let mut collector =
        Collector::new(root(&tree), "n1".into(), Selection::default(), Duration::from_millis(20)).unwrap();
    let stuck = "cxi_retry_handler_statistics_stuck{node=\"n1\",device=\"cxi0\",pci=\"0000:c0:00.0\",netdev=\"\"}";
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut text;
    loop {
        let scrape_began = Instant::now();
        text = scrape(&mut collector);
        slowest = slowest.max(scrape_began.elapsed());
        if value(&text, stuck) == Some(1.0) {
            break;
        }
        assert!(began.elapsed() < LONG, "{text}");
    }
    let other = "node=\"n1\",device=\"cxi1\",pci=\"0000:c1:00.0\",netdev=\"\"";
    assert_eq!(value(&text, &format!("cxi_retry_handler_parked{{{other},kind=\"nids\"}}")), Some(1.0));
    assert_eq!(value(&text, &format!("cxi_retry_handler_statistics_stuck{{{other}}}")), Some(0.0));
    assert!(!text.contains("cxi_retry_handler_parked{node=\"n1\",device=\"cxi0\""), "{text}");
    // Not the second that the first reading is waited for in the background, far less for ever.
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    let threads = || fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    for _ in 0..100 {
        scrape(&mut collector);
    }
    // The tests beside this one have some of their own.
    assert!(threads() < before + 50, "{} threads after {before}", threads());
}
