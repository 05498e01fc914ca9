// A transport with a handshake and frames.
//
// In dial and accept, with blocking reads and writes, each side sends a hello
// of 32 random bytes and waits for the other's. Afterwards the network carries
// frames: a big-endian 16-bit length, then that many bytes, xored with the
// sender's hello. A frame holds at most 1, 2, 4 or 8 KiB, taking turns.
#define NO_ASSOCIATE  // which side of a relay would be framed?
#define OWN_START
#include "watm_test.h"

static i32 handshake(i32 fd);
#define AFTER_DIAL(fd) handshake(fd)
#define AFTER_ACCEPT(fd) handshake(fd)
#include "watm_relay.h"

enum { HELLO = 32, MAX_FRAME = 8192 };
static u8 own_hello[HELLO], peer_hello[HELLO];

static i32 handshake(i32 fd) {
  i32 err = -random_get(own_hello, HELLO);
  if (!err) err = write_all(fd, own_hello, HELLO);
  if (!err) err = read_full(fd, peer_hello, HELLO);
  return err;
}

static void mask(const u8 *key, u8 *buf, u32 n) {
  for (u32 i = 0; i < n; i++) buf[i] ^= key[i % HELLO];
}

static i32 send_frames(void) {
  static u8 buf[MAX_FRAME];
  static u32 turn;
  for (;;) {
    i32 n = conn_read(caller, buf, 1024u << (turn & 3));
    if (n == -EAGAIN) return GO_ON;
    if (n <= 0) return n;
    turn++;
    mask(own_hello, buf, n);
    u8 header[2] = {n >> 8, n};
    struct iov v[2] = {{header, 2}, {buf, n}};
    u32 written = 0;
    i32 err = fd_write(network, v, 2, &written);
    if (err) return -err;
    if (written != (u32)n + 2) return -EIO;
  }
}

static i32 receive_frames(void) {
  static u8 buf[2 * (2 + MAX_FRAME)];
  static u32 have;
  for (;;) {
    i32 n = conn_read(network, buf + have, sizeof buf - have);
    if (n == -EAGAIN) return GO_ON;
    if (n < 0) return n;
    if (n == 0) return have ? -EPROTO : 0;  // the stream ended within a frame
    have += n;
    u32 used = 0;
    while (have - used >= 2) {
      u32 len = buf[used] << 8 | buf[used + 1];
      if (len == 0 || len > MAX_FRAME) return -EPROTO;
      if (have - used < 2 + len) break;
      mask(peer_hello, buf + used + 2, len);
      i32 err = conn_write(caller, buf + used + 2, len);
      if (err) return err;
      used += 2 + len;
    }
    for (u32 i = used; i < have; i++) buf[i - used] = buf[i];
    have -= used;
  }
}

EXPORT_START i32 start(void) {
  for (;;) {
    struct subscription sub[3] = {
        {.userdata = 0, .tag = SUB_READ, .fd = control},
        {.userdata = 1, .tag = SUB_READ, .fd = caller},
        {.userdata = 2, .tag = SUB_READ, .fd = network},
    };
    struct event ev[3];
    u32 got = 0;
    i32 err = poll_oneoff(sub, ev, 3, &got);
    if (err == EINTR) continue;
    if (err) return -err;
    for (u32 i = 0; i < got; i++) {
      if (ev[i].error) return -ev[i].error;
      i32 r = ev[i].userdata == 0   ? check_control()
              : ev[i].userdata == 1 ? send_frames()
                                    : receive_frames();
      if (r != GO_ON) return r;
    }
  }
}
