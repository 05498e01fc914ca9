// A working v1 passthrough that also has the v0 marker and the v0 functions,
// which all fail: v1 is the one to choose.
#include "../watm_relay.h"
EXPORT("_water_v0") void v0_marker(void) {}
EXPORT("_water_init") i32 v0_init(void) { return -EPERM; }
EXPORT("_water_dial") i32 v0_dial(i32 fd) { return -EPERM; }
EXPORT("_water_accept") i32 v0_accept(i32 fd) { return -EPERM; }
EXPORT("_water_associate") i32 v0_associate(void) { return -EPERM; }
EXPORT("_water_cancel_with") i32 v0_cancel_with(i32 fd) { return -EPERM; }
EXPORT("_water_worker") i32 v0_worker(void) { return -EPERM; }
