/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Numbers of the NIC that the driver prints: limits of its resources, and what it says of itself. */
#ifndef CASSINI_STAND_IN_H
#define CASSINI_STAND_IN_H

#define CASSINI_NUM_PTES 2048
#define CASSINI_NUM_TXQS 1024
#define CASSINI_NUM_TGQS 512
#define CASSINI_NUM_EQS 2048
#define CASSINI_NUM_CTS 2048
#define CASSINI_NUM_ACS 1023
#define CASSINI_NUM_TLES 2048
#define CASSINI_NUM_LES 16384
#define CASSINI_RGIDS 255

#endif
