/* A driver library for tests: what `libnvidia-ml.so.1` says of two GPUs, or how it fails, by STUB_NVML.

   Modes that begin with "mig": the second GPU is divided into instances, or has none yet, or both are divided; a device
   above 1 is an instance. The driver keeps seven places for them, of which 1 and 4 are taken.

   With -DOLD_DRIVER it lacks what older drivers lack, with -DNO_INIT the first function that is called. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18,
    ARGUMENT_VERSION_MISMATCH = 25, STRANGE = 777
};

typedef struct { unsigned index; } Device;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version, sensor; int temperature; } Temperature;

static Device devices[4] = {{0}, {1}, {2}, {3}};
static unsigned rounds;

static int mode(const char *name) {
    const char *asked = getenv("STUB_NVML");
    return asked && !strcmp(asked, name);
}

/* Ends some time: a caller that waits for it is to fail its test, not to hold it up for ever. */
static void hang(void) {
    for (int second = 0; second < 60; second++)
        sleep(1);
}

static void crash(void) {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

/* True the first time that any process asks: STUB_NVML_MARK names a file that remembers. */
static int first_time(void) {
    const char *mark = getenv("STUB_NVML_MARK");
    if (!mark || !access(mark, F_OK))
        return 0;
    fclose(fopen(mark, "w"));
    return 1;
}

#ifndef NO_INIT
int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (mode("mismatch"))
        return LIB_RM_VERSION_MISMATCH;
    if (mode("strange"))
        return STRANGE;
    if (mode("hang_init"))
        hang();
    if (mode("segfault") || (mode("segfault_once") && first_time()))
        crash();
    return SUCCESS;
}
#endif

const char *nvmlErrorString(int error) {
    return error == STRANGE ? "\x1b[31m\xe5\xa5\x87\xe6\x80\xaa" : "some error"; /* 奇怪 */
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (mode("hang_later") && rounds++)
        hang();
    if (mode("chatty")) {
        write(STDOUT_FILENO, "NVRM: half a line", 17);
        write(STDOUT_FILENO, "{\"gpus\": 7}\n", 12);
    }
    *count = mode("no_gpu") ? 0 : 2;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if (index > 1)
        return INVALID_ARGUMENT;
    if (mode("lost") && index == 1)
        return GPU_IS_LOST;
    *device = &devices[index];
    return SUCCESS;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    const char *asked = getenv("STUB_NVML");
    if (!asked || strncmp(asked, "mig", 3))
        return NOT_SUPPORTED;
    *current = *pending = device->index == 1 || mode("mig_both_empty");
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    *count = device->index == 1 ? 7 : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **instance) {
    if (device->index != 1 || (index != 1 && index != 4) || mode("mig_empty") || mode("mig_both_empty"))
        return NOT_FOUND;
    *instance = &devices[index == 1 ? 2 : 3];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(Device *device, unsigned *id) {
    *id = device->index == 2 ? 7 : 2;
    return device->index > 1 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetComputeInstanceId(Device *device, unsigned *id) {
    *id = 0;
    return device->index > 1 ? SUCCESS : INVALID_ARGUMENT;
}
#endif

int nvmlDeviceGetName(Device *device, char *name, unsigned length) {
    const char *text = mode("unlike") && device->index ? "NVIDIA GeForce RTX 3070" : "NVIDIA GeForce RTX 3060";
    if (mode("hostile_name")) /* 显卡 */
        text = device->index ? "\xff\xfe[/x]" : "\x1b]0;owned\x07 \xe6\x98\xbe\xe5\x8d\xa1\n";
    if (device->index > 1)
        text = device->index == 2 ? "NVIDIA A100-SXM4-40GB MIG 1g.5gb" : "NVIDIA A100-SXM4-40GB MIG 3g.20gb";
    strncpy(name, text, length);
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device *device, char *uuid, unsigned length) {
    static const char *uuids[] = {"GPU-aab10000-0000", "GPU-aab20000-0000", "MIG-5a6b0000-0001", "MIG-5a6b0000-0002"};
    strncpy(uuid, uuids[device->index], length);
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
    *major = mode("old_card") && device->index ? 7 : 8;
    *minor = *major == 7 ? 5 : 6;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    memory->total = (mode("unlike") && device->index ? 8ULL : 12ULL) << 30;
    memory->used = (6ULL + device->index) << 30; /* beyond 32 bits */
    if (device->index > 1) {
        memory->total = (device->index == 2 ? 5ULL : 20ULL) << 30;
        memory->used = 1ULL << 30;
    }
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(Device *device, unsigned sensor, unsigned *temperature) {
    *temperature = 41 + device->index;
    return device->index > 1 ? NOT_SUPPORTED : sensor ? INVALID_ARGUMENT : SUCCESS;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetTemperatureV(Device *device, Temperature *temperature) {
    if (temperature->version != 0x100000C)
        return ARGUMENT_VERSION_MISMATCH;
    temperature->temperature = 71 + device->index;
    if (device->index > 1)
        return NOT_SUPPORTED;
    return temperature->sensor ? INVALID_ARGUMENT : SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *utilization) {
    utilization->gpu = 93 - device->index;
    utilization->memory = 7;
    return device->index > 1 ? NOT_SUPPORTED : SUCCESS;
}
#endif

int nvmlDeviceGetPowerUsage(Device *device, unsigned *milliwatts) {
    *milliwatts = 148250 + 1000 * device->index;
    return mode("no_power") || device->index > 1 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(Device *device, unsigned *milliwatts) {
    *milliwatts = 170000;
    return mode("no_power") || device->index > 1 ? NOT_SUPPORTED : SUCCESS;
}
