/* Count the process time that threads spend with the GIL released, in a preloaded library (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <time.h>

static __thread long long began;
static __thread int depth;
static _Atomic long long total;

static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

long long released_ns(void) { return total; }

void *PyEval_SaveThread(void) {
    static void *(*save)(void);
    if (!save) save = (void *(*)(void))dlsym(RTLD_NEXT, "PyEval_SaveThread");
    void *state = save();
    if (depth++ == 0) began = now();
    return state;
}

void PyEval_RestoreThread(void *state) {
    static void (*restore)(void *);
    if (!restore) restore = (void (*)(void *))dlsym(RTLD_NEXT, "PyEval_RestoreThread");
    if (--depth == 0) total += now() - began;
    restore(state);
}
