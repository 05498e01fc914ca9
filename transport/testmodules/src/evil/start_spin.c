// Never gets out of _start.
#include "../watm_relay.h"
EXPORT("_start") void start_main(void) {
  for (volatile u32 n = 0;; n++) {
  }
}
