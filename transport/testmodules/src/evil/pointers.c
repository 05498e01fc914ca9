// Passes pointers and lengths that lead out of its memory to every function
// that takes some. The report has each errno; none may be 0 and none may end
// the host. Then it works as a passthrough.
#include "../watm_test.h"
static void misuse(void);
#define BEFORE_RELAY() misuse()
#include "../watm_relay.h"
static void misuse(void) {
  // The last bytes of the memory, the address space's end, and just beyond.
  u32 top = __builtin_wasm_memory_size(0) * 65536;
  const u32 bad[] = {top, top - 1, ~0u, ~0u - 7, 0x80000000};
  u32 n = 0;
  u16 flags = 0;
  static u8 buf[64];
  struct iov good = {buf, sizeof buf};
  for (u32 i = 0; i < COUNT(bad); i++) {
    void *p = (void *)bad[i];
    struct iov wild = {p, 4096}, endless = {buf, ~0u};
    struct subscription sub = {.tag = SUB_CLOCK};
    struct event ev;
    say_result("fd_read iovs", fd_read(caller, p, 1, &n));
    say_result("fd_read base", fd_read(caller, &wild, 1, &n));
    say_result("fd_read length", fd_read(caller, &endless, 1, &n));
    say_result("fd_read count", fd_read(caller, &good, ~0u, &n));
    say_result("fd_read count*8", fd_read(caller, &good, 0x20000001, &n));
    say_result("fd_write iovs", fd_write(network, p, 1, &n));
    say_result("fd_write base", fd_write(network, &wild, 1, &n));
    say_result("fd_write length", fd_write(network, &endless, 1, &n));
    say_result("fd_write stderr", fd_write(2, &wild, 1, &n));
    say_result("sock_recv base", sock_recv(caller, &wild, 1, 0, &n, &flags));
    say_result("sock_send base", sock_send(network, &wild, 1, 0, &n));
    say_result("poll in", poll_oneoff(p, &ev, 1, &n));
    say_result("poll out", poll_oneoff(&sub, p, 1, &n));
    say_result("poll nevents", poll_oneoff(&sub, &ev, 1, p));
    say_result("poll count", poll_oneoff(&sub, &ev, ~0u, &n));
    say_result("poll count*48", poll_oneoff(&sub, &ev, 0x05555556, &n));
    say_result("random base", random_get(p, 16));
    say_result("random length", random_get(buf, ~0u));
    say_result("clock", clock_time_get(CLOCK_MONOTONIC, 1, p));
    say_result("fdstat", fd_fdstat_get(caller, p));
#ifdef WATM_V1
    struct iov tcp = {"tcp", 3};
    say_result("water_dial net", water_dial(p, 1, &good, 1));
    say_result("water_dial addr", water_dial(&tcp, 1, &wild, 1));
    say_result("water_dial count", water_dial(&tcp, ~0u, &good, 1));
    say_result("water_dial length", water_dial(&endless, 1, &endless, 1));
#endif
  }
  send_report(caller);
}
