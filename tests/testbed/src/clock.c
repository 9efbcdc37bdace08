/* The time of day, by a clock that is as many seconds ahead as CLOCK_AHEAD says. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int failed = (int)syscall(SYS_clock_gettime, clock, now);
	const char *ahead = getenv("CLOCK_AHEAD");
	if (!failed && clock == CLOCK_REALTIME && ahead)
		now->tv_sec += atoll(ahead);
	return failed;
}
