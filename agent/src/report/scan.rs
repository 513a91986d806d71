//! One look at the node.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cxi_hardware::{
    AttributeError, Boot, Firmware, NicDetails, OpenFile, OpenFilesError, PciAddress, Root, ScanError, Stack,
    StackError, scan,
};

use crate::report::{
    firmware::FirmwareCache,
    kernel_log::{KernelLog, Reader},
    nic::{SeenNic, SeenRetryHandler},
    node::NodeView,
    open_files::OpenFilesCache,
    retry_handler::StatisticsCache,
    services::{self, SeenServices},
    slow_facts::SlowFacts,
};

/// What one look at the node saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeScan {
    /// Kernel and boot.
    pub boot: Boot,
    /// Loaded modules.
    pub stack: Stack,
    /// Who has a device open; `None` when the view does not ask for that.
    pub open_files: Option<Vec<OpenFile>>,
    /// NICs by PCI address.
    pub nics: BTreeMap<PciAddress, SeenNic>,
    /// Names of class devices that are there and cannot be identified.
    pub unidentified: Vec<String>,
    /// What could not be read of devices that are there.
    pub problems: Vec<AttributeError>,
    /// What the kernel says of the stack while something is wrong with it.
    pub kernel_messages: Vec<String>,
}

/// What one look needs of those before it.
#[derive(Debug)]
pub(super) struct Remembered {
    open_files: OpenFilesCache,
    firmware: FirmwareCache,
    services: SlowFacts<SeenServices>,
    statistics: StatisticsCache,
    kernel_log: Reader,
}

impl Remembered {
    /// Nothing yet. Later no list of open files is older than `oldest`.
    pub(super) fn new(oldest: Duration, kernel_log: KernelLog) -> Self {
        Self {
            open_files: OpenFilesCache::new(oldest),
            firmware: FirmwareCache::default(),
            services: SlowFacts::default(),
            statistics: StatisticsCache::default(),
            kernel_log: Reader::new(kernel_log),
        }
    }
}

/// A part of the node could not be looked at, so that nothing may be said of it.
#[derive(Debug, thiserror::Error)]
pub enum NodeScanError {
    /// Kernel or boot.
    #[error("which kernel runs is not known")]
    Boot(#[source] AttributeError),
    /// Loaded modules.
    #[error("which modules are loaded is not known")]
    Stack(#[from] StackError),
    /// Open files.
    #[error("who has a device open is not known")]
    OpenFiles(#[from] OpenFilesError),
    /// NICs.
    #[error("which NICs there are is not known")]
    Scan(#[from] ScanError),
}

impl NodeScan {
    /// Looks at the node under `root`, for a CXINode of which `view` is known. May wait for the driver as long as that takes.
    /// Where the driver may be unloaded meanwhile, nothing is looked at that would keep it for a moment.
    ///
    /// # Errors
    /// When something could not be looked at as a whole; a single attribute that cannot be read is a problem in the
    /// look.
    pub(super) fn take(root: &Root, remembered: &mut Remembered, view: &NodeView) -> Result<Self, NodeScanError> {
        let now = Instant::now();
        let boot = Boot::read(root).map_err(NodeScanError::Boot)?;
        let mut stack = Stack::read(root)?;
        let open_files = remembered.open_files.look(root, view, stack.references_to_devices(), now)?;
        if open_files.as_ref().is_some_and(Vec::is_empty) && stack.references_to_devices() > 0 {
            // Closed between the two.
            stack = Stack::read(root)?;
        }
        let scan = scan(root)?;
        let mut look = Self {
            boot,
            stack,
            open_files,
            nics: BTreeMap::new(),
            unidentified: scan.unidentified.iter().map(|entry| entry.name.clone()).collect(),
            problems: scan.unidentified.iter().map(|entry| entry.reason.clone()).collect(),
            kernel_messages: Vec::new(),
        };
        for (address, nic) in scan.by_address() {
            let Some(details) = NicDetails::read(root, nic) else { continue };
            let services = services::read(&mut remembered.services, root, nic, now, view.may_unload());
            let Some(services) = services else { continue };
            let (firmware, retry_handler) = (Firmware::default(), SeenRetryHandler::default());
            look.nics.insert(address, SeenNic { nic: nic.clone(), details, firmware, services, retry_handler });
        }
        remembered.firmware.look_at(root, &mut look.nics, now);
        remembered.services.keep(&look.nics);
        remembered.statistics.look_at(root, &look.boot, &mut look.nics, now);
        look.problems.extend(look.nics.values().flat_map(SeenNic::problems).cloned());
        look.problems.extend(look.nics.values().filter_map(|seen| seen.services.as_ref().err()).cloned());
        look.kernel_messages = remembered.kernel_log.look_at(root, (&look.stack, &look.nics), view, now);
        Ok(look)
    }

    /// Whether the devices have a user that this look did not find: a mapping without an open file, or a process in a
    /// part of the system that cannot be seen. Then its list of open files does not prove that the devices are free.
    pub fn misses_a_user(&self) -> bool {
        self.open_files.as_ref().is_some_and(Vec::is_empty) && self.stack.references_to_devices() > 0
    }
}
