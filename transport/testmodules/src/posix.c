// A passthrough that does what a careful POSIX program does, written against
// the C library (wasi-libc) and ABI v1: it waits for room before it writes,
// copes with EAGAIN and short writes, passes a half-close on with shutdown(),
// and ends when both directions have ended.
//
// It exports watm_posix_io_v1, by which a module tells the host that writes to
// it may be refused or cut short and that one direction may end before the
// other. -DNO_MARKER leaves that out: the same program must still work with a
// host whose writes take everything. -DXOR changes the bytes.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT(name) __attribute__((export_name(name), used))
#define ENV(name) __attribute__((import_module("env"), import_name(#name))) extern int name

struct ciovec {
  const void *base;
  unsigned len;
};
ENV(water_dial)(const struct ciovec *net, int nnet, const struct ciovec *addr, int naddr);
ENV(water_dial_fixed)(void);
ENV(water_accept)(void);

struct direction {
  int from, to;
  size_t start, end;  // bytes read and not yet written: buf[start..end)
  int eof, done;
  char buf[16384];
};

static struct direction up, down;
static int control = -1;
static char address[256];

#ifndef NO_MARKER
EXPORT("watm_posix_io_v1") void posix_io(void) {}
#endif

EXPORT("watm_init_v1") int init(void) {
  FILE *f = fopen("/conf/watm.cfg", "r");
  if (f) {
    if (fgets(address, sizeof address, f)) address[strcspn(address, "\r\n")] = 0;
    fclose(f);
  }
  return 0;
}

static int nonblocking(int fd) {
  return fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int join(int caller, int network) {
  int err = nonblocking(caller);
  if (!err) err = nonblocking(network);
  if (err) return err;
  up.from = down.to = caller;
  up.to = down.from = network;
  return network;
}

EXPORT("watm_dial_v1") int dial(int caller) {
  int fd = water_dial_fixed();
  return fd < 0 ? fd : join(caller, fd);
}

EXPORT("watm_dial_fixed_v1") int dial_fixed(int caller) {
  if (!address[0]) return -EINVAL;
  struct ciovec net = {"tcp", 3}, addr = {address, strlen(address)};
  int fd = water_dial(&net, 1, &addr, 1);
  return fd < 0 ? fd : join(caller, fd);
}

EXPORT("watm_accept_v1") int accept_one(int caller) {
  int fd = water_accept();
  return fd < 0 ? fd : join(caller, fd);
}

EXPORT("watm_associate_v1") int associate(void) {
  int from = water_accept();
  if (from < 0) return from;
  int to = water_dial_fixed();
  if (to < 0) return to;
  int r = join(from, to);
  return r < 0 ? r : 0;
}

EXPORT("watm_ctrlpipe_v1") int ctrlpipe(int fd) {
  control = fd;
  return nonblocking(fd);
}

// Does what can be done now. Returns 0 or a negative errno.
static int step(struct direction *d) {
  if (!d->eof && d->start == d->end) {
    ssize_t n = read(d->from, d->buf, sizeof d->buf);
    if (n < 0 && errno != EAGAIN) return -errno;
    if (n == 0) d->eof = 1;
    d->start = 0;
    d->end = n > 0 ? n : 0;
#ifdef XOR
    for (size_t i = 0; i < d->end; i++) d->buf[i] ^= 0x5a;
#endif
  }
  while (d->start < d->end) {
    ssize_t n = write(d->to, d->buf + d->start, d->end - d->start);
    if (n < 0) return errno == EAGAIN ? 0 : -errno;
    d->start += n;
  }
  if (d->eof && !d->done) {
    d->done = 1;
    if (shutdown(d->to, SHUT_WR) < 0 && errno != ENOTCONN) return -errno;
  }
  return 0;
}

// What a direction waits for: room, or bytes, or nothing any more.
static void want(struct direction *d, struct pollfd *p) {
  p->fd = -1;
  p->revents = 0;
  if (d->done) return;
  int full = d->start < d->end;
  p->fd = full ? d->to : d->from;
  p->events = full ? POLLOUT : POLLIN;
}

EXPORT("watm_start_v1") int start(void) {
  while (!up.done || !down.done) {
    struct pollfd set[3] = {{.fd = control, .events = POLLIN}};
    struct direction *of[3] = {0};
    nfds_t n = 1;
    want(&up, &set[n]);
    if (set[n].fd >= 0) of[n++] = &up;
    want(&down, &set[n]);
    if (n < 3 && set[n].fd >= 0) of[n++] = &down;
    if (poll(set, n, -1) < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (set[0].revents) {
      char byte = 0;
      ssize_t r = read(control, &byte, 1);
      if (r == 0 || (r == 1 && byte == 0)) return -ECANCELED;
      if (r < 0 && errno != EAGAIN) return -errno;
    }
    for (nfds_t i = 1; i < n; i++) {
      if (!set[i].revents) continue;
      int err = step(of[i]);
      if (err) return err;
    }
  }
  return 0;
}
