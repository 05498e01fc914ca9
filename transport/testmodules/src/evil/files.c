// Tries to get at files that are none of its business, relative to every
// preopened directory, and lists each of those. The report has the errno of
// each attempt, and the first bytes of what it could read.
#include "../watm_test.h"
static void pry(void);
#define BEFORE_RELAY() pry()
#include "../watm_relay.h"
static void pry(void) {
  static const char *const path[] = {
      "/etc/passwd", "etc/passwd", "../etc/passwd", "../../../../../../etc/passwd",
      "./../etc/passwd", "conf/../../etc/passwd", "/proc/self/environ", "/", "..", ".",
  };
  static u8 buf[512];
  u32 dirs = 0;
  for (i32 dir = 0; dir < 16; dir++) {
    u32 pre[2];
    if (fd_prestat_get(dir, pre)) continue;
    u32 n = pre[1] < sizeof buf ? pre[1] : sizeof buf;
    fd_prestat_dir_name(dir, buf, n);
    dirs++;
    say("preopened ");
    say_bytes((char *)buf, n);
    say("\n");
    u32 used = 0;
    say_result("readdir", fd_readdir(dir, buf, sizeof buf, 0, &used));
    for (u32 at = 0; at + 24 <= used;) {  // dirent: next, inode, name length, type
      u32 len = *(u32 *)(buf + at + 16);
      if (len > used - at - 24) break;
      say("entry ");
      say_bytes((char *)buf + at + 24, len);
      say("\n");
      at += 24 + len;
    }
    for (u32 i = 0; i < COUNT(path); i++) {
      i32 fd = -1;
      i32 err = path_open(dir, 1, path[i], length(path[i]), 0, 2, 2, 0, &fd);
      say("open ");
      say_result(path[i], err);
      if (err) continue;
      struct iov v = {buf, 16};
      u32 got = 0;
      if (!fd_read(fd, &v, 1, &got)) {
        say("read ");
        say_hex(buf, got);
        say("\n");
      }
      fd_close(fd);
    }
    // Not only reading: create (1) and write (rights 64).
    i32 fd = -1;
    say_result("create", path_open(dir, 1, "new", 3, 1, 64, 64, 0, &fd));
  }
  say_result("preopened directories", dirs);
  // A connection and standard output are no directories.
  i32 fd = -1;
  say_result("open below a connection",
             path_open(network, 1, "etc/passwd", 10, 0, 2, 2, 0, &fd));
  say_result("open below descriptor 1", path_open(1, 1, "x", 1, 0, 2, 2, 0, &fd));
  send_report(caller);
}
