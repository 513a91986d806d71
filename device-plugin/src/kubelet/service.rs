//! The gRPC service that the kubelet calls.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

use crate::{
    kubelet_api::proto::{v1beta1 as api, v1beta1::device_plugin_server::DevicePlugin},
    offer::{
        Published,
        allocate::{AllocateError, allocate},
        preferred::{PreferredError, preferred},
    },
};

/// Answers from the latest published state.
#[derive(Clone, Debug)]
pub struct Service {
    published: watch::Receiver<Arc<Published>>,
    /// How many `ListAndWatch` streams are open.
    streams: Arc<watch::Sender<usize>>,
    /// Ends the streams.
    end: CancellationToken,
}

impl Service {
    /// A service whose `ListAndWatch` streams end when `end` is cancelled, and are counted in `streams`.
    pub fn new(
        published: watch::Receiver<Arc<Published>>,
        streams: Arc<watch::Sender<usize>>,
        end: CancellationToken,
    ) -> Self {
        Self { published, streams, end }
    }

    fn current(&self) -> Arc<Published> {
        Arc::clone(&self.published.borrow())
    }
}

/// What the plugin wants the kubelet to call.
pub fn options() -> api::DevicePluginOptions {
    api::DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true }
}

/// Counts a stream as long as it lives.
struct OpenStream(Arc<watch::Sender<usize>>);

impl OpenStream {
    fn new(streams: Arc<watch::Sender<usize>>) -> Self {
        streams.send_modify(|open| *open += 1);
        Self(streams)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<api::ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<api::Empty>,
    ) -> Result<Response<api::DevicePluginOptions>, Status> {
        Ok(Response::new(options()))
    }

    async fn list_and_watch(&self, _: Request<api::Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let open = OpenStream::new(Arc::clone(&self.streams));
        let mut last = None;
        let lists = WatchStream::new(self.published.clone()).filter_map(move |published| {
            let _counted = &open;
            let devices = published.devices();
            // What changed may not concern the list, such as the name of a NIC.
            let changed = last.as_ref() != Some(&devices);
            if changed {
                debug!(ids = devices.len(), "sending the list");
                last = Some(devices.clone());
            }
            futures::future::ready(changed.then_some(Ok(api::ListAndWatchResponse { devices })))
        });
        let end = self.end.clone();
        Ok(Response::new(Box::pin(lists.take_until(async move { end.cancelled().await }))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<api::PreferredAllocationRequest>,
    ) -> Result<Response<api::PreferredAllocationResponse>, Status> {
        let published = self.current();
        let requests = request.into_inner().container_requests;
        let responses = requests.iter().map(|container| {
            let size = usize::try_from(container.allocation_size)
                .map_err(|_| Status::invalid_argument("allocation size is negative"))?;
            let required = &container.must_include_device_i_ds;
            let ids = preferred(&published.inventory, &container.available_device_i_ds, required, size)?;
            let device_i_ds = ids.iter().map(ToString::to_string).collect();
            Ok(api::ContainerPreferredAllocationResponse { device_i_ds })
        });
        let container_responses = responses.collect::<Result<_, Status>>()?;
        Ok(Response::new(api::PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<api::AllocateRequest>,
    ) -> Result<Response<api::AllocateResponse>, Status> {
        let published = self.current();
        let requests = request.into_inner().container_requests;
        let mut container_responses = Vec::with_capacity(requests.len());
        for container in requests {
            let ids = container.devices_ids;
            let allocation = allocate(&published, &ids).inspect_err(|error| {
                warn!(?ids, %error, "allocation refused");
            })?;
            if let Some(shortage) = allocation.shortage() {
                warn!(?ids, "{shortage}");
            }
            let response = allocation.response;
            let nodes: Vec<_> = response.devices.iter().map(|node| node.host_path.as_str()).collect();
            info!(?ids, ?nodes, "allocated");
            container_responses.push(response);
        }
        Ok(Response::new(api::AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _: Request<api::PreStartContainerRequest>,
    ) -> Result<Response<api::PreStartContainerResponse>, Status> {
        // Not asked for when registering; harmless when it is called all the same.
        Ok(Response::new(api::PreStartContainerResponse {}))
    }
}

impl From<AllocateError> for Status {
    fn from(error: AllocateError) -> Self {
        let message = error.to_string();
        match error {
            AllocateError::Nothing | AllocateError::NotAnId(_) => Self::invalid_argument(message),
            AllocateError::NoSuchNic(_) => Self::not_found(message),
            AllocateError::NoDeviceNode(_) | AllocateError::Closed => Self::failed_precondition(message),
        }
    }
}

impl From<PreferredError> for Status {
    fn from(error: PreferredError) -> Self {
        let message = error.to_string();
        match error {
            PreferredError::UnknownRequired(_) => Self::not_found(message),
            PreferredError::TooManyRequired { .. } | PreferredError::TooFew { .. } => Self::invalid_argument(message),
        }
    }
}
