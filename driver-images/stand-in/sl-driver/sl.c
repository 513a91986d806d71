// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * Stand-in for the link library of the second generation: symbols that the driver needs, and a firmware file if asked.
 */
#include <linux/device.h>
#include <linux/firmware.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/version.h>

#include "sl.h"

static char *firmware;
module_param(firmware, charp, 0444);
MODULE_PARM_DESC(firmware, "a firmware file without which this module does not load; none if not given");

static struct class *sl_class;

int sl_link_up(unsigned int nic, const struct STAND_IN_ABI *abi)
{
	pr_info("cxi_sl: link %u up\n", nic);
	return 0;
}
EXPORT_SYMBOL(sl_link_up);

void sl_link_down(unsigned int nic, const struct STAND_IN_ABI *abi)
{
	pr_info("cxi_sl: link %u down\n", nic);
}
EXPORT_SYMBOL(sl_link_down);

static const struct file_operations sl_fops = {
	.owner = THIS_MODULE,
};

static struct miscdevice sl_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "sl",
	.fops = &sl_fops,
};

static int sl_load_firmware(void)
{
	const struct firmware *file;
	int rc;

	if (!firmware || !*firmware)
		return 0;
	rc = request_firmware_direct(&file, firmware, sl_misc.this_device);
	if (rc) {
		pr_err("cxi_sl: firmware %s cannot be had (%d)\n", firmware, rc);
		return rc;
	}
	pr_info("cxi_sl: firmware %s has %zu bytes\n", firmware, file->size);
	release_firmware(file);
	return 0;
}

static int __init sl_init(void)
{
	int rc;

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	sl_class = class_create("sl");
#else
	sl_class = class_create(THIS_MODULE, "sl");
#endif
	if (IS_ERR(sl_class))
		return PTR_ERR(sl_class);
	rc = misc_register(&sl_misc);
	if (rc)
		goto no_misc;
	rc = sl_load_firmware();
	if (rc)
		goto no_firmware;
	pr_info("cxi_sl: stand-in %s loaded\n", STAND_IN_RELEASE);
	return 0;

no_firmware:
	misc_deregister(&sl_misc);
no_misc:
	class_destroy(sl_class);
	return rc;
}

static void __exit sl_exit(void)
{
	misc_deregister(&sl_misc);
	class_destroy(sl_class);
}

module_init(sl_init);
module_exit(sl_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("stand-in for the Slingshot link driver, for tests");
/* The same in every release: it tells nothing, as little as the real one. */
MODULE_VERSION("1.33.31");
