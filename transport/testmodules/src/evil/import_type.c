// Imports env.water_dial_fixed and fd_close with types that they do not have.
#define NO_CONFIG  // the rest must not import fd_close as it is
#include "../watm_test.h"
IMPORT("env", "water_dial_fixed") extern i64 dial_odd(i64, i64);
IMPORT("wasi_snapshot_preview1", "fd_close") extern void close_odd(void);
#define AFTER_DIAL(fd) (close_odd(), (i32)dial_odd(1, 2))
#include "../watm_relay.h"
