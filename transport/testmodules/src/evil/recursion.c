// The worker calls itself until something gives: the engine's stack, as the
// calls need next to none of the module's own.
#define OWN_START
#include "../watm_relay.h"
static volatile u32 depth, limit = ~0u;
__attribute__((noinline)) static u32 deeper(u32 n) {
  depth = n;
  if (n == limit) return 0;
  return deeper(n + 1) + depth;
}
EXPORT_START i32 start(void) { return deeper(0); }
