//! Notices when a socket file is made anew.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::time::{sleep, timeout};
use tracing::warn;

/// How often files are compared, for where inotify sees nothing (its instances are used up, the directory was
/// replaced).
const COMPARE_PERIOD: Duration = Duration::from_secs(1);

/// Which file is at a path.
///
/// The inode number alone does not tell: file systems hand it out again at once, so that a restarted kubelet often
/// has a socket with the number of the old one. The change time differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Identity {
    /// The identity of what is at `path`, `None` if nothing is.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match path.symlink_metadata() {
            Ok(file) => {
                Ok(Some(Self { device: file.dev(), inode: file.ino(), changed: (file.ctime(), file.ctime_nsec()) }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Watches one directory.
pub struct SocketWatch {
    directory: PathBuf,
    events: Option<EventStream<[u8; 1024]>>,
}

impl SocketWatch {
    /// Watches `directory`. Where inotify does not work the watch is slower and says so once.
    pub fn new(directory: &Path) -> Self {
        let events = Inotify::init().and_then(|inotify| {
            inotify
                .watches()
                .add(directory, WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::DELETE | WatchMask::MOVED_FROM)?;
            inotify.into_event_stream([0; 1024])
        });
        let events = events
            .inspect_err(|error| warn!(%error, directory = %directory.display(), "inotify does not work here; looking every second"))
            .ok();
        Self { directory: directory.into(), events }
    }

    /// Waits until there is a file called `name`.
    ///
    /// # Errors
    /// When the directory cannot be looked at.
    pub async fn present(&mut self, name: &str) -> io::Result<Identity> {
        loop {
            if let Some(identity) = Identity::of(&self.directory.join(name))? {
                return Ok(identity);
            }
            self.wake().await;
        }
    }

    /// Waits until the file `name` is gone or another one than `identity`.
    ///
    /// # Errors
    /// When the directory cannot be looked at.
    pub async fn renewed(&mut self, name: &str, identity: Identity) -> io::Result<()> {
        while Identity::of(&self.directory.join(name))? == Some(identity) {
            self.wake().await;
        }
        Ok(())
    }

    /// Waits for something in the directory, at most [`COMPARE_PERIOD`]. An event only says when to look: the event of
    /// the file that is known already may come late.
    async fn wake(&mut self) {
        let Some(events) = &mut self.events else { return sleep(COMPARE_PERIOD).await };
        if let Ok(None | Some(Err(_))) = timeout(COMPARE_PERIOD, events.next()).await {
            warn!(directory = %self.directory.display(), "inotify stopped; looking every second");
            self.events = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(3);

    #[test]
    fn the_same_inode_changed_at_another_time_is_another_file() {
        let one = Identity { device: 1, inode: 2, changed: (3, 4) };
        assert_ne!(one, Identity { changed: (3, 5), ..one });
        assert_eq!(Identity::of(Path::new("/nonexistent")).unwrap(), None);
    }

    #[tokio::test]
    async fn waits_for_the_file_and_for_its_renewal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        for inotify in [true, false] {
            let _ = std::fs::remove_file(&path);
            let mut watch = SocketWatch::new(directory.path());
            if !inotify {
                watch.events = None;
            }
            assert!(timeout(Duration::from_millis(100), watch.present("s")).await.is_err());
            std::fs::write(&path, "").unwrap();
            let identity = timeout(SOON, watch.present("s")).await.unwrap().unwrap();
            std::fs::write(directory.path().join("other"), "").unwrap();
            assert!(timeout(Duration::from_millis(1200), watch.renewed("s", identity)).await.is_err());
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, "").unwrap();
            timeout(SOON, watch.renewed("s", identity)).await.unwrap().unwrap();
        }
    }
}
