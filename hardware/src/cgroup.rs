//! Which pod a process belongs to, from `/proc/<pid>/cgroup`.
//!
//! The kubelet names a pod's cgroup `pod<uid>` (driver `cgroupfs`) or, for systemd,
//! `kubepods-burstable-pod<uid with _ for ->.slice`, in both versions of cgroup and under every runtime; below it
//! containerd and CRI-O put their containers. A reader in a cgroup namespace of its own sees paths relative to it
//! (`/../../kubepods-…`), so the component is looked for wherever it stands.

use crate::identity::is_uuid;

/// Longest text of `/proc/<pid>/cgroup` that is read, in bytes: a line for each of some 15 hierarchies, each a path of
/// at most 4096.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// UID of the pod, `None` for a process outside Kubernetes.
///
/// The outermost component counts: a container that may make cgroups of its own cannot pass for another pod.
pub(crate) fn pod_uid(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        // `hierarchy:controllers:path`; the path may hold colons.
        let path = line.splitn(3, ':').nth(2)?;
        // containerd names a cgroup `kubepods-pod<uid>.slice:cri-containerd:<id>` when it was set up for cgroupfs under
        // a kubelet set up for systemd.
        path.split(['/', ':']).find_map(component)
    })
}

fn component(name: &str) -> Option<String> {
    if let Some(uid) = name.strip_prefix("pod") {
        return is_pod_uid(uid).then(|| uid.to_owned());
    }
    let slice = name.strip_suffix(".slice").filter(|slice| slice.contains("kubepods"))?;
    let (_, uid) = slice.rsplit_once("-pod")?;
    let uid = uid.replace('_', "-");
    is_pod_uid(&uid).then_some(uid)
}

/// A UUID, or the MD5 sum that the kubelet gives to pods from files.
fn is_pod_uid(text: &str) -> bool {
    is_uuid(text) || (text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const UID: &str = "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c";
    const SLICE: &str = "0f6cb5d2_6b7d_4bd6_9c6c_6f1f1e1b2a3c";
    const STATIC: &str = "8a29b2f8c1cf2ba9e4e1e4b0a3f7d6c5";

    #[rstest]
    #[case::v2_systemd_containerd(
        "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_.slice/cri-containerd-ab.scope"
    )]
    #[case::v2_systemd_crio(
        "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_.slice/crio-ab.scope/container"
    )]
    #[case::v2_guaranteed("0::/kubepods.slice/kubepods-podU_.slice/cri-containerd-ab.scope")]
    #[case::v2_cgroupfs("0::/kubepods/burstable/podU/ab")]
    #[case::v2_guaranteed_cgroupfs("0::/kubepods/podU/crio-ab")]
    #[case::v1("12:cpuset:/kubepods/besteffort/podU/ab\n1:name=systemd:/kubepods/besteffort/podU/ab")]
    #[case::v1_root_first("12:rdma:/\n3:cpu,cpuacct:/kubepods.slice/kubepods-podU_.slice/crio-ab.scope")]
    #[case::mixed("3:cpu:/system.slice/containerd.service/kubepods-burstable-podU_.slice:cri-containerd:ab")]
    #[case::own_namespace(
        "0::/../../../kubepods-burstable.slice/kubepods-burstable-podU_.slice/cri-containerd-ab.scope"
    )]
    #[case::own_namespace_cgroupfs("0::/../../podU/ab")]
    #[case::kind("0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_.slice/cri-containerd-ab.scope")]
    #[case::pod_in_pod("0::/kubepods/podU/ab/kubepods/pod11111111-1111-1111-1111-111111111111/cd")]
    fn finds(#[case] text: &str) {
        for uid in [UID, STATIC] {
            let slice = if uid == UID { SLICE } else { STATIC };
            let text = text.replace("U_", slice).replace('U', uid);
            assert_eq!(pod_uid(&text).as_deref(), Some(uid), "{text}");
        }
    }

    #[rstest]
    #[case("")]
    #[case("0::/")]
    #[case("0::/init.scope")]
    #[case("0::/system.slice/slurmd.service")]
    #[case("0::/user.slice/user-1000.slice/session-3.scope")]
    #[case("0::/machine.slice/libpod_pod_8a29b2f8c1cf2ba9e4e1e4b0a3f7d6c5.slice")]
    #[case("0::/kubepods/burstable")]
    #[case("0::/kubepods/podinfo/ab")]
    #[case("0::/kubepods.slice/kubepods-pod.slice")]
    #[case("podless")]
    fn finds_nothing(#[case] text: &str) {
        assert_eq!(pod_uid(text), None);
    }

    #[test]
    fn any_input_names_a_pod_that_is_in_it_or_none() {
        let slice =
            format!("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICE}.slice/crio-ab.scope");
        let v1 = format!("12:cpuset:/kubepods/besteffort/pod{UID}/ab\n1:name=systemd:/kubepods/besteffort/pod{UID}/ab");
        let of_file = format!("3:cpu:/system.slice/kubepods-pod{STATIC}.slice:cri-containerd:ab\n");
        cxi_any_input::text(&[&slice, &v1, &of_file], &|text| {
            let uid = pod_uid(text);
            if let Some(uid) = &uid {
                assert!(is_pod_uid(uid) && text.replace('_', "-").contains(&format!("pod{uid}")), "{uid}");
            }
            uid.is_some().into()
        });
    }
}
