// Lacks one of the functions that are not optional: -DOWN_INIT,
// -DOWN_CTRLPIPE or -DOWN_START, and there is no replacement.
#include "../watm_relay.h"
