// Imports something that no host has: MODULE, NAME.
#include "../watm_test.h"
IMPORT(MODULE, NAME) extern i32 nosuch(i32);
#define BEFORE_RELAY() nosuch(1)
#include "../watm_relay.h"
