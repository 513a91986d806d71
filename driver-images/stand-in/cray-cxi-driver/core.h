/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What the parts of the core module know of each other. */
#ifndef STAND_IN_CORE_H
#define STAND_IN_CORE_H

#include "cxi.h"

extern struct class *cxi_class;
extern struct mutex cxi_lock;
extern struct list_head cxi_devs;
extern struct list_head cxi_clients;
extern struct pci_driver cxi_pci_driver;

/* Faults, by bits of NICs. */
extern unsigned int cxi_fail_probe;
extern unsigned int cxi_link_down;
extern unsigned int cxi_retry_handler;

bool cxi_is_cassini_2(const struct cxi_dev *cdev);
int cxi_sysfs_add(struct cxi_dev *cdev);
void cxi_sysfs_remove(struct cxi_dev *cdev);

#endif
