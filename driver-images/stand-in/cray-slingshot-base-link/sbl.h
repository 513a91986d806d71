/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the base link library offers to the driver. */
#ifndef STAND_IN_SBL_H
#define STAND_IN_SBL_H

#include <linux/types.h>

#include "release.h"

struct STAND_IN_ABI;

int sbl_base_link_start(unsigned int nic, const struct STAND_IN_ABI *abi);
void sbl_base_link_stop(unsigned int nic, const struct STAND_IN_ABI *abi);

#endif
