// Closes every descriptor from 0 to 1000 but the two connections and the
// control descriptor, some of them twice, then works as a passthrough. The
// report says how many it could close.
#include "../watm_test.h"
static void close_all(void);
#define BEFORE_RELAY() close_all()
#include "../watm_relay.h"
static void close_all(void) {
  i32 closed = 0;
  for (i32 fd = 0; fd <= 1000; fd++) {
    if (fd == control || fd == caller || fd == network) continue;
    if (fd_close(fd) == 0) closed++;
    fd_close(fd);
  }
  fd_close(-1);
  say_result("closed", closed);
  send_report(caller);
}
