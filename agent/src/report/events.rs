//! A watch that goes on through every failure.

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::report::delay::Delay;

/// Hands every event to `on`; never ends. A failure is logged once, until the API server answers again.
pub(super) async fn run(
    api: Api<DynamicObject>,
    config: watcher::Config,
    what: &str,
    mut on: impl FnMut(Event<DynamicObject>),
) {
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
                    if is_expired(&error) {
                        break;
                    }
                }
            }
        }
    }
}

/// Whether the API server refuses to go on from where the watch was. The watcher lists again when it is told so in a
/// stream, and asks for the same for ever when the request itself is answered with 410.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}
