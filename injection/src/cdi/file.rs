//! The file of a specification: written whole or not at all.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::model::Spec;

/// How a specification is written down. Readers know either by the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Where the file of one kind is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    directory: PathBuf,
    /// `vendor-class`, as the specification recommends.
    stem: String,
    format: Format,
}

/// What [`Destination::keep`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The file already said it, or was not there as it should be.
    None,
    /// The file was written.
    Written,
    /// A file that said something else was removed.
    Removed,
}

/// The file could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// An operation on it failed.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The specification cannot be put into words.
    #[error("write a CDI specification as text: {0}")]
    Text(String),
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Yaml => "yaml",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Json => Self::Yaml,
            Self::Yaml => Self::Json,
        }
    }

    /// `spec` in this format, with a line break at its end.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub fn text(self, spec: &Spec) -> Result<String, FileError> {
        match self {
            Self::Json => {
                let text = serde_json::to_string_pretty(spec).map_err(|error| FileError::Text(error.to_string()))?;
                Ok(text + "\n")
            }
            Self::Yaml => serde_saphyr::to_string(spec).map_err(|error| FileError::Text(error.to_string())),
        }
    }
}

impl Destination {
    /// The file of `kind` in `directory`.
    pub fn new(directory: impl Into<PathBuf>, kind: &str, format: Format) -> Self {
        Self { directory: directory.into(), stem: kind.replace('/', "-"), format }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.path_as(self.format)
    }

    /// The file's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates the directory if need be and proves that a file can be made in it.
    ///
    /// # Errors
    /// When it cannot.
    pub fn prepare(&self) -> Result<(), FileError> {
        self.make_directory()?;
        self.temporary().map(drop)
    }

    /// Makes the file say `spec`, or removes it. Readers see the old file or the new one, also after a power cut. The
    /// same file in the other format goes: a runtime resolves no device that two files of a directory name.
    ///
    /// # Errors
    /// When it fails; the old file is still there then.
    pub fn keep(&self, spec: Option<&Spec>) -> Result<Change, FileError> {
        let other = self.path_as(self.format.other());
        let Some(spec) = spec else {
            let removed = [remove(&self.path())?, remove(&other)?];
            return Ok(if removed.contains(&true) { Change::Removed } else { Change::None });
        };
        let text = self.format.text(spec)?;
        let change = if self.says(&text)? { Change::None } else { self.write(&text)? };
        Ok(if remove(&other)? { Change::Written } else { change })
    }

    fn write(&self, text: &str) -> Result<Change, FileError> {
        self.make_directory()?;
        let mut file = self.temporary()?;
        let path = self.path();
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.as_file().set_permissions(Permissions::from_mode(0o644)))
            .and_then(|()| file.as_file().sync_all());
        written.map_err(failed("write", &path))?;
        file.persist(&path).map_err(|error| failed("replace", &path)(error.error))?;
        // The rename itself has to survive a power cut too.
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("write", &self.directory))?;
        Ok(Change::Written)
    }

    /// Makes the directory, and those above it, where they are missing. Everybody may look into what is made, whatever the umask
    /// of this process is: a runtime of an ordinary user passes over a directory that it cannot read, without a word.
    fn make_directory(&self) -> Result<(), FileError> {
        let missing: Vec<&Path> = self.directory.ancestors().take_while(|path| is_missing(path)).collect();
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Ok(()) => {
                    fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(failed("open to all", path))?;
                }
                // Another process made it at the same moment.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("create", path)(error)),
            }
        }
        Ok(())
    }

    fn path_as(&self, format: Format) -> PathBuf {
        self.directory.join(format!("{}.{}", self.stem, format.extension()))
    }

    /// Readers look at files with their extensions only.
    fn temporary(&self) -> Result<tempfile::NamedTempFile, FileError> {
        tempfile::Builder::new()
            .prefix(&format!(".{}.", self.stem))
            .tempfile_in(&self.directory)
            .map_err(failed("create a file in", &self.directory))
    }

    fn says(&self, text: &str) -> Result<bool, FileError> {
        let path = self.path();
        match fs::read(&path) {
            Ok(found) => Ok(found == text.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }
}

/// Whether nothing is at `path`. The end of a relative one is the present directory.
fn is_missing(path: &Path) -> bool {
    !path.as_os_str().is_empty() && fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether there was a file to remove.
fn remove(path: &Path) -> Result<bool, FileError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::File { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::{
        super::contents::{GENERATOR_KIND, Subject, spec},
        *,
    };
    use crate::provision::Provision;

    fn example(number: u32) -> Spec {
        let nics = [("0000:01:00.0".parse().unwrap(), cxi_hardware::NicName::new(number))];
        let env = ["FI_PROVIDER=cxi".to_owned()];
        let subject = Subject { nics: &nics, dev: Path::new("/dev"), provision: &Provision::default(), env: &env };
        spec(GENERATOR_KIND, subject).unwrap().unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn both_formats_read_back_as_what_was_written() {
        let spec = example(3);
        let json = Format::Json.text(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&json).unwrap(), spec);
        let yaml = Format::Yaml.text(&spec).unwrap();
        assert_eq!(serde_saphyr::from_str::<Spec>(&yaml).unwrap(), spec);
        // A reader would take a bare one for a number, of base 60 the first.
        for name in ["0000:01:00.0", "3"] {
            assert!(yaml.contains(&format!("\"{name}\"")) || yaml.contains(&format!("'{name}'")), "{yaml}");
        }
    }

    #[test]
    fn the_file_is_replaced_as_a_whole_and_only_when_it_says_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("etc/cdi");
        let destination = Destination::new(&place, GENERATOR_KIND, Format::Yaml);
        assert_eq!(destination.keep(None).unwrap(), Change::None, "nothing to remove, not even the directory");
        assert_eq!(destination.keep(Some(&example(0))).unwrap(), Change::Written);
        let first = fs::metadata(destination.path()).unwrap();
        assert_eq!(first.mode() & 0o777, 0o644);
        assert_eq!(destination.keep(Some(&example(0))).unwrap(), Change::None);
        assert_eq!(destination.keep(Some(&example(1))).unwrap(), Change::Written);
        assert_ne!(fs::metadata(destination.path()).unwrap().ino(), first.ino(), "readers keep the file they opened");
        assert_eq!(names(&place), ["hpe.com-cxi.yaml"], "no temporary file is left");
        assert_eq!(destination.keep(None).unwrap(), Change::Removed);
        assert!(names(&place).is_empty());
    }

    #[test]
    fn everybody_may_read_what_is_made_under_any_umask() {
        // The umask is the whole process's: a process of its own runs the rest.
        const CHILD: &str = "CXI_TEST_CDI_DIRECTORY";
        if let Some(directory) = std::env::var_os(CHILD) {
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            let destination = Destination::new(directory, GENERATOR_KIND, Format::Yaml);
            destination.keep(Some(&example(0))).unwrap();
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("etc");
        fs::create_dir(&kept).unwrap();
        fs::set_permissions(&kept, Permissions::from_mode(0o750)).unwrap();
        let directory = kept.join("containers/cdi");
        let test = "cdi::file::tests::everybody_may_read_what_is_made_under_any_umask";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(CHILD, &directory)
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        let found = [directory.parent().unwrap(), &directory, &directory.join("hpe.com-cxi.yaml")].map(mode);
        assert_eq!(found, [0o755, 0o755, 0o644]);
        assert_eq!(mode(&kept), 0o750, "what was there stays as it is");
    }

    #[test]
    fn the_other_format_goes() {
        let directory = tempfile::tempdir().unwrap();
        let yaml = Destination::new(directory.path(), GENERATOR_KIND, Format::Yaml);
        let json = Destination::new(directory.path(), GENERATOR_KIND, Format::Json);
        yaml.keep(Some(&example(0))).unwrap();
        json.keep(Some(&example(0))).unwrap();
        assert_eq!(names(directory.path()), ["hpe.com-cxi.json"]);
        assert_eq!(yaml.keep(None).unwrap(), Change::Removed);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        let destination = Destination::new(directory.path().join("file/cdi"), GENERATOR_KIND, Format::Json);
        let error = destination.prepare().unwrap_err();
        assert!(error.to_string().contains("file/cdi"), "{error}");
        assert!(destination.keep(Some(&example(0))).is_err());
    }
}
