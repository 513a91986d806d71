use super::*;
use crate::seen::read;
use rstest::rstest;
use serde_json::{Value, json};

/// The pod as a holder.
fn held(value: &Value) -> Option<Holder> {
    let reading = read::<seen::Pod>(&value.to_string()).unwrap();
    holder(&reading.id, &reading.content?.unwrap(), &resources())
}

/// The pod as one of our namespace.
fn pod(value: &Value) -> (Identity, seen::OwnPod) {
    let reading = read::<seen::OwnPod>(&value.to_string()).unwrap();
    (reading.id, reading.content.expect("a pod that counts").unwrap())
}

fn resources() -> BTreeSet<String> {
    ["hpe.com/cxi".to_owned()].into()
}

#[rstest]
#[case::requests(json!({"containers": [{"name": "a", "resources": {"requests": {"hpe.com/cxi": "1"}}}]}), true)]
#[case::limits(json!({"containers": [{"name": "a", "resources": {"limits": {"hpe.com/cxi": "2"}}}]}), true)]
#[case::init(json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i", "resources": {"limits": {"hpe.com/cxi": "1"}}}]}), true)]
#[case::none_of_it(json!({"containers": [{"name": "a", "resources": {"limits": {"hpe.com/cxi": "0"}}}]}), false)]
#[case::other(json!({"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "1"}}}]}), false)]
fn holds(#[case] spec: Value, #[case] expected: bool) {
    assert_eq!(held(&json!({"metadata": {"name": "p"}, "spec": spec})).is_some(), expected);
}

#[rstest]
#[case("Pending", true)]
#[case("Running", true)]
#[case("Unknown", true)]
#[case("Succeeded", false)]
#[case("Failed", false)]
fn holds_until_it_has_ended(#[case] phase: &str, #[case] expected: bool) {
    let holder = held(&json!({
        "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {"containers": [{"name": "a", "resources": {"limits": {"hpe.com/cxi": "1"}}}]},
        "status": {"phase": phase},
    }));
    assert_eq!(holder.is_some(), expected);
    if let Some(holder) = holder {
        assert_eq!(holder.ends.unwrap().to_string(), "2026-01-01T00:00:30Z");
    }
}

#[test]
fn reads_a_worker_of_kmm() {
    let (_, pod) = pod(&json!({
        "metadata": {
            "name": "kmm-worker-n1-cxi-aaaa1111",
            "labels": {
                "kmm.node.kubernetes.io/worker-action": "Load",
                "kmm.node.kubernetes.io/module.name": "cxi-aaaa1111",
            },
            "annotations": {
                "kmm.node.kubernetes.io/worker-config":
                    "containerImage: r/i:t\nkernelVersion: 6.12.117+deb12-amd64\nmodprobe:\n  rawArgs:\n    load: [a]\n",
            },
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "worker"}]},
        "status": {"containerStatuses": [{
            "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "Required key not available\n"}},
        }]},
    }));
    let worker = worker(&pod).unwrap();
    assert_eq!(worker.kernel.as_deref(), Some("6.12.117+deb12-amd64"));
    assert_eq!((worker.loads, worker.restarts, worker.image_missing), (true, 2, false));
    assert_eq!(worker.trouble.as_deref(), Some("exit status 1: Required key not available"));
}

#[test]
fn a_worker_that_the_kubelet_refuses_says_why() {
    let (_, pod) = pod(&json!({
        "metadata": {"name": "w", "labels": {
            "kmm.node.kubernetes.io/worker-action": "Unload", "kmm.node.kubernetes.io/module.name": "cxi-aaaa1111",
        }},
        "status": {"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected"},
    }));
    assert_eq!(worker(&pod).unwrap().trouble.as_deref(), Some("OutOfcpu: Pod was rejected"));
}

#[test]
fn workers_of_other_modules_are_not_ours() {
    let labels = json!({"kmm.node.kubernetes.io/worker-action": "Load", "kmm.node.kubernetes.io/module.name": "gpu"});
    assert_eq!(worker(&pod(&json!({"metadata": {"name": "w", "labels": labels}})).1), None);
}

#[test]
fn a_prefetch_pod_hands_over_its_message() {
    let mut value = json!({
        "metadata": {"name": "p", "uid": "u", "labels": {
            "cxi.hpe.com/role": "prefetch", "cxi.hpe.com/driver": "d", "cxi.hpe.com/revision": "aaaa1111",
        }},
        "status": {"phase": "Succeeded", "containerStatuses": [{
            "name": "manifest", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "message": "{}"}},
        }]},
    });
    let own = |value: &Value| {
        let (id, pod) = pod(value);
        own(&id, &pod).unwrap()
    };
    assert_eq!(own(&value).state, PodState::Succeeded { message: "{}".into() });
    value["status"] = json!({"phase": "Pending", "initContainerStatuses": [{
        "name": "old-image", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
    }]});
    let image = Some(ImageTrouble::Missing("ImagePullBackOff: not found".to_owned()));
    assert_eq!(own(&value).state, PodState::Pending { image });
}

fn one_shot(status: &Value) -> PodState {
    let labels = json!({"cxi.hpe.com/role": "cleanup", "cxi.hpe.com/driver": "d"});
    let (id, pod) = pod(&json!({"metadata": {"name": "p", "labels": labels}, "status": status}));
    own(&id, &pod).unwrap().state
}

fn ended(exit: i32, reason: &str, message: &str) -> Value {
    json!([{
        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": exit, "reason": reason, "message": message}},
    }])
}

#[rstest]
#[case::refused(json!({"phase": "Failed", "reason": "OutOfcpu", "message": "Pod was rejected"}), "OutOfcpu: Pod was rejected")]
#[case::refused_by_a_plugin(json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"}), "UnexpectedAdmissionError")]
#[case::while_the_node_shuts_down(json!({"phase": "Failed", "reason": "NodeShutdown"}), "NodeShutdown")]
#[case::evicted(json!({"phase": "Failed", "reason": "Evicted", "message": "low on disk", "containerStatuses": ended(137, "Error", "")}), "Evicted: low on disk")]
#[case::preempted(json!({"phase": "Failed", "reason": "Preempting", "containerStatuses": ended(143, "Error", "")}), "Preempting")]
#[case::disrupted(json!({
    "phase": "Failed", "containerStatuses": ended(143, "Error", ""),
    "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}],
}), "DeletionByTaintManager")]
#[case::killed_for_memory(json!({"phase": "Failed", "containerStatuses": ended(137, "OOMKilled", "")}), "the pod failed before its container ran")]
#[case::lost(json!({"phase": "Failed", "containerStatuses": ended(137, "ContainerStatusUnknown", "gone")}), "the pod failed before its container ran")]
#[case::nothing_known(json!({"phase": "Failed"}), "the pod failed before its container ran")]
fn a_pod_that_did_not_end_by_itself_gave_no_answer(#[case] status: Value, #[case] expected: &str) {
    assert_eq!(one_shot(&status), PodState::Unfinished { why: expected.into() });
}

#[test]
fn a_container_that_ended_badly_by_itself_is_an_answer() {
    let status = json!({"phase": "Failed", "containerStatuses": ended(1, "Error", "cxi_sl is in use")});
    assert_eq!(one_shot(&status), PodState::Failed { code: 1, message: "cxi_sl is in use".into() });
    let status = json!({"phase": "Failed", "initContainerStatuses": ended(128, "StartError", "no /bin/sh")});
    assert_eq!(one_shot(&status), PodState::Failed { code: 128, message: "no /bin/sh".into() });
}

#[rstest]
#[case::containerd(
    "ErrImagePull",
    "rpc error: code = NotFound desc = failed to pull and unpack image \"r/i:t\": failed to resolve reference \"r/i:t\": r/i:t: not found",
    true
)]
#[case::backing_off(
    "ImagePullBackOff",
    "Back-off pulling image \"r/i:t\": ErrImagePull: rpc error: code = NotFound desc = r/i:t: not found",
    true
)]
#[case::crio("ErrImagePull", "reading manifest t in r/i: manifest unknown", true)]
#[case::no_name("InvalidImageName", "couldn't parse image name", true)]
#[case::time_out("ErrImagePull", "rpc error: code = DeadlineExceeded desc = context deadline exceeded", false)]
#[case::no_registry("ErrImagePull", "dial tcp: lookup registry on 10.0.0.10:53: no such host", false)]
#[case::secret("ErrImagePull", "pull access denied, repository does not exist or may require authorization", false)]
#[case::silent("ImagePullBackOff", "Back-off pulling image \"r/i:t\"", false)]
fn an_image_that_is_missing_is_told_from_one_that_was_not_pulled(
    #[case] reason: &str,
    #[case] message: &str,
    #[case] missing: bool,
) {
    let state = one_shot(&json!({"phase": "Pending", "containerStatuses": [{
        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }]}));
    let words = format!("{reason}: {message}");
    let image = if missing { ImageTrouble::Missing(words) } else { ImageTrouble::Unpulled(words) };
    assert_eq!(state, PodState::Pending { image: Some(image) });
}

#[test]
fn only_operands_that_are_gated_are_looked_at() {
    let mut spec = cxi_api::CXIDriverSpec::new("13.0.0");
    spec.retry_handler.image = Some("registry.example/cxi-rh:1".into());
    let handlers = ["registry.example/cxi-rh:1".to_owned()].into();
    let operands = cxi_manifests::operands::operands(
        "cassini",
        &spec,
        "cxi-operator",
        &cxi_manifests::images::Images::default(),
        &handlers,
    );
    for (name, operand) in operands {
        let template = operand.unwrap().spec.unwrap().template;
        let mut value = json!({ "metadata": template.metadata, "spec": template.spec });
        value["metadata"]["name"] = json!("p");
        assert!(held(&value).is_none(), "{name}");
        let counted =
            ["cxi-device-plugin-cassini", "cxi-retry-handler-cassini-"].iter().any(|one| name.starts_with(one));
        let kept = read::<seen::OwnPod>(&value.to_string()).unwrap();
        assert_eq!(kept.content.is_some(), counted, "{name} is kept in memory for nothing");
        let Some(pod) = kept.content.map(Result::unwrap) else { continue };
        assert!(worker(&pod).is_none() && own(&kept.id, &pod).is_some(), "{name}");
    }
}
