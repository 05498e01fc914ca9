// The worker writes to both sides for ever and never reads. The host has to
// bound what it buffers, and has to be able to end it while it is held up in a
// write. It ends itself if a write fails.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  static u8 buf[16384];
  for (;;) {
    i32 err = conn_write(caller, buf, sizeof buf);
    if (!err) err = conn_write(network, buf, sizeof buf);
    if (err) return err;
  }
}
