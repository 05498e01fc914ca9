// Starts threads up to the limit, and reports to the caller as probe.c does: how often
// a thread was refused that would have followed one which had been joined, and how
// many there can be at once that compute and never call the host.
#include "watm.h"

enum { ROUNDS = 300, MOST = 64, STACK = 1024 };

static int caller = -1, control = -1;
static uint32_t go_on, computing;

WATM_EXPORT("watm_init_v1") int init(void) { return 0; }
WATM_EXPORT("watm_dial_v1") int dial(int fd) {
  caller = fd;
  return water_dial_fixed();
}
WATM_EXPORT("watm_ctrlpipe_v1") int ctrlpipe(int fd) {
  control = fd;
  return 0;
}

static struct watm_thread threads[MOST];
static _Alignas(16) char stacks[MOST][STACK];

static int begin(unsigned i, void (*run)(void *)) {
  threads[i].stack_top = stacks[i] + STACK;
  threads[i].tls = stacks[i];
  return watm_thread_start(&threads[i], run, 0);
}

static void nothing(void *arg) { (void)arg; }

static void compute(void *arg) {
  (void)arg;
  __atomic_fetch_add(&computing, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&go_on, __ATOMIC_SEQ_CST)) {
  }
}

static unsigned at_once(void) {
  unsigned n = 0;
  go_on = 1;
  while (n < MOST && begin(n, compute) == 0) n++;
  return n;
}

static void join_all(unsigned n) {
  __atomic_store_n(&go_on, 0, __ATOMIC_SEQ_CST);
  for (unsigned i = 0; i < n; i++) watm_thread_join(&threads[i]);
}

WATM_EXPORT("watm_start_v1") int start(void) {
  // All but one compute, so that each round is at the limit.
  unsigned limit = at_once();
  join_all(limit);
  go_on = 1;
  for (unsigned i = 1; i < limit; i++) begin(i, compute);
  uint32_t refused = 0;
  for (int i = 0; i < ROUNDS; i++) {
    if (begin(0, nothing))
      refused++;
    else
      watm_thread_join(&threads[0]);
  }
  join_all(limit);
  unsigned again = at_once();
  join_all(again);
  uint32_t report[] = {limit, refused, again};
  struct iovec v = {report, sizeof report};
  uint32_t n;
  return -fd_write(caller, &v, 1, &n);
}
