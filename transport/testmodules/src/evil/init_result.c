// The init function returns RESULT.
#define OWN_INIT
#include "../watm_relay.h"
EXPORT_INIT i32 init(void) { return RESULT; }
