// Not evil: reports what it sees of its surroundings, so that a test can tell
// real clocks and random numbers from fake ones, and what the host says of the
// connections. Standard output gets a line of its own.
#include "../watm_test.h"
static void probe(void);
#define BEFORE_RELAY() probe()
#include "../watm_relay.h"
static void stat(const char *what, i32 fd) {
  struct fdstat st = {0};
  i32 err = fd_fdstat_get(fd, &st);
  say(what);
  say(" descriptor ");
  say_num(fd);
  say(" errno ");
  say_num(err);
  say(" type ");
  say_num(st.filetype);
  say(" flags ");
  say_num(st.flags);
  say("\n");
}
static void sleep(u64 ns) {
  struct subscription sub = {.tag = SUB_CLOCK};
  struct event ev;
  u32 got = 0;
  sub.clock.id = CLOCK_MONOTONIC;
  sub.clock.timeout = ns;
  poll_oneoff(&sub, &ev, 1, &got);
}
static void probe(void) {
  u64 wall = 0, before = 0, after = 0;
  u8 random[16];
  write_all(1, "probe: a line on standard output\n", 33);
  say_result("realtime errno", clock_time_get(CLOCK_REALTIME, 1, &wall));
  say_result("realtime", wall);
  clock_time_get(CLOCK_MONOTONIC, 1, &before);
  say_result("yield", sched_yield());
  sleep(10 * 1000000);
  clock_time_get(CLOCK_MONOTONIC, 1, &after);
  say_result("monotonic", after);
  say_result("slept", after - before);  // 10 ms or a little more
  for (u32 i = 0; i < 2; i++) {
    random_get(random, sizeof random);
    say("random: ");
    say_hex(random, sizeof random);
    say("\n");
  }
  stat("stdin", 0);
  stat("stdout", 1);
  stat("stderr", 2);
  stat("control", control);
  stat("caller", caller);
  stat("network", network);
  stat("none", 999);
  send_report(caller);
}
