// As flood, to the caller only, and it goes on when the writes fail.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  static u8 buf[16384];
  for (;;) conn_write(caller, buf, sizeof buf);
}
