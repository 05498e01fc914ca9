// In the dial role, asks for inbound connections a thousand times. There is no
// listener, so each call has to fail, at once; the report says how.
#define OWN_DIAL
#include "../watm_relay.h"
EXPORT_DIAL i32 dial(i32 caller_fd) {
  i32 r = 0, got = 0;
  for (u32 i = 0; i < 1000; i++)
    if ((r = net_accept()) >= 0) got++;
  say_result("accepted", got);
  say_result("last", r);
  i32 fd = net_dial();
  if (fd < 0) return fd;
  send_report(caller_fd);
  return join(caller_fd, fd);
}
