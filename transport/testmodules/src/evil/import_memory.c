// Wants its memory from the host (the linker is told so), which nobody gives.
#include "../watm_relay.h"
