// Tries what threads can do, and reports it to the caller: one line "what: number"
// for each attempt, and at the end the line "end".
#include "watm.h"

enum { THREADS = 4, ROUNDS = 20000 };

static int caller = -1, control = -1;
static char text[4096];
static unsigned length;

static void say(const char *what, int64_t number) {
  char digits[24];
  unsigned n = 0;
  while (*what) text[length++] = *what++;
  text[length++] = ':';
  text[length++] = ' ';
  if (number < 0) text[length++] = '-', number = -number;
  do digits[n++] = '0' + number % 10;
  while (number /= 10);
  while (n) text[length++] = digits[--n];
  text[length++] = '\n';
}

WATM_EXPORT("watm_init_v1") int init(void) {
  watm_begin();
  return 0;
}
WATM_EXPORT("watm_dial_v1") int dial(int fd) {
  caller = fd;
  return water_dial_fixed();
}
WATM_EXPORT("watm_ctrlpipe_v1") int ctrlpipe(int fd) {
  control = fd;
  return 0;
}

WATM_WASI(clock_time_get)(uint32_t id, uint64_t precision, uint64_t *now);
static uint64_t now(void) {
  uint64_t t = 0;
  clock_time_get(1, 0, &t);
  return t;
}

WATM_THREAD(first, 8192);
WATM_THREAD(second, 8192);
WATM_THREAD(third, 8192);
WATM_THREAD(fourth, 8192);
static struct watm_thread *const threads[THREADS] = {&first, &second, &third, &fourth};

static uint32_t word, woken, atomic_sum;
static int sum;
static struct watm_mutex mutex;
static _Thread_local int own = 5;

static void count(void *arg) {
  (void)arg;
  for (int i = 0; i < ROUNDS; i++) {
    watm_lock(&mutex);
    sum++;
    watm_unlock(&mutex);
    __atomic_fetch_add(&atomic_sum, 1, __ATOMIC_SEQ_CST);
    own++;
  }
  if (own != 5 + ROUNDS) sum = -1;
}

static void wait(void *arg) {
  int32_t r = watm_wait(arg, 0, -1);
  if (r == 0) __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
}

static void wait64(void *arg) {
  *(int32_t *)arg = __builtin_wasm_memory_atomic_wait64((int64_t *)arg + 1, 0, -1);
}

static void grow(void *arg) { *(int32_t *)arg = __builtin_wasm_memory_grow(0, 1); }

static int blocked_read = -1;
static void read_control(void *arg) {
  char byte;
  struct iovec v = {&byte, 1};
  uint32_t n = 9;
  blocked_read = fd_read(control, &v, 1, &n) * 10 + n;
  (void)arg;
}

static void all(void (*run)(void *), void *arg) {
  for (int i = 0; i < THREADS; i++) say("start", watm_thread_start(threads[i], run, arg));
}

static void join_all(void) {
  for (int i = 0; i < THREADS; i++) watm_thread_join(threads[i]);
}

// notify_all wakes so many threads, as they come to wait.
static void notify_all(uint32_t *at, uint32_t threads_to_wake) {
  while (threads_to_wake > 0) threads_to_wake -= watm_notify(at, 1);
}

WATM_EXPORT("watm_start_v1") int start(void) {
  all(count, 0);
  join_all();
  say("mutex", sum);
  say("atomic", atomic_sum);
  say("own", own);

  all(wait, &word);
  notify_all(&word, THREADS);
  join_all();
  say("woken", woken);
  say("nobody", watm_notify(&word, 7));

  say("not equal", watm_wait(&word, 1, -1));
  uint64_t began = now();
  say("timed out", watm_wait(&word, 0, 20 * 1000 * 1000));
  say("time passed", now() - began >= 20 * 1000 * 1000);

  static int64_t words[2];
  watm_thread_start(&first, wait64, words);
  notify_all((uint32_t *)&words[1], 1);
  watm_thread_join(&first);
  say("wait64", *(int32_t *)words);
  say("wait64 not equal", __builtin_wasm_memory_atomic_wait64(&words[1], 1ll << 32, -1));

  static int32_t before;
  watm_thread_start(&first, grow, &before);
  watm_thread_join(&first);
  char *grown = (char *)((uint32_t)before << 16);
  say("grown", *grown);
  struct iovec v = {grown, 1};
  uint32_t n = 0;
  say("read into it", fd_read(0, &v, 1, &n));
  do {
    watm_thread_start(&first, grow, &before);
    watm_thread_join(&first);
  } while (before > 0);
  say("beyond the limit", before);

  watm_thread_start(&first, read_control, 0);
  uint32_t never = 0;
  watm_wait(&never, 0, 20 * 1000 * 1000);  // until it blocks
  say("close", fd_close(control));
  watm_thread_join(&first);
  say("blocked read", blocked_read);

  unsigned started = 0;
  word = 0;
  woken = 0;
  static struct watm_thread many[64];
  static _Alignas(16) char stacks[64][1024];
  for (; started < 64; started++) {
    many[started].stack_top = stacks[started + 1];
    many[started].tls = stacks[started];
    if (watm_thread_start(&many[started], wait, &word)) break;
  }
  say("at once", started);
  notify_all(&word, started);
  for (unsigned i = 0; i < started; i++) watm_thread_join(&many[i]);
  say("woken", woken);

  text[length++] = 'e', text[length++] = 'n', text[length++] = 'd', text[length++] = '\n';
  struct iovec report = {text, length};
  return -fd_write(caller, &report, 1, &n);
}
