// Serves many connections in one instance, and abuses what it can do with them in
// the way that its configuration names: see the README. Otherwise it is a
// passthrough for messages that fit into the buffers on their way.
#include "../watm_test.h"

enum { OPEN = 1, INCOMING, DIALED, CALLER, READABLE, WRITABLE, CLOSE, ABORT, END };
enum { READY = 16, FAIL, DIAL, ACCEPT };
enum { SHARED = 1 };

struct record {
  u16 kind, flags;
  u32 id, request;
  i32 value;
  u32 size;
};
_Static_assert(sizeof(struct record) == 20, "the layout of a record");

static i32 control;

// tell sends a record without payload, and returns fd_write's error number.
static i32 tell(u16 kind, u16 flags, u32 id) {
  struct record r = {.kind = kind, .flags = flags, .id = id};
  struct iov v = {&r, sizeof r};
  u32 n;
  return fd_write(control, &v, 1, &n);
}

static i32 send_raw(const void *p, u32 size) {
  struct iov v = {p, size};
  u32 n;
  return fd_write(control, &v, 1, &n);
}

// abuse reports whether the configuration names a way.
static i32 abuse(const char *way) {
  u32 n = length(way);
  if (n != config_len) return 0;
  for (u32 i = 0; i < n; i++)
    if (config[i] != (u8)way[i]) return 0;
  return 1;
}

static void sleep_forever(void) {
  struct subscription sub = {.tag = SUB_CLOCK};
  sub.clock.id = CLOCK_MONOTONIC;
  sub.clock.timeout = 1ull << 62;
  struct event ev;
  u32 n;
  for (;;) poll_oneoff(&sub, &ev, 1, &n);
}

// --- connections -------------------------------------------------------------------

static struct conn {
  u32 id;  // 0: free
  i32 caller, network;  // -1: not there
  i32 ended;            // directions
} conns[256];

static struct conn *find(u32 id) {
  for (u32 i = 0; i < COUNT(conns); i++)
    if (conns[i].id == id) return &conns[i];
  return 0;
}

static struct conn *begin(u32 id, i32 caller, i32 network) {
  struct conn *c = find(0);
  if (!c) __builtin_trap();
  *c = (struct conn){id, caller, network, 0};
  return c;
}

static void drop(struct conn *c) {
  if (c->caller >= 0) fd_close(c->caller);
  if (c->network >= 0) fd_close(c->network);
  c->id = 0;
}

// pass carries what there is, and reports whether that is all there will ever be.
static i32 pass(i32 to, i32 from) {
  static u8 buf[16384];
  for (;;) {
    struct iov v = {buf, sizeof buf};
    u32 n = 0;
    i32 err = fd_read(from, &v, 1, &n);
    if (err == EAGAIN) return 0;
    if (err || n == 0) {
      sock_shutdown(to, SHUT_WR);
      return 1;
    }
    write_all(to, buf, n);
  }
}

static void carry(struct conn *c, i32 from) {
  c->ended += pass(from == c->caller ? c->network : c->caller, from);
  if (c->ended == 2) drop(c);
}

static void ready_to_carry(struct conn *c) {
  if (report_len) send_report(c->caller);
  report_len = 0;
  i32 network = c->network;
  carry(c, c->caller);
  if (c->id) carry(c, network);
}

// --- ways that begin with a connection -----------------------------------------------

// send_garbage sends what is no record, and reports what the host says to it.
static void send_garbage(u32 id) {
  static u8 buf[8192];
  say_result("nothing", send_raw(buf, 0));
  say_result("one byte", send_raw(buf, 1));
  say_result("zeros", send_raw(buf, 20));
  say_result("many zeros", send_raw(buf, sizeof buf));
  random_get(buf, sizeof buf);
  buf[3] = 0xff;  // not by chance a record
  say_result("noise", send_raw(buf, sizeof buf));
  struct record *r = (struct record *)buf;
  *r = (struct record){.kind = READY, .id = id, .size = 100};
  say_result("half a record", send_raw(buf, 60));
  r->size = sizeof buf - sizeof *r;
  say_result("a long record", send_raw(buf, sizeof buf));
  r->size = ~0u;
  say_result("an endless record", send_raw(buf, sizeof buf));
  *r = (struct record){.kind = FAIL + 100, .id = id};
  say_result("an unknown kind", send_raw(buf, sizeof *r));
  *r = (struct record){.kind = OPEN, .id = id};
  say_result("the host's kind", send_raw(buf, sizeof *r));
  struct iov nowhere = {(void *)0xfffffff0, 100};
  u32 n;
  say_result("no memory", fd_write(control, &nowhere, 1, &n));
}

// send_unknown sends records about connections that there are not.
static void send_unknown(void) {
  static const u32 ids[] = {4711, 1u << 31, ~0u};
  for (u32 i = 0; i < COUNT(ids); i++)
    for (u16 kind = READY; kind <= ACCEPT; kind++) {
      tell(kind, 0, ids[i]);
      tell(kind, SHARED, ids[i]);
    }
}

// send_to_instance sends records about the instance as if it were a connection.
static void send_to_instance(void) {
  for (u32 i = 0; i < 10; i++) {
    tell(READY, 0, 0);
    tell(FAIL, 0, 0);
    tell(ACCEPT, 0, 0);
    tell(ACCEPT, SHARED, 0);
    tell(DIAL, 0, 0);
    tell(DIAL, SHARED, 0);
  }
}

// renumber moves descriptors onto others, its own too.
static void renumber(struct conn *c) {
  say_result("caller to itself", fd_renumber(c->caller, c->caller));
  say_result("caller to nothing", fd_renumber(c->caller, 9999));
  say_result("nothing to caller", fd_renumber(9999, c->caller));
  say_result("caller to stdin", fd_renumber(c->caller, 0));
  c->caller = 0;
  say_result("network to stdout", fd_renumber(c->network, 1));
  c->network = 1;
}

enum { STORM = 1000 };
static u32 answers, dialed;  // of a storm

static void storm(struct conn *c) {
  answers = dialed = 0;
  for (u32 i = 0; i < STORM; i++) tell(DIAL, 0, c->id);
}

// storm_answer keeps the first connection and closes the others.
static void storm_answer(struct conn *c, i32 fd) {
  answers++;
  if (fd >= 0) {
    dialed++;
    if (c->network < 0)
      c->network = fd;
    else
      fd_close(fd);
  }
  if (answers < STORM) return;
  say_result("dialed", dialed);
  tell(READY, 0, c->id);
  ready_to_carry(c);
}

static void poke(i32 fd) {
  u8 b;
  struct iov v = {&b, 1};
  u32 n;
  fd_read(fd, &v, 1, &n);
  fd_write(fd, &v, 1, &n);
  fd_close(fd);
}

// opened commits what begins with an outgoing connection. It reports whether the
// connection is to go on as it should.
static i32 opened(struct conn *c) {
  if (abuse("garbage")) send_garbage(c->id);
  if (abuse("unknown")) send_unknown();
  if (abuse("instance")) send_to_instance();
  if (abuse("early")) tell(READY, 0, c->id);
  if (abuse("host calls")) {
    say_result("dial", water_dial_fixed());
    say_result("accept", water_accept());
  }
  if (abuse("accept")) tell(ACCEPT, 0, c->id);
  if (abuse("accept shared")) tell(ACCEPT, SHARED, c->id);
  if (abuse("close others")) {
    for (i32 fd = 0; fd < 100; fd++)
      if (fd != control && fd != c->caller) poke(fd);
    for (u32 i = 0; i < COUNT(conns); i++)
      if (&conns[i] != c) conns[i].id = 0;
  }
  if (abuse("fail twice")) {
    tell(FAIL, 0, c->id);
    tell(FAIL, 0, c->id);
    drop(c);
    return 0;
  }
  if (abuse("close early")) {
    drop(c);
    return 0;
  }
  if (abuse("storm")) {
    storm(c);
    return 0;
  }
  if (abuse("endless storm"))
    for (;;) tell(DIAL, 0, c->id);
  if (abuse("block")) {
    fd_fdstat_set_flags(c->caller, 0);
    poke(c->caller);
  }
  if (abuse("close control")) {
    fd_close(control);
    sleep_forever();
  }
  if (abuse("deaf")) sleep_forever();
  if (abuse("trap")) __builtin_trap();
  return 1;
}

// incoming is opened for a connection from the network.
static i32 incoming(struct conn *c) {
  if (abuse("ready")) {
    tell(READY, 0, c->id);
    return 0;
  }
  if (abuse("accept twice")) tell(ACCEPT, 0, c->id);
  if (abuse("accept shared")) {
    tell(ACCEPT, SHARED, c->id);
    tell(ACCEPT, SHARED, c->id);
    return 0;
  }
  if (abuse("accept and dial")) tell(DIAL, 0, c->id);
  if (abuse("garbage")) send_garbage(c->id);
  if (abuse("close early")) {
    drop(c);
    return 0;
  }
  return 1;
}

// --- the control descriptor ------------------------------------------------------------

// handle returns 0 if the module is to go on.
static i32 handle(const struct record *r) {
  struct conn *c = r->id ? find(r->id) : 0;
  switch (r->kind) {
    case OPEN:
      c = begin(r->id, r->value, -1);
      if (abuse("return")) return 1;
      if (opened(c)) tell(DIAL, 0, c->id);
      break;
    case INCOMING:
      c = begin(r->id, -1, r->value);
      if (incoming(c)) tell(ACCEPT, 0, c->id);
      break;
    case DIALED:
      if (!c) {
        if (r->value >= 0) fd_close(r->value);
      } else if (abuse("storm")) {
        storm_answer(c, r->value);
      } else if (c->network >= 0) {
        if (r->value >= 0) fd_close(r->value);
      } else if (r->value < 0) {
        tell(FAIL, 0, c->id);
        drop(c);
      } else {
        c->network = r->value;
        if (abuse("renumber")) renumber(c);
        for (u32 i = 0; i < (abuse("ready twice") ? 3 : 1); i++) tell(READY, 0, c->id);
        if (abuse("onto control")) fd_renumber(c->network, control);
        ready_to_carry(c);
      }
      break;
    case CALLER:
      if (!c && r->value >= 0) { // of a connection that is shared
        c = begin(r->id, r->value, -1);
        tell(ACCEPT, SHARED, c->id);
        tell(ACCEPT, 0, c->id);
        tell(READY, 0, c->id);
      } else if (c && r->value >= 0 && c->caller < 0) {
        c->caller = r->value;
        ready_to_carry(c);
      }
      break;
    case READABLE:
      for (u32 i = 0; i < COUNT(conns); i++) {
        c = &conns[i];
        if (c->id && c->caller >= 0 && c->network >= 0 && (r->value == c->caller || r->value == c->network))
          carry(c, r->value);
      }
      break;
    case CLOSE:
    case ABORT:
      if (c && !abuse("keep")) drop(c);
      break;
    case END:
      if (abuse("stay")) sleep_forever();
      return 1;
  }
  return 0;
}

static i32 serve(i32 fd) {
  static u8 buf[16384];
  control = fd;
  if (abuse("return at once")) return 0;
  if (abuse("return an error")) return -EIO;
  for (;;) {
    struct iov v = {buf, sizeof buf};
    u32 n = 0;
    i32 err = fd_read(control, &v, 1, &n);
    if (err) return -err;
    if (n == 0) return 0;
    for (u8 *at = buf; at < buf + n;) {
      struct record r;
      memcpy(&r, at, sizeof r);
      if (handle(&r)) return 0;
      at += sizeof r + r.size;
    }
  }
}

EXPORT_INIT i32 init(void) {
  read_config();
  return 0;
}
EXPORT("watm_dial_many_v1") i32 dial_many(i32 fd) { return serve(fd); }
EXPORT("watm_accept_many_v1") i32 accept_many(i32 fd) { return serve(fd); }
