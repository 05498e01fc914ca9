// Threads that do harm once the connection is up, each in the way of its switch. The
// one that started them waits for ever.
#include "watm.h"

__attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit"))) void proc_exit(int32_t status);

static int control = -1;
static uint32_t word;

WATM_EXPORT("watm_posix_io_v1") void posix_io(void) {}
WATM_EXPORT("watm_init_v1") int init(void) { return 0; }
WATM_EXPORT("watm_dial_v1") int dial(int caller) {
  (void)caller;
  return water_dial_fixed();
}
WATM_EXPORT("watm_ctrlpipe_v1") int ctrlpipe(int fd) {
  control = fd;
  return 0;
}

static void run(void *arg) {
#if defined(TRAP)
  __builtin_trap();
#elif defined(EXIT)
  proc_exit(0);
#elif defined(STACK)
  volatile char on_stack[64];
  on_stack[0] = 1;
#elif defined(SPIN)
  for (volatile uint32_t *n = arg;;) *n += 1;
#elif defined(READ)
  char byte;
  struct iovec v = {&byte, 1};
  uint32_t n;
  fd_read(control, &v, 1, &n);
#endif
  for (;;) watm_wait(&word, word, -1);
}

WATM_THREAD(thread, 4096);

WATM_EXPORT("watm_start_v1") int start(void) {
#if defined(STACK)
  thread.stack_top = (char *)-16;
#endif
  watm_thread_start(&thread, run, &word);
#if defined(POINTER)
  watm_thread_spawn((struct watm_thread *)-16);
#endif
#if defined(BOMB)
  while (watm_thread_spawn(&thread) >= 0) {
  }
#endif
  for (;;) watm_wait(&word, word, -1);
}
