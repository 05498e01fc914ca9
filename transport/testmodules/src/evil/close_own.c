// Closes its control descriptor and both connections, then goes on using
// them: every call is to fail with EBADF (8), which is the worker's result.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  fd_close(control);
  fd_close(caller);
  fd_close(network);
  set_nonblock(caller);
  conn_write(network, (u8 *)"x", 1);
  return relay();
}
