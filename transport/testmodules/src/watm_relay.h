// The skeleton of a whole module that behaves as the published ones do, for
// both ABIs. Include it last: what the including file defined before replaces
// the part of the same name.
//
// The behaviour that a host has to cope with, on purpose:
//   - the connections are made non-blocking, then: poll_oneoff over (control,
//     caller, network) for reading only, and read until EAGAIN;
//   - EAGAIN or a short count from a write is fatal and loses data;
//   - end of stream on either side ends the worker at once.
//
// Switches (-D or #define):
//   BUF_SIZE=n        buffer size, 4096 unless told
//   USE_SOCK          sock_recv and sock_send instead of fd_read and fd_write
//   IOVECS            spread every read and write over four iovecs
//   POLL_CLOCK_MS=n   a clock subscription of that length in every poll
//   READ_ONCE         one read per poll: works only if polling is level triggered
//   BLOCKING          leave the descriptors blocking (implies READ_ONCE)
//   IGNORE_CONTROL    never look at the control descriptor
//   CLOSE_AT_END      close both connections before the worker returns
//   ENTRY_START, ENTRY_INITIALIZE   export _start or _initialize, and refuse to
//                     work if the host did not call it first
//   MARKER_NONE, MARKER_GLOBAL      v0: no marker; a global instead of a function
//   NO_DIAL, NO_DIAL_FIXED, NO_ACCEPT, NO_ASSOCIATE   leave out that role
//   NO_CONFIG         do not ask for configuration (implies NO_DIAL_FIXED)
//   TRANSFORM(net_to_caller, buf, n)   change the bytes in place
//   AFTER_DIAL(fd), AFTER_ACCEPT(fd)   handshake on the network side, blocking
//   BEFORE_RELAY()    called at the start of the worker
//   OWN_INIT, OWN_DIAL, OWN_ACCEPT, OWN_CTRLPIPE, OWN_START   the including file exports it
#include "watm_test.h"

#ifndef BUF_SIZE
#define BUF_SIZE 4096
#endif
#ifdef BLOCKING
#define READ_ONCE
#endif
#ifndef TRANSFORM
#define TRANSFORM(net_to_caller, buf, n) ((void)0)
#endif
#ifndef AFTER_DIAL
#define AFTER_DIAL(fd) 0
#endif
#ifndef AFTER_ACCEPT
#define AFTER_ACCEPT(fd) 0
#endif
#ifdef NO_CONFIG
#define NO_DIAL_FIXED
#endif

// caller is the host's side; in the relay role it is the accepted connection.
static i32 control = -1, caller = -1, network = -1;

#if defined(WATM_V0) && !defined(MARKER_NONE)
#ifdef MARKER_GLOBAL
__attribute__((used, visibility("default"))) i32 _water_v0 = 0;
#else
EXPORT("_water_v0") void v0_marker(void) {}
#endif
#endif

#if defined(ENTRY_START) || defined(ENTRY_INITIALIZE)
static i32 entered;
#ifdef ENTRY_START
EXPORT("_start") void entry(void) { entered++; }
#else
EXPORT("_initialize") void entry(void) { entered++; }
#endif
#endif

// --- reading and writing ---------------------------------------------------

#ifdef IOVECS
// Uneven pieces, one of them empty.
static u32 split(struct iov v[4], u8 *buf, u32 len) {
  u32 a = len / 3, b = len > 1 ? 1 : 0;
  v[0] = (struct iov){buf, a};
  v[1] = (struct iov){buf + a, 0};
  v[2] = (struct iov){buf + a, b};
  v[3] = (struct iov){buf + a + b, len - a - b};
  return 4;
}
#else
static u32 split(struct iov v[4], u8 *buf, u32 len) {
  v[0] = (struct iov){buf, len};
  return 1;
}
#endif

static inline i32 conn_read(i32 fd, u8 *buf, u32 len) {
  struct iov v[4];
  u32 n = 0, k = split(v, buf, len);
#ifdef USE_SOCK
  u16 flags = 0;
  i32 err = sock_recv(fd, v, k, 0, &n, &flags);
#else
  i32 err = fd_read(fd, v, k, &n);
#endif
  return err ? -err : (i32)n;
}

static inline i32 conn_write(i32 fd, u8 *buf, u32 len) {
  struct iov v[4];
  u32 n = 0, k = split(v, buf, len);
#ifdef USE_SOCK
  i32 err = sock_send(fd, v, k, 0, &n);
#else
  i32 err = fd_write(fd, v, k, &n);
#endif
  if (err) return -err;  // EAGAIN too: these modules never wait for room
  return n == len ? 0 : -EIO;
}

// --- the worker --------------------------------------------------------------

enum { GO_ON = 1 };  // otherwise: the worker's result

// Moves bytes one way until the source has no more for now.
static inline i32 pump(i32 from, i32 to, i32 net_to_caller) {
  static u8 buf[BUF_SIZE];
  do {
    i32 n = conn_read(from, buf, sizeof buf);
    if (n == -EAGAIN) return GO_ON;
    if (n < 0) return n;
    if (n == 0) return 0;  // end of stream
    TRANSFORM(net_to_caller, buf, n);
    i32 err = conn_write(to, buf, n);
    if (err) return err;
#ifdef READ_ONCE
    break;
#endif
  } while (1);
  return GO_ON;
}

// Anything but EAGAIN on the control descriptor means exit, in v1 only the
// byte 0 or the end of the stream.
static inline i32 check_control(void) {
  u8 byte = 0;
  struct iov v = {&byte, 1};
  u32 n = 0;
  i32 err = fd_read(control, &v, 1, &n);
  if (err == EAGAIN) return GO_ON;
#ifdef WATM_V1
  if (!err && n && byte) return GO_ON;
#endif
  return -ECANCELED;
}

static inline i32 relay(void) {
  for (;;) {
    struct subscription sub[4] = {0};
    struct event ev[4];
    u32 n = 0, got = 0;
#ifndef IGNORE_CONTROL
    sub[n++] = (struct subscription){.userdata = 0, .tag = SUB_READ, .fd = control};
#endif
    sub[n++] = (struct subscription){.userdata = 1, .tag = SUB_READ, .fd = caller};
    sub[n++] = (struct subscription){.userdata = 2, .tag = SUB_READ, .fd = network};
#ifdef POLL_CLOCK_MS
    sub[n].userdata = 3;
    sub[n].tag = SUB_CLOCK;
    sub[n].clock.id = CLOCK_MONOTONIC;
    sub[n].clock.timeout = POLL_CLOCK_MS * 1000000ull;
    n++;
#endif
    i32 err = poll_oneoff(sub, ev, n, &got);
    if (err == EINTR) continue;
    if (err) return -err;
    for (u32 i = 0; i < got; i++) {
      i32 r = GO_ON;
      if (ev[i].error) return -ev[i].error;
      switch (ev[i].userdata) {
        case 0: r = check_control(); break;
        case 1: r = pump(caller, network, 0); break;
        case 2: r = pump(network, caller, 1); break;
      }
      if (r != GO_ON) return r;
    }
  }
}

// --- exports -----------------------------------------------------------------

#ifndef OWN_INIT
EXPORT_INIT i32 init(void) {
#if defined(ENTRY_START) || defined(ENTRY_INITIALIZE)
  if (entered != 1) return -EINVAL;
#endif
#ifndef NO_CONFIG
  read_config();
#endif
  return 0;
}
#endif

static inline i32 join(i32 caller_fd, i32 net_fd) {
  caller = caller_fd;
  network = net_fd;
#ifndef BLOCKING
  i32 err = set_nonblock(caller);
  if (!err) err = set_nonblock(network);
  if (err) return err;
#endif
  return net_fd;
}

#if !defined(OWN_DIAL) && !defined(NO_DIAL)
EXPORT_DIAL i32 dial(i32 caller_fd) {
  i32 fd = net_dial();
  if (fd < 0) return fd;
  i32 err = AFTER_DIAL(fd);
  return err < 0 ? err : join(caller_fd, fd);
}
#endif

#if defined(WATM_V1) && !defined(NO_DIAL_FIXED)
EXPORT_DIAL_FIXED i32 dial_fixed(i32 caller_fd) {
  i32 fd = dial_configured();
  if (fd < 0) return fd;
  i32 err = AFTER_DIAL(fd);
  return err < 0 ? err : join(caller_fd, fd);
}
#endif

#if !defined(OWN_ACCEPT) && !defined(NO_ACCEPT)
EXPORT_ACCEPT i32 accept(i32 caller_fd) {
  i32 fd = net_accept();
  if (fd < 0) return fd;
  i32 err = AFTER_ACCEPT(fd);
  return err < 0 ? err : join(caller_fd, fd);
}
#endif

#ifndef NO_ASSOCIATE
EXPORT_ASSOCIATE i32 associate(void) {
  i32 from = net_accept();
  if (from < 0) return from;
  i32 to = net_dial();
  if (to < 0) return to;
  i32 r = join(from, to);
  return r < 0 ? r : 0;
}
#endif

#ifndef OWN_CTRLPIPE
EXPORT_CTRLPIPE i32 ctrlpipe(i32 fd) {
  control = fd;
#ifdef BLOCKING
  return 0;
#else
  return set_nonblock(fd);
#endif
}
#endif

#ifndef OWN_START
EXPORT_START i32 start(void) {
#ifdef BEFORE_RELAY
  BEFORE_RELAY();
#endif
  i32 r = relay();
#ifdef CLOSE_AT_END
  fd_close(caller);
  fd_close(network);
#endif
  return r;
}
#endif
