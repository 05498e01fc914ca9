// The worker spins for ever without a host call.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  for (volatile u32 n = 0;; n++) {
  }
}
