// A passthrough that calls proc_exit(CODE) once it has carried 16 bytes.
#include "../watm_test.h"
static u32 carried;
#define TRANSFORM(net_to_caller, buf, n) \
  if ((carried += n) >= 16) proc_exit(CODE)
#include "../watm_relay.h"
