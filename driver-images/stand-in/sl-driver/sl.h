/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the second generation's link library offers to the driver. */
#ifndef STAND_IN_SL_H
#define STAND_IN_SL_H

#include <linux/types.h>

#include "release.h"

struct STAND_IN_ABI;

int sl_link_up(unsigned int nic, const struct STAND_IN_ABI *abi);
void sl_link_down(unsigned int nic, const struct STAND_IN_ABI *abi);

#endif
