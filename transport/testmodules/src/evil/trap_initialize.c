// Traps while it is being instantiated.
#include "../watm_relay.h"
EXPORT("_initialize") void initialize(void) { __builtin_trap(); }
