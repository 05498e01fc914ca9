// Passthrough with a background worker of the host's for each direction, and
// descriptors that block.
#include "watm.h"

static int caller = -1, network = -1, control = -1;
static uint32_t working = 2;

WATM_EXPORT("watm_posix_io_v1") void posix_io(void) {}
WATM_EXPORT("watm_init_v1") int init(void) { return 0; }

static int join(int from, int to) {
  caller = from;
  return network = to;
}

WATM_EXPORT("watm_dial_v1") int dial(int fd) { return join(fd, water_dial_fixed()); }
WATM_EXPORT("watm_accept_v1") int accept_one(int fd) { return join(fd, water_accept()); }
WATM_EXPORT("watm_associate_v1") int associate(void) {
  int from = water_accept();
  if (from < 0) return from;
  int to = join(from, water_dial_fixed());
  return to < 0 ? to : 0;
}

WATM_EXPORT("watm_ctrlpipe_v1") int ctrlpipe(int fd) {
  control = fd;
  return 0;
}

static char buffers[2][8192];

static int carry(int from, int to, char *buffer) {
  for (;;) {
    struct iovec v = {buffer, sizeof buffers[0]};
    uint32_t n = 0;
    int err = fd_read(from, &v, 1, &n);
    if (err) return err;
    if (n == 0) return sock_shutdown(to, WATM_SHUT_WR);
    for (v.iov_len = n; v.iov_len > 0; v.iov_len -= n, v.iov_base = (char *)v.iov_base + n) {
      err = fd_write(to, &v, 1, &n);
      if (err) return err;
    }
  }
}

static int work(int index) {
  int err = index == 0 ? carry(caller, network, buffers[0]) : carry(network, caller, buffers[1]);
  if (__atomic_sub_fetch(&working, 1, __ATOMIC_SEQ_CST) == 0 || err) sock_shutdown(control, WATM_SHUT_RD);
  return -err;
}

WATM_BACKGROUND_WORKERS(2, 8192, work)

WATM_EXPORT("watm_start_v1") int start(void) {
  char byte;
  struct iovec v = {&byte, 1};
  uint32_t n = 0;
  return -fd_read(control, &v, 1, &n);
}
