//! Registers the plugin with the kubelet, and notices when the kubelet has lost interest.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tracing::{debug, info, warn};

use crate::pod_resources::{unix_connector, unix_endpoint};
use crate::proto::v1beta1::registration_client::RegistrationClient;
use crate::proto::v1beta1::{KUBELET_SOCKET, RegisterRequest, VERSION};
use crate::resource_name::ResourceName;
use crate::service;

/// While it handles the call, the kubelet connects back and waits up to ten seconds for that.
const LIMIT: Duration = Duration::from_secs(15);

const MIN_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Refusals in a row after which another attempt is pointless. The kubelet gives no code by which a refusal for good
/// could be told from a failure to connect back.
const MAX_REFUSALS: u32 = 5;

/// A kubelet that is interested keeps a `ListAndWatch` stream open. Without one for this long it has given the plugin up,
/// and comes back only for a new registration.
const ABANDONED: Duration = Duration::from_secs(10);

/// The kubelet does not accept the plugin.
#[derive(Debug, thiserror::Error)]
#[error("the kubelet refused to register {resource} {MAX_REFUSALS} times: {message}")]
pub struct RegistrationRefused {
    /// The resource.
    pub resource: String,
    /// What the kubelet said last.
    pub message: String,
}

enum Attempt {
    Refused(String),
    /// The kubelet cannot be reached now.
    Unreachable(String),
}

/// Registers `resource`, served on the socket called `endpoint` in `directory`. Tries until the kubelet can be reached.
///
/// # Errors
/// When the kubelet refuses again and again.
pub async fn register(directory: &Path, endpoint: &str, resource: &ResourceName) -> Result<(), RegistrationRefused> {
    let (mut delay, mut refusals) = (MIN_DELAY, 0);
    loop {
        match attempt(directory, endpoint, resource).await {
            Ok(()) => {
                info!(%resource, endpoint, "registered with the kubelet");
                return Ok(());
            }
            Err(Attempt::Unreachable(reason)) => debug!(reason, "kubelet cannot be reached"),
            Err(Attempt::Refused(message)) => {
                warn!(%resource, message, "kubelet refused the registration");
                refusals += 1;
                if refusals == MAX_REFUSALS {
                    return Err(RegistrationRefused { resource: resource.to_string(), message });
                }
            }
        }
        sleep(delay).await;
        delay = (delay * 2).min(MAX_DELAY);
    }
}

async fn attempt(directory: &Path, endpoint: &str, resource: &ResourceName) -> Result<(), Attempt> {
    let kubelet = unix_endpoint();
    let connecting = kubelet.connect_with_connector(unix_connector(directory.join(KUBELET_SOCKET)));
    let request = RegisterRequest {
        version: VERSION.into(),
        endpoint: endpoint.into(),
        resource_name: resource.to_string(),
        options: Some(service::options()),
    };
    let call = async {
        let channel = connecting.await.map_err(|error| Attempt::Unreachable(cxi_program::log::chain(&error)))?;
        let answer = RegistrationClient::new(channel).register(request).await;
        answer.map(drop).map_err(|status| match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Attempt::Unreachable(status.to_string()),
            _ => Attempt::Refused(status.message().to_owned()),
        })
    };
    timeout(LIMIT, call).await.unwrap_or_else(|_| Err(Attempt::Unreachable("no answer".into())))
}

/// Waits until no `ListAndWatch` stream has been open for [`ABANDONED`]. Never returns when nobody counts any more.
pub async fn abandoned(mut streams: watch::Receiver<usize>) {
    loop {
        let opened = timeout(ABANDONED, streams.wait_for(|open| *open > 0)).await.map(|open| open.is_ok());
        let Ok(counted) = opened else { return };
        if !counted || streams.wait_for(|open| *open == 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_comes_or_goes_for_good_is_noticed_and_a_short_gap_is_not() {
        let start = Instant::now();
        let (streams, receiver) = watch::channel(0);
        abandoned(receiver).await;
        assert_eq!(start.elapsed(), ABANDONED);

        let waiting = tokio::spawn(abandoned(streams.subscribe()));
        streams.send_replace(1);
        sleep(ABANDONED * 3).await;
        streams.send_replace(0);
        sleep(ABANDONED / 2).await;
        streams.send_replace(1);
        sleep(ABANDONED * 3).await;
        assert!(!waiting.is_finished());
        streams.send_replace(0);
        sleep(ABANDONED + Duration::from_millis(1)).await;
        assert!(waiting.is_finished());
    }
}
