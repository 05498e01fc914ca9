// The worker writes to descriptor FD for ever: TEXT, again and again.
#define OWN_START
#include "../watm_relay.h"
EXPORT_START i32 start(void) {
  static const char text[] = TEXT;
  for (;;) write_all(FD, text, sizeof text - 1);
}
