/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/doctor.h"

#include "base/status.h"
#include "device/device.h"
#include "ipc/layout.h"
#include "lib/config.h"
#include "lib/process.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FOUND_BYTES 512
#define VOLTA 70
#define SEGMENT_BYTES (UINT64_C(2) << 20)
#define SEGMENTS_USUAL 1024u /* at most, where the GPU is not known */

#define SEE_DRIVER "see driver and gpu above"

/* What was seen of the GPU. */
struct view {
	enum ps_status status; /* PS_OK: traits are there */
	char why[FOUND_BYTES]; /* else */
	struct dv_traits traits;
};

void lb_doctor_tell(const struct lb_doctor *doctor, const char *need, bool ok,
		    const char *remedy, const char *format, ...)
{
	char found[FOUND_BYTES];
	struct ps_finding finding = { need, ok, found, ok ? "" : remedy };
	va_list args;

	va_start(args, format);
	vsnprintf(found, sizeof(found), format, args);
	va_end(args);
	doctor->visit(doctor->arg, &finding);
}

static void look(const char *gpu, struct view *view)
{
	view->status = dv_traits_get(gpu, &view->traits);
	if (view->status != PS_OK)
		snprintf(view->why, sizeof(view->why), "%s", bs_fail_text());
}

/* ---- driver and GPU ---- */

/* The kernel module's version, such as "580.159.04"; "" when unknown. */
static void module_version(char version[32])
{
	FILE *file = fopen("/proc/driver/nvidia/version", "re");
	char line[256];
	char *word, *rest = line;

	version[0] = '\0';
	if (!file)
		return;
	if (fgets(line, sizeof(line), file))
		while ((word = strsep(&rest, " \t\n")) != NULL)
			if (strspn(word, "0123456789.") >= 5 &&
			    version[0] == '\0')
				snprintf(version, 32, "%.16s, ", word);
	fclose(file);
}

/* A failure's sentence is what was found and, behind "; ", the remedy. */
static void tell_failure(const struct lb_doctor *doctor, const char *need,
			 const char *why, const char *otherwise)
{
	const char *remedy = strstr(why, "; ");
	int length = remedy ? (int)(remedy - why) : (int)strlen(why);

	lb_doctor_tell(doctor, need, false, remedy ? remedy + 2 : otherwise,
		       "%.*s", length, why);
}

static void tell_driver(const struct lb_doctor *doctor, const struct view *view)
{
	int version = dv_driver_version();
	char module[32] = "";

	if (version == 0) {
		tell_failure(doctor, "driver", view->why,
			     "install the NVIDIA driver, 525 or newer");
		return;
	}
	if (!dv_is_simulated())
		module_version(module);
	lb_doctor_tell(doctor, "driver", true, "", "%sCUDA %d.%d%s", module,
		       version / 1000, version % 1000 / 10,
		       dv_is_simulated() ? ", of the simulated GPU" : "");
}

static void tell_gpu(const struct lb_doctor *doctor, const struct view *view)
{
	const struct dv_traits *traits = &view->traits;

	if (view->status == PS_OK)
		lb_doctor_tell(doctor, "gpu", traits->capability >= VOLTA,
			       "use a Volta GPU or a newer one",
			       "%s, %s, %" PRIu64 " MiB, compute capability "
			       "%d.%d",
			       traits->name, traits->uuid, traits->total >> 20,
			       traits->capability / 10,
			       traits->capability % 10);
	else if (dv_driver_version() != 0)
		tell_failure(doctor, "gpu", view->why,
			     "see nvidia-smi -L and CUDA_VISIBLE_DEVICES");
	else
		lb_doctor_tell(doctor, "gpu", false, "see driver above",
			       "not known: there is no driver to ask");
}

/* A need that the driver answers with yes or no. */
static void tell_trait(const struct lb_doctor *doctor, const struct view *view,
		       const char *need, bool ok, const char *remedy,
		       const char *found)
{
	if (view->status == PS_OK)
		lb_doctor_tell(doctor, need, ok, remedy, "%s", found);
	else
		lb_doctor_tell(doctor, need, false, SEE_DRIVER,
			       "not known: there is no GPU to look at");
}

/* ---- a segment ---- */

static enum ps_status import(struct dv_device *dev, int fd)
{
	uint64_t copy;
	enum ps_status status = dv_segment_import(dev, fd, &copy);

	return status == PS_OK ? dv_segment_release(dev, copy) : status;
}

/* Created, exported, imported again, and given back. */
static enum ps_status try_segment(struct dv_device *dev)
{
	enum ps_status status, released;
	uint64_t segment;
	int fd;

	status = dv_segment_create(dev, SEGMENT_BYTES, &segment);
	if (status != PS_OK)
		return status;
	status = dv_segment_export(dev, segment, &fd);
	if (status == PS_OK) {
		status = import(dev, fd);
		close(fd);
	}
	released = dv_segment_release(dev, segment);
	return status != PS_OK ? status : released;
}

static void tell_segment(const struct lb_doctor *doctor,
			 const struct view *view)
{
	struct dv_device *dev = NULL;
	enum ps_status status;

	if (view->status != PS_OK) {
		tell_trait(doctor, view, "segment-fds", false, "", "");
		return;
	}
	status = dv_device_open(view->traits.uuid, &dev);
	if (status == PS_OK)
		status = try_segment(dev);
	if (status == PS_OK)
		lb_doctor_tell(doctor, "segment-fds", true, "",
			       "2 MiB created, exported as a file descriptor, "
			       "imported");
	else
		tell_failure(doctor, "segment-fds", bs_fail_text(),
			     "see the other lines; end other programs on the "
			     "GPU; give a container all GPU files");
	dv_device_close(dev);
}

/* ---- modes ---- */

static const char *compute_mode_text(int mode)
{
	switch (mode) {
	case DV_COMPUTE_DEFAULT:
		return "default: any number of processes";
	case DV_COMPUTE_EXCLUSIVE:
		return "exclusive: one process at a time";
	case DV_COMPUTE_PROHIBITED:
		return "prohibited: no process";
	}
	return "one that is not known here";
}

static void tell_modes(const struct lb_doctor *doctor, const struct view *view)
{
	const struct dv_traits *traits = &view->traits;

	tell_trait(doctor, view, "value-waits", traits->has_value_waits,
		   "use a newer driver or GPU",
		   traits->has_value_waits ? "streams can wait for values"
					   : "streams cannot wait for values");
	tell_trait(doctor, view, "mig", !traits->is_mig,
		   "a pool needs a whole GPU: nvidia-smi -mig 0",
		   traits->is_mig ? "an instance of a divided GPU"
				  : "a whole GPU");
	tell_trait(doctor, view, "mps", !traits->is_mps,
		   "run what must survive the death of others outside MPS: "
		   "unset CUDA_MPS_PIPE_DIRECTORY, or end the MPS server",
		   traits->is_mps ? "in an MPS server, where one process's "
				    "death ends the others' work"
				  : "not in an MPS server");
	tell_trait(doctor, view, "compute-mode",
		   traits->compute_mode == DV_COMPUTE_DEFAULT,
		   "nvidia-smi -c DEFAULT",
		   compute_mode_text(traits->compute_mode));
}

/* ---- all ---- */

/* Of a pool that takes all of this GPU. */
static uint32_t segments_of(const struct view *view)
{
	const struct ip_wish wish = { 0 };
	struct ip_layout layout;

	if (view->status != PS_OK ||
	    ip_layout_plan(&wish, view->traits.total, SEGMENT_BYTES, &layout) !=
		    PS_OK)
		return SEGMENTS_USUAL;
	return layout.segments;
}

enum ps_status ps_doctor(const char *gpu, ps_finding_visit visit, void *arg)
{
	const struct lb_doctor doctor = { visit, arg };
	struct ps_pool_config config;
	struct view view = { .status = PS_OK };
	enum ps_status status = ps_pool_config_set_gpu(&config, gpu);

	if (status == PS_OK && !visit)
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "ps_doctor() has nobody to tell: visit is "
				 "NULL");
	if (status == PS_OK && lb_is_forked())
		status = lb_refuse(NULL);
	if (status != PS_OK)
		return status;
	look(config.gpu, &view);
	tell_driver(&doctor, &view);
	tell_gpu(&doctor, &view);
	tell_trait(&doctor, &view, "vmm",
		   view.traits.has_vmm && view.traits.has_posix_fds,
		   "use a newer driver or GPU",
		   view.traits.has_vmm && view.traits.has_posix_fds
			   ? "memory can be mapped, and shared by file "
			     "descriptor"
			   : "memory cannot be mapped and shared by file "
			     "descriptor");
	tell_segment(&doctor, &view);
	tell_modes(&doctor, &view);
	lb_doctor_system(&doctor, segments_of(&view));
	return PS_OK;
}
