/* Preloaded into a broker: syncs that are slow or fail, and a wall clock that is wrong.
 *
 * The file that RIG_CONTROL names is mapped; the rig writes to it while the broker runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic int64_t wall_ns;       /* added to the wall clock */
    _Atomic int64_t sync_delay_us; /* before each sync */
    _Atomic int64_t sync_errors;   /* so many of the next syncs fail, and sync nothing */
};

static struct control none, *control = &none;
static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);

__attribute__((constructor)) static void begin(void) {
    real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    const char *path = getenv("RIG_CONTROL");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map != MAP_FAILED)
        control = map;
    close(file);
}

static void shift(struct timespec *ts) {
    int64_t ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec + atomic_load(&control->wall_ns);
    ts->tv_sec = ns / 1000000000;
    ts->tv_nsec = ns % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
    if (!real_clock)
        real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock(clock, ts);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(ts);
    return result;
}

time_t time(time_t *at) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (at)
        *at = ts.tv_sec;
    return ts.tv_sec;
}

static int sync_with(int (*sync)(int), int file) {
    int64_t delay = atomic_load(&control->sync_delay_us);
    if (delay > 0)
        usleep(delay);
    int64_t left = atomic_load(&control->sync_errors);
    while (left > 0)
        if (atomic_compare_exchange_weak(&control->sync_errors, &left, left - 1)) {
            errno = EIO;
            return -1;
        }
    return sync(file);
}

int fsync(int file) { return sync_with(real_fsync, file); }
int fdatasync(int file) { return sync_with(real_fdatasync, file); }
