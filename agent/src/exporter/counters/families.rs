//! The table of counters that are known by name.

use super::{Behaviour, Exported, Family};

/// A family of [`Behaviour::Counts`] that is exported.
const fn counts(name: &'static str, label: Option<&'static str>, help: &'static str, why: &'static str) -> Family {
    Family { name, label, behaviour: Behaviour::Counts, help, exported: Exported::Default(why) }
}

/// A table's fill level; exported, all for the same reason.
const fn table(name: &'static str, help: &'static str) -> Family {
    let why = "Not 0 on an idle NIC is the leak that cxi_healthcheck looks for; full is why packets are refused";
    Family { name, label: None, behaviour: Behaviour::Level, help, exported: Exported::Default(why) }
}

/// Errors that a unit of the NIC finds in its own memory; exported, all for the same reason.
const fn memory(name: &'static str, help: &'static str) -> Family {
    counts(name, None, help, "A NIC to be replaced")
}

/// A family of [`Behaviour::Counts`] that is exported on request.
const fn on_request(name: &'static str, label: Option<&'static str>, help: &'static str, why: &'static str) -> Family {
    Family { name, label, behaviour: Behaviour::Counts, help, exported: Exported::OnRequest(why) }
}

const TC: Option<&str> = Some("tc");
const PCP: Option<&str> = Some("pcp");
const POOL: Option<&str> = Some("pool");
const BIN: Option<&str> = Some("bin");
const SIZE: Option<&str> = Some("size");

/// What the NICs of either generation have, by subject.
pub const FAMILIES: &[Family] = &[
    // The physical link.
    counts("hni_pcs_good_cw", None, "Codewords received without error", "What error rates are relative to"),
    counts(
        "hni_pcs_corrected_cw",
        None,
        "Codewords received with errors that were corrected",
        "A cable or port that is getting worse, before it fails",
    ),
    counts(
        "hni_pcs_uncorrected_cw",
        None,
        "Codewords received that could not be corrected",
        "Must not grow on a sound link; each costs a replay or a packet",
    ),
    counts(
        "hni_pcs_fecl_errors",
        Some("lane"),
        "Symbol errors per lane of forward error correction",
        "Tells a bad lane, so a bad cable, from a bad port",
    ),
    counts(
        "hni_llr_tx_replay_event",
        None,
        "Replays by link level retry, sending",
        "Errors on the way to the switch, which this NIC cannot see itself",
    ),
    counts(
        "hni_llr_rx_replay_event",
        None,
        "Replays by link level retry, receiving",
        "Errors on the way from the switch",
    ),
    // Traffic.
    counts("hni_sts_tx_ok_octets", None, "Bytes sent in good frames", "Throughput"),
    counts("hni_sts_rx_ok_octets", None, "Bytes received in good frames", "Throughput"),
    counts("hni_sts_tx_bad_octets", None, "Bytes sent in bad frames", "Damaged inside this node, not on the wire"),
    counts("hni_sts_rx_bad_octets", None, "Bytes received in bad frames", "Damaged before it got here"),
    counts("hni_tx_ok_ieee", None, "Good Ethernet frames sent", "IP traffic apart from the HPC protocol"),
    counts("hni_rx_ok_ieee", None, "Good Ethernet frames received", "IP traffic apart from the HPC protocol"),
    counts("hni_tx_ok_opt", None, "Good frames of the optimised HPC protocol sent", "Message rate"),
    counts("hni_rx_ok_opt", None, "Good frames of the optimised HPC protocol received", "Message rate"),
    counts("hni_rx_bad_ieee", None, "Bad Ethernet frames received", "Must not grow on a sound link"),
    counts(
        "hni_rx_bad_opt",
        None,
        "Bad frames of the optimised HPC protocol received",
        "Must not grow on a sound link",
    ),
    counts("hni_rx_fragment", None, "Frames received too short and bad", "Must not grow on a sound link"),
    counts(
        "hni_rx_jabber",
        None,
        "Frames received too long and bad",
        "Must not grow; an MTU that differs in the fabric",
    ),
    counts("hni_pkts_sent_by_tc", TC, "Packets sent by traffic class", "Whether jobs use the class they were given"),
    counts(
        "hni_pkts_recv_by_tc",
        TC,
        "Packets received by traffic class",
        "Whether jobs use the class they were given",
    ),
    // Flow control.
    counts(
        "hni_tx_paused",
        TC,
        "Cycles in which sending was paused, by traffic class",
        "The fabric slows this node down: congestion elsewhere",
    ),
    counts(
        "hni_rx_paused",
        TC,
        "Cycles in which this NIC paused its sender, by traffic class",
        "This node slows the fabric down: it is where congestion starts",
    ),
    counts(
        "hni_rx_paused_std",
        None,
        "Cycles in which this NIC paused its sender in any class",
        "The share of time of the line above",
    ),
    counts(
        "hni_pause_recv",
        PCP,
        "Pause frames received by priority",
        "As hni_tx_paused, and present where that counts nothing",
    ),
    counts(
        "hni_pause_xoff_sent",
        PCP,
        "Pause frames sent by priority",
        "As hni_rx_paused, and present where that counts nothing",
    ),
    counts(
        "hni_pause_sent",
        None,
        "Pause frames sent",
        "Whether this NIC asks for pauses at all, of a priority or of the link",
    ),
    counts(
        "hni_rx_stall_ixe_pktbuf",
        TC,
        "Cycles in which receiving waited for packet buffer, by traffic class",
        "The host takes packets in too slowly",
    ),
    counts(
        "hni_discard_cntr",
        TC,
        "Packets discarded because they waited too long, by traffic class",
        "Loss on this node; transport has to retry",
    ),
    counts(
        "hni_pfc_fifo_oflw_cntr",
        TC,
        "Packets dropped because flow control came too late, by traffic class",
        "Wrong buffer or pause configuration",
    ),
    // Transport.
    counts(
        "pct_spt_timeouts",
        None,
        "Packets whose response did not come in time",
        "Loss in the fabric or a peer that died; the retry handler is asked",
    ),
    counts("pct_sct_timeouts", None, "Connections whose closing was not answered in time", "A peer that died"),
    counts("pct_tct_timeouts", None, "Connections of peers that were silent for too long", "A peer that died"),
    counts("pct_retry_srb_requests", None, "Packets sent again", "What retries really cost, whatever caused them"),
    counts(
        "pct_no_tct_nacks",
        None,
        "Requests refused because the table of target connections was full",
        "Too many peers at once for this NIC",
    ),
    counts(
        "pct_no_trs_nacks",
        None,
        "Requests refused because no place was left for results",
        "Too many outstanding requests at this NIC",
    ),
    counts(
        "pct_no_mst_nacks",
        None,
        "Requests refused because the table of messages was full",
        "Too many messages at once at this NIC",
    ),
    counts(
        "pct_no_matching_tct",
        None,
        "Requests refused because their connection is not known here",
        "A peer that went on after this end closed: restarts, crashes",
    ),
    counts("pct_resource_busy", None, "Requests refused because a resource was busy", "Contention at this NIC"),
    counts(
        "pct_bad_seq_nacks",
        None,
        "Requests refused because of their sequence number",
        "Packets lost or reordered on the way here",
    ),
    counts(
        "pct_trs_replay_pend_drops",
        None,
        "Repeated requests dropped because the first was still being worked on",
        "Peers give up too early, or this host is too slow",
    ),
    table("pct_prf_spt_status_spt_in_use", "Packets that wait for their response"),
    table("pct_prf_smt_status_smt_in_use", "Messages being sent"),
    table("pct_prf_sct_status_sct_in_use", "Connections as a source"),
    table("pct_prf_srb_status_srb_in_use", "Packets kept for sending again"),
    table("pct_prf_trs_status_trs_in_use", "Results kept for peers"),
    table("pct_prf_mst_status_mst_in_use", "Messages being received"),
    table("pct_prf_tct_status_tct_in_use", "Connections as a target"),
    // Memory of the NIC: each unit counts its own.
    memory("pct_mem_ucor_err_cntr", "Uncorrectable memory errors in the transport unit"),
    memory("atu_mem_ucor_err_cntr", "Uncorrectable memory errors in the address translation unit"),
    memory("cq_mem_ucor_err_cntr", "Uncorrectable memory errors in the command queues"),
    memory("ee_mem_ucor_err_cntr", "Uncorrectable memory errors in the event engine"),
    memory("ixe_mem_ucor_err_cntr", "Uncorrectable memory errors in the engine that receives"),
    memory("lpe_mem_ucor_err_cntr", "Uncorrectable memory errors in the unit that matches messages"),
    memory("mst_mem_ucor_err_cntr", "Uncorrectable memory errors in the table of messages"),
    memory("oxe_mem_ucor_err_cntr", "Uncorrectable memory errors in the engine that sends"),
    memory("rmu_mem_ucor_err_cntr", "Uncorrectable memory errors in the resource unit"),
    memory("hni_ucor_ecc_err_cntr", "Uncorrectable memory errors in the network interface"),
    // Isolation.
    counts(
        "rmu_ptl_invld_vni_cntr",
        None,
        "Packets dropped because their VNI is not enabled here",
        "A program sends into a network that is not its own, or a job's VNI is not set up on all nodes",
    ),
    counts(
        "rmu_ptl_invld_dfa_cntr",
        None,
        "Packets dropped because their destination is not this NIC",
        "Wrong routing or a wrong address",
    ),
    counts(
        "rmu_ptl_no_ptlte_cntr",
        None,
        "Packets dropped because no endpoint listens",
        "A process that died while others go on sending",
    ),
    // Congestion and drops on receiving.
    counts(
        "ixe_pool_ecn_pkts",
        POOL,
        "Packets received that were marked on a congested path",
        "Congestion in the fabric, before pauses",
    ),
    counts(
        "ixe_pool_no_ecn_pkts",
        POOL,
        "Packets received that were not marked",
        "What the share of marked packets is relative to",
    ),
    counts("ixe_rx_pkt_drop_pct", None, "Packets dropped by the transport unit", "Loss on this node"),
    counts(
        "ixe_rx_pkt_drop_rmu_norsp",
        None,
        "Packets dropped by the resource unit, without a response",
        "Loss on this node; the sender has to time out",
    ),
    counts(
        "ixe_rx_pkt_drop_rmu_wrsp",
        None,
        "Packets dropped by the resource unit, with a response",
        "Refused on this node, and the sender knows",
    ),
    counts(
        "ixe_rx_pkt_drop_ixe_parser",
        None,
        "Packets dropped because they could not be parsed",
        "Damaged or foreign packets",
    ),
    // The host side.
    counts(
        "parbs_tarb_pi_posted_pkts",
        None,
        "PCIe packets sent to the host that need no answer (writes)",
        "What blocked cycles are relative to",
    ),
    counts(
        "parbs_tarb_pi_posted_blocked_cnt",
        None,
        "Cycles in which PCIe writes waited",
        "More than a few per packet: the host's memory is the bottleneck",
    ),
    counts(
        "parbs_tarb_pi_non_posted_pkts",
        None,
        "PCIe packets sent to the host that need an answer (reads)",
        "What blocked cycles are relative to",
    ),
    counts(
        "parbs_tarb_pi_non_posted_blocked_cnt",
        None,
        "Cycles in which PCIe reads waited",
        "More than a few per packet: slow reads, this node injects too little",
    ),
    counts(
        "atu_cache_miss_oxe",
        None,
        "Misses of the address translation cache when sending",
        "Small pages or too many buffers",
    ),
    counts(
        "atu_cache_miss_ixe",
        None,
        "Misses of the address translation cache when receiving",
        "Small pages or too many buffers",
    ),
    counts(
        "atu_cache_miss_ee",
        None,
        "Misses of the address translation cache when writing events",
        "Small pages or too many queues",
    ),
    // Known, and useful only to those who study one application.
    on_request(
        "hni_tx_ok",
        SIZE,
        "Good frames sent by size in bytes",
        "24 series per NIC that say nothing about health",
    ),
    on_request(
        "hni_rx_ok",
        SIZE,
        "Good frames received by size in bytes",
        "24 series per NIC that say nothing about health",
    ),
    on_request("hni_multicast_pkts_sent_by_tc", TC, "Multicast packets sent by traffic class", "Hardly used"),
    on_request("hni_multicast_pkts_recv_by_tc", TC, "Multicast packets received by traffic class", "Hardly used"),
    on_request(
        "hni_pcs_corrected_cw_bin",
        BIN,
        "Codewords by the number of symbols corrected (Cassini 2)",
        "For studying a cable; hni_pcs_corrected_cw says that there is something to study",
    ),
    on_request(
        "ixe_tc_req_ecn_pkts",
        TC,
        "Requests received that were marked on a congested path, by traffic class",
        "ixe_pool_ecn_pkts by another division",
    ),
    on_request(
        "ixe_tc_req_no_ecn_pkts",
        TC,
        "Requests received that were not marked, by traffic class",
        "ixe_pool_no_ecn_pkts by another division",
    ),
    on_request(
        "ixe_tc_rsp_ecn_pkts",
        TC,
        "Responses received that were marked on a congested path, by traffic class",
        "ixe_pool_ecn_pkts by another division",
    ),
    on_request(
        "ixe_tc_rsp_no_ecn_pkts",
        TC,
        "Responses received that were not marked, by traffic class",
        "ixe_pool_no_ecn_pkts by another division",
    ),
    on_request(
        "lpe_net_match_priority",
        POOL,
        "Messages that met a receive posted before",
        "About one application's behaviour",
    ),
    on_request(
        "lpe_net_match_overflow",
        POOL,
        "Messages that came before their receive was posted",
        "About one application's behaviour",
    ),
    on_request("lpe_net_match_requests", POOL, "Requests to match a message", "About one application's behaviour"),
    on_request(
        "pct_req_rsp_latency",
        BIN,
        "Responses by time since the request; the bins' bounds are the driver's setting",
        "32 series per NIC; no Prometheus histogram, since the bounds are not in sysfs",
    ),
    on_request(
        "pct_host_access_latency",
        BIN,
        "Accesses to host memory by time; the bins' bounds are the driver's setting",
        "16 series per NIC; no Prometheus histogram, since the bounds are not in sysfs",
    ),
    on_request("pct_req_ordered", None, "Ordered requests", "About one application's behaviour"),
    on_request("pct_req_unordered", None, "Unordered requests", "About one application's behaviour"),
    on_request("pct_responses_received", None, "Responses received", "About one application's behaviour"),
    on_request(
        "atu_cache_evictions",
        None,
        "Entries evicted from the address translation cache",
        "The misses say as much",
    ),
    on_request(
        "atu_cache_miss",
        Some("page_size"),
        "Misses of the address translation cache by page size setting",
        "The misses by unit say as much",
    ),
];
