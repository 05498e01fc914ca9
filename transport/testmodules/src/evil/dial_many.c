// Dial opens 1000 connections to the host's address and returns the last one
// that it got; accept does the same with the listener. It closes none.
#define OWN_DIAL
#define OWN_ACCEPT
#include "../watm_relay.h"
#define GET_MANY(get)                        \
  i32 last = -ENOTCONN;                      \
  for (u32 i = 0; i < 1000; i++) {           \
    i32 fd = get();                          \
    if (fd < 0) break;                       \
    last = fd;                               \
  }                                          \
  return last < 0 ? last : join(caller_fd, last)
EXPORT_DIAL i32 dial(i32 caller_fd) { GET_MANY(net_dial); }
EXPORT_ACCEPT i32 accept(i32 caller_fd) { GET_MANY(net_accept); }
