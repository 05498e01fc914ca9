// Passthrough, in the many shapes that the switches of watm_relay.h give it.
#include "watm_relay.h"
