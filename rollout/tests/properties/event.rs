//! What may happen.

use proptest::prelude::*;

/// Something that happens; numbers choose the node, the release and so on.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// The spec asks for another release.
    Upgrade(u8),
    /// It asks for another retry handler.
    RetryHandler(u8),
    /// It asks for the retry handler to run, or not to.
    RunRetryHandler(bool),
    /// It asks for the device plugin, or for none.
    Plugin(bool),
    /// It leaves the driver to the hosts, or to KMM. The hosts may bring one and load it when they boot.
    Source {
        preinstalled: bool,
        hosts_have_it: bool,
    },
    /// It wants failed nodes to go back, or to stay closed.
    Rollback(bool),
    /// It wants nodes to be moved when they are asked to, or by themselves.
    OnDelete(bool),
    /// It wants another policy when pods are still there in the end: give back, fail, or force.
    OnTimeout(u8),
    /// It keeps the Modules of so many earlier revisions.
    History(u8),
    /// It offers NICs under another resource name.
    Rename(bool),
    /// A tenant's pods name a node themselves, and come back whenever its kubelet refuses them.
    ByName(u8),
    /// The operator's clock is a year ahead, or right again.
    Year(bool),
    /// A node's record cannot be read, or can be read again.
    Blind(u8),
    Reveal(u8),
    /// Another `CXIDriver` selects the same nodes.
    Rival,
    /// And goes.
    NoRival,
    Pause,
    Budget(u8),
    Job {
        node: u8,
        stubborn: bool,
        runtime: u16,
    },
    /// A PodDisruptionBudget over all pods of the n-th workload.
    Forbid(u8),
    Allow,
    Reboot {
        node: u8,
        kernel: u8,
    },
    NotReady(u8),
    Ready(u8),
    Delete(u8),
    Recreate(u8),
    Add,
    Deselect(u8),
    Select(u8),
    Silence(u8),
    BadVersion {
        node: u8,
        version: u8,
    },
    Dark {
        node: u8,
        version: u8,
    },
    PullFails(u8),
    /// The kubelet ends the operator's one-shot pods before they have run.
    PodsRefused(u8),
    OpenDevice(u8),
    CloseDevice(u8),
    MissingImage {
        version: u8,
        kernel: u8,
    },
    StopKmm,
    StartKmm,
    DeleteRecord(u8),
    WipeLedger,
    Ask {
        node: u8,
        request: u8,
    },
    Resume,
    Restart,
    Cordon(u8),
    Clock(i16),
    /// Somebody sets a version label by hand.
    HandLabel {
        node: u8,
        version: u8,
    },
    /// Somebody removes the version labels by hand.
    DropLabels(u8),
    /// Somebody edits the phase of a record.
    Forge {
        node: u8,
        phase: u8,
    },
    /// A preflight tries a release on a node, with a test that passes, fails or hangs, or with none.
    Preflight {
        node: u8,
        version: u8,
        keep: bool,
        test: u8,
    },
    /// The oldest preflight is deleted.
    NoPreflight,
    /// Every node has to pass a test that passes, fails or hangs, or none.
    Validate(u8),
    /// The `CXIDriver` is deleted; with the drivers left loaded or not.
    DeleteDriver {
        orphan: bool,
    },
}

impl Arbitrary for Event {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let node = || 0u8..6;
        let version = || 0u8..3;
        prop_oneof![
            4 => version().prop_map(Self::Upgrade),
            2 => version().prop_map(Self::RetryHandler),
            1 => any::<bool>().prop_map(Self::RunRetryHandler),
            1 => any::<bool>().prop_map(Self::Plugin),
            2 => any::<(bool, bool)>().prop_map(|(preinstalled, hosts_have_it)| Self::Source { preinstalled, hosts_have_it }),
            1 => any::<bool>().prop_map(Self::Rollback),
            1 => any::<bool>().prop_map(Self::OnDelete),
            1 => (0u8..3).prop_map(Self::OnTimeout),
            1 => (0u8..2).prop_map(Self::History),
            1 => any::<bool>().prop_map(Self::Rename),
            1 => node().prop_map(Self::ByName),
            1 => any::<bool>().prop_map(Self::Year),
            1 => node().prop_map(Self::Blind),
            1 => node().prop_map(Self::Reveal),
            1 => Just(Self::Rival),
            1 => Just(Self::NoRival),
            1 => Just(Self::Pause),
            1 => (0u8..4).prop_map(Self::Budget),
            3 => (node(), any::<bool>(), 0u16..300).prop_map(|(node, stubborn, runtime)| Self::Job { node, stubborn, runtime }),
            1 => (0u8..3).prop_map(Self::Forbid),
            1 => Just(Self::Allow),
            3 => (node(), 0u8..2).prop_map(|(node, kernel)| Self::Reboot { node, kernel }),
            1 => node().prop_map(Self::NotReady),
            1 => node().prop_map(Self::Ready),
            1 => node().prop_map(Self::Delete),
            1 => node().prop_map(Self::Recreate),
            1 => Just(Self::Add),
            1 => node().prop_map(Self::Deselect),
            1 => node().prop_map(Self::Select),
            1 => node().prop_map(Self::Silence),
            2 => (node(), version()).prop_map(|(node, version)| Self::BadVersion { node, version }),
            1 => (node(), version()).prop_map(|(node, version)| Self::Dark { node, version }),
            1 => node().prop_map(Self::PullFails),
            1 => node().prop_map(Self::PodsRefused),
            2 => node().prop_map(Self::OpenDevice),
            1 => node().prop_map(Self::CloseDevice),
            1 => (version(), 0u8..2).prop_map(|(version, kernel)| Self::MissingImage { version, kernel }),
            1 => Just(Self::StopKmm),
            1 => Just(Self::StartKmm),
            1 => node().prop_map(Self::DeleteRecord),
            1 => Just(Self::WipeLedger),
            1 => (node(), 0u8..4).prop_map(|(node, request)| Self::Ask { node, request }),
            1 => Just(Self::Resume),
            1 => Just(Self::Restart),
            1 => node().prop_map(Self::Cordon),
            1 => (-300i16..300).prop_map(Self::Clock),
            1 => (node(), version()).prop_map(|(node, version)| Self::HandLabel { node, version }),
            1 => node().prop_map(Self::DropLabels),
            2 => (node(), 0u8..14).prop_map(|(node, phase)| Self::Forge { node, phase }),
            3 => (node(), version(), any::<bool>(), 0u8..4).prop_map(|(node, version, keep, test)| Self::Preflight { node, version, keep, test }),
            1 => Just(Self::NoPreflight),
            1 => (0u8..4).prop_map(Self::Validate),
            1 => any::<bool>().prop_map(|orphan| Self::DeleteDriver { orphan }),
        ]
        .boxed()
    }
}
