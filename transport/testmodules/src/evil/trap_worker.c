// A passthrough that traps once it has carried 4096 bytes.
#include "../watm_test.h"
static u32 carried;
#define TRANSFORM(net_to_caller, buf, n) \
  if ((carried += n) >= 4096) __builtin_trap()
#include "../watm_relay.h"
