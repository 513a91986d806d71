//! Which open files a report names, and when another list of them is worth a report. Pure.
//!
//! A job has a process for each core, and all of them have the same devices open. A list of all would be long, written
//! with every heartbeat, and at some length too large for the API server. The operator needs only to know which pods
//! and which processes outside Kubernetes have a device.

use std::collections::BTreeSet;

use cxi_api::NodeReport;
use cxi_hardware::OpenFile;

/// Files of processes outside Kubernetes that are named at most. When these have ended, the next report names the next
/// ones.
const OUTSIDE_KUBERNETES: usize = 32;

/// Of `files`, which are in the order of process ids: one for each pod and device, and the first of those outside Kubernetes.
/// Where there is one at all, there is one here.
pub(super) fn named(files: &[OpenFile]) -> impl Iterator<Item = &OpenFile> {
    let (mut of_pods, mut outside) = (BTreeSet::new(), 0);
    files.iter().filter(move |file| {
        if let Some(pod) = &file.pod_uid {
            return of_pods.insert((pod, file.device));
        }
        outside += 1;
        outside <= OUTSIDE_KUBERNETES
    })
}

/// Whether `new` says something that `old` does not. Which of a pod's processes is named does not matter, nor how often a
/// module that is in use is in use: jobs start processes all the time.
pub(super) fn is_news(old: &NodeReport, new: &NodeReport) -> bool {
    lasting(old) != lasting(new)
}

fn lasting(report: &NodeReport) -> NodeReport {
    let mut report = report.clone();
    for file in report.open_files.iter_mut().filter(|file| file.pod_uid.is_some()) {
        file.pid = 0;
        file.command.clear();
    }
    // They were in the order of process ids.
    report.open_files.sort_by(|a, b| (&a.pod_uid, &a.device, a.pid).cmp(&(&b.pod_uid, &b.device, b.pid)));
    for module in &mut report.modules {
        module.refcount = module.refcount.min(1);
    }
    report
}

#[cfg(test)]
mod tests {
    use cxi_api::{
        Timestamp,
        node_report::{self, LoadedModule},
    };
    use cxi_hardware::NicName;

    use super::*;

    fn file(pid: u32, device: u32, pod: Option<&str>) -> OpenFile {
        OpenFile { pid, command: "app".into(), device: NicName::new(device), pod_uid: pod.map(str::to_owned) }
    }

    fn pids(files: &[OpenFile]) -> Vec<u32> {
        named(files).map(|file| file.pid).collect()
    }

    #[test]
    fn one_process_of_each_pod_for_each_device() {
        let ranks = (10..266).flat_map(|pid| [file(pid, 0, Some("a")), file(pid, 1, Some("a"))]);
        let other = (300..310).map(|pid| file(pid, 0, Some("b")));
        assert_eq!(pids(&ranks.chain(other).collect::<Vec<_>>()), [10, 10, 300]);
    }

    #[test]
    fn so_many_outside_kubernetes_and_never_none() {
        let outside: Vec<_> = (1..1000).map(|pid| file(pid, 0, None)).collect();
        assert_eq!(pids(&outside), (1..=32).collect::<Vec<_>>());
        let with_pods: Vec<_> = outside.into_iter().chain([file(2000, 0, Some("a"))]).collect();
        assert_eq!(pids(&with_pods).last(), Some(&2000), "pods have no part in that");
        assert_eq!(pids(&[]), Vec::<u32>::new());
    }

    fn report(files: &[(i32, &str, Option<&str>)], refcount: i32) -> NodeReport {
        let file = |(pid, device, pod): &(i32, &str, Option<&str>)| node_report::OpenFile {
            device: (*device).to_owned(),
            pid: *pid,
            command: format!("command-{pid}"),
            pod_uid: pod.map(str::to_owned),
        };
        NodeReport {
            kernel: "k".into(),
            boot_id: "b".into(),
            observed_at: Timestamp::UNIX_EPOCH,
            sequence: 0,
            acknowledged: None,
            modules: vec![LoadedModule { name: "cxi_user".into(), build_id: String::new(), refcount, holders: vec![] }],
            driver_version: None,
            open_files: files.iter().map(file).collect(),
            devices: vec![],
            kernel_messages: vec![],
        }
    }

    #[test]
    fn processes_that_come_and_go_within_a_pod_are_no_news() {
        let old = report(&[(10, "cxi0", Some("a")), (20, "cxi0", Some("b")), (30, "cxi0", None)], 3);
        // The first pod's first process has ended.
        let same = report(&[(20, "cxi0", Some("b")), (25, "cxi0", Some("a")), (30, "cxi0", None)], 2);
        assert!(!is_news(&old, &same));
        for new in [
            report(&[(10, "cxi0", Some("a")), (30, "cxi0", None)], 3),
            report(&[(10, "cxi1", Some("a")), (20, "cxi0", Some("b")), (30, "cxi0", None)], 3),
            report(&[(10, "cxi0", Some("a")), (20, "cxi0", Some("b")), (31, "cxi0", None)], 3),
            report(&[(10, "cxi0", Some("a")), (20, "cxi0", Some("b")), (30, "cxi0", Some("c"))], 3),
            report(&[(10, "cxi0", Some("a")), (20, "cxi0", Some("b")), (30, "cxi0", None)], 0),
        ] {
            assert!(is_news(&old, &new), "{new:#?}");
        }
    }
}
