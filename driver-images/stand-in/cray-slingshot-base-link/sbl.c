// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Stand-in for the link library of the first generation: nothing but symbols that the driver needs.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

#include "sbl.h"

int sbl_base_link_start(unsigned int nic, const struct STAND_IN_ABI *abi)
{
	pr_info("cxi_sbl: link %u started\n", nic);
	return 0;
}
EXPORT_SYMBOL(sbl_base_link_start);

void sbl_base_link_stop(unsigned int nic, const struct STAND_IN_ABI *abi)
{
	pr_info("cxi_sbl: link %u stopped\n", nic);
}
EXPORT_SYMBOL(sbl_base_link_stop);

static const struct file_operations sbl_fops = {
	.owner = THIS_MODULE,
};

static struct miscdevice sbl_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "cxi_sbl",
	.fops = &sbl_fops,
};

static int __init sbl_init(void)
{
	int rc = misc_register(&sbl_misc);

	if (!rc)
		pr_info("cxi_sbl: stand-in %s loaded\n", STAND_IN_RELEASE);
	return rc;
}

static void __exit sbl_exit(void)
{
	misc_deregister(&sbl_misc);
}

module_init(sbl_init);
module_exit(sbl_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("stand-in for the Slingshot base link library, for tests");
/* The same in every release: it tells nothing, as little as the real one. */
MODULE_VERSION("3.22.23");
