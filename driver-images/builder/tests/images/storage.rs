//! What builds leave, and who removes it when.

use std::{fs, process::Command};

use cxi_driver_image_builder::{
    buildah::Buildah,
    storage::{KEPT_STAGES, Use, prune},
};

/// A storage for one test, with builds from nothing, which take a moment.
struct Storage {
    directory: tempfile::TempDir,
    buildah: Buildah,
}

impl Storage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let buildah = Buildah { storage: Some(directory.path().join("storage")), isolation: Some("chroot".to_owned()) };
        Self { directory, buildah }
    }

    /// Builds an image without a name, of two steps, the first of which is the same for all.
    fn build(&self, held: &Use, text: &str, end: &str) -> bool {
        let context = self.directory.path().join("context");
        fs::create_dir_all(&context).unwrap();
        fs::write(context.join("common"), "common").unwrap();
        fs::write(context.join("content"), text).unwrap();
        let file = context.join("Containerfile");
        fs::write(&file, format!("FROM scratch\nCOPY common /common\nCOPY content /content\n{end}")).unwrap();
        let arguments = ["--layers".to_owned(), format!("--file={}", file.display()), context.display().to_string()];
        held.build(&arguments, &self.directory.path().join("log"), &|_| ()).unwrap().is_ok()
    }

    fn count(&self, what: &[&str]) -> usize {
        self.buildah.run(what.iter().copied()).unwrap().lines().count()
    }

    fn containers(&self) -> usize {
        self.count(&["containers", "--quiet"])
    }

    fn images(&self) -> usize {
        self.count(&["images", "--all", "--quiet"])
    }
}

#[test]
fn what_a_killed_build_left_goes_when_nobody_builds() {
    let storage = Storage::new();
    storage.buildah.run(["from", "scratch"]).unwrap();
    assert_eq!(storage.containers(), 1);

    let held = Use::begin(&storage.buildah).unwrap();
    assert_eq!(storage.containers(), 0, "the first one who comes cleans up");
    storage.buildah.run(["from", "scratch"]).unwrap();
    let second = Use::begin(&storage.buildah).unwrap();
    assert_eq!(storage.containers(), 1, "nobody knows whose it is while somebody builds");
    let refused = prune(&storage.buildah, 0).unwrap_err().to_string();
    assert!(refused.starts_with("builds are going on in "), "{refused}");

    drop((held, second));
    let pruned = prune(&storage.buildah, 0).unwrap();
    assert_eq!((pruned.containers, pruned.images), (1, 0));
    assert_eq!(storage.containers(), 0);
}

#[test]
fn a_build_that_fails_leaves_no_container_and_the_newest_images_stay() {
    let storage = Storage::new();
    let held = Use::begin(&storage.buildah).unwrap();
    assert!(!storage.build(&held, "fails", "COPY nothing /nothing\n"));
    assert_eq!(storage.containers(), 0);
    for content in ["one", "two", "three"] {
        assert!(storage.build(&held, content, ""));
    }
    storage.buildah.run(["tag", &newest(&storage.buildah), "localhost/named:1"]).unwrap();
    drop(held);
    // One that all are made on, that of the failed build, and three.
    assert_eq!(storage.images(), 5);
    assert_eq!(prune(&storage.buildah, KEPT_STAGES).unwrap().images, 0);
    assert_eq!(storage.images(), 5);

    // Of the three without a name the newest stays, with what it is made on.
    assert_eq!(prune(&storage.buildah, 1).unwrap().images, 2);
    assert_eq!(storage.images(), 3);
    let held = Use::begin(&storage.buildah).unwrap();
    assert!(storage.build(&held, "two", ""));
    assert_eq!(storage.images(), 3, "the build went on from what stayed");
    drop(held);

    prune(&storage.buildah, 0).unwrap();
    assert_eq!(storage.count(&["images", "--quiet"]), 1, "what has a name is the user's");
    assert!(storage.buildah.inspect("localhost/named:1").unwrap().is_some());
}

/// The id of the newest image.
fn newest(buildah: &Buildah) -> String {
    buildah.run(["images", "--quiet"]).unwrap().lines().next().unwrap().to_owned()
}

/// buildah itself holds the lock, so that it is held when the program that called it is gone.
#[test]
fn a_build_whose_caller_is_gone_still_counts() {
    let storage = Storage::new();
    let held = Use::begin(&storage.buildah).unwrap();
    let root = storage.directory.path().join("storage/root/cxi-driver-image.lock");
    let lock = fs::File::open(root).unwrap();
    assert!(lock.try_lock().is_err());
    let mut orphan = Command::new("sleep").arg("60").stdin(held.stdin().unwrap()).spawn().unwrap();
    drop(held);
    assert!(lock.try_lock().is_err(), "the program still runs");
    orphan.kill().unwrap();
    orphan.wait().unwrap();
    lock.try_lock().unwrap();
}
