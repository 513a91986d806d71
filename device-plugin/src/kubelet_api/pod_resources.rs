//! Asks the kubelet which device ids are allocated.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::transport::{Channel, Endpoint};

use crate::kubelet_api::{
    device_id::DeviceId,
    proto::podresources::{
        ListPodResourcesRequest, PodResources, pod_resources_lister_client::PodResourcesListerClient,
    },
    resource_name::ResourceName,
};

/// A kubelet answers from memory.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The kubelet's own limit for messages of this service (`defaultPodResourcesMaxSize`); tonic's is smaller.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Namespace and name of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The kubelet gave no answer that can be relied on. It is not "nothing is allocated".
#[derive(Debug, thiserror::Error)]
pub enum InUseError {
    /// The call failed.
    #[error("list the pod resources")]
    Call(#[from] tonic::Status),
    /// The kubelet did not answer in time.
    #[error("the kubelet did not list the pod resources within {ANSWER_LIMIT:?}")]
    Late,
    /// The answer does not name the pod that this process runs in: the kubelet was started a moment ago and has not
    /// heard of its pods yet, or cannot.
    #[error("the kubelet does not know its pods yet: it does not list {}/{}", .0.namespace, .0.name)]
    PodsUnknown(PodName),
}

/// A client of the kubelet's PodResources service.
#[derive(Clone, Debug)]
pub struct PodResourcesLister {
    client: PodResourcesListerClient<Channel>,
    resource: ResourceName,
    own_pod: Option<PodName>,
}

impl PodResourcesLister {
    /// A client of the service on `socket` that looks for ids of `resource`. It connects when it is first asked, and
    /// again after every loss. With `own_pod`, answers that do not list this pod are not believed.
    pub fn new(socket: &Path, resource: ResourceName, own_pod: Option<PodName>) -> Self {
        let channel = unix_endpoint().connect_with_connector_lazy(unix_connector(socket.into()));
        let client = PodResourcesListerClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        Self { client, resource, own_pod }
    }

    /// The ids that are allocated now.
    ///
    /// # Errors
    /// When there is no answer or not one that can be relied on.
    pub async fn in_use(&mut self) -> Result<BTreeSet<DeviceId>, InUseError> {
        let call = self.client.list(ListPodResourcesRequest {});
        let answer = timeout(ANSWER_LIMIT, call).await.map_err(|_| InUseError::Late)??.into_inner();
        allocated(&answer.pod_resources, &self.resource, self.own_pod.as_ref())
    }
}

/// The ids of `resource` in an answer. Ids that this plugin does not hand out belong to an earlier configuration and
/// cannot be offered again, so they do not matter here.
fn allocated(
    pods: &[PodResources],
    resource: &ResourceName,
    own_pod: Option<&PodName>,
) -> Result<BTreeSet<DeviceId>, InUseError> {
    if let Some(own) = own_pod
        && !pods.iter().any(|pod| pod.name == own.name && pod.namespace == own.namespace)
    {
        return Err(InUseError::PodsUnknown(own.clone()));
    }
    let devices = pods.iter().flat_map(|pod| &pod.containers).flat_map(|container| &container.devices);
    let ids =
        devices.filter(|devices| devices.resource_name == resource.as_str()).flat_map(|devices| &devices.device_ids);
    Ok(ids.filter_map(|id| id.parse().ok()).collect())
}

/// An endpoint for a unix socket; the address is only what HTTP/2 wants to see, and the one kubelets use themselves.
pub(crate) fn unix_endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

/// Connects to the unix socket at `path`.
pub(crate) fn unix_connector(
    path: PathBuf,
) -> impl tower::Service<tonic::transport::Uri, Response = TokioIo<UnixStream>, Error = std::io::Error, Future: Send>
+ Send
+ 'static {
    tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::kubelet_api::proto::podresources::{ContainerDevices, ContainerResources, ListPodResourcesResponse};

    fn pod(name: &str, devices: &[(&str, &[&str])]) -> PodResources {
        let devices = devices.iter().map(|(resource, ids)| ContainerDevices {
            resource_name: (*resource).into(),
            device_ids: ids.iter().map(ToString::to_string).collect(),
        });
        let container = ContainerResources { name: "c".into(), devices: devices.collect() };
        PodResources { name: name.into(), namespace: "default".into(), containers: vec![container] }
    }

    fn in_use(pods: &[PodResources], own_pod: Option<&PodName>) -> Result<Vec<String>, InUseError> {
        let ids = allocated(pods, &"hpe.com/cxi".parse().unwrap(), own_pod)?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ids_of_all_pods_and_numa_nodes_count_and_those_of_other_resources_do_not() {
        let pods = [
            pod("one", &[("hpe.com/cxi", &["0000:c1:00.0-1"]), ("hpe.com/cxi", &["0000:01:00.0-0"])]),
            pod("two", &[("example.com/gpu", &["0000:c1:00.0-7"]), ("hpe.com/cxi", &["0000:c1:00.0-2", "cxi0"])]),
        ];
        assert_eq!(in_use(&pods, None).unwrap(), ["0000:01:00.0-0", "0000:c1:00.0-1", "0000:c1:00.0-2"]);
    }

    #[test]
    fn a_kubelet_that_does_not_know_our_own_pod_is_not_believed() {
        let own = PodName { namespace: "default".into(), name: "plugin".into() };
        let elsewhere = PodName { namespace: "other".into(), name: "plugin".into() };
        let pods = [pod("plugin", &[])];
        assert!(in_use(&pods, Some(&own)).unwrap().is_empty());
        assert!(matches!(in_use(&[], Some(&own)), Err(InUseError::PodsUnknown(_))));
        assert!(matches!(in_use(&pods, Some(&elsewhere)), Err(InUseError::PodsUnknown(_))));
        assert!(in_use(&[], None).unwrap().is_empty());
    }

    #[test]
    fn any_input_is_an_answer_of_ids_or_refused() {
        let pods = [("one", "0000:c1:00.0-1"), ("two", "0000:21:00.0-99")];
        let pod_resources = pods.map(|(name, id)| pod(name, &[("hpe.com/cxi", &[id])])).to_vec();
        let answer = ListPodResourcesResponse { pod_resources }.encode_to_vec();
        cxi_any_input::bytes(&[&answer], &|bytes| {
            let answer = ListPodResourcesResponse::decode(bytes);
            for id in answer.iter().flat_map(|answer| in_use(&answer.pod_resources, None).unwrap()) {
                assert!(bytes.windows(id.len()).any(|part| part == id.as_bytes()), "{id}");
            }
            answer.is_ok().into()
        });
    }
}
