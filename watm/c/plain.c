// A passthrough transport, client and server, that serves many connections in one
// instance: the reference for docs/abi.md, "Many connections". It waits in one
// place, the read of the control descriptor, and hides nothing.
//
//   clang --target=wasm32-wasi -mexec-model=reactor -O2 -o plain.wasm plain.c
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "watm.h"

// flow is one direction of a connection.
struct flow {
  int from, to;
  char *rest;       // what was read and has not been written; NULL if nothing
  size_t at, size;  // rest[at..size)
  bool ready;       // nothing has been refused since the last record about it
  bool done;
};

struct conn {
  uint32_t id;
  int caller, network;  // -1: not there yet
  struct flow up, down;
  int error;                 // the first; 0 if none
  bool over;                 // one side is broken, and has nothing left to carry
  bool closing;              // the caller wants no more
  struct conn *sibling;      // with an id of the same bucket
  struct conn *next, *prev;  // in the queue; NULL outside
};

static int control;
static int broken;  // why the control descriptor is of no more use; 0 if it is

static void tell(uint16_t kind, uint32_t id, int value, const char *text) {
  struct watm_record r = {.kind = kind, .id = id, .value = value, .size = strlen(text)};
  int err = watm_send(control, r, text);
  if (err && !broken) broken = err;
}

// --- finding connections ---------------------------------------------------------

static struct conn *buckets[256];  // by id

static struct conn **bucket(uint32_t id) {
  return &buckets[id % (sizeof buckets / sizeof buckets[0])];
}

static struct conn *find(uint32_t id) {
  struct conn *c = *bucket(id);
  while (c && c->id != id) c = c->sibling;
  return c;
}

static struct conn **owners;  // by descriptor
static int n_owners;

static struct conn *owner(int fd) { return fd >= 0 && fd < n_owners ? owners[fd] : NULL; }

// own notes whose a descriptor is. It returns 0 or an error number.
static int own(int fd, struct conn *c) {
  if (fd >= n_owners) {
    int n = 2 * fd + 16;
    struct conn **more = realloc(owners, n * sizeof *more);
    if (!more) return ENOMEM;
    memset(more + n_owners, 0, (n - n_owners) * sizeof *more);
    owners = more;
    n_owners = n;
  }
  owners[fd] = c;
  return 0;
}

static void release(int fd) {
  if (fd < 0) return;
  if (fd < n_owners) owners[fd] = NULL;
  close(fd);
}

// --- connections that have something to do -----------------------------------------

static struct conn queue = {.next = &queue, .prev = &queue};

static bool idle(void) { return queue.next == &queue; }

static void enqueue(struct conn *c) {
  if (c->next) return;
  c->next = &queue;
  c->prev = queue.prev;
  c->prev->next = queue.prev = c;
}

static void dequeue(struct conn *c) {
  if (!c->next) return;
  c->prev->next = c->next;
  c->next->prev = c->prev;
  c->next = c->prev = NULL;
}

// --- the life of a connection --------------------------------------------------------

// drop ends a connection, whose failure the host has been told before: once its last
// descriptor is closed, there is no connection to tell about.
static void drop(struct conn *c) {
  release(c->caller);
  release(c->network);
  free(c->up.rest);
  free(c->down.rest);
  dequeue(c);
  struct conn **at = bucket(c->id);
  while (*at != c) at = &(*at)->sibling;
  *at = c->sibling;
  free(c);
}

static void fail(struct conn *c, int err) {
  tell(WATM_FAIL, c->id, err, strerror(err));
  drop(c);
}

// begin makes a connection of the one side that the host has given; the other side
// is asked for with the record ask.
static void begin(uint32_t id, int caller, int network, uint16_t ask) {
  int fd = caller < 0 ? network : caller;
  struct conn *c = calloc(1, sizeof *c);
  if (!c || own(fd, c)) {
    tell(WATM_FAIL, id, ENOMEM, strerror(ENOMEM));
    free(c);
    close(fd);
    return;
  }
  c->id = id;
  c->caller = caller;
  c->network = network;
  c->sibling = *bucket(id);
  *bucket(id) = c;
  tell(ask, id, 0, "");
}

// join has both sides, and starts the work.
static void join(struct conn *c) {
  c->up = (struct flow){.from = c->caller, .to = c->network, .ready = true};
  c->down = (struct flow){.from = c->network, .to = c->caller, .ready = true};
  enqueue(c);
}

// answered gets the descriptor of the other side, or the negative of an error number.
static void answered(uint32_t id, bool is_caller, int fd) {
  struct conn *c = find(id);
  if (!c) {  // it was aborted meanwhile
    if (fd >= 0) close(fd);
    return;
  }
  int err = fd < 0 ? -fd : own(fd, c);
  if (err) {
    if (fd >= 0) close(fd);
    fail(c, err);
    return;
  }
  *(is_caller ? &c->caller : &c->network) = fd;
  if (!is_caller) tell(WATM_READY, id, 0, "");
  join(c);
}

// --- carrying bytes ------------------------------------------------------------------

enum {
  BUFFER = 64 << 10,
  TURN = 8,  // buffers that a direction may carry before it is others' turn
};

// put writes as much as is taken. It returns 0 if that is all, or an error number.
static int put(int fd, const char *from, size_t size, size_t *at) {
  while (*at < size) {
    ssize_t n = write(fd, from + *at, size - *at);
    if (n < 0) return errno;
    *at += n;
  }
  return 0;
}

// carry moves one buffer on. It returns 0 or an error number; after EAGAIN a record
// will say when to go on. A side that cannot be written may have something to read.
static int carry(struct conn *c, struct flow *f) {
  // For all: only what is refused needs memory of its own.
  static char buffer[BUFFER];
  if (f->rest) {
    int err = put(f->to, f->rest, f->size, &f->at);
    if (err) return err;
    free(f->rest);
    f->rest = NULL;
  }
  ssize_t n = read(f->from, buffer, sizeof buffer);
  if (n < 0) {
    c->over = errno != EAGAIN;
    return errno;
  }
  if (n == 0) {
    f->done = true;
    // On a connection that is broken already, the other direction will say so.
    return shutdown(f->to, SHUT_WR) < 0 && errno != ENOTCONN ? errno : 0;
  }
  size_t at = 0;
  int err = put(f->to, buffer, n, &at);
  if (err != EAGAIN) return err;
  f->rest = malloc(n - at);
  if (!f->rest) return ENOMEM;
  memcpy(f->rest, buffer + at, n - at);
  f->at = 0;
  f->size = n - at;
  return EAGAIN;
}

// run carries what one direction has, up to its turn's end.
static void run(struct conn *c, struct flow *f) {
  for (int i = 0; i < TURN && f->ready && !f->done && !c->over; i++) {
    int err = carry(c, f);
    if (err == EAGAIN) {
      f->ready = false;
    } else if (err) {
      f->done = true;
      if (!c->error) c->error = err;
    }
  }
}

static void step(struct conn *c) {
  dequeue(c);
  run(c, &c->up);
  run(c, &c->down);
  if (c->over || (c->up.done && (c->down.done || c->closing))) {
    if (c->error)
      fail(c, c->error);
    else
      drop(c);
  } else if ((c->up.ready && !c->up.done) || (c->down.ready && !c->down.done)) {
    enqueue(c);
  }
}

// --- the control descriptor ------------------------------------------------------------

static void handle(const struct watm_record *r) {
  struct conn *c;
  switch (r->kind) {
    case WATM_OPEN:  // its target and arguments do not concern a passthrough
      begin(r->id, r->value, -1, WATM_DIAL);
      break;
    case WATM_INCOMING:
      begin(r->id, -1, r->value, WATM_ACCEPT);
      break;
    case WATM_DIALED:
      answered(r->id, false, r->value);
      break;
    case WATM_CALLER:
      answered(r->id, true, r->value);
      break;
    case WATM_READABLE:
    case WATM_WRITABLE:
      c = owner(r->value);
      // The record may be about a descriptor that had the number before.
      if (!c || c->caller < 0 || c->network < 0) break;
      bool readable = r->kind == WATM_READABLE, of_caller = r->value == c->caller;
      (readable == of_caller ? &c->up : &c->down)->ready = true;
      enqueue(c);
      break;
    case WATM_CLOSE:
      c = find(r->id);
      if (!c) break;
      c->closing = true;
      enqueue(c);
      break;
    case WATM_ABORT:
      c = find(r->id);
      if (c) drop(c);
      break;
  }
}

// wait_for_records says whether reading records may block: not while there is work.
static void wait_for_records(bool yes) {
  static bool waits = true;
  if (yes == waits) return;
  waits = yes;
  if (fcntl(control, F_SETFL, yes ? 0 : O_NONBLOCK) < 0 && !broken) broken = errno;
}

static int serve(int fd) {
  static char records[4 * WATM_MAX_RECORD];
  control = fd;
  while (!broken) {
    wait_for_records(idle());
    ssize_t n = read(control, records, sizeof records);
    if (n == 0) return 0;
    if (n < 0 && errno != EAGAIN) return -errno;
    const char *at = records, *end = at + (n < 0 ? 0 : n);
    struct watm_record r;
    while (watm_next(&at, end, &r)) {
      if (r.kind == WATM_END) return 0;
      handle(&r);
    }
    // Everyone who is in the queue now gets one turn.
    struct conn *last = queue.prev;
    for (bool more = !idle(); more;) {
      struct conn *c = queue.next;
      more = c != last;
      step(c);
    }
  }
  return -broken;
}

WATM_EXPORT("watm_init_v1") int init(void) { return 0; }
WATM_EXPORT("watm_dial_many_v1") int dial_many(int fd) { return serve(fd); }
WATM_EXPORT("watm_accept_many_v1") int accept_many(int fd) { return serve(fd); }
