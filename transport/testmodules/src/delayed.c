// Shapes timing: holds every byte back for 20 ms before it forwards it.
//
// Each direction has a queue of chunks with the time at which each is due; the
// clock subscription of the poll is the earliest of them (relative, or with
// -DABSTIME as an absolute time). A full queue is not read into. At end of
// stream the worker forwards what it holds, in both directions, and only then
// returns: what is lost after that, the host has lost.
#define OWN_START
#include "watm_relay.h"

enum { HOLD_NS = 20 * 1000000, CHUNK = 4096, CHUNKS = 16 };

struct queue {
  i32 from, to, ended;
  u32 first, count;
  struct {
    u64 due;
    u32 len;
    u8 data[CHUNK];
  } chunk[CHUNKS];
};
static struct queue up, down;

static u64 now(void) {
  u64 t = 0;
  clock_time_get(CLOCK_MONOTONIC, 1, &t);
  return t;
}

static i32 fill(struct queue *q) {
  while (q->count < CHUNKS) {
    u32 i = (q->first + q->count) % CHUNKS;
    i32 n = conn_read(q->from, q->chunk[i].data, CHUNK);
    if (n == -EAGAIN) return 0;
    if (n < 0) return n;
    if (n == 0) {
      q->ended = 1;
      return 0;
    }
    q->chunk[i].len = n;
    q->chunk[i].due = now() + HOLD_NS;
    q->count++;
  }
  return 0;
}

static i32 forward(struct queue *q) {
  while (q->count && q->chunk[q->first].due <= now()) {
    i32 err = conn_write(q->to, q->chunk[q->first].data, q->chunk[q->first].len);
    if (err) return err;
    q->first = (q->first + 1) % CHUNKS;
    q->count--;
  }
  return 0;
}

EXPORT_START i32 start(void) {
  up.from = down.to = caller;
  up.to = down.from = network;
  for (;;) {
    i32 err = forward(&up);
    if (!err) err = forward(&down);
    if (err) return err;

    i32 ending = up.ended || down.ended;
    if (ending && !up.count && !down.count) return 0;

    struct subscription sub[4] = {0};
    struct event ev[4];
    u32 n = 0, got = 0;
    u64 due = 0;
    sub[n++] = (struct subscription){.userdata = 0, .tag = SUB_READ, .fd = control};
    if (!ending && up.count < CHUNKS)
      sub[n++] = (struct subscription){.userdata = 1, .tag = SUB_READ, .fd = caller};
    if (!ending && down.count < CHUNKS)
      sub[n++] = (struct subscription){.userdata = 2, .tag = SUB_READ, .fd = network};
    if (up.count) due = up.chunk[up.first].due;
    if (down.count && (!due || down.chunk[down.first].due < due))
      due = down.chunk[down.first].due;
    if (due) {
      sub[n].userdata = 3;
      sub[n].tag = SUB_CLOCK;
      sub[n].clock.id = CLOCK_MONOTONIC;
#ifdef ABSTIME
      sub[n].clock.timeout = due;
      sub[n].clock.flags = CLOCK_ABSTIME;
#else
      u64 t = now();
      sub[n].clock.timeout = due > t ? due - t : 0;
#endif
      n++;
    }
    err = poll_oneoff(sub, ev, n, &got);
    if (err == EINTR) continue;
    if (err) return -err;
    for (u32 i = 0; i < got; i++) {
      i32 r = 0;
      if (ev[i].error) return -ev[i].error;
      if (ev[i].userdata == 0 && (r = check_control()) != GO_ON) return r;
      if (ev[i].userdata == 1 && (r = fill(&up)) < 0) return r;
      if (ev[i].userdata == 2 && (r = fill(&down)) < 0) return r;
    }
  }
}
