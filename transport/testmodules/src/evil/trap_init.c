// Traps in the init function.
#define OWN_INIT
#include "../watm_relay.h"
EXPORT_INIT i32 init(void) { __builtin_trap(); }
