// Writes and reads with 100000 iovecs, all within its memory: a write to the
// caller of 100000 times nothing and one line, a read that fills one byte
// each. Anything from EINVAL to success will do. Reports both results.
#include "../watm_test.h"
static void many(void);
#define BEFORE_RELAY() many()
#include "../watm_relay.h"
static void many(void) {
  enum { N = 100000 };
  static struct iov v[N];
  static u8 buf[N];
  u32 n = 0;
  for (u32 i = 0; i < N; i++) v[i] = (struct iov){buf + i, 0};
  v[N - 1] = (struct iov){"iovecs\n", 7};
  say_result("write", fd_write(caller, v, N, &n));
  for (u32 i = 0; i < N; i++) v[i] = (struct iov){buf + i, 1};
  n = 0;
  say_result("read", fd_read(network, v, N, &n));
  if (n) write_all(caller, buf, n);
  send_report(caller);
}
