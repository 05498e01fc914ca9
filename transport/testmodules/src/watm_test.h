// What every test module needs of its surroundings: the WASI preview 1 and env
// imports, the export names of both ABIs, and helpers for configuration,
// reports and text. No C library: an import appears in the built file only if
// the module uses it, which is what "may import any subset" is about.
//
// Compile with -DWATM_V0 or -DWATM_V1.
#ifndef WATM_TEST_H
#define WATM_TEST_H

#if defined(WATM_V0) == defined(WATM_V1)
#error "define one of WATM_V0 and WATM_V1"
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define IMPORT(module, name) \
  __attribute__((import_module(module), import_name(name)))
#define WASI(name) IMPORT("wasi_snapshot_preview1", #name) extern i32 name
#define ENV(name) IMPORT("env", #name) extern i32 name
#define EXPORT(name) __attribute__((export_name(name), used))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// WASI errno values; modules and hosts exchange their negatives.
enum {
  EAGAIN = 6,
  EBADF = 8,
  ECANCELED = 11,
  EFAULT = 21,
  EINTR = 27,
  EINVAL = 28,
  EIO = 29,
  ENODEV = 43,
  ENOENT = 44,
  ENOTCONN = 53,
  EPERM = 63,
  EPROTO = 65,
};

struct iov {
  const void *base;
  u32 len;
};

enum { SUB_CLOCK, SUB_READ, SUB_WRITE };
enum { CLOCK_REALTIME, CLOCK_MONOTONIC };
enum { CLOCK_ABSTIME = 1 };

struct subscription {
  u64 userdata;
  u8 tag;
  union {
    struct {
      u32 id;
      u64 timeout, precision;
      u16 flags;
    } clock;
    u32 fd;
  };
};
_Static_assert(sizeof(struct subscription) == 48, "WASI layout");

struct event {
  u64 userdata;
  u16 error;
  u8 type;
  u64 nbytes;
  u16 flags;
};
_Static_assert(sizeof(struct event) == 32, "WASI layout");

struct fdstat {
  u8 filetype;
  u16 flags;
  u64 rights, inheriting;
};
_Static_assert(sizeof(struct fdstat) == 24, "WASI layout");

enum { FDFLAG_NONBLOCK = 4 };
enum { SHUT_RD = 1, SHUT_WR = 2 };

WASI(fd_read)(i32 fd, const struct iov *iovs, u32 n, u32 *nread);
WASI(fd_write)(i32 fd, const struct iov *iovs, u32 n, u32 *nwritten);
WASI(fd_close)(i32 fd);
WASI(fd_renumber)(i32 from, i32 to);
WASI(fd_fdstat_get)(i32 fd, struct fdstat *stat);
WASI(fd_fdstat_set_flags)(i32 fd, u32 flags);
WASI(fd_prestat_get)(i32 fd, u32 *tag_and_length);
WASI(fd_prestat_dir_name)(i32 fd, void *name, u32 len);
WASI(fd_readdir)(i32 fd, void *buf, u32 len, u64 cookie, u32 *used);
WASI(path_open)(i32 dir, u32 dirflags, const char *path, u32 len, u32 oflags,
                u64 rights, u64 inheriting, u32 fdflags, i32 *fd);
WASI(poll_oneoff)(const struct subscription *in, struct event *out, u32 n,
                  u32 *nevents);
WASI(sock_recv)(i32 fd, const struct iov *iovs, u32 n, u32 flags, u32 *nread,
                u16 *out_flags);
WASI(sock_send)(i32 fd, const struct iov *iovs, u32 n, u32 flags,
                u32 *nwritten);
WASI(sock_shutdown)(i32 fd, u32 how);
WASI(clock_time_get)(u32 id, u64 precision, u64 *now);
WASI(random_get)(void *buf, u32 len);
WASI(sched_yield)(void);
WASI(environ_sizes_get)(u32 *count, u32 *size);
WASI(environ_get)(char **list, char *buf);
WASI(args_sizes_get)(u32 *count, u32 *size);
WASI(args_get)(char **list, char *buf);
IMPORT("wasi_snapshot_preview1", "proc_exit")
extern _Noreturn void proc_exit(u32 code);

#ifdef WATM_V0
ENV(host_dial)(void);
ENV(host_accept)(void);
ENV(pull_config)(void);
IMPORT("env", "host_defer") extern void host_defer(void);
#define net_dial host_dial
#define net_accept host_accept
#define EXPORT_INIT EXPORT("_water_init")
#define EXPORT_DIAL EXPORT("_water_dial")
#define EXPORT_ACCEPT EXPORT("_water_accept")
#define EXPORT_ASSOCIATE EXPORT("_water_associate")
#define EXPORT_CTRLPIPE EXPORT("_water_cancel_with")
#define EXPORT_START EXPORT("_water_worker")
#else
ENV(water_dial)(const struct iov *net, u32 nnet, const struct iov *addr,
                u32 naddr);
ENV(water_dial_fixed)(void);
ENV(water_accept)(void);
#define net_dial water_dial_fixed
#define net_accept water_accept
#define EXPORT_INIT EXPORT("watm_init_v1")
#define EXPORT_DIAL EXPORT("watm_dial_v1")
#define EXPORT_DIAL_FIXED EXPORT("watm_dial_fixed_v1")
#define EXPORT_ACCEPT EXPORT("watm_accept_v1")
#define EXPORT_ASSOCIATE EXPORT("watm_associate_v1")
#define EXPORT_CTRLPIPE EXPORT("watm_ctrlpipe_v1")
#define EXPORT_START EXPORT("watm_start_v1")
#endif

// The compiler calls these for large initialisers, even free-standing.
__attribute__((weak)) void *memset(void *dst, i32 byte, unsigned long n) {
  for (u8 *p = dst; n--;) *p++ = byte;
  return dst;
}
__attribute__((weak)) void *memcpy(void *dst, const void *src, unsigned long n) {
  const u8 *from = src;
  for (u8 *p = dst; n--;) *p++ = *from++;
  return dst;
}

static inline u32 length(const char *s) {
  u32 n = 0;
  while (s[n]) n++;
  return n;
}

// Writes everything or fails; a short count is an error here as it is in the
// published modules.
static inline i32 write_all(i32 fd, const void *buf, u32 len) {
  struct iov v = {buf, len};
  u32 n = 0;
  i32 err = fd_write(fd, &v, 1, &n);
  if (err) return -err;
  return n == len ? 0 : -EIO;
}

// Reads exactly len bytes from a blocking descriptor.
static inline i32 read_full(i32 fd, u8 *buf, u32 len) {
  while (len) {
    struct iov v = {buf, len};
    u32 n = 0;
    i32 err = fd_read(fd, &v, 1, &n);
    if (err) return -err;
    if (n == 0) return -EIO;
    buf += n;
    len -= n;
  }
  return 0;
}

static inline i32 set_nonblock(i32 fd) {
  return -fd_fdstat_set_flags(fd, FDFLAG_NONBLOCK);
}

// --- configuration -------------------------------------------------------

static u8 config[1024];
static u32 config_len;

static inline void read_config_from(i32 fd) {
  while (config_len < sizeof config) {
    struct iov v = {config + config_len, sizeof config - config_len};
    u32 n = 0;
    if (fd_read(fd, &v, 1, &n) || n == 0) break;
    config_len += n;
  }
  fd_close(fd);
}

#ifdef WATM_V0
static inline void read_config(void) {
  i32 fd = pull_config();
  if (fd >= 0) read_config_from(fd);  // negative: there is none, which is fine
}
#else
// Opens an absolute path the way a C library does: the preopened directories
// are those that fd_prestat_get knows, counted from 3 up to the first EBADF,
// and the path has to be made relative to the longest one that contains it.
static inline i32 open_path(const char *path, i32 *fd) {
  u32 best_len = 0, len = length(path);
  i32 best = -1;
  for (i32 dir = 3;; dir++) {
    u32 pre[2];
    char name[256];
    if (fd_prestat_get(dir, pre)) break;
    u32 n = pre[1];
    if ((pre[0] & 0xff) != 0 || n > sizeof name) continue;
    if (fd_prestat_dir_name(dir, name, n)) continue;
    while (n && (name[n - 1] == '/' || name[n - 1] == 0)) n--;
    u32 same = 0;
    while (same < n && same < len && name[same] == path[same]) same++;
    if (same == n && path[n] == '/' && (best < 0 || n >= best_len)) {
      best = dir;
      best_len = n;
    }
  }
  if (best < 0) return ENOENT;
  path += best_len + 1;
  enum { RIGHTS_READ = 1 << 1 | 1 << 2 | 1 << 21 };  // read, seek, stat
  return path_open(best, 1, path, length(path), 0, RIGHTS_READ, 0, 0, fd);
}

static inline void read_config(void) {
  i32 fd = -1;
  if (open_path("/conf/watm.cfg", &fd) == 0) read_config_from(fd);
}

// Dials the "host:port" that the configuration holds.
static inline i32 dial_configured(void) {
  u32 len = config_len, colon = 0;
  while (len && config[len - 1] <= ' ') len--;
  for (u32 i = 0; i < len; i++)
    if (config[i] == ':') colon = i;
  if (!colon) return -EINVAL;
#ifdef IOVECS
  // The arguments are arrays, so a host has to put the pieces together.
  struct iov net[2] = {{"t", 1}, {"cp", 2}};
  struct iov addr[3] = {{config, colon}, {config, 0}, {config + colon, len - colon}};
  return water_dial(net, 2, addr, 3);
#else
  struct iov net = {"tcp", 3}, addr = {config, len};
  return water_dial(&net, 1, &addr, 1);
#endif
}
#endif

// --- reports -------------------------------------------------------------

// A module that tries things says what came of them in lines of text that end
// with the line "end": on descriptor 2, and to the caller as the first bytes
// of its connection, where a test can read them.
static char report[8192];
static u32 report_len;

static inline void say_bytes(const char *s, u32 n) {
  while (n-- && report_len < sizeof report) report[report_len++] = *s++;
}

static inline void say(const char *s) { say_bytes(s, length(s)); }

static inline void say_num(i64 n) {
  char buf[24];
  u32 i = sizeof buf;
  u64 v = n < 0 ? -(u64)n : (u64)n;
  do buf[--i] = '0' + v % 10;
  while (v /= 10);
  if (n < 0) buf[--i] = '-';
  say_bytes(buf + i, sizeof buf - i);
}

static inline void say_hex(const u8 *p, u32 n) {
  for (u32 i = 0; i < n; i++) {
    say_bytes(&"0123456789abcdef"[p[i] >> 4], 1);
    say_bytes(&"0123456789abcdef"[p[i] & 15], 1);
  }
}

// One line: "what: number".
static inline void say_result(const char *what, i64 result) {
  say(what);
  say(": ");
  say_num(result);
  say("\n");
}

static inline i32 send_report(i32 caller) {
  say("end\n");
  write_all(2, report, report_len);
  return write_all(caller, report, report_len);
}

#endif
