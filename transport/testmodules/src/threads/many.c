// Serves many connections, of which it refuses each, and has a background worker that
// takes the records from the thread that reads them.
#include "watm.h"

static struct watm_mutex mutex;
static struct watm_record queue[64];
static uint32_t queued;  // guarded by mutex; threads wait for it to change
static int control;

WATM_EXPORT("watm_init_v1") int init(void) { return 0; }

static int refuse(int index) {
  (void)index;
  for (;;) {
    watm_wait(&queued, 0, -1);
    watm_lock(&mutex);
    while (queued > 0) {
      struct watm_record r = queue[--queued];
      if (r.kind == WATM_OPEN) {
        watm_send(control, (struct watm_record){.kind = WATM_FAIL, .id = r.id, .value = EIO, .size = 7}, "refused");
        fd_close(r.value);
      }
    }
    watm_unlock(&mutex);
  }
}

WATM_BACKGROUND_WORKERS(2, 8192, refuse)

WATM_EXPORT("watm_dial_many_v1") int dial_many(int fd) {
  static char buffer[WATM_MAX_RECORD];
  control = fd;
  for (;;) {
    struct iovec v = {buffer, sizeof buffer};
    uint32_t n = 0;
    int err = fd_read(control, &v, 1, &n);
    if (err) return -err;
    struct watm_record r;
    const char *at = buffer;
    while (watm_next(&at, buffer + n, &r)) {
      if (r.kind == WATM_END) return 0;
      watm_lock(&mutex);
      if (queued < 64) queue[queued++] = r;
      watm_unlock(&mutex);
      watm_notify(&queued, 1);
    }
    if (n == 0) return 0;
  }
}
