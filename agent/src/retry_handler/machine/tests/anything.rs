//! The machine against a node in which anything happens at any time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A node as it really is.
#[derive(Clone, Debug, Default)]
struct World {
    /// NICs that are there: instance, whether another program's handler is attached.
    nics: BTreeMap<u8, (u64, bool)>,
    /// Processes that the machine started and that live: NIC, instance it was started for, whether asked to end.
    processes: BTreeMap<u32, (u8, u64, bool)>,
    /// Those of them that handle SIGTERM.
    listening: BTreeSet<u32>,
    /// NIC and instance whose handler ended unasked, or not in order.
    failed: BTreeSet<(u8, u64)>,
    instances: u64,
    pids: u32,
}

#[derive(Clone, Debug)]
enum Happening {
    Look { unreadable: bool },
    Appear(u8),
    Vanish(u8),
    Rebind(u8),
    HostStarts(u8),
    HostEnds(u8),
    ListenBy(prop::sample::Index),
    EndOf { which: prop::sample::Index, code: i32 },
    Acknowledge(u8),
    End,
}

fn happening() -> impl Strategy<Value = Happening> {
    let nic = || 0_u8..3;
    prop_oneof![
        8 => any::<bool>().prop_map(|unreadable| Happening::Look { unreadable }),
        2 => nic().prop_map(Happening::Appear),
        1 => nic().prop_map(Happening::Vanish),
        1 => nic().prop_map(Happening::Rebind),
        1 => nic().prop_map(Happening::HostStarts),
        1 => nic().prop_map(Happening::HostEnds),
        4 => any::<prop::sample::Index>().prop_map(Happening::ListenBy),
        3 => (any::<prop::sample::Index>(), 0..3).prop_map(|(which, code)| Happening::EndOf { which, code }),
        1 => nic().prop_map(Happening::Acknowledge),
        1 => Just(Happening::End),
    ]
}

impl World {
    /// Attached by a process of ours or by another program.
    fn attached(&self, number: u8) -> bool {
        let Some((instance, host)) = self.nics.get(&number) else { return false };
        *host || self.processes.values().any(|(nic, of, _)| (nic, of) == (&number, instance))
    }

    fn see(&self, unreadable: bool) -> Seen {
        let see = |(number, (instance, _)): (&u8, &(u64, bool))| {
            let attached = if unreadable { Err("unreadable".to_owned()) } else { Ok(self.attached(*number)) };
            let device = NicName::new(u32::from(*number));
            (address(*number), SeenNic { device, instance: *instance, attached, obstacle: None })
        };
        Seen { nics: self.nics.iter().map(see).collect(), ..Seen::default() }
    }

    /// What the happening is for the machine.
    fn happen(&mut self, happening: &Happening) -> Option<Event> {
        match happening {
            Happening::Look { unreadable } => return Some(Event::Looked(self.see(*unreadable))),
            Happening::Appear(number) => {
                self.instances += 1;
                self.nics.entry(*number).or_insert((self.instances, false));
            }
            Happening::Vanish(number) => {
                self.nics.remove(number);
            }
            Happening::Rebind(number) => {
                self.instances += 1;
                if let Some(nic) = self.nics.get_mut(number) {
                    *nic = (self.instances, false);
                }
            }
            Happening::HostStarts(number) => {
                let attached = self.attached(*number);
                if let Some(nic) = self.nics.get_mut(number) {
                    nic.1 |= !attached;
                }
            }
            Happening::HostEnds(number) => {
                if let Some(nic) = self.nics.get_mut(number) {
                    nic.1 = false;
                }
            }
            Happening::ListenBy(which) => {
                if self.processes.is_empty() {
                    return None;
                }
                let &(&pid, &(number, ..)) = which.get(&self.processes.iter().collect::<Vec<_>>());
                self.listening.insert(pid);
                return Some(Event::MayBeAsked { address: address(number), pid });
            }
            Happening::EndOf { which, code } => {
                if self.processes.is_empty() {
                    return None;
                }
                let &(&pid, &(number, instance, asked)) = which.get(&self.processes.iter().collect::<Vec<_>>());
                self.processes.remove(&pid);
                if !asked || *code != 0 {
                    self.failed.insert((number, instance));
                }
                return Some(Event::Ended {
                    address: address(number),
                    pid,
                    how: Ended {
                        exit: Some(Exit::Code(*code)),
                        lived: Duration::from_mins(1),
                        said: vec![],
                        attached: Some(self.attached(number)),
                    },
                });
            }
            Happening::Acknowledge(number) => {
                self.failed.retain(|(nic, _)| nic != number);
                return Some(Event::Acknowledged(address(*number)));
            }
            Happening::End => return Some(Event::End),
        }
        None
    }
}

fn number(wanted: PciAddress) -> u8 {
    (0..3).find(|number| address(*number) == wanted).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn whatever_happens_the_rules_hold(happenings in proptest::collection::vec(happening(), 1..60)) {
        let mut world = World::default();
        let mut node = Node::new();
        let mut ending = false;
        let mut looked = false;
        for happening in happenings {
            let Some(event) = world.happen(&happening) else { continue };
            ending |= matches!(event, Event::End);
            looked |= matches!(event, Event::Looked(_));
            let mut actions = node.step(event);
            while let Some(action) = actions.pop() {
                match action {
                    Action::Start { address, .. } => {
                        let number = number(address);
                        prop_assert!(!ending, "started while ending");
                        prop_assert!(!world.attached(number), "started beside another");
                        prop_assert!(world.processes.values().all(|process| process.0 != number), "two of ours");
                        let instance = world.nics[&number].0;
                        prop_assert!(!world.failed.contains(&(number, instance)), "started after a crash");
                        world.pids += 1;
                        world.processes.insert(world.pids, (number, instance, false));
                        actions.extend(node.step(Event::Started { address, pid: world.pids }));
                    }
                    Action::Terminate { address, pid } => {
                        let (nic, instance, asked) = world.processes[&pid];
                        prop_assert_eq!(nic, number(address));
                        prop_assert!(!asked, "asked twice");
                        prop_assert!(world.listening.contains(&pid), "killed by what should have asked it");
                        let still_there = world.nics.get(&nic).is_some_and(|there| there.0 == instance);
                        prop_assert!(ending || !still_there, "asked to end without need");
                        world.processes.insert(pid, (nic, instance, true));
                    }
                    Action::TidyUp(device) => {
                        let nic = u8::try_from(device.number()).unwrap();
                        prop_assert!(!world.attached(nic), "swept away what another one serves");
                    }
                }
            }
            // What others are told is what is so.
            for (address, record) in node.machine.records() {
                let process = record.pid.map(|pid| world.processes.get(&pid));
                prop_assert!(process.is_none_or(|process| process.is_some()), "a process that does not live");
                let held_back = node.machine.held_back().any(|(_, pid)| Some(pid) == record.pid);
                let asked = process.flatten().is_some_and(|process| process.2);
                prop_assert!(!(held_back && asked), "to be asked again");
                prop_assert_eq!(record.state == State::Stopping, held_back || asked);
                prop_assert_eq!(record.address, address);
            }
            for (pid, (nic, ..)) in &world.processes {
                prop_assert_eq!(node.machine.records()[&address(*nic)].pid, Some(*pid), "a process without a record");
            }
            prop_assert_eq!(node.machine.has_ended(), ending && world.processes.is_empty());
        }
        // Left alone, the node comes to rest: every NIC has a handler or a reason.
        for _ in 0..4 {
            let event = Event::Looked(world.see(false));
            for action in node.step(event) {
                if let Action::Start { address, .. } = action {
                    world.pids += 1;
                    world.processes.insert(world.pids, (number(address), world.nics[&number(address)].0, false));
                    node.step(Event::Started { address, pid: world.pids });
                }
            }
            looked = true;
        }
        if looked && !ending {
            for number in world.nics.keys() {
                prop_assert!(node.machine.records().contains_key(&address(*number)), "a NIC without a record");
            }
        }
    }
}
