/* A CUDA driver library without a GPU, for tests of the calls that are made of it: device memory is host
 * memory, work is done at once, but order, contexts, lifetimes and flags are checked as the driver does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
       INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500 };
enum { BLOCKS = 64, NODES = 16 };
typedef int result;
typedef struct { void *target; const void *source; size_t count; } copy;
typedef struct { copy nodes[NODES]; int count; } graph;
typedef struct { graph *capturing; int live; } stream;

static int initialized, retained, depth, live, pinned;
static int primary;  /* its address is the primary context */
static void *blocks[BLOCKS];
static size_t sizes[BLOCKS];

#define CURRENT if (!initialized) return NOT_INITIALIZED; if (depth < 1 || retained < 1) return INVALID_CONTEXT

int fake_live(void) { return live; }       /* memory, streams, events and graphs not freed */
int fake_pinned(void) { return pinned; }
int fake_depth(void) { return depth; }
int fake_retained(void) { return retained; }

result cuInit(unsigned flags) { initialized = 1; return flags ? INVALID_VALUE : OK; }
result cuDriverGetVersion(int *version) { *version = 13010; return OK; }
result cuDeviceGetCount(int *count) { *count = getenv("FAKE_NO_GPU") ? 0 : 1; return OK; }
result cuDeviceGet(int *device, int index) { *device = index; return index ? INVALID_VALUE : OK; }
result cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Fake RTX 4000", length); return OK; }
result cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 8 : attribute == 76 ? 9 : -1;
    return OK;
}
result cuDevicePrimaryCtxRetain(void **context, int device)
{
    if (!initialized) return NOT_INITIALIZED;
    retained++;
    *context = &primary;
    return OK;
}
result cuDevicePrimaryCtxRelease(int device) { return retained-- > 0 ? OK : INVALID_CONTEXT; }
result cuCtxPushCurrent(void *context)
{
    if (context != &primary || retained < 1) return INVALID_CONTEXT;
    depth++;
    return OK;
}
result cuCtxPopCurrent(void **context)
{
    if (depth < 1) return INVALID_CONTEXT;
    depth--;
    if (context) *context = &primary;
    return OK;
}
result cuMemGetInfo(size_t *available, size_t *total) { CURRENT; *available = 5; *total = 7; return OK; }
result cuMemAlloc(void **address, size_t count)
{
    CURRENT;
    if (count > 1 << 20) return OUT_OF_MEMORY;
    for (int i = 0; i < BLOCKS; i++) if (!blocks[i]) {
        *address = blocks[i] = calloc(1, count);
        sizes[i] = count;
        live++;
        return OK;
    }
    return OUT_OF_MEMORY;
}
result cuMemFree(void *address)
{
    CURRENT;
    for (int i = 0; i < BLOCKS; i++) if (blocks[i] == address) {
        free(address);
        blocks[i] = 0;
        live--;
        return OK;
    }
    return INVALID_VALUE;
}
static int inside(const void *address, size_t count)
{
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i] && (char *)address >= (char *)blocks[i]
            && (char *)address + count <= (char *)blocks[i] + sizes[i]) return 1;
    return 0;
}
result cuMemHostAlloc(void **address, size_t count, unsigned flags)
{
    CURRENT;
    *address = calloc(1, count);
    pinned++;
    return OK;
}
result cuMemFreeHost(void *address) { CURRENT; free(address); pinned--; return OK; }
result cuStreamCreate(stream **made, unsigned flags)
{
    CURRENT;
    *made = calloc(1, sizeof(stream));
    (*made)->live = 1;
    live++;
    return OK;
}
result cuStreamDestroy(stream *own) { CURRENT; own->live = 0; live--; return OK; }
result cuStreamSynchronize(stream *own) { CURRENT; return own && own->live ? OK : INVALID_HANDLE; }
result cuStreamWaitEvent(stream *own, int *event, unsigned flags)
{
    CURRENT;
    return own && own->live && event && *event == 1 ? OK : INVALID_HANDLE;  /* recorded before it is waited for */
}
result cuEventCreate(int **event, unsigned flags)
{
    CURRENT;
    if (flags != 2) return INVALID_VALUE;  /* without timing */
    *event = calloc(1, sizeof(int));
    live++;
    return OK;
}
result cuEventDestroy(int *event) { CURRENT; *event = 2; live--; return OK; }
result cuEventRecord(int *event, stream *own) { CURRENT; *event = 1; return own && own->live ? OK : INVALID_HANDLE; }
result cuEventSynchronize(int *event) { CURRENT; return *event == 1 ? OK : INVALID_HANDLE; }

static result put(stream *own, void *target, const void *source, size_t count)
{
    if (!own || !own->live) return INVALID_HANDLE;
    if (own->capturing) {
        if (own->capturing->count == NODES) return INVALID_VALUE;
        own->capturing->nodes[own->capturing->count++] = (copy){target, source, count};
    } else memcpy(target, source, count);
    return OK;
}
result cuMemcpyHtoDAsync(void *target, const void *source, size_t count, stream *own)
{
    CURRENT;
    return inside(target, count) ? put(own, target, source, count) : INVALID_VALUE;
}
result cuMemcpyDtoHAsync(void *target, const void *source, size_t count, stream *own)
{
    CURRENT;
    return inside(source, count) ? put(own, target, source, count) : INVALID_VALUE;
}
result cuStreamBeginCapture(stream *own, int mode)
{
    CURRENT;
    if (mode != 1 || own->capturing) return INVALID_VALUE;  /* of this thread alone */
    own->capturing = calloc(1, sizeof(graph));
    live++;
    return OK;
}
result cuStreamEndCapture(stream *own, graph **captured)
{
    CURRENT;
    if (!own->capturing) return INVALID_VALUE;
    *captured = own->capturing;
    own->capturing = 0;
    return OK;
}
result cuGraphInstantiateWithFlags(graph **executable, graph *captured, unsigned long long flags)
{
    CURRENT;
    *executable = malloc(sizeof(graph));
    **executable = *captured;
    live++;
    return OK;
}
result cuGraphDestroy(graph *own) { CURRENT; free(own); live--; return OK; }
result cuGraphExecDestroy(graph *own) { CURRENT; free(own); live--; return OK; }
result cuGraphLaunch(graph *own, stream *on)
{
    CURRENT;
    for (int i = 0; i < own->count; i++) put(on, own->nodes[i].target, own->nodes[i].source, own->nodes[i].count);
    return OK;
}
result cuGetErrorString(int code, const char **text) { *text = "an error"; return OK; }
result cuGetErrorName(int code, const char **text) { *text = "CUDA_ERROR"; return OK; }

result cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    *function = dlsym(RTLD_DEFAULT, name);
    if (!*function) {
        void *own = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
        *function = own ? dlsym(own, name) : 0;
    }
    if (status) *status = *function ? 0 : 1;
    return *function ? OK : NOT_FOUND;
}
result cuGetProcAddress(const char *name, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(name, function, version, flags, 0);
}
