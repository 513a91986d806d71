//! The driver images that a node has, unpacked, and what their manifests say.

use std::{collections::BTreeMap, fs, path::PathBuf, thread};

use cxi_control_plane::Progress;
use cxi_driver_image_builder::unpack;
use cxi_driver_image_format::ImageManifest;
use cxi_driver_image_lab::Lab;
use cxi_guest::Kernel;
use tempfile::TempDir;

use crate::lab::{self, A, B};

/// One image of each release.
pub struct Images {
    /// The images' roots on this machine, by release.
    roots: BTreeMap<&'static str, PathBuf>,
    /// Where they were unpacked, if they were.
    unpacked: Option<TempDir>,
}

impl Images {
    /// What every guest has: the content of an image, put together by make, without what KMM does not need.
    pub fn by_make(kernel: &Kernel) -> Self {
        let roots = [A, B].map(|release| (release, lab::driver(kernel, release).root().to_path_buf()));
        Self { roots: roots.into(), unpacked: None }
    }

    /// The output of the pipeline: built by DKMS in a container, verified, and unpacked from the layers of the image.
    pub fn by_pipeline(kernel: &Kernel) -> Self {
        let lab = Lab::ensure(&Progress::stderr()).unwrap();
        let unpacked = tempfile::tempdir().unwrap();
        let build = |release: &'static str| {
            let root = unpacked.path().join(release);
            fs::create_dir(&root).unwrap();
            let logs = unpacked.path().join(format!("logs-{release}"));
            let built = lab.stand_in(release, &kernel.release.parse().unwrap(), &logs).unwrap();
            unpack::extract(&lab.buildah, &built.reference, &root).unwrap();
            (release, root)
        };
        let roots = thread::scope(|scope| {
            [A, B].map(|release| scope.spawn(move || build(release))).map(|build| build.join().unwrap())
        });
        Self { roots: roots.into(), unpacked: Some(unpacked) }
    }

    /// The usual root of a node, with these images.
    pub fn initrd(&self, kernel: &Kernel) -> PathBuf {
        let Some(unpacked) = &self.unpacked else { return lab::initrd(kernel) };
        let tree = lab::tree_without_images(kernel);
        for (release, root) in &self.roots {
            tree.directory(root, &format!("images/{release}")).unwrap();
        }
        let file = unpacked.path().join("initrd");
        tree.write_initrd(&file).unwrap();
        file
    }

    /// Whether they have the programs that KMM calls in an image.
    pub fn have_programs(&self) -> bool {
        self.unpacked.is_some()
    }

    /// Build-ids of a release, by module.
    pub fn build_ids(&self, kernel: &Kernel, release: &str) -> BTreeMap<String, String> {
        let file = self.roots[release].join("opt/cxi/manifest.json");
        let manifest = ImageManifest::parse(&fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!(manifest.kernel, kernel.release);
        manifest.build_ids()
    }
}
