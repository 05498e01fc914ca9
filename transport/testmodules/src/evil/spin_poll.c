// The worker does nothing but polls of zero length, without the control
// descriptor.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  for (;;) {
    struct subscription sub[2] = {{.userdata = 1, .tag = SUB_READ, .fd = caller},
                                  {.userdata = 2, .tag = SUB_CLOCK}};
    struct event ev[2];
    u32 got = 0;
    sub[1].clock.id = CLOCK_MONOTONIC;
    poll_oneoff(sub, ev, 2, &got);
  }
}
