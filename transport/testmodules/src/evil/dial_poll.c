// Dial and accept wait for ever, in poll_oneoff, for the caller to write
// before they return; the caller cannot, as it has no connection yet.
#define OWN_DIAL
#define OWN_ACCEPT
#include "../watm_relay.h"
static i32 wait_for_caller(i32 fd) {
  struct subscription sub = {.tag = SUB_READ, .fd = fd};
  struct event ev;
  u32 got = 0;
  while (!poll_oneoff(&sub, &ev, 1, &got)) {
  }
  return -EIO;
}
EXPORT_DIAL i32 dial(i32 fd) {
  net_dial();
  return wait_for_caller(fd);
}
EXPORT_ACCEPT i32 accept(i32 fd) {
  net_accept();
  return wait_for_caller(fd);
}
