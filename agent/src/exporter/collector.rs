//! Reads the node for one scrape.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cxi_api::KernelModule;
use cxi_hardware::{
    Boot, Function, ModuleState, Nic, PciAddress, Root, is_present, modules, retry_handler::Expectation, scan,
};

use crate::exporter::{
    device,
    exposition::{Exposition, Labels},
    metrics::{BUILD_INFO, DEVICE_COUNT, DRIVER_LOADED, SCRAPE_DURATION},
    problems::{History, Problems, Subject},
    selection::Selection,
    statistics::Background,
    telemetry::Counters,
};

/// How long a scrape waits for statistics of retry handlers that are being read, from its beginning. Reading the rest
/// takes about as long, so that one that hangs costs a scrape hardly anything.
pub const STATISTICS_WAIT: Duration = Duration::from_millis(20);

/// Everything a node is read with, and what is remembered from one scrape to the next.
#[derive(Debug)]
pub struct Collector {
    root: Root,
    node: String,
    retry_handler: Expectation,
    counters: Counters,
    statistics: Background,
    statistics_wait: Duration,
    /// The last network interface that each NIC was seen with.
    netdevs: BTreeMap<PciAddress, String>,
    history: History,
}

impl Collector {
    /// Reads `root`, which is the node called `node`.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(root: Root, node: String, selection: Selection, statistics_wait: Duration) -> io::Result<Self> {
        Ok(Self {
            statistics: Background::start(root.clone())?,
            root,
            node,
            retry_handler: Expectation::Ignore,
            counters: Counters::new(selection),
            statistics_wait,
            netdevs: BTreeMap::new(),
            history: History::default(),
        })
    }

    /// The same where this is expected of the NICs' retry handlers, instead of nothing.
    #[must_use]
    pub fn expecting(self, retry_handler: Expectation) -> Self {
        Self { retry_handler, ..self }
    }

    /// Reads the node. May wait for the driver as long as that takes, and never for a retry handler.
    pub fn collect(&mut self) -> Exposition {
        let began = Instant::now();
        let mut exposition = Exposition::default();
        let mut problems = Problems::default();
        let node = Labels::new(&[("node", &self.node)]);
        self.modules(&node, &mut exposition, &mut problems);
        self.devices(began, &node, &mut exposition, &mut problems);
        self.history.learn(problems);
        self.history.expose(&mut exposition, &node);
        exposition.add(&BUILD_INFO, &node.with("version", env!("CARGO_PKG_VERSION")), true);
        exposition.add(&SCRAPE_DURATION, &node, began.elapsed().as_secs_f64());
        exposition
    }

    /// `/proc/modules` alone may skip a module when another one is unloaded in the middle of reading it. Where the two
    /// sources disagree something is on its way, and nothing is said.
    fn modules(&self, node: &Labels, exposition: &mut Exposition, problems: &mut Problems) {
        let listed = match modules::read(&self.root) {
            Ok(listed) => listed,
            Err(error) => return problems.add(Subject::Modules, "", &error),
        };
        for name in KernelModule::names(KernelModule::ALL) {
            let state = listed.iter().find(|module| module.name == name).map(|module| module.state);
            // Directories without this file belong to what is built into the kernel.
            match self.root.sys().join("module").join(name).join("initstate").try_exists() {
                Ok(in_sysfs) if in_sysfs == state.is_some() => {
                    exposition.add(&DRIVER_LOADED, &node.with("module", name), state == Some(ModuleState::Live));
                }
                Ok(_) => {}
                Err(error) => problems.add(Subject::Modules, "", &format_args!("look for module {name}: {error}")),
            }
        }
    }

    fn devices(&mut self, began: Instant, node: &Labels, exposition: &mut Exposition, problems: &mut Problems) {
        let scan = match scan(&self.root) {
            Ok(scan) => scan,
            Err(error) => return problems.add(Subject::DeviceDiscovery, "", &cxi_node::log::chain(&error)),
        };
        for entry in &scan.unidentified {
            problems.add(Subject::DeviceDiscovery, &entry.name, &entry.reason);
        }
        let nics = scan.by_address();
        exposition.add(&DEVICE_COUNT, node, nics.len() as u64);
        self.counters.retain(|address| nics.contains_key(&address));
        self.netdevs.retain(|address, _| nics.contains_key(address));

        let boot = Boot::read(&self.root).inspect_err(|error| problems.add(Subject::Attribute, "", error)).ok();
        // A virtual function has no retry handler of its own.
        let physical = nics.values().filter(|nic| nic.function == Ok(Function::Physical));
        let asked = self.statistics.ask(physical.map(|nic| nic.name).collect());
        let mut read = Vec::new();
        for nic in nics.into_values() {
            let labels = self.labels(node, nic);
            let mut own = (Exposition::default(), Problems::default());
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            let node = device::Node { root: &self.root, boot: boot.as_ref(), retry_handler: self.retry_handler, now };
            if device::add(node, nic, &labels, &mut own.0, &mut own.1).is_none() {
                continue;
            }
            for error in self.counters.add(&self.root, nic, &labels, &mut own.0) {
                own.1.add(Subject::Telemetry, &nic.name.to_string(), &error);
            }
            // A device may have gone meanwhile. Its values and its errors then belong to no device.
            if is_present(&self.root, nic) {
                exposition.append(own.0);
                problems.append(own.1);
                read.push((nic, labels));
            }
        }

        let known = self.statistics.known(asked, began + self.statistics_wait);
        let now = Instant::now();
        for (nic, labels) in read {
            if let Some(known) = known.get(&nic.name) {
                device::add_statistics(known, nic, &labels, now, exposition, problems);
            }
        }
    }

    /// The labels of every sample of a NIC. A network interface that was moved to a pod is not seen any more; its name
    /// stays, so that the NIC's series do not end each time.
    fn labels(&mut self, node: &Labels, nic: &Nic) -> Labels {
        if let Ok(Some(netdev)) = &nic.netdev {
            self.netdevs.insert(nic.address, netdev.clone());
        }
        let netdev = self.netdevs.get(&nic.address).map_or("", String::as_str);
        node.with("device", &nic.name.to_string()).with("pci", &nic.address.to_string()).with("netdev", netdev)
    }
}
