//! Registers the plugin with the kubelet, and notices when the kubelet has lost interest.

use std::{error::Error, io, path::Path, time::Duration};

use cxi_node::BackOff;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Code;
use tracing::{debug, info, warn};

use crate::{
    kubelet::service,
    kubelet_api::{
        pod_resources::{unix_connector, unix_endpoint},
        proto::v1beta1::{KUBELET_SOCKET, RegisterRequest, VERSION, registration_client::RegistrationClient},
        resource_name::ResourceName,
    },
};

/// While it handles the call, the kubelet connects back and waits up to ten seconds for that.
const REGISTRATION_LIMIT: Duration = Duration::from_secs(15);

/// Waiting time after a first attempt that failed, and the longest one.
const SHORTEST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Refusals in a row after which another attempt is pointless. The kubelet gives no code by which a refusal for good
/// could be told from a failure to connect back.
const MAX_REFUSALS: u32 = 5;

/// A kubelet that is interested keeps a `ListAndWatch` stream open. Without one for this long it has given the plugin up,
/// and comes back only for a new registration.
const ABANDONED_AFTER: Duration = Duration::from_secs(10);

/// The kubelet does not accept the plugin.
#[derive(Debug, thiserror::Error)]
#[error("the kubelet refused to register {resource} {MAX_REFUSALS} times: {message}")]
pub struct RegistrationRefused {
    /// The resource.
    pub resource: String,
    /// What the kubelet said last.
    pub message: String,
}

/// Why the kubelet cannot be reached.
struct Unreachable {
    reason: String,
    /// What connecting to it failed with, where it came to that.
    kind: Option<io::ErrorKind>,
}

impl Unreachable {
    /// Connecting failed with `error`.
    fn connecting(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        let mut kind = None;
        while let (None, Some(error)) = (kind, cause) {
            kind = error.downcast_ref().map(io::Error::kind);
            cause = error.source();
        }
        Self { reason: cxi_node::log::chain(error), kind }
    }

    fn remedy(&self) -> &'static str {
        match self.kind {
            Some(io::ErrorKind::PermissionDenied) => {
                "this process may not open the kubelet's socket: run it as root, and under SELinux as spc_t \
                (securityContext.seLinuxOptions.type)"
            }
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                "is the kubelet running? (systemctl status kubelet)"
            }
            _ => "is the kubelet running and answering? (systemctl status kubelet)",
        }
    }
}

/// Registers `resource`, served on the socket called `endpoint` in `directory`. Tries until the kubelet can be reached.
///
/// # Errors
/// When the kubelet refuses again and again.
pub async fn register(directory: &Path, endpoint: &str, resource: &ResourceName) -> Result<(), RegistrationRefused> {
    let (mut back_off, mut refusals) = (BackOff::new(SHORTEST_DELAY, LONGEST_DELAY), 0);
    let mut said = false;
    loop {
        match attempt(directory, endpoint, resource).await {
            Err(why) if said => debug!(reason = why.reason, "kubelet cannot be reached"),
            Err(why) => {
                warn!(reason = why.reason, remedy = why.remedy(), "kubelet cannot be reached; trying until it can");
                said = true;
            }
            Ok(answer) => {
                if std::mem::take(&mut said) {
                    info!("kubelet can be reached again");
                }
                let Err(message) = answer else {
                    info!(%resource, endpoint, "registered with the kubelet");
                    return Ok(());
                };
                warn!(%resource, message, "kubelet refused the registration");
                refusals += 1;
                if refusals == MAX_REFUSALS {
                    return Err(RegistrationRefused { resource: resource.to_string(), message });
                }
            }
        }
        sleep(back_off.next_delay()).await;
    }
}

/// The kubelet's answer: an error is its refusal in its own words.
async fn attempt(directory: &Path, endpoint: &str, resource: &ResourceName) -> Result<Result<(), String>, Unreachable> {
    let kubelet = unix_endpoint();
    let connecting = kubelet.connect_with_connector(unix_connector(directory.join(KUBELET_SOCKET)));
    let request = RegisterRequest {
        version: VERSION.into(),
        endpoint: endpoint.into(),
        resource_name: resource.to_string(),
        options: Some(service::options()),
    };
    let call = async {
        let channel = connecting.await.map_err(|error| Unreachable::connecting(&error))?;
        match RegistrationClient::new(channel).register(request).await {
            Ok(_) => Ok(Ok(())),
            Err(status) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                    Err(Unreachable { reason: status.to_string(), kind: None })
                }
                _ => Ok(Err(status.message().to_owned())),
            },
        }
    };
    timeout(REGISTRATION_LIMIT, call)
        .await
        .unwrap_or_else(|_| Err(Unreachable { reason: "no answer".into(), kind: None }))
}

/// Waits until no `ListAndWatch` stream has been open for [`ABANDONED_AFTER`]. Never returns when the sender of the count is
/// dropped.
pub async fn abandoned(mut streams: watch::Receiver<usize>) {
    loop {
        let opened = timeout(ABANDONED_AFTER, streams.wait_for(|open| *open > 0)).await.map(|open| open.is_ok());
        let Ok(counted) = opened else { return };
        if !counted || streams.wait_for(|open| *open == 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use tokio::{net::UnixListener, time::Instant};
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::{Request, Response, Status, transport::Server};

    use super::*;
    use crate::kubelet_api::proto::v1beta1::{
        Empty,
        registration_server::{Registration, RegistrationServer},
    };

    /// Accepts everybody.
    struct Kubelet;

    #[tonic::async_trait]
    impl Registration for Kubelet {
        async fn register(&self, _: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
            Ok(Response::new(Empty {}))
        }
    }

    /// What was logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_kubelet_that_cannot_be_reached_is_said_once_and_so_is_its_return() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join(KUBELET_SOCKET);
        // As after a kubelet that was killed: the file is there, and no process listens.
        drop(UnixListener::bind(&socket).unwrap());
        let kubelet = async {
            sleep(SHORTEST_DELAY * 5).await;
            std::fs::remove_file(&socket).unwrap();
            let listener = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
            Server::builder().add_service(RegistrationServer::new(Kubelet)).serve_with_incoming(listener).await
        };
        let resource = "hpe.com/cxi".parse().unwrap();
        tokio::select! {
            registered = register(directory.path(), "cxi.sock", &resource) => registered.unwrap(),
            served = kubelet => panic!("{served:?}"),
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let said = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(said(" WARN "), 1, "{log}");
        assert_eq!(said("is the kubelet running? ("), 1, "{log}");
        assert_eq!((said("can be reached again"), said("registered with")), (1, 1), "{log}");
    }

    #[test]
    fn what_helps_depends_on_what_is_wrong() {
        let remedy = |kind: io::ErrorKind| Unreachable::connecting(&io::Error::from(kind)).remedy();
        assert!(remedy(io::ErrorKind::PermissionDenied).contains("SELinux"));
        assert!(remedy(io::ErrorKind::ConnectionRefused).contains("running?"));
        assert!(remedy(io::ErrorKind::NotFound).contains("running?"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_comes_or_goes_for_good_is_noticed_and_a_short_gap_is_not() {
        let start = Instant::now();
        let (streams, receiver) = watch::channel(0);
        abandoned(receiver).await;
        assert_eq!(start.elapsed(), ABANDONED_AFTER);

        let waiting = tokio::spawn(abandoned(streams.subscribe()));
        streams.send_replace(1);
        sleep(ABANDONED_AFTER * 3).await;
        streams.send_replace(0);
        sleep(ABANDONED_AFTER / 2).await;
        streams.send_replace(1);
        sleep(ABANDONED_AFTER * 3).await;
        assert!(!waiting.is_finished());
        streams.send_replace(0);
        sleep(ABANDONED_AFTER + Duration::from_millis(1)).await;
        assert!(waiting.is_finished());
    }
}
