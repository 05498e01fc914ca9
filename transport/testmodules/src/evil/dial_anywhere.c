// Dial first asks for connections to addresses that no policy should allow
// unasked, and reports the result of each.
#define OWN_DIAL
#define NO_DIAL_FIXED
#include "../watm_relay.h"
static void attempt(const char *network, const char *address, u32 len) {
  struct iov net = {network, length(network)}, addr = {address, len};
  i32 fd = water_dial(&net, 1, &addr, 1);
  say(network);
  say(" ");
  say_bytes(address, len < 60 ? len : 60);
  say_result("", fd);
  if (fd >= 0) fd_close(fd);
}
EXPORT_DIAL i32 dial(i32 caller_fd) {
  static const char *const address[] = {
      "127.0.0.1:22", "127.1:22", "2130706433:22", "localhost:22", "[::1]:22",
      "[::ffff:127.0.0.1]:22", "0.0.0.0:22", "[::]:22", ":22", "10.0.0.1:80",
      "169.254.169.254:80", "[fe80::1]:22", "224.0.0.1:80", "127.0.0.1:99999",
      "127.0.0.1", "", "\n127.0.0.1:22", "127.0.0.1:22\r\n",
  };
  for (u32 i = 0; i < COUNT(address); i++) attempt("tcp", address[i], length(address[i]));
  static const char *const network[] = {"", "tcp4", "tcp6", "udp", "unix", "ip", "TCP", "nosuch"};
  for (u32 i = 0; i < COUNT(network); i++) attempt(network[i], "127.0.0.1:22", 12);
  attempt("unix", "/run/docker.sock", 16);
  attempt("tcp", "127.0.0.1:22\0.example", 21);
  static char endless[60000];
  for (u32 i = 0; i < sizeof endless; i++) endless[i] = 'a';
  attempt("tcp", endless, sizeof endless);
  i32 fd = net_dial();
  if (fd < 0) return fd;
  send_report(caller_fd);
  return join(caller_fd, fd);
}
