// The transport "threads": ChaCha20 in both directions, each in a thread of its own.
// It is here to show how a module divides heavy work. It hides nothing, since each
// side sends the key of what it sends in front of it.
//
// With the line "workers 1" in its configuration one thread does both directions.
#include "chacha20.h"
#include "watm.h"

// direction is the bytes from one descriptor to the other.
struct direction {
  int from, to;
  struct chacha20 cipher;
  unsigned char key[CHACHA20_KEY];
  unsigned keyed;  // bytes of the key that have been sent or received
  unsigned start, end;  // bytes read and not yet written: buffer[start..end)
  int eof, done;
  unsigned char buffer[1 << 16];
};

// worker is a thread and its share of the directions.
struct worker {
  struct direction *directions[2];
  int count;
};

static struct direction up, down;  // to the network, and from it
static struct worker workers[2];
static int worker_count = 2;
static int control = -1;
static uint32_t working;  // workers that have not ended
static uint32_t failure;  // the error of the first that failed

WATM_THREAD(first, 16384);
WATM_THREAD(second, 16384);

WATM_EXPORT("watm_posix_io_v1") void posix_io(void) {}

static void configure(void) {
  static const char path[] = "conf/watm.cfg", one[] = "workers 1";
  enum { DIRECTORY = 3, RIGHT_READ = 1 << 1 };
  char text[sizeof one - 1] = {0};
  struct iovec v = {text, sizeof text};
  uint32_t n = 0;
  int fd;
  if (path_open(DIRECTORY, 0, path, sizeof path - 1, 0, RIGHT_READ, 0, 0, &fd)) return;  // there is none
  fd_read(fd, &v, 1, &n);  // after an error there is nothing in it
  unsigned same = 0;
  while (same < n && text[same] == one[same]) same++;
  if (same == sizeof text) worker_count = 1;
  fd_close(fd);
}

WATM_EXPORT("watm_init_v1") int init(void) {
  configure();
  return -random_get(up.key, sizeof up.key);
}

static int join(int caller, int network) {
  if (network < 0) return network;
  up.from = down.to = caller;
  up.to = down.from = network;
  int err = fd_fdstat_set_flags(caller, WATM_NONBLOCK);
  if (!err) err = fd_fdstat_set_flags(network, WATM_NONBLOCK);
  return err ? -err : network;
}

WATM_EXPORT("watm_dial_v1") int dial(int caller) { return join(caller, water_dial_fixed()); }

WATM_EXPORT("watm_accept_v1") int accept_one(int caller) { return join(caller, water_accept()); }

WATM_EXPORT("watm_ctrlpipe_v1") int ctrlpipe(int fd) {
  control = fd;
  return 0;
}

static int read_some(int fd, void *to, unsigned size, unsigned *n) {
  struct iovec v = {to, size};
  return fd_read(fd, &v, 1, n);
}

static int write_some(int fd, const void *from, unsigned size, unsigned *n) {
  struct iovec v = {(void *)from, size};
  return fd_write(fd, &v, 1, n);
}

// exchange_key sends or receives the key that goes before the bytes.
static int exchange_key(struct direction *d) {
  while (d->keyed < sizeof d->key) {
    unsigned n = 0, rest = sizeof d->key - d->keyed;
    int err = d == &up ? write_some(d->to, d->key + d->keyed, rest, &n) : read_some(d->from, d->key + d->keyed, rest, &n);
    if (err) return err;
    if (n == 0) {  // the peer has nothing to send, not even a key
      d->eof = 1;
      return 0;
    }
    d->keyed += n;
  }
  chacha20_begin(&d->cipher, d->key);
  return 0;
}

// step does what can be done now. It returns EAGAIN when it has to wait.
static int step(struct direction *d) {
  int err = 0;
  if (d->keyed < sizeof d->key && !d->eof) err = exchange_key(d);
  while (!err) {
    while (!err && d->start < d->end) {
      unsigned n = 0;
      err = write_some(d->to, d->buffer + d->start, d->end - d->start, &n);
      d->start += n;
    }
    if (err) break;
    if (d->eof) {
      d->done = 1;
      return sock_shutdown(d->to, WATM_SHUT_WR);
    }
    unsigned n = 0;
    err = read_some(d->from, d->buffer, sizeof d->buffer, &n);
    if (err) break;
    d->eof = n == 0;
    d->start = 0;
    d->end = n;
    chacha20_xor(&d->cipher, d->buffer, n);
  }
  return err;
}

// wanted is what a direction waits for after step.
static struct watm_subscription wanted(const struct direction *d) {
  int sending_key = d == &up && d->keyed < sizeof d->key;
  int out = sending_key || d->start < d->end;
  return (struct watm_subscription){.kind = out ? WATM_POLL_WRITE : WATM_POLL_READ, .fd = out ? d->to : d->from};
}

static int carry(struct worker *w) {
  for (;;) {
    struct watm_subscription waits[2];
    struct watm_event events[2];
    uint32_t n = 0;
    for (int i = 0; i < w->count; i++) {
      struct direction *d = w->directions[i];
      if (d->done) continue;
      int err = step(d);
      if (err && err != EAGAIN) return err;
      if (!d->done) waits[n++] = wanted(d);
    }
    if (n == 0) return 0;
    int err = poll_oneoff(waits, events, n, &n);
    if (err) return err;
  }
}

static void work(void *arg) {
  uint32_t none = 0, err = carry(arg);
  if (err) __atomic_compare_exchange_n(&failure, &none, err, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  // The main thread waits for the control descriptor, of which this is the end.
  if (__atomic_sub_fetch(&working, 1, __ATOMIC_SEQ_CST) == 0 || err) sock_shutdown(control, WATM_SHUT_RD);
}

WATM_EXPORT("watm_start_v1") int start(void) {
  workers[0] = (struct worker){{&up, &down}, 3 - worker_count};
  workers[1] = (struct worker){{&down}, 1};
  working = worker_count;
  int err = watm_thread_start(&first, work, &workers[0]);
  if (!err && worker_count == 2) err = watm_thread_start(&second, work, &workers[1]);
  if (err) return -err;
  char byte;
  unsigned n = 0;
  err = read_some(control, &byte, 1, &n);  // the host's order to end, or that of work
  if (!err) err = __atomic_load_n(&failure, __ATOMIC_SEQ_CST);
  return -err;
}
