// Polls with no subscriptions, with 100000 of them, with descriptors that do
// not exist, with the same one twice, of an unknown type, and with an unknown
// clock. Reports each errno, the number of events, and the first event's
// error.
#include "../watm_test.h"
static void odd(void);
#define BEFORE_RELAY() odd()
#include "../watm_relay.h"
enum { N = 100000 };
static struct subscription sub[N];
static struct event ev[N];
static void attempt(const char *what, u32 count) {
  u32 got = 0;
  ev[0].error = 0;
  i32 err = poll_oneoff(sub, ev, count, &got);
  say(what);
  say(" errno ");
  say_num(err);
  say(" events ");
  say_num(got);
  say(" error ");
  say_num(got ? ev[0].error : 0);
  say("\n");
}
static void clock_at(u32 i, u32 id) {
  sub[i] = (struct subscription){.tag = SUB_CLOCK};
  sub[i].clock.id = id;
  sub[i].clock.timeout = 1000000;
}
static void odd(void) {
  attempt("none", 0);
  sub[0] = (struct subscription){.tag = SUB_READ, .fd = 12345};
  clock_at(1, CLOCK_MONOTONIC);
  attempt("no such descriptor", 2);
  sub[0] = sub[2] = (struct subscription){.tag = SUB_WRITE, .fd = caller};
  clock_at(1, CLOCK_MONOTONIC);
  attempt("twice, for writing", 3);
  clock_at(0, CLOCK_REALTIME);
  attempt("clock 0", 1);
  clock_at(0, 77);
  attempt("clock 77", 1);
  sub[0] = (struct subscription){.tag = 9, .fd = caller};
  clock_at(1, CLOCK_MONOTONIC);
  attempt("type 9", 2);
  sub[0] = (struct subscription){.tag = SUB_READ, .fd = 1};
  clock_at(1, CLOCK_MONOTONIC);
  attempt("reading from standard output", 2);
  for (u32 i = 0; i < N; i++) clock_at(i, CLOCK_MONOTONIC);
  attempt("100000 clocks", N);
  for (u32 i = 0; i < N; i++)
    sub[i] = (struct subscription){.tag = SUB_READ, .fd = i & 1 ? caller : network};
  clock_at(N - 1, CLOCK_MONOTONIC);
  attempt("100000 reads", N);
  send_report(caller);
}
