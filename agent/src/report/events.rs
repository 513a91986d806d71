//! A watch that goes on through every failure.

use std::fmt::Debug;

use futures::StreamExt as _;
use kube::Resource;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::report::delay::Delay;

/// Hands every event to `on`; never ends. A failure is logged once, until the API server answers again.
pub(super) async fn run<K>(api: Api<K>, config: watcher::Config, what: &str, mut on: impl FnMut(Event<K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut delay = Delay::default();
    loop {
        let mut events = std::pin::pin!(watcher(api.clone(), config.clone()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    // A list begins before anything was answered.
                    if delay.is_failing() && !matches!(event, Event::Init) {
                        info!(what, "watching again");
                        delay.reset();
                    }
                    on(event);
                }
                Err(error) => {
                    if !delay.is_failing() {
                        warn!(
                            what,
                            error = cxi_program::log::chain(&error),
                            "cannot watch; what is known stays as it is"
                        );
                    }
                    sleep(delay.next()).await;
                    if needs_list(&error) {
                        break;
                    }
                }
            }
        }
    }
}

/// Whether only a list can tell what is there. The API server may refuse to go on from where the watch was: the watcher lists again
/// when it is told so in a stream, and asks for the same for ever when the request itself is answered with 410. And after an event
/// that cannot be read it goes on with the next, and what that one said is lost.
fn needs_list(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        watcher::Error::WatchFailed(kube::Error::SerdeError(_)) => true,
        _ => false,
    }
}
