// SPDX-License-Identifier: Apache-2.0
// A clock of its own for the processes that this is loaded into, so that a test can set it: what the kernel says of the time
// is moved by an offset, which is in a file, and setting the clock changes that offset. Frequencies are taken and forgotten.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

// Nanoseconds that are added to the kernel's time.
static volatile long long *offset(void) {
    static volatile long long *there;
    if (!there) {
        int file = open(getenv("CLOCK_OFFSET"), O_RDWR);
        there = mmap(NULL, sizeof *there, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
    }
    return there;
}

static void move(struct timespec *time) {
    long long all = time->tv_sec * SECOND + time->tv_nsec + *offset();
    time->tv_sec = all / SECOND;
    time->tv_nsec = all % SECOND;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) move(time);
    return result;
}

int clock_settime(clockid_t clock, const struct timespec *time) {
    struct timespec now;
    if (clock != CLOCK_REALTIME) return errno = EINVAL, -1;
    clock_gettime(clock, &now);
    *offset() += (time->tv_sec - now.tv_sec) * SECOND + time->tv_nsec - now.tv_nsec;
    return 0;
}

// Its state, as far as anybody asks.
static struct timex kept;

int clock_adjtime(clockid_t clock, struct timex *asked) {
    struct timespec now;
    if (clock != CLOCK_REALTIME) return errno = EINVAL, -1;
    if (asked->modes & ADJ_SETOFFSET)
        *offset() += asked->time.tv_sec * SECOND + asked->time.tv_usec * (asked->modes & ADJ_NANO ? 1 : 1000);
    if (asked->modes & ADJ_FREQUENCY) kept.freq = asked->freq;
    if (asked->modes & ADJ_STATUS) kept.status = asked->status;
    asked->freq = kept.freq;
    asked->status = kept.status | STA_NANO;
    asked->precision = 1;
    asked->tolerance = 32768000;
    asked->tick = 10000;
    clock_gettime(clock, &now);
    asked->time.tv_sec = now.tv_sec;
    asked->time.tv_usec = now.tv_nsec;
    return TIME_OK;
}

int adjtimex(struct timex *asked) { return clock_adjtime(CLOCK_REALTIME, asked); }
int ntp_adjtime(struct timex *asked) { return clock_adjtime(CLOCK_REALTIME, asked); }

// The times at which packets came and went are the kernel's.
ssize_t recvmsg(int socket, struct msghdr *message, int flags) {
    static ssize_t (*next)(int, struct msghdr *, int);
    if (!next) next = dlsym(RTLD_NEXT, "recvmsg");
    ssize_t result = next(socket, message, flags);
    if (result < 0) return result;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_TIMESTAMPING) {
            struct scm_timestamping times;
            memcpy(&times, CMSG_DATA(part), sizeof times);
            if (times.ts[0].tv_sec) move(&times.ts[0]);
            memcpy(CMSG_DATA(part), &times, sizeof times);
        }
    }
    return result;
}
