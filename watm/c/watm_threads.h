// Threads for transport modules in C, by way of watm.h, and the host's functions,
// because there is no C library for them. A module with threads is one source file
// that is compiled with
//
//   --target=wasm32-unknown-unknown -ffreestanding -nostdlib
//   -matomics -mbulk-memory -ftls-model=local-exec
//   -Wl,--no-entry,--import-memory,--shared-memory,--max-memory=BYTES
//
// Threads share the memory and the descriptors. docs/writing-a-module.md says more,
// and modules/threads is a whole module.
#ifndef WATM_THREADS_H
#define WATM_THREADS_H

#include <stddef.h>
#include <stdint.h>

// Functions of WASI; docs/abi.md says which others there are. They return 0 or an
// error number.
enum { EAGAIN = 6, EIO = 29, ENOMEM = 48 };

struct iovec {
  void *iov_base;
  size_t iov_len;
};

struct watm_subscription {
  uint64_t userdata;
  uint8_t kind;  // one of those below
  _Alignas(8) uint32_t fd;  // of a clock: its number
  uint64_t timeout, precision;
  uint16_t flags;
};
_Static_assert(sizeof(struct watm_subscription) == 48, "the layout of WASI");
enum { WATM_POLL_CLOCK, WATM_POLL_READ, WATM_POLL_WRITE };

struct watm_event {
  uint64_t userdata;
  uint16_t error;
  uint8_t kind;
  uint64_t bytes;
  uint16_t flags;
};
_Static_assert(sizeof(struct watm_event) == 32, "the layout of WASI");

enum { WATM_NONBLOCK = 4, WATM_SHUT_RD = 1, WATM_SHUT_WR = 2 };

#define WATM_WASI(name) __attribute__((import_module("wasi_snapshot_preview1"), import_name(#name))) int32_t name
WATM_WASI(fd_read)(int32_t fd, const struct iovec *to, uint32_t n, uint32_t *size);
WATM_WASI(fd_write)(int32_t fd, const struct iovec *from, uint32_t n, uint32_t *size);
WATM_WASI(fd_close)(int32_t fd);
WATM_WASI(fd_fdstat_set_flags)(int32_t fd, uint32_t flags);
WATM_WASI(sock_shutdown)(int32_t fd, uint32_t how);
WATM_WASI(path_open)(int32_t dir, uint32_t lookup, const char *path, uint32_t length, uint32_t how,
                     uint64_t rights, uint64_t inherited, uint32_t flags, int32_t *fd);
WATM_WASI(poll_oneoff)(const struct watm_subscription *in, struct watm_event *out, uint32_t n, uint32_t *events);
WATM_WASI(random_get)(void *to, uint32_t n);

// struct watm_thread is what a thread needs to exist. WATM_THREAD defines one.
struct watm_thread {
  char *stack_top;        // the assembly below reads it
  char *tls;              // the thread's own copy of what is _Thread_local
  void (*run)(void *);
  void *arg;
  uint32_t running;
};

enum { WATM_TLS = 1024 };  // room for a thread's _Thread_local variables

// WATM_THREAD defines a thread with a stack of so many bytes, a multiple of 16.
#define WATM_THREAD(name, stack)                                           \
  static struct {                                                          \
    _Alignas(16) char tls[WATM_TLS], below[stack];                         \
  } name##_memory;                                                         \
  static struct watm_thread name = {                                       \
      .stack_top = name##_memory.below + (stack), .tls = name##_memory.tls}

__attribute__((import_module("wasi"), import_name("thread-spawn")))
int32_t watm_thread_spawn(struct watm_thread *t);

// Here a thread begins. Until it has a stack of its own (the linker gives every
// instance that of the first thread) it must not use any.
void watm_thread_main(struct watm_thread *t);
__attribute__((naked, export_name("wasi_thread_start"), used))
void watm_thread_begin(int32_t id, struct watm_thread *t) {
  __asm__ volatile(
      ".globaltype __stack_pointer, i32\n"
      "local.get 1\n"
      "i32.load 0\n"
      "global.set __stack_pointer\n"
      "local.get 1\n"
      "call watm_thread_main\n"
      "return\n");
}

void __wasm_init_tls(void *);  // the linker's

// watm_begin gives the first thread its _Thread_local variables, which not every
// linker does. A module that has some calls it first of all in watm_init_v1.
static inline void watm_begin(void) {
  static _Alignas(16) char tls[WATM_TLS];
  if (__builtin_wasm_tls_size() > WATM_TLS) __builtin_trap();
  if (__builtin_wasm_tls_size() > 0) __wasm_init_tls(tls);
}

// watm_notify wakes up to count threads that wait at the address.
static inline uint32_t watm_notify(uint32_t *at, uint32_t count) {
  return __builtin_wasm_memory_atomic_notify((int32_t *)at, count);
}

// watm_wait waits until it is notified, unless the value is not what is expected.
// A negative time-out, in nanoseconds, is none. It returns 0, 1 if the value was
// another one, or 2 if the time was up.
static inline int32_t watm_wait(uint32_t *at, uint32_t expected, int64_t timeout) {
  return __builtin_wasm_memory_atomic_wait32((int32_t *)at, (int32_t)expected, timeout);
}

__attribute__((used)) void watm_thread_main(struct watm_thread *t) {
  if (__builtin_wasm_tls_size() > 0) __wasm_init_tls(t->tls);
  t->run(t->arg);
  __atomic_store_n(&t->running, 0, __ATOMIC_SEQ_CST);
  watm_notify(&t->running, 1);
}

// watm_thread_start runs a function in a thread. It returns 0 or an error number. A
// thread that has ended, and been joined, can be started again.
static inline int32_t watm_thread_start(struct watm_thread *t, void (*run)(void *), void *arg) {
  if (__builtin_wasm_tls_size() > WATM_TLS) return ENOMEM;
  t->run = run;
  t->arg = arg;
  __atomic_store_n(&t->running, 1, __ATOMIC_SEQ_CST);
  int32_t id = watm_thread_spawn(t);
  if (id >= 0) return 0;
  __atomic_store_n(&t->running, 0, __ATOMIC_SEQ_CST);
  return -id;
}

// watm_thread_join waits until a thread has ended.
static inline void watm_thread_join(struct watm_thread *t) {
  while (__atomic_load_n(&t->running, __ATOMIC_SEQ_CST)) watm_wait(&t->running, 1, -1);
}

// WATM_BACKGROUND_WORKERS is for modules whose threads the host starts instead: so
// many of them, each on a stack of so many bytes (a multiple of 16, and a number as
// it stands), run work(index). It returns 0, or the negative of an error number.
#define WATM_BACKGROUND_WORKERS(count, stack, work)                                    \
  _Alignas(16) static char watm_worker_tls[count][WATM_TLS];                           \
  _Alignas(16) char watm_worker_stacks[(count) * (stack)];                             \
  __attribute__((export_name("watm_background_workers_v1"), used))                     \
  int32_t watm_background_workers(void) { return count; }                              \
  __attribute__((used)) int32_t watm_worker_main(int32_t index) {                      \
    if (__builtin_wasm_tls_size() > WATM_TLS) return -ENOMEM;                          \
    if (__builtin_wasm_tls_size() > 0) __wasm_init_tls(watm_worker_tls[index]);        \
    return work(index);                                                                \
  }                                                                                    \
  __attribute__((naked, export_name("watm_background_worker_v1"), used))               \
  int32_t watm_background_worker(int32_t index) {                                      \
    __asm__ volatile(                                                                  \
        ".globaltype __stack_pointer, i32\n"                                           \
        "local.get 0\n"                                                                \
        "i32.const 1\n"                                                                \
        "i32.add\n"                                                                    \
        "i32.const " #stack "\n"                                                       \
        "i32.mul\n"                                                                    \
        "i32.const watm_worker_stacks\n"                                               \
        "i32.add\n"                                                                    \
        "global.set __stack_pointer\n"                                                 \
        "local.get 0\n"                                                                \
        "call watm_worker_main\n"                                                      \
        "return\n");                                                                   \
  }

// struct watm_mutex is free when it is zero.
struct watm_mutex { uint32_t state; };  // 1: taken, 2: taken, and somebody waits

static inline void watm_lock(struct watm_mutex *m) {
  uint32_t free = 0;
  if (__atomic_compare_exchange_n(&m->state, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
  while (__atomic_exchange_n(&m->state, 2, __ATOMIC_ACQUIRE) != 0) watm_wait(&m->state, 2, -1);
}

static inline void watm_unlock(struct watm_mutex *m) {
  if (__atomic_exchange_n(&m->state, 0, __ATOMIC_RELEASE) == 2) watm_notify(&m->state, 1);
}

#endif
