// Refuses the control descriptor with RESULT.
#define OWN_CTRLPIPE
#include "../watm_relay.h"
EXPORT_CTRLPIPE i32 ctrlpipe(i32 fd) { return RESULT; }
