/* What happens to an all-reduce that is aborted inside NCCL? A library with NCCL's name whose all-reduce never ends by itself.
 *
 * Rule: the stream is held by a host function, as NCCL's kernel would hold it, until ncclCommAbort; without CUDA's driver the call itself
 * spins. Whether it was entered and aborted is written as lines into the file that SPINNING_NCCL_LOG names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int ncclResult_t;
typedef struct { char internal[128]; } ncclUniqueId;
typedef int (*LaunchHostFunc)(void *, void (*)(void *), void *);

static atomic_int aborted;

static void note(const char *what) {
    const char *path = getenv("SPINNING_NCCL_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s\n", what); fclose(file); }
}

static void spin(void *unused) {
    (void)unused;
    note("spinning");
    while (!atomic_load(&aborted)) usleep(1000);
    note("released");
}

static ncclResult_t hold(void *stream) {
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    LaunchHostFunc launch = driver ? (LaunchHostFunc)dlsym(driver, "cuLaunchHostFunc") : NULL;
    if (launch && stream) return launch(stream, spin, NULL) ? 1 : 0;
    spin(NULL);
    return 0;
}

ncclResult_t ncclGetVersion(int *version) { *version = 22505; return 0; }
ncclResult_t ncclGetUniqueId(ncclUniqueId *id) { memset(id, 7, sizeof *id); return 0; }
ncclResult_t ncclCommInitRank(void **comm, int ranks, ncclUniqueId id, int rank) {
    (void)ranks; (void)id; (void)rank; *comm = &aborted; note("initialised"); return 0;
}
ncclResult_t ncclCommInitAll(void **comms, int count, const int *devices) {
    (void)devices; for (int i = 0; i < count; i++) comms[i] = &aborted; return 0;
}
ncclResult_t ncclCommAbort(void *comm) { (void)comm; note("aborted"); atomic_store(&aborted, 1); return 0; }
ncclResult_t ncclCommDestroy(void *comm) { (void)comm; note("destroyed"); atomic_store(&aborted, 1); return 0; }
ncclResult_t ncclCommGetAsyncError(void *comm, ncclResult_t *error) { (void)comm; *error = 0; return 0; }
ncclResult_t ncclCommCount(void *comm, int *count) { (void)comm; *count = 1; return 0; }
const char *ncclGetErrorString(ncclResult_t result) { return result ? "failure in the spinning library" : "no error"; }
const char *ncclGetLastError(void *comm) { (void)comm; return ""; }
ncclResult_t ncclGroupStart(void) { return 0; }
ncclResult_t ncclGroupEnd(void) { return 0; }
ncclResult_t ncclAllReduce(const void *from, void *to, size_t n, int type, int op, void *comm, void *stream) {
    (void)from; (void)to; (void)n; (void)type; (void)op; (void)comm; return hold(stream);
}
ncclResult_t ncclBroadcast(const void *from, void *to, size_t n, int type, int root, void *comm, void *stream) {
    (void)from; (void)to; (void)n; (void)type; (void)root; (void)comm; return hold(stream);
}
ncclResult_t ncclBcast(void *to, size_t n, int type, int root, void *comm, void *stream) {
    (void)to; (void)n; (void)type; (void)root; (void)comm; return hold(stream);
}
ncclResult_t ncclAllGather(const void *from, void *to, size_t n, int type, void *comm, void *stream) {
    (void)from; (void)to; (void)n; (void)type; (void)comm; return hold(stream);
}
ncclResult_t ncclReduce(const void *from, void *to, size_t n, int type, int op, int root, void *comm, void *stream) {
    (void)from; (void)to; (void)n; (void)type; (void)op; (void)root; (void)comm; return hold(stream);
}
ncclResult_t ncclReduceScatter(const void *from, void *to, size_t n, int type, int op, void *comm, void *stream) {
    (void)from; (void)to; (void)n; (void)type; (void)op; (void)comm; return hold(stream);
}
