// Calls whose result pointer is bad although everything else is good. A host
// that checks it too late has then already moved bytes; what the report says
// matters less than that the host lives and the passthrough works.
#include "../watm_test.h"
static void misuse(void);
#define BEFORE_RELAY() misuse()
#include "../watm_relay.h"
static void misuse(void) {
  void *bad = (void *)~3u;
  static u8 buf[64];
  struct iov none = {buf, 0};
  say_result("fd_read nread", fd_read(caller, &none, 1, bad));
  say_result("fd_write nwritten", fd_write(2, &none, 1, bad));
  say_result("fd_read no iovecs", fd_read(caller, &none, 0, bad));
  say_result("sock_send nwritten", sock_send(network, &none, 1, 0, bad));
  send_report(caller);
}
