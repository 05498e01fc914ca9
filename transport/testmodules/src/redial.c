// Dial makes 100 connections one after the other. It waits for the end of each and
// closes it. Then it returns another one.
#define OWN_DIAL
#define NO_ACCEPT
#define NO_ASSOCIATE
#include "watm_relay.h"
EXPORT_DIAL i32 dial(i32 caller_fd) {
  for (u32 i = 0; i < 100; i++) {
    i32 fd = net_dial();
    if (fd < 0) return fd;
    char byte;
    struct iov v = {&byte, 1};
    u32 n = 0;
    i32 err = fd_read(fd, &v, 1, &n);
    fd_close(fd);
    if (err || n) return err ? -err : -EPROTO;
  }
  i32 fd = net_dial();
  return fd < 0 ? fd : join(caller_fd, fd);
}
