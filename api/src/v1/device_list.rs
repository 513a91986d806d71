//! How many device ids a kubelet takes: it refuses a list of more than 4 MiB, and then the node never has the resource.

use std::num::NonZeroU32;

/// The longest message that a kubelet takes from a device plugin, in bytes (grpc-go's default, which the device manager keeps).
pub const MAX_LIST_BYTES: usize = 4 << 20;

/// The most that one id takes in the list, in bytes: tag and length of the device, the id (`ffffffff:c1:00.0-9999`), its health
/// (`Unhealthy`) and its NUMA node (a number of 32 bits), each with tags and lengths.
const MAX_ID_BYTES: usize = 2 + (2 + 21) + (2 + 9) + (2 + 2 + 1 + 5);

/// The most pods that may share each of `nics`, virtual functions included, so that the list of all ids is short enough.
pub fn most_per_nic(nics: usize) -> NonZeroU32 {
    let most = MAX_LIST_BYTES / MAX_ID_BYTES / nics.max(1);
    u32::try_from(most).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_have_is_far_from_the_end() {
        let most = |nics| most_per_nic(nics).get();
        assert!(most(8) >= 10_000, "eight NICs take the largest capacity");
        assert!(most(4 * 65) >= 100, "and all virtual functions of four the usual one");
        assert_eq!([most(12), most(4 * 65), most(1_000_000)], [7598, 350, 1]);
        assert!(most(0) > 10_000);
    }
}
