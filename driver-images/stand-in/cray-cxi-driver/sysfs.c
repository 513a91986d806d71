// SPDX-License-Identifier: MIT OR GPL-2.0-only
/* The attributes of a NIC, in directories of its PCI device. */
#include <linux/device.h>
#include <linux/sysfs.h>
#include <linux/timekeeping.h>

#include "cassini_stand_in.h"
#include "core.h"

static struct cxi_dev *to_cxi(struct device *dev)
{
	return pci_get_drvdata(to_pci_dev(dev));
}

/* An attribute of the PCI device that prints `value`, where `cdev` is the NIC. */
#define SHOW(name, format, value)                                                                        \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attribute, char *buffer) \
	{                                                                                                \
		struct cxi_dev *cdev __maybe_unused = to_cxi(dev);                                       \
                                                                                                         \
		return sysfs_emit(buffer, format, value);                                                \
	}                                                                                                \
	static DEVICE_ATTR_RO(name)

#define NID(cdev) (0x1000 + (cdev)->index)

SHOW(nid, "0x%x\n", NID(cdev));
SHOW(nic_addr, "0x%x\n", NID(cdev));
/* The configured speed, whatever the link runs at. */
SHOW(speed, "%d\n", 200000);
SHOW(link, "%d\n", cxi_link_is_up(cdev));
SHOW(rev, "%u\n", 2);
SHOW(hpc_mtu, "%u\n", 2112);
SHOW(uc_nic, "%u\n", cdev->index);
SHOW(cassini_version, "%s\n", cxi_is_cassini_2(cdev) ? "2.0" : "1.1");
SHOW(pct_eq, "%u\n", cxi_retry_handler & BIT(cdev->index % 32) ? 7 : 0);
SHOW(driver_rev, "%s\n", "[unknown]");
SHOW(current_esm_link_speed, "%s\n", "Disabled");
SHOW(num_ptes, "%d\n", CASSINI_NUM_PTES);
SHOW(num_txqs, "%d\n", CASSINI_NUM_TXQS);
SHOW(num_tgqs, "%d\n", CASSINI_NUM_TGQS);
SHOW(num_eqs, "%d\n", CASSINI_NUM_EQS);
SHOW(num_cts, "%d\n", CASSINI_NUM_CTS);
SHOW(num_acs, "%d\n", CASSINI_NUM_ACS);
SHOW(num_tles, "%d\n", CASSINI_NUM_TLES);
SHOW(num_les, "%d\n", CASSINI_NUM_LES);
SHOW(rgids_avail, "%u\n", CASSINI_RGIDS);
SHOW(pcie_corr_err, "%llu\n", 0ULL);
SHOW(pcie_uncorr_err, "%llu\n", 0ULL);

static struct attribute *properties_attributes[] = {
	&dev_attr_nid.attr,
	&dev_attr_nic_addr.attr,
	&dev_attr_speed.attr,
	&dev_attr_link.attr,
	&dev_attr_rev.attr,
	&dev_attr_hpc_mtu.attr,
	&dev_attr_uc_nic.attr,
	&dev_attr_cassini_version.attr,
	&dev_attr_pct_eq.attr,
	&dev_attr_driver_rev.attr,
	&dev_attr_current_esm_link_speed.attr,
	&dev_attr_num_ptes.attr,
	&dev_attr_num_txqs.attr,
	&dev_attr_num_tgqs.attr,
	&dev_attr_num_eqs.attr,
	&dev_attr_num_cts.attr,
	&dev_attr_num_acs.attr,
	&dev_attr_num_tles.attr,
	&dev_attr_num_les.attr,
	&dev_attr_rgids_avail.attr,
	&dev_attr_pcie_corr_err.attr,
	&dev_attr_pcie_uncorr_err.attr,
	NULL
};

SHOW(app_version, "%s\n", "1.5.41");
SHOW(bootloader_version, "%s\n", "1.4.0");
SHOW(qspi_blob_version, "%s\n", "1.5.53");
SHOW(oprom_version, "%s\n", "2.3.2");

static struct attribute *uc_attributes[] = {
	&dev_attr_app_version.attr,
	&dev_attr_bootloader_version.attr,
	&dev_attr_qspi_blob_version.attr,
	&dev_attr_oprom_version.attr,
	NULL
};

SHOW(part_number, "%s", "P43012-001\n");
SHOW(serial_number, "STANDIN%04u\n", cdev->index);
SHOW(manufacturer, "%s", "CXI operator tests\n");
/* Nothing at all, as the driver prints what the NIC does not say. */
SHOW(asset_tag, "%s", "");

static struct attribute *fru_attributes[] = {
	&dev_attr_part_number.attr,
	&dev_attr_serial_number.attr,
	&dev_attr_manufacturer.attr,
	&dev_attr_asset_tag.attr,
	NULL
};

SHOW(time_0, "%llu\n", 0ULL);
SHOW(time_1, "%llu\n", 0ULL);

static struct attribute *link_restarts_attributes[] = {
	&dev_attr_time_0.attr,
	&dev_attr_time_1.attr,
	NULL
};

/* Counters that grow with time, each at its own pace. */
#define COUNTER(name, pace)                                                                              \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attribute, char *buffer) \
	{                                                                                                \
		struct timespec64 now;                                                                   \
                                                                                                         \
		ktime_get_real_ts64(&now);                                                               \
		return sysfs_emit(buffer, "%llu@%lld.%09lu\n", ktime_get_boottime_ns() / 1000 * (pace),   \
				  (long long)now.tv_sec, now.tv_nsec);                                   \
	}                                                                                                \
	static DEVICE_ATTR_RO(name)

COUNTER(hni_pcs_good_cw, 100);
COUNTER(hni_pcs_corrected_cw, 1);
COUNTER(hni_pcs_uncorrected_cw, 0);
COUNTER(hni_sts_rx_ok_octets, 64);
COUNTER(hni_sts_tx_ok_octets, 64);
COUNTER(pct_spt_timeouts, 0);

static struct attribute *telemetry_attributes[] = {
	&dev_attr_hni_pcs_good_cw.attr,
	&dev_attr_hni_pcs_corrected_cw.attr,
	&dev_attr_hni_pcs_uncorrected_cw.attr,
	&dev_attr_hni_sts_rx_ok_octets.attr,
	&dev_attr_hni_sts_tx_ok_octets.attr,
	&dev_attr_pct_spt_timeouts.attr,
	NULL
};

static const struct attribute_group properties = { .name = "properties", .attrs = properties_attributes };
static const struct attribute_group uc = { .name = "uc", .attrs = uc_attributes };
static const struct attribute_group fru = { .name = "fru", .attrs = fru_attributes };
static const struct attribute_group link_restarts = { .name = "link_restarts", .attrs = link_restarts_attributes };
static const struct attribute_group telemetry = { .name = "telemetry", .attrs = telemetry_attributes };

static const struct attribute_group *groups[] = {
	&properties, &uc, &fru, &link_restarts, &telemetry, NULL,
};

/*
 * The port: `port/` of the first generation, `port/0/link/` of the second. A directory in a directory is not in the
 * driver model's groups, so these are objects of their own, in which the parent or its parent is the PCI device.
 */
static struct cxi_dev *port_to_cxi(struct kobject *object)
{
	while (object && strcmp(object->name, "port"))
		object = object->parent;
	return object ? to_cxi(kobj_to_dev(object->parent)) : NULL;
}

#define PORT(variable, file, up, down)                                                                       \
	static ssize_t variable##_show(struct kobject *object, struct kobj_attribute *attribute, char *buffer) \
	{                                                                                                    \
		return sysfs_emit(buffer, "%s", cxi_link_is_up(port_to_cxi(object)) ? (up) : (down));        \
	}                                                                                                    \
	static struct kobj_attribute variable = __ATTR(file, 0444, variable##_show, NULL)

/* The first generation prints no end of line. */
PORT(port_speed, speed, "BS_200G", "NA");
PORT(port_link, link, "up", "down");
PORT(port_media, media, "electrical", "electrical");
PORT(port_pause, pause, "pfc/802.1qbb", "pfc/802.1qbb");

static struct attribute *port_attributes[] = {
	&port_speed.attr, &port_link.attr, &port_media.attr, &port_pause.attr, NULL,
};
static const struct attribute_group port = { .attrs = port_attributes };

PORT(link_speed, speed, "ck400G\n", "unknown\n");
PORT(link_state, state, "up\n", "down\n");

static struct attribute *link_attributes[] = { &link_speed.attr, &link_state.attr, NULL };
static const struct attribute_group port0_link = { .name = "link", .attrs = link_attributes };

int cxi_sysfs_add(struct cxi_dev *cdev)
{
	struct kobject *device = &cdev->pdev->dev.kobj;
	int rc = sysfs_create_groups(device, groups);

	if (rc)
		return rc;
	rc = -ENOMEM;
	cdev->port = kobject_create_and_add("port", device);
	if (!cdev->port)
		goto failed;
	if (cxi_is_cassini_2(cdev)) {
		cdev->port0 = kobject_create_and_add("0", cdev->port);
		if (!cdev->port0)
			goto failed;
		rc = sysfs_create_group(cdev->port0, &port0_link);
	} else {
		rc = sysfs_create_group(cdev->port, &port);
	}
	if (!rc)
		return 0;
failed:
	cxi_sysfs_remove(cdev);
	return rc;
}

void cxi_sysfs_remove(struct cxi_dev *cdev)
{
	kobject_put(cdev->port0);
	kobject_put(cdev->port);
	sysfs_remove_groups(&cdev->pdev->dev.kobj, groups);
}
