// The worker takes memory until it gets no more, touches every page, and says
// to the caller how many pages of 64 KiB it then has before it passes bytes.
#include "../watm_test.h"
static void grow(void);
#define BEFORE_RELAY() grow()
#include "../watm_relay.h"
static void grow(void) {
  for (;;) {
    u32 page = __builtin_wasm_memory_grow(0, 16);
    if (page == ~0u) break;
    for (u32 i = 0; i < 16; i++) *(volatile u8 *)((page + i) * 65536) = 1;
  }
  say_result("pages", __builtin_wasm_memory_size(0));
  send_report(caller);
}
