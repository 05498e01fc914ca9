// Reverses the bytes of every chunk that it reads. Where a chunk ends is up to
// the host, so two of these cancel out only for messages that travel whole;
// for streams use xor.
#include "watm_test.h"

static inline void reverse(u8 *buf, u32 n) {
  for (u32 i = 0; i < n / 2; i++) {
    u8 b = buf[i];
    buf[i] = buf[n - 1 - i];
    buf[n - 1 - i] = b;
  }
}

#define TRANSFORM(net_to_caller, buf, n) reverse(buf, n)
#include "watm_relay.h"
