//! Tasks beside the loop that never end by themselves. One that does leaves its work undone, and nothing would show it,
//! so the process ends with it.

use std::future::{Future, pending};

use anyhow::anyhow;
use tokio::task::JoinSet;

/// The tasks, each with its name. They are aborted when this is dropped.
#[derive(Default)]
pub struct Side(JoinSet<&'static str>);

impl Side {
    /// Runs a task that is not to end.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            name
        });
    }

    /// Comes back when one has ended, with what there is to say of it.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            Some(Ok(name)) => anyhow!("the task that {name} has ended"),
            Some(Err(error)) => anyhow::Error::new(error).context("a task beside the loop failed"),
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_dies_is_noticed() {
        let mut side = Side::default();
        side.spawn("waits", pending());
        side.spawn("counts", async {});
        assert_eq!(side.ended().await.to_string(), "the task that counts has ended");
        side.spawn("fails", async { panic!("on purpose") });
        assert!(format!("{:#}", side.ended().await).contains("panicked"));
        assert!(timeout(Duration::from_millis(50), side.ended()).await.is_err(), "the other goes on");
        assert!(timeout(Duration::from_millis(50), Side::default().ended()).await.is_err());
    }
}
