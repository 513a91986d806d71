// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The NICs themselves, for a machine that has none: PCI functions with the ids of Cassini behind a host bridge in
 * software. This is the machine's hardware and no part of the driver: it is loaded before the driver and stays.
 *
 * Configuration space is memory. Region 0 lies in a window of addresses that nothing answers at; its size tells
 * physical from virtual functions of the first generation, as on the real one. Nothing may be read from it.
 */
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sizes.h>
#include <linux/slab.h>

/* Above all memory and devices of a virtual machine, below the 40 bits of QEMU's processors. */
#define WINDOW_START 0x4000000000ULL
#define WINDOW_END 0x7fffffffffULL
#define DOMAIN 0x10
/* One function per slot of one bus. */
#define MOST_NICS 32

static unsigned int count = 1;
module_param(count, uint, 0444);
MODULE_PARM_DESC(count, "how many NICs, 32 at most");

static unsigned int vendor = 0x17db;
module_param(vendor, uint, 0444);
MODULE_PARM_DESC(vendor, "PCI vendor id: 0x17db (default), or 0x1590 of the second generation");

static unsigned int device = 0x0501;
module_param(device, uint, 0444);
MODULE_PARM_DESC(device, "PCI device id: 0x0501 (default), or 0x0371 of the second generation");

static unsigned int region_mib = 2048;
module_param(region_mib, uint, 0444);
MODULE_PARM_DESC(region_mib, "size of region 0 in MiB, a power of two; below 2048 (default) it is a virtual function");

struct function {
	u8 config[PCI_CFG_SPACE_SIZE];
};

static struct function functions[MOST_NICS];
static struct pci_sysdata sysdata = { .domain = DOMAIN, .node = NUMA_NO_NODE };
static struct pci_bus *bus;
static struct resource window = {
	.name = "cxi-nics",
	.flags = IORESOURCE_MEM | IORESOURCE_MEM_64 | IORESOURCE_PREFETCH,
};
static struct resource bus_numbers = { .name = "cxi-nics", .flags = IORESOURCE_BUS };

static struct function *find(struct pci_bus *on, unsigned int devfn)
{
	if (on->number || PCI_FUNC(devfn) || PCI_SLOT(devfn) >= count)
		return NULL;
	return &functions[PCI_SLOT(devfn)];
}

static int read_config(struct pci_bus *on, unsigned int devfn, int where, int size, u32 *value)
{
	struct function *function = find(on, devfn);

	*value = ~0;
	if (!function)
		return PCIBIOS_DEVICE_NOT_FOUND;
	if (where + size <= PCI_CFG_SPACE_SIZE) {
		*value = 0;
		memcpy(value, function->config + where, size);
	}
	return PCIBIOS_SUCCESSFUL;
}

static int write_config(struct pci_bus *on, unsigned int devfn, int where, int size, u32 value)
{
	struct function *function = find(on, devfn);

	if (!function)
		return PCIBIOS_DEVICE_NOT_FOUND;
	switch (where) {
	case PCI_BASE_ADDRESS_0:
		/* The low bits say how large the region is, and what it is. */
		value &= ~((u32)region_mib * SZ_1M - 1);
		value |= PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH;
		break;
	case PCI_BASE_ADDRESS_1:
	case PCI_COMMAND:
	case PCI_INTERRUPT_LINE:
	case PCI_CACHE_LINE_SIZE:
		break;
	default:
		return PCIBIOS_SUCCESSFUL;
	}
	memcpy(function->config + where, &value, size);
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops ops = { .read = read_config, .write = write_config };

static void put16(struct function *function, int where, u16 value)
{
	memcpy(function->config + where, &value, sizeof(value));
}

static void describe(struct function *function)
{
	const u32 kind = PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH;

	put16(function, PCI_VENDOR_ID, vendor);
	put16(function, PCI_DEVICE_ID, device);
	put16(function, PCI_CLASS_DEVICE, PCI_CLASS_NETWORK_ETHERNET);
	put16(function, PCI_SUBSYSTEM_VENDOR_ID, vendor);
	put16(function, PCI_SUBSYSTEM_ID, 1);
	function->config[PCI_REVISION_ID] = 2;
	memcpy(function->config + PCI_BASE_ADDRESS_0, &kind, sizeof(kind));
}

static int __init nics_init(void)
{
	resource_size_t region = (resource_size_t)region_mib * SZ_1M;
	LIST_HEAD(resources);
	unsigned int i;
	int rc;

	if (!count || count > MOST_NICS || !region_mib || region_mib > 2048 || (region_mib & (region_mib - 1)))
		return -EINVAL;
	for (i = 0; i < count; i++)
		describe(&functions[i]);
	rc = allocate_resource(&iomem_resource, &window, count * region, WINDOW_START, WINDOW_END, region, NULL, NULL);
	if (rc)
		return rc;
	pci_add_resource(&resources, &window);
	pci_add_resource(&resources, &bus_numbers);
	bus = pci_create_root_bus(NULL, 0, &ops, &sysdata, &resources);
	if (!bus) {
		release_resource(&window);
		pci_free_resource_list(&resources);
		return -ENODEV;
	}
	pci_lock_rescan_remove();
	pci_scan_child_bus(bus);
	pci_assign_unassigned_bus_resources(bus);
	pci_bus_add_devices(bus);
	pci_unlock_rescan_remove();
	pr_info("cxi-nics: %u functions %04x:%04x\n", count, vendor, device);
	return 0;
}

static void __exit nics_exit(void)
{
	pci_lock_rescan_remove();
	pci_stop_root_bus(bus);
	pci_remove_root_bus(bus);
	pci_unlock_rescan_remove();
	release_resource(&window);
}

module_init(nics_init);
module_exit(nics_exit);
MODULE_LICENSE("Dual MIT/GPL");
MODULE_DESCRIPTION("PCI functions with the ids of Cassini, for tests");
