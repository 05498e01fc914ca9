// Demands 4 GiB of memory to start with (the linker is told so).
#include "../watm_relay.h"
