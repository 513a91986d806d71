//! The telemetry counters that are known by name: what they mean, and why they are exported or not unless asked for.
//!
//! Names are the driver's, so that what HPE's documents say about a counter is found. A family is a counter, or several
//! that differ in a number at the end of their names; that number becomes a label. All names were checked against the
//! drivers of Cassini 1 and Cassini 2 (`cassini-telemetry-*.h`); what they count is said by HPE's Cassini performance
//! counter guide as far as it covers them.

mod families;

pub use families::FAMILIES;

/// How the value of a counter behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Grows until the driver is loaded again, or its 56 bits wrap.
    Counts,
    /// Goes up and down.
    Level,
}

/// Whether a family is exported by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exported {
    /// Yes, for this reason.
    Default(&'static str),
    /// No, for this reason.
    OnRequest(&'static str),
}

/// One counter, or several that differ in the end of their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Name of the counter's file, without what the label holds.
    pub name: &'static str,
    /// Name of the label for the end of the file's name; `None` where it is one counter.
    pub label: Option<&'static str>,
    /// How its value behaves.
    pub behaviour: Behaviour,
    /// What it counts, and in what.
    pub help: &'static str,
    /// Whether it is exported by default.
    pub exported: Exported,
}

/// Names of the counters that a Cassini 2 has of the default list, made up from their families: what a tree of a NIC
/// needs for trying the exporter.
pub fn default_counters() -> impl Iterator<Item = String> {
    let families = FAMILIES.iter().filter(|family| matches!(family.exported, Exported::Default(_)));
    families.flat_map(|family| {
        let members = match family.label {
            None => 0,
            Some("lane") => 16,
            Some("pool") => 4,
            Some(_) => 8,
        };
        let single = family.label.is_none().then(|| family.name.to_owned());
        single.into_iter().chain((0..members).map(move |member| format!("{}_{member}", family.name)))
    })
}

/// A counter of a [`Family`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known<'a> {
    /// Its family.
    pub family: &'static Family,
    /// Value of the family's label.
    pub member: Option<&'a str>,
}

/// Which family the counter `name` belongs to.
pub fn known(name: &str) -> Option<Known<'_>> {
    FAMILIES.iter().find_map(|family| {
        let rest = name.strip_prefix(family.name)?;
        let member = match family.label {
            None if rest.is_empty() => None,
            None => return None,
            Some(label) => Some(rest.strip_prefix('_').filter(|rest| is_member(label, rest))?),
        };
        Some(Known { family, member })
    })
}

fn is_member(label: &str, text: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // 27, 36_to_63 or 8192_to_max.
    let range = || text.split_once("_to_").is_some_and(|(from, to)| number(from) && (number(to) || to == "max"));
    number(text) || (label == "size" && range())
}

/// The name of a counter that is not known, and the number at its end.
pub fn split_number(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once('_') {
        Some((stem, number)) if is_member("", number) && !stem.is_empty() => (stem, Some(number)),
        _ => (name, None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn members_are_told_from_neighbours() {
        let member = |name| known(name).map(|known| (known.family.name, known.member));
        assert_eq!(member("pct_spt_timeouts"), Some(("pct_spt_timeouts", None)));
        assert_eq!(member("hni_pkts_sent_by_tc_7"), Some(("hni_pkts_sent_by_tc", Some("7"))));
        assert_eq!(member("hni_rx_ok_36_to_63"), Some(("hni_rx_ok", Some("36_to_63"))));
        assert_eq!(member("hni_rx_ok_8192_to_max"), Some(("hni_rx_ok", Some("8192_to_max"))));
        assert_eq!(member("hni_rx_ok_27"), Some(("hni_rx_ok", Some("27"))));
        assert_eq!(member("hni_rx_ok_ieee"), Some(("hni_rx_ok_ieee", None)));
        assert_eq!(member("hni_rx_paused_std"), Some(("hni_rx_paused_std", None)));
        assert_eq!(member("hni_pcs_corrected_cw_bin_3"), Some(("hni_pcs_corrected_cw_bin", Some("3"))));
        assert_eq!(member("atu_cache_miss_ee"), Some(("atu_cache_miss_ee", None)));
        for name in ["", "hni_rx_ok", "hni_rx_ok_", "hni_rx_ok_broadcast", "pct_spt_timeouts_1", "hni_rx_paused_0_to_1"]
        {
            assert_eq!(member(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_at_the_end() {
        assert_eq!(split_number("lpe_unexpected_get_amo_3"), ("lpe_unexpected_get_amo", Some("3")));
        for name in ["rmu_enet_success_cntr", "hni_fgfc_ipv4", "_3", "3", ""] {
            assert_eq!(split_number(name), (name, None));
        }
    }

    #[test]
    fn the_default_list_has_as_many_counters_as_a_cassini_2() {
        let names: BTreeSet<_> = default_counters().collect();
        assert_eq!(names.len(), 157);
        assert!(names.iter().all(|name| known(name).is_some()));
    }

    #[test]
    fn every_family_is_named_once_and_says_what_and_why() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            let (Exported::Default(why) | Exported::OnRequest(why)) = family.exported;
            assert!(!why.is_empty() && !family.help.is_empty() && !family.help.ends_with('.'), "{}", family.name);
        }
    }

    #[test]
    fn any_input_is_a_counter_of_a_family_or_of_none() {
        cxi_any_input::text(
            &["hni_rx_ok_27", "hni_rx_ok_8192_to_max", "hni_tx_paused_7", "pct_spt_timeouts"],
            &|name| {
                let known = known(name);
                if let Some(Known { family, member }) = known {
                    let again = member.map_or(family.name.to_owned(), |member| format!("{}_{member}", family.name));
                    assert_eq!(again, name);
                }
                let (stem, number) = split_number(name);
                assert_eq!(number.map_or(stem.to_owned(), |number| format!("{stem}_{number}")), name);
                known.is_some().into()
            },
        );
    }
}
