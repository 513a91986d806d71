//! Which telemetry counters are exported: `--counters`.

use std::{fmt, str::FromStr};

use wildmatch::WildMatch;

use crate::exporter::counters::{Exported, known};

/// What `default` stands for in a selection.
const DEFAULT: &str = "default";

/// Terms that are applied in order: the last one that is about a counter decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection(Vec<Term>);

/// One term of a [`Selection`].
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    excludes: bool,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Default,
    Names(WildMatch),
}

/// A term that cannot be about any counter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a counter: use `default`, or a name with a-z, 0-9 and _ in which * stands for any text and ? for one \
         character, with ! before it to leave counters out"
)]
pub struct TermError(String);

impl FromStr for Term {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (excludes, name) = text.strip_prefix('!').map_or((false, text), |name| (true, name));
        let is_name = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'*' | b'?');
        if name.is_empty() || !name.bytes().all(is_name) {
            return Err(TermError(text.to_owned()));
        }
        let what = if name == DEFAULT { What::Default } else { What::Names(WildMatch::new(name)) };
        Ok(Self { excludes, what })
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let excludes = if self.excludes { "!" } else { "" };
        match &self.what {
            What::Default => write!(f, "{excludes}{DEFAULT}"),
            What::Names(names) => write!(f, "{excludes}{names}"),
        }
    }
}

impl Selection {
    /// These terms, in this order.
    pub fn new(terms: Vec<Term>) -> Self {
        Self(terms)
    }

    /// Whether the counter `name` is exported.
    pub fn selects(&self, name: &str) -> bool {
        let last = self.0.iter().rfind(|term| term.is_about(name));
        last.is_some_and(|term| !term.excludes)
    }

    /// Terms that are about none of `names`: misspelt, or of another generation.
    pub fn idle<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a Term> {
        self.0.iter().filter(|term| !names.iter().any(|name| term.is_about(name)))
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self(vec![Term { excludes: false, what: What::Default }])
    }
}

impl Term {
    fn is_about(&self, name: &str) -> bool {
        match &self.what {
            What::Default => known(name).is_some_and(|known| matches!(known.family.exported, Exported::Default(_))),
            What::Names(names) => names.matches(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selection(text: &str) -> Selection {
        Selection::new(text.split(',').map(|term| term.parse().unwrap()).collect())
    }

    #[test]
    fn the_last_term_decides() {
        let all = selection("default,lpe_*,!lpe_net_*,lpe_net_match_overflow_?");
        for (name, selected) in [
            ("pct_spt_timeouts", true),
            ("hni_rx_ok_27", false),
            ("lpe_put_cmds", true),
            ("lpe_net_match_success_0", false),
            ("lpe_net_match_overflow_3", true),
        ] {
            assert_eq!(all.selects(name), selected, "{name}");
        }
        assert!(!selection("lpe_*").selects("pct_spt_timeouts"), "without `default` the list replaces it");
        assert!(!selection("*,!default").selects("pct_spt_timeouts"));
        assert!(selection("*,!default").selects("lpe_put_cmds"));
        assert!(!selection("!*").selects("pct_spt_timeouts"));
    }

    #[test]
    fn what_matches_nothing_is_named() {
        let names = ["pct_spt_timeouts".to_owned()];
        let idle: Vec<_> = selection("default,lpe_*,!x").idle(&names).map(ToString::to_string).collect();
        assert_eq!(idle, ["lpe_*", "!x"]);
    }

    #[test]
    fn refuses_what_is_no_name() {
        for text in ["", "!", "HNI_RX", "a b", "a-b", "!!a", "a{1}"] {
            let error = text.parse::<Term>().unwrap_err().to_string();
            assert!(error.contains("is not a counter"), "{error}");
        }
    }

    #[test]
    fn any_input_is_a_term_or_refused() {
        cxi_any_input::text(&["default", "!hni_rx_*", "lpe_net_match_?", "*"], &|text| {
            let term = text.parse::<Term>();
            if let Ok(term) = &term {
                assert_eq!(term.to_string().parse().as_ref(), Ok(term));
            }
            term.is_ok().into()
        });
    }

    proptest! {
        #[test]
        fn a_star_is_any_text(start in "[a-z_]{1,5}", middle in "[a-z0-9_]{0,6}", end in "[a-z0-9]{1,3}") {
            let name = format!("{start}{middle}{end}");
            let (fits, excludes) = (format!("{start}*{end}"), format!("*,!{start}*"));
            prop_assert!(selection(&fits).selects(&name));
            prop_assert!(!selection(&excludes).selects(&name));
        }
    }
}
