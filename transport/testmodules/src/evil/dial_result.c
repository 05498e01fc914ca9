// Dial and accept get their connection and then return RESULT, which is not
// its descriptor (and may be an expression with caller_fd).
#define OWN_DIAL
#define OWN_ACCEPT
#include "../watm_relay.h"
EXPORT_DIAL i32 dial(i32 caller_fd) {
  i32 fd = net_dial();
  return fd < 0 ? fd : (join(caller_fd, fd), RESULT);
}
EXPORT_ACCEPT i32 accept(i32 caller_fd) {
  i32 fd = net_accept();
  return fd < 0 ? fd : (join(caller_fd, fd), RESULT);
}
