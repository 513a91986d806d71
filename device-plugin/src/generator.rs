//! `cxi-cdi-generator`: the CDI file for a node without the device plugin, for Docker, Podman, Apptainer or a batch
//! system.

mod environment;

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Parser, value_parser};
use cxi_hardware::{NicName, PciAddress, Scan, ScanError, scan};
use cxi_injection::{
    cdi::{self, Change, Destination, FileError, Format, GENERATOR_KIND, Spec, SpecError, Subject},
    host_args::HostArgs,
    provision::{Note, Sources, TogetherError},
};
use cxi_node::log::chain;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, spawn_blocking},
    time::{MissedTickBehavior, interval},
};

use crate::access::{self, AccessError};

pub use environment::{EnvironmentError, FileOfVariables};

/// Time between two looks at the node with `--watch`.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// Writes the CDI file that tells container runtimes what belongs to this node's CXI NICs
///
/// Afterwards a runtime with CDI gives NICs to containers by name: hpe.com/cxi=cxi0 or hpe.com/cxi=0 (the name that the
/// NIC has now), hpe.com/cxi=0000:c1:00.0 (its PCI address, which stays when the driver is reloaded), or
/// hpe.com/cxi=all.
///
/// Without NICs the file is removed, which is no error. Not needed where the CXI device plugin runs.
#[derive(Debug, Parser)]
#[command(name = "cxi-cdi-generator", version, after_help = EXAMPLES)]
#[command(disable_version_flag = true, args = flags_of_hpe())]
pub struct Args {
    /// Directory that the runtime reads; /etc/cdi and /var/run/cdi are usual
    #[arg(long, env = "CXI_CDI_DIR", default_value = "/etc/cdi", value_name = "DIR")]
    cdi_dir: PathBuf,

    /// How the file is written: hpe.com-cxi.yaml or hpe.com-cxi.json
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,

    /// Print the file instead of writing it; nothing is changed
    #[arg(short = 'n', long, conflicts_with = "watch")]
    dry_run: bool,

    /// Go on, and write the file anew when NICs or libraries come or go
    #[arg(long)]
    watch: bool,

    /// Variable that containers with a NIC get, NAME=VALUE; it wins over what image and user say. Given once or more,
    /// it replaces the default
    #[arg(long = "env", value_name = "NAME=VALUE", default_value = "FI_PROVIDER=cxi", value_parser = environment::variable)]
    variables: Vec<String>,

    /// No variables by default
    #[arg(long, conflicts_with = "variables")]
    no_env: bool,

    /// File with more variables: YAML, `env:` and a list of NAME=VALUE
    #[arg(long, value_name = "FILE")]
    env_vars: Option<PathBuf>,

    #[command(flatten)]
    host: HostArgs,
}

/// Flags that mean what they mean to HPE's generator. `-V`, which is the version elsewhere, is how much it says: a command
/// line of HPE's would print the version, and write no file without a word about it.
fn flags_of_hpe() -> [Arg; 2] {
    let verbose = Arg::new("verbose").short('V').long("verbose").value_name("LEVEL").num_args(0..=1);
    let verbose = verbose
        .value_parser(value_parser!(u8))
        .help("Has no effect, and is taken for HPE's command lines: all is always said");
    let version = Arg::new("version").short('v').long("version").action(ArgAction::Version).help("Print version");
    [verbose, version]
}

const EXAMPLES: &str = "\
Examples:
  cxi-cdi-generator --dry-run
  cxi-cdi-generator --watch
  cxi-cdi-generator --env FI_PROVIDER=cxi --env LD_LIBRARY_PATH=/opt/cray/lib64:/usr/lib64
  podman run --device hpe.com/cxi=all IMAGE";

/// The file cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// The node cannot be looked at.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// What was asked for cannot be given together.
    #[error(transparent)]
    Together(#[from] TogetherError),
    /// The NICs cannot be listed.
    #[error("the node's NICs cannot be scanned")]
    Scan(#[from] ScanError),
    /// The variables are not right.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// Something of the node is such that no runtime would accept the file.
    #[error("no runtime would accept the CDI file")]
    Spec(#[from] SpecError),
    /// The file cannot be written.
    #[error("the CDI file cannot be kept (--cdi-dir)")]
    File(#[from] FileError),
    /// A look at the node panicked.
    #[error("a look at the node was cut short")]
    Cut(#[from] JoinError),
    /// Signals cannot be received.
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
}

/// What a look at the node found.
struct Look {
    spec: Option<Spec>,
    nics: Vec<(PciAddress, NicName)>,
    notes: BTreeSet<Note>,
}

/// What does not change while the program runs.
#[derive(Clone)]
struct Generator {
    root: cxi_hardware::Root,
    sources: Sources,
    environment: Vec<String>,
}

impl Args {
    /// Does what was asked for; says what it did on standard error.
    ///
    /// # Errors
    /// When the node cannot be read or the file cannot be written. With `--watch` only at the beginning: later failures
    /// are said, and tried again.
    pub async fn run(self) -> Result<(), GeneratorError> {
        let mut environment = if self.no_env { Vec::new() } else { self.variables };
        if let Some(file) = &self.env_vars {
            environment.extend(FileOfVariables::read(file)?.env);
        }
        let environment = environment::last_wins(environment);
        let generator = Generator { root: self.host.root(), sources: self.host.sources(), environment };
        generator.sources.check()?;
        access::node(&generator.root)?;
        let look = generator.look().await?;
        if self.dry_run {
            tell(&BTreeSet::new(), &look.notes);
            match &look.spec {
                Some(spec) => print!("{}", self.format.text(spec)?),
                None => eprintln!("no CXI NICs under {}: there would be no CDI file", generator.class()),
            }
            return Ok(());
        }
        let destination = Destination::new(self.cdi_dir, GENERATOR_KIND, self.format);
        keep(&destination, &look, &generator, true).await?;
        tell(&BTreeSet::new(), &look.notes);
        if self.watch { generator.watch(&destination, look.notes).await } else { Ok(()) }
    }
}

impl Generator {
    async fn watch(&self, destination: &Destination, mut told: BTreeSet<Note>) -> Result<(), GeneratorError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(GeneratorError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(GeneratorError::Signals)?;
        let mut ticks = interval(LOOK_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failure = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // The file stays: it is right until something changes.
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
            let kept = async {
                let look = self.look().await?;
                keep(destination, &look, self, false).await?;
                Ok::<_, GeneratorError>(look)
            };
            match kept.await {
                Ok(look) => {
                    tell(&told, &look.notes);
                    told = look.notes;
                    failure = None;
                }
                Err(error) => {
                    let error = chain(&error);
                    if failure.as_ref() != Some(&error) {
                        eprintln!("error: {error}; the file stays as it is until this is over");
                    }
                    failure = Some(error);
                }
            }
        }
    }

    async fn look(&self) -> Result<Look, GeneratorError> {
        let this = self.clone();
        spawn_blocking(move || this.look_now()).await?
    }

    fn look_now(&self) -> Result<Look, GeneratorError> {
        let scan = scan(&self.root)?;
        let (nics, mut notes) = usable(&scan);
        let (provision, more) = self.sources.find();
        // Without NICs no container needs a library.
        notes.extend(more.into_iter().filter(|_| !nics.is_empty()));
        let dev = self.sources.dev_on_host();
        let subject = Subject { nics: &nics, dev: &dev, provision: &provision, env: &self.environment };
        Ok(Look { spec: cdi::spec(GENERATOR_KIND, subject)?, nics, notes })
    }

    fn class(&self) -> String {
        self.root.class_directory().display().to_string()
    }
}

/// NICs that a container can be given, and why not others.
fn usable(scan: &Scan) -> (Vec<(PciAddress, NicName)>, BTreeSet<Note>) {
    let unidentified = scan.unidentified.iter();
    let mut notes: BTreeSet<_> = unidentified
        .map(|entry| format!("{} cannot be identified and is left out: {}", entry.name, entry.reason))
        .map(Note::Warning)
        .collect();
    let mut nics = Vec::new();
    for (address, nic) in scan.by_address() {
        match &nic.device_node {
            Ok(true) => nics.push((address, nic.name)),
            Ok(false) => {
                let note = format!("{} has no device node in /dev and is left out: is cxi_user loaded?", nic.name);
                notes.insert(Note::Warning(note));
            }
            Err(error) => {
                notes.insert(Note::Warning(format!("{} is left out: {error}", nic.name)));
            }
        }
    }
    (nics, notes)
}

async fn keep(
    destination: &Destination,
    look: &Look,
    generator: &Generator,
    always_say: bool,
) -> Result<(), GeneratorError> {
    let (place, spec) = (destination.clone(), look.spec.clone());
    let change = spawn_blocking(move || place.keep(spec.as_ref())).await??;
    let path = destination.path();
    let path = path.display();
    if look.spec.is_none() {
        let class = generator.class();
        match change {
            Change::Removed => eprintln!("no CXI NICs under {class}: {path} was removed"),
            _ if always_say => eprintln!("no CXI NICs under {class}: there is no {path}"),
            _ => {}
        }
        return Ok(());
    }
    let nics: Vec<_> = look.nics.iter().map(|(address, name)| format!("{name} ({address})")).collect();
    match change {
        Change::None if always_say => eprintln!("{path} is up to date: {}", nics.join(", ")),
        Change::None => {}
        Change::Written | Change::Removed => eprintln!("{path} written: {}", nics.join(", ")),
    }
    Ok(())
}

fn tell(told: &BTreeSet<Note>, notes: &BTreeSet<Note>) {
    for note in notes.difference(told) {
        match note {
            Note::Info(text) => eprintln!("note: {text}"),
            Note::Warning(text) => eprintln!("warning: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(flags: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("cxi-cdi-generator").chain(flags.split_whitespace()))
    }

    #[test]
    fn the_command_line_is_consistent_and_has_the_defaults_of_hpe() {
        Args::command().debug_assert();
        let args = parse("").unwrap();
        assert_eq!(args.cdi_dir, PathBuf::from("/etc/cdi"));
        assert_eq!(args.format, Format::Yaml);
        assert_eq!(args.host.ofi_root, ["/opt/cray/lib64".parse().unwrap()]);
        assert_eq!(args.host.cxi_root, ["/usr/lib64".parse().unwrap()]);
        assert_eq!(args.variables, ["FI_PROVIDER=cxi"]);
    }

    #[test]
    fn command_lines_of_hpe_mean_the_same() {
        for flags in ["-V 5", "-V5", "-V=5", "-V", "--verbose 0", "--verbose=3", "--verbose"] {
            let args = parse(&format!("{flags} --cdi-dir=/run/cdi --env-vars /etc/cdi.env -n")).unwrap();
            assert_eq!((args.cdi_dir, args.env_vars), (PathBuf::from("/run/cdi"), Some(PathBuf::from("/etc/cdi.env"))));
            assert!(args.dry_run);
        }
        for flags in ["-v", "--version"] {
            assert_eq!(parse(flags).unwrap_err().kind(), clap::error::ErrorKind::DisplayVersion);
        }
        // Refused in words, not passed over.
        for (flags, said) in [("-V many", "--verbose"), ("--dry-run=true", "--dry-run"), ("0", "'0'")] {
            let error = parse(flags).unwrap_err();
            assert!(error.use_stderr() && error.to_string().contains(said), "{flags}: {error}");
        }
    }

    #[test]
    fn rejects_what_cannot_work() {
        for (flags, said) in [
            ("--format toml", "json"),
            ("--dry-run --watch", "--watch"),
            ("--env FI_PROVIDER", "NAME=VALUE"),
            ("--env X=1 --no-env", "--no-env"),
            ("--ofi-root lib", "absolute"),
            ("--extra-device ../sda", "/dev"),
        ] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.contains(said), "{flags}: {error}");
        }
    }
}
