// The worker sleeps, in a poll with nothing but a clock, for 290 years at a
// time.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  for (;;) {
    struct subscription sub = {.tag = SUB_CLOCK};
    struct event ev;
    u32 got = 0;
    sub.clock.id = CLOCK_MONOTONIC;
    sub.clock.timeout = ~0ull >> 1;
    poll_oneoff(&sub, &ev, 1, &got);
  }
}
