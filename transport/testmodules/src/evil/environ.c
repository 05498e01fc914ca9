// Reports its arguments and its environment.
#include "../watm_test.h"
static void look(void);
#define BEFORE_RELAY() look()
#include "../watm_relay.h"
static void list(const char *what, u32 count, u32 size, char **item) {
  say("number of ");
  say_result(what, count);
  for (u32 i = 0; i < count; i++) {
    say(what);
    say(" ");
    say(item[i]);
    say("\n");
  }
}
static void look(void) {
  static char *item[256];
  static char text[16384];
  u32 count = 0, size = 0;
  if (!args_sizes_get(&count, &size) && count <= 256 && size <= sizeof text &&
      !args_get(item, text))
    list("args", count, size, item);
  count = size = 0;
  if (!environ_sizes_get(&count, &size) && count <= 256 && size <= sizeof text &&
      !environ_get(item, text))
    list("environ", count, size, item);
  send_report(caller);
}
